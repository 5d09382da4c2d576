//! Single changes of the interfaces of the host's own networks: macvlan and VLAN.

use std::{io, os::fd::RawFd};

use rtnetlink::{LinkMacVlan, LinkVlan, packet_route::link::MacVlanMode};

use super::{KernelError, error::netlink_io, session::Netlink};
use crate::MacAddress;

/// How a macvlan interface is made.
pub struct NewMacvlan<'a> {
    /// The user's network, for messages.
    pub network: &'a str,
    /// In the namespace of the conversation.
    pub parent: &'a str,
    pub name: &'a str,
    pub mac: MacAddress,
    pub mtu: u32,
}

impl Netlink {
    /// Born in the namespace `inside`: the host never sees it. In bridge mode, so that the network's endpoints
    /// on this host reach each other without the parent's switch.
    pub async fn create_macvlan(&self, new: &NewMacvlan<'_>, inside: RawFd) -> Result<(), KernelError> {
        let NewMacvlan { network, parent, name, mac, mtu } = *new;
        let missing = || KernelError::NoParent { network: network.to_owned(), parent: parent.to_owned() };
        let index = self.link(parent).await?.ok_or_else(missing)?.header.index;
        let link = LinkMacVlan::new(name, index, MacVlanMode::Bridge).address(mac.bytes().to_vec()).mtu(mtu);
        let made = self.handle.link().add(link.setns_by_fd(inside).build()).execute().await;
        let doing = || format!("put a macvlan interface on {parent}");
        made.map_err(|error| of_driver(netlink_io(&error), ("macvlan", "macvlan"), doing))
    }

    /// Up; done already if it is there.
    pub async fn create_vlan(&self, name: &str, parent: &str, tag: u16) -> Result<(), KernelError> {
        let missing = || KernelError::NoParent { network: format!("with VLAN {tag}"), parent: parent.to_owned() };
        let index = self.link(parent).await?.ok_or_else(missing)?.header.index;
        let made = self.handle.link().add(LinkVlan::new(name, index, tag).up().build()).execute().await;
        let doing = || format!("make an interface for VLAN {tag} of {parent}");
        made.map_err(|error| of_driver(netlink_io(&error), ("VLAN", "8021q"), doing))
    }
}

fn of_driver(
    source: io::Error,
    (kind, module): (&'static str, &'static str),
    doing: impl FnOnce() -> String,
) -> KernelError {
    match source.raw_os_error() {
        Some(libc::EOPNOTSUPP) => KernelError::NoDriver { kind, module, source },
        _ => KernelError::Netlink { doing: doing(), source },
    }
}
