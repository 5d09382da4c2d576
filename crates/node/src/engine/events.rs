//! What happens on this host and, on managers, in the cluster: a bounded past, and the present for whoever watches.
//!
//! Called by everything that changes something, and by the daemon with what the manager tells; read by the API's
//! `/events`. Publishing never waits and never fails: readers fetch at their own pace, one that is too slow is told
//! that it missed something, and nobody else notices.

mod cluster;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use image::Removed;
use tokio::sync::watch;
use types::ClusterEvents;

use cluster::ClusterRing;
pub use reader::{Missed, Reader, ResumeError};

/// Events of this host that are kept for `--since` and for slow readers. Docker keeps 256; a host that restarts many
/// containers at once makes more than that within a minute. A few hundred bytes each.
const KEPT: usize = 1024;
/// Events of the cluster: a thousand tasks that come to run make eight thousand. Some megabytes.
const KEPT_OF_CLUSTER: usize = 8192;

/// What kind of object an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    Container,
    Daemon,
    Image,
    Network,
    Node,
    Secret,
    Config,
    Service,
    Stack,
    Task,
    Volume,
}

impl EventKind {
    pub const ALL: [Self; 11] = [
        Self::Container,
        Self::Daemon,
        Self::Image,
        Self::Network,
        Self::Node,
        Self::Secret,
        Self::Config,
        Self::Service,
        Self::Stack,
        Self::Task,
        Self::Volume,
    ];

    /// Docker's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Daemon => "daemon",
            Self::Image => "image",
            Self::Network => "network",
            Self::Node => "node",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::Service => "service",
            Self::Stack => "stack",
            Self::Task => "task",
            Self::Volume => "volume",
        }
    }

    /// Who knows of it: the whole cluster, or this host alone; of networks there are both.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Node | Self::Secret | Self::Config | Self::Service | Self::Stack | Self::Task => "swarm",
            _ => "local",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// Docker's verb: `create`, `pull`, `die`, …
    pub action: String,
    /// Id or name of the object.
    pub actor: String,
    pub attributes: BTreeMap<String, String>,
    /// `local` or `swarm`.
    pub scope: &'static str,
    /// Since 1970. Later events of one scope never have a smaller one.
    pub time_ns: u64,
    /// The step of the cluster that it belongs to: where a reader can go on from.
    pub index: Option<u64>,
}

impl Event {
    /// The time is set when it is published.
    pub fn new(kind: EventKind, action: impl Into<String>, actor: impl Into<String>) -> Self {
        Self {
            kind,
            action: action.into(),
            actor: actor.into(),
            attributes: BTreeMap::new(),
            scope: kind.scope(),
            time_ns: 0,
            index: None,
        }
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(key.to_owned(), value.into());
        self
    }

    /// Labels become attributes, as in Docker; what is set already stays.
    #[must_use]
    pub fn with_labels(mut self, labels: &BTreeMap<String, String>) -> Self {
        for (key, value) in labels {
            self.attributes.entry(key.clone()).or_insert_with(|| value.clone());
        }
        self
    }
}

/// A cheap handle; copies share what happened.
#[derive(Debug, Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rings: Mutex<Rings>,
    /// Number of the newest event, for those who wait for it.
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Rings {
    own: Ring,
    cluster: ClusterRing,
    /// Events are numbered from 1 in the order in which they were told here.
    newest: u64,
}

/// The newest events of one origin, in their order.
#[derive(Debug)]
struct Ring {
    capacity: usize,
    entries: VecDeque<Entry>,
    /// Number of the newest one that is not kept any more.
    dropped: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    number: u64,
    event: Arc<Event>,
    /// Only for those who ask for the past.
    is_past: bool,
}

impl Ring {
    fn new(capacity: usize) -> Self {
        Self { capacity, entries: VecDeque::new(), dropped: 0 }
    }

