//! Writes a container's log, with rotation. Used only by the shim, which alone writes these files.
//! Losing the container's output is worse than losing speed, and stopping the container because the disk is
//! full is worse than losing output: a failed write is reported once and what it held is dropped.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

use nix::poll::PollFd;

use super::{
    Stream,
    entry::encode,
    files,
    forward::{Forwarder, Line},
    packer::Packer,
};
use crate::{
    config::{LogConfig, LogDriver},
    time::{self, Rfc3339},
};

/// Entries are gathered up to here before they are written, and always written at the end of a turn.
const BUFFER: usize = 32 * 1024;

pub(crate) struct LogWriter {
    path: PathBuf,
    max_size_bytes: u64,
    max_files: u32,
    /// Whether files that were rotated are compressed.
    compress: bool,
    /// Who does it at the moment.
    packer: Option<Packer>,
    /// `None`: nothing is kept.
    file: Option<File>,
    /// Where each line goes too.
    forward: Option<Forwarder>,
    /// Bytes in the file and in the buffer.
    size: u64,
    buffer: Vec<u8>,
    clock: Rfc3339,
    /// When what is being added was read.
    now_ns: u64,
    failing: bool,
}

impl LogWriter {
    /// Opens the log and goes on at its end.
    pub(crate) fn open(config: &LogConfig) -> io::Result<Self> {
        let (max_size_bytes, max_files, compress, file) = match config.driver {
            LogDriver::None => (0, 1, false, None),
            LogDriver::JsonFile { max_size_bytes, max_files, compress } => {
                (max_size_bytes, max_files.max(1), compress && max_files > 1, Some(open(&config.path)?))
            }
        };
        let size = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|metadata| metadata.len()))?;
        Ok(Self {
            path: config.path.clone(),
            max_size_bytes,
            max_files,
            compress,
            packer: None,
            file,
            forward: config.forward.as_ref().map(Forwarder::open).transpose()?,
            size,
            buffer: Vec::new(),
            clock: Rfc3339::new(),
            now_ns: time::now_ns(),
            failing: false,
        })
    }

    /// Entries from now on bear this moment's time: one look at the clock for all the lines of one read.
    pub(crate) fn tick(&mut self) {
        self.now_ns = time::now_ns();
        self.go_on();
    }

    /// Sends what waits for a log server, as far as that takes it now.
    fn go_on(&mut self) {
        if let Some(forward) = &mut self.forward {
            forward.go_on();
        }
    }

    /// What to wait for before the next [`Self::flush`], if a log server is to take more.
    pub(crate) fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.forward.as_ref().and_then(Forwarder::poll_fd)
    }

    /// When [`Self::flush`] is due in any case.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.forward.as_ref().and_then(Forwarder::deadline)
    }

    /// Whether a log server has to catch up before more of the output may be read.
    pub(crate) fn is_behind(&self) -> bool {
        self.forward.as_ref().is_some_and(Forwarder::is_behind)
    }

    /// Adds an entry; it is in the file after the next `flush`.
    pub(crate) fn entry(&mut self, stream: Stream, text: &[u8], newline: bool) {
        if let Some(forward) = &mut self.forward {
            forward.send(Line { stream, text, is_whole: newline, at_ns: self.now_ns });
        }
        if self.file.is_none() {
            return;
        }
        if self.max_size_bytes > 0 && self.size >= self.max_size_bytes {
            self.write();
            let rotated = self.rotate();
            self.report(rotated);
        }
        let before = self.buffer.len();
        encode(&mut self.buffer, stream, text, newline, self.clock.format(self.now_ns));
        self.size += (self.buffer.len() - before) as u64;
        if self.buffer.len() >= BUFFER {
            self.write();
        }
    }

    /// Writes what has been gathered, and gives a large buffer back.
    pub(crate) fn flush(&mut self) {
        self.go_on();
        self.write();
    }

    fn write(&mut self) {
        let Some(file) = &mut self.file else { return };
        if self.buffer.is_empty() {
            return;
        }
        let written = file.write_all(&self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
        self.report(written);
    }

    /// The container has ended: what was gathered is written, and sent as far as it is taken.
    pub(crate) fn finish(&mut self) {
        self.write();
        self.buffer = Vec::new();
        if let Some(forward) = &mut self.forward {
            forward.finish();
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        // A container that writes faster than its files are compressed waits here, as for a slow disk.
        if let Some(packer) = self.packer.take() {
            packer.finish();
        }
        files::rotate(&self.path, self.max_files)?;
        self.file = Some(open(&self.path)?);
        self.size = 0;
        if self.compress {
            self.packer = Some(Packer::begin(&self.path)?);
        }
        Ok(())
    }

    /// One line in the shim's own error file when writing begins to fail; the next success forgets it.
    fn report(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.failing = false,
            Err(err) if !self.failing => {
                self.failing = true;
                let line = format!("cannot write the log {}: {err}; output is being lost\n", self.path.display());
                io::stderr().write_all(line.as_bytes()).ok();
            }
            Err(_) => {}
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|err| io::Error::new(err.kind(), format!("cannot open the log {}: {err}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::entry::decode;

    #[test]
    fn rotation_keeps_the_newest_files_and_cuts_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let driver = LogDriver::JsonFile { max_size_bytes: 1000, max_files: 3, compress: false };
        let mut log = LogWriter::open(&LogConfig { path: path.clone(), driver, forward: None }).unwrap();
        for number in 0..100 {
            log.entry(Stream::Stdout, format!("line {number}").as_bytes(), true);
        }
        log.flush();
        let kept = files::open_all(&path, 10).unwrap();
        assert_eq!(kept.len(), 3);
        let text: String = kept.into_iter().map(|file| io::read_to_string(file.plain().unwrap().0).unwrap()).collect();
        let lines: Vec<_> = text.lines().map(|line| decode(line.as_bytes()).unwrap().bytes).collect();
        let first = 100 - lines.len();
        assert!(first > 0 && lines.len() > 20);
        for (number, line) in (first..100).zip(&lines) {
            assert_eq!(*line, format!("line {number}\n").into_bytes());
        }
        // A writer that starts again goes on where the last one stopped.
        drop(log);
        let mut log = LogWriter::open(&LogConfig { path: path.clone(), driver, forward: None }).unwrap();
        log.entry(Stream::Stderr, b"again", true);
        log.flush();
        assert!(std::fs::read_to_string(&path).unwrap().contains("again"));
    }
}
