//! Events: Docker's JSON, with the fields that older clients read.

use node::engine::events::{Event, EventKind};
use serde_json::{Value, json};

use super::writer::Fields;

pub(crate) fn write(event: &Event) -> Value {
    // Before types there were only these two, and their events said it otherwise.
    let is_old = matches!(event.kind, EventKind::Container | EventKind::Image);
    let from = event.attributes.get("image").filter(|_| event.kind == EventKind::Container);
    Fields::new()
        .some("status", is_old.then_some(&event.action))
        .some("id", is_old.then_some(&event.actor))
        .some("from", from)
        .set("Type", event.kind.name())
        .set("Action", &event.action)
        .set("Actor", json!({ "ID": event.actor, "Attributes": event.attributes }))
        .set("scope", event.scope)
        .set("time", event.time_ns / 1_000_000_000)
        .set("timeNano", event.time_ns)
        .done()
}
