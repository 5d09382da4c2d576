//! The task that belongs to a running container: waits for its end, looks after its health, starts it again if its
//! policy says so (parity E-22). It goes on through restarts and ends with the last one.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use runtime::ExitStatus;
use types::{Timestamp, with_causes};

use super::{ContainerError, Engine, Phase, Record, Single, health, spec::RestartPolicy};
use crate::clock::now;

/// Docker's pauses (moby `daemon/internal/restartmanager`).
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A run of this length begins with the first pause again.
const LONG_RUN: Duration = Duration::from_secs(10);

/// Begins to look after a container that runs.
pub(super) fn spawn(engine: &Engine, single: &Arc<Single>) {
    let mut owners = engine.inner.containers.owners.lock().unwrap_or_else(PoisonError::into_inner);
    while owners.try_join_next().is_some() {}
    owners.spawn(own(engine.clone(), Arc::clone(single)));
}

/// Whether a container that ended is started again. Pure.
pub(super) fn is_wanted(policy: RestartPolicy, exit_code: i32, restarts: u32) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure(most) => exit_code != 0 && (most == 0 || restarts < most),
    }
}

async fn own(engine: Engine, single: Arc<Single>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = single.lock().state.started_at;
        if single.phase() == Phase::Running {
            match watch(&engine, &single, began).await {
                Ok(exit) => engine.note_end(&single, &exit).await,
                Err(error) => {
                    tracing::error!(
                        container.id = single.id,
                        error = error.message,
                        "a container cannot be waited for"
                    );
                    return;
                }
            }
        }
        if single.phase() != Phase::Restarting {
            break;
        }
        let is_long = now().since(began) >= LONG_RUN;
        pause = if is_long { FIRST_PAUSE } else { pause };
        if !engine.restart_after(&single, pause).await {
            break;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    let is_going = single.lock().spec.auto_remove && !single.news.borrow().is_restart_asked;
    if is_going {
        let _turn = single.turn.lock().await;
        // Somebody may have been faster, or has started it again: then it has another owner.
        if single.news.borrow().is_removed || single.is_running() {
            return;
        }
        if let Err(error) = engine.remove_now(&single, true).await {
            tracing::warn!(container.id = single.id, error = error.message, "a container with --rm stays");
        }
    }
}

async fn watch(engine: &Engine, single: &Single, began: Timestamp) -> Result<ExitStatus, ContainerError> {
    let settings = single.lock().health.clone();
    tokio::select! {
        exit = engine.inner.runtime.wait(&single.id) => exit.map_err(|e| ContainerError::failed(with_causes(&e))),
        () = health::look(engine, single, settings, began) => Err(ContainerError::failed("its health is not looked at")),
    }
}

impl Engine {
    /// Gives back what an ended container has of the host, decides whether it comes again, and tells how it ended.
    pub(super) async fn note_end(&self, single: &Single, exit: &ExitStatus) {
        let _turn = single.turn.lock().await;
        let given_back = self.given_back(&single.record());
        let record = self.settle(single, exit).await;
        self.announce_end(&record, given_back);
    }

    /// The same for one that ended while no daemon ran: as with dockerd, that is no news.
    pub(super) async fn note_past_end(&self, single: &Single, exit: &ExitStatus) {
        let _turn = single.turn.lock().await;
        self.settle(single, exit).await;
    }

    /// Under its turn.
    async fn settle(&self, single: &Single, exit: &ExitStatus) -> Record {
        if let Err(error) = self.part(&single.id).await {
            tracing::warn!(container.id = single.id, error = error.message, "an ended container keeps its network");
        }
        let is_stop_asked = single.news.borrow().is_stop_asked;
        let record = single.change(&self.inner.containers.store, |record| {
            let again = !is_stop_asked && is_wanted(record.spec.restart, exit.code, record.state.restarts);
            let state = &mut record.state;
            state.phase = if again { Phase::Restarting } else { Phase::Exited };
            (state.pid, state.exit_code, state.oom_killed) = (0, exit.code, exit.oom_killed);
            state.finished_at = Timestamp::from_unix_ns(exit.finished_at_ns);
            state.ports.clear();
        });
        single.ended(|news| news.exit_code = exit.code);
        record
    }

    /// Waits and starts again; false if somebody stopped it meanwhile.
    async fn restart_after(&self, single: &Single, pause: Duration) -> bool {
        let mut news = single.news.subscribe();
        let was_stopped = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            _ = news.wait_for(|news| news.is_stop_asked || news.is_removed) => true,
        };
        let _turn = single.turn.lock().await;
        let store = &self.inner.containers.store;
        if was_stopped || single.news.borrow().is_stop_asked {
            single.change(store, |record| record.state.phase = Phase::Exited);
            return false;
        }
        single.change(store, |record| record.state.restarts += 1);
        self.inner.metrics.restarts.inc();
        if let Err(error) = self.run(single).await {
            tracing::warn!(container.id = single.id, error = error.message, "a container could not be started again");
            // As an end like any other: its policy decides, and the pause grows.
            single.change(store, |record| {
                let again = is_wanted(record.spec.restart, record.state.exit_code, record.state.restarts);
                record.state.phase = if again { Phase::Restarting } else { Phase::Exited };
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-22: who comes again.
    #[test]
    fn e22_policies() {
        use RestartPolicy as P;
        for (policy, code, restarts, wanted) in [
            (P::No, 1, 0, false),
            (P::Always, 0, 99, true),
            (P::UnlessStopped, 0, 0, true),
            (P::OnFailure(0), 1, 99, true),
            (P::OnFailure(0), 0, 0, false),
            (P::OnFailure(2), 1, 1, true),
            (P::OnFailure(2), 1, 2, false),
        ] {
            assert_eq!(is_wanted(policy, code, restarts), wanted, "{policy:?} {code} {restarts}");
        }
    }
}
