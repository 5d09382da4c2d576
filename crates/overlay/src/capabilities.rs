//! What this kernel can do for us: asked by trying it, in a network namespace that is thrown away.
//!
//! `rswarm info` and `doctor` print the list; the daemon refuses to start with a sentence when
//! something required is missing. Nothing on the host is changed.

use std::{fs::OpenOptions, io};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{
    LinkBridge, LinkIpVlan, LinkMacVlan, LinkVeth, LinkVlan, LinkVxlan, LinkWireguard,
    packet_route::link::{IpVlanMode, LinkMessage, MacVlanMode},
};
use serde::{Deserialize, Serialize};

use crate::kernel::{KernelError, Session, explain, on_own_thread, run_nft};

/// One feature of the kernel or the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    pub name: String,
    /// Without it the host cannot be a node.
    pub required: bool,
    pub present: bool,
    /// When it is missing: what does not work, or what is used instead, and what to do.
    pub advice: String,
}

/// A table like the ones we load, in words that need each nftables feature of ours.
const TRIAL_TABLE: &str = "table inet rswarm_trial {
    chain forward { type filter hook forward priority filter; ct state established,related accept; }
    chain postrouting { type nat hook postrouting priority srcnat; ip saddr 192.0.2.0/24 masquerade; }
}
";

/// The same for the virtual addresses of services.
const TRIAL_BALANCE: &str = "table inet rswarm_balance {
    map vips { type ipv4_addr : verdict; }
    chain service { dnat ip to numgen inc mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }; }
    chain nobody { meta l4proto tcp reject with tcp reset; reject; }
    chain balance { type nat hook output priority -100; ip daddr vmap @vips; }
}
";

struct Trial {
    name: &'static str,
    required: bool,
    advice: &'static str,
}

const NAMESPACES: Trial = Trial {
    name: "network namespaces",
    required: true,
    advice: "run as root; inside a container it must be privileged or have CAP_SYS_ADMIN and CAP_NET_ADMIN",
};
const BRIDGE: Trial = Trial {
    name: "bridge",
    required: true,
    advice: "load the kernel module: modprobe bridge (in a container: on its host)",
};
const VETH: Trial = Trial {
    name: "veth",
    required: true,
    advice: "load the kernel module: modprobe veth (in a container: on its host)",
};
const NFTABLES: Trial = Trial {
    name: "nftables",
    required: true,
    advice: "install the package nftables and load the kernel modules: modprobe -a nf_tables nft_chain_nat nft_masq nft_ct",
};
const BALANCING: Trial = Trial {
    name: "service addresses",
    required: false,
    advice: "virtual addresses of services do not work on this host: modprobe -a nft_numgen nft_reject_inet nft_chain_nat",
};
const FORWARDING: Trial = Trial {
    name: "ip forwarding",
    required: false,
    advice: "containers do not reach other hosts: make /proc/sys/net writable for this process, or set net.ipv4.ip_forward=1",
};
const VXLAN: Trial = Trial {
    name: "vxlan",
    required: false,
    advice: "overlay networks do not work on this host: modprobe vxlan (in a container: on its host)",
};
const MESH: Trial = Trial {
    name: "routing mesh",
    required: false,
    advice: "published ports do not work on this host, which needs Linux 5.17 or newer: modprobe -a nft_fib_inet nft_hash \
             nft_numgen nft_socket nft_reject_inet nft_masq nf_conntrack_netlink",
};
const TUN: Trial = Trial {
    name: "tun",
    required: false,
    advice: "encrypted networks need /dev/net/tun or the kernel's WireGuard: modprobe tun, or pass the device into the container",
};
const WIREGUARD: Trial = Trial {
    name: "wireguard",
    required: false,
    advice: "not in this kernel: encryption is done in user space, which works with every peer",
};
/// By this name whoever makes a network of the driver looks it up.
pub const MACVLAN: &str = "macvlan";
pub const VLAN: &str = "vlan";
pub const IPVLAN: &str = "ipvlan";
const MACVLAN_TRIAL: Trial = Trial {
    name: MACVLAN,
    required: false,
    advice: "macvlan networks do not work on this host: modprobe macvlan (in a container: on its host)",
};
const VLAN_TRIAL: Trial = Trial {
    name: VLAN,
    required: false,
    advice: "macvlan and ipvlan networks on a VLAN (parent=eth0.50) need its interface made by hand: modprobe 8021q",
};
const IPVLAN_TRIAL: Trial = Trial {
    name: IPVLAN,
    required: false,
    advice: "ipvlan networks do not work on this host: modprobe ipvlan (in a container: on its host), or use macvlan",
};

