//! Reads what the kernel has of ours into an [`Observed`]. Changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use rtnetlink::packet_route::{
    AddressFamily,
    address::AddressMessage,
    link::{LinkAttribute, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType},
};
use types::NetworkId;

use super::{
    Files, KernelError,
    facts::{
        Facts, Forwarding, addresses_of, cidr_of, facts, forwarding, is_up, link_local_of, link_of, permanent_neighbour,
    },
    link::{BRIDGE_GROUP, DOOMED_GROUP, INSIDE_GROUP, ROUTES_OF_OURS},
    mesh, namespace, nft,
    session::{NamespaceFile, Netlink, Session},
    sysctl, tunnel, vip,
};
use crate::{
    Cidr, EndpointId, Inside, InsideLink, Link, Namespace, Observed, OverlayInside, OverlayNamespace, Parent, Stacked,
    WayOut,
    plan::{BRIDGE_PREFIX, INSIDE_PREFIX, OVERLAY_BRIDGE, OVERLAY_VXLAN, VETH_PREFIX, veth_name},
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
    let routes = [session.host.routes().await?, session.host.ipv6_routes().await?].concat();
    let ours: Vec<&LinkMessage> = links.iter().filter(|link| is_ours(link)).collect();
    let ours_by_index: BTreeSet<u32> = ours.iter().map(|link| link.header.index).collect();

    let mut observed = Observed {
        nft: match seen {
            Some(seen) => seen.nft.clone(),
            None => nft::observe(&files.nft_record).await?,
        },
        ip_forward: sysctl::is_on(sysctl::IP_FORWARD, false)?,
        neighbour_limit: sysctl::neighbour_limit(),
        host_routes: host_routes(&addresses, &routes, &ours_by_index),
        parents: parents(&links, &ours_by_index),
        addresses: addresses_by_link(&links, &addresses, &ours_by_index),
        underlay: underlay(&links, &addresses, &ours_by_index),
        ..Observed::default()
    };
    for link in ours {
        let facts = facts(link);
        observed.links.insert(facts.name.clone(), host_link(link, facts, &addresses)?);
    }
    observed.mesh = mesh::observe(session, files, &observed.links, seen.map(|seen| &seen.mesh)).await?;
    for id in namespace::list(&files.namespaces)? {
        let namespace = match seen.and_then(|seen| unchanged(&id, seen, &observed)) {
            Some(known) if namespace::is_alive(&files.namespaces.join(id.as_str())) => known.clone(),
            _ => inside(session, files, &id).await?,
        };
        observed.namespaces.insert(id, namespace);
    }
    for id in namespace::list::<NetworkId>(&files.overlays)? {
        let path = files.overlays.join(id.to_string());
        let inside = match seen.and_then(|seen| seen.overlays.get(&id)) {
            Some(known) if namespace::is_alive(&path) => known.clone(),
            _ => overlay(session, &path).await?,
        };
        observed.overlays.insert(id, inside);
    }
    observed.tunnel = match seen.and_then(|seen| seen.tunnel.as_ref()) {
        Some(known) if namespace::is_alive(&files.tunnel) => Some(known.clone()),
        _ => tunnel::observe(session, files).await?,
    };
    Ok(observed)
}

/// What was seen of the namespace, if its interface's host end still is exactly the same.
fn unchanged<'a>(id: &EndpointId, seen: &'a Observed, now: &Observed) -> Option<&'a Namespace> {
    let veth = veth_name(id);
    seen.namespaces.get(id).filter(|_| seen.links.get(&veth) == now.links.get(&veth))
}

/// By its name or, of a bridge of another name, by its group.
fn is_ours(link: &LinkMessage) -> bool {
    let name = facts(link).name;
    name.starts_with(BRIDGE_PREFIX)
        || name.starts_with(VETH_PREFIX)
        || [BRIDGE_GROUP, DOOMED_GROUP].iter().any(|group| link.attributes.contains(&LinkAttribute::Group(*group)))
}

fn host_link(link: &LinkMessage, facts: Facts, addresses: &[AddressMessage]) -> Result<Link, KernelError> {
    let ipv6_off = facts.kind == "bridge" && sysctl::is_on(&sysctl::disable_ipv6_path(&facts.name), true)?;
    let addresses = addresses_of(link.header.index, addresses);
    Ok(Link { addresses, ipv6_off, port: None, vxlan: None, ..link_of(link, facts) })
}

