//! Single changes of interfaces, addresses and routes, each harmless when it is done already.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::RawFd,
};

use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::AddressHeaderFlags,
        link::{InfoData, InfoVeth, LinkMessage},
        route::{RouteMessage, RouteProtocol, RouteScope},
    },
};

use super::{KernelError, error::netlink_io, session::Netlink};
use crate::{Cidr, MacAddress, WayOut};

/// By this number of who made a route (`RTPROT`) the routes to ranges on a link are known as ours: a container that may set
/// routes has others, which are its own affair. `r` as a number, which nobody has registered.
pub const ROUTES_OF_OURS: RouteProtocol = RouteProtocol::Other(114);
/// The group of interfaces about to be removed: "rswm" as a number, which nobody else uses.
pub(super) const DOOMED_GROUP: u32 = 0x7273_776d;
/// Of our bridges, from their first moment on: some have names that users chose.
pub(super) const BRIDGE_GROUP: u32 = 0x7273_7762;
/// Of the interfaces inside endpoints' namespaces, which users name too.
pub(super) const INSIDE_GROUP: u32 = 0x7273_7769;

impl Netlink {
    pub async fn create_bridge(&self, name: &str, mac: MacAddress, mtu: u32) -> Result<(), KernelError> {
        let message = LinkBridge::new(name).address(mac.bytes().to_vec()).mtu(mtu).link_group(BRIDGE_GROUP).build();
        let made = self.handle.link().add(message).execute().await;
        done(made, &[], || format!("create the bridge {name} with MTU {mtu}"))
    }

    /// A pair whose inner end is born in the namespace `inside`, with its address: there is no moment
    /// in which a crash could leave a stray end in the host's namespace.
    pub async fn create_veth(
        &self,
        name: &str,
        (inner, inside): (&str, RawFd),
        mac: MacAddress,
        mtu: u32,
    ) -> Result<(), KernelError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new().name(inner).address(mac.bytes().to_vec());
        let peer = peer.mtu(mtu).link_group(INSIDE_GROUP).setns_by_fd(inside).build();
        let pair = LinkVeth::new(name, inner).mtu(mtu).set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).build();
        let made = self.handle.link().add(pair).execute().await;
        done(made, &[], || format!("create the veth pair {name} with MTU {mtu}"))
    }

    /// Removes the interface if it is there.
    pub async fn remove_link(&self, name: &str) -> Result<(), KernelError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        let removed = self.handle.link().del(link.header.index).execute().await;
        done(removed, &[libc::ENODEV], || format!("remove the interface {name}"))
    }

    /// Removes many interfaces in one go: each removal alone waits for the kernel's grace period, some
    /// 35 ms; a hundred of one group wait for it together.
    pub async fn remove_links_at_once(&self, names: &[&str]) -> Result<(), KernelError> {
        for name in names {
            if self.link(name).await?.is_some() {
                self.set_link(name, "mark for removal", |l| l.link_group(DOOMED_GROUP)).await?;
            }
        }
        let group = LinkMessageBuilder::<LinkUnspec>::new().link_group(DOOMED_GROUP).build();
        let removed = self.handle.link().del_with_message(group).execute().await;
        done(removed, &[libc::ENODEV, libc::ESRCH], || "remove a group of interfaces".to_owned())
    }

    /// Changes the interface as `change` says; `what` completes "cannot … NAME".
    pub async fn set_link(
        &self,
        name: &str,
        what: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), KernelError> {
        let index = self.index(name).await?;
        let message: LinkMessage = change(LinkUnspec::new_with_index(index)).build();
        let set = self.handle.link().set(message).execute().await;
        done(set, &[], || format!("{what} {name}"))
    }

    pub async fn add_address(&self, link: &str, address: Cidr) -> Result<(), KernelError> {
        let index = self.index(link).await?;
        let mut request = self.handle.address().add(index, address.address(), address.prefix());
        if address.address().is_ipv6() {
            // Usable at once; see `sysctl::enable_ipv6`.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = request.execute().await;
        done(added, &[libc::EEXIST], || format!("give {address} to {link}"))
    }

    pub async fn remove_address(&self, link: &str, address: Cidr) -> Result<(), KernelError> {
        let index = self.index(link).await?;
        let prefix = address.prefix();
        let message = match address.address() {
            IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4, prefix).build(),
            IpAddr::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6, prefix).build(),
        };
        let removed = self.handle.address().del(message).execute().await;
        done(removed, &[libc::EADDRNOTAVAIL], || format!("take {address} from {link}"))
    }

    /// A route to a range that is on the link; done already if it is there.
    pub async fn add_route(&self, link: &str, range: Cidr) -> Result<(), KernelError> {
        let set = self.handle.route().add(route_on(self.index(link).await?, range)).replace().execute().await;
        done(set, &[], || format!("set the route to {range} on {link}"))
    }

    pub async fn remove_route(&self, link: &str, range: Cidr) -> Result<(), KernelError> {
        let gone = self.handle.route().del(route_on(self.index(link).await?, range)).execute().await;
        done(gone, &[libc::ESRCH], || format!("remove the route to {range} on {link}"))
    }

    /// Makes this the only default route of IPv4 in the main table.
    pub async fn set_default_route(&self, link: &str, way: WayOut) -> Result<(), KernelError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(self.index(link).await?);
        let route = match way {
            WayOut::Gateway(IpAddr::V4(gateway)) => route.gateway(gateway),
            WayOut::Gateway(IpAddr::V6(_)) | WayOut::Link => route.scope(RouteScope::Link),
        };
        let set = self.handle.route().add(route.build()).replace().execute().await;
        done(set, &[], || format!("set the default route {way} on {link}"))
    }

    /// The same of IPv6. A route of another metric, such as the mesh's, stays beside it.
    pub async fn set_default_route6(&self, link: &str, way: WayOut) -> Result<(), KernelError> {
        let route = RouteMessageBuilder::<Ipv6Addr>::new().output_interface(self.index(link).await?);
        let route = match way {
            WayOut::Gateway(IpAddr::V6(gateway)) => route.gateway(gateway),
            WayOut::Gateway(IpAddr::V4(_)) | WayOut::Link => route,
        };
        let set = self.handle.route().add(route.build()).replace().execute().await;
        done(set, &[], || format!("set the default route of IPv6 {way} on {link}"))
    }
}

fn route_on(link: u32, range: Cidr) -> RouteMessage {
    let network = range.network();
    match network.address() {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, network.prefix())
            .scope(RouteScope::Link)
            .protocol(ROUTES_OF_OURS)
            .output_interface(link)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, network.prefix())
            .protocol(ROUTES_OF_OURS)
            .output_interface(link)
            .build(),
    }
}

pub(super) fn done(
    result: Result<(), rtnetlink::Error>,
    harmless: &[i32],
    doing: impl FnOnce() -> String,
) -> Result<(), KernelError> {
    let Err(error) = result else { return Ok(()) };
    let source: io::Error = netlink_io(&error);
    match source.raw_os_error() {
        Some(code) if harmless.contains(&code) => Ok(()),
        _ => Err(KernelError::Netlink { doing: doing(), source }),
    }
}
