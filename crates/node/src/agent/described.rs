//! What this node says of itself, kept up with the host: the MTU of its underlay, which all nodes' overlays follow.

use std::{net::IpAddr, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use types::NodeDescription;

/// Between two looks at the host: a larger MTU may come late, and of a smaller one this host's own overlays know at
/// once. P08 allows 30 s; a look asks the kernel for its lists of links and addresses.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// Runs until `stop`.
pub(super) async fn follow(address: IpAddr, description: watch::Sender<NodeDescription>, stop: CancellationToken) {
    let mut clock = interval(BETWEEN_LOOKS);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            () = stop.cancelled() => return,
        }
        // While no interface has the address the last one that was known stands.
        let Some(mtu) = overlay::underlay_mtu(address).await else { continue };
        description.send_if_modified(|told| {
            let differs = told.underlay_mtu != Some(mtu);
            told.underlay_mtu = Some(mtu);
            differs
        });
    }
}
