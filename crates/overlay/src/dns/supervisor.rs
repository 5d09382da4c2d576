//! The loop that starts and stops the endpoints' tasks, so that exactly the wanted ones run.
//!
//! `netd` runs one. It owns the tasks; they end with it. It never looks into a name.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use super::{
    endpoint::{AT_ONCE, Endpoint, State},
    metrics::Metrics,
    resolv_conf,
    serve::Shared,
    zone::View,
};
use crate::EndpointId;

/// Reports waiting for the loop; a task whose report does not fit waits.
const REPORTS: usize = 256;

/// Whom to serve, and with what.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Counts up with every change.
    pub revision: u64,
    pub endpoints: BTreeMap<EndpointId, WantedEndpoint>,
}

#[derive(Debug, Clone)]
pub struct WantedEndpoint {
    pub namespace: PathBuf,
    pub view: Arc<View>,
}

/// How the endpoints stand.
#[derive(Debug, Clone, Default)]
pub struct States {
    /// Of the newest `Wanted` that was taken up.
    pub revision: u64,
    pub endpoints: BTreeMap<EndpointId, State>,
}

/// Which namespace it is: one that was removed and made anew has the same path, and lacks our sockets.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    device_and_inode: Option<(u64, u64)>,
}

struct Running {
    place: Place,
    serial: u64,
    view: watch::Sender<Arc<View>>,
    task: AbortHandle,
}

struct Supervisor {
    running: BTreeMap<EndpointId, Running>,
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    reports: mpsc::Sender<(EndpointId, u64, State)>,
    serials: u64,
}

/// Runs until the sender of `wanted` is gone, or a task panics.
pub(super) async fn run(
    mut wanted: watch::Receiver<Arc<Wanted>>,
    states: watch::Sender<States>,
    metrics: Arc<Metrics>,
) {
    raise_file_limit();
    let (host_servers, servers) = watch::channel(Arc::from([]));
    let (reports, mut inbox) = mpsc::channel(REPORTS);
    let mut supervisor = Supervisor {
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
        shared: Arc::new(Shared::new(metrics, servers)),
        room: Arc::new(Semaphore::new(AT_ONCE)),
        reports,
        serials: 0,
    };
    supervisor.tasks.spawn(resolv_conf::follow(host_servers));
    supervisor.adopt(&wanted.borrow_and_update().clone(), &states);
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = wanted.borrow_and_update().clone();
                supervisor.adopt(&now, &states);
            }
            Some((id, serial, state)) = inbox.recv() => {
                if supervisor.running.get(&id).is_some_and(|running| running.serial == serial) {
                    states.send_modify(|states| drop(states.endpoints.insert(id, state)));
                }
            }
            Some(ended) = supervisor.tasks.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a task of the DNS ended");
                    return;
                }
            }
        }
    }
}

impl Supervisor {
    fn adopt(&mut self, wanted: &Wanted, states: &watch::Sender<States>) {
        self.running.retain(|id, running| {
            let is_wanted = wanted.endpoints.get(id).is_some_and(|w| Place::of(&w.namespace) == running.place);
            if !is_wanted {
                running.task.abort();
            }
            is_wanted
        });
        let mut started = Vec::new();
        for (id, endpoint) in &wanted.endpoints {
            match self.running.get(id) {
                Some(running) => drop(running.view.send_replace(Arc::clone(&endpoint.view))),
                None => {
                    let running = self.start(id, endpoint);
                    self.running.insert(id.clone(), running);
                    started.push(id.clone());
                }
            }
        }
        states.send_modify(|states| {
            states.revision = wanted.revision;
            states.endpoints.retain(|id, _| self.running.contains_key(id));
            states.endpoints.extend(started.into_iter().map(|id| (id, State::Starting)));
        });
    }

    fn start(&mut self, id: &EndpointId, endpoint: &WantedEndpoint) -> Running {
        self.serials += 1;
        let (view, views) = watch::channel(Arc::clone(&endpoint.view));
        let task = Endpoint {
            id: id.clone(),
            namespace: endpoint.namespace.clone(),
            view: views,
            shared: Arc::clone(&self.shared),
            room: Arc::clone(&self.room),
            serial: self.serials,
            reports: self.reports.clone(),
        };
        let place = Place::of(&endpoint.namespace);
        Running { place, serial: self.serials, view, task: self.tasks.spawn(task.run()) }
    }
}

impl Place {
    fn of(path: &Path) -> Self {
        let found = fs::metadata(path).ok();
        Self { path: path.to_owned(), device_and_inode: found.map(|m| (m.dev(), m.ino())) }
    }
}

/// Two sockets for each endpoint and one for each question on its way are more than the usual 1024.
/// A wish: without it the host serves fewer endpoints, and says so for the others.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
