//! Single containers of this host: what `docker run` makes (parity E-13 to E-35, E-39).
//!
//! Called by the API. Each container has a record on disk (`store`), one turn that changes take one after another,
//! and while it runs one task that waits for its end, looks after its health and applies its restart policy
//! (`owner`). The container itself outlives the daemon: `restore` finds it again. Nothing here belongs to the
//! cluster; containers of tasks are shown beside them (`view`) and left to the agent.

mod attach;
mod check;
mod connect;
mod create;
mod error;
mod health;
mod host_limits;
mod life;
mod links;
mod merge;
mod names;
mod owner;
mod plan;
mod ports;
mod remove;
mod rename;
mod restore;
mod shared_memory;
pub mod spec;
mod start;
mod store;
mod task_containers;
mod task_life;
mod ties;
mod told;
mod usage;
mod view;
mod wait;

use runtime::Status;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet, time::timeout};

pub(super) use self::usage::interfaces;
pub use self::{
    create::CreatedContainer,
    error::{ContainerError, ContainerErrorKind},
    health::{HealthProbe, HealthState, HealthView},
    store::{Merged, MountPoint, Phase, PointKind, State, host_names},
    usage::{NetworkUse, UsageView},
    view::{ContainerStatusView, ContainerView, PlaceView},
    wait::{WaitCondition, Waited},
};
pub(in crate::engine) use self::{merge::exposed_by, store::Record};
use self::{store::Store, task_containers::TaskContainers};
use types::with_causes;

use super::{Engine, EngineConfig, container::name_of_labels, container_id::task_of_container};

/// A start that takes longer hangs, on a volume of a server that is gone or on a host that is stuck. Whoever asks about the
/// container then hears what is known; clients of dockerd, which would wait on, wait a minute as a rule.
const PATIENCE: Duration = Duration::from_secs(30);

/// A container by whatever way it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRef {
    pub id: String,
    pub name: String,
    pub tty: bool,
    pub open_stdin: bool,
    /// Its standard input ends with that of the client who has it.
    pub stdin_once: bool,
    /// Paused ones too.
    pub is_running: bool,
    pub is_paused: bool,
}

/// All single containers.
#[derive(Debug)]
pub(super) struct Containers {
    store: Store,
    all: RwLock<BTreeMap<String, Arc<Single>>>,
    /// Whose each name is; one that is being created has its name already.
    names: Mutex<BTreeMap<String, String>>,
    /// Those who wait for the ends.
    owners: Mutex<JoinSet<()>>,
    /// What is told of those that are tasks'.
    tasks: TaskContainers,
    /// What the agent found of its tasks' containers, by container, for showing.
    task_health: Mutex<BTreeMap<String, HealthView>>,
}

/// One container.
#[derive(Debug)]
pub(in crate::engine) struct Single {
    id: String,
    record: Mutex<Record>,
    /// Changes of what it is, one after another. Stopping needs none: it only asks.
    turn: tokio::sync::Mutex<()>,
    news: watch::Sender<News>,
    health: Mutex<Option<HealthView>>,
}

/// What those see who wait for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct News {
    /// Also while it waits for its next start.
    is_running: bool,
    /// Since this daemon began.
    ends: u64,
    exit_code: i32,
    is_stop_asked: bool,
    /// Its next end is no reason to remove it: it is started again at once.
    is_restart_asked: bool,
    /// Somebody removes it: nobody starts it any more.
    is_going: bool,
    is_removed: bool,
}

/// Whoever is meant by a text.
enum Meant {
    Single(Arc<Single>),
    Task(Box<runtime::ContainerState>),
}

impl Containers {
    pub(super) fn new(config: &EngineConfig) -> Self {
        let store = Store::new(&config.state_dir);
        Self {
            store,
            all: RwLock::default(),
            names: Mutex::default(),
            owners: Mutex::default(),
            tasks: TaskContainers::default(),
            task_health: Mutex::default(),
        }
    }

    fn get(&self, id: &str) -> Option<Arc<Single>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Of all, also of those that were never started.
    pub(super) fn ids(&self) -> Vec<String> {
        self.list().iter().map(|single| single.id.clone()).collect()
    }

    /// Of those that run, or wait for their next start.
    pub(super) fn running(&self) -> Vec<String> {
        self.list().iter().filter(|single| single.is_running()).map(|single| single.id.clone()).collect()
    }

