//! From what the managers say of networks to what the data plane shall do on this host. Pure.
//!
//! Called by the agent's loop whenever its assignments changed. It knows nothing of containers: which of
//! the overlays have an endpoint here is the engine's matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use overlay::{DataPath, Encryption, EncryptionBackend, EncryptionPeer, MacAddress, OverlayPlan, PrivateKey, Remote};
use types::{
    AssignmentSet, DataPathPeer, EndpointStage, HostNetwork, NodeId, OverlayContainer, OverlayEndpoint, OverlayService,
    OverlayState, Slot, TaskId,
};

use super::{
    mesh,
    probes::{self, Lost, Unreachable},
};
use crate::engine::{ClusterNetwork, Place};

/// This host, as its data plane sees it.
#[derive(Debug, Clone)]
pub(super) struct Here {
    pub node: NodeId,
    /// In the underlay.
    pub address: IpAddr,
    pub private_key: PrivateKey,
    /// Who seals here.
    pub encryption: EncryptionBackend,
}

/// UDP port of WireGuard (its registered one), next to VXLAN's: the same on every host.
pub(super) const ENCRYPTION_PORT: u16 = 51820;

/// What the engine is told.
pub(super) fn cluster_network(set: &AssignmentSet, here: &Here, unreachable: &Unreachable) -> ClusterNetwork {
    let network = &set.network;
    let encrypted = set.overlays.values().any(|overlay| overlay.network.spec.encrypted);
    let encryption = encrypted.then(|| encryption(&network.data_path_peers, here));
    let data_path = (network.data_path_port != 0).then_some(DataPath {
        address: here.address,
        port: network.data_path_port,
        encryption,
        least_mtu: network.data_path_peers.values().filter_map(|peer| peer.mtu).min(),
    });
    // one of another driver is each host's own: the engine has a place for it
    let across_hosts = set.overlays.iter().filter(|(_, state)| state.network.vni != 0);
    let overlays = across_hosts.map(|(id, state)| {
        let encrypted = state.network.spec.encrypted;
        let out = if encrypted { &unreachable.wireguard } else { &unreachable.vxlan };
        (*id, overlay(state, network, here.node, out))
    });
    let overlays = overlays.collect();
    let networks = set.overlays.iter().map(|(id, state)| (*id, Arc::clone(&state.network))).collect();
    ClusterNetwork {
        probes: probes::settings(set, here.node, here.address),
        data_path,
        overlays,
        networks,
        mesh: mesh::mesh(set, here.node, unreachable),
        guests: guests(set, here.node),
        is_kept: false,
    }
}

/// Places of this host's single containers.
fn guests(set: &AssignmentSet, me: NodeId) -> BTreeMap<Place, OverlayContainer> {
    let all = set.overlays.iter().flat_map(|(network, state)| state.containers.iter().map(move |c| (*network, c)));
    let own = all.filter(|(_, (_, container))| container.node == me);
    own.map(|(network, (id, container))| ((network, id.clone()), container.clone())).collect()
}

fn encryption(peers: &BTreeMap<NodeId, DataPathPeer>, here: &Here) -> Encryption {
    let peer = |(node, peer): (&NodeId, &DataPathPeer)| {
        Some((*node, EncryptionPeer { public_key: peer.wireguard_key?, address: peer.address }))
    };
    let peers = peers.iter().filter(|(node, _)| **node != here.node).filter_map(peer).collect();
    Encryption { backend: here.encryption, private_key: here.private_key.clone(), port: ENCRYPTION_PORT, peers }
}

fn overlay(state: &OverlayState, network: &HostNetwork, me: NodeId, lost: &Lost) -> OverlayPlan {
    let spec = &state.network.spec;
    // whoever is in the ingress network is reached by its published ports alone
    let names = if spec.ingress { Names::default() } else { Names::of(state) };
    OverlayPlan {
        name: spec.name.to_string(),
        vni: state.network.vni,
        subnets: state.network.subnets.iter().map(|subnet| subnet.range).collect(),
        mtu: spec.mtu,
        encrypted: spec.encrypted,
        remotes: remotes(state, network, me, &lost.gone),
        services: balanced(state, &lost.nodes),
        names: names.forward,
        reverse: names.reverse,
    }
}

/// Tasks and single containers on other nodes. Those on one that is gone are none until it is back: by that their flows end.
fn remotes(
    state: &OverlayState,
    network: &HostNetwork,
    me: NodeId,
    gone: &BTreeSet<NodeId>,
) -> BTreeMap<MacAddress, Remote> {
    let tasks = state.endpoints.values().map(|endpoint| (endpoint.node, &endpoint.addresses));
    let containers = state.containers.values().map(|container| (container.node, &container.addresses));
    let remote = |(node, addresses): (NodeId, &Vec<IpAddr>)| {
        let host = network.data_path_peers.get(&node)?.address;
        let mac = MacAddress::for_ipv4(first_ipv4(addresses)?);
        Some((mac, Remote { addresses: addresses.clone(), node, host }))
    };
    tasks.chain(containers).filter(|(node, _)| *node != me && !gone.contains(node)).filter_map(remote).collect()
}

