//! How large a packet inside an overlay may be. Pure.
//!
//! Derived from the interface that bears the data path address, and followed when that changes: nobody
//! has to know the underlay to set a number by hand.

use std::collections::BTreeMap;

use types::NetworkId;

use crate::{DataPath, NetworkPlan, Observed, OverlayPlan};

/// Inner Ethernet header 14, VXLAN 8, UDP 8, outer IPv4 20 (RFC 7348, section 5).
const VXLAN_OVER_IPV4: u32 = 50;
/// The same with the 40 bytes of IPv6.
const VXLAN_OVER_IPV6: u32 = 70;
/// WireGuard's data header 16 and tag 16, UDP 8, outer IPv4 20.
const WIREGUARD_OVER_IPV4: u32 = 60;
/// The same with the 40 bytes of IPv6.
const WIREGUARD_OVER_IPV6: u32 = 80;
/// What an underlay has that is not (or not now) among this host's interfaces.
const ETHERNET: u32 = 1500;
/// IPv4's least MTU (RFC 791): a smaller result could not be set on an interface.
const LEAST: u32 = 68;
/// IPv6's least MTU (RFC 8200, section 5).
const LEAST_IPV6: u32 = 1280;

/// The MTU of an overlay's endpoints on an underlay of this MTU.
///
/// Plain: one VXLAN packet fits one packet of the underlay. Encrypted: a VXLAN packet between tunnel
/// addresses of IPv4, always 50 bytes, fits one WireGuard message (whose padding to 16 bytes never
/// passes the MTU), and that one packet of the underlay.
pub fn overlay_mtu(underlay_mtu: u32, underlay_is_v6: bool, encrypted: bool) -> u32 {
    let overhead = match (encrypted, underlay_is_v6) {
        (false, false) => VXLAN_OVER_IPV4,
        (false, true) => VXLAN_OVER_IPV6,
        (true, false) => WIREGUARD_OVER_IPV4 + VXLAN_OVER_IPV4,
        (true, true) => WIREGUARD_OVER_IPV6 + VXLAN_OVER_IPV4,
    };
    underlay_mtu.saturating_sub(overhead).max(LEAST)
}

/// What this overlay gets on this host: never more than the underlay carries, this host's and the others' (P08), nor
/// than was wished.
/// While no interface bears the data path address, what it `has` stays.
pub(crate) fn planned_mtu(overlay: &OverlayPlan, path: &DataPath, observed: &Observed, has: Option<u32>) -> u32 {
    let derived = |underlay: u32| {
        let underlay = path.least_mtu.map_or(underlay, |least| least.min(underlay));
        overlay_mtu(underlay, path.address.is_ipv6(), overlay.encrypted)
    };
    let carried = match observed.underlay.get(&path.address) {
        Some(underlay) => derived(*underlay),
        None => has.unwrap_or_else(|| derived(ETHERNET)),
    };
    overlay.mtu.map_or(carried, |wish| wish.min(carried))
}

/// What the WireGuard device gets: one packet of it fits one packet of the underlay. While no interface bears the data
/// path address, what it `has` stays.
pub(crate) fn tunnel_mtu(path: &DataPath, observed: &Observed, has: Option<u32>) -> u32 {
    let derived = |underlay: u32| {
        let underlay = path.least_mtu.map_or(underlay, |least| least.min(underlay));
        overlay_mtu(underlay, path.address.is_ipv6(), true) + VXLAN_OVER_IPV4
    };
    match observed.underlay.get(&path.address) {
        Some(underlay) => derived(*underlay),
        None => has.unwrap_or_else(|| derived(ETHERNET)),
    }
}

/// What the underlay denies to overlays of the plan, as sentences.
pub(crate) fn shortfalls(plan: &NetworkPlan, observed: &Observed) -> BTreeMap<NetworkId, String> {
    let Some(path) = &plan.data_path else { return BTreeMap::new() };
    let shortfall = |overlay: &OverlayPlan| {
        let mtu = planned_mtu(overlay, path, observed, None);
        if !observed.underlay.contains_key(&path.address) {
            Some(format!(
                "no interface of this host has the data path address {}: give it back, or set another",
                path.address
            ))
        } else if mtu < LEAST_IPV6 && overlay.subnets.iter().any(|subnet| subnet.address().is_ipv6()) {
            Some(format!(
                "an MTU of {mtu} is too small for its IPv6 subnet, which needs {LEAST_IPV6}: raise the MTU of the \
                 interface with {}, or make the network without IPv6",
                path.address
            ))
        } else {
            None
        }
    };
    plan.overlays.iter().filter_map(|(id, overlay)| Some((*id, shortfall(overlay)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P08: another host's smaller underlay counts, a larger one does not, and never more than was wished.
    #[test]
    fn the_smallest_underlay_counts() {
        let plan = crate::diff::overlay_tests::plan();
        let (path, overlay) = (plan.data_path.expect("one"), plan.overlays.into_values().next().expect("one"));
        let observed = Observed { underlay: [(path.address, 1500)].into(), ..Observed::default() };
        let mtu = |least_mtu, wish| {
            let (path, overlay) =
                (DataPath { least_mtu, ..path.clone() }, OverlayPlan { mtu: wish, ..overlay.clone() });
            planned_mtu(&overlay, &path, &observed, None)
        };
        assert_eq!([None, Some(1400), Some(9000)].map(|least| mtu(least, None)), [1450, 1350, 1450]);
        assert_eq!([Some(1300), Some(1400)].map(|wish| mtu(Some(1400), wish)), [1300, 1350]);
    }

    /// P08: exact overhead for each kind of path.
    #[test]
    fn each_byte_of_overhead_counts_once() {
        assert_eq!([1500, 1450, 9000].map(|mtu| overlay_mtu(mtu, false, false)), [1450, 1400, 8950]);
        assert_eq!([1500, 1450, 9000].map(|mtu| overlay_mtu(mtu, true, false)), [1430, 1380, 8930]);
        assert_eq!([1500, 9000].map(|mtu| overlay_mtu(mtu, false, true)), [1390, 8890]);
        assert_eq!([1500, 9000].map(|mtu| overlay_mtu(mtu, true, true)), [1370, 8870]);
        assert_eq!(overlay_mtu(60, false, true), 68);
    }
}
