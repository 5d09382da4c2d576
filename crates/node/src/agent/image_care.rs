//! Every few minutes: which images are still used is noted, and room is made on their disk if need be. Started by the agent's
//! loop, which awaits its end. It decides nothing (`engine/image_gc`).

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// As Kubelet: what fills a disk between two pulls, such as logs, does it slowly.
const PERIOD: Duration = Duration::from_secs(300);

/// Runs until `stop`.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    loop {
        // first the pause: right after the start the assignments may be old ones, from the disk
        tokio::select! {
            () = sleep(PERIOD) => engine.look_after_images().await,
            () = stop.cancelled() => return,
        }
    }
}
