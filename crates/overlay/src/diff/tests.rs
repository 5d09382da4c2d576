//! A small text form of steps, so that a test reads like what happens.

use std::{collections::BTreeMap, net::Ipv4Addr};

use expect_test::{Expect, expect};

use super::*;
use crate::{BridgePlan, BridgePort, EndpointId, EndpointPlan, Inside, InsideLink, MacAddress};

fn plan(ids: &[(&str, u8)]) -> NetworkPlan {
    let bridge = BridgePlan::new("172.17.0.0/16".parse().expect("subnet")).expect("bridge");
    let endpoints = ids.iter().map(|(id, last)| {
        let address = Ipv4Addr::new(172, 17, 0, *last);
        let port = BridgePort { address, mac: MacAddress::for_ipv4(address) };
        let endpoint = EndpointPlan { bridge: Some(port), hostname: (*id).to_owned(), ..EndpointPlan::default() };
        (id.parse().expect("id"), endpoint)
    });
    NetworkPlan { bridge: Some(bridge), endpoints: endpoints.collect(), ..NetworkPlan::default() }
}

/// What the kernel has once `plan` is applied.
fn applied(plan: &NetworkPlan) -> Observed {
    let Some(bridge) = &plan.bridge else { return Observed::default() };
    let mut observed = Observed { ip_forward: true, ..Observed::default() };
    let digest = nft::digest(&nft::render(plan).expect("rules"));
    observed.nft = NftTable::Loaded { digest };
    let mac = Some(MacAddress::for_ipv4(bridge.gateway));
    let addresses = bridge.link().addresses;
    let (kind, mtu) = ("bridge".to_owned(), bridge.mtu);
    let link = Link { index: 10, kind, up: true, mtu, mac, addresses, ipv6_off: true, ..Link::default() };
    observed.links.insert(bridge.name.clone(), link);
    for (n, (id, endpoint)) in plan.endpoints.iter().enumerate() {
        let port = endpoint.bridge.expect("every endpoint here is on the bridge");
        let index = 20 + n as u32;
        let (kind, controller, peer) = ("veth".to_owned(), Some(10), Some(2));
        let link = Link { index, kind, up: true, mtu, controller, peer, ..Link::default() };
        observed.links.insert(veth_name(id), link);
        let interface = InsideLink {
            index: 2,
            up: true,
            mtu: bridge.mtu,
            mac: Some(port.mac),
            peer: Some(index),
            stacked: None,
            routes: Vec::new(),
            addresses: vec![bridge.with_prefix(port.address)],
            link_local: Vec::new(),
            ipv6_off: true,
        };
        let interfaces = BTreeMap::from([("eth0".to_owned(), interface)]);
        let default_route = Some(crate::WayOut::Gateway(bridge.gateway.into()));
        let inside = Inside { loopback_up: true, interfaces, default_route, ..Inside::default() };
        observed.namespaces.insert(id.clone(), Namespace::Alive(inside));
    }
    observed
}

fn inside<'a>(observed: &'a mut Observed, id: &str) -> &'a mut Inside {
    match observed.namespaces.get_mut(&id.parse::<EndpointId>().expect("id")) {
        Some(Namespace::Alive(inside)) => inside,
        other => panic!("{id}: {other:?}"),
    }
}

