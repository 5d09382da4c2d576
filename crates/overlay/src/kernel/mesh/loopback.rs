//! The way of replies to ::1. The kernel looks for a route to it among those of the interface that a packet came by, and
//! the loopback's own is no such: a second local route, through the mesh's interface, is. For what this host sends to ::1
//! the loopback's own comes first. From the wire ::1 gets no further than the interface.

use std::net::Ipv6Addr;

use rtnetlink::{
    RouteMessageBuilder,
    packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};

use super::super::{KernelError, link::done, session::Netlink};

/// After the loopback's own, whose metric is 0. "rs".
const METRIC: u32 = 0x7273;
/// `RT_TABLE_LOCAL` (linux/rtnetlink.h)
const LOCAL_TABLE: u32 = 255;

/// Whether such a route is there.
pub fn is_led(routes: &[RouteMessage], link: u32) -> bool {
    let wanted = [RouteAttribute::Destination(RouteAddress::Inet6(Ipv6Addr::LOCALHOST)), RouteAttribute::Oif(link)];
    routes.iter().any(|route| {
        route.header.kind == RouteType::Local
            && route.header.destination_prefix_length == 128
            && wanted.iter().all(|wanted| route.attributes.contains(wanted))
    })
}

impl Netlink {
    pub async fn lead_loopback(&self, link: u32) -> Result<(), KernelError> {
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(Ipv6Addr::LOCALHOST, 128)
            .output_interface(link)
            .table_id(LOCAL_TABLE)
            .kind(RouteType::Local)
            .priority(METRIC)
            .build();
        let added = self.handle.route().add(route).execute().await;
        done(added, &[libc::EEXIST], || "lead replies to ::1 through the ingress network".to_owned())
    }
}
