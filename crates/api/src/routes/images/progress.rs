//! Docker's stream of progress: one JSON object per line, an error as the last.

use std::future::Future;

use axum::{
    body::Body,
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use node::image::{self, Progress, ProgressEvent};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::ApiError;

/// Lines waiting for a slow client; more are left out by the sender.
const MAX_WAITING: usize = 256;

/// Answers at once and streams what `work` says; its result gives the last lines. An error that
/// comes before the first line is answered with its status instead.
pub(super) async fn answer<F, T>(
    work: impl FnOnce(Progress) -> F,
    last_lines: impl FnOnce(T) -> Vec<Value> + Send + 'static,
) -> Result<Response, ApiError>
where
    F: Future<Output = image::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let mut working = Box::pin(work(Progress::to(sender)));
    let mut events = ReceiverStream::new(receiver);
    let (first, early) = tokio::select! {
        biased;
        Some(event) = events.next() => (Some(event), None),
        result = &mut working => (None, Some(result)),
    };
    let early = match early {
        Some(Err(error)) => return Err(error.into()),
        Some(Ok(value)) => Some(value),
        None => None,
    };
    Ok(streamed(first, State::Working { working, events, last_lines, early }))
}

/// As [`answer`], but an error is always the last line.
pub(super) fn answer_always<F, T>(
    work: impl FnOnce(Progress) -> F,
    last_lines: impl FnOnce(T) -> Vec<Value> + Send + 'static,
) -> Response
where
    F: Future<Output = image::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let (working, events) = (Box::pin(work(Progress::to(sender))), ReceiverStream::new(receiver));
    streamed(None, State::Working { working, events, last_lines, early: None })
}

fn streamed<F, L, T>(first: Option<ProgressEvent>, state: State<std::pin::Pin<Box<F>>, L, T>) -> Response
where
    F: Future<Output = image::Result<T>> + Send + 'static,
    L: FnOnce(T) -> Vec<Value> + Send + 'static,
    T: Send + 'static,
{
    let first = stream::iter(first.map(|event| event_line(&event)));
    let rest = stream::unfold(state, step).flat_map(stream::iter);
    let lines = first.chain(rest).map(|line| Ok::<_, std::convert::Infallible>(bytes_of(&line)));
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}

enum State<W, L, T> {
    Working { working: W, events: ReceiverStream<ProgressEvent>, last_lines: L, early: Option<T> },
    Done,
}

async fn step<F, L, T>(
    state: State<std::pin::Pin<Box<F>>, L, T>,
) -> Option<(Vec<Value>, State<std::pin::Pin<Box<F>>, L, T>)>
where
    F: Future<Output = image::Result<T>>,
    L: FnOnce(T) -> Vec<Value>,
{
    let State::Working { mut working, mut events, last_lines, early } = state else { return None };
    if let Some(value) = early {
        return Some((last_lines(value), State::Done));
    }
    tokio::select! {
        biased;
        Some(event) = events.next() => {
            Some((vec![event_line(&event)], State::Working { working, events, last_lines, early: None }))
        }
        result = &mut working => {
            let mut lines: Vec<Value> = Vec::new();
            while let Ok(event) = events.as_mut().try_recv() {
                lines.push(event_line(&event));
            }
            match result {
                Ok(value) => lines.extend(last_lines(value)),
                Err(error) => {
                    let message = ApiError::from(error).message;
                    lines.push(json!({ "errorDetail": { "message": message }, "error": message }));
                }
            }
            Some((lines, State::Done))
        }
    }
}

fn event_line(event: &ProgressEvent) -> Value {
    let status = event.status.to_string();
    // Words about the whole image carry no id.
    if event.id.is_empty() {
        return json!({ "status": status });
    }
    let mut detail = json!({});
    if let (Some(current), Some(total)) = (event.current, event.total) {
        detail = json!({ "current": current, "total": total });
    }
    json!({ "status": status, "progressDetail": detail, "id": event.id })
}

fn bytes_of(line: &Value) -> Bytes {
    Bytes::from(format!("{line}\r\n"))
}
