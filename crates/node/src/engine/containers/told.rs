//! What is told of containers: Docker's events, with the container's name, image and labels (parity E-42). Called by
//! everything that does something with one; nobody else makes events of containers. What they have of others is told beside
//! that (`ties`).

use super::{Engine, Record};
use crate::engine::events::{Event, EventKind};

impl Engine {
    /// Tells of something that was done with a container, such as `export`; nothing of one that is gone.
    pub(in crate::engine) fn tell(&self, id: &str, action: &str, attributes: &[(&str, &str)]) {
        if let Some(event) = self.event_of(id, action) {
            self.inner.events.publish(with(event, attributes));
        }
    }

    /// Tells of what became of a container, by its id.
    pub(super) fn announce_of(&self, id: &str, action: &str, attributes: &[(&str, &str)]) {
        if let Some(event) = self.event_of(id, action) {
            self.announce_event(with(event, attributes));
        }
    }

    /// The same of one as it is on record.
    pub(super) fn announce(&self, action: &str, record: &Record) {
        self.announce_with(action, record, &[]);
    }

    pub(super) fn announce_with(&self, action: &str, record: &Record, attributes: &[(&str, &str)]) {
        self.announce_event(with(of_record(action, record), attributes));
    }

    /// That it runs, after what it takes for that.
    pub(super) fn announce_start(&self, record: &Record) {
        self.tell_all(self.taken(record));
        self.announce("start", record);
    }

    /// How it ended, after what it gave back ([`Self::given_back`]).
    pub(super) fn announce_end(&self, record: &Record, given_back: Vec<Event>) {
        if record.state.oom_killed {
            self.announce("oom", record);
        }
        self.tell_all(given_back);
        self.announce_event(death(record));
    }

    pub(super) fn announce_event(&self, event: Event) {
        let (id, name) = (&event.actor, event.attributes.get("name").map_or("", String::as_str));
        tracing::info!(container.id = id, container.name = name, action = event.action, "container");
        self.inner.events.publish(event);
    }

    fn event_of(&self, id: &str, action: &str) -> Option<Event> {
        let containers = &self.inner.containers;
        match containers.get(id) {
            Some(single) => Some(of_record(action, &single.lock())),
            None => containers.tasks.event(id, action),
        }
    }
}

pub(super) fn of_record(action: &str, record: &Record) -> Event {
    let event = Event::new(EventKind::Container, action, &record.id).with("name", &record.name);
    event.with("image", &record.spec.image).with_labels(&record.merged.labels)
}

/// How a container ended, and after how long.
pub(super) fn death(record: &Record) -> Event {
    let seconds = record.state.ran_for().as_secs().to_string();
    of_record("die", record).with("exitCode", record.state.exit_code.to_string()).with("execDuration", seconds)
}

/// What belongs to the event itself stands over labels of the same name.
fn with(event: Event, attributes: &[(&str, &str)]) -> Event {
    attributes.iter().fold(event, |event, (key, value)| event.with(key, *value))
}
