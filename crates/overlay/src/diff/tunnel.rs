//! The steps of the tunnel of encrypted overlays, where the kernel seals them.

use std::collections::BTreeSet;

use crate::{
    NetworkPlan, Observed, Step, TunnelDevice, TunnelInside, TunnelNamespace, TunnelPeer, TunnelStep,
    mtu::tunnel_mtu,
    nft::digest,
    tunnel::{KEEPALIVE_S, Wanted, WantedPeer, wanted},
};

/// Goes as a whole when nothing is sealed by the kernel any more.
pub fn removals(plan: &NetworkPlan, observed: &Observed) -> Option<Step> {
    let found = observed.tunnel.as_ref().filter(|_| !plan.is_sealed_by_kernel())?;
    let has_device = matches!(found, TunnelNamespace::Alive(inside) if inside.device.is_some());
    // The kernel takes its time to empty a namespace, and until then the device's port would be taken.
    let first = has_device.then_some(TunnelStep::RemoveDevice);
    Some(Step::Tunnel { steps: first.into_iter().chain([TunnelStep::RemoveNamespace]).collect() })
}

/// Whether VXLAN interfaces that were made in the tunnel's namespace still are there: they end with it.
pub fn stands(observed: &Observed) -> bool {
    matches!(observed.tunnel, Some(TunnelNamespace::Alive(_)))
}

/// Must be done before the overlays, whose VXLAN interfaces are made in it.
pub fn steps(plan: &NetworkPlan, observed: &Observed) -> Option<Step> {
    let wanted = wanted(plan)?;
    let mut steps = Vec::new();
    let empty = TunnelInside::default();
    let inside = match &observed.tunnel {
        Some(TunnelNamespace::Alive(inside)) => inside,
        stale => {
            steps.extend(stale.as_ref().map(|_| TunnelStep::RemoveNamespace));
            steps.push(TunnelStep::CreateNamespace);
            &empty
        }
    };
    // Before there is anything that could send.
    let digest = digest(&wanted.ruleset);
    if inside.rules.as_ref() != Some(&digest) {
        steps.push(TunnelStep::LoadRules { ruleset: wanted.ruleset.clone(), digest });
    }
    let path = plan.data_path.as_ref()?;
    let has = inside.device.as_ref().filter(|device| device.kind == "wireguard");
    let mtu = tunnel_mtu(path, observed, has.map(|device| device.mtu));
    device_steps(&wanted, mtu, inside.device.as_ref(), &mut steps);
    (!steps.is_empty()).then_some(Step::Tunnel { steps })
}

fn device_steps(wanted: &Wanted, mtu: u32, found: Option<&TunnelDevice>, steps: &mut Vec<TunnelStep>) {
    let empty = TunnelDevice::default();
    let device = match found {
        Some(device) if device.kind == "wireguard" => device,
        other => {
            steps.extend(other.map(|_| TunnelStep::RemoveDevice));
            steps.push(TunnelStep::CreateDevice);
            &empty
        }
    };
    if device.public_key != Some(wanted.public_key) || device.port != wanted.port {
        steps.push(TunnelStep::SetKey { private_key: wanted.private_key.clone(), port: wanted.port });
    }
    steps.extend(peer_steps(wanted, &device.peers));
    for address in device.addresses.iter().filter(|address| **address != wanted.address) {
        steps.push(TunnelStep::RemoveAddress(*address));
    }
    if !device.addresses.contains(&wanted.address) {
        steps.push(TunnelStep::AddAddress(wanted.address));
    }
    if !device.up || device.mtu != mtu {
        steps.push(TunnelStep::DeviceUp { mtu, port: wanted.port });
    }
}

fn peer_steps(wanted: &Wanted, found: &[TunnelPeer]) -> Option<TunnelStep> {
    let mut kept = BTreeSet::new();
    let mut remove = Vec::new();
    for peer in found {
        match wanted.peers.get(&peer.public_key) {
            None => remove.push(peer.public_key),
            Some(wanted) if is_as(peer, wanted) => drop(kept.insert(peer.public_key)),
            Some(_) => {}
        }
    }
    let others = wanted.peers.iter().filter(|(key, _)| !kept.contains(*key));
    let set: Vec<([u8; 32], WantedPeer)> = others.map(|(key, peer)| (*key, *peer)).collect();
    (!remove.is_empty() || !set.is_empty()).then_some(TunnelStep::SetPeers { remove, set })
}

fn is_as(found: &TunnelPeer, wanted: &WantedPeer) -> bool {
    let TunnelPeer { endpoint, allowed, keepalive, .. } = found;
    let is_allowed = matches!(&allowed[..], [one] if one.address() == wanted.address && one.prefix() == 32);
    *endpoint == Some(wanted.endpoint) && is_allowed && *keepalive == KEEPALIVE_S
}
