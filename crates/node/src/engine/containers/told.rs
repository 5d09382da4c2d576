//! What is told of containers: Docker's events, with the container's name, image and labels (parity E-42). Called by
//! everything that does something with one; nobody else makes events of containers.

use std::time::Duration;

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

    /// The same of a single one, as it is on record.
    pub(super) fn announce(&self, action: &str, record: &Record) {
        self.announce_with(action, record, &[]);
    }

    pub(super) fn announce_with(&self, action: &str, record: &Record, attributes: &[(&str, &str)]) {
        let event = of_record(action, record);
        let event = match action {
            "die" => with_end(event, record.state.exit_code, record.state.ran_for()),
            _ => event,
        };
        self.announce_event(with(event, attributes));
    }

    pub(super) fn announce_all(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.announce_event(event));
    }

    fn announce_event(&self, event: Event) {
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

fn of_record(action: &str, record: &Record) -> Event {
    about(action, &record.id, &record.name, &record.spec.image).with_labels(&record.merged.labels)
}

pub(super) fn about(action: &str, id: &str, name: &str, image: &str) -> Event {
    Event::new(EventKind::Container, action, id).with("name", name).with("image", image)
}

/// How a container ended, and after how long.
pub(super) fn with_end(event: Event, exit_code: i32, ran_for: Duration) -> Event {
    event.with("exitCode", exit_code.to_string()).with("execDuration", ran_for.as_secs().to_string())
}

/// What belongs to the event itself stands over labels of the same name.
fn with(event: Event, attributes: &[(&str, &str)]) -> Event {
    attributes.iter().fold(event, |event, (key, value)| event.with(key, *value))
}
