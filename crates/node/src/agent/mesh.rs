//! From the ingress network as the managers show it to the routing mesh of this host. Pure.
//!
//! Called by [`super::overlays`] whenever the assignments changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use overlay::{EntryHost, MacAddress, MeshPlan, PublishedPorts};
use types::{
    AssignmentSet, EndpointStage, HostNetwork, MeshPolicy, NodeId, OverlayEndpoint, OverlayService, OverlayState,
    PortConfig, ServiceId,
};

use super::{overlays::reachable, probes::Unreachable};
use crate::engine::host_ports::runs;

/// This node, and those that containers' packets do not get to from it.
type Here<'a> = (NodeId, &'a BTreeSet<NodeId>);

/// None while nothing is published and nothing that was is still on its way out.
pub(super) fn mesh(set: &AssignmentSet, me: NodeId, unreachable: &Unreachable) -> Option<MeshPlan> {
    let (network, state) = set.overlays.iter().find(|(_, state)| state.network.spec.ingress)?;
    let is_used = !state.endpoints.is_empty() || state.services.values().any(|service| !service.ports.is_empty());
    let lost = if state.network.spec.encrypted { &unreachable.wireguard } else { &unreachable.vxlan };
    is_used.then(|| MeshPlan {
        network: *network,
        mac: MacAddress::for_node(me),
        addresses: state.network.subnets.iter().map(|subnet| subnet.gateway).collect(),
        entries: entries(&set.network, me),
        ports: ports(state, (me, &lost.nodes)),
        spared: BTreeSet::new(),
    })
}

fn entries(network: &HostNetwork, me: NodeId) -> BTreeMap<MacAddress, EntryHost> {
    let others = network.data_path_peers.iter().filter(|(node, _)| **node != me);
    others.map(|(node, peer)| (MacAddress::for_node(*node), EntryHost { node: *node, host: peer.address })).collect()
}

/// Of all services, each with its own endpoints only: one look at each of many thousands.
fn ports(state: &OverlayState, here: Here<'_>) -> Vec<PublishedPorts> {
    let mut serving: BTreeMap<ServiceId, Vec<&OverlayEndpoint>> = BTreeMap::new();
    for endpoint in state.endpoints.values().filter(|endpoint| endpoint.stage == EndpointStage::Serving) {
        serving.entry(endpoint.service).or_default().push(endpoint);
    }
    let of = |(id, service)| published(service, serving.remove(id).unwrap_or_default(), here);
    state.services.iter().flat_map(of).collect()
}

fn published(service: &OverlayService, serving: Vec<&OverlayEndpoint>, here: Here<'_>) -> Vec<PublishedPorts> {
    let backends = Arc::new(backends(serving, service.mesh.policy, here));
    let ports = runs(&service.ports).into_iter();
    let port = |(first, last, port): (u16, u16, &PortConfig)| PublishedPorts {
        bind: port.bind.clone(),
        protocol: port.protocol,
        published: (first, last),
        target: port.target,
        backends: Arc::clone(&backends),
        affinity: service.mesh.affinity,
        proxy_protocol: port.proxy_protocol,
    };
    ports.map(port).collect()
}