/// Tries everything. Takes a few milliseconds.
///
/// # Errors
/// Only when no thread can be started; a missing feature is an answer, not an error.
pub async fn capabilities() -> Result<Vec<Capability>, KernelError> {
    on_own_thread("capabilities", || async {
        let mut found = Vec::new();
        match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => found.push(report(&NAMESPACES, Ok(()))),
            Err(error) => {
                found.push(report(&NAMESPACES, Err(io::Error::from(error).to_string())));
                return found;
            }
        }
        // Everything from here on happens in the new namespace and ends with this thread.
        found.push(report(&BRIDGE, try_link(LinkBridge::new("trial0").build()).await));
        found.push(report(&VETH, try_link(LinkVeth::new("trial1", "trial2").build()).await));
        let loaded = run_nft(&["-f", "-"], TRIAL_TABLE, "load a table").await;
        found.push(report(&NFTABLES, loaded.map(drop).map_err(|error| explain(&error))));
        let balances = run_nft(&["-f", "-"], TRIAL_BALANCE, "load a table").await;
        found.push(report(&BALANCING, balances.map(drop).map_err(|error| explain(&error))));
        found.push(report(&MESH, crate::kernel::try_mesh("trial1").await.map_err(|error| explain(&error))));
        // Of the new namespace, not of the host.
        let forwarding = std::fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        found.push(report(&FORWARDING, forwarding.map_err(|error| error.to_string())));
        found.push(report(&VXLAN, try_link(LinkVxlan::new("trial3", 7).port(4789).build()).await));
        found.push(report(
            &MACVLAN_TRIAL,
            try_on("trial1", |on| LinkMacVlan::new("trial5", on, MacVlanMode::Bridge).build()).await,
        ));
        found.push(report(&VLAN_TRIAL, try_on("trial1", |on| LinkVlan::new("trial6", on, 50).build()).await));
        // Not beside macvlan: a link bears interfaces of one of the two kinds.
        let ipvlan = try_on("trial2", |on| LinkIpVlan::new("trial7", on, IpVlanMode::L2).build()).await;
        found.push(report(&IPVLAN_TRIAL, ipvlan));
        found.push(report(&TUN, try_tun()));
        found.push(report(&WIREGUARD, try_link(LinkWireguard::new("trial4").build()).await));
        found
    })
    .await
}

/// Whether this kernel has WireGuard; if not, its own word for that.
pub async fn kernel_wireguard() -> Result<(), String> {
    let tried = on_own_thread("capabilities", || async {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| io::Error::from(error).to_string())?;
        try_link(LinkWireguard::new("trial4").build()).await
    });
    tried.await.map_err(|error| explain(&error))?
}

/// The sentence with which a start is refused, or None when everything required is there.
pub fn refusal(found: &[Capability]) -> Option<String> {
    let missing = found.iter().filter(|capability| capability.required && !capability.present);
    let lines: Vec<String> = missing.map(|c| format!("{}: {}", c.name, c.advice)).collect();
    (!lines.is_empty()).then(|| format!("this host cannot be a node, it lacks {}", lines.join("; ")))
}

fn report(trial: &Trial, result: Result<(), String>) -> Capability {
    let Trial { name, required, advice } = trial;
    let missing = result.err();
    let present = missing.is_none();
    let advice = missing.map(|why| format!("{advice} ({why})")).unwrap_or_default();
    Capability { name: (*name).to_owned(), required: *required, present, advice }
}

async fn try_link(message: LinkMessage) -> Result<(), String> {
    let session = Session::open().map_err(|error| explain(&error))?;
    let made = session.host.handle.link().add(message).execute().await;
    made.map_err(|error| crate::kernel::netlink_io(&error).to_string())
}

/// On an end of the veth pair that was tried before.
async fn try_on(link: &str, message: impl FnOnce(u32) -> LinkMessage) -> Result<(), String> {
    let session = Session::open().map_err(|error| explain(&error))?;
    let on = session.host.index(link).await.map_err(|error| explain(&error))?;
    let made = session.host.handle.link().add(message(on)).execute().await;
    made.map_err(|error| crate::kernel::netlink_io(&error).to_string())
}

fn try_tun() -> Result<(), String> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    opened.map(drop).map_err(|error| format!("/dev/net/tun: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_is_required_and_missing() {
        let found = [
            report(&BRIDGE, Ok(())),
            report(&VETH, Err("Operation not supported".to_owned())),
            report(&WIREGUARD, Err("Operation not supported".to_owned())),
        ];
        let said = refusal(&found).expect("veth is required");
        assert!(said.starts_with("this host cannot be a node, it lacks veth: load the kernel module"), "{said}");
        assert!(!said.contains("wireguard"));
        assert_eq!(refusal(&found[..1]), None);
    }
}
