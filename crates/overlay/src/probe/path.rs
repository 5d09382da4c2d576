//! Probes through the data path itself: inside VXLAN, and inside WireGuard. Pure.
//!
//! A host may answer on its probe port while nothing of the containers' traffic gets through: another port,
//! another firewall rule, a network card that spoils inner checksums. So each kind of data path has one small
//! overlay of its own, made of the same parts as every other one, with one endpoint on each host. Probes
//! are sent and answered inside these endpoints, and take exactly the way that containers' packets take.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};
use types::{Cidr, NetworkId, NodeId, ProbePeer};

use super::ProbeSettings;
use crate::{EndpointId, EndpointPlan, MacAddress, NetworkPlan, OverlayPlan, OverlayPort, Remote};

/// Between two probes of one peer, with few peers: containers' traffic is watched, not the host's life.
const INTERVAL_MS: u32 = 1000;
/// With many peers it is as much longer as keeps this host at 100 probes a second.
const INTERVAL_MS_PER_PEER: u32 = 10;
/// Unanswered in a row until a peer is not reached: 3 to 4 s with few peers.
const MISSES: u32 = 3;
/// The overlays' subnet. It lives in namespaces where nothing else does, so it may be as large as
/// IPv4 allows: with 2³⁰ addresses, two of a thousand nodes share one with a probability of 1 in 2,000.
const SUBNET: (Ipv4Addr, u8) = (Ipv4Addr::new(128, 0, 0, 0), 2);

/// The way that probes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbePath {
    /// From host to host on the probe port: says whether the host is there.
    #[default]
    Host,
    /// As the packets of plain overlays.
    Vxlan,
    /// As the packets of encrypted overlays.
    Wireguard,
}

impl ProbePath {
    /// The two that need an overlay.
    pub const OVERLAYS: [Self; 2] = [Self::Vxlan, Self::Wireguard];

    /// Identifiers that no network of the cluster can have: those below 4096 are given to none.
    const fn vni(self) -> u32 {
        match self {
            Self::Host | Self::Vxlan => 4094,
            Self::Wireguard => 4095,
        }
    }

    fn network(self) -> NetworkId {
        NetworkId::from_random(u128::from(self.vni()))
    }

    /// The endpoint whose namespace its probes are sent and answered in.
    pub fn endpoint(self) -> EndpointId {
        let id = match self {
            Self::Host | Self::Vxlan => "probes-vxlan",
            Self::Wireguard => "probes-wireguard",
        };
        id.parse().expect("letters and a minus are an endpoint id")
    }
}

impl fmt::Display for ProbePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Host => "probe port",
            Self::Vxlan => "VXLAN",
            Self::Wireguard => "WireGuard",
        })
    }
}

/// A node's address in both overlays.
fn address(node: NodeId) -> Ipv4Addr {
    #[allow(clippy::cast_possible_truncation)] // the low bits of the id are what is wanted
    let random = node.as_u128() as u32;
    Ipv4Addr::from(u32::from(SUBNET.0) | (random & (u32::MAX >> SUBNET.1)))
}

impl ProbeSettings {
    /// The nodes that are asked by this way, with their addresses in the underlay. Of nodes that share an
    /// address in the overlay, or have this host's, none.
    fn peers_by(&self, path: ProbePath) -> Vec<ProbePeer> {
        let peers = match path {
            ProbePath::Host => return self.peers.clone(),
            ProbePath::Vxlan => &self.through_vxlan,
            ProbePath::Wireguard => &self.through_wireguard,
        };
        let mut by_address: BTreeMap<Ipv4Addr, Vec<ProbePeer>> = BTreeMap::new();
        for peer in peers.iter().filter(|peer| peer.node != self.node) {
            by_address.entry(address(peer.node)).or_default().push(*peer);
        }
        by_address.remove(&address(self.node));
        by_address.into_values().filter(|peers| peers.len() == 1).flatten().collect()
    }

    /// What the prober of this way works with; None: there is nobody to ask.
    pub fn by(&self, path: ProbePath) -> Option<Self> {
        if path == ProbePath::Host {
            return Some(self.clone());
        }
        let inside = |peer: ProbePeer| ProbePeer { address: address(peer.node).into(), ..peer };
        let peers: Vec<ProbePeer> = self.peers_by(path).into_iter().map(inside).collect();
        let count = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        (!peers.is_empty()).then(|| Self {
            address: address(self.node).into(),
            peers,
            interval_ms: INTERVAL_MS.max(count.saturating_mul(INTERVAL_MS_PER_PEER)),
            misses: MISSES,
            through_vxlan: Vec::new(),
            through_wireguard: Vec::new(),
            draining: super::Draining::default(),
            ..self.clone()
        })
    }
}

