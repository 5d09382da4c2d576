//! The tunnel of encrypted overlays: what is done, and in which order.

use std::net::SocketAddr;

use expect_test::expect;
use types::NodeId;

use super::{
    overlay_tests::{applied, network, plan},
    tests::check,
};
use crate::{
    Encryption, EncryptionBackend, EncryptionPeer, Link, NetworkPlan, Observed, OverlayInside, OverlayNamespace,
    TunnelDevice, TunnelInside, TunnelNamespace, TunnelPeer, Vxlan, nft,
    tunnel::{KEEPALIVE_S, wanted},
    wireguard::public_key,
};

const PEER: [u8; 32] = [2; 32];

/// The plan of the overlays' tests, encrypted, on a kernel with WireGuard.
fn sealed() -> NetworkPlan {
    let mut plan = plan();
    let peer = EncryptionPeer { public_key: PEER, address: [192, 0, 2, 2].into() };
    plan.overlays.values_mut().for_each(|overlay| overlay.encrypted = true);
    plan.data_path.as_mut().expect("one").encryption = Some(Encryption {
        backend: EncryptionBackend::Kernel,
        private_key: [1; 32].into(),
        port: 51820,
        peers: [(NodeId::from_random(1), peer)].into(),
    });
    plan
}

/// What the kernel has once that is applied.
fn standing() -> Observed {
    let plan = sealed();
    let wanted = wanted(&plan).expect("sealed by the kernel");
    let peer = TunnelPeer {
        public_key: PEER,
        endpoint: Some(SocketAddr::from(([192, 0, 2, 2], 51820))),
        allowed: vec!["240.0.2.2/32".parse().expect("address")],
        keepalive: KEEPALIVE_S,
        is_established: true,
    };
    let device = TunnelDevice {
        kind: "wireguard".to_owned(),
        up: true,
        mtu: 1440,
        addresses: vec!["240.0.2.1/4".parse().expect("address")],
        public_key: Some(public_key(&[1; 32].into())),
        port: 51820,
        peers: vec![peer],
    };
    let mut observed = applied(&plan, 1440);
    observed.underlay.insert([192, 0, 2, 1].into(), 1500);
    let rules = Some(nft::digest(&wanted.ruleset));
    observed.tunnel = Some(TunnelNamespace::Alive(TunnelInside { device: Some(device), rules }));
    let inside = inside(&mut observed);
    inside.hosts.values_mut().for_each(|host| *host = [240, 0, 2, 2].into());
    let local = Some([240, 0, 2, 1].into());
    let vxlan = inside.links.get_mut("vxlan0").expect("one");
    vxlan.vxlan = Some(Vxlan { vni: 4097, local, port: 4789, learns: false });
    observed
}

fn inside(observed: &mut Observed) -> &mut OverlayInside {
    match observed.overlays.get_mut(&network()) {
        Some(OverlayNamespace::Alive(inside)) => inside,
        other => panic!("{other:?}"),
    }
}

fn tunnel(observed: &mut Observed) -> &mut TunnelInside {
    match &mut observed.tunnel {
        Some(TunnelNamespace::Alive(inside)) => inside,
        other => panic!("{other:?}"),
    }
}

fn device(observed: &mut Observed) -> &mut TunnelDevice {
    tunnel(observed).device.as_mut().expect("a device")
}

/// One step in a line.
fn says(plan: &NetworkPlan, observed: &Observed) -> String {
    super::diff(plan, observed).iter().map(|step| format!("{step:?}\n")).collect()
}

