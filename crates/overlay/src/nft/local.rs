//! The rules of users' bridge networks: they end where the network ends, and lead to the world unless internal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Result, Write},
    net::IpAddr,
};

use types::{GatewayMode, NetworkId, PortProtocol};

use crate::{LocalBridge, LocalNetworkPlan, NetworkPlan, OpenPorts, mesh::ports::span};

/// A network that has a bridge.
struct Bridged<'a> {
    id: NetworkId,
    name: String,
    network: &'a LocalNetworkPlan,
    bridge: &'a LocalBridge,
}

impl Bridged<'_> {
    /// Whether more leads in than what a published port of this host led here.
    fn is_open(&self) -> bool {
        let lets_in = |mode| matches!(mode, GatewayMode::NatUnprotected | GatewayMode::Routed);
        !self.network.internal
            && [true, false].map(|is_ipv4| self.network.gateway_mode(is_ipv4)).map(lets_in).contains(&true)
    }
}

/// Nothing begins in a bridge from anywhere else, another of our bridges included, unless a published port led
/// it there or the network's mode opens it; nothing of an internal one leaves it. The chain comes before the host
/// bridge's, which accepts whatever its own endpoints send: only a drop is final.
pub fn chains(out: &mut String, plan: &NetworkPlan) -> Result {
    let bridged = plan.locals.iter().filter_map(|(id, network)| {
        Some(Bridged { id: *id, name: network.bridge_name(*id)?, network, bridge: network.bridge()? })
    });
    let bridged: Vec<Bridged<'_>> = bridged.collect();
    if bridged.is_empty() {
        return Ok(());
    }
    writeln!(out, "\tchain isolation {{")?;
    writeln!(out, "\t\ttype filter hook forward priority filter - 1; policy accept;")?;
    writeln!(out, "\t\tct state established,related accept")?;
    writeln!(out, "\t\tct status dnat accept")?;
    for one in &bridged {
        let name = &one.name;
        if !one.bridge.apart {
            writeln!(out, "\t\tiifname \"{name}\" oifname \"{name}\" accept")?;
        }
        if !one.is_open() {
            writeln!(out, "\t\toifname \"{name}\" drop")?;
        }
        if one.network.internal {
            writeln!(out, "\t\tiifname \"{name}\" drop")?;
        }
    }
    // After all that an internal network sends has been dropped.
    let host = plan.bridge.iter().map(|bridge| &bridge.name);
    let names: Vec<&String> = host.chain(bridged.iter().map(|one| &one.name)).collect();
    for one in bridged.iter().filter(|one| one.is_open()) {
        let open = open_ports(plan, one.id);
        for is_ipv4 in [true, false] {
            entrance(out, one, is_ipv4, &names, &open)?;
        }
    }
    writeln!(out, "\t}}")?;
    writeln!(out, "\tchain bridges {{")?;
    writeln!(out, "\t\ttype nat hook postrouting priority srcnat; policy accept;")?;
    for one in bridged.iter().filter(|one| one.bridge.masquerade && !one.network.internal) {
        sources(out, one)?;
    }
    writeln!(out, "\t}}")
}

/// What of one family begins in an open network from elsewhere. What is not its own is dropped; of other bridges of ours
/// also where the mode lets in whoever has a route.
fn entrance(
    out: &mut String,
    one: &Bridged<'_>,
    is_ipv4: bool,
    bridges: &[&String],
    open: &BTreeMap<(IpAddr, PortProtocol), Vec<(u16, u16)>>,
) -> Result {
    let name = &one.name;
    let (nfproto, family, pings) = match is_ipv4 {
        true => ("ipv4", "ip", "icmp"),
        false => ("ipv6", "ip6", "ipv6-icmp"),
    };
    match one.network.gateway_mode(is_ipv4) {
        GatewayMode::NatUnprotected => {
            let others: Vec<String> =
                bridges.iter().filter(|other| **other != name).map(|other| format!("\"{other}\"")).collect();
            if others.is_empty() {
                return Ok(());
            }
            let others = others.join(", ");
            return writeln!(out, "\t\tmeta nfproto {nfproto} iifname {{ {others} }} oifname \"{name}\" drop");
        }
        GatewayMode::Routed => {
            writeln!(out, "\t\tmeta nfproto {nfproto} meta l4proto {pings} oifname \"{name}\" accept")?;
            let of_family = open.iter().filter(|((address, _), _)| address.is_ipv4() == is_ipv4);
            let element = |((address, protocol), spans): (&(IpAddr, PortProtocol), &Vec<(u16, u16)>)| {
                let (address, protocol) = (*address, protocol.as_str());
                let spans = spans.iter().map(move |ports| format!("{address} . {protocol} . {}", span(*ports)));
                spans.collect::<Vec<_>>()
            };
            let elements: Vec<String> = of_family.flat_map(element).collect();
            if !elements.is_empty() {
                let elements = elements.join(", ");
                writeln!(
                    out,
                    "\t\t{family} daddr . meta l4proto . th dport {{ {elements} }} oifname \"{name}\" accept"
                )?;
            }
        }
        GatewayMode::Nat | GatewayMode::Isolated => {}
    }
    writeln!(out, "\t\tmeta nfproto {nfproto} oifname \"{name}\" drop")
}

/// Under which address of the host's what leaves the network does so.
fn sources(out: &mut String, one: &Bridged<'_>) -> Result {
    let name = &one.name;
    for (subnet, gateway) in one.network.ranges() {
        if one.network.gateway_mode(gateway.is_ipv4()) == GatewayMode::Routed {
            continue;
        }
        let (subnet, family) = (subnet.network(), if gateway.is_ipv4() { "ip" } else { "ip6" });
        let to = match one.bridge.gateway(gateway.is_ipv4()).source {
            Some(source) => format!("snat {family} to {source}"),
            None => "masquerade".to_owned(),
        };
        writeln!(out, "\t\t{family} saddr {subnet} {family} daddr != {subnet} oifname != \"{name}\" {to}")?;
    }
    Ok(())
}

/// What is open of the endpoints whose default route of that family leads through this network, without overlaps: an
/// element of a set may not be in another one.
fn open_ports(plan: &NetworkPlan, network: NetworkId) -> BTreeMap<(IpAddr, PortProtocol), Vec<(u16, u16)>> {
    let mut sorted: BTreeMap<(IpAddr, PortProtocol), BTreeSet<(u16, u16)>> = BTreeMap::new();
    let mut note = |address: Option<IpAddr>, open: &[OpenPorts]| {
        let Some(address) = address else { return };
        for OpenPorts { protocol, ports } in open {
            sorted.entry((address, *protocol)).or_default().insert(*ports);
        }
    };
    for endpoint in plan.endpoints.values().filter(|endpoint| !endpoint.open4.is_empty() || !endpoint.open6.is_empty())
    {
        let way = plan.default_way(endpoint).filter(|way| *way == network);
        let four = way.and_then(|way| endpoint.locals.iter().find(|port| port.network == way));
        note(four.and_then(|port| port.address).map(IpAddr::V4), &endpoint.open4);
        let six = plan.default_way6(endpoint).filter(|port| port.network == network);
        note(six.and_then(|port| port.address6).map(IpAddr::V6), &endpoint.open6);
    }
    sorted.into_iter().map(|(of, spans)| (of, merged(&spans))).collect()
}

/// Sorted spans with those made one that overlap.
fn merged(sorted: &BTreeSet<(u16, u16)>) -> Vec<(u16, u16)> {
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut().filter(|before| before.1 >= *first) {
            Some(before) => before.1 = before.1.max(*last),
            None => merged.push((*first, *last)),
        }
    }
    merged
}
