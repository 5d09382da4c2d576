//! Firewalls of the host that let nothing through to containers. Pure; `kernel::mesh` reads what they have.
//!
//! An `accept` of ours ends only our own chain: what another table drops stays dropped, and other people's tables are
//! not ours to write. So the operator is told the command.

use serde::{Deserialize, Serialize};

use super::Difference;
use crate::{NetworkPlan, mesh::INGRESS};

/// A chain of somebody else's that drops what it does not know, on the way through this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardDrop {
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    pub table: String,
    pub chain: String,
    /// Whether ufw made it.
    pub is_ufw: bool,
    /// Links of ours that no rule of its table names.
    pub unnamed: Vec<String>,
}

/// Links of ours through which packets are forwarded.
pub fn links(plan: &NetworkPlan) -> Vec<String> {
    let bridge = plan.bridge.iter().filter(|_| !plan.endpoints.is_empty()).map(|bridge| bridge.name.clone());
    plan.mesh.iter().map(|_| INGRESS.to_owned()).chain(bridge).collect()
}

pub fn differences(drops: &[ForwardDrop]) -> Vec<Difference> {
    let drops = drops.iter().filter(|drop| !drop.unnamed.is_empty());
    drops
        .map(|drop| {
            let ForwardDrop { family, table, chain, unnamed, .. } = drop;
            let links = unnamed.join(" and ");
            let closed = if unnamed.iter().any(|link| link == INGRESS) { "published ports and " } else { "" };
            let found = format!(
                "policy drop and no rule for {links}: {closed}containers' ways out are closed on this host; run `{}` and \
                 make it last as the rest of your firewall does",
                commands(drop)
            );
            Difference::new("forwarding", format!("table {family} {table}, chain {chain}"), format!("{links} may pass"), found)
        })
        .collect()
}

fn commands(drop: &ForwardDrop) -> String {
    let ForwardDrop { family, table, chain, is_ufw, unnamed } = drop;
    let command = |link: &String| {
        if *is_ufw {
            return ["in", "out"].map(|way| format!("ufw route allow {way} on {link}")).join(" && ");
        }
        let program = match (family.as_str(), table.as_str(), chain.as_str()) {
            ("ip", "filter", "FORWARD") => "iptables",
            ("ip6", "filter", "FORWARD") => "ip6tables",
            _ => {
                let rule = |way| format!("nft insert rule {family} {table} {chain} {way}ifname {link} accept");
                return ["i", "o"].map(rule).join(" && ");
            }
        };
        ["i", "o"].map(|way| format!("{program} -I FORWARD -{way} {link} -j ACCEPT")).join(" && ")
    };
    unnamed.iter().map(command).collect::<Vec<_>>().join(" && ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// P14: who has a firewall that forwards nothing is told what to run, in that firewall's own words.
    #[test]
    fn p14_the_command_is_that_of_the_firewall() {
        let drop = |family: &str, table: &str, chain: &str, is_ufw, unnamed: &[&str]| ForwardDrop {
            family: family.to_owned(),
            table: table.to_owned(),
            chain: chain.to_owned(),
            is_ufw,
            unnamed: unnamed.iter().map(ToString::to_string).collect(),
        };
        let drops = [
            drop("ip", "filter", "FORWARD", false, &["rs-ingress", "rswarm0"]),
            drop("ip6", "filter", "FORWARD", true, &["rs-ingress"]),
            drop("inet", "fw", "fwd", false, &["rswarm0"]),
            drop("inet", "mine", "forward", false, &[]),
        ];
        let said: Vec<String> = differences(&drops).iter().map(ToString::to_string).collect();
        expect![[r"
            forwarding (table ip filter, chain FORWARD): expected rs-ingress and rswarm0 may pass, found policy drop and no rule for rs-ingress and rswarm0: published ports and containers' ways out are closed on this host; run `iptables -I FORWARD -i rs-ingress -j ACCEPT && iptables -I FORWARD -o rs-ingress -j ACCEPT && iptables -I FORWARD -i rswarm0 -j ACCEPT && iptables -I FORWARD -o rswarm0 -j ACCEPT` and make it last as the rest of your firewall does
            forwarding (table ip6 filter, chain FORWARD): expected rs-ingress may pass, found policy drop and no rule for rs-ingress: published ports and containers' ways out are closed on this host; run `ufw route allow in on rs-ingress && ufw route allow out on rs-ingress` and make it last as the rest of your firewall does
            forwarding (table inet fw, chain fwd): expected rswarm0 may pass, found policy drop and no rule for rswarm0: containers' ways out are closed on this host; run `nft insert rule inet fw fwd iifname rswarm0 accept && nft insert rule inet fw fwd oifname rswarm0 accept` and make it last as the rest of your firewall does"]]
        .assert_eq(&said.join("\n"));
    }
}
