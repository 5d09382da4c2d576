//! `/events`: what was, and what happens from now on, one JSON object per line.

use std::{io, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use futures::stream;
use node::engine::events::{Event, EventKind, Reader, ResumeError};
use tokio::time::Instant;
use types::{Filters, ImageReference, ReadReply, ReadRequest, Timestamp};

use super::{engine, label_filter, query};
use crate::{
    cluster,
    convert::{event::write, time},
    error::{ApiError, ApiResult},
    query::Query,
    router::Shared,
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/events", get(watch))
}

/// Filters that look at an object of one kind, by id or name.
const OBJECTS: [EventKind; 11] = EventKind::ALL;

const FROM_INDEX: &str = "fromIndex";

/// A far end, for those who watch without one.
const NO_END: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

async fn watch(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Response> {
    let query = query(raw);
    let filters = query.filters()?;
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
    let from = index(&query)?;
    if let Some(from) = from {
        must_be_reached(&shared, from).await?;
    }
    let events = engine(&shared)?.events();
    // who names an end alone means all that is known before it, as in Docker
    let past = |event: &Event| since.map_or(until.is_some(), |since| event.time_ns >= since.as_unix_ns());
    let reader = match from {
        Some(from) => events.resume(from, past).map_err(refused)?,
        None => events.read(past),
    };
    let end = Instant::now() + until.map_or(NO_END, |until| until.since(time::now()));
    let state = Watch { reader, until, end, filters, has_ended: false };
    let body = Body::from_stream(stream::unfold(state, Watch::next));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// `?fromIndex=`, which is ours: the attribute `index` of the last event of the cluster that the client has seen.
fn index(query: &Query) -> ApiResult<Option<u64>> {
    let text = query.get(FROM_INDEX);
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |_| {
        ApiError::bad_request(format!("invalid {FROM_INDEX} {text:?}: give the attribute index of an event, a number"))
    };
    text.parse().map(Some).map_err(bad)
}

/// An index that the cluster has not come to is a mistake: of another cluster, or of one that was begun anew. Whoever
/// waited for it would wait in silence.
async fn must_be_reached(shared: &Shared, from: u64) -> ApiResult<()> {
    match cluster::read_current(&shared.membership, &ReadRequest::Counts).await {
        Ok(ReadReply::Counts(counts)) if from > counts.index => Err(beyond(from, counts.index)),
        // who has no part in a cluster, or cannot ask, learns that by what follows
        _ => Ok(()),
    }
}

fn beyond(from: u64, reached: u64) -> ApiError {
    ApiError::bad_request(format!(
        "{FROM_INDEX} {from} is beyond {reached}, which is how far the cluster has come: it is of another cluster, or of \
         this one before it was begun anew; list the objects and go on from {reached}"
    ))
}

fn refused(error: ResumeError) -> ApiError {
    let status = match error {
        ResumeError::TooOld { .. } => StatusCode::GONE,
        ResumeError::NoManager => StatusCode::SERVICE_UNAVAILABLE,
    };
    ApiError::new(status, error.to_string())
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
    reader: Reader,
    until: Option<Timestamp>,
    end: Instant,
    filters: Filters,
    has_ended: bool,
}

impl Watch {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        while !self.has_ended {
            match tokio::time::timeout_at(self.end, self.reader.next()).await {
                Err(_) => return None,
                Ok(Err(missed)) => {
                    // A gap that nobody sees is worse than a connection that ends.
                    self.has_ended = true;
                    return Some((Err(io::Error::other(missed)), self));
                }
                Ok(Ok(event)) => {
                    let in_time = self.until.is_none_or(|until| event.time_ns <= until.as_unix_ns());
                    if in_time && fits(&event, &self.filters) {
                        return Some((Ok(Bytes::from(format!("{}\n", write(&event)))), self));
                    }
                }
            }
        }
        None
    }
}

/// Values of one key are alternatives, labels and different keys are not. As with Docker, an unknown key says nothing:
/// clients ask older and newer daemons alike.
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
    if event.kind == EventKind::Task && matches!(kind, EventKind::Service | EventKind::Node) {
        // A task's events can be asked for by what it is a task of, and by where it runs.
        let said = |key: &str| event.attributes.get(key).map(String::as_str);
        let (id, name) = if kind == EventKind::Node { ("node", "node.name") } else { ("service.id", "service") };
        return said(id).is_some_and(|id| id.starts_with(wanted)) || said(name) == Some(wanted);
    }
    if kind == EventKind::Stack && event.kind != kind {
        // what is of a stack says so by its label
        return event.attributes.get(types::STACK_LABEL).is_some_and(|stack| stack == wanted);
    }
    if event.kind != kind {
        return false;
    }
    let is_id = event.actor.starts_with(wanted);
    match kind {
        // ids are shortened, names are not
        EventKind::Volume | EventKind::Stack => event.actor == wanted,
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
        check(&image, &[("colour", "red")], true);
        check(&image, &[("colour", "red"), ("type", "volume")], false);
        let container = Event::new(EventKind::Container, "health_status: healthy", "0123456789abcdef");
        let container = container.with("name", "web").with("image", "busybox:1");
        check(&container, &[("container", "0123456789ab")], true);
        check(&container, &[("container", "web")], true);
        check(&container, &[("container", "we")], false);
        check(&container, &[("event", "health_status")], true);
        check(&container, &[("event", "health")], false);
        check(&container, &[("image", "busybox")], true);
        let volume = Event::new(EventKind::Volume, "create", "db");
        check(&volume, &[("scope", "local")], true);
        check(&volume, &[("volume", "db")], true);
        check(&volume, &[("volume", "d")], false);
    }

    #[test]
    fn c_39_filters_of_events_of_the_cluster() {
        let service = Event::new(EventKind::Service, "update", "s123").with("name", "web").with("tier", "front");
        check(&service, &[("type", "service"), ("scope", "swarm"), ("event", "update")], true);
        check(&service, &[("service", "web")], true);
        check(&service, &[("service", "s12")], true);
        check(&service, &[("service", "we")], false);
        check(&service, &[("label", "tier=front")], true);
        check(&service, &[("label", "tier=back")], false);
        check(&service, &[("scope", "local")], false);
        let stack = Event::new(EventKind::Stack, "rollback", "shop").with("name", "shop");
        check(&stack, &[("type", "stack"), ("stack", "shop"), ("event", "rollback"), ("scope", "swarm")], true);
        check(&stack, &[("stack", "sho")], false);
        let of_stack = service.clone().with(types::STACK_LABEL, "shop");
        check(&of_stack, &[("stack", "shop")], true);
        check(&of_stack, &[("stack", "shop"), ("type", "stack")], false);
        check(&service, &[("stack", "shop")], false);
        let task = Event::new(EventKind::Task, "update", "t456").with("name", "web.1").with("service", "web");
        let task = task.with("service.id", "s123").with("node", "n789").with("node.name", "host1");
        check(&task, &[("type", "task")], true);
        check(&task, &[("service", "web")], true);
        check(&task, &[("service", "s123")], true);
        check(&task, &[("node", "n78")], true);
        check(&task, &[("node", "host1")], true);
        check(&task, &[("node", "host2")], false);
        check(&task, &[("task", "web.1")], true);
        check(&task, &[("task", "t45")], true);
        check(&task, &[("service", "web"), ("type", "service")], false);
        for (kind, name) in [(EventKind::Secret, "secret"), (EventKind::Config, "config"), (EventKind::Node, "node")] {
            let event = Event::new(kind, "remove", "x1").with("name", "one");
            check(&event, &[(name, "one"), ("type", name)], true);
            check(&event, &[(name, "two")], false);
        }
    }

    #[test]
    fn c_36_an_index_to_go_on_from() {
        let read = |text: &str| index(&Query::parse(text)).map_err(|error| error.message);
        assert_eq!(read("since=1"), Ok(None));
        assert_eq!(read("fromIndex=17"), Ok(Some(17)));
        assert!(read("fromIndex=-1").is_err_and(|text| text.contains("a number")));
        let ahead = beyond(9, 7);
        assert_eq!((ahead.status, ahead.message.contains("9 is beyond 7")), (StatusCode::BAD_REQUEST, true));
        let gone = refused(ResumeError::TooOld { index: 3, oldest: 9 });
        assert_eq!((gone.status, gone.message.contains("oldest index to go on from is 9")), (StatusCode::GONE, true));
        assert_eq!(refused(ResumeError::NoManager).status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