async fn inside(session: &Session, files: &Files, id: &EndpointId) -> Result<Namespace, KernelError> {
    let path = files.namespaces.join(id.as_str());
    if !namespace::is_alive(&path) {
        return Ok(Namespace::Stale);
    }
    let failed = |source| KernelError::Namespace { doing: "enter", path: path.clone(), source };
    let file = NamespaceFile::open(&path).map_err(failed)?;
    let netlink = session.netlink_in(&file, &path)?;
    let (links, addresses) = (netlink.links().await?, netlink.addresses().await?);
    let (mut routes, mut names) = (netlink.routes().await?, BTreeMap::new());
    let mut inside = Inside { default_route: routes.iter().find_map(default_route), ..Inside::default() };
    // Where no interface speaks it there is nothing to ask.
    if addresses.iter().filter_map(cidr_of).any(|cidr| cidr.address().is_ipv6() && !cidr.address().is_loopback()) {
        let six = netlink.ipv6_routes().await?;
        inside.default_route6 = six.iter().find_map(default_route);
        routes.extend(six);
    }
    for link in &links {
        let Facts { name, kind, mtu, mac, peer, ipvlan, .. } = facts(link);
        names.insert(link.header.index, name.clone());
        if name == "lo" {
            inside.loopback_up = is_up(link);
        }
        let macvlan = mac.filter(|_| kind == "macvlan").map(|mac| Stacked::Macvlan { mac });
        let stacked = macvlan.or(ipvlan.map(|mode| Stacked::Ipvlan { mode }));
        let is_of_group = link.attributes.contains(&LinkAttribute::Group(INSIDE_GROUP));
        if !(stacked.is_some() || kind == "veth") || !(is_of_group || name.starts_with(INSIDE_PREFIX)) {
            continue;
        }
        let setting = sysctl::disable_ipv6_path(&name);
        let ipv6_off = session.visit(&file, || sysctl::is_on(&setting, true)).map_err(failed)??;
        let index = link.header.index;
        let (own, link_local) = (addresses_of(index, &addresses), link_local_of(index, &addresses));
        let routes = on_link_routes(index, &routes);
        let (up, addresses) = (is_up(link), own);
        let link = InsideLink { index, up, mtu, mac, peer, stacked, addresses, link_local, routes, ipv6_off };
        inside.interfaces.insert(name, link);
    }
    inside.vips = vip::observe(session, &file, &files.vips.join(id.as_str())).map_err(failed)?;
    inside.mesh = mesh::observe_backend(session, &file, &netlink, &names).await?;
    Ok(Namespace::Alive(inside))
}

async fn overlay(session: &Session, path: &Path) -> Result<OverlayNamespace, KernelError> {
    if !namespace::is_alive(path) {
        return Ok(OverlayNamespace::Stale);
    }
    let failed = |source| KernelError::Namespace { doing: "enter", path: path.to_owned(), source };
    let file = NamespaceFile::open(path).map_err(failed)?;
    let netlink = session.netlink_in(&file, path)?;
    let mut inside = OverlayInside::default();
    let mut names = BTreeMap::new();
    for link in &netlink.links().await? {
        let facts = facts(link);
        if facts.name != "lo" {
            names.insert(link.header.index, facts.name.clone());
            inside.links.insert(facts.name.clone(), link_of(link, facts));
        }
    }
    for entry in &netlink.neighbours(AddressFamily::Bridge).await? {
        let Some(name) = names.get(&entry.header.ifindex) else { continue };
        match forwarding(entry) {
            Some(Forwarding::Host(mac, host)) if name == OVERLAY_VXLAN => drop(inside.hosts.insert(mac, host)),
            Some(Forwarding::Port(mac)) => drop(inside.ports.insert(mac, name.clone())),
            _ => {}
        }
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let on_bridge = |index| names.get(&index).is_some_and(|name| name == OVERLAY_BRIDGE);
        let entries = netlink.neighbours(family).await?;
        let ours = entries.iter().filter(|entry| on_bridge(entry.header.ifindex));
        inside.neighbours.extend(ours.filter_map(permanent_neighbour));
    }
    Ok(OverlayNamespace::Alive(inside))
}

/// What we told of ranges on a link.
fn on_link_routes(link: u32, routes: &[RouteMessage]) -> Vec<Cidr> {
    let is_ours = |route: &&RouteMessage| {
        route.header.protocol == ROUTES_OF_OURS && route.attributes.contains(&RouteAttribute::Oif(link))
    };
    routes.iter().filter(is_ours).filter_map(destination_of).collect()
}

