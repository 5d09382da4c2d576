//! Reading what a task's container wrote.

use futures::{Stream, StreamExt, stream::BoxStream};
use runtime::{LogConfig, LogDriver, LogQuery};
use types::{TaskId, Timestamp, with_causes};

use super::{Engine, EngineError, container_id, log_driver};

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
    let entries = match engine.inner.runtime.logs(&container_id(task), &query) {
        Err(runtime::Error::NotFound { .. }) => kept(engine, task, &query)?,
        found => found.map_err(|error| EngineError::Runtime(with_causes(&error)))?,
    };
    Ok(lines(entries))
}

/// Of a task whose container is gone, by a reboot or because somebody removed it: the files stay as long as the task.
fn kept(engine: &Engine, task: TaskId, query: &LogQuery) -> Result<runtime::LogStream, EngineError> {
    let (id, directory) = (container_id(task), engine.log_directory(task));
    let files = std::fs::read_dir(&directory).map(Iterator::count);
    let files = files.map_err(|_| EngineError::NoSuchTask(task.to_string()))?;
    let max_files = u32::try_from(files).unwrap_or(u32::MAX);
    let driver = LogDriver::JsonFile { max_size_bytes: 0, max_files, compress: false };
    let [first, second] = log_driver::file_names(&id).map(|name| directory.join(name));
    let path = if second.exists() { second } else { first };
    let entries = engine.inner.runtime.logs_at(&id, &LogConfig { path, driver, forward: None }, query);
    entries.map_err(|error| EngineError::Runtime(with_causes(&error)))
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
