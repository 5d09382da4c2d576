//! Containers of tasks, as far as their events say something of them (parity E-42). What becomes of one the agent decides;
//! the engine notes it here while it does it, and each thing comes out once, whoever saw it. It does nothing itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use runtime::{ContainerState, ExitStatus, Status};
use types::{Labels, Timestamp};

use super::{
    Engine,
    told::{about, with_end},
};
use crate::engine::{container::record_of_labels, events::Event};

/// All of this host, by id.
#[derive(Debug, Default)]
pub(super) struct TaskContainers(Mutex<BTreeMap<String, TaskContainer>>);

#[derive(Debug)]
struct TaskContainer {
    id: String,
    name: String,
    image: String,
    labels: Labels,
    /// Its command runs, and its end was not told yet.
    is_running: bool,
}

impl TaskContainers {
    /// One of an earlier process, which told what had become of it by then. Whether that was its end the agent knows.
    pub(super) fn found(&self, state: &ContainerState) {
        let is_running = state.status != Status::Created;
        let container = TaskContainer { is_running, ..TaskContainer::new(&state.id, &state.labels) };
        self.all().insert(state.id.clone(), container);
    }

    /// Any event of one that is there.
    pub(super) fn event(&self, id: &str, action: &str) -> Option<Event> {
        self.all().get(id).map(|container| container.event(action))
    }

    fn created(&self, id: &str, labels: &Labels) -> Option<Event> {
        let container = TaskContainer::new(id, labels);
        let event = container.event("create");
        let known = self.all().insert(id.to_owned(), container);
        // whose making was broken off is made again, and was told of already
        known.is_none().then_some(event)
    }

    fn started(&self, id: &str) -> Option<Event> {
        let mut all = self.all();
        let container = all.get_mut(id)?;
        container.is_running = true;
        Some(container.event("start"))
    }

    /// Seen by whoever waits for it and by whoever stops it.
    fn ended(&self, id: &str, exit: &ExitStatus) -> Vec<Event> {
        let mut all = self.all();
        let Some(container) = all.get_mut(id).filter(|container| container.is_running) else { return Vec::new() };
        container.is_running = false;
        let began = Timestamp::from_unix_ns(exit.started_at_ns);
        let ran_for = Timestamp::from_unix_ns(exit.finished_at_ns).since(began);
        let oom = exit.oom_killed.then(|| container.event("oom"));
        oom.into_iter().chain([with_end(container.event("die"), exit.code, ran_for)]).collect()
    }

    fn removed(&self, id: &str) -> Option<Event> {
        self.all().remove(id).map(|container| container.event("destroy"))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, TaskContainer>> {
        // Each change is one insertion, removal or flag: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskContainer {
    fn new(id: &str, labels: &Labels) -> Self {
        let record = record_of_labels(id, labels);
        Self {
            id: record.id,
            name: record.name,
            image: record.spec.image,
            labels: record.merged.labels,
            is_running: false,
        }
    }

    fn event(&self, action: &str) -> Event {
        about(action, &self.id, &self.name, &self.image).with_labels(&self.labels)
    }
}

impl Engine {
    /// A task's container was made; its command waits.
    pub(in crate::engine) fn note_task_created(&self, id: &str, labels: &Labels) {
        self.announce_all(self.inner.containers.tasks.created(id, labels));
    }

    pub(in crate::engine) fn note_task_started(&self, id: &str) {
        self.announce_all(self.inner.containers.tasks.started(id));
    }

    /// Whoever sees the end may say so.
    pub(crate) fn note_task_ended(&self, id: &str, exit: &ExitStatus) {
        self.announce_all(self.inner.containers.tasks.ended(id, exit));
    }

    pub(in crate::engine) fn note_task_removed(&self, id: &str) {
        self.announce_all(self.inner.containers.tasks.removed(id));
    }
}

#[cfg(test)]
mod tests {
    use runtime::ExitReason;

    use super::*;

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

    fn actions(events: impl IntoIterator<Item = Event>) -> Vec<String> {
        events.into_iter().map(|event| event.action).collect()
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
        assert!(containers.ended(ID, &exit(0, false)).is_empty(), "it has not run");
        assert_eq!(actions(containers.started(ID)), ["start"]);
        let ended = containers.ended(ID, &exit(137, true));
        assert_eq!(
            (ended[1].attributes["exitCode"].as_str(), ended[1].attributes["execDuration"].as_str()),
            ("137", "5")
        );
        assert_eq!(actions(ended), ["oom", "die"]);
        assert!(containers.ended(ID, &exit(137, true)).is_empty(), "seen by another too");
        assert_eq!(actions(containers.event(ID, "exec_start: true")), ["exec_start: true"]);
        assert_eq!(actions(containers.removed(ID)), ["destroy"]);
        assert_eq!((containers.removed(ID), containers.event(ID, "export")), (None, None));
        assert_eq!(containers.started(ID), None, "nobody knows it");
    }

    /// E-42: a daemon that finds containers tells what becomes of them from then on.
    #[test]
    fn e_42_what_is_found_is_no_news() {
        let running = found(Status::Running);
        assert_eq!(actions(running.ended(ID, &exit(0, false))), ["die"]);
        let ended = found(Status::Stopped(exit(1, false)));
        assert_eq!(actions(ended.ended(ID, &exit(1, false))), ["die"], "while no daemon ran");
        let made = found(Status::Created);
        assert_eq!(actions(made.started(ID)), ["start"]);
        assert_eq!(actions(made.ended(ID, &exit(0, false))), ["die"]);
    }
}
