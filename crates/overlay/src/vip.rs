//! Virtual addresses of services: the table in an endpoint's own namespace that spreads new connections
//! over the backends, as text. Pure; `kernel::vip` loads it.
//!
//! A connection is looked at once, when it begins, whatever the number of services: one map from
//! address to chain, one chain for each service. The source stays, and connections that stand are the
//! kernel's connection tracking's affair: changing a chain never disturbs them. Each client goes round
//! its backends in turn (`numgen inc`), so a thousand connections are spread evenly to one; where it
//! begins depends on the client, so that many clients with one connection each are spread as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write},
    net::IpAddr,
};

use crate::{EndpointId, LoadedVips, nft};

/// Virtual address to backends, as in [`crate::OverlayPlan::services`].
pub type Services = BTreeMap<IpAddr, BTreeSet<IpAddr>>;

const TABLE: &str = nft::TABLE;
const INFALLIBLE: &str = "writing to a String cannot fail";

/// Rules to load, and what is balanced once they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The number of the ruleset that these rules change; None: they replace the table.
    pub onto: Option<u32>,
    pub ruleset: String,
    pub digests: BTreeMap<IpAddr, String>,
}

/// For each virtual address what tells its set of backends from others.
pub fn digests(services: &Services) -> BTreeMap<IpAddr, String> {
    let digest = |backends| nft::digest(&format!("{backends:?}"))[..16].to_owned();
    services.iter().map(|(vip, backends)| (*vip, digest(backends))).collect()
}

/// What turns the table that is there into the wanted one; None when it is that already.
///
/// The cost is that of the addresses that differ. Where it is not known what is there, the table is swapped whole.
pub fn plan_load(
    client: &EndpointId,
    wanted: BTreeMap<IpAddr, String>,
    loaded: Option<&LoadedVips>,
    backends_of: impl Fn(&IpAddr) -> BTreeSet<IpAddr>,
) -> Option<Load> {
    let nothing = BTreeMap::new();
    let (mut text, had) = match loaded {
        Some(loaded) => (String::new(), &loaded.digests),
        None if wanted.is_empty() => return None,
        None => (whole(), &nothing),
    };
    let out = &mut text;
    for vip in had.keys().filter(|vip| !wanted.contains_key(vip)) {
        remove(out, *vip).expect(INFALLIBLE);
    }
    for (vip, _) in wanted.iter().filter(|(vip, digest)| had.get(vip) != Some(digest)) {
        set(out, client, *vip, &backends_of(vip)).expect(INFALLIBLE);
    }
    (!text.is_empty()).then_some(Load { onto: loaded.map(|loaded| loaded.generation), ruleset: text, digests: wanted })
}

/// The table without any service, in place of whatever is there.
fn whole() -> String {
    // Priority -100 is "dstnat", a name nft knows only before routing.
    format!(
        "table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n\
         \tmap vip4 {{\n\t\ttype ipv4_addr : verdict\n\t}}\n\
         \tmap vip6 {{\n\t\ttype ipv6_addr : verdict\n\t}}\n\
         \tchain balance {{\n\t\ttype nat hook output priority -100; policy accept;\n\
         \t\tip daddr vmap @vip4\n\t\tip6 daddr vmap @vip6\n\t}}\n}}\n"
    )
}

/// Both for a new service and for other backends of one that is there.
fn set(out: &mut String, client: &EndpointId, vip: IpAddr, backends: &BTreeSet<IpAddr>) -> fmt::Result {
    let (chain, map) = names(vip);
    writeln!(out, "add chain {TABLE} {chain}")?;
    writeln!(out, "flush chain {TABLE} {chain}")?;
    let mut backends: Vec<IpAddr> = backends.iter().copied().filter(|b| b.is_ipv4() == vip.is_ipv4()).collect();
    if backends.is_empty() {
        // At once, not after the client's patience.
        writeln!(out, "add rule {TABLE} {chain} meta l4proto tcp reject with tcp reset")?;
        writeln!(out, "add rule {TABLE} {chain} reject")?;
    } else {
        let count = backends.len();
        backends.rotate_left(first_of(client, vip, count));
        let family = if vip.is_ipv4() { "ip" } else { "ip6" };
        let turns: Vec<String> =
            backends.iter().enumerate().map(|(turn, backend)| format!("{turn} : {backend}")).collect();
        let turns = turns.join(", ");
        writeln!(out, "add rule {TABLE} {chain} dnat {family} to numgen inc mod {count} map {{ {turns} }}")?;
    }
    writeln!(out, "add element {TABLE} {map} {{ {vip} : goto {chain} }}")
}

