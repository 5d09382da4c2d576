//! Writes the agent's state to disk, never more than one write at a time and never in the loop's way.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::assigned::{Saved, StateFile, StateFileError};

/// Between two writes: each costs a flush of the disk, and what is lost between them is asked of the
/// managers or of the containers again.
const PAUSE: Duration = Duration::from_millis(200);

/// The file and the write in progress.
#[derive(Debug)]
pub(super) struct Keeper {
    file: StateFile,
    is_dirty: bool,
    not_before: Instant,
    writing: Option<JoinHandle<Result<(), StateFileError>>>,
}

impl Keeper {
    pub(super) fn new(file: StateFile) -> Self {
        Self { file, is_dirty: false, not_before: Instant::now(), writing: None }
    }

    /// Something changed.
    pub(super) fn mark(&mut self) {
        self.is_dirty = true;
    }

    /// Waits until there is something to do: a write ended, or one may begin. Safe to cancel.
    pub(super) async fn due(&mut self) {
        match &mut self.writing {
            Some(writing) => {
                let result = writing.await;
                self.writing = None;
                self.ended(result);
            }
            None if self.is_dirty => sleep_until(self.not_before).await,
            None => std::future::pending().await,
        }
    }

    /// Whether a write is wanted and may begin.
    pub(super) fn is_due(&self) -> bool {
        self.is_dirty && self.writing.is_none() && Instant::now() >= self.not_before
    }

    /// Begins a write; for when it is due.
    pub(super) fn write(&mut self, saved: Saved) {
        self.is_dirty = false;
        self.not_before = Instant::now() + PAUSE;
        let file = self.file.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || file.save(&saved)));
    }

    /// Writes what is left, at the end.
    pub(super) async fn finish(mut self, saved: Saved) {
        if let Some(writing) = self.writing.take() {
            let result = writing.await;
            self.ended(result);
        }
        if self.is_dirty {
            let file = self.file.clone();
            let result = tokio::task::spawn_blocking(move || file.save(&saved)).await;
            self.ended(result);
        }
    }

    /// Removes the file, at the end of the node's membership.
    pub(super) async fn erase(mut self) {
        if let Some(writing) = self.writing.take() {
            let result = writing.await;
            self.ended(result);
        }
        if let Err(error) = self.file.remove() {
            tracing::warn!(%error, "the kept assignments could not be removed");
        }
    }

    fn ended(&mut self, result: Result<Result<(), StateFileError>, tokio::task::JoinError>) {
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the assignments could not be kept on disk; trying again");
                self.is_dirty = true;
            }
            Err(error) => tracing::warn!(%error, "keeping the assignments was broken off"),
        }
    }
}
