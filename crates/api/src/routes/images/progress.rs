//! Docker's stream of progress: one JSON object per line, an error as the last.

use std::future::Future;

use axum::{
    body::Body,
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream as streams};
use node::image::{self, Progress, ProgressEvent};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::ApiError;

/// Lines waiting for a slow client; more are left out by the sender.
const MAX_WAITING: usize = 256;

/// Answers with the first that `work` says and streams the rest; its result gives the last lines. An error that comes
/// before the first line is answered with its status instead.
pub(super) async fn answer<F, T>(
    work: impl FnOnce(Progress) -> F,
    last_lines: impl FnOnce(T) -> Vec<Value> + Send + 'static,
) -> Result<Response, ApiError>
where
    F: Future<Output = image::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    match begin(work, last_lines).await {
        (_, State::Ended(Err(error), _)) => Err(error.into()),
        (first, state) => Ok(streamed(first, state)),
    }
}

/// Answers with the stream in any case: of what fails an error is the last line.
pub(super) async fn stream<F, T>(
    work: impl FnOnce(Progress) -> F,
    last_lines: impl FnOnce(T) -> Vec<Value> + Send + 'static,
) -> Response
where
    F: Future<Output = image::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let (first, state) = begin(work, last_lines).await;
    streamed(first, state)
}

type Working<F> = std::pin::Pin<Box<F>>;

/// With what was said before there was an answer.
async fn begin<F, L, T>(work: impl FnOnce(Progress) -> F, last_lines: L) -> (Vec<ProgressEvent>, State<F, L, T>)
where
    F: Future<Output = image::Result<T>>,
{
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let mut working = Box::pin(work(Progress::to(sender)));
    let mut events = ReceiverStream::new(receiver);
    tokio::select! {
        biased;
        Some(event) = events.next() => (vec![event], State::Working { working, events, last_lines }),
        result = &mut working => (said(&mut events), State::Ended(result, last_lines)),
    }
}

/// What waits to be told.
fn said(events: &mut ReceiverStream<ProgressEvent>) -> Vec<ProgressEvent> {
    std::iter::from_fn(|| events.as_mut().try_recv().ok()).collect()
}

fn streamed<F, L, T>(first: Vec<ProgressEvent>, state: State<F, L, T>) -> Response
where
    F: Future<Output = image::Result<T>> + Send + 'static,
    L: FnOnce(T) -> Vec<Value> + Send + 'static,
    T: Send + 'static,
{
    let first = streams::iter(first.into_iter().map(|event| event_line(&event)));
    let rest = streams::unfold(state, step).flat_map(streams::iter);
    let lines = first.chain(rest).map(|line| Ok::<_, std::convert::Infallible>(bytes_of(&line)));
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}

enum State<F, L, T> {
    Working { working: Working<F>, events: ReceiverStream<ProgressEvent>, last_lines: L },
    Ended(image::Result<T>, L),
    Done,
}

async fn step<F, L, T>(state: State<F, L, T>) -> Option<(Vec<Value>, State<F, L, T>)>
where
    F: Future<Output = image::Result<T>>,
    L: FnOnce(T) -> Vec<Value>,
{
    match state {
        State::Working { mut working, mut events, last_lines } => tokio::select! {
            biased;
            Some(event) = events.next() => {
                Some((vec![event_line(&event)], State::Working { working, events, last_lines }))
            }
            result = &mut working => {
                Some((said(&mut events).iter().map(event_line).collect(), State::Ended(result, last_lines)))
            }
        },
        State::Ended(Ok(value), last_lines) => Some((last_lines(value), State::Done)),
        State::Ended(Err(error), _) => {
            let message = ApiError::from(error).message;
            let line = json!({ "errorDetail": { "message": message }, "error": message });
            Some((vec![line], State::Done))
        }
        State::Done => None,
    }
}

fn event_line(event: &ProgressEvent) -> Value {
    let status = event.status.to_string();
    let detail = match (event.current, event.total) {
        (Some(current), Some(total)) => json!({ "current": current, "total": total }),
        (Some(current), None) => json!({ "current": current }),
        (None, _) => json!({}),
    };
    // Words about the whole image carry no id.
    match (event.id.as_str(), event.current) {
        ("", None) => json!({ "status": status }),
        ("", Some(_)) => json!({ "status": status, "progressDetail": detail }),
        (id, _) => json!({ "status": status, "progressDetail": detail, "id": id }),
    }
}

fn bytes_of(line: &Value) -> Bytes {
    Bytes::from(format!("{line}\r\n"))
}

#[cfg(test)]
mod tests {
    use node::image::ProgressStatus;

    use super::*;

    /// E-08: of a file that does not say how long it is, what came so far is told.
    #[test]
    fn e_08_lines_of_progress() {
        let line = |id: &str, current, total| {
            event_line(&ProgressEvent { id: id.to_owned(), status: ProgressStatus::Importing, current, total })
        };
        let detail = json!({ "status": "Importing", "progressDetail": { "current": 1, "total": 2 } });
        assert_eq!(line("", Some(1), Some(2)), detail);
        assert_eq!(line("", Some(1), None), json!({ "status": "Importing", "progressDetail": { "current": 1 } }));
        assert_eq!(line("", None, None), json!({ "status": "Importing" }));
        assert_eq!(line("a", None, None), json!({ "status": "Importing", "progressDetail": {}, "id": "a" }));
    }
}
