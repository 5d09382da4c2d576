//! Our nftables table as text: rendered whole, swapped whole. Pure; `kernel::nft` loads it.
//!
//! Everything of ours is in `table inet rswarm`. A verdict `accept` here ends only this table's chain:
//! a drop in the host's own firewall still counts, and nothing outside this table is ever written.

mod local;

use std::fmt::Write;

use crate::{BridgePlan, NetworkPlan};

/// Family and name of our table.
pub const TABLE: &str = "inet rswarm";

/// The text that replaces our table in one transaction: made if missing, emptied, filled.
///
/// None when the plan needs no rules.
pub fn render(plan: &NetworkPlan) -> Option<String> {
    if plan.bridge.is_none() && plan.locals.is_empty() {
        return None;
    }
    let mut text = String::new();
    let out = &mut text;
    writeln!(out, "table {TABLE}").and_then(|()| writeln!(out, "delete table {TABLE}")).expect(INFALLIBLE);
    writeln!(out, "table {TABLE} {{").expect(INFALLIBLE);
    if let Some(bridge) = &plan.bridge {
        forward_chain(out, bridge).expect(INFALLIBLE);
        if bridge.masquerade {
            masquerade_chain(out, bridge).expect(INFALLIBLE);
        }
    }
    local::chains(out, plan).expect(INFALLIBLE);
    writeln!(out, "}}").expect(INFALLIBLE);
    Some(text)
}

const INFALLIBLE: &str = "writing to a String cannot fail";

/// SHA-256 of a rendered table, in hexadecimal: how `diff` knows that the kernel has it.
pub fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Endpoints may speak to each other and to the world; the world may answer, and may begin only where
/// a published port led it here. Turning on forwarding would otherwise open every endpoint to
/// whoever on the host's links adds a route to the subnet. Endpoints that are apart are so here too: one that writes its
/// own frames could send to the gateway what is for a neighbour.
fn forward_chain(out: &mut String, bridge: &BridgePlan) -> std::fmt::Result {
    let name = &bridge.name;
    writeln!(out, "\tchain forward {{")?;
    writeln!(out, "\t\ttype filter hook forward priority filter; policy accept;")?;
    if !bridge.apart {
        writeln!(out, "\t\tiifname \"{name}\" accept")?;
    }
    writeln!(out, "\t\toifname != \"{name}\" accept")?;
    writeln!(out, "\t\tct state established,related accept")?;
    writeln!(out, "\t\tct status dnat accept")?;
    writeln!(out, "\t\tdrop")?;
    writeln!(out, "\t}}")
}

/// Only what leaves the subnet through another interface: with `bridge-nf-call-iptables=1` packets
/// between two ports of the bridge pass here too, and must keep their source.
fn masquerade_chain(out: &mut String, bridge: &BridgePlan) -> std::fmt::Result {
    let (name, subnet) = (&bridge.name, bridge.subnet.network());
    writeln!(out, "\tchain postrouting {{")?;
    writeln!(out, "\t\ttype nat hook postrouting priority srcnat; policy accept;")?;
    writeln!(out, "\t\tip saddr {subnet} ip daddr != {subnet} oifname != \"{name}\" masquerade")?;
    writeln!(out, "\t}}")
}
