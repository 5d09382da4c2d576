//! The routing mesh, in the text form of steps of the tests beside.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use types::{MeshAffinity, NetworkId, NodeId, PortBind, PortProtocol};

use super::diff;
use crate::{
    DataPath, EntryHost, HostMesh, Link, MacAddress, MeshPlan, MeshStep, NetworkPlan, Observed, OverlayInside,
    OverlayNamespace, OverlayPlan, OverlayStep, PortRole, PublishedPorts, Remote, Step, Vxlan,
    mesh::{INGRESS, USER_CHAINS},
};

fn network() -> NetworkId {
    NetworkId::from_random(7)
}

fn mac(node: u128) -> MacAddress {
    MacAddress::for_node(NodeId::from_random(node))
}

/// Node 1 at 192.0.2.1, another at 192.0.2.2 with a backend at 10.255.0.9.
fn plan() -> NetworkPlan {
    let remote =
        Remote { addresses: vec![[10, 255, 0, 9].into()], node: NodeId::from_random(2), host: [192, 0, 2, 2].into() };
    let overlay = OverlayPlan {
        name: "ingress".to_owned(),
        vni: 4096,
        subnets: vec!["10.255.0.0/16".parse().expect("subnet")],
        mtu: None,
        encrypted: false,
        remotes: [(MacAddress::for_ipv4([10, 255, 0, 9].into()), remote)].into(),
        services: BTreeMap::new(),
        names: BTreeMap::new(),
        reverse: BTreeMap::new(),
    };
    let port = PublishedPorts {
        bind: PortBind::All,
        protocol: PortProtocol::Tcp,
        published: (8080, 8080),
        target: 80,
        backends: BTreeMap::from([([10, 255, 0, 9].into(), 1)]).into(),
        affinity: MeshAffinity::None,
        proxy_protocol: false,
    };
    let entry = EntryHost { node: NodeId::from_random(2), host: [192, 0, 2, 2].into() };
    NetworkPlan {
        data_path: Some(DataPath { address: [192, 0, 2, 1].into(), port: 4789, encryption: None, least_mtu: None }),
        overlays: [(network(), overlay)].into(),
        mesh: Some(MeshPlan {
            spared: std::collections::BTreeSet::new(),
            network: network(),
            mac: mac(1),
            addresses: vec![[10, 255, 0, 1].into()],
            entries: [(mac(2), entry)].into(),
            ports: vec![port],
        }),
        ..NetworkPlan::default()
    }
}

/// What the kernel has once the plan is applied, but for the rules.
fn applied() -> Observed {
    let link = |index, kind: &str, controller, port| {
        let kind = kind.to_owned();
        Link { index, kind, up: true, mtu: 1450, controller, port, ..Link::default() }
    };
    let vxlan = Vxlan { vni: 4096, local: Some([192, 0, 2, 1].into()), port: 4789, learns: false };
    let mut inside = OverlayInside::default();
    inside.links.insert("br0".to_owned(), link(3, "bridge", None, None));
    inside
        .links
        .insert("vxlan0".to_owned(), Link { vxlan: Some(vxlan), ..link(2, "vxlan", Some(3), Some(PortRole::Uplink)) });
    inside
        .links
        .insert(INGRESS.to_owned(), Link { peer: Some(9), ..link(4, "veth", Some(3), Some(PortRole::Endpoint)) });
    let backend = MacAddress::for_ipv4([10, 255, 0, 9].into());
    for far in [backend, mac(2)] {
        inside.hosts.insert(far, [192, 0, 2, 2].into());
        inside.ports.insert(far, "vxlan0".to_owned());
    }
    inside.ports.insert(mac(1), INGRESS.to_owned());
    inside.neighbours.insert([10, 255, 0, 9].into(), backend);
    let addresses = vec!["10.255.0.1/16".parse().expect("address")];
    let inner = Link { peer: Some(4), mac: Some(mac(1)), addresses, ..link(9, "veth", None, None) };
    let mesh = HostMesh {
        ipv6_forward: true,
        localnet: [INGRESS.to_owned()].into(),
        ipv6_off: true,
        neighbours: [([10, 255, 0, 9].into(), backend)].into(),
        user_chains: Some(USER_CHAINS.map(str::to_owned).into()),
        user_is_empty: true,
        ..HostMesh::default()
    };
    Observed {
        ip_forward: true,
        underlay: [([192, 0, 2, 1].into(), 1500)].into(),
        links: [(INGRESS.to_owned(), inner)].into(),
        overlays: [(network(), OverlayNamespace::Alive(inside))].into(),
        mesh,
        ..Observed::default()
    }
}

/// Without the text of rules, which has its own tests.
fn check(plan: &NetworkPlan, observed: &Observed, expect: &Expect) {
    let text = |step: Step| match step {
        Step::Mesh(MeshStep::LoadPorts { .. }) => "LoadPorts\n".to_owned(),
        step => format!("{step:?}\n"),
    };
    expect.assert_eq(&diff(plan, observed).into_iter().map(text).collect::<String>());
}

