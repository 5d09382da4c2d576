//! What lets an endpoint reply through the mesh, in its own namespace.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use rtnetlink::{
    IpVersion, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

use super::{
    super::{
        KernelError,
        facts::permanent_neighbour,
        link::done,
        nft,
        session::{NamespaceFile, Netlink, Session},
        sysctl,
    },
    egress,
    rules::{self, INET, NETDEV},
};
use crate::{
    Backend,
    mesh::{BACKEND_TABLE, MARK_BIT, ROUTES, RULE_PRIORITY, backend::next_hop_mac, chain::digest_of},
};

/// What is there; None when there is nothing of the table.
pub async fn observe(
    session: &Session,
    namespace: &NamespaceFile,
    netlink: &Netlink,
    names: &BTreeMap<u32, String>,
) -> Result<Option<Backend>, KernelError> {
    let listed = session.visit(namespace, || {
        let (inet, netdev) = (rules::comments(INET, BACKEND_TABLE)?, rules::comments(NETDEV, BACKEND_TABLE)?);
        io::Result::Ok(inet.into_iter().chain(netdev))
    });
    let listed = listed.and_then(|listed| listed);
    let listed = listed.map_err(|source| KernelError::Netlink { doing: "list the mesh's rules".to_owned(), source })?;
    let chains: BTreeMap<_, _> = listed.map(|(chain, comments)| (chain, digest_of(&comments))).collect();
    if chains.is_empty() {
        return Ok(None);
    }
    let mut backend = Backend { chains, ..Backend::default() };
    let (four, six) = (netlink.routes().await?, netlink.ipv6_routes().await?);
    let way = four.iter().chain(&six).find_map(|route| default_way(route, ROUTES));
    let Some(name) = way.and_then(|(_, link)| names.get(&link)) else { return Ok(Some(backend)) };
    backend.interface.clone_from(name);
    for (family, version, routes) in
        [(AddressFamily::Inet, IpVersion::V4, &four), (AddressFamily::Inet6, IpVersion::V6, &six)]
    {
        let Some((gateway, link)) = routes.iter().find_map(|route| default_way(route, ROUTES)) else { continue };
        let neighbours = netlink.neighbours(family).await?;
        let on_link = neighbours.iter().filter(|entry| entry.header.ifindex == link);
        let is_known = on_link.filter_map(permanent_neighbour).any(|known| known == (gateway, next_hop_mac()));
        let is_ruled = netlink.rules(version).await?.iter().any(is_ours);
        if is_known && is_ruled && names.get(&link) == Some(name) {
            backend.next_hops.push(gateway);
        }
    }
    let main = six.iter().find_map(|route| default_way(route, u32::from(RouteHeader::RT_TABLE_MAIN)));
    backend.leads_ipv6 = main.is_some_and(|(_, link)| names.get(&link) == Some(name));
    let prepared = session.visit(namespace, || sysctl::accepts_any_source(name));
    backend.is_prepared =
        prepared.map_err(|source| KernelError::Netlink { doing: "enter a namespace".to_owned(), source })??;
    Ok(Some(backend))
}

/// Gateway and interface of a default route of this table.
fn default_way(route: &RouteMessage, table: u32) -> Option<(IpAddr, u32)> {
    let numbered = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    if route.header.destination_prefix_length != 0 || numbered.unwrap_or_else(|| route.header.table.into()) != table {
        return None;
    }
    let gateway = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    let link = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    gateway.zip(link)
}