    /// Sets the time and keeps the event; gives the one that had to go.
    fn add(&mut self, number: u64, event: Event, is_past: bool) -> Option<Entry> {
        let gone = if self.entries.len() == self.capacity { self.entries.pop_front() } else { None };
        // nobody waits for the past
        self.dropped = gone.as_ref().filter(|gone| !gone.is_past).map_or(self.dropped, |gone| gone.number);
        // The clock may be set back; a reader that goes on "since" the last event must not see it again.
        let last = self.entries.back().map(|entry| entry.event.time_ns);
        let time_ns = last.map_or(event.time_ns, |last| event.time_ns.max(last + 1));
        self.entries.push_back(Entry { number, event: Arc::new(Event { time_ns, ..event }), is_past });
        gone
    }

    /// The first that was told after this one.
    fn after(&self, number: u64) -> Option<&Entry> {
        let from = self.entries.partition_point(|entry| entry.number <= number);
        self.entries.range(from..).find(|entry| !entry.is_past)
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::keeping(KEPT, KEPT_OF_CLUSTER)
    }
}

impl Events {
    fn keeping(own: usize, cluster: usize) -> Self {
        let rings = Rings { own: Ring::new(own), cluster: ClusterRing::new(cluster), newest: 0 };
        Self { shared: Arc::new(Shared { rings: Mutex::new(rings), newest: watch::channel(0).0 }) }
    }

    /// Tells everybody who watches. Cheap: no I/O, one short lock.
    pub fn publish(&self, event: Event) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut rings = self.lock();
        rings.newest += 1;
        let number = rings.newest;
        rings.own.add(number, Event { time_ns, ..event }, false);
        self.shared.newest.send_replace(number);
    }

    /// Tells what was taken away from the image `id`: by a user, or to make room.
    pub fn tell_removed_images(&self, id: &str, removed: &[Removed]) {
        for item in removed {
            let (action, actor, name) = match item {
                Removed::Untagged(name) => ("untag", id, name.as_str()),
                Removed::Deleted(digest) => ("delete", digest.as_str(), digest.as_str()),
            };
            self.publish(Event::new(EventKind::Image, action, actor).with("name", name));
        }
    }

    /// Tells what the manager of this host says of the cluster. A step that was told before is not told again.
    pub fn tell(&self, step: ClusterEvents) {
        let mut rings = self.lock();
        let number = rings.newest;
        rings.newest = rings.cluster.tell(number, step);
        self.shared.newest.send_replace(rings.newest);
    }

    /// This host is no manager any more: what it knows of the cluster is old, and another cluster counts anew.
    pub fn forget_cluster(&self) {
        self.lock().cluster.forget();
    }

    /// What was kept of these, in the order of their times, and all that follows without a gap.
    pub fn read(&self, past: impl Fn(&Event) -> bool) -> Reader {
        let rings = self.lock();
        let entries = rings.own.entries.iter().chain(rings.cluster.entries());
        let mut past: Vec<_> = entries.map(|entry| &entry.event).filter(|event| past(event)).cloned().collect();
        // stable, so that each origin keeps its order
        past.sort_by_key(|event| event.time_ns);
        Reader::new(self.clone(), past, rings.newest)
    }

    /// The same for one that knows the cluster up to a step: each later event of the cluster comes once. Of the
    /// host's own past it gets what `past` wants.
    ///
    /// # Errors
    /// When events after that step are not kept any more, or this host has none of the cluster.
    pub fn resume(&self, index: u64, past: impl Fn(&Event) -> bool) -> Result<Reader, ResumeError> {
        let rings = self.lock();
        let of_cluster = rings.cluster.after_index(index)?;
        let mut all: Vec<_> = rings.own.entries.iter().map(|entry| &entry.event).filter(|e| past(e)).cloned().collect();
        all.extend(of_cluster.map(|entry| Arc::clone(&entry.event)));
        all.sort_by_key(|event| event.time_ns);
        Ok(Reader::new(self.clone(), all, rings.newest).knowing(index))
    }

    /// How many watch just now.
    pub fn listeners(&self) -> usize {
        self.shared.newest.receiver_count()
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.shared.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