#[test]
fn a_first_mesh() {
    let bare = Observed { underlay: [([192, 0, 2, 1].into(), 1500)].into(), ..Observed::default() };
    check(
        &plan(),
        &bare,
        &expect![[r#"
        EnableForwarding
        Overlay { id: 0000000000000000000000007, steps: [CreateNamespace, CreateBridge { mac: MacAddress([2, 114, 115, 0, 16, 0]), mtu: 1450 }, CreateVxlan { vni: 4096, local: 192.0.2.1, port: 4789, mtu: 1450 }, PlugUplink { name: "vxlan0", udp_port: Some(4789), mtu: 1450 }, AddHost { mac: MacAddress([2, 66, 10, 255, 0, 9]), host: 192.0.2.2 }, AddHost { mac: MacAddress([2, 210, 0, 0, 0, 130]), host: 192.0.2.2 }, AddPort { mac: MacAddress([2, 66, 10, 255, 0, 9]), link: "vxlan0" }, AddPort { mac: MacAddress([2, 210, 0, 0, 0, 130]), link: "vxlan0" }, AddNeighbour { address: 10.255.0.9, mac: MacAddress([2, 66, 10, 255, 0, 9]) }] }
        Mesh(CreateUserTable)
        LoadPorts
        Mesh(CreateIngress { network: 0000000000000000000000007, mac: MacAddress([2, 210, 0, 0, 0, 129]), mtu: 1450 })
        Mesh(PlugIngress { network: 0000000000000000000000007, mac: MacAddress([2, 210, 0, 0, 0, 129]), mtu: 1450 })
        DisableIpv6 { link: "rs-ingress" }
        Mesh(SetLocalnet { link: "rs-ingress", on: true })
        AddAddress { link: "rs-ingress", address: Cidr { address: 10.255.0.1, prefix: 16 } }
        Mesh(SetIngress { mtu: 1450 })
        Mesh(AddNeighbour { address: 10.255.0.9, mac: MacAddress([2, 66, 10, 255, 0, 9]) })
    "#]],
    );
}

#[test]
fn a_mesh_that_stands_needs_rules_at_most() {
    check(
        &plan(),
        &applied(),
        &expect![[r#"
        LoadPorts
    "#]],
    );
}

/// P10: new connections are led elsewhere first; the entry that says there is something to end goes last.
#[test]
fn p10_a_backend_that_is_gone() {
    let mut without = plan();
    without.overlays.values_mut().for_each(|overlay| overlay.remotes.clear());
    without.mesh.as_mut().expect("mesh").ports[0].backends = BTreeMap::new().into();
    check(
        &without,
        &applied(),
        &expect![[r#"
        LoadPorts
        Mesh(EndFlows { to: {10.255.0.9} })
        Mesh(RemoveNeighbour { address: 10.255.0.9 })
        Overlay { id: 0000000000000000000000007, steps: [RemoveHost { mac: MacAddress([2, 66, 10, 255, 0, 9]) }, RemovePort { mac: MacAddress([2, 66, 10, 255, 0, 9]), link: "vxlan0" }, RemoveNeighbour { address: 10.255.0.9 }] }
    "#]],
    );
}

#[test]
fn a_pair_that_lost_its_other_end_is_made_anew() {
    let mut observed = applied();
    observed.links.clear();
    check(
        &plan(),
        &observed,
        &expect![[r#"
        LoadPorts
        Mesh(RemoveOuterIngress { network: 0000000000000000000000007 })
        Mesh(CreateIngress { network: 0000000000000000000000007, mac: MacAddress([2, 210, 0, 0, 0, 129]), mtu: 1450 })
        Mesh(PlugIngress { network: 0000000000000000000000007, mac: MacAddress([2, 210, 0, 0, 0, 129]), mtu: 1450 })
        DisableIpv6 { link: "rs-ingress" }
        Mesh(SetLocalnet { link: "rs-ingress", on: true })
        AddAddress { link: "rs-ingress", address: Cidr { address: 10.255.0.1, prefix: 16 } }
        Mesh(SetIngress { mtu: 1450 })
        Mesh(AddNeighbour { address: 10.255.0.9, mac: MacAddress([2, 66, 10, 255, 0, 9]) })
    "#]],
    );
}

/// P14: a table that the operator uses stays.
#[test]
fn p14_nothing_is_left_but_what_is_the_operators() {
    let mut observed = applied();
    observed.mesh.ports = Some(Default::default());
    check(
        &NetworkPlan::default(),
        &observed,
        &expect![[r#"
        RemoveLink { name: "rs-ingress" }
        Overlay { id: 0000000000000000000000007, steps: [RemoveLink { name: "vxlan0" }, RemoveNamespace] }
        Mesh(RemovePorts)
        Mesh(RemoveUserTable)
    "#]],
    );
    observed.mesh.user_is_empty = false;
    let steps = diff(&NetworkPlan::default(), &observed);
    assert!(!steps.contains(&Step::Mesh(MeshStep::RemoveUserTable)));
}

/// Hosts of the mesh are in the tables of an overlay like endpoints, but have no addresses there.
#[test]
fn a_host_that_leaves_the_cluster() {
    let mut alone = plan();
    alone.mesh.as_mut().expect("mesh").entries.clear();
    let steps = diff(&alone, &applied());
    let wanted =
        [OverlayStep::RemoveHost { mac: mac(2) }, OverlayStep::RemovePort { mac: mac(2), link: "vxlan0".to_owned() }];
    assert!(steps.contains(&Step::Overlay { id: network(), steps: wanted.to_vec() }), "{steps:?}");
}
