//! Containers of tasks, as far as their events say something of them (parity E-42). What becomes of one the agent decides;
//! the engine notes it here while it does it, and each thing comes out once, whoever saw it. It does nothing itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use runtime::{ContainerState, ExitStatus, Status};
use types::{Labels, Timestamp};

use super::{Engine, Record, told::of_record};
use crate::engine::{container::record_of_labels, events::Event};

/// All of this host, by id.
#[derive(Debug, Default)]
pub(super) struct TaskContainers(Mutex<BTreeMap<String, TaskContainer>>);

#[derive(Debug)]
struct TaskContainer {
    /// As the container bears it: nothing of what became of it.
    record: Record,
    /// Its command runs, and its end was not told yet.
    is_running: bool,
}

impl TaskContainers {
    /// One of an earlier process. What became of it by now is no news, its end neither, as with dockerd.
    pub(super) fn found(&self, state: &ContainerState) {
        let is_running = matches!(state.status, Status::Running | Status::Paused);
        let record = record_of_labels(&state.id, &state.labels);
        self.all().insert(state.id.clone(), TaskContainer { record, is_running });
    }

    /// Any event of one that is there.
    pub(super) fn event(&self, id: &str, action: &str) -> Option<Event> {
        self.all().get(id).map(|container| of_record(action, &container.record))
    }

    fn created(&self, id: &str, labels: &Labels) -> Option<Event> {
        let record = record_of_labels(id, labels);
        let event = of_record("create", &record);
        let known = self.all().insert(id.to_owned(), TaskContainer { record, is_running: false });
        // whose making was broken off is made again, and was told of already
        known.is_none().then_some(event)
    }

    fn started(&self, id: &str) -> Option<Record> {
        let mut all = self.all();
        let container = all.get_mut(id)?;
        container.is_running = true;
        Some(container.record.clone())
    }

    /// Seen by whoever waits for it and by whoever stops it: the first gets the record, with the end.
    fn ended(&self, id: &str, exit: &ExitStatus) -> Option<Record> {
        let mut all = self.all();
        let container = all.get_mut(id).filter(|container| container.is_running)?;
        container.is_running = false;
        let mut record = container.record.clone();
        (record.state.exit_code, record.state.oom_killed) = (exit.code, exit.oom_killed);
        record.state.started_at = Timestamp::from_unix_ns(exit.started_at_ns);
        record.state.finished_at = Timestamp::from_unix_ns(exit.finished_at_ns);
        Some(record)
    }

    pub(super) fn renamed(&self, id: &str, name: &str) {
        if let Some(container) = self.all().get_mut(id) {
            name.clone_into(&mut container.record.name);
        }
    }

    fn removed(&self, id: &str) -> Option<Event> {
        self.all().remove(id).map(|container| of_record("destroy", &container.record))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, TaskContainer>> {
        // Each change is one insertion, removal or flag: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// A task's container was made; its command waits.
    pub(in crate::engine) fn note_task_created(&self, id: &str, labels: &Labels) {
        if let Some(event) = self.inner.containers.tasks.created(id, labels) {
            self.announce_event(event);
        }
    }

    pub(in crate::engine) fn note_task_started(&self, id: &str) {
        if let Some(record) = self.inner.containers.tasks.started(id) {
            self.announce_start(&record);
        }
    }

    /// Whoever sees the end may say so.
    pub(crate) fn note_task_ended(&self, id: &str, exit: &ExitStatus) {
        if let Some(record) = self.inner.containers.tasks.ended(id, exit) {
            self.announce_end(&record, self.given_back(&record));
        }
    }

    pub(in crate::engine) fn note_task_removed(&self, id: &str) {
        if let Some(event) = self.inner.containers.tasks.removed(id) {
            // one that somebody gave it; that of its task nobody else can have
            self.inner.containers.release_name(event.attributes.get("name").map_or("", String::as_str), id);
            self.announce_event(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use runtime::ExitReason;

    use super::*;
    use crate::engine::containers::told::death;

    const ID: &str = "0123456789abcdef";

    fn labels() -> Labels {
        let all = [("com.docker.swarm.task.name", "web.1.x"), ("tier", "front"), ("rswarm.stop-signal", "TERM")];
        all.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    fn exit(code: i32, oom_killed: bool) -> ExitStatus {
        let (started_at_ns, finished_at_ns) = (1_000_000_000, 6_999_000_000);
        ExitStatus { code, signal: None, oom_killed, started_at_ns, finished_at_ns, reason: ExitReason::Observed }
    }

    fn found(status: Status) -> TaskContainers {
        let containers = TaskContainers::default();
        containers.found(&ContainerState {
            id: ID.to_owned(),
            status,
            pid: None,
            shim_pid: None,
            labels: labels(),
            created_at_ns: 0,
            started_at_ns: 0,
            log_path: "/log".into(),
            tty: false,
            open_stdin: false,
        });
        containers
    }

    fn action(event: Option<Event>) -> Option<String> {
        event.map(|event| event.action)
    }

    /// E-42: each step of a life is told once, with what the container is; what was its label only for us is not.
    #[test]
    fn e_42_a_life_is_told_once() {
        let containers = TaskContainers::default();
        let made = containers.created(ID, &labels()).expect("told");
        assert_eq!((made.actor.as_str(), made.action.as_str(), made.scope), (ID, "create", "local"));
        let said = |key: &str| made.attributes.get(key).map(String::as_str);
        assert_eq!([said("name"), said("tier"), said("rswarm.stop-signal")], [Some("web.1.x"), Some("front"), None]);
        assert_eq!(containers.created(ID, &labels()), None, "made again");
        assert_eq!(containers.ended(ID, &exit(0, false)), None, "it has not run");
        assert_eq!(containers.started(ID).expect("told").name, "web.1.x");
        let ended = containers.ended(ID, &exit(137, true)).expect("told");
        assert!(ended.state.oom_killed);
        let told = death(&ended);
        let said = |key: &str| told.attributes.get(key).map(String::as_str);
        assert_eq!([said("exitCode"), said("execDuration"), said("tier")], [Some("137"), Some("5"), Some("front")]);
        assert_eq!(containers.ended(ID, &exit(137, true)), None, "seen by another too");
        assert_eq!(action(containers.event(ID, "exec_start: true")).as_deref(), Some("exec_start: true"));
        assert_eq!(action(containers.removed(ID)).as_deref(), Some("destroy"));
        assert_eq!((containers.removed(ID), containers.event(ID, "export")), (None, None));
        assert_eq!(containers.started(ID), None, "nobody knows it");
    }

    /// E-42: a daemon that finds containers tells what becomes of them from then on.
    #[test]
    fn e_42_what_is_found_is_no_news() {
        assert!(found(Status::Running).ended(ID, &exit(0, false)).is_some());
        let ended = found(Status::Stopped(exit(1, false)));
        assert_eq!(ended.ended(ID, &exit(1, false)), None, "it ended while no daemon ran");
        assert_eq!(action(ended.removed(ID)).as_deref(), Some("destroy"));
        let made = found(Status::Created);
        assert!(made.started(ID).is_some() && made.ended(ID, &exit(0, false)).is_some());
    }
}
