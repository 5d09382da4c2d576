//! Reading what a task's container wrote.

use futures::{Stream, StreamExt, stream::BoxStream};
use runtime::LogQuery;
use types::{TaskId, Timestamp, with_causes};

use super::{Engine, EngineError, container_id};

/// Which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with new lines until the container has ended.
    pub follow: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Lines from the end; `None` for all.
    pub tail: Option<u64>,
    pub stdout: bool,
    pub stderr: bool,
}

/// One line, or a piece of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub time: Timestamp,
    pub is_stderr: bool,
    /// With its newline where it had one.
    pub data: Vec<u8>,
}

/// After an error those that can be read. Dropping it ends the reading.
pub type LogStream = BoxStream<'static, Result<LogLine, EngineError>>;

pub(super) fn open(engine: &Engine, task: TaskId, options: LogOptions) -> Result<LogStream, EngineError> {
    let query = LogQuery {
        follow: options.follow,
        since_ns: options.since.map_or(0, Timestamp::as_unix_ns),
        until_ns: options.until.map_or(0, Timestamp::as_unix_ns),
        tail: options.tail,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    let entries = engine.inner.runtime.logs(&container_id(task), &query).map_err(|error| match error {
        runtime::Error::NotFound { .. } => EngineError::NoSuchTask(task.to_string()),
        other => EngineError::Runtime(with_causes(&other)),
    })?;
    Ok(lines(entries))
}

pub(super) fn lines(entries: impl Stream<Item = std::io::Result<runtime::LogEntry>> + Send + 'static) -> LogStream {
    let line = |entry: std::io::Result<runtime::LogEntry>| {
        let entry = entry.map_err(|e| EngineError::Runtime(format!("read the log: {e}")))?;
        Ok(LogLine {
            time: Timestamp::from_unix_ns(entry.ts_ns),
            is_stderr: entry.stream == runtime::Stream::Stderr,
            data: entry.bytes,
        })
    };
    entries.map(line).boxed()
}
