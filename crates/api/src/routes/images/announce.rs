//! Events about images.

use std::collections::BTreeMap;

use node::{
    engine::events::{Event, EventKind, Events},
    image::{Removed, Store},
};
use types::ImageReference;

use crate::router::Shared;

/// Who tells; nobody listens on a pretended host.
#[derive(Clone)]
pub(super) struct Announcer {
    events: Option<Events>,
    store: Store,
}

impl Announcer {
    pub(super) fn of(shared: &Shared) -> Self {
        Self { events: shared.host.engine().map(|engine| engine.events().clone()), store: shared.host.images().clone() }
    }

    /// About an image by its id (`tag`, `load`, …), which is there: its labels are told too.
    pub(super) fn tell(&self, action: &str, id: &str, name: &str) {
        let labels = self.store.inspect(id).map(|image| image.config.config.labels).unwrap_or_default();
        self.publish(action, id, name, &labels);
    }

    /// About a name in a registry: pull and push.
    pub(super) fn tell_reference(&self, action: &str, reference: &ImageReference) {
        let name = reference.familiar();
        let repository = ImageReference { tag: None, digest: None, ..reference.clone() }.familiar();
        let labels = self.store.inspect(&name).map(|image| image.config.config.labels).unwrap_or_default();
        self.publish(action, &name, &repository, &labels);
    }

    /// What `rmi` and prune took away from the image `id`.
    pub(super) fn tell_removed(&self, id: &str, removed: &[Removed]) {
        if let Some(events) = &self.events {
            events.tell_removed_images(id, removed);
        }
    }

    pub(super) fn tell_pruned(&self, bytes: u64) {
        if let Some(events) = &self.events {
            events.publish(Event::new(EventKind::Image, "prune", "").with("reclaimed", bytes.to_string()));
        }
    }

    fn publish(&self, action: &str, actor: &str, name: &str, labels: &BTreeMap<String, String>) {
        if let Some(events) = &self.events {
            events.publish(Event::new(EventKind::Image, action, actor).with("name", name).with_labels(labels));
        }
    }
}
