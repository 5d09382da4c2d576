//! The nftables table of the tunnel's namespace. Pure.
//!
//! Out goes what the VXLAN interfaces of encrypted overlays send, and nothing of a process that got in here. In comes
//! VXLAN of a network that this host is in, from hosts that have an endpoint in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::Ipv4Addr,
};

use super::DEVICE;

const TABLE: &str = "inet rswarm_tunnel";

/// `senders`: for each VXLAN network identifier, who may send.
pub fn render(port: u16, senders: &BTreeMap<u32, BTreeSet<Ipv4Addr>>) -> String {
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    let networks: Vec<(&u32, &BTreeSet<Ipv4Addr>)> = senders.iter().filter(|(_, hosts)| !hosts.is_empty()).collect();
    let write = "writing to a String cannot fail";
    for (vni, hosts) in &networks {
        let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        writeln!(text, "\tchain vni-{vni} {{\n\t\tip saddr {{ {hosts} }} accept\n\t}}").expect(write);
    }
    text.push_str("\tchain in {\n\t\ttype filter hook input priority filter; policy drop;\n");
    if !networks.is_empty() {
        let verdicts = networks.iter().map(|(vni, _)| format!("{vni} : goto vni-{vni}")).collect::<Vec<_>>().join(", ");
        // The identifier: 24 bits after UDP's 64 and VXLAN's flags.
        writeln!(text, "\t\tiifname \"{DEVICE}\" udp dport {port} @th,96,24 vmap {{ {verdicts} }}").expect(write);
    }
    text.push_str("\t}\n\tchain out {\n\t\ttype filter hook output priority filter; policy drop;\n");
    // A packet with an owner is from a socket of this namespace: a VXLAN interface's have none here.
    text.push_str("\t\tmeta skuid >= 0 drop\n");
    writeln!(text, "\t\toifname \"{DEVICE}\" udp dport {port} accept\n\t}}").expect(write);
    text.push_str("\tchain through {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// P15 c: who is in no network is let in by no rule.
    #[test]
    fn p15_only_hosts_of_a_network_may_send_into_it() {
        let hosts = |last: &[u8]| last.iter().map(|n| Ipv4Addr::new(250, 0, 0, *n)).collect();
        let senders = [(4097, hosts(&[1, 2])), (4098, hosts(&[])), (4099, hosts(&[2]))].into();
        expect![[r#"
            table inet rswarm_tunnel
            delete table inet rswarm_tunnel
            table inet rswarm_tunnel {
            	chain vni-4097 {
            		ip saddr { 250.0.0.1, 250.0.0.2 } accept
            	}
            	chain vni-4099 {
            		ip saddr { 250.0.0.2 } accept
            	}
            	chain in {
            		type filter hook input priority filter; policy drop;
            		iifname "wg0" udp dport 4789 @th,96,24 vmap { 4097 : goto vni-4097, 4099 : goto vni-4099 }
            	}
            	chain out {
            		type filter hook output priority filter; policy drop;
            		meta skuid >= 0 drop
            		oifname "wg0" udp dport 4789 accept
            	}
            	chain through {
            		type filter hook forward priority filter; policy drop;
            	}
            }
        "#]]
        .assert_eq(&render(4789, &senders));
        assert!(!render(4789, &BTreeMap::new()).contains("vmap"));
    }
}
