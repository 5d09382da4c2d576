//! Single changes of an overlay's bridge and VXLAN interface, each harmless when it is done already.

use std::{
    io,
    net::IpAddr,
    os::fd::RawFd,
    time::{Duration, Instant},
};

use rtnetlink::{
    LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkVxlan,
    packet_route::{
        AddressFamily,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    },
};

use super::{KernelError, error::netlink_io, link::done, session::Netlink};
use crate::{MacAddress, PortRole};

/// A namespace that was let go is emptied by the kernel some time later; until then its VXLAN interface is there.
const EMPTIED_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// How a VXLAN interface is made.
pub struct NewVxlan<'a> {
    pub name: &'a str,
    pub vni: u32,
    pub local: IpAddr,
    pub port: u16,
    pub mtu: u32,
    /// Whether outer UDP headers bear a checksum.
    pub is_summed: bool,
}

impl Netlink {
    /// Born in the namespace `inside`; its UDP socket stays in the one of this conversation. There is no
    /// moment in which a crash could leave it elsewhere.
    pub async fn create_vxlan(&self, new: &NewVxlan<'_>, inside: RawFd) -> Result<(), KernelError> {
        let NewVxlan { name, vni, local, port, mtu, is_summed } = *new;
        let deadline = Instant::now() + EMPTIED_WITHIN;
        loop {
            let vxlan = LinkVxlan::new(name, vni).port(port).learning(false).mtu(mtu).setns_by_fd(inside);
            let vxlan = if is_summed { vxlan } else { vxlan.udp_csum(false) };
            let vxlan = match local {
                IpAddr::V4(v4) => vxlan.local(v4),
                IpAddr::V6(v6) => vxlan.local6(v6),
            };
            let made = self.handle.link().add(vxlan.build()).execute().await;
            let Err(error) = made else { return Ok(()) };
            let source = netlink_io(&error);
            match source.raw_os_error() {
                Some(libc::EEXIST) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Some(libc::EEXIST) => return Err(KernelError::VniTaken { vni, port }),
                Some(libc::EOPNOTSUPP) => return Err(KernelError::NoVxlan(source)),
                _ => {
                    let doing = format!("create the VXLAN interface {name} with identifier {vni} and MTU {mtu}");
                    return Err(KernelError::Netlink { doing, source });
                }
            }
        }
    }

    /// A bridge that neither filters nor counts multicast: its few listeners hear all of it.
    pub async fn create_plain_bridge(&self, name: &str, mac: MacAddress, mtu: u32) -> Result<(), KernelError> {
        let bridge = LinkBridge::new(name).address(mac.bytes().to_vec()).mtu(mtu).mcast_snooping(false).up();
        let made = self.handle.link().add(bridge.build()).execute().await;
        done(made, &[], || format!("create the bridge {name} with MTU {mtu}"))
    }

    /// Makes `name` a port of the bridge, in this role, up. The role comes before the first packet.
    pub async fn plug(&self, name: &str, bridge: u32, role: PortRole, mtu: u32) -> Result<(), KernelError> {
        self.set_link(name, "attach to the bridge", |l| l.controller(bridge).mtu(mtu)).await?;
        let is_uplink = role == PortRole::Uplink;
        let port = LinkBridgePort::new(self.index(name).await?).learning(false).flood(false);
        let port = port.bcast_flood(!is_uplink).mcast_flood(!is_uplink).neigh_suppress(is_uplink);
        let set = self.handle.link().set_port(port.build()).execute().await;
        done(set, &[], || format!("set the bridge port {name}"))?;
        self.set_link(name, "bring up", rtnetlink::LinkMessageBuilder::up).await
    }

    /// Its bridge sends back to the port what came from it.
    pub async fn set_hairpin(&self, name: &str) -> Result<(), KernelError> {
        self.change_port(name, |port| port.hairpin(true)).await
    }

    /// Whether its bridge forwards nothing between it and other such ports.
    pub async fn set_isolated(&self, name: &str, apart: bool) -> Result<(), KernelError> {
        self.change_port(name, |port| port.isolated(apart)).await
    }

    async fn change_port(
        &self,
        name: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkBridgePort>) -> LinkMessageBuilder<LinkBridgePort>,
    ) -> Result<(), KernelError> {
        let port = change(LinkBridgePort::new(self.index(name).await?));
        let set = self.handle.link().set_port(port.build()).execute().await;
        done(set, &[], || format!("set the bridge port {name}"))
    }

    /// The VXLAN interface `link` sends what is for `mac` to `host`.
    pub async fn set_host(&self, link: u32, mac: MacAddress, host: IpAddr) -> Result<(), KernelError> {
        let request = self.handle.neighbours().add_bridge(link, &mac.bytes()).replace();
        let request = request.flags(NeighbourFlags::Own).destination(host);
        done(request.execute().await, &[], || format!("send what is for {mac} to {host}"))
    }

    pub async fn remove_host(&self, link: u32, mac: MacAddress) -> Result<(), KernelError> {
        self.forget(link, mac, NeighbourFlags::Own).await
    }

    /// The bridge sends what is for `mac` through its port `link`.
    pub async fn set_port(&self, link: u32, mac: MacAddress) -> Result<(), KernelError> {
        let request = self.handle.neighbours().add_bridge(link, &mac.bytes()).replace();
        // NOARP: static, neither learnt nor aged.
        let request = request.flags(NeighbourFlags::Controller).state(NeighbourState::Noarp);
        done(request.execute().await, &[], || format!("lead what is for {mac} through a port of the bridge"))
    }

    pub async fn remove_port(&self, link: u32, mac: MacAddress) -> Result<(), KernelError> {
        self.forget(link, mac, NeighbourFlags::Controller).await
    }

    async fn forget(&self, link: u32, mac: MacAddress, table: NeighbourFlags) -> Result<(), KernelError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = link;
        message.header.flags = table;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()));
        let removed = self.handle.neighbours().del(message).execute().await;
        done(removed, &[libc::ENOENT], || format!("forget where {mac} is"))
    }

    /// Questions for `address` are answered with `mac`.
    pub async fn set_neighbour(&self, link: u32, address: IpAddr, mac: MacAddress) -> Result<(), KernelError> {
        let request = self.handle.neighbours().add(link, address).link_layer_address(&mac.bytes()).replace();
        done(request.execute().await, &[], || format!("answer for {address} with {mac}"))
    }

    pub async fn remove_neighbour(&self, link: u32, address: IpAddr) -> Result<(), KernelError> {
        let mut message = NeighbourMessage::default();
        let (family, destination) = match address {
            IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
            IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
        };
        message.header.family = family;
        message.header.ifindex = link;
        message.attributes.push(NeighbourAttribute::Destination(destination));
        let removed = self.handle.neighbours().del(message).execute().await;
        done(removed, &[libc::ENOENT], || format!("no longer answer for {address}"))
    }
}

/// The sentence for a VXLAN interface that cannot come up because its port is taken.
pub fn port_taken(error: KernelError, udp_port: Option<u16>) -> KernelError {
    let is_taken = |source: &io::Error| source.raw_os_error() == Some(libc::EADDRINUSE);
    match (udp_port, &error) {
        (Some(port), KernelError::Netlink { source, .. }) if is_taken(source) => KernelError::PortTaken { port },
        _ => error,
    }
}
