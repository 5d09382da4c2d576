//! The containers of before: those that run are gone on with, what ended meanwhile is noted, and after a reboot the
//! restart policies decide (parity E-39, pain P29).

use std::collections::BTreeMap;

use runtime::{ContainerState, ExitReason, ExitStatus, Status};
use types::{Timestamp, with_causes};

use super::{Engine, Phase, owner, spec::RestartPolicy};
use crate::{
    clock::now,
    engine::{EngineError, container::LABEL_RENAMED, container_id::task_of_container},
};

/// What a container has whose end nobody saw, as in Docker.
const LOST: i32 = 255;

impl Engine {
    /// Takes up all containers with a record; removes what is left of those without.
    pub(in crate::engine) async fn restore_containers(&self, states: Vec<ContainerState>) -> Result<(), EngineError> {
        let containers = &self.inner.containers;
        let directory = containers.store.directory("");
        let records = containers.store.load().map_err(|e| EngineError::file("read", &directory, e))?;
        let is_tasks = |state: &ContainerState| task_of_container(&state.id).is_some();
        let (of_tasks, states): (Vec<_>, Vec<_>) = states.into_iter().partition(is_tasks);
        for state in &of_tasks {
            containers.tasks.found(state);
            if let Some(name) = state.labels.get(LABEL_RENAMED) {
                containers.names().insert(name.clone(), state.id.clone());
            }
        }
        let mut states: BTreeMap<String, ContainerState> =
            states.into_iter().map(|state| (state.id.clone(), state)).collect();
        for record in records {
            containers.names().insert(record.name.clone(), record.id.clone());
            let single = containers.insert(record);
            self.restore(&single, states.remove(&single.id)).await;
        }
        for id in states.into_keys() {
            // Its creation had not been noted, or its removal had.
            if let Err(error) = self.inner.runtime.delete(&id).await {
                tracing::warn!(container.id = id, error = with_causes(&error), "a container without a record stays");
            }
            if let Err(error) = self.part(&id).await {
                tracing::warn!(container.id = id, error = error.message, "its network stays");
            }
        }
        self.drop_lost_snapshots().await
    }

    async fn restore(&self, single: &std::sync::Arc<super::Single>, state: Option<ContainerState>) {
        let store = &self.inner.containers.store;
        let phase = single.phase();
        match state.map(|state| (state.status, state.pid)) {
            Some((Status::Running | Status::Paused, pid)) => {
                let pid = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
                single.change(store, |record| (record.state.phase, record.state.pid) = (Phase::Running, pid));
                // The daemon ended while it was being stopped: it is not to come again.
                let asked = single.lock().state.is_hand_stopped;
                single.news.send_modify(|news| news.is_stop_asked = asked);
                owner::spawn(self, single);
                return;
            }
            Some((Status::Stopped(exit), _)) if phase == Phase::Running => {
                let asked = single.lock().state.is_hand_stopped;
                single.news.send_modify(|news| news.is_stop_asked = asked);
                self.note_past_end(single, &exit).await;
            }
            None if phase == Phase::Running => {
                let exit = ExitStatus {
                    code: LOST,
                    signal: None,
                    oom_killed: false,
                    started_at_ns: 0,
                    finished_at_ns: now().as_unix_ns(),
                    reason: ExitReason::ShimLost,
                };
                let asked = single.lock().state.is_hand_stopped;
                single.news.send_modify(|news| news.is_stop_asked = asked);
                self.note_past_end(single, &exit).await;
            }
            // A start that was broken off before its command ran.
            Some((Status::Created, _)) => {
                if let Err(error) = self.inner.runtime.delete(&single.id).await {
                    tracing::warn!(container.id = single.id, error = with_causes(&error), "a broken start stays");
                }
            }
            _ => {}
        }
        single.news.send_modify(|news| news.is_stop_asked = false);
        let state = single.lock().state.clone();
        let policy = single.lock().spec.restart;
        let has_run = state.started_at != Timestamp::EPOCH;
        let again = match policy {
            RestartPolicy::Always => has_run,
            RestartPolicy::UnlessStopped => has_run && !state.is_hand_stopped,
            RestartPolicy::OnFailure(_) | RestartPolicy::No => state.phase == Phase::Restarting,
        };
        let next = match (again, state.phase) {
            (true, _) => Phase::Restarting,
            (false, Phase::Created) => Phase::Created,
            (false, _) => Phase::Exited,
        };
        single.change(store, |record| record.state.phase = next);
        if again || single.lock().spec.auto_remove && next == Phase::Exited {
            // Its owner starts it after the first pause, or removes it.
            owner::spawn(self, single);
        }
    }

    /// Root filesystems of single containers that have no record.
    async fn drop_lost_snapshots(&self) -> Result<(), EngineError> {
        for found in self.inner.images.snapshot_list() {
            let id = &found.container;
            let is_ours = id.len() == 64 && task_of_container(id).is_none();
            if is_ours && self.inner.containers.get(id).is_none() {
                self.drop_parts(id).await;
            }
        }
        Ok(())
    }
}