/// The tasks that take new connections which come in by this node, with their weights.
fn backends(serving: Vec<&OverlayEndpoint>, policy: MeshPolicy, (me, unreachable): Here<'_>) -> BTreeMap<IpAddr, u16> {
    let serving = reachable(serving, unreachable);
    let has_own = serving.iter().any(|endpoint| endpoint.node == me);
    let own_only = policy == MeshPolicy::LocalOnly || (policy == MeshPolicy::LocalFirst && has_own);
    let chosen = serving.into_iter().filter(|endpoint| !own_only || endpoint.node == me);
    chosen.flat_map(|endpoint| endpoint.addresses.iter().map(|address| (*address, endpoint.weight))).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use types::{
        DataPathPeer, EndpointMode, MeshAffinity, MeshSpec, Network, NetworkId, NetworkSpec, PortProtocol, PublishMode,
        Slot, Subnet, TaskId,
    };

    use super::{super::probes::Lost, *};

    fn port(published: u16, target: u16) -> PortConfig {
        PortConfig::new(PortProtocol::Tcp, target, Some(published), PublishMode::Ingress)
    }

    /// Two tasks on node 0, one on node 1, one of them not RUNNING yet.
    fn set(policy: MeshPolicy) -> AssignmentSet {
        let mut spec = NetworkSpec::overlay("ingress".parse().expect("name"));
        spec.ingress = true;
        let subnet = Subnet {
            range: "10.255.0.0/16".parse().expect("subnet"),
            gateway: [10, 255, 0, 1].into(),
            ip_range: None,
            reserved: Vec::new(),
        };
        let (id, meta) = (NetworkId::from_random(9), types::Meta::default());
        let network = Arc::new(Network { id, meta, spec: Arc::new(spec), vni: 4096, subnets: vec![subnet] });
        let service = ServiceId::from_random(1);
        let endpoint = |(node, number, stage): (u128, u8, EndpointStage)| {
            let endpoint = OverlayEndpoint {
                node: NodeId::from_random(node),
                service,
                slot: Slot::Replica(u64::from(number)),
                addresses: vec![[10, 255, 0, number].into()],
                aliases: Vec::new(),
                stage,
                weight: 1,
            };
            (TaskId::from_random(u128::from(number)), endpoint)
        };
        let (serving, starting) = (EndpointStage::Serving, EndpointStage::Starting);
        let endpoints = [(0, 2, serving), (0, 3, starting), (1, 4, serving)].map(endpoint).into();
        let shown = OverlayService {
            name: "web".parse().expect("name"),
            mode: EndpointMode::Vip,
            addresses: Vec::new(),
            ports: vec![port(8080, 80)],
            mesh: MeshSpec { policy, affinity: MeshAffinity::None },
        };
        let peer = DataPathPeer { address: [192, 0, 2, 1].into(), wireguard_key: None, mtu: None };
        let network_of =
            HostNetwork { data_path_peers: BTreeMap::from([(NodeId::from_random(1), peer)]), ..HostNetwork::default() };
        let state = OverlayState {
            network,
            endpoints,
            services: BTreeMap::from([(service, shown)]),
            containers: BTreeMap::new(),
        };
        AssignmentSet { network: network_of, overlays: BTreeMap::from([(id, state)]), ..AssignmentSet::default() }
    }

    #[test]
    fn p43_the_policy_chooses_among_the_tasks_that_serve() {
        let seen = |policy, me: u128| {
            let mesh =
                mesh(&set(policy), NodeId::from_random(me), &Unreachable::default()).expect("something is published");
            mesh.ports[0].backends.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(seen(MeshPolicy::Cluster, 0), "10.255.0.2 10.255.0.4");
        assert_eq!(seen(MeshPolicy::LocalFirst, 1), "10.255.0.4");
        assert_eq!(seen(MeshPolicy::LocalFirst, 2), "10.255.0.2 10.255.0.4");
        assert_eq!(seen(MeshPolicy::LocalOnly, 0), "10.255.0.2");
        assert_eq!(seen(MeshPolicy::LocalOnly, 2), "");
    }

    #[test]
    fn p03_tasks_on_nodes_that_packets_do_not_reach_are_left_out_while_others_serve() {
        let all = set(MeshPolicy::Cluster);
        let seen = |out: &[u128]| {
            let nodes = out.iter().map(|node| NodeId::from_random(*node)).collect();
            let vxlan = Lost { nodes, gone: BTreeSet::new() };
            let out = Unreachable { vxlan, ..Unreachable::default() };
            let mesh = mesh(&all, NodeId::from_random(0), &out).expect("something is published");
            mesh.ports[0].backends.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(seen(&[1]), "10.255.0.2");
        assert_eq!(seen(&[0, 1]), "10.255.0.2 10.255.0.4");
    }

    #[test]
    fn n16_every_other_host_is_an_entry() {
        let plan = mesh(&set(MeshPolicy::Cluster), NodeId::from_random(0), &Unreachable::default())
            .expect("something is published");
        expect![[r#"02:d2:00:00:00:80 {10.255.0.1} 02:d2:00:00:00:81 at 192.0.2.1"#]].assert_eq(&format!(
            "{} {:?} {}",
            plan.mac,
            plan.addresses.iter().collect::<std::collections::BTreeSet<_>>(),
            plan.entries.iter().map(|(mac, entry)| format!("{mac} at {}", entry.host)).collect::<String>()
        ));
    }

    #[test]
    fn nothing_published_is_no_mesh() {
        let mut none = set(MeshPolicy::Cluster);
        let state = none.overlays.values_mut().next().expect("ingress");
        state.endpoints.clear();
        state.services.values_mut().for_each(|service| service.ports.clear());
        assert_eq!(mesh(&none, NodeId::from_random(0), &Unreachable::default()), None);
    }
}
