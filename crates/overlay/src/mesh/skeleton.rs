//! The chains of the host's table that do not depend on which ports are published. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use types::NetworkId;

use super::{
    INGRESS,
    chain::Chain,
    ports::{NOBODY, SPARED},
};
use crate::{Cidr, MeshPlan, NetworkPlan};

/// TCP's header and that of IPv4 or IPv6: what a segment is smaller than its packet.
const HEADERS: [(&str, u32); 2] = [("ipv4", 40), ("ipv6", 60)];
/// Before routing, where the operator's own table comes first.
const TRANSLATE: &str = "nat hook prerouting priority dstnat";
/// Priority -100 is "dstnat", a name nft knows only before routing.
const TRANSLATE_OWN: &str = "nat hook output priority -100";
/// Before the bridge's own masquerading, which knows nothing of the mesh.
const SOURCES: &str = "nat hook postrouting priority srcnat - 1";

/// The chains for this plan, each before those that lead to it. Those that every packet meets ask for an interface's
/// name once at most: to compare it, the kernel copies it. `mtu` is the ingress network's, None without a mesh.
pub fn chains(plan: &NetworkPlan, mtu: Option<u32>) -> Vec<Chain> {
    let spares = plan.mesh.iter().any(|mesh| !mesh.spared.is_empty());
    let mut chains = vec![
        Chain::new(SPARED, None, if spares { texts(&["accept"]) } else { Vec::new() }),
        Chain::new(
            NOBODY,
            None,
            texts(&["meta l4proto tcp reject with tcp reset", "reject with icmpx port-unreachable"]),
        ),
    ];
    chains.extend(lookups());
    chains.extend([
        Chain::new("prerouting", Some(TRANSLATE), texts(&["fib daddr type local goto to-host"])),
        Chain::new("output", Some(TRANSLATE_OWN), texts(&["fib daddr type local goto from-host"])),
        Chain::new("sources", Some(SOURCES), sources(plan)),
    ]);
    let guarded = localnet_links(plan).into_iter().map(|link| format!("ip daddr 127.0.0.0/8 iifname \"{link}\" drop"));
    chains.push(Chain::new("loopback", Some("filter hook prerouting priority raw"), guarded.collect()));
    if let Some(mtu) = mtu {
        chains.extend(ingress_chains(mtu));
    }
    chains.retain(|chain| !chain.rules.is_empty());
    chains
}

/// What a new connection to this host, and from it, is looked up in: addresses before interfaces before all others.
fn lookups() -> Vec<Chain> {
    vec![
        Chain::new(
            "by-address",
            None,
            texts(&[
                "ip daddr . meta l4proto . th dport vmap @ports4",
                "ip6 daddr . meta l4proto . th dport vmap @ports6",
                "ip daddr . meta l4proto . th dport vmap @port-ranges4",
                "ip6 daddr . meta l4proto . th dport vmap @port-ranges6",
            ]),
        ),
        Chain::new(
            "by-own-address",
            None,
            texts(&[
                "ip daddr . meta l4proto . th dport vmap @own-ports4",
                "ip6 daddr . meta l4proto . th dport vmap @own-ports6",
                "ip daddr . meta l4proto . th dport vmap @own-port-ranges4",
                "ip6 daddr . meta l4proto . th dport vmap @own-port-ranges6",
            ]),
        ),
        Chain::new(
            "by-port",
            None,
            texts(&[
                "meta nfproto ipv4 meta l4proto . th dport vmap @all-ports4",
                "meta nfproto ipv4 meta l4proto . th dport vmap @all-port-ranges4",
                "meta nfproto ipv6 meta l4proto . th dport vmap @all-ports6",
                "meta nfproto ipv6 meta l4proto . th dport vmap @all-port-ranges6",
                "meta l4proto . th dport vmap @ports",
                "meta l4proto . th dport vmap @port-ranges",
            ]),
        ),
        Chain::new(
            "by-interface",
            None,
            texts(&[
                "iifname . meta l4proto . th dport vmap @ports-on",
                "iifname . meta l4proto . th dport vmap @port-ranges-on",
            ]),
        ),
        Chain::new(
            "to-host",
            None,
            texts(&[
                "jump by-address",
                // Of that very interface: a port bound to it is not open at the addresses of others.
                "fib daddr . iif type local jump by-interface",
                "goto by-port",
            ]),
        ),
        Chain::new(
            "from-host",
            None,
            texts(&[
                "jump by-address",
                "jump by-own-address",
                "oifname . meta l4proto . th dport vmap @ports-on",
                "oifname . meta l4proto . th dport vmap @port-ranges-on",
                // What the process dials that leads from IPv6 may be open at all addresses of IPv6 alone.
                "ip daddr 127.64.0.0/10 meta l4proto . th dport vmap @all-ports6",
                "ip daddr 127.64.0.0/10 meta l4proto . th dport vmap @all-port-ranges6",
                "goto by-port",
            ]),
        ),
    ]
}

