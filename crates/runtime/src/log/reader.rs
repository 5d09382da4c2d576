//! Reading a container's log while its shim may be writing and rotating it. Used by the daemon for
//! `logs`. It only reads; following costs nothing while the container is silent.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use nix::{
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
    unistd::read,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    task::JoinHandle,
};

use super::{
    LogEntry, Stream,
    entry::decode,
    files::{self, Identity, LogFile},
};
use crate::{config::LogConfig, config::LogDriver, record::ContainerDir};

/// Entries between the reader and a slow caller; the reader waits when it is full.
const QUEUE: usize = 256;

/// A rotation takes microseconds; one that is met so often in a row is not one.
const ROTATION_RETRIES: u32 = 1000;

/// Which part of a log is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on with what is written from now on, until the container has ended.
    pub follow: bool,
    /// Nanoseconds since 1970; entries from then on. 0: from the beginning.
    pub since_ns: u64,
    /// Entries up to then. 0: no end.
    pub until_ns: u64,
    /// Only so many of the last entries.
    pub tail: Option<u64>,
    pub stdout: bool,
    pub stderr: bool,
}

impl Default for LogQuery {
    /// Everything there is.
    fn default() -> Self {
        Self { follow: false, since_ns: 0, until_ns: 0, tail: None, stdout: true, stderr: true }
    }
}

/// The entries of a log, in the order in which they were written; after an error those that can be read. Dropping it ends
/// the reading.
pub struct LogStream {
    entries: mpsc::Receiver<io::Result<LogEntry>>,
    task: JoinHandle<()>,
}

impl Drop for LogStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl tokio_stream::Stream for LogStream {
    type Item = io::Result<LogEntry>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.entries.poll_recv(context)
    }
}

/// Begins to read. Must be called within a tokio runtime.
pub(crate) fn open(config: &LogConfig, dir: &ContainerDir, query: &LogQuery) -> io::Result<LogStream> {
    let LogDriver::JsonFile { max_files, .. } = config.driver else {
        return Err(io::Error::other("it keeps none: its log driver is none"));
    };
    // Watch before looking, so that nothing falls between.
    let watch = if query.follow { Some(watch(&config.path, dir.path())?) } else { None };
    let (sender, entries) = mpsc::channel(QUEUE);
    let reader = Reader {
        path: config.path.clone(),
        max_files,
        queue: files::open_all(&config.path, max_files)?.into(),
        current: None,
        begun: Vec::new(),
        query: query.clone(),
        sender,
    };
    let dir = dir.clone();
    let task = tokio::spawn(async move {
        let sender = reader.sender.clone();
        if let Err(err) = reader.run(watch, &dir).await {
            sender.send(Err(err)).await.ok();
        }
    });
    Ok(LogStream { entries, task })
}

#[allow(deprecated, reason = "the newer constructor is unsafe and asks for what an OwnedFd gives")]
/// Wakes up when the log or the container's directory changes.
fn watch(log: &Path, dir: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    let parent = log.parent().ok_or_else(|| io::Error::other("the log has no directory"))?;
    inotify.add_watch(parent, flags)?;
    inotify.add_watch(dir, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF)?;
    AsyncFd::with_interest(inotify.into(), Interest::READABLE)
}

struct Reader {
    path: PathBuf,
    max_files: u32,
    /// Files still to be read, oldest first.
    queue: VecDeque<LogFile>,
    current: Option<(Identity, BufReader<File>)>,
    /// A line whose end has not been written yet.
    begun: Vec<u8>,
    query: LogQuery,
    sender: mpsc::Sender<io::Result<LogEntry>>,
}

impl Reader {
    async fn run(mut self, watch: Option<AsyncFd<OwnedFd>>, dir: &ContainerDir) -> io::Result<()> {
        if let Some(count) = self.query.tail {
            self.skip_to_tail(count).await?;
        }
        loop {
            // Asked before reading: a container that has ended writes nothing more.
            let ended = !dir.path().exists() || dir.exit()?.is_some();
            if !self.read_all().await? {
                return Ok(()); // nobody listens, or the end of the wanted time is reached
            }
            let Some(watch) = &watch else { return Ok(()) };
            if ended {
                return Ok(());
            }
            let mut guard = watch.readable().await?;
            let mut events = [0_u8; 4096];
            while read(watch.get_ref(), &mut events).is_ok() {}
            guard.clear_ready();
        }
    }