impl NetworkPlan {
    /// The plan with the overlays that probes travel in, as far as there is anybody to ask.
    #[must_use]
    pub fn with_probe_overlays(&self) -> Self {
        let mut plan = self.clone();
        let (Some(probes), true) = (&self.probes, self.data_path.is_some()) else { return plan };
        for path in ProbePath::OVERLAYS {
            let peers = probes.peers_by(path);
            if peers.is_empty() {
                continue;
            }
            plan.overlays.insert(path.network(), overlay(path, &peers));
            let mine = address(probes.node);
            let port =
                OverlayPort { network: path.network(), addresses: vec![mine.into()], mac: MacAddress::for_ipv4(mine) };
            plan.endpoints.insert(path.endpoint(), EndpointPlan { overlays: vec![port], ..EndpointPlan::default() });
        }
        plan
    }
}

fn overlay(path: ProbePath, peers: &[ProbePeer]) -> OverlayPlan {
    let remote = |peer: &ProbePeer| {
        let inside = address(peer.node);
        let remote = Remote { addresses: vec![inside.into()], node: peer.node, host: peer.address };
        (MacAddress::for_ipv4(inside), remote)
    };
    OverlayPlan {
        name: format!("probes through {path}"),
        vni: path.vni(),
        subnets: vec![Cidr::new(SUBNET.0.into(), SUBNET.1).expect("2 is a prefix of IPv4")],
        mtu: None,
        encrypted: path == ProbePath::Wireguard,
        remotes: peers.iter().map(remote).collect(),
        services: BTreeMap::new(),
        names: BTreeMap::new(),
        reverse: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataPath, ProbeKey};

    fn settings(me: u128, plain: &[u128]) -> ProbeSettings {
        let peer = |n: &u128| ProbePeer { node: NodeId::from_random(*n), address: [192, 0, 2, 1].into() };
        let mut settings =
            ProbeSettings::new(NodeId::from_random(me), [192, 0, 2, 9].into(), ProbeKey::from([1; 32]), Vec::new());
        settings.through_vxlan = plain.iter().map(peer).collect();
        settings
    }

    #[test]
    fn probes_get_an_overlay_where_there_is_somebody_to_ask() {
        let data_path =
            Some(DataPath { address: [192, 0, 2, 9].into(), port: 4789, encryption: None, least_mtu: None });
        let plan =
            |probes| NetworkPlan { probes: Some(probes), data_path: data_path.clone(), ..NetworkPlan::default() };
        let alone = plan(settings(1, &[]));
        assert_eq!(alone.with_probe_overlays(), alone);
        let with = plan(settings(1, &[2, 3])).with_probe_overlays();
        assert_eq!(with.problems(), crate::plan::Problems::default());
        let overlay = with.overlays.values().next().expect("one overlay");
        let endpoint = &with.endpoints[&ProbePath::Vxlan.endpoint()];
        assert_eq!((overlay.remotes.len(), endpoint.overlays[0].addresses[0].to_string()), (2, "128.0.0.1".to_owned()));
        let no_data_path = NetworkPlan { data_path: None, ..plan(settings(1, &[2])) };
        assert_eq!(no_data_path.with_probe_overlays(), no_data_path);
    }

    #[test]
    fn who_shares_an_address_is_not_asked() {
        let twin = 2 | 1 << 30;
        let by = |settings: ProbeSettings| settings.by(ProbePath::Vxlan).map(|settings| settings.peers.len());
        assert_eq!(by(settings(1, &[2, 3])), Some(2));
        assert_eq!(by(settings(1, &[2, twin, 3])), Some(1));
        assert_eq!(by(settings(2, &[twin])), None);
    }

    #[test]
    fn many_peers_are_asked_less_often() {
        let many: Vec<u128> = (2..=1000).collect();
        let settings = settings(1, &many).by(ProbePath::Vxlan).expect("peers");
        assert_eq!((settings.interval_ms, settings.peers.len()), (9990, 999));
    }
}
