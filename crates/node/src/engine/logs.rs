//! Reading what a task's container wrote.

use std::path::{Path, PathBuf};

use futures::{Stream, StreamExt, stream::BoxStream};
use runtime::{LogConfig, LogDriver, LogQuery};
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
    let entries = match engine.inner.runtime.logs(&container_id(task), &query) {
        Err(runtime::Error::NotFound { .. }) => kept(engine, task, &query)?,
        found => found.map_err(|error| EngineError::Runtime(with_causes(&error)))?,
    };
    Ok(lines(entries))
}

/// Of a task whose container is gone, by a reboot or because somebody removed it: the files stay as long as the task.
fn kept(engine: &Engine, task: TaskId, query: &LogQuery) -> Result<runtime::LogStream, EngineError> {
    let path = kept_file(&engine.log_files(task)).ok_or_else(|| EngineError::NoSuchTask(task.to_string()))?;
    let files = path.parent().and_then(|directory| std::fs::read_dir(directory).ok()).map_or(1, Iterator::count);
    let max_files = u32::try_from(files).unwrap_or(u32::MAX);
    let driver = LogDriver::JsonFile { max_size_bytes: 0, max_files, compress: false };
    let log = LogConfig { path, driver, forward: None };
    let entries = engine.inner.runtime.logs_at(&container_id(task), &log, query);
    entries.map_err(|error| EngineError::Runtime(with_causes(&error)))
}

/// The first of these that is there; else one that would be, if anything had been written.
fn kept_file(files: &[PathBuf; 3]) -> Option<PathBuf> {
    let has_place = |path: &&PathBuf| path.parent().is_some_and(Path::exists);
    files.iter().find(|path| path.exists()).or_else(|| files.iter().find(has_place)).cloned()
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// S-62: the log of a task whose container is gone is found under each name that it may have, also where the version before
    /// put it.
    #[test]
    fn s_62_a_log_without_its_container_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = ["new/kept-lines.json", "new/c1-json.log", "old/json.log"].map(|name| directory.path().join(name));
        let found = || kept_file(&files);
        assert_eq!(found(), None, "no such task");
        fs::create_dir(directory.path().join("old")).expect("made");
        fs::write(&files[2], "").expect("written");
        assert_eq!(found().as_ref(), Some(&files[2]));
        fs::create_dir(directory.path().join("new")).expect("made");
        assert_eq!(found().as_ref(), Some(&files[2]), "the other place is empty");
        for file in [1, 0] {
            fs::write(&files[file], "").expect("written");
            assert_eq!(found().as_ref(), Some(&files[file]));
        }
        fs::remove_dir_all(directory.path().join("old")).expect("removed");
        fs::remove_file(&files[0]).expect("removed");
        fs::remove_file(&files[1]).expect("removed");
        assert_eq!(found().as_ref(), Some(&files[0]), "it has written nothing");
    }
}