/// Each of the parts is there, behind the one before it.
fn in_order(said: &str, parts: &[&str]) {
    let mut rest = said;
    for part in parts {
        let Some(at) = rest.find(part) else { panic!("{part:?} is not where it should be in:\n{said}") };
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn n04_a_tunnel_that_stands_needs_nothing() {
    check(&sealed(), &standing(), &expect![""]);
}

/// P15 c: the rules come before the device, that before the VXLAN interface, and this is made inside the tunnel.
#[test]
fn n04_p15_the_tunnel_comes_before_what_uses_it() {
    let said = says(&sealed(), &applied(&NetworkPlan::default(), 1500));
    in_order(
        &said,
        &[
            "Tunnel { steps: [CreateNamespace, LoadRules {",
            "CreateDevice, SetKey { private_key: PrivateKey(..), port: 51820 }, SetPeers { remove: [], set: [([2, 2, ",
            "WantedPeer { endpoint: 192.0.2.2:51820, address: 240.0.2.2 })] }, ",
            "AddAddress(Cidr { address: 240.0.2.1, prefix: 4 }), DeviceUp { mtu: 1440, port: 51820 }] }",
            "CreateSealedVxlan { vni: 4097, local: 240.0.2.1, port: 4789, mtu: 1390 }, PlugUplink { name: \"vxlan0\", ",
            "AddHost { ",
            "host: 240.0.2.2 }",
        ],
    );
}

/// A tunnel that is gone has taken the VXLAN interfaces with it, whatever was seen of them.
#[test]
fn p29_what_is_left_of_a_tunnel_is_replaced() {
    let mut observed = standing();
    observed.tunnel = Some(TunnelNamespace::Stale);
    device_is_made_anew(&observed);
    let mut observed = standing();
    device(&mut observed).kind = "dummy".to_owned();
    tunnel(&mut observed).rules = None;
    let said = says(&sealed(), &observed);
    in_order(
        &said,
        &["Tunnel { steps: [LoadRules {", "RemoveDevice, CreateDevice, SetKey {", "SetPeers {", "DeviceUp {"],
    );
}

fn device_is_made_anew(observed: &Observed) {
    let said = says(&sealed(), observed);
    let said: Vec<&str> = said.lines().collect();
    assert!(said[0].contains("RemoveNamespace, CreateNamespace, LoadRules"), "{said:#?}");
    assert!(said[1].contains("RemoveLink { name: \"vxlan0\" }, CreateSealedVxlan"), "{said:#?}");
}

/// N-04: a replaced key changes the device or the peer, and nothing else.
#[test]
fn n04_keys_are_replaced_where_they_stand() {
    let mut plan = sealed();
    let encryption = plan.data_path.as_mut().expect("one").encryption.as_mut().expect("one");
    encryption.peers.values_mut().for_each(|peer| peer.public_key = [3; 32]);
    let said = says(&plan, &standing());
    in_order(&said, &["Tunnel { steps: [SetPeers { remove: [[2, 2, ", "]], set: [([3, 3, "]);
    assert_eq!(said.lines().count(), 1, "{said}");
    let encryption = plan.data_path.as_mut().expect("one").encryption.as_mut().expect("one");
    (encryption.private_key, encryption.peers) = ([9; 32].into(), sealed_peers());
    let only = "Tunnel { steps: [SetKey { private_key: PrivateKey(..), port: 51820 }] }\n";
    assert_eq!(says(&plan, &standing()), only);
}

fn sealed_peers() -> std::collections::BTreeMap<NodeId, EncryptionPeer> {
    sealed().data_path.and_then(|path| path.encryption).expect("one").peers
}

/// What somebody else did to the device is undone.
#[test]
fn p15_foreign_hands_are_undone() {
    let mut observed = standing();
    device(&mut observed).addresses.push("10.0.0.1/8".parse().expect("address"));
    device(&mut observed).peers[0].allowed.push("0.0.0.0/0".parse().expect("address"));
    device(&mut observed).up = false;
    in_order(
        &says(&sealed(), &observed),
        &[
            "Tunnel { steps: [SetPeers { remove: [], set: [([2, 2, ",
            "RemoveAddress(Cidr { address: 10.0.0.1, prefix: 8 }), DeviceUp { mtu: 1440, port: 51820 }] }",
        ],
    );
}

/// P08: the underlay's MTU is followed, and with it goes all that is in the tunnel.
#[test]
fn p08_a_smaller_underlay_makes_the_tunnel_smaller() {
    let mut observed = standing();
    observed.underlay.insert([192, 0, 2, 1].into(), 1400);
    let said = says(&sealed(), &observed);
    assert!(said.contains("DeviceUp { mtu: 1340, port: 51820 }"), "{said}");
    assert!(said.contains("SetBridge { mtu: 1290 }"), "{said}");
}

/// Fail closed: neither a TAP nor a VXLAN interface of the host's own is left where the other way is wanted.
#[test]
fn n04_p15_a_host_changes_from_one_way_to_the_other() {
    let mut to_user = sealed();
    let encryption = to_user.data_path.as_mut().expect("one").encryption.as_mut().expect("one");
    encryption.backend = EncryptionBackend::Userspace;
    in_order(
        &says(&to_user, &standing()),
        &["Tunnel { steps: [RemoveDevice, RemoveNamespace] }", "RemoveLink { name: \"vxlan0\" }"],
    );
    let mut with_tap = standing();
    let links = &mut inside(&mut with_tap).links;
    links.remove("vxlan0");
    links.insert("tap0".to_owned(), Link { kind: "tun".to_owned(), ..Link::default() });
    let said = says(&sealed(), &with_tap);
    assert!(said.contains("RemoveLink { name: \"tap0\" }, CreateSealedVxlan"), "{said}");
}

/// Two hosts whose tunnel address or key is the same would take turns for ever: the first has it.
#[test]
fn n04_hosts_that_look_the_same_come_to_rest() {
    let mut plan = sealed();
    let encryption = plan.data_path.as_mut().expect("one").encryption.as_mut().expect("one");
    let twin = EncryptionPeer { public_key: [7; 32], address: [208, 0, 2, 2].into() };
    encryption.peers.insert(NodeId::from_random(2), twin);
    let copy = EncryptionPeer { public_key: PEER, address: [192, 0, 2, 3].into() };
    encryption.peers.insert(NodeId::from_random(3), copy);
    check(&plan, &standing(), &expect![""]);
}
