//! What the facts of a host mean. Pure: facts in, lines out.

use overlay::{Capability, netd::protocol::Hello};
use serde_json::Value;
use types::Check;

use super::facts::Facts;
use crate::engine::preflight;

/// Below this images cannot be unpacked any more.
const LEAST_FREE_BYTES: u64 = 512 << 20;
/// Below a tenth a busy host is full within hours.
const LITTLE_FREE: u64 = 10;
/// The kernel counts the neighbours of all containers together; with fewer connections fail here and there.
const NEIGHBOURS: u64 = 1024;

/// One feature of the kernel, as it was tried.
pub fn capability(found: &Capability) -> Check {
    let subject = format!("kernel: {}", found.name);
    match (found.present, found.required) {
        (true, _) => Check::pass(subject, "yes"),
        (false, true) => Check::fail(subject, format!("no: {}", found.advice)),
        (false, false) if found.name == "wireguard" => Check::pass(subject, format!("fallback: {}", found.advice)),
        (false, false) => Check::warn(subject, format!("no: {}", found.advice)),
    }
}

/// What the engine needs before it starts.
pub fn preflight(facts: &preflight::Facts) -> Vec<Check> {
    let missing = preflight::missing(facts);
    let mut checks: Vec<Check> = missing.into_iter().map(|text| Check::fail("host", text)).collect();
    checks.push(match facts.overlayfs {
        true => Check::pass("kernel: overlayfs", "yes"),
        false => Check::warn(
            "kernel: overlayfs",
            "not in this kernel (modprobe overlay): the root filesystems of containers are copies, unless on btrfs",
        ),
    });
    let cgroup = &facts.cgroup;
    if cgroup.version != 0 {
        let controllers = cgroup.controllers.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        checks.push(Check::pass("kernel: control groups", format!("version {} with {controllers}", cgroup.version)));
    }
    checks
}

/// Everything else about the host.
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![user_namespaces(facts)];
    checks.extend(firewall(facts));
    checks.extend(facts.disk.map(|(all, free)| disk(&facts.state_dir, all, free)));
    checks.extend(facts.conntrack.map(|(count, most)| conntrack(count, most)));
    checks.extend(facts.neighbours.map(neighbours));
    checks
}

fn user_namespaces(facts: &Facts) -> Check {
    let subject = "kernel: user namespaces";
    match facts.user_namespaces {
        Some(most) if most > 0 => Check::pass(subject, "yes"),
        Some(_) => Check::pass(subject, "fallback: turned off (user.max_user_namespaces=0); containers run without"),
        None => Check::pass(subject, "fallback: not in this kernel; containers run without"),
    }
}

/// Chains of others that drop what is forwarded, and firewalls that are known to be in the way.
fn firewall(facts: &Facts) -> Vec<Check> {
    const SUBJECT: &str = "firewall";
    const OPEN: &str = "between the nodes open TCP ports 2377 and 7946, UDP ports 7946, 4789 and 51820";
    let Some(chains) = facts.chains.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return vec![Check::warn(SUBJECT, "the rules cannot be read: run this as root, with nft installed")];
    };
    let mut checks = Vec::new();
    let chains: Vec<&Value> =
        chains["nftables"].as_array().into_iter().flatten().map(|o| &o["chain"]).filter(|c| c.is_object()).collect();
    let word = |chain: &Value, key: &str| chain[key].as_str().unwrap_or_default().to_owned();
    for chain in chains.iter().filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop") {
        let (family, table, name) = (word(chain, "family"), word(chain, "table"), word(chain, "name"));
        let remedy = if family == "ip6" { "ip6tables" } else { "iptables" };
        checks.push(Check::warn(
            SUBJECT,
            format!(
                "chain {name} of table {family} {table} drops what is forwarded unless a rule accepts it, also containers' \
                 traffic: {remedy} -I FORWARD -i rswarm0 -j ACCEPT; {remedy} -I FORWARD -o rswarm0 -j ACCEPT"
            ),
        ));
    }
    if chains.iter().any(|chain| chain["table"] == "firewalld") {
        let text = format!(
            "firewalld is at work: {OPEN}, and trust the bridge: firewall-cmd --zone=trusted \
             --add-interface=rswarm0 --permanent"
        );
        checks.push(Check::warn(SUBJECT, text));
    }
    if chains.iter().any(|chain| word(chain, "name").starts_with("ufw-")) {
        let text = format!("ufw is at work: {OPEN}, and allow what is forwarded: ufw route allow in on rswarm0");
        checks.push(Check::warn(SUBJECT, text));
    }
    let has_legacy = facts.legacy_tables.as_ref().is_some_and(|names| names.lines().any(|name| name == "filter"));
    if has_legacy {
        let text =
            "rules of the older iptables are loaded, which nft does not show: look at iptables-legacy -S FORWARD";
        checks.push(Check::warn(SUBJECT, text));
    }
    if checks.is_empty() {
        checks.push(Check::pass(SUBJECT, "nothing here drops what is forwarded"));
    }
    checks
}

fn disk(place: &str, all: u64, free: u64) -> Check {
    let percent = (free.saturating_mul(100)).checked_div(all).unwrap_or(0);
    let text = format!("{} MiB of {} MiB free ({percent} %) below {place}", free >> 20, all >> 20);
    let remedy = "rswarm image prune removes images that nothing uses";
    if free < LEAST_FREE_BYTES {
        Check::fail("disk", format!("{text}: {remedy}"))
    } else if percent < LITTLE_FREE {
        Check::warn("disk", format!("{text}: {remedy}"))
    } else {
        Check::pass("disk", text)
    }
}

