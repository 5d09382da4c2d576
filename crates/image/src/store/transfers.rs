//! How many blobs go over the network at once.

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Store;

/// As many at once, each way; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfers {
    pub downloads: usize,
    pub uploads: usize,
    /// So often a blob is tried to be fetched; at least once.
    pub attempts: u32,
}

impl Default for Transfers {
    /// Docker's (`DefaultMaxConcurrentDownloads`, `DefaultMaxConcurrentUploads`, `DefaultDownloadAttempts`).
    fn default() -> Self {
        Self { downloads: 3, uploads: 5, attempts: 5 }
    }
}

/// One way. A new limit counts for those who come from then on.
pub(crate) struct Slots(Mutex<Arc<Semaphore>>);

impl Slots {
    pub(super) fn new(limit: usize) -> Self {
        Self(Mutex::new(Arc::new(Semaphore::new(limit))))
    }

    fn set(&self, limit: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Semaphore::new(limit.max(1)));
    }

    /// Waits for a place; it is given back when dropped.
    pub(crate) async fn acquire(&self) -> OwnedSemaphorePermit {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        slots.acquire_owned().await.expect("nobody closes it")
    }
}

impl Store {
    /// Changes how many blobs go over the network at once, and how often each is tried.
    pub fn set_transfers(&self, transfers: Transfers) {
        self.inner.download_attempts.store(transfers.attempts.max(1), Ordering::Relaxed);
        self.inner.downloading.set(transfers.downloads);
        self.inner.uploading.set(transfers.uploads);
    }
}
