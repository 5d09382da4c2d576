//! The lab's switch and cables: text for `ip -batch` and `nft -f`, and running it in the right namespace.
//!
//! The switch is a bridge in a network namespace of its own; nothing here touches the machine's.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::state::LabState;
use crate::{Error, addr, tool};

/// Name of the switch's network namespace.
pub fn switch(lab: &str) -> String {
    format!("rswarm-lab-{lab}")
}

/// Where iproute2 keeps the switch's namespace.
pub fn switch_path(lab: &str) -> PathBuf {
    Path::new("/run/netns").join(switch(lab))
}

/// The switch's end of a host's cable.
pub fn port(index: u8) -> String {
    format!("v{index}")
}

/// Makes the switch.
pub fn ensure_switch(state: &LabState) -> Result<(), Error> {
    let ns = switch(state.spec.name.as_str());
    tool::run(&["ip", "netns", "add", &ns], "")?;
    tool::run(&["ip", "-n", &ns, "-batch", "-"], &render_switch(state.number, state.spec.underlay_mtu, has_ipv6()))?;
    Ok(())
}

/// Plugs hosts into the switch: `(index, pid of its init, cable pulled)`.
pub fn plug(state: &LabState, hosts: &[(u8, i32, bool)]) -> Result<(), Error> {
    let ns = switch(state.spec.name.as_str());
    let mtu = state.spec.underlay_mtu;
    let batch: String = hosts.iter().map(|&(i, pid, cut)| render_port(state.number, i, pid, mtu, cut)).collect();
    tool::run(&["ip", "-n", &ns, "-batch", "-"], &batch)?;
    for &(index, pid, _) in hosts {
        let batch = render_host(state.number, index, has_ipv6());
        tool::run(&["nsenter", "-t", &pid.to_string(), "-n", "ip", "-batch", "-"], &batch)?;
    }
    Ok(())
}

/// Takes the cable away. Missing already is fine: it goes with the host's namespace.
pub fn unplug(lab: &str, index: u8) {
    let _ = tool::run(&["ip", "-n", &switch(lab), "link", "del", &port(index)], "");
}

/// Pulls a cable out at the switch, or puts it back: the host sees its carrier go and come.
pub fn set_cable(lab: &str, index: u8, connected: bool) -> Result<(), Error> {
    let to = if connected { "up" } else { "down" };
    tool::run(&["ip", "-n", &switch(lab), "link", "set", &port(index), to], "").map(drop)
}

/// Bounds what the switch sends to a host, in bits per second; `None` lifts it.
pub fn set_limit(lab: &str, index: u8, bits_per_second: Option<u64>) -> Result<(), Error> {
    let (ns, port) = (switch(lab), port(index));
    let Some(rate) = bits_per_second else {
        // No limit was set: nothing to delete is what was asked for.
        let _ = tool::run(&["tc", "-n", &ns, "qdisc", "del", "dev", &port, "root"], "");
        return Ok(());
    };
    let rate = format!("{rate}bit");
    let tbf = ["tbf", "rate", &rate, "burst", "64kb", "latency", "100ms"];
    let head = ["tc", "-n", &ns, "qdisc", "replace", "dev", &port, "root"];
    tool::run(&[&head[..], &tbf[..]].concat(), "").map(drop)
}

/// Makes the switch drop everything between the pairs in `state.apart`, and nothing else.
pub fn apply_apart(state: &LabState) -> Result<(), Error> {
    let netns = format!("--net={}", switch_path(state.spec.name.as_str()).display());
    tool::run(&["nsenter", &netns, "nft", "-f", "-"], &render_apart(state.number, &state.apart)).map(drop)
}