fn conntrack(count: u64, most: u64) -> Check {
    let text = format!("{count} of {most} connections tracked");
    let remedy = format!("new ones are refused when it is full: sysctl net.netfilter.nf_conntrack_max={}", most * 2);
    match count.saturating_mul(100).checked_div(most).unwrap_or(0) {
        98.. => Check::fail("connection tracking", format!("{text}; {remedy}")),
        80.. => Check::warn("connection tracking", format!("{text}; {remedy}")),
        _ => Check::pass("connection tracking", text),
    }
}

fn neighbours(most: u64) -> Check {
    let text = format!("room for {most} neighbours of all containers together");
    if most < NEIGHBOURS {
        let remedy = format!("sysctl net.ipv4.neigh.default.gc_thresh3={}", NEIGHBOURS * 64);
        return Check::warn("neighbour table", format!("{text}, which is little: {remedy}"));
    }
    Check::pass("neighbour table", text)
}

/// The data plane process, by what it said.
pub fn data_plane(hello: Result<Hello, String>, version: &str) -> Check {
    const SUBJECT: &str = "rswarm netd";
    match hello {
        Ok(hello) if hello.version == version => Check::pass(SUBJECT, format!("runs, version {version}")),
        Ok(hello) => Check::fail(
            SUBJECT,
            format!(
                "runs, but of version {}, while this is {version}: restart rswarm daemon, which replaces it",
                hello.version
            ),
        ),
        Err(why) => Check::fail(SUBJECT, format!("does not answer ({why}): start rswarm daemon, which starts it")),
    }
}

#[cfg(test)]
mod tests {
    use types::CheckVerdict::{Fail, Pass, Warn};

    use super::*;

    fn facts() -> Facts {
        Facts {
            chains: Some(r#"{"nftables": []}"#.to_owned()),
            disk: Some((100 << 30, 50 << 30)),
            state_dir: "/var/lib/rswarm".to_owned(),
            conntrack: Some((10, 1000)),
            neighbours: Some(65_536),
            user_namespaces: Some(100),
            ..Facts::default()
        }
    }

    fn worst(facts: &Facts, part: &str) -> Option<types::CheckVerdict> {
        judge(facts).into_iter().filter(|check| check.text.contains(part)).map(|check| check.verdict).max()
    }

    #[test]
    fn a_host_in_order_passes() {
        assert!(judge(&facts()).iter().all(|check| check.verdict == Pass), "{:#?}", judge(&facts()));
    }

    #[test]
    fn full_disks_and_tables_are_said_with_the_remedy() {
        let full = Facts { disk: Some((100 << 30, 100 << 20)), conntrack: Some((990, 1000)), ..facts() };
        assert_eq!(
            (worst(&full, "rswarm image prune"), worst(&full, "nf_conntrack_max=2000")),
            (Some(Fail), Some(Fail))
        );
        let little = Facts { disk: Some((100 << 30, 5 << 30)), conntrack: Some((850, 1000)), ..facts() };
        assert_eq!((worst(&little, "rswarm image prune"), worst(&little, "850 of 1000")), (Some(Warn), Some(Warn)));
        assert_eq!(worst(&Facts { neighbours: Some(128), ..facts() }, "gc_thresh3"), Some(Warn));
    }

    #[test]
    fn firewalls_that_stop_forwarded_traffic_are_named() {
        let chain = |text: &str| Facts { chains: Some(format!(r#"{{"nftables": [{text}]}}"#)), ..facts() };
        let drops =
            r#"{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}}"#;
        assert_eq!(worst(&chain(drops), "iptables -I FORWARD -i rswarm0"), Some(Warn));
        assert_eq!(worst(&chain(&drops.replace("drop", "accept")), "FORWARD"), None);
        let ufw = r#"{"chain": {"family": "ip", "table": "filter", "name": "ufw-user-forward"}}"#;
        assert_eq!(worst(&chain(ufw), "ufw is at work"), Some(Warn));
        let firewalld = r#"{"chain": {"family": "inet", "table": "firewalld", "name": "filter_FORWARD"}}"#;
        assert_eq!(worst(&chain(firewalld), "firewalld is at work"), Some(Warn));
        assert_eq!(worst(&Facts { chains: None, ..facts() }, "cannot be read"), Some(Warn));
        assert_eq!(
            worst(&Facts { legacy_tables: Some("nat\nfilter\n".to_owned()), ..facts() }, "iptables-legacy"),
            Some(Warn)
        );
    }

    /// P51: each feature is said to be there, to be missing, or to be replaced by something else.
    #[test]
    fn features_are_yes_no_or_fallback() {
        let found = |name: &str, required, present| {
            let advice = "load it".to_owned();
            let check = capability(&Capability { name: name.to_owned(), required, present, advice });
            (check.verdict, check.text)
        };
        assert_eq!(found("vxlan", false, true), (Pass, "yes".to_owned()));
        assert_eq!(found("vxlan", false, false), (Warn, "no: load it".to_owned()));
        assert_eq!(found("veth", true, false), (Fail, "no: load it".to_owned()));
        assert_eq!(found("wireguard", false, false), (Pass, "fallback: load it".to_owned()));
    }

    #[test]
    fn another_version_of_the_data_plane_fails() {
        let hello = |version: &str| Ok(Hello { protocol: 2, version: version.to_owned(), pid: 1 });
        assert_eq!(data_plane(hello("1"), "1").verdict, Pass);
        assert_eq!(data_plane(hello("0"), "1").verdict, Fail);
        assert_eq!(data_plane(Err("no such file".to_owned()), "1").verdict, Fail);
    }
}