    fn list(&self) -> Vec<Arc<Single>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn insert(&self, record: Record) -> Arc<Single> {
        let single = Arc::new(Single::new(record));
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(single.id.clone(), Arc::clone(&single));
        single
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees the name if it is the container's.
    fn release_name(&self, name: &str, id: &str) {
        let mut names = self.names();
        if names.get(name).is_some_and(|owner| owner == id) {
            names.remove(name);
        }
    }

    /// Ends those who wait; the containers go on.
    pub(super) async fn stop(&self) {
        let mut owners = std::mem::take(&mut *self.owners.lock().unwrap_or_else(PoisonError::into_inner));
        owners.shutdown().await;
    }
}

impl Single {
    fn new(record: Record) -> Self {
        let news = News { exit_code: record.state.exit_code, ..News::default() };
        Self {
            id: record.id.clone(),
            record: Mutex::new(record),
            turn: tokio::sync::Mutex::default(),
            news: watch::Sender::new(news),
            health: Mutex::default(),
        }
    }

    fn record(&self) -> Record {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> Phase {
        self.lock().state.phase
    }

    /// Whether it runs, or will again after its pause.
    fn is_running(&self) -> bool {
        matches!(self.phase(), Phase::Running | Phase::Restarting)
    }

    /// Until what is being done with it is done, such as a start: who asked for that and then asks what the container is,
    /// over another connection, hears what became of it. With dockerd he waits for the container's lock.
    async fn at_rest(&self) {
        drop(timeout(PATIENCE, self.turn.lock()).await);
    }

    /// Changes the record and writes it down, unless it was removed: it would be there again. What cannot be written is said and
    /// holds until the daemon ends.
    fn change(&self, store: &Store, change: impl FnOnce(&mut Record)) -> Record {
        let is_removed = self.news.borrow().is_removed;
        let record = {
            let mut record = self.lock();
            change(&mut record);
            if !is_removed && let Err(error) = store.save(&record) {
                tracing::error!(container.id = self.id, %error, "the container's record cannot be written");
            }
            record.clone()
        };
        let is_running = matches!(record.state.phase, Phase::Running | Phase::Restarting);
        let exit_code = record.state.exit_code;
        self.news.send_if_modified(|news| {
            let is_other = std::mem::replace(&mut news.is_running, is_running) != is_running;
            // in one step: who waits for the end reads the code with it
            if is_other && !is_running {
                news.exit_code = exit_code;
            }
            is_other
        });
        record
    }
}

impl Engine {
    /// Whether there is a container of this name or id, whatever is being done with it.
    ///
    /// # Errors
    /// When there is none, or several.
    pub async fn has_container(&self, text: &str) -> Result<(), ContainerError> {
        self.meant(text).await.map(drop)
    }

    /// A container by its id, its name, or the beginning of its id.
    ///
    /// # Errors
    /// When there is none, or several.
    pub async fn find_container(&self, text: &str) -> Result<ContainerRef, ContainerError> {
        match self.at_rest(text).await? {
            Meant::Single(single) => {
                let record = single.record();
                let streams = record.spec.streams;
                let is_running = record.state.phase == Phase::Running;
                Ok(ContainerRef {
                    is_running,
                    is_paused: is_running && self.is_paused(&record.id).await,
                    stdin_once: streams.stdin_once,
                    tty: streams.tty,
                    open_stdin: streams.open_stdin,
                    name: record.name,
                    id: record.id,
                })
            }
            Meant::Task(state) => Ok(ContainerRef {
                name: task_name(&state).to_owned(),
                tty: state.tty,
                open_stdin: state.open_stdin,
                stdin_once: false,
                is_running: matches!(state.status, Status::Running | Status::Paused),
                is_paused: state.status == Status::Paused,
                id: state.id,
            }),
        }
    }

    /// Of a single container: the user it shall have, and whether its root may only be read.
    pub(in crate::engine) fn asked_facts(&self, id: &str) -> Option<(String, bool)> {
        let record = self.inner.containers.get(id)?.record();
        Some((record.merged.user, record.spec.read_only))
    }

