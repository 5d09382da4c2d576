//! Reads what the kernel has of ours into an [`Observed`]. Changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use rtnetlink::packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};

use super::{
    Files, KernelError, namespace, nft,
    session::{NamespaceFile, Session},
    sysctl,
};
use crate::{
    Cidr, EndpointId, Inside, InsideLink, Link, MacAddress, Namespace, Observed,
    plan::{BRIDGE_PREFIX, INSIDE_NAME, VETH_PREFIX, veth_name},
};

/// With `seen`, an earlier look, the rules and the insides of namespaces whose host end is as it was
/// then are believed to be as they were.
pub(super) async fn observe(
    session: &Session,
    files: &Files,
    seen: Option<&Observed>,
) -> Result<Observed, KernelError> {
    let links = session.host.links().await?;
    let addresses = session.host.addresses().await?;
    let routes = session.host.routes().await?;
    let ours: Vec<&LinkMessage> = links.iter().filter(|link| is_ours(&facts(link).name)).collect();
    let ours_by_index: BTreeSet<u32> = ours.iter().map(|link| link.header.index).collect();

    let mut observed = Observed {
        nft: match seen {
            Some(seen) => seen.nft.clone(),
            None => nft::observe(&files.nft_record).await?,
        },
        ip_forward: sysctl::is_on(sysctl::IP_FORWARD, false)?,
        host_routes: host_routes(&addresses, &routes, &ours_by_index),
        ..Observed::default()
    };
    for link in ours {
        let facts = facts(link);
        observed.links.insert(facts.name.clone(), host_link(link, facts, &addresses)?);
    }
    for id in namespace::list(&files.namespaces)? {
        let path = files.namespaces.join(id.as_str());
        let namespace = match seen.and_then(|seen| unchanged(&id, seen, &observed)) {
            Some(known) if namespace::is_alive(&path) => known.clone(),
            _ => inside(session, &path).await?,
        };
        observed.namespaces.insert(id, namespace);
    }
    Ok(observed)
}

/// What was seen of the namespace, if its interface's host end still is exactly the same.
fn unchanged<'a>(id: &EndpointId, seen: &'a Observed, now: &Observed) -> Option<&'a Namespace> {
    let veth = veth_name(id);
    let (before, after) = (seen.links.get(&veth)?, now.links.get(&veth)?);
    seen.namespaces.get(id).filter(|_| before == after)
}

fn is_ours(name: &str) -> bool {
    name.starts_with(BRIDGE_PREFIX) || name.starts_with(VETH_PREFIX)
}

/// What the attributes of a link say.
#[derive(Default)]
struct Facts {
    name: String,
    kind: String,
    mtu: u32,
    mac: Option<MacAddress>,
    controller: Option<u32>,
    peer: Option<u32>,
}

fn facts(link: &LinkMessage) -> Facts {
    let mut facts = Facts::default();
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => facts.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => facts.mtu = *mtu,
            LinkAttribute::Address(bytes) => facts.mac = bytes.as_slice().try_into().ok().map(MacAddress::from_bytes),
            LinkAttribute::Controller(index) => facts.controller = Some(*index).filter(|index| *index != 0),
            LinkAttribute::Link(index) => facts.peer = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                facts.kind = kind.unwrap_or_default();
            }
            _ => {}
        }
    }
    facts
}

fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

fn host_link(link: &LinkMessage, facts: Facts, addresses: &[AddressMessage]) -> Result<Link, KernelError> {
    let ipv6_off = facts.kind == "bridge" && sysctl::is_on(&sysctl::disable_ipv6_path(&facts.name), true)?;
    let Facts { kind, mtu, mac, controller, .. } = facts;
    let index = link.header.index;
    Ok(Link { index, kind, up: is_up(link), mtu, mac, controller, addresses: addresses_of(index, addresses), ipv6_off })
}

fn addresses_of(index: u32, addresses: &[AddressMessage]) -> Vec<Cidr> {
    addresses.iter().filter(|message| message.header.index == index).filter_map(cidr_of).collect()
}

/// IFA_LOCAL is the interface's own address; IFA_ADDRESS is the other end's on point-to-point links.
fn cidr_of(message: &AddressMessage) -> Option<Cidr> {
    let own = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })?;
    Cidr::new(own, message.header.prefix_len).ok()
}

async fn inside(session: &Session, path: &Path) -> Result<Namespace, KernelError> {
    if !namespace::is_alive(path) {
        return Ok(Namespace::Stale);
    }
    let failed = |source| KernelError::Namespace { doing: "enter", path: path.to_owned(), source };
    let file = NamespaceFile::open(path).map_err(failed)?;
    let netlink = session.netlink_in(&file, path)?;
    let (links, addresses) = (netlink.links().await?, netlink.addresses().await?);
    let routes = netlink.routes().await?;
    let by_name: BTreeMap<String, &LinkMessage> = links.iter().map(|link| (facts(link).name, link)).collect();
    let interface = match by_name.get(INSIDE_NAME) {
        None => None,
        Some(link) => {
            let Facts { mtu, mac, peer, .. } = facts(link);
            let path = sysctl::disable_ipv6_path(INSIDE_NAME);
            let ipv6_off = session.visit(&file, || sysctl::is_on(&path, true)).map_err(failed)??;
            let addresses = addresses_of(link.header.index, &addresses);
            Some(InsideLink { up: is_up(link), mtu, mac, peer, addresses, ipv6_off })
        }
    };
    let loopback_up = by_name.get("lo").is_some_and(|link| is_up(link));
    Ok(Namespace::Alive(Inside { loopback_up, interface, default_route: routes.iter().find_map(default_gateway) }))
}

fn default_gateway(route: &RouteMessage) -> Option<Ipv4Addr> {
    if route.header.destination_prefix_length != 0 || route.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(*gateway),
        _ => None,
    })
}

/// Where the host can go and where it lives, apart from our own bridge.
fn host_routes(addresses: &[AddressMessage], routes: &[RouteMessage], ours: &BTreeSet<u32>) -> Vec<Cidr> {
    let foreign = addresses.iter().filter(|message| !ours.contains(&message.header.index));
    let mut found: BTreeSet<Cidr> = foreign.filter_map(cidr_of).map(Cidr::network).collect();
    found.extend(routes.iter().filter_map(|route| destination(route, ours)));
    found.into_iter().collect()
}

fn destination(route: &RouteMessage, ours: &BTreeSet<u32>) -> Option<Cidr> {
    let leads_to_us = route.attributes.iter().any(|a| matches!(a, RouteAttribute::Oif(index) if ours.contains(index)));
    // Local and broadcast entries only repeat the addresses; an unreachable or blackhole route is a
    // statement about its range and counts.
    let repeats = matches!(route.header.kind, RouteType::Local | RouteType::Broadcast | RouteType::Multicast);
    if leads_to_us || repeats || route.header.destination_prefix_length == 0 {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => {
            Cidr::new(IpAddr::V4(*address), route.header.destination_prefix_length).ok()
        }
        _ => None,
    })
}