/// Removes the switch and with it every port.
///
/// Tried again for a while: the `ip netns add` of a creator that was killed may just be at work.
pub fn remove_switch(lab: &str) -> Result<(), Error> {
    const DEADLINE: Duration = Duration::from_secs(3);
    let end = Instant::now() + DEADLINE;
    while switch_path(lab).exists() {
        match tool::run(&["ip", "netns", "del", &switch(lab)], "") {
            Err(e) if Instant::now() > end => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(10)),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Names of labs that have a switch.
pub fn switches() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
    entries.flatten().filter_map(|e| Some(e.file_name().to_str()?.strip_prefix("rswarm-lab-")?.to_owned())).collect()
}

fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

fn render_switch(number: u8, mtu: u32, ipv6: bool) -> String {
    let mut batch = String::from("link add br0 type bridge forward_delay 0 mcast_snooping 0\n");
    let _ = writeln!(batch, "link set br0 mtu {mtu}");
    let _ = writeln!(batch, "addr add {}/24 dev br0", addr::gateway4(number));
    if ipv6 {
        let _ = writeln!(batch, "addr add {}/64 dev br0 nodad", addr::gateway6(number));
    }
    batch.push_str("link set br0 up\nlink set lo up\n");
    batch
}

/// The card's address stays over a restart, as a real machine's: neighbours need not forget it.
fn render_port(number: u8, index: u8, pid: i32, mtu: u32, cut: bool) -> String {
    let port = port(index);
    let card = format!("02:72:73:77:{number:02x}:{index:02x}");
    let state = if cut { "down" } else { "up" };
    format!(
        "link add {port} mtu {mtu} type veth peer name eth0 address {card} mtu {mtu} netns /proc/{pid}/ns/net\n\
         link set {port} master br0 {state}\n"
    )
}

fn render_host(number: u8, index: u8, ipv6: bool) -> String {
    let mut batch = String::from("link set lo up\n");
    let _ = writeln!(batch, "addr add {}/24 dev eth0", addr::ipv4(number, index));
    if ipv6 {
        let _ = writeln!(batch, "addr add {}/64 dev eth0 nodad", addr::ipv6(number, index));
    }
    batch.push_str("link set eth0 up\n");
    let _ = writeln!(batch, "route add default via {}", addr::gateway4(number));
    if ipv6 {
        let _ = writeln!(batch, "route add default via {}", addr::gateway6(number));
    }
    batch
}

/// The whole table each time, swapped in one transaction.
fn render_apart(number: u8, apart: &[(u8, u8)]) -> String {
    let mut text = String::from("table bridge lab\ndelete table bridge lab\n");
    text.push_str("table bridge lab {\n chain forward {\n  type filter hook forward priority 0; policy accept;\n");
    for &(a, b) in apart {
        for (from, to) in [(a, b), (b, a)] {
            let _ = writeln!(text, "  ip saddr {} ip daddr {} drop", addr::ipv4(number, from), addr::ipv4(number, to));
            let _ =
                writeln!(text, "  ip6 saddr {} ip6 daddr {} drop", addr::ipv6(number, from), addr::ipv6(number, to));
        }
    }
    text.push_str(" }\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn batches_read_as_expected() {
        expect![[r#"
            link add br0 type bridge forward_delay 0 mcast_snooping 0
            link set br0 mtu 1450
            addr add 10.98.7.254/24 dev br0
            addr add fd98:7::fe/64 dev br0 nodad
            link set br0 up
            link set lo up
            link add v2 mtu 1450 type veth peer name eth0 address 02:72:73:77:07:02 mtu 1450 netns /proc/99/ns/net
            link set v2 master br0 up
            link set lo up
            addr add 10.98.7.2/24 dev eth0
            link set eth0 up
            route add default via 10.98.7.254
        "#]]
        .assert_eq(
            &[render_switch(7, 1450, true), render_port(7, 2, 99, 1450, false), render_host(7, 2, false)].concat(),
        );
    }

    #[test]
    fn a_pair_is_dropped_both_ways_in_both_families() {
        expect![[r#"
            table bridge lab
            delete table bridge lab
            table bridge lab {
             chain forward {
              type filter hook forward priority 0; policy accept;
              ip saddr 10.98.0.1 ip daddr 10.98.0.3 drop
              ip6 saddr fd98::1 ip6 daddr fd98::3 drop
              ip saddr 10.98.0.3 ip daddr 10.98.0.1 drop
              ip6 saddr fd98::3 ip6 daddr fd98::1 drop
             }
            }
        "#]]
        .assert_eq(&render_apart(0, &[(1, 3)]));
    }
}