    /// What a single container has of the host at places of its own.
    pub(in crate::engine) fn points_of(&self, id: &str) -> Vec<MountPoint> {
        self.inner.containers.get(id).map(|single| single.record().points).unwrap_or_default()
    }

    async fn meant(&self, text: &str) -> Result<Meant, ContainerError> {
        let containers = &self.inner.containers;
        let bare = text.strip_prefix('/').unwrap_or(text);
        if let Some(single) = containers.get(bare) {
            return Ok(Meant::Single(single));
        }
        let named = containers.names().get(bare).cloned();
        if let Some(single) = named.and_then(|id| containers.get(&id)).or_else(|| self.linked(bare)) {
            return Ok(Meant::Single(single));
        }
        let states = self.inner.runtime.list().await.map_err(|e| ContainerError::failed(with_causes(&e)))?;
        let tasks = states.iter().filter(|state| task_of_container(&state.id).is_some());
        let singles: Vec<(String, String)> =
            containers.list().iter().map(|single| (single.id.clone(), single.lock().name.clone())).collect();
        let known = singles.iter().map(|(id, name)| (id.as_str(), name.as_str()));
        let id = names::find(text, known.chain(tasks.map(|state| (state.id.as_str(), task_name(state)))))?.to_owned();
        if let Some(single) = containers.get(&id) {
            return Ok(Meant::Single(single));
        }
        let found = states.into_iter().find(|state| state.id == id);
        let found = found.filter(|state| task_of_container(&state.id).is_some());
        found.map(|state| Meant::Task(Box::new(state))).ok_or_else(|| ContainerError::not_found(text))
    }

    /// The same, once what is being done with it is done ([`Single::at_rest`]). Not for who is doing it.
    async fn at_rest(&self, text: &str) -> Result<Meant, ContainerError> {
        let meant = self.meant(text).await?;
        if let Meant::Single(single) = &meant {
            single.at_rest().await;
            if single.news.borrow().is_removed {
                return Err(ContainerError::not_found(text));
            }
        }
        Ok(meant)
    }

    /// A single container, for what a task's must not be asked.
    async fn single(&self, text: &str, what: &str) -> Result<Arc<Single>, ContainerError> {
        match self.meant(text).await? {
            Meant::Single(single) => Ok(single),
            Meant::Task(state) => Err(ContainerError::conflict(format!(
                "cannot {what} container {text}: it belongs to task {}, whose service decides; use `service update` or \
                 `service rm`",
                task_name(&state)
            ))),
        }
    }
}

fn task_name(state: &runtime::ContainerState) -> &str {
    name_of_labels(&state.labels).map_or("", String::as_str)
}

fn of_runtime(error: &runtime::Error) -> ContainerError {
    let text = with_causes(error);
    match error {
        runtime::Error::NotFound { .. } | runtime::Error::AlreadyExists { .. } => ContainerError::conflict(text),
        runtime::Error::Invalid { .. }
        | runtime::Error::MountSourceMissing { .. }
        | runtime::Error::CommandNotFound { .. }
        | runtime::Error::CommandNotExecutable { .. } => ContainerError::invalid(text),
        _ => ContainerError::failed(text),
    }
}

fn stopping() -> ContainerError {
    ContainerError::failed("the engine is stopping")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::engine::container::record_of_labels;

    /// E-28: who asks about a container that is being started waits for that.
    #[tokio::test]
    async fn e_28_a_change_under_way_is_waited_for() {
        let single = Single::new(record_of_labels("c1", &types::Labels::new()));
        single.at_rest().await;
        let turn = single.turn.lock().await;
        let mut waiting = std::pin::pin!(single.at_rest());
        assert!(waiting.as_mut().now_or_never().is_none(), "it is being started");
        drop(turn);
        waiting.await;
    }

    /// E-26: whoever notes something of a container that was removed meanwhile, such as its end, does not bring it back.
    #[test]
    fn e_26_what_was_removed_is_not_written_down() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::new(directory.path());
        let single = Single::new(record_of_labels("c1", &types::Labels::new()));
        let end = || single.change(&store, |record| record.state.phase = Phase::Exited);
        end();
        assert!(store.directory("c1").exists());
        store.remove("c1").expect("removed");
        single.news.send_modify(|news| news.is_removed = true);
        assert_eq!(end().state.phase, Phase::Exited);
        assert!(!store.directory("c1").exists());
    }
}