pub(super) fn check(plan: &NetworkPlan, observed: &Observed, expected: &Expect) {
    let mut text = String::new();
    for step in diff(plan, observed) {
        match step {
            Step::LoadNft { .. } => text.push_str("LoadNft\n"),
            Step::Endpoint { id, steps } => {
                for step in steps {
                    text.push_str(&format!("{id}: {step:?}\n"));
                }
            }
            other => text.push_str(&format!("{other:?}\n")),
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn nothing_to_do_when_all_is_as_wanted() {
    let plan = plan(&[("a", 2), ("b", 3)]);
    check(&plan, &applied(&plan), &expect![""]);
    check(&NetworkPlan::default(), &Observed::default(), &expect![""]);
}

#[test]
fn a_first_endpoint_on_an_empty_host() {
    check(
        &plan(&[("a", 2)]),
        &Observed::default(),
        &expect![[r#"
            LoadNft
            EnableForwarding
            CreateBridge { name: "rswarm0", mac: MacAddress([2, 66, 172, 17, 0, 1]), mtu: 1500 }
            DisableIpv6 { link: "rswarm0" }
            AddAddress { link: "rswarm0", address: Cidr { address: 172.17.0.1, prefix: 16 } }
            a: CreateNamespace
            a: LoopbackUp
            a: CreateVeth { at: Host, name: "rs-ca978112ca1b", inside: "eth0", mac: MacAddress([2, 66, 172, 17, 0, 2]), mtu: 1500 }
            a: Attach { name: "rs-ca978112ca1b", bridge: "rswarm0", mtu: 1500 }
            a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 172.17.0.2, prefix: 16 }), InterfaceUp, DefaultRoute(Gateway(172.17.0.1))] }
        "#]],
    );
}

#[test]
fn what_nobody_wants_goes_first() {
    let mut observed = applied(&plan(&[("a", 2), ("b", 3)]));
    let stray = Link { index: 99, ..observed.links[&veth_name(&"b".parse().expect("id"))].clone() };
    observed.links.insert("rs-0123456789ab".to_owned(), stray);
    check(
        &plan(&[("a", 2)]),
        &observed,
        &expect![[r#"
            b: RemoveVeth { at: Host, name: "rs-3e23e8160039" }
            b: RemoveNamespace
            RemoveLink { name: "rs-0123456789ab" }
        "#]],
    );
}

#[test]
fn an_empty_plan_removes_everything() {
    check(
        &NetworkPlan::default(),
        &applied(&plan(&[("a", 2)])),
        &expect![[r#"
            a: RemoveVeth { at: Host, name: "rs-ca978112ca1b" }
            a: RemoveNamespace
            RemoveLink { name: "rswarm0" }
            RemoveNft
        "#]],
    );
}

#[test]
fn a_stale_namespace_file_is_replaced_with_its_veth() {
    let plan = plan(&[("a", 2)]);
    let mut observed = applied(&plan);
    observed.namespaces.insert("a".parse().expect("id"), Namespace::Stale);
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: RemoveNamespace
            a: CreateNamespace
            a: LoopbackUp
            a: RemoveVeth { at: Host, name: "rs-ca978112ca1b" }
            a: CreateVeth { at: Host, name: "rs-ca978112ca1b", inside: "eth0", mac: MacAddress([2, 66, 172, 17, 0, 2]), mtu: 1500 }
            a: Attach { name: "rs-ca978112ca1b", bridge: "rswarm0", mtu: 1500 }
            a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 172.17.0.2, prefix: 16 }), InterfaceUp, DefaultRoute(Gateway(172.17.0.1))] }
        "#]],
    );
}

#[test]
fn a_pair_whose_ends_do_not_belong_together_is_made_anew() {
    let plan = plan(&[("a", 2)]);
    let mut observed = applied(&plan);
    inside(&mut observed, "a").interfaces.get_mut("eth0").expect("eth0").peer = Some(77);
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: RemoveVeth { at: Host, name: "rs-ca978112ca1b" }
            a: RemoveInterface { name: "eth0" }
            a: CreateVeth { at: Host, name: "rs-ca978112ca1b", inside: "eth0", mac: MacAddress([2, 66, 172, 17, 0, 2]), mtu: 1500 }
            a: Attach { name: "rs-ca978112ca1b", bridge: "rswarm0", mtu: 1500 }
            a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 172.17.0.2, prefix: 16 }), InterfaceUp, DefaultRoute(Gateway(172.17.0.1))] }
        "#]],
    );
}

#[test]
fn small_damage_is_repaired_in_place() {
    let plan = plan(&[("a", 2), ("b", 3), ("c", 4)]);
    let mut observed = applied(&plan);
    inside(&mut observed, "a").default_route = None;
    inside(&mut observed, "b").interfaces.get_mut("eth0").expect("eth0").up = false;
    observed.links.get_mut(&veth_name(&"c".parse().expect("id"))).expect("veth").controller = None;
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: Inside { interface: "eth0", steps: [DefaultRoute(Gateway(172.17.0.1))] }
            b: Inside { interface: "eth0", steps: [InterfaceUp, DefaultRoute(Gateway(172.17.0.1))] }
            c: Attach { name: "rs-2e7d2c03a950", bridge: "rswarm0", mtu: 1500 }
        "#]],
    );
}

