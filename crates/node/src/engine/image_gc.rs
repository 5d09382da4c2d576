//! Makes room on the disk with the images: those that tasks brought here and that nothing needs any more go, before the disk
//! is full (P27).
//!
//! Looked at before and after a task's image is brought, and every few minutes by the agent, whose assignments say what
//! is needed; while there are none that are known, nothing is collected. What goes is decided in [`decide`]. What a user
//! pulled, loaded or made himself is never touched: the store knows (`image::Store::collect`).

mod decide;
mod limits;

use std::sync::Arc;

use image::Swept;
use nix::sys::statvfs::statvfs;
use tokio::sync::{Mutex, watch};
use types::with_causes;

use self::{
    decide::{Removable, removable},
    limits::Disk,
};
pub(crate) use decide::AssignedImages;
pub(super) use decide::{user_of, user_of_mount};
pub use limits::{ImageGc, Percent};

use super::{Engine, EngineError};

/// What the engine keeps for it.
#[derive(Debug, Default)]
pub(super) struct ImageCollector {
    /// Set by the agent; None: the assignments are not known.
    assigned: watch::Sender<Option<Arc<AssignedImages>>>,
    /// Held by who collects. Whether it was told that too little could be collected, so that it is told once.
    is_short: Mutex<bool>,
}

impl Engine {
    /// What is assigned from now on.
    pub(crate) fn set_assigned_images(&self, assigned: AssignedImages) {
        self.inner.collector.assigned.send_replace(Some(Arc::new(assigned)));
    }

    fn assigned_images(&self) -> Option<Arc<AssignedImages>> {
        self.inner.collector.assigned.borrow().clone()
    }

    /// Notes which images are still used, and makes room if need be.
    pub(crate) async fn look_after_images(&self) {
        let Some(assigned) = self.assigned_images() else { return };
        let store = &self.inner.images;
        let uses = assigned.resolve(|name| store.get(name).ok()).running;
        if let Err(error) = store.note_uses(uses).await {
            tracing::warn!(error = with_causes(&error), "which images are used could not be written down");
        }
        self.collect_images().await;
    }

    /// Makes room if the disk with the images is too full. Who cannot wait for the end may stop waiting.
    pub(super) async fn collect_images(&self) {
        self.make_room(self.info().settings.image_gc).await;
    }

    /// Removes all that may go: an image did not fit.
    pub(super) async fn collect_all_images(&self) {
        if self.info().settings.image_gc != ImageGc::Never {
            self.make_room(ImageGc::ALL).await;
        }
    }

    async fn make_room(&self, limits: ImageGc) {
        if limits == ImageGc::Never {
            return;
        }
        let mut is_short = self.inner.collector.is_short.lock().await;
        let Some(assigned) = self.assigned_images() else { return };
        match self.collect(limits, &assigned).await {
            Ok(full) => {
                if let Some(disk) = full.filter(|_| !*is_short) {
                    tracing::warn!(
                        path = %self.inner.images.root().display(), percent = %disk.percent(),
                        "the disk with the images is too full, and no image is left that may be removed"
                    );
                }
                *is_short = full.is_some();
            }
            Err(error) => tracing::warn!(error = with_causes(&error), "images that nothing needs could not be removed"),
        }
    }

    /// Gives how full the disk is, if that is still too much.
    async fn collect(&self, limits: ImageGc, assigned: &AssignedImages) -> Result<Option<Disk>, EngineError> {
        let store = &self.inner.images;
        let mut disk = self.image_disk()?;
        if !limits.is_too_full(disk) {
            return Ok(None);
        }
        let needs = assigned.resolve(|name| store.get(name).ok());
        for next in removable(&store.task_images(), &needs) {
            if limits.is_enough(disk) {
                break;
            }
            let (engine, id, percent) = (self.clone(), next.id.clone(), disk.percent());
            let swept = store.collect(&id, move |swept| engine.tell_collected(&next, swept, percent)).await?;
            disk = self.image_disk()?.emptier(disk.without(swept.bytes));
        }
        Ok(Some(disk).filter(|disk| limits.is_too_full(*disk)))
    }

    fn tell_collected(&self, image: &Removable, swept: &Swept, percent: u128) {
        tracing::info!(
            image = image.name, id = %image.id, bytes = swept.bytes, why = image.why, disk_percent = %percent,
            "removed an image to make room"
        );
        let metrics = &self.inner.metrics;
        metrics.images_collected.inc();
        metrics.image_bytes_collected.inc_by(swept.bytes);
        self.inner.events.tell_removed_images(image.id.as_str(), &swept.removed);
    }

    fn image_disk(&self) -> Result<Disk, EngineError> {
        let root = self.inner.images.root();
        let stat = statvfs(root).map_err(|error| EngineError::file("measure the disk of", root, error.into()))?;
        let bytes = |blocks: u64| blocks * stat.fragment_size();
        let used = stat.blocks().saturating_sub(stat.blocks_free());
        Ok(Disk { used: bytes(used), free: bytes(stat.blocks_available()) })
    }
}
