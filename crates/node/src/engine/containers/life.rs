//! Stopping, killing, pausing and changing a container that is there (parity E-25). What may be asked of a task's
//! container too is done to it as it is; its service then sees what became of it.

use std::time::Duration;

use runtime::{ExitStatus, Signal, Status};

use super::{
    ContainerError, ContainerErrorKind, Engine, Meant, News, Phase, Record, Single, host_limits, of_runtime, plan,
    spec::{Change, Limits, RestartPolicy},
};
use crate::engine::{container::stop_of_labels, stop_signal::parse_signal};

/// Docker's default.
const GRACE_SECONDS: i64 = 10;

/// Who waits for ever waits so long.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Engine {
    /// Asks, waits, forces. Seconds: negative waits for ever; `None` is the container's own.
    ///
    /// # Errors
    /// When there is none, it does not run, or it does not even end when killed.
    pub async fn stop_container(
        &self,
        text: &str,
        signal: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<(), ContainerError> {
        let single = match self.at_rest(text).await? {
            Meant::Single(single) => single,
            Meant::Task(state) => {
                if matches!(state.status, Status::Stopped(_) | Status::Created) {
                    return Err(ContainerError::unchanged());
                }
                let (own, grace_ms) = stop_of_labels(&state.labels);
                let signal = parse_signal(signal.unwrap_or(&own)).map_err(ContainerError::invalid)?;
                let own = grace_ms.map(|ms| i64::try_from(ms / 1000).unwrap_or(i64::MAX));
                let grace = grace(seconds.or(own));
                return self.stop_task_container(&state.id, signal, grace).await.map_err(|e| of_runtime(&e));
            }
        };
        self.stop_single(&single, signal, seconds).await
    }

    pub(super) async fn stop_single(
        &self,
        single: &Single,
        signal: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<(), ContainerError> {
        let record = single.record();
        let own = record.merged.stop_signal.as_str();
        let signal = parse_signal(signal.filter(|text| !text.is_empty()).unwrap_or(own));
        let signal = signal.map_err(ContainerError::invalid)?;
        if !single.is_running() {
            return Err(ContainerError::unchanged());
        }
        self.ask_stop(single);
        // a restart that began before it was asked for comes to its end first, and runs then
        single.at_rest().await;
        if single.phase() == Phase::Running {
            let grace = grace(seconds.or(record.spec.stop_timeout));
            match self.end(&single.id, signal, grace).await {
                Ok(_) | Err(runtime::Error::NotFound { .. }) => {}
                Err(error) => return Err(of_runtime(&error)),
            }
        }
        self.seen_ended(single).await?;
        self.announce("stop", &single.record());
        Ok(())
    }

    /// Asks a task's container to end, waits, forces.
    pub(in crate::engine) async fn stop_task_container(
        &self,
        id: &str,
        signal: Signal,
        grace: Duration,
    ) -> Result<(), runtime::Error> {
        // What has ended by itself is stopped by nobody.
        if let Status::Stopped(exit) = self.inner.runtime.state(id).await?.status {
            self.note_task_ended(id, &exit);
            return Ok(());
        }
        let exit = self.end(id, signal, grace).await?;
        self.note_task_ended(id, &exit);
        self.announce_of(id, "stop", &[]);
        Ok(())
    }

    /// Whoever listens hears of each signal before the end that it brings.
    async fn end(&self, id: &str, signal: Signal, grace: Duration) -> Result<ExitStatus, runtime::Error> {
        let runtime = &self.inner.runtime;
        self.announce_kill(id, signal);
        if let Some(exit) = runtime.ask_to_end(id, signal, grace).await? {
            return Ok(exit);
        }
        self.announce_kill(id, Signal::SIGKILL);
        runtime.kill_all(id).await
    }

    /// From here on it does not come again.
    pub(super) fn ask_stop(&self, single: &Single) {
        single.change(&self.inner.containers.store, |record| record.state.is_hand_stopped = true);
        single.news.send_modify(|news| news.is_stop_asked = true);
    }

    /// Until its owner has noted the end and told of it.
    pub(super) async fn seen_ended(&self, single: &Single) -> Result<(), ContainerError> {
        let mut news = single.news.subscribe();
        let is_over = |news: &News| !news.is_running || news.is_removed;
        news.wait_for(is_over).await.map(drop).map_err(|_| super::stopping())?;
        // whoever notes an end has the turn until it is told
        drop(single.turn.lock().await);
        Ok(())
    }

    /// Stops it if it runs, and starts it.
    ///
    /// # Errors
    /// As of stopping and starting.
    pub async fn restart_container(
        &self,
        text: &str,
        signal: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<(), ContainerError> {
        let single = match self.at_rest(text).await? {
            Meant::Single(single) => single,
            Meant::Task(state) => return self.restart_task_container(&state, signal, seconds).await,
        };
        single.news.send_modify(|news| news.is_restart_asked = true);
        match self.stop_single(&single, signal, seconds).await {
            Err(error) if error.kind != ContainerErrorKind::Unchanged => {
                single.news.send_modify(|news| news.is_restart_asked = false);
                return Err(error);
            }
            _ => {}
        }
        match self.start_single(&single).await {
            Err(error) if error.kind != ContainerErrorKind::Unchanged => return Err(error),
            _ => {}
        }
        self.announce("restart", &single.record());
        Ok(())
    }

    /// Sends a signal; empty is SIGKILL, which ends all its processes.
    ///
    /// # Errors
    /// When there is none or it does not run.
    pub async fn kill_container(&self, text: &str, signal: &str) -> Result<(), ContainerError> {
        let wanted = if signal.is_empty() { "KILL" } else { signal };
        let signal = parse_signal(wanted).map_err(|_| ContainerError::invalid(format!("Invalid signal: {wanted}")))?;
        let not_running = |id: &str| {
            ContainerError::conflict(format!("cannot kill container: {text}: container {id} is not running"))
        };
        let (id, single) = match self.at_rest(text).await? {
            Meant::Single(single) if !single.is_running() => return Err(not_running(&single.id)),
            Meant::Single(single) => (single.id.clone(), Some(single)),
            Meant::Task(state) if state.pid.is_none() => return Err(not_running(&state.id)),
            Meant::Task(state) => (state.id.clone(), None),
        };
        if let Some(single) = &single {
            let own = parse_signal(&single.lock().merged.stop_signal).unwrap_or(Signal::SIGTERM);
            if signal == Signal::SIGKILL || signal == own {
                self.ask_stop(single);
                // as for a stop
                single.at_rest().await;
            }
            if single.phase() != Phase::Running {
                return self.seen_ended(single).await;
            }
        }
        if signal == Signal::SIGKILL {
            // whoever listens hears of the signal before the end that it brings
            self.announce_kill(&id, signal);
            let killed = self.inner.runtime.stop(&id, signal, Duration::ZERO).await;
            let exit = killed.map_err(|e| of_runtime(&e))?;
            match &single {
                Some(single) => self.seen_ended(single).await?,
                None => self.note_task_ended(&id, &exit),
            }
        } else {
            self.inner.runtime.signal(&id, signal).await.map_err(|e| of_runtime(&e))?;
            self.announce_kill(&id, signal);
        }
        Ok(())
    }

    fn announce_kill(&self, id: &str, signal: Signal) {
        self.announce_of(id, "kill", &[("signal", &signal.number().to_string())]);
    }

    /// Holds all its processes where they are, or lets them go on.
    ///
    /// # Errors
    /// When it is so already, or it does not run.
    pub async fn pause_container(&self, text: &str, pause: bool) -> Result<(), ContainerError> {
        let id = match self.at_rest(text).await? {
            Meant::Single(single) => single.id.clone(),
            Meant::Task(state) => state.id,
        };
        let status = match self.inner.runtime.state(&id).await {
            Ok(state) => Some(state.status),
            Err(runtime::Error::NotFound { .. }) => None,
            Err(error) => return Err(of_runtime(&error)),
        };
        match (status, pause) {
            (Some(Status::Running), true) => self.inner.runtime.pause(&id).await,
            (Some(Status::Paused), false) => self.inner.runtime.unpause(&id).await,
            (Some(Status::Paused), true) => {
                return Err(ContainerError::conflict(format!("Container {text} is already paused")));
            }
            (Some(Status::Running), false) => {
                return Err(ContainerError::conflict(format!("Container {text} is not paused")));
            }
            _ => return Err(ContainerError::conflict(format!("Container {text} is not running"))),
        }
        .map_err(|e| of_runtime(&e))?;
        self.announce_of(&id, if pause { "pause" } else { "unpause" }, &[]);
        Ok(())
    }

    /// Other limits, in force at once if it runs, and another restart policy. Gives what to warn of.
    ///
    /// # Errors
    /// When the kernel or the other limits do not allow it; nothing is noted then.
    pub async fn update_container(&self, text: &str, change: Change) -> Result<Vec<String>, ContainerError> {
        let single = match self.meant(text).await? {
            Meant::Single(single) => single,
            Meant::Task(state) => return self.update_task_container(&state, change),
        };
        let _turn = single.turn.lock().await;
        let (record, restart) = (single.record(), change.restart);
        if record.spec.auto_remove && restart.is_some_and(|policy| policy != RestartPolicy::No) {
            return Err(ContainerError::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        let (limits, warnings) = self.bound(&record, change, record.state.phase == Phase::Running)?;
        let record = single.change(&self.inner.containers.store, |record| {
            record.spec.limits = limits;
            if let Some(policy) = restart {
                record.spec.restart = policy;
            }
        });
        self.announce("update", &record);
        Ok(warnings)
    }

    /// Puts other limits in force if it is up. Gives what its limits are then, and what to warn of.
    pub(super) fn bound(
        &self,
        record: &Record,
        mut change: Change,
        is_up: bool,
    ) -> Result<(Limits, Vec<String>), ContainerError> {
        let own = &record.spec.limits;
        if own.swap_conflict(&change.limits) {
            return Err(ContainerError::conflict(format!(
                "Cannot update container {}: Memory limit should be smaller than already set memoryswap limit, update \
                 the memoryswap at the same time",
                record.id
            )));
        }
        if let Some(conflict) = own.cpu_conflict(&change.limits) {
            return Err(ContainerError::conflict(format!(
                "Cannot update container {}: Conflicting options: {conflict}",
                record.id
            )));
        }
        host_limits::check(&change.limits)?;
        let warnings = host_limits::discard(&mut change.limits, || self.inner.runtime.limits_here());
        let mut limits = own.changed(&change.limits);
        if let Some(pids) = change.pids {
            (limits.pids, limits.pids_lifted) = (pids, pids == 0);
        }
        if is_up && limits != *own {
            let resources = plan::resources(&limits)?;
            self.inner.runtime.update(&record.id, &resources).map_err(|e| of_runtime(&e))?;
        }
        Ok((limits, warnings))
    }
}

fn grace(seconds: Option<i64>) -> Duration {
    u64::try_from(seconds.unwrap_or(GRACE_SECONDS)).map_or(FOR_EVER, Duration::from_secs)
}
