//! Single changes of the interfaces of the host's own networks: macvlan, ipvlan and VLAN.

use std::{io, os::fd::RawFd};

use rtnetlink::{
    LinkIpVlan, LinkMacVlan, LinkVlan,
    packet_route::link::{IpVlanMode, LinkMessage, MacVlanMode},
};
use types::IpvlanMode;

use super::{KernelError, error::netlink_io, link::INSIDE_GROUP, session::Netlink};
use crate::Stacked;

/// How an interface on a link of the host's is made.
pub struct NewStacked<'a> {
    /// The user's network, for messages.
    pub network: &'a str,
    /// In the namespace of the conversation.
    pub parent: &'a str,
    pub name: &'a str,
    pub kind: Stacked,
    pub mtu: u32,
}

impl Netlink {
    /// Born in the namespace `inside`: the host never sees it. In bridge mode, so that the network's endpoints
    /// on this host reach each other without the parent's switch; of ipvlan that is the default.
    pub async fn create_stacked(&self, new: &NewStacked<'_>, inside: RawFd) -> Result<(), KernelError> {
        let NewStacked { network, parent, name, kind, mtu } = *new;
        let missing = || KernelError::NoParent { network: network.to_owned(), parent: parent.to_owned() };
        let index = self.link(parent).await?.ok_or_else(missing)?.header.index;
        let link: LinkMessage = match kind {
            Stacked::Macvlan { mac } => LinkMacVlan::new(name, index, MacVlanMode::Bridge)
                .address(mac.bytes().to_vec())
                .mtu(mtu)
                .link_group(INSIDE_GROUP)
                .setns_by_fd(inside)
                .build(),
            Stacked::Ipvlan { mode } => LinkIpVlan::new(name, index, ipvlan_mode(mode))
                .mtu(mtu)
                .link_group(INSIDE_GROUP)
                .setns_by_fd(inside)
                .build(),
        };
        let made = self.handle.link().add(link).execute().await;
        let kind = kind.driver();
        made.map_err(|error| match netlink_io(&error) {
            source if source.raw_os_error() == Some(libc::EBUSY) => {
                KernelError::ParentTaken { kind, parent: parent.to_owned(), source }
            }
            source => of_driver(source, (kind, kind), || format!("put an interface of kind {kind} on {parent}")),
        })
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

fn ipvlan_mode(mode: IpvlanMode) -> IpVlanMode {
    match mode {
        IpvlanMode::L2 => IpVlanMode::L2,
        IpvlanMode::L3 => IpVlanMode::L3,
        IpvlanMode::L3s => IpVlanMode::L3S,
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