    /// Gives out all there is; false if no more is wanted.
    async fn read_all(&mut self) -> io::Result<bool> {
        loop {
            while let Some(line) = self.next_line()? {
                // A damaged line, as a full disk leaves one, is skipped: the rest is still good.
                let Some(entry) = decode(&line) else { continue };
                if self.query.until_ns > 0 && entry.ts_ns > self.query.until_ns {
                    return Ok(false);
                }
                let wanted = match entry.stream {
                    Stream::Stdout => self.query.stdout,
                    Stream::Stderr => self.query.stderr,
                };
                if wanted && entry.ts_ns >= self.query.since_ns && self.sender.send(Ok(entry)).await.is_err() {
                    return Ok(false);
                }
            }
            if !self.next_file().await? {
                return Ok(true);
            }
        }
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((_, current)) = &mut self.current else { return Ok(None) };
        current.read_until(b'\n', &mut self.begun)?;
        Ok(self.begun.ends_with(b"\n").then(|| std::mem::take(&mut self.begun)))
    }

    /// Goes to the next newer file, or says that there is none.
    async fn next_file(&mut self) -> io::Result<bool> {
        let next = match self.queue.pop_front() {
            Some(next) => Some(next),
            None => self.newer_file().await?,
        };
        let Some(next) = next else { return Ok(false) };
        // It was rotated away between our last read and now: first what it got meanwhile.
        if let Some((_, current)) = &mut self.current
            && !current.fill_buf()?.is_empty()
        {
            self.queue.push_front(next);
            return Ok(true);
        }
        self.current = Some((next.id, BufReader::with_capacity(64 * 1024, self.plain(next).await?)));
        self.begun.clear();
        Ok(true)
    }

    /// The file after the one that has just been read. While the writer rotates, a name can be missing
    /// or stand for another file for a moment; so what was opened only counts if the file we come from still is
    /// its neighbour.
    async fn newer_file(&self) -> io::Result<Option<LogFile>> {
        let Some((current, _)) = &self.current else { return files::open_at(&self.path, 0) };
        for _ in 0..ROTATION_RETRIES {
            let age = files::age_of(*current, &self.path, self.max_files)?;
            match age {
                Some(0) => return Ok(None),
                Some(age) => {
                    let newer = files::open_at(&self.path, age - 1)?;
                    let still = files::age_of(*current, &self.path, self.max_files)? == Some(age);
                    if still && (newer.is_some() || age == 1) {
                        return Ok(newer);
                    }
                }
                // Thrown away: all that is left is newer, the oldest of it is next.
                None => return Ok(files::open_all(&self.path, self.max_files)?.into_iter().next()),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(io::Error::other(format!("{} is being rotated without end", self.path.display())))
    }

    /// Moves to the place from which `count` lines are left.
    async fn skip_to_tail(&mut self, count: u64) -> io::Result<()> {
        let (mut missing, mut keep) = (count, VecDeque::new());
        while let Some(next) = self.queue.pop_back() {
            let id = next.id;
            let mut file = self.plain(next).await?;
            let (offset, found) = tail_offset(&file, missing)?;
            file.seek(SeekFrom::Start(offset))?;
            keep.push_front(LogFile::opened(id, file));
            missing -= found;
            if missing == 0 {
                break;
            }
        }
        self.queue = keep;
        Ok(())
    }

    /// Unpacking a large file takes a while: on a thread that may block. A damaged one is told of, and the next is read.
    async fn plain(&self, file: LogFile) -> io::Result<File> {
        let (file, damage) = tokio::task::spawn_blocking(|| file.plain()).await.map_err(io::Error::other)??;
        if let Some(damage) = damage {
            self.sender.send(Err(damage)).await.ok();
        }
        Ok(file)
    }
}

/// Where the last `count` whole lines of a file begin, and how many there are.
fn tail_offset(file: &File, count: u64) -> io::Result<(u64, u64)> {
    const BLOCK: u64 = 64 * 1024;
    let length = file.metadata()?.len();
    let (mut end, mut found) = (length, 0);
    if count == 0 {
        return Ok((length, 0));
    }
    let mut block = vec![0; BLOCK as usize];
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let bytes = &mut block[..usize::try_from(end - begin).expect("a block is small")];
        file.read_exact_at(bytes, begin)?;
        for (at, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The newline that ends line n from the end stands before line n - 1.
            if found == count {
                return Ok((begin + at as u64 + 1, found));
            }
            found += 1;
        }
        end = begin;
    }
    Ok((0, found))
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
