//! What happens on this host, for whoever watches: a bounded past and a broadcast of the present.
//!
//! Called by everything that changes something; read by the API's `/events`. Publishing never waits and never
//! fails: a reader that is too slow is told that it missed something, and nobody else notices.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::broadcast;

/// Events kept for `--since`. Docker keeps 256; a host that restarts many containers at once makes more than
/// that within a minute. A few hundred bytes each.
const KEPT: usize = 1024;
/// Events that may wait for one reader. The same number, so that a reader of everything can begin.
const WAITING: usize = 1024;

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
    Volume,
}

impl EventKind {
    pub const ALL: [Self; 9] = [
        Self::Container,
        Self::Daemon,
        Self::Image,
        Self::Network,
        Self::Node,
        Self::Secret,
        Self::Config,
        Self::Service,
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
            Self::Volume => "volume",
        }
    }

    /// Who knows of it: the whole cluster, or this host alone.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Node | Self::Secret | Self::Config | Self::Service => "swarm",
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
    /// Since 1970. Later events never have a smaller one.
    pub time_ns: u64,
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
    past: Mutex<VecDeque<Arc<Event>>>,
    present: broadcast::Sender<Arc<Event>>,
}

/// What was kept, and all that follows without a gap.
#[derive(Debug)]
pub struct Subscription {
    pub past: Vec<Arc<Event>>,
    pub present: broadcast::Receiver<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let (present, _) = broadcast::channel(WAITING);
        Self { shared: Arc::new(Shared { past: Mutex::new(VecDeque::with_capacity(KEPT)), present }) }
    }
}

impl Events {
    /// Tells everybody who watches. Cheap: no I/O, one short lock.
    pub fn publish(&self, event: Event) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut past = self.shared.past.lock().unwrap_or_else(PoisonError::into_inner);
        // The clock may be set back; a reader that goes on "since" the last event must not see it again.
        let time_ns = past.back().map_or(now, |last| now.max(last.time_ns + 1));
        let event = Arc::new(Event { time_ns, ..event });
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(Arc::clone(&event));
        // Under the lock, so that a new subscription has each event once. Nobody listening is no error.
        let _ = self.shared.present.send(event);
    }

    pub fn subscribe(&self) -> Subscription {
        let past = self.shared.past.lock().unwrap_or_else(PoisonError::into_inner);
        Subscription { past: past.iter().cloned().collect(), present: self.shared.present.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> Event {
        Event::new(EventKind::Volume, "create", name)
    }

    #[tokio::test]
    async fn a_subscription_has_the_past_and_the_present_without_a_gap() {
        let events = Events::default();
        events.publish(event("a"));
        let mut subscription = events.subscribe();
        events.publish(event("b"));
        assert_eq!(subscription.past.iter().map(|e| e.actor.as_str()).collect::<Vec<_>>(), ["a"]);
        let next = subscription.present.recv().await.expect("sent");
        assert_eq!(next.actor, "b");
        assert!(next.time_ns > subscription.past[0].time_ns);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_and_the_past_is_bounded() {
        let events = Events::default();
        let mut slow = events.subscribe().present;
        for number in 0..=WAITING {
            events.publish(event(&number.to_string()));
        }
        assert!(matches!(slow.recv().await, Err(broadcast::error::RecvError::Lagged(1))));
        let past = events.subscribe().past;
        assert_eq!((past.len(), past[0].actor.as_str()), (KEPT, "1"));
    }

    #[test]
    fn attributes_win_over_labels() {
        let labels = BTreeMap::from([("name".to_owned(), "label".to_owned()), ("x".to_owned(), "y".to_owned())]);
        let event = Event::new(EventKind::Image, "pull", "a").with("name", "own").with_labels(&labels);
        assert_eq!((event.attributes["name"].as_str(), event.attributes["x"].as_str()), ("own", "y"));
        assert_eq!((event.scope, EventKind::Node.scope()), ("local", "swarm"));
    }
}