#[test]
fn a_changed_subnet_moves_bridge_and_endpoint_without_new_interfaces() {
    let before = plan(&[("a", 2)]);
    let mut after = before.clone();
    after.bridge =
        Some(BridgePlan { mtu: 1450, ..BridgePlan::new("172.18.0.0/16".parse().expect("net")).expect("bridge") });
    for endpoint in after.endpoints.values_mut() {
        endpoint.bridge.as_mut().expect("port").address = Ipv4Addr::new(172, 18, 0, 2);
    }
    check(
        &after,
        &applied(&before),
        &expect![[r#"
            LoadNft
            RemoveAddress { link: "rswarm0", address: Cidr { address: 172.17.0.1, prefix: 16 } }
            AddAddress { link: "rswarm0", address: Cidr { address: 172.18.0.1, prefix: 16 } }
            SetBridge { name: "rswarm0", mtu: 1450 }
            a: Attach { name: "rs-ca978112ca1b", bridge: "rswarm0", mtu: 1450 }
            a: Inside { interface: "eth0", steps: [SetMtu(1450), RemoveAddress(Cidr { address: 172.17.0.2, prefix: 16 }), AddAddress(Cidr { address: 172.18.0.2, prefix: 16 }), DefaultRoute(Gateway(172.18.0.1))] }
        "#]],
    );
}

/// E-50: endpoints that shall be apart are, and are not any more once that is not said.
#[test]
fn e_50_endpoints_of_the_bridge_can_be_kept_apart() {
    let together = plan(&[("a", 2)]);
    let mut apart = together.clone();
    apart.bridge.as_mut().expect("bridge").apart = true;
    check(
        &apart,
        &applied(&together),
        &expect![[r#"
            LoadNft
            a: Isolate { name: "rs-ca978112ca1b", apart: true }
        "#]],
    );
    let mut observed = applied(&apart);
    observed.links.get_mut("rs-ca978112ca1b").expect("its port").isolated = true;
    check(&apart, &observed, &expect![[""]]);
    check(
        &together,
        &observed,
        &expect![[r#"
            LoadNft
            a: Isolate { name: "rs-ca978112ca1b", apart: false }
        "#]],
    );
    let rules = nft::render(&apart).expect("rules");
    assert!(!rules.contains("iifname") && rules.contains("ct status dnat accept"), "{rules}");
}

#[test]
fn rules_changed_by_somebody_else_are_loaded_again() {
    let plan = plan(&[]);
    let observed = Observed { nft: NftTable::Unknown, ..applied(&plan) };
    check(
        &plan,
        &observed,
        &expect![[r#"
        LoadNft
    "#]],
    );
}

#[test]
fn a_foreign_kind_under_our_name_is_replaced() {
    let plan = plan(&[]);
    let mut observed = applied(&plan);
    observed.links.get_mut("rswarm0").expect("bridge").kind = "dummy".to_owned();
    check(
        &plan,
        &observed,
        &expect![[r#"
        RemoveLink { name: "rswarm0" }
        CreateBridge { name: "rswarm0", mac: MacAddress([2, 66, 172, 17, 0, 1]), mtu: 1500 }
        DisableIpv6 { link: "rswarm0" }
        AddAddress { link: "rswarm0", address: Cidr { address: 172.17.0.1, prefix: 16 } }
    "#]],
    );
}

#[test]
fn the_table_as_text() {
    expect![[r#"
        table inet rswarm
        delete table inet rswarm
        table inet rswarm {
        	chain forward {
        		type filter hook forward priority filter; policy accept;
        		iifname "rswarm0" accept
        		oifname != "rswarm0" accept
        		ct state established,related accept
        		ct status dnat accept
        		drop
        	}
        	chain postrouting {
        		type nat hook postrouting priority srcnat; policy accept;
        		ip saddr 172.17.0.0/16 ip daddr != 172.17.0.0/16 oifname != "rswarm0" masquerade
        	}
        }
    "#]]
    .assert_eq(&nft::render(&plan(&[])).expect("rules"));
    let mut plain = plan(&[]);
    plain.bridge.as_mut().expect("bridge").masquerade = false;
    assert!(!nft::render(&plain).expect("rules").contains("masquerade"));
    assert_eq!(nft::render(&NetworkPlan::default()), None);
}

/// E-17: an interface has the name and the settings that its user chose, and nothing is done where it has them.
#[test]
fn e_17_a_named_interface_with_settings() {
    let mut plan = plan(&[("a", 2)]);
    let observed = applied(&plan);
    let special = &mut plan.endpoints.get_mut(&"a".parse::<EndpointId>().expect("id")).expect("a").bridge_special;
    special.name = "lan".to_owned();
    let setting = |text| crate::InterfaceSetting::parse(text).expect("good");
    special.settings = vec![setting("net.ipv4.conf.IFNAME.log_martians=1")];
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: RemoveInterface { name: "eth0" }
            a: RemoveVeth { at: Host, name: "rs-ca978112ca1b" }
            a: CreateVeth { at: Host, name: "rs-ca978112ca1b", inside: "lan", mac: MacAddress([2, 66, 172, 17, 0, 2]), mtu: 1500 }
            a: Attach { name: "rs-ca978112ca1b", bridge: "rswarm0", mtu: 1500 }
            a: Inside { interface: "lan", steps: [DisableIpv6, AddAddress(Cidr { address: 172.17.0.2, prefix: 16 }), Set(InterfaceSetting { family: "ipv4", kind: "conf", key: "log_martians", value: "1" }), InterfaceUp, DefaultRoute(Gateway(172.17.0.1))] }
        "#]],
    );
    let mut named = observed;
    let interfaces = &mut inside(&mut named, "a").interfaces;
    let link = interfaces.remove("eth0").expect("eth0");
    interfaces.insert("lan".to_owned(), link);
    check(&plan, &named, &expect![""]);
    let special = &mut plan.endpoints.get_mut(&"a".parse::<EndpointId>().expect("id")).expect("a").bridge_special;
    special.settings.push(setting("net.ipv6.conf.IFNAME.disable_ipv6=0"));
    inside(&mut named, "a").interfaces.get_mut("lan").expect("lan").ipv6_off = false;
    check(&plan, &named, &expect![""]);
    special_name(&mut plan, "a/b");
    assert!(plan.problems().endpoints.values().next().expect("a problem").starts_with("interface name \"a/b\""));
}

fn special_name(plan: &mut NetworkPlan, name: &str) {
    for endpoint in plan.endpoints.values_mut() {
        name.clone_into(&mut endpoint.bridge_special.name);
    }
}
