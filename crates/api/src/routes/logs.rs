//! `/services/{id}/logs`, `/tasks/{id}/logs`: Docker's framing around the managers' stream.

use axum::{
    Extension,
    body::Body,
    extract::{Path, RawQuery, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use node::engine::{FRAME_HEADER, FrameKind, frame_header};
use proto::v1::{LogLine, LogOptions, LogsCall, LogsEvent, logs_event::Event};
use types::{ServiceId, Timestamp};

use super::query;
use crate::{
    cluster,
    convert::time,
    error::{ApiError, ApiResult},
    hijack::NAMES_FRAMES,
    query::Query,
    router::{ApiVersion, Shared},
};

pub(crate) async fn of_service(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<Response> {
    let service = cluster::service(&shared.membership, &id).await?.service;
    let call = LogsCall { service: service.id.to_string(), task: String::new(), options: None };
    answer(&shared, call, service.id, (service.task_spec.container.tty, version), &query(raw)).await
}

pub(crate) async fn of_task(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<Response> {
    let task = cluster::task(&shared.membership, &id).await?;
    let call = LogsCall { service: String::new(), task: task.id.to_string(), options: None };
    answer(&shared, call, task.service, (task.spec.container.tty, version), &query(raw)).await
}

async fn answer(
    shared: &Shared,
    mut call: LogsCall,
    service: ServiceId,
    (is_tty, version): (bool, ApiVersion),
    query: &Query,
) -> ApiResult<Response> {
    call.options = Some(read_options(query)?);
    let form = Form {
        frames: Frames { is_tty },
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        service,
    };
    let events = cluster::client(&shared.membership)?.logs(call).await.map_err(cluster::explain)?.into_inner();
    // Warnings wait for the end: a client stops at the first.
    let lines =
        stream::unfold((events, form, Vec::new(), false), |(mut events, form, mut warnings, ended)| async move {
            if ended {
                return None;
            }
            loop {
                match events.next().await {
                    Some(Ok(LogsEvent { event: Some(Event::Line(line)) })) => {
                        return Some((form.line(&line), (events, form, warnings, false)));
                    }
                    Some(Ok(LogsEvent { event: Some(Event::Warning(warning)) })) => warnings.push(warning),
                    Some(Ok(LogsEvent { event: None })) => {}
                    Some(Err(status)) => warnings.push(cluster::explain(status).message),
                    None => {
                        let last = form.warnings(&warnings);
                        return (!last.is_empty()).then_some((last, (events, form, Vec::new(), true)));
                    }
                }
            }
        });
    let body = Body::from_stream(lines.map(Ok::<Bytes, std::convert::Infallible>));
    Ok(([(CONTENT_TYPE, Frames { is_tty }.content_type(version))], body).into_response())
}

fn read_options(query: &Query) -> ApiResult<LogOptions> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let time = |name: &str| -> ApiResult<u64> {
        let text = query.get(name);
        let bad = |why| ApiError::bad_request(format!("invalid {name}: {why}"));
        if text.is_empty() { Ok(0) } else { time::parse(text).map(Timestamp::as_unix_ns).map_err(bad) }
    };
    let tail = match query.get("tail") {
        "" | "all" => -1,
        // Docker takes what is no number for "all".
        text => text.parse::<i64>().unwrap_or(-1),
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        since_ns: time("since")?,
        until_ns: time("until")?,
        tail,
        stdout,
        stderr,
    })
}

/// Docker's framing of output; that of a terminal has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames {
    pub(crate) is_tty: bool,
}

impl Frames {
    /// Frames have a name of their own since a certain version.
    pub(crate) fn content_type(self, version: ApiVersion) -> &'static str {
        let are_named = !self.is_tty && version >= NAMES_FRAMES;
        if are_named { "application/vnd.docker.multiplexed-stream" } else { "application/vnd.docker.raw-stream" }
    }

    pub(crate) fn output(self, is_stderr: bool, text: BytesMut) -> Bytes {
        self.frame(FrameKind::of_output(is_stderr), text)
    }

    /// What the daemon itself has to say.
    pub(crate) fn said(self, text: &str) -> Bytes {
        self.frame(FrameKind::System, BytesMut::from(text.as_bytes()))
    }

    fn frame(self, kind: FrameKind, text: BytesMut) -> Bytes {
        if self.is_tty {
            return text.freeze();
        }
        let mut frame = BytesMut::with_capacity(FRAME_HEADER + text.len());
        frame.put_slice(&frame_header(kind, text.len()));
        frame.put(text);
        frame.freeze()
    }
}

/// How lines are written.
struct Form {
    frames: Frames,
    timestamps: bool,
    details: bool,
    service: ServiceId,
}

impl Form {
    fn line(&self, line: &LogLine) -> Bytes {
        let mut text = BytesMut::new();
        if self.timestamps {
            text.put_slice(log_time(line.time_ns).as_bytes());
            text.put_u8(b' ');
        }
        if self.details {
            let (node, service, task) = (&line.node, self.service, &line.task);
            text.put_slice(
                format!(
                    "com.docker.swarm.node.id={node},com.docker.swarm.service.id={service},com.docker.swarm.task.id={task} "
                )
                .as_bytes(),
            );
        }
        text.put_slice(&line.data);
        if !line.data.ends_with(b"\n") {
            text.put_u8(b'\n');
        }
        self.frames.output(line.is_stderr, text)
    }

    fn warnings(&self, warnings: &[String]) -> Bytes {
        match warnings.is_empty() {
            true => Bytes::new(),
            false => self.frames.said(&format!("warning: incomplete log stream: {}\n", warnings.join("; "))),
        }
    }
}

/// All nine digits, so that lines sort as text.
pub(crate) fn log_time(ns: u64) -> String {
    let seconds = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    let whole = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), ns % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_frame_has_stream_length_time_and_origin() {
        let form = Form {
            frames: Frames { is_tty: false },
            timestamps: true,
            details: true,
            service: ServiceId::from_random(1),
        };
        let line = LogLine {
            task: "t".into(),
            node: "n".into(),
            is_stderr: true,
            time_ns: 1_700_000_000_000_000_001,
            data: b"hello".to_vec(),
        };
        let frame = form.line(&line);
        assert_eq!(&frame[..4], [2, 0, 0, 0]);
        assert_eq!(u32::from_be_bytes(frame[4..8].try_into().expect("four bytes")) as usize, frame.len() - 8);
        expect![[r#"
            2023-11-14T22:13:20.000000001Z com.docker.swarm.node.id=n,com.docker.swarm.service.id=0000000000000000000000001,com.docker.swarm.task.id=t hello
        "#]]
        .assert_eq(&String::from_utf8_lossy(&frame[8..]));
    }

    #[test]
    fn a_stream_must_be_chosen() {
        assert!(read_options(&Query::parse("follow=1")).expect_err("none").message.contains("at least one stream"));
        let options = read_options(&Query::parse("stdout=1&tail=5&since=1.5")).expect("good");
        assert_eq!((options.tail, options.since_ns, options.follow), (5, 1_500_000_000, false));
    }
}