fn default_route(route: &RouteMessage) -> Option<WayOut> {
    if route.header.destination_prefix_length != 0 || route.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let gateway = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(WayOut::Gateway(IpAddr::V4(*gateway))),
        RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => Some(WayOut::Gateway(IpAddr::V6(*gateway))),
        _ => None,
    });
    // Routes of IPv6 have no scope; one that leads nowhere is of another kind.
    let is_on_link = route.header.kind == RouteType::Unicast
        && (route.header.address_family == AddressFamily::Inet6 || route.header.scope == RouteScope::Link);
    gateway.or(is_on_link.then_some(WayOut::Link))
}

/// The host's interfaces that are not ours, but for the loopback.
fn parents(links: &[LinkMessage], ours: &BTreeSet<u32>) -> BTreeMap<String, Parent> {
    let foreign = links.iter().filter(|link| !ours.contains(&link.header.index));
    let parent = |link: &LinkMessage| {
        let facts = facts(link);
        (facts.name, Parent { index: link.header.index, mtu: facts.mtu })
    };
    foreign.map(parent).filter(|(name, _)| name != "lo").collect()
}

/// The addresses of those.
fn addresses_by_link(
    links: &[LinkMessage],
    addresses: &[AddressMessage],
    ours: &BTreeSet<u32>,
) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let foreign = links.iter().filter(|link| !ours.contains(&link.header.index));
    let addresses_on = |link: &LinkMessage| {
        let found = addresses_of(link.header.index, addresses);
        (facts(link).name, found.into_iter().map(Cidr::address).collect())
    };
    foreign.map(addresses_on).filter(|(name, found): &(_, BTreeSet<_>)| name != "lo" && !found.is_empty()).collect()
}

/// MTU of the interface that bears this address of the host; None while none does, or the kernel cannot be asked.
pub async fn underlay_mtu(address: IpAddr) -> Option<u32> {
    let host = Netlink::open().ok()?;
    let (links, addresses) = (host.links().await.ok()?, host.addresses().await.ok()?);
    underlay(&links, &addresses, &BTreeSet::new()).remove(&address)
}

/// Each foreign address of the host, and the MTU of the interface that bears it.
fn underlay(links: &[LinkMessage], addresses: &[AddressMessage], ours: &BTreeSet<u32>) -> BTreeMap<IpAddr, u32> {
    let mtus: BTreeMap<u32, u32> = links.iter().map(|link| (link.header.index, facts(link).mtu)).collect();
    let foreign = addresses.iter().filter(|message| !ours.contains(&message.header.index));
    foreign.filter_map(|message| Some((cidr_of(message)?.address(), *mtus.get(&message.header.index)?))).collect()
}

/// Where the host can go and where it lives, apart from our own bridges and from what each link has for itself.
fn host_routes(addresses: &[AddressMessage], routes: &[RouteMessage], ours: &BTreeSet<u32>) -> Vec<Cidr> {
    let foreign = addresses.iter().filter(|message| !ours.contains(&message.header.index));
    let mut found: BTreeSet<Cidr> = foreign.filter_map(cidr_of).map(Cidr::network).collect();
    found.extend(routes.iter().filter_map(|route| destination(route, ours)));
    found.into_iter().filter(|range| !is_of_every_link(*range)).collect()
}

/// Loopback, link-local and multicast ranges of IPv6, which say nothing of where the host can go.
fn is_of_every_link(range: Cidr) -> bool {
    let IpAddr::V6(address) = range.address() else { return false };
    address.is_loopback() || address.is_unicast_link_local() || address.is_multicast()
}

fn destination(route: &RouteMessage, ours: &BTreeSet<u32>) -> Option<Cidr> {
    let leads_to_us = route.attributes.iter().any(|a| matches!(a, RouteAttribute::Oif(index) if ours.contains(index)));
    // Local and broadcast entries only repeat the addresses; an unreachable or blackhole route is a
    // statement about its range and counts.
    let repeats = matches!(
        route.header.kind,
        RouteType::Local | RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast
    );
    if leads_to_us || repeats || route.header.destination_prefix_length == 0 {
        return None;
    }
    destination_of(route)
}

fn destination_of(route: &RouteMessage) -> Option<Cidr> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    Cidr::new(address?, route.header.destination_prefix_length).ok()
}
