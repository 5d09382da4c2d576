//! `/events`: what was, and what happens from now on, one JSON object per line.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use futures::stream;
use node::engine::events::{Event, EventKind};
use tokio::{sync::broadcast, time::Instant};
use types::{Filters, ImageReference, Timestamp};

use super::{engine, label_filter, query};
use crate::{
    convert::{event::write, time},
    error::{ApiError, ApiResult},
    query::Query,
    router::Shared,
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/events", get(watch))
}

/// Filters that look at an object of one kind, by id or name.
const OBJECTS: [EventKind; 9] = EventKind::ALL;
const OTHERS: [&str; 7] = ["action", "event", "label", "label!", "plugin", "scope", "type"];

/// A far end, for those who watch without one.
const NO_END: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

async fn watch(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Response> {
    let query = query(raw);
    let filters = query.filters()?;
    let known: Vec<&str> = OBJECTS.iter().map(|kind| kind.name()).chain(OTHERS).collect();
    label_filter::check_keys(&filters, "events", &known)?;
    let (since, until) = (moment(&query, "since")?, moment(&query, "until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(ApiError::bad_request(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            query.get("since"),
            query.get("until")
        )));
    }
    let subscription = engine(&shared)?.events().subscribe();
    let is_wanted = |event: &Arc<Event>| {
        since.is_some_and(|since| event.time_ns >= since.as_unix_ns())
            && until.is_none_or(|until| event.time_ns <= until.as_unix_ns())
    };
    let past: VecDeque<Arc<Event>> = subscription.past.into_iter().filter(is_wanted).collect();
    let left = until.map(|until| until.since(time::now()));
    let end = Instant::now() + left.unwrap_or(NO_END);
    let state = Watch { past, present: subscription.present, end, filters, has_ended: false };
    let body = Body::from_stream(stream::unfold(state, Watch::next));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

fn moment(query: &Query, name: &str) -> ApiResult<Option<Timestamp>> {
    let text = query.get(name);
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let found = time::parse_or_ago(text, time::now());
    found.map(Some).map_err(|why| ApiError::bad_request(format!("invalid {name}: {why}")))
}

struct Watch {
    past: VecDeque<Arc<Event>>,
    present: broadcast::Receiver<Arc<Event>>,
    end: Instant,
    filters: Filters,
    has_ended: bool,
}

impl Watch {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        while !self.has_ended {
            let event = match self.past.pop_front() {
                Some(event) => event,
                None => match tokio::time::timeout_at(self.end, self.present.recv()).await {
                    Err(_) | Ok(Err(broadcast::error::RecvError::Closed)) => return None,
                    Ok(Err(broadcast::error::RecvError::Lagged(missed))) => {
                        // A gap that nobody sees is worse than a connection that ends.
                        self.has_ended = true;
                        let text = format!("the client was too slow and missed {missed} events");
                        return Some((Err(io::Error::other(text)), self));
                    }
                    Ok(Ok(event)) => event,
                },
            };
            if fits(&event, &self.filters) {
                return Some((Ok(Bytes::from(format!("{}\n", write(&event)))), self));
            }
        }
        None
    }
}

/// Values of one key are alternatives, labels and different keys are not.
fn fits(event: &Event, filters: &Filters) -> bool {
    let any =
        |key: &str, fits: &dyn Fn(&str) -> bool| filters.get(key).is_none_or(|values| values.iter().any(|v| fits(v)));
    // `exec_start: sh` and `health_status: healthy` are asked for by their first part, too.
    let action = |wanted: &str| {
        event.action == wanted || event.action.strip_prefix(wanted).is_some_and(|rest| rest.starts_with(':'))
    };
    any("type", &|kind| event.kind.name() == kind)
        && any("event", &action)
        && any("action", &action)
        && any("scope", &|scope| event.scope == scope)
        && any("plugin", &|_| false)
        && OBJECTS.iter().all(|kind| any(kind.name(), &|wanted| is_about(event, *kind, wanted)))
        && label_filter::fits(&event.attributes, filters)
}

fn is_about(event: &Event, kind: EventKind, wanted: &str) -> bool {
    let name = event.attributes.get("name").map(String::as_str);
    if kind == EventKind::Image {
        // A container's events can be asked for by its image.
        let used = event.attributes.get("image").map(String::as_str).filter(|_| event.kind == EventKind::Container);
        let own = [Some(event.actor.as_str()), name];
        let own = own.into_iter().flatten().filter(|_| event.kind == EventKind::Image);
        return own.chain(used).any(|image| image == wanted || repository(image) == wanted);
    }
    if event.kind != kind {
        return false;
    }
    let is_id = event.actor.starts_with(wanted);
    match kind {
        // ids are shortened, names are not
        EventKind::Volume => event.actor == wanted,
        _ => is_id || name == Some(wanted),
    }
}

/// The name without its tag or digest.
fn repository(image: &str) -> String {
    let plain = |reference: ImageReference| ImageReference { tag: None, digest: None, ..reference }.familiar();
    image.parse().map_or_else(|_| image.to_owned(), plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &Event, filters: &[(&str, &str)], wanted: bool) {
        let mut map = Filters::new();
        for (key, value) in filters {
            map.entry((*key).to_owned()).or_default().push((*value).to_owned());
        }
        assert_eq!(fits(event, &map), wanted, "{filters:?}");
    }

    #[test]
    fn e42_filters_of_events() {
        let image = Event::new(EventKind::Image, "pull", "busybox:1").with("name", "busybox").with("tier", "base");
        check(&image, &[], true);
        check(&image, &[("type", "image")], true);
        check(&image, &[("type", "volume"), ("type", "image")], true);
        check(&image, &[("type", "image"), ("event", "tag")], false);
        check(&image, &[("image", "busybox")], true);
        check(&image, &[("image", "busybox:1")], true);
        check(&image, &[("image", "busybox:2")], false);
        check(&image, &[("label", "tier=base"), ("label", "other")], false);
        check(&image, &[("label", "tier")], true);
        check(&image, &[("volume", "busybox")], false);
        check(&image, &[("scope", "swarm")], false);
        let container = Event::new(EventKind::Container, "health_status: healthy", "0123456789abcdef");
        let container = container.with("name", "web").with("image", "busybox:1");
        check(&container, &[("container", "0123456789ab")], true);
        check(&container, &[("container", "web")], true);
        check(&container, &[("container", "we")], false);
        check(&container, &[("event", "health_status")], true);
        check(&container, &[("event", "health")], false);
        check(&container, &[("image", "busybox")], true);
        let volume = Event::new(EventKind::Volume, "create", "db");
        check(&volume, &[("volume", "db")], true);
        check(&volume, &[("volume", "d")], false);
    }
}