/// Links through which this host's own connections to 127.0.0.0/8 may be led.
pub fn localnet_links(plan: &NetworkPlan) -> Vec<String> {
    let bridges = published4(plan).into_iter().map(|(name, _)| name);
    plan.mesh.iter().map(|_| INGRESS.to_owned()).chain(bridges).collect()
}

/// Bridges by which endpoints are reached that publish over IPv4, and their subnets.
fn published4(plan: &NetworkPlan) -> BTreeSet<(String, Cidr)> {
    let bridge = |network: Option<NetworkId>| match network {
        None => plan.bridge.as_ref().map(|bridge| (bridge.name.clone(), bridge.subnet.network())),
        Some(id) => {
            let local = plan.locals.get(&id)?;
            Some((local.bridge_name(id)?, local.ipv4?.subnet.network()))
        }
    };
    plan.endpoints.values().filter_map(|endpoint| bridge(plan.published4(endpoint)?.0)).collect()
}

/// The few sources that a reply could not find: the loopback's, and those of endpoints on a bridge, which
/// on another host are somebody else's and on this one are reached past the host.
fn sources(plan: &NetworkPlan) -> Vec<String> {
    let mut rules = Vec::new();
    if plan.mesh.is_some() {
        rules.push(format!("oifname \"{INGRESS}\" ip saddr 127.0.0.0/8 masquerade"));
    }
    if plan.mesh.as_ref().is_some_and(MeshPlan::has_ipv6) {
        rules.push(format!("oifname \"{INGRESS}\" ip6 saddr ::1 masquerade"));
    }
    if let (Some(bridge), Some(_)) = (&plan.bridge, &plan.mesh) {
        let subnet = bridge.subnet.network();
        let own = plan.data_path.as_ref().map(|path| path.address);
        let to = match own {
            Some(IpAddr::V4(address)) => format!("snat ip to {address}"),
            _ => "masquerade".to_owned(),
        };
        rules.push(format!("oifname \"{INGRESS}\" ip saddr {subnet} {to}"));
    }
    let rule = |(name, subnet): (String, Cidr)| {
        format!("oifname \"{name}\" ct status dnat ip saddr {{ 127.0.0.0/8, {subnet} }} masquerade")
    };
    rules.extend(published4(plan).into_iter().map(rule));
    rules.extend(sources6(plan));
    rules
}

/// The same of endpoints that are reached over IPv6 by way of another bridge.
fn sources6(plan: &NetworkPlan) -> BTreeSet<String> {
    let networks = plan.endpoints.values().filter_map(|endpoint| plan.published6(endpoint));
    let rule = |(network, _): (NetworkId, _)| {
        let local = plan.locals.get(&network)?;
        let (name, subnet) = (local.bridge_name(network)?, local.ipv6?.subnet.network());
        Some(format!("oifname \"{name}\" ct status dnat ip6 saddr {subnet} masquerade"))
    };
    networks.filter_map(rule).collect()
}

/// What guards the host's port in the ingress network: out goes what a published port led there, in come
/// its replies; nobody reaches a backend past a published port, and no backend this host or the world through it.
fn ingress_chains(mtu: u32) -> Vec<Chain> {
    let guard = |link: String, own: &[&str]| {
        let clamps = HEADERS.map(|(family, headers)| {
            let size = mtu.saturating_sub(headers);
            format!("tcp flags & (syn | rst) == syn meta nfproto {family} tcp option maxseg size set {size}")
        });
        [link].into_iter().chain(texts(own)).chain(clamps).collect()
    };
    let inwards = guard(format!("iifname != \"{INGRESS}\" accept"), &["ct state != { established, related } drop"]);
    let outwards = guard(format!("oifname != \"{INGRESS}\" accept"), &[]);
    vec![
        Chain::new("from-backends", Some("filter hook prerouting priority mangle"), inwards),
        Chain::new("to-backends", Some("filter hook postrouting priority mangle"), outwards),
        Chain::new(
            "forward",
            Some("filter hook forward priority filter"),
            vec![format!("ct status & dnat == 0 oifname \"{INGRESS}\" drop")],
        ),
    ]
}

fn texts(rules: &[&str]) -> Vec<String> {
    rules.iter().map(ToString::to_string).collect()
}