/// Makes all of it so. What was led before goes on: rules and routes are replaced, not first removed.
pub async fn join(
    session: &Session,
    (namespace, path): (&NamespaceFile, &Path),
    interface: &str,
    next_hops: &[IpAddr],
    ruleset: &str,
) -> Result<(), KernelError> {
    let entered = |source| KernelError::Namespace { doing: "enter", path: path.to_owned(), source };
    let netlink = session.netlink_in(namespace, path)?;
    session.visit(namespace, || sysctl::accept_any_source(interface)).map_err(entered)??;
    let link = netlink.index(interface).await?;
    for hop in next_hops {
        netlink.set_neighbour(link, *hop, next_hop_mac()).await?;
        netlink.set_way(link, *hop).await?;
    }
    let child = session.visit(namespace, || nft::spawn(&["-f", "-"])).map_err(entered)??;
    nft::converse(child, ruleset, "load the mesh's rules").await?;
    let loaded = session.visit(namespace, || egress::load(interface)).map_err(entered)?;
    loaded.map_err(|source| KernelError::Netlink { doing: format!("load the mesh's rule on {interface}"), source })
}

/// Leaves nothing of it; the neighbours and routes of an interface that is gone went with it.
pub async fn leave(session: &Session, (namespace, path): (&NamespaceFile, &Path)) -> Result<(), KernelError> {
    let entered = |source| KernelError::Namespace { doing: "enter", path: path.to_owned(), source };
    let netlink = session.netlink_in(namespace, path)?;
    netlink.remove_ways().await?;
    let removed = session.visit(namespace, egress::remove).map_err(entered)?;
    removed.map_err(|source| KernelError::Netlink { doing: "remove the mesh's rule".to_owned(), source })?;
    let text = format!("table inet {BACKEND_TABLE}\ndelete table inet {BACKEND_TABLE}\n");
    let child = session.visit(namespace, || nft::spawn(&["-f", "-"])).map_err(entered)??;
    nft::converse(child, &text, "remove the mesh's rules").await.map(drop)
}

/// Whether it leads marked packets to the mesh's routes.
fn is_ours(rule: &RuleMessage) -> bool {
    let wanted = [
        RuleAttribute::FwMark(MARK_BIT),
        RuleAttribute::FwMask(MARK_BIT),
        RuleAttribute::Priority(RULE_PRIORITY),
        RuleAttribute::Table(ROUTES),
    ];
    rule.header.action == RuleAction::ToTable && wanted.iter().all(|wanted| rule.attributes.contains(wanted))
}

impl Netlink {
    /// Marked packets of the next hop's family go to it, and those of IPv6 that know no other way.
    async fn set_way(&self, link: u32, hop: IpAddr) -> Result<(), KernelError> {
        let doing = || format!("lead replies to {hop}");
        let rules = self.handle.rule();
        let mut rule =
            rules.add().action(RuleAction::ToTable).table_id(ROUTES).priority(RULE_PRIORITY).fw_mark(MARK_BIT);
        rule.message_mut().attributes.push(RuleAttribute::FwMask(MARK_BIT));
        let ruled = match hop {
            IpAddr::V4(_) => rule.v4().execute().await,
            IpAddr::V6(_) => rule.v6().execute().await,
        };
        done(ruled, &[libc::EEXIST], doing)?;
        let routes = match hop {
            IpAddr::V4(hop) => {
                let route = || RouteMessageBuilder::<Ipv4Addr>::new().gateway(hop).output_interface(link);
                vec![route().table_id(ROUTES).build()]
            }
            IpAddr::V6(hop) => {
                let route = || RouteMessageBuilder::<Ipv6Addr>::new().gateway(hop).output_interface(link);
                vec![route().table_id(ROUTES).build(), route().build()]
            }
        };
        for route in routes {
            done(self.handle.route().add(route).replace().execute().await, &[], doing)?;
        }
        Ok(())
    }

    async fn remove_ways(&self) -> Result<(), KernelError> {
        let doing = || "forget how replies are led".to_owned();
        for version in [IpVersion::V4, IpVersion::V6] {
            for rule in self.rules(version).await?.into_iter().filter(is_ours) {
                done(self.handle.rule().del(rule).execute().await, &[libc::ENOENT], doing)?;
            }
        }
        let (four, six) = (self.routes().await?, self.ipv6_routes().await?);
        for route in four.into_iter().chain(six).filter(|route| default_way(route, ROUTES).is_some()) {
            done(self.handle.route().del(route).execute().await, &[libc::ESRCH], doing)?;
        }
        Ok(())
    }
}
