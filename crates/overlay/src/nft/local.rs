//! The rules of users' bridge networks: they end where the network ends, and lead to the world unless internal.

use std::fmt::{Result, Write};

use crate::{BridgePlan, NetworkPlan};

/// Nothing begins in a bridge from anywhere else, another of our bridges included, unless a published port led
/// it there; nothing of an internal one leaves it. The chain comes before the host bridge's, which accepts
/// whatever its own endpoints send: only a drop is final.
pub fn chains(out: &mut String, plan: &NetworkPlan) -> Result {
    let bridges: Vec<(BridgePlan, bool)> =
        plan.locals.iter().filter_map(|(id, local)| Some((local.bridge(*id)?, local.internal))).collect();
    if bridges.is_empty() {
        return Ok(());
    }
    writeln!(out, "\tchain isolation {{")?;
    writeln!(out, "\t\ttype filter hook forward priority filter - 1; policy accept;")?;
    writeln!(out, "\t\tct state established,related accept")?;
    writeln!(out, "\t\tct status dnat accept")?;
    for (BridgePlan { name, apart, .. }, is_internal) in &bridges {
        if !apart {
            writeln!(out, "\t\tiifname \"{name}\" oifname \"{name}\" accept")?;
        }
        writeln!(out, "\t\toifname \"{name}\" drop")?;
        if *is_internal {
            writeln!(out, "\t\tiifname \"{name}\" drop")?;
        }
    }
    writeln!(out, "\t}}")?;
    writeln!(out, "\tchain bridges {{")?;
    writeln!(out, "\t\ttype nat hook postrouting priority srcnat; policy accept;")?;
    for (BridgePlan { name, subnet, ipv6, .. }, _) in bridges.iter().filter(|(bridge, _)| bridge.masquerade) {
        let subnet = subnet.network();
        writeln!(out, "\t\tip saddr {subnet} ip daddr != {subnet} oifname != \"{name}\" masquerade")?;
        if let Some(subnet) = ipv6.map(|ipv6| ipv6.subnet.network()) {
            writeln!(out, "\t\tip6 saddr {subnet} ip6 daddr != {subnet} oifname != \"{name}\" masquerade")?;
        }
    }
    writeln!(out, "\t}}")
}
