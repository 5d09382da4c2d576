//! What this node says of itself, kept up with the host: the MTU of its underlay, which all nodes' overlays follow, who
//! listens where the mesh would, which devices vendors describe, who signed its certificate, and how it is set.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use identity::NodeIdentity;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use types::{MAX_DEVICES, MAX_PORT_TROUBLES, NodeDescription};

use crate::engine::{Engine, PortHolder};

/// Between two looks at the host: a larger MTU may come late, and of a smaller one this host's own overlays know at
/// once. P08 allows 30 s; a look asks the kernel for its lists of links and addresses.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// Runs until `stop`.
pub(super) async fn follow(
    address: IpAddr,
    identity: NodeIdentity,
    mut holders: watch::Receiver<Arc<Vec<PortHolder>>>,
    engine: Engine,
    description: watch::Sender<NodeDescription>,
    stop: CancellationToken,
) {
    let mut clock = interval(BETWEEN_LOOKS);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewals = identity.renewals();
    let mut host = engine.watch_info();
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            // its sender goes with the engine, which is after the agent
            Ok(()) = holders.changed() => {}
            () = renewals.next() => {}
            Ok(()) = host.changed() => {}
            () = stop.cancelled() => return,
        }
        // While no interface has the address the last one that was known stands.
        let mtu = overlay::underlay_mtu(address).await;
        let devices: BTreeSet<String> = engine.cdi_devices().await.into_iter().take(MAX_DEVICES).collect();
        let troubles = troubles(&holders.borrow_and_update());
        let settings = host.borrow_and_update().settings.clone();
        description.send_if_modified(|told| {
            let mtu = mtu.or(told.underlay_mtu);
            let (issuer, others) = (identity.root_pem(), other_roots(&identity));
            let differs = told.underlay_mtu != mtu
                || told.port_troubles != troubles
                || told.devices != devices
                || told.engine_labels != settings.labels
                || told.resources.generic != settings.generic_resources
                || told.tls_issuer_pem != issuer
                || told.tls_roots_pem != others;
            (told.underlay_mtu, told.port_troubles, told.devices) = (mtu, troubles, devices);
            (told.tls_issuer_pem, told.tls_roots_pem) = (issuer, others);
            (told.engine_labels, told.resources.generic) = (settings.labels, settings.generic_resources);
            differs
        });
    }
}

/// The roots that the node trusts, while its issuer is not the only one.
pub(super) fn other_roots(identity: &NodeIdentity) -> String {
    let (roots, issuer) = (identity.roots_pem(), identity.root_pem());
    if roots == issuer { String::new() } else { roots }
}

fn troubles(holders: &[PortHolder]) -> Vec<String> {
    let troubles = holders.iter().filter(|holder| holder.is_trouble).take(MAX_PORT_TROUBLES);
    troubles.map(|holder| holder.sentence.clone()).collect()
}