fn first_ipv4(addresses: &[IpAddr]) -> Option<Ipv4Addr> {
    addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    })
}

/// Of endpoints those on nodes that packets get to from here; all of them when none is left: a wrong word of
/// the probes must not take the last backend away (P03).
pub(super) fn reachable<'a>(
    endpoints: Vec<&'a OverlayEndpoint>,
    unreachable: &BTreeSet<NodeId>,
) -> Vec<&'a OverlayEndpoint> {
    let is_reached = |endpoint: &&OverlayEndpoint| !unreachable.contains(&endpoint.node);
    let reached: Vec<_> = endpoints.iter().copied().filter(is_reached).collect();
    if reached.is_empty() { endpoints } else { reached }
}

/// Each virtual address with the endpoints that take new connections, of the same family.
fn balanced(state: &OverlayState, unreachable: &BTreeSet<NodeId>) -> BTreeMap<IpAddr, BTreeSet<IpAddr>> {
    let mut balanced: BTreeMap<IpAddr, BTreeSet<IpAddr>> = BTreeMap::new();
    for (id, service) in &state.services {
        let serving = state.endpoints.values().filter(|e| e.service == *id && e.stage == EndpointStage::Serving);
        let serving = reachable(serving.collect(), unreachable);
        let backends: BTreeSet<IpAddr> = serving.iter().flat_map(|e| e.addresses.iter().copied()).collect();
        for address in &service.addresses {
            let same = |backend: &&IpAddr| backend.is_ipv4() == address.is_ipv4();
            balanced.insert(*address, backends.iter().filter(same).copied().collect());
        }
    }
    balanced
}

/// What the DNS answers (parity N-17, P42): services, `tasks.<service>`, aliases, `<service>.<slot>`,
/// `<service>.<slot>.<task id>`, and single containers.
#[derive(Default)]
struct Names {
    forward: BTreeMap<String, Vec<IpAddr>>,
    reverse: BTreeMap<IpAddr, String>,
}

impl Names {
    fn of(state: &OverlayState) -> Self {
        let mut names = Self::default();
        let mut slots: BTreeMap<(String, Slot), (EndpointStage, &OverlayEndpoint)> = BTreeMap::new();
        for (id, service) in &state.services {
            names.forward.entry(lower(service.name.as_str())).or_default().extend(&service.addresses);
            names.forward.entry(format!("tasks.{}", lower(service.name.as_str()))).or_default();
            for address in &service.addresses {
                names.reverse.insert(*address, lower(service.name.as_str()));
            }
            for (task, endpoint) in state.endpoints.iter().filter(|(_, e)| e.service == *id) {
                names.endpoint(service, *task, endpoint);
                let slot = (lower(service.name.as_str()), endpoint.slot);
                let better = slots.get(&slot).is_none_or(|(stage, _)| rank(endpoint.stage) > rank(*stage));
                if better {
                    slots.insert(slot, (endpoint.stage, endpoint));
                }
            }
        }
        for ((service, slot), (_, endpoint)) in slots {
            names.forward.insert(format!("{service}.{slot}"), endpoint.addresses.clone());
        }
        for (id, container) in &state.containers {
            names.container(id, container);
        }
        for addresses in names.forward.values_mut() {
            addresses.sort_unstable();
            addresses.dedup();
        }
        names
    }

    /// By its name, its aliases and the beginning of its id. A name that others have too leads to all of them.
    fn container(&mut self, id: &str, container: &OverlayContainer) {
        let own = lower(&container.name);
        for address in &container.addresses {
            self.reverse.insert(*address, own.clone());
        }
        let short = lower(id.get(..12).unwrap_or(id));
        let names: BTreeSet<String> = container.aliases.iter().map(|alias| lower(alias)).chain([own, short]).collect();
        for name in names {
            self.forward.entry(name).or_default().extend(&container.addresses);
        }
    }

