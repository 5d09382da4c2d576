//! `GET /containers/{id}/logs` (parity E-27).

use axum::{
    Extension,
    body::Body,
    extract::{Path, RawQuery, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use node::engine::{LogOptions, containers::ContainerView};

use crate::{
    convert::time,
    error::{ApiError, ApiResult},
    host::engine,
    query::{Query, escape},
    router::{ApiVersion, Shared},
    routes::{
        logs::{Frames, log_time},
        query,
    },
};

pub(crate) async fn logs(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<Response> {
    let query = query(raw);
    let engine = engine(&shared)?;
    let view = engine.container_view(&id).await?;
    let options = read(&query)?;
    let lines = engine.container_logs(&view.id, options).await?;
    let frames = Frames { is_tty: view.spec.streams.tty };
    let timestamps = query.flag("timestamps");
    let details = query.flag("details").then(|| details(&view));
    // what went wrong is told at the end: a client stops at the first
    let all = lines.map(Some).chain(stream::iter([None]));
    let bytes = all.scan(Vec::new(), move |problems, line| {
        let sent = match line {
            Some(Ok(line)) => {
                let mut text = BytesMut::new();
                if timestamps {
                    text.put_slice(log_time(line.time.as_unix_ns()).as_bytes());
                    text.put_u8(b' ');
                }
                if let Some(details) = &details {
                    text.put_slice(details.as_bytes());
                    text.put_u8(b' ');
                }
                text.put_slice(&line.data);
                frames.output(line.is_stderr, text)
            }
            Some(Err(error)) => {
                problems.push(error.to_string());
                Bytes::new()
            }
            None if problems.is_empty() => Bytes::new(),
            None => frames.said(&format!("error: {}\n", problems.join("; "))),
        };
        futures::future::ready(Some(sent))
    });
    let bytes = bytes.filter(|sent| futures::future::ready(!sent.is_empty()));
    let kind = frames.content_type(version);
    let body = Body::from_stream(bytes.map(Ok::<Bytes, std::convert::Infallible>));
    Ok(([(CONTENT_TYPE, kind)], body).into_response())
}

/// What the log driver was asked to show of the container: its options `labels`, `env` and `tag`. Written as moby's
/// `httputils` does it: where that is nothing, its place before the line is there all the same.
fn details(view: &ContainerView) -> String {
    let pair = |(name, value): (&String, &String)| format!("{}={}", escape(name), escape(value));
    view.log_details().iter().map(pair).collect::<Vec<_>>().join(",")
}

fn read(query: &Query) -> ApiResult<LogOptions> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let moment = |name: &str| match query.get(name) {
        "" | "0" => Ok(None),
        text => time::parse(text).map(Some).map_err(|why| ApiError::bad_request(format!("invalid {name}: {why}"))),
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        since: moment("since")?,
        until: moment("until")?,
        // Docker takes what is no number for "all"
        tail: query.get("tail").parse().ok(),
        stdout,
        stderr,
    })
}
