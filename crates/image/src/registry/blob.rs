//! Downloads one blob: hashed while it streams to disk, continued after a cut connection, tried again
//! with growing pauses. Called by pull for each configuration and layer.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Response, StatusCode, body::Incoming, header};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{client::Registry, http::SILENCE_TIMEOUT};
use crate::{
    digest::Digest,
    document::Descriptor,
    error::{Error, Result},
    progress::{Progress, ProgressStatus},
    store::{Store, Temp, blocking, create_file},
};

/// Doubled after each failed attempt: 0.5, 1, 2, 4 s and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A registry that was away is asked again within a minute (32 s), however often it was.
const MOST_DOUBLINGS: u32 = 6;
/// Pieces between network and disk; with pieces of 16 KiB or so this is at most about a megabyte.
const QUEUE: usize = 64;
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What has arrived so far.
struct Partial {
    file: File,
    path: PathBuf,
    hash: Sha256,
    bytes: u64,
    _temp: Temp,
}

impl Partial {
    fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|e| Error::file("empty", &self.path, e))?;
        (self.hash, self.bytes) = (Sha256::new(), 0);
        Ok(())
    }

    fn append(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(|e| match Error::file("write", &self.path, e) {
            Error::NoSpace { path, .. } => Error::NoSpace { action: "downloading".to_owned(), path },
            other => other,
        })?;
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }
}

/// Why an attempt ended early.
enum Failure {
    /// Try again, going on where it stopped.
    Broken(Error),
    Final(Error),
}

/// Downloads one blob unless the store has it.
pub(super) struct Download<'a> {
    pub store: &'a Store,
    pub registry: &'a Registry,
    pub blob: &'a Descriptor,
    pub progress: &'a Progress,
    pub cancel: &'a CancellationToken,
}