fn remove(out: &mut String, vip: IpAddr) -> fmt::Result {
    let (chain, map) = names(vip);
    writeln!(out, "delete element {TABLE} {map} {{ {vip} }}")?;
    writeln!(out, "flush chain {TABLE} {chain}")?;
    writeln!(out, "delete chain {TABLE} {chain}")
}

/// The service's chain, and the map that leads to it. Colons have no place in a chain's name.
fn names(vip: IpAddr) -> (String, &'static str) {
    match vip {
        IpAddr::V4(v4) => (format!("vip-{:08x}", u32::from(v4)), "vip4"),
        IpAddr::V6(v6) => (format!("vip-{:032x}", u128::from(v6)), "vip6"),
    }
}

/// With which of `count` backends this client begins.
fn first_of(client: &EndpointId, vip: IpAddr, count: usize) -> usize {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{client} {vip}").as_bytes());
    let number = digest.as_ref().iter().take(4).fold(0, |number, byte| number << 8 | usize::from(*byte));
    number % count
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn services(text: &str) -> Services {
        let line = |line: &str| {
            let (vip, backends) = line.split_once('>').expect(line);
            let backends = backends.split_whitespace().map(|b| b.parse().expect(b)).collect();
            (vip.trim().parse().expect(vip), backends)
        };
        text.lines().map(line).collect()
    }

    fn load(before: Option<&str>, after: &str) -> String {
        let loaded = before.map(|text| LoadedVips { generation: 1, digests: digests(&services(text)) });
        let wanted = services(after);
        let load = plan_load(&"a".parse().expect("id"), digests(&wanted), loaded.as_ref(), |vip| wanted[vip].clone());
        load.map(|load| load.ruleset).unwrap_or_default()
    }

    const TWO: &str = "10.0.0.100 > 10.0.0.2 10.0.0.3\nfd00::100 > fd00::2";

    #[test]
    fn the_whole_table_as_text() {
        expect![[r#"
            table inet rswarm
            delete table inet rswarm
            table inet rswarm {
            	map vip4 {
            		type ipv4_addr : verdict
            	}
            	map vip6 {
            		type ipv6_addr : verdict
            	}
            	chain balance {
            		type nat hook output priority -100; policy accept;
            		ip daddr vmap @vip4
            		ip6 daddr vmap @vip6
            	}
            }
            add chain inet rswarm vip-0a000064
            flush chain inet rswarm vip-0a000064
            add rule inet rswarm vip-0a000064 dnat ip to numgen inc mod 2 map { 0 : 10.0.0.2, 1 : 10.0.0.3 }
            add element inet rswarm vip4 { 10.0.0.100 : goto vip-0a000064 }
            add chain inet rswarm vip-fd000000000000000000000000000100
            flush chain inet rswarm vip-fd000000000000000000000000000100
            add rule inet rswarm vip-fd000000000000000000000000000100 dnat ip6 to numgen inc mod 1 map { 0 : fd00::2 }
            add element inet rswarm vip6 { fd00::100 : goto vip-fd000000000000000000000000000100 }
        "#]]
        .assert_eq(&load(None, TWO));
    }

    #[test]
    fn nothing_is_loaded_for_nothing() {
        assert_eq!(load(None, ""), "");
        assert_eq!(load(Some(TWO), TWO), "");
    }

    #[test]
    fn a_change_touches_its_own_service_only() {
        expect![[r#"
            delete element inet rswarm vip6 { fd00::100 }
            flush chain inet rswarm vip-fd000000000000000000000000000100
            delete chain inet rswarm vip-fd000000000000000000000000000100
            add chain inet rswarm vip-0a000065
            flush chain inet rswarm vip-0a000065
            add rule inet rswarm vip-0a000065 meta l4proto tcp reject with tcp reset
            add rule inet rswarm vip-0a000065 reject
            add element inet rswarm vip4 { 10.0.0.101 : goto vip-0a000065 }
        "#]]
        .assert_eq(&load(Some(TWO), "10.0.0.100 > 10.0.0.2 10.0.0.3\n10.0.0.101 >"));
    }

    #[test]
    fn many_clients_begin_with_different_backends() {
        let vip = "10.0.0.100".parse().expect("address");
        let mut begins = [0; 5];
        for client in 0..1000 {
            begins[first_of(&format!("task{client}").parse().expect("id"), vip, 5)] += 1;
        }
        assert!(begins.iter().all(|count| (150..250).contains(count)), "{begins:?}");
    }
}