    fn endpoint(&mut self, service: &OverlayService, task: TaskId, endpoint: &OverlayEndpoint) {
        let name = lower(service.name.as_str());
        let own = format!("{name}.{}.{task}", endpoint.slot);
        for address in &endpoint.addresses {
            self.reverse.insert(*address, own.clone());
        }
        self.forward.insert(own, endpoint.addresses.clone());
        if endpoint.stage == EndpointStage::Serving {
            self.forward.entry(format!("tasks.{name}")).or_default().extend(&endpoint.addresses);
            if service.addresses.is_empty() {
                self.forward.entry(name).or_default().extend(&endpoint.addresses);
            }
        }
        // an alias leads where the service's own name leads; shared by services it leads to all of them
        let serving = endpoint.stage == EndpointStage::Serving;
        for alias in &endpoint.aliases {
            let to = self.forward.entry(lower(alias)).or_default();
            match service.addresses.is_empty() {
                false => to.extend(&service.addresses),
                true if serving => to.extend(&endpoint.addresses),
                true => {}
            }
        }
    }
}

/// Of several tasks of one slot the one that runs has its name, else the one that is coming.
fn rank(stage: EndpointStage) -> u8 {
    match stage {
        EndpointStage::Draining => 0,
        EndpointStage::Starting => 1,
        EndpointStage::Serving => 2,
    }
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use types::{EndpointMode, MeshSpec, Network, NetworkId, NetworkSpec, ServiceId, Subnet};

    use super::*;

    fn network(spec: NetworkSpec) -> Arc<Network> {
        let subnet = Subnet {
            range: "10.0.1.0/24".parse().expect("subnet"),
            gateway: [10, 0, 1, 1].into(),
            ip_range: None,
            reserved: Vec::new(),
        };
        let (id, meta) = (NetworkId::from_random(9), types::Meta::default());
        Arc::new(Network { id, meta, spec: Arc::new(spec), vni: 4097, subnets: vec![subnet] })
    }

    fn state(mode: EndpointMode, virtual_ip: &[[u8; 4]]) -> OverlayState {
        let stages = [EndpointStage::Serving, EndpointStage::Serving, EndpointStage::Starting, EndpointStage::Draining];
        let endpoints = stages.into_iter().zip([2u8, 3, 4, 5]).map(|(stage, n)| {
            let endpoint = OverlayEndpoint {
                node: NodeId::from_random(u128::from(n % 2)),
                service: ServiceId::from_random(1),
                slot: Slot::Replica(u64::from(n.min(4)) - 1),
                addresses: vec![IpAddr::V4([10, 0, 1, n].into())],
                aliases: vec!["Front".into()],
                stage,
                weight: 1,
            };
            (TaskId::from_random(u128::from(n)), endpoint)
        });
        let addresses = virtual_ip.iter().map(|a| IpAddr::from(*a)).collect();
        let name = "Web".parse().expect("name");
        let service = OverlayService { name, mode, addresses, ports: Vec::new(), mesh: MeshSpec::default() };
        OverlayState {
            network: network(NetworkSpec::overlay("net".parse().expect("name"))),
            endpoints: endpoints.collect(),
            services: BTreeMap::from([(ServiceId::from_random(1), service)]),
            containers: BTreeMap::new(),
        }
    }

    fn check(state: &OverlayState, expected: &Expect) {
        let peer = DataPathPeer { address: [192, 0, 2, 1].into(), wireguard_key: None, mtu: None };
        let host = HostNetwork {
            data_path_port: 4789,
            data_path_peers: BTreeMap::from([(NodeId::from_random(1), peer)]),
            ..HostNetwork::default()
        };
        let plan = overlay(state, &host, NodeId::from_random(0), &Lost::default());
        let mut text = String::new();
        let list = |all: &mut dyn Iterator<Item = &IpAddr>| all.map(ToString::to_string).collect::<Vec<_>>().join(" ");
        for (name, addresses) in &plan.names {
            let name = name.replace(&TaskId::from_random(0).to_string()[..24], "");
            text.push_str(&format!("{name}: {}\n", list(&mut addresses.iter())));
        }
        for (vip, backends) in &plan.services {
            text.push_str(&format!("{vip} -> {}\n", list(&mut backends.iter())));
        }
        for (mac, remote) in &plan.remotes {
            text.push_str(&format!("{mac} at {}: {}\n", remote.host, list(&mut remote.addresses.iter())));
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn n17_names_lead_to_the_virtual_address_and_to_the_tasks() {
        check(
            &state(EndpointMode::Vip, &[[10, 0, 1, 9]]),
            &expect![[r#"
            front: 10.0.1.9
            tasks.web: 10.0.1.2 10.0.1.3
            web: 10.0.1.9
            web.1: 10.0.1.2
            web.1.2: 10.0.1.2
            web.2: 10.0.1.3
            web.2.3: 10.0.1.3
            web.3: 10.0.1.4
            web.3.4: 10.0.1.4
            web.3.5: 10.0.1.5
            10.0.1.9 -> 10.0.1.2 10.0.1.3
            02:42:0a:00:01:03 at 192.0.2.1: 10.0.1.3
            02:42:0a:00:01:05 at 192.0.2.1: 10.0.1.5
        "#]],
        );
    }

    /// P10: of a host that is gone nothing is left to lead to, so flows to it end; it comes back as it was.
    #[test]
    fn p10_what_is_on_a_host_that_is_gone_is_no_neighbour() {
        let state = state(EndpointMode::Vip, &[[10, 0, 1, 9]]);
        let peer = DataPathPeer { address: [192, 0, 2, 1].into(), wireguard_key: None, mtu: None };
        let network =
            HostNetwork { data_path_peers: [(NodeId::from_random(1), peer)].into(), ..HostNetwork::default() };
        let count = |gone: &[u128]| {
            let gone = gone.iter().map(|n| NodeId::from_random(*n)).collect();
            remotes(&state, &network, NodeId::from_random(0), &gone).len()
        };
        assert_eq!((count(&[]), count(&[2]), count(&[1])), (2, 2, 0));
    }

    /// P03: a backend that this host's packets do not get to is left out while another one remains.
    #[test]
    fn p03_virtual_addresses_lead_to_reachable_nodes() {
        let state = state(EndpointMode::Vip, &[[10, 0, 1, 9]]);
        let backends = |unreachable: &[u128]| {
            let unreachable = unreachable.iter().map(|n| NodeId::from_random(*n)).collect();
            let balanced = balanced(&state, &unreachable);
            let backends = &balanced[&IpAddr::from([10, 0, 1, 9])];
            backends.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(backends(&[]), "10.0.1.2 10.0.1.3");
        assert_eq!(backends(&[1]), "10.0.1.2");
        assert_eq!(backends(&[0]), "10.0.1.3");
        assert_eq!(backends(&[0, 1]), "10.0.1.2 10.0.1.3");
    }

    #[test]
    fn s71_round_robin_names_lead_to_the_running_tasks() {
        check(
            &state(EndpointMode::DnsRoundRobin, &[]),
            &expect![[r#"
            front: 10.0.1.2 10.0.1.3
            tasks.web: 10.0.1.2 10.0.1.3
            web: 10.0.1.2 10.0.1.3
            web.1: 10.0.1.2
            web.1.2: 10.0.1.2
            web.2: 10.0.1.3
            web.2.3: 10.0.1.3
            web.3: 10.0.1.4
            web.3.4: 10.0.1.4
            web.3.5: 10.0.1.5
            02:42:0a:00:01:03 at 192.0.2.1: 10.0.1.3
            02:42:0a:00:01:05 at 192.0.2.1: 10.0.1.5
        "#]],
        );
    }

    /// N-12: a single container is found by its name, its id and its aliases, beside the services that share one.
    #[test]
    fn n12_names_lead_to_single_containers() {
        let mut state = state(EndpointMode::Vip, &[[10, 0, 1, 9]]);
        state.endpoints.retain(|id, _| *id == TaskId::from_random(2));
        let container = OverlayContainer {
            node: NodeId::from_random(1),
            name: "Shell".to_owned(),
            aliases: vec!["front".to_owned()],
            addresses: vec![[10, 0, 1, 77].into()],
        };
        state.containers.insert("0123456789abcdef".to_owned(), container);
        check(
            &state,
            &expect![[r#"
                0123456789ab: 10.0.1.77
                front: 10.0.1.9 10.0.1.77
                shell: 10.0.1.77
                tasks.web: 10.0.1.2
                web: 10.0.1.9
                web.1: 10.0.1.2
                web.1.2: 10.0.1.2
                10.0.1.9 -> 10.0.1.2
                02:42:0a:00:01:4d at 192.0.2.1: 10.0.1.77
            "#]],
        );
    }

    /// N-10: a network that each host has for itself is no overlay: the engine hears of it and has a place for it.
    #[test]
    fn n10_networks_of_single_hosts_are_left_to_the_engine() {
        let (spread, single) = (state(EndpointMode::Vip, &[]), state(EndpointMode::Vip, &[]));
        let network = Network { id: NetworkId::from_random(10), vni: 0, ..(*single.network).clone() };
        let (here, there) = (network.id, spread.network.id);
        let single = OverlayState { network: Arc::new(network), ..single };
        let set = AssignmentSet { overlays: [(here, single), (there, spread)].into(), ..AssignmentSet::default() };
        let (node, private_key, encryption) = (NodeId::from_random(0), [7; 32].into(), EncryptionBackend::Userspace);
        let me = Here { node, address: [192, 0, 2, 9].into(), private_key, encryption };
        let told = cluster_network(&set, &me, &Unreachable::default());
        assert_eq!(told.overlays.keys().collect::<Vec<_>>(), [&there]);
        assert_eq!(told.networks.len(), 2);
    }
}
