//! Settings under `/proc/sys/net`. The file shows the namespace of the thread that opens it.

use std::{
    fs,
    io::{self, Write},
};

use super::KernelError;
use crate::InterfaceSetting;

/// Forwarding of IPv4 packets between interfaces (kernel documentation, ip-sysctl).
pub const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// The same of IPv6, for all interfaces.
pub const IPV6_FORWARD: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const IPV6_INTERFACES: &str = "/proc/sys/net/ipv6/conf";
/// An accepted TCP connection takes its mark from the packet that began it.
const ACCEPT_MARK: &str = "/proc/sys/net/ipv4/tcp_fwmark_accept";

/// Whether the setting is `1`. A kernel without it (IPv6 compiled out) gives `missing`.
pub fn is_on(path: &str, missing: bool) -> Result<bool, KernelError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim() == "1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(missing),
        Err(source) => Err(KernelError::Sysctl { doing: "read", path: path.to_owned(), source }),
    }
}

/// Sets it to `1`; a kernel without the setting has nothing to turn on.
pub fn turn_on(path: &str) -> Result<(), KernelError> {
    set(path, "1")
}

/// Sets it to `0`; a kernel without the setting has nothing to turn off.
pub fn turn_off(path: &str) -> Result<(), KernelError> {
    set(path, "0")
}

/// Sets it to `1` or `0`.
pub fn set_switch(path: &str, on: bool) -> Result<(), KernelError> {
    if on { turn_on(path) } else { turn_off(path) }
}

fn set(path: &str, value: &str) -> Result<(), KernelError> {
    match fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KernelError::Sysctl { doing: "set", path: path.to_owned(), source }),
        Ok(()) => Ok(()),
    }
}

/// The setting that turns IPv6 off on one interface.
pub fn disable_ipv6_path(link: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6")
}

/// IPv6 on this interface, deaf to router advertisements, and its addresses usable at once: they were
/// allocated by who knows that they are unique.
pub fn enable_ipv6(link: &str) -> Result<(), KernelError> {
    let conf = format!("/proc/sys/net/ipv6/conf/{link}");
    turn_off(&format!("{conf}/accept_ra"))?;
    turn_off(&format!("{conf}/autoconf"))?;
    turn_off(&format!("{conf}/accept_dad"))?;
    turn_off(&format!("{conf}/disable_ipv6"))
}

/// A setting that a user chose for this interface. One that the kernel has not is a mistake of his.
pub fn set_on(link: &str, setting: &InterfaceSetting) -> Result<(), KernelError> {
    let path = setting.path(link);
    let failed = |source| KernelError::Sysctl { doing: "set", path: path.clone(), source };
    let mut file = fs::OpenOptions::new().write(true).open(&path).map_err(failed)?;
    file.write_all(setting.value.as_bytes()).map_err(failed)
}

/// The setting that lets packets of 127.0.0.0/8 be routed through an interface.
pub fn localnet_path(link: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{link}/route_localnet")
}

/// Forwarding of IPv6. An interface that listened to router advertisements as a host still does as a router (2);
/// else the kernel would forget the routes it learnt from them.
pub fn forward_ipv6() -> Result<(), KernelError> {
    let failed = |source| KernelError::Sysctl { doing: "list", path: IPV6_INTERFACES.to_owned(), source };
    let interfaces = match fs::read_dir(IPV6_INTERFACES) {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        interfaces => interfaces.map_err(failed)?,
    };
    for interface in interfaces {
        let path = interface.map_err(failed)?.path().join("accept_ra").display().to_string();
        // An interface may go while we look.
        if is_on(&path, false)? {
            set(&path, "2")?;
        }
    }
    turn_on(IPV6_FORWARD)
}

/// What arrives through the mesh has sources that the main table leads elsewhere.
pub fn accept_any_source(link: &str) -> Result<(), KernelError> {
    for interface in ["all", link] {
        turn_off(&source_check_path(interface))?;
    }
    turn_on(ACCEPT_MARK)
}

/// Whether that was done.
pub fn accepts_any_source(link: &str) -> Result<bool, KernelError> {
    let checks = |interface: &str| fs::read_to_string(source_check_path(interface)).map(|text| text.trim() != "0");
    let any_checks = ["all", link].into_iter().any(|interface| checks(interface).unwrap_or(false));
    Ok(!any_checks && is_on(ACCEPT_MARK, true)?)
}

fn source_check_path(link: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{link}/rp_filter")
}

/// For a fresh overlay namespace, before it has interfaces: none of them speaks IP itself, and bridged
/// packets are nobody's to filter there.
pub fn prepare_overlay() -> Result<(), KernelError> {
    // 1: no link-local address (kernel documentation, ip-sysctl). IPv6 itself stays on: without it the
    // bridge could not answer questions for IPv6 neighbours.
    turn_on("/proc/sys/net/ipv6/conf/default/addr_gen_mode")?;
    turn_off("/proc/sys/net/ipv6/conf/default/accept_ra")?;
    for kind in ["iptables", "ip6tables", "arptables"] {
        turn_off(&format!("/proc/sys/net/bridge/bridge-nf-call-{kind}"))?;
    }
    Ok(())
}

/// The least of what IPv4 and IPv6 allow; None where the setting does not exist.
pub fn neighbour_limit() -> Option<u32> {
    let limit = |family| fs::read_to_string(neighbour_path(family, 3)).ok()?.trim().parse().ok();
    ["ipv4", "ipv6"].into_iter().filter_map(limit).min()
}

/// The hard limit, and below it the two from which the kernel begins to tidy up, in the proportions of its
/// own (kernel documentation, ip-sysctl: `neigh/default/gc_thresh*`). What is higher stays.
pub fn raise_neighbour_limit(limit: u32) -> Result<(), KernelError> {
    for family in ["ipv4", "ipv6"] {
        for (number, wanted) in [(3, limit), (2, limit / 2), (1, limit / 8)] {
            let path = neighbour_path(family, number);
            let now = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u32>().ok());
            if now.is_some_and(|now| now < wanted) {
                set(&path, &wanted.to_string())?;
            }
        }
    }
    Ok(())
}

fn neighbour_path(family: &str, number: u8) -> String {
    format!("/proc/sys/net/{family}/neigh/default/gc_thresh{number}")
}