impl Download<'_> {
    /// After it the blob is in the store, verified and synced. Gives whether it was downloaded for that.
    pub(super) async fn run(&self) -> Result<bool> {
        let digest = &self.blob.digest;
        let lock = self.store.inner.work_on(digest);
        let _mine = lock.lock().await;
        if self.store.inner.blob_size(digest) == Some(self.blob.size) {
            self.progress.say(digest.short(), ProgressStatus::AlreadyExists);
            return Ok(false);
        }
        self.progress.say(digest.short(), ProgressStatus::PullingLayer);
        let inner = Arc::clone(&self.store.inner);
        let _slot = inner.downloading.acquire().await;
        tokio::select! {
            result = self.attempts() => result.map(|()| true),
            () = self.cancel.cancelled() => Err(Error::Interrupted("another part of the image failed".to_owned())),
        }
    }

    async fn attempts(&self) -> Result<()> {
        let inner = Arc::clone(&self.store.inner);
        let mut partial = blocking("preparing a download", move || {
            let temp = inner.temp()?;
            let path = temp.path.join("blob");
            Ok(Partial { file: create_file(&path)?, path, hash: Sha256::new(), bytes: 0, _temp: temp })
        })
        .await?;
        let most = self.store.inner.download_attempts.load(Ordering::Relaxed);
        let mut attempt = 1;
        loop {
            let resumed = partial.bytes > 0;
            let (back, result) = self.attempt(partial).await?;
            partial = back;
            let failure = match result {
                Ok(()) => match self.verify(&partial) {
                    Ok(()) => return self.keep(partial).await,
                    // The two halves may be of different files: once more from the beginning.
                    Err(error) if resumed => {
                        partial.restart()?;
                        Failure::Broken(error)
                    }
                    Err(error) => Failure::Final(error),
                },
                Err(failure) => failure,
            };
            match failure {
                Failure::Broken(error) if attempt < most => {
                    let pause = FIRST_PAUSE * 2u32.pow((attempt - 1).min(MOST_DOUBLINGS));
                    tracing::debug!(blob = %self.blob.digest, attempt, %error, "download broke, trying again");
                    self.progress
                        .say(self.blob.digest.short(), ProgressStatus::Retrying { seconds: pause.as_secs().max(1) });
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                Failure::Broken(error) | Failure::Final(error) => return Err(error),
            }
        }
    }

    /// One request. The partial file comes back in any case; the outer error is one of our own disk.
    async fn attempt(&self, mut partial: Partial) -> Result<(Partial, Result<(), Failure>)> {
        let response = match self.registry.blob(&self.blob.digest, partial.bytes).await {
            Ok(response) => response,
            Err(Error::RegistryStatus { status: 416, .. }) => {
                partial.restart()?;
                let error = self.registry.unreachable("it cannot go on with a partial download".to_owned());
                return Ok((partial, Err(Failure::Broken(error))));
            }
            Err(error) if error.is_transient() => return Ok((partial, Err(Failure::Broken(error)))),
            Err(error) => return Ok((partial, Err(Failure::Final(error)))),
        };
        if partial.bytes > 0 && !continues_at(&response, partial.bytes) {
            partial.restart()?;
        }
        let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUE);
        let already = partial.bytes;
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(piece) = receiver.blocking_recv() {
                partial.append(&piece)?;
            }
            Ok(partial)
        });
        let result = self.receive(response.into_body(), &sender, already).await;
        drop(sender);
        match writer.await {
            Ok(Ok(partial)) => Ok((partial, result)),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(Error::Interrupted(format!("writing a download: {error}"))),
        }
    }

    /// Passes the body on to the writer.
    async fn receive(&self, mut body: Incoming, writer: &mpsc::Sender<Bytes>, already: u64) -> Result<(), Failure> {
        let broken = |reason: String| Failure::Broken(self.registry.unreachable(reason));
        let (mut bytes, total) = (already, self.blob.size);
        let mut last_word = Instant::now();
        loop {
            let frame = match tokio::time::timeout(SILENCE_TIMEOUT, body.frame()).await {
                Err(_) => return Err(broken(format!("nothing came for {} s", SILENCE_TIMEOUT.as_secs()))),
                Ok(Some(Err(error))) => return Err(broken(format!("the connection broke: {error}"))),
                Ok(Some(Ok(frame))) => frame,
                Ok(None) if bytes < total => {
                    return Err(broken(format!("the download ended after {bytes} of {total} bytes")));
                }
                Ok(None) => return Ok(()),
            };
            let Ok(piece) = frame.into_data() else { continue };
            bytes += piece.len() as u64;
            if bytes > total {
                let what = format!("blob {}", self.blob.digest.short());
                return Err(Failure::Final(Error::SizeMismatch { what, expected: total, actual: bytes }));
            }
            if writer.send(piece).await.is_err() {
                return Ok(()); // the writer stopped; its error is the one that counts
            }
            if last_word.elapsed() >= PROGRESS_EVERY || bytes == total {
                last_word = Instant::now();
                self.progress.count(self.blob.digest.short(), ProgressStatus::Downloading, bytes, total);
            }
        }
    }

    fn verify(&self, partial: &Partial) -> Result<()> {
        let what = format!("blob {}", self.blob.digest.short());
        if partial.bytes != self.blob.size {
            return Err(Error::SizeMismatch { what, expected: self.blob.size, actual: partial.bytes });
        }
        let (expected, actual) = (self.blob.digest.clone(), Digest::from_hash(partial.hash.clone()));
        if actual == expected { Ok(()) } else { Err(Error::DigestMismatch { what, expected, actual }) }
    }

    async fn keep(&self, partial: Partial) -> Result<()> {
        let (inner, digest) = (Arc::clone(&self.store.inner), self.blob.digest.clone());
        blocking("keeping a download", move || {
            partial.file.sync_all().map_err(|e| Error::file("sync", &partial.path, e))?;
            inner.name_blob(&partial.path, &digest)
        })
        .await?;
        self.progress.say(self.blob.digest.short(), ProgressStatus::DownloadComplete);
        Ok(())
    }
}

/// Whether a partial answer begins where we stopped.
fn continues_at(response: &Response<Incoming>, offset: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|r| r.to_str().ok());
    let start = range.and_then(|r| r.strip_prefix("bytes ")?.split('-').next()?.trim().parse::<u64>().ok());
    // Some servers leave the header out of an otherwise right answer; the digest decides in the end.
    response.status() == StatusCode::PARTIAL_CONTENT && start.is_none_or(|s| s == offset)
}
