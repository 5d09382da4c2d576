//! The host's resolvers: what its `resolv.conf` names now.
//!
//! Looked at once a second rather than watched: the file is often a link into a directory that is
//! replaced (systemd-resolved, NetworkManager, DHCP clients), where a watch on the file goes blind.

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::MissedTickBehavior};

use super::PORT;

/// N-17; the resolver of the C library takes no more either.
pub const MAX_SERVERS: usize = 3;
const PATH: &str = "/etc/resolv.conf";
const LOOK: Duration = Duration::from_secs(1);
/// Longer than any sensible file; nothing beyond is read.
const MAX_BYTES: u64 = 64 * 1024;

/// Follows the file until nobody wants to know.
pub async fn follow(servers: watch::Sender<Arc<[SocketAddr]>>) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !servers.is_closed() {
        clock.tick().await;
        // Unreadable, or about to be replaced: the servers known last are more likely right than none.
        let Some(now) = read() else { continue };
        servers.send_if_modified(|known| {
            let is_new = **known != now[..];
            if is_new {
                *known = now.into();
            }
            is_new
        });
    }
}

fn read() -> Option<Vec<SocketAddr>> {
    let mut text = Vec::new();
    File::open(PATH).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    Some(parse(&String::from_utf8_lossy(&text)))
}

/// The first nameservers of a `resolv.conf` text. What is no address is passed over, as resolvers do.
pub fn parse(text: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let server = words.next().and_then(address).filter(|server| !found.contains(server));
        found.extend(server);
    }
    found.truncate(MAX_SERVERS);
    found
}

/// An address, for a link-local one with the interface after `%`.
fn address(text: &str) -> Option<SocketAddr> {
    let Some((address, interface)) = text.split_once('%') else {
        return text.parse().ok().map(|address: IpAddr| SocketAddr::new(address, PORT));
    };
    let scope = nix::net::if_::if_nametoindex(interface).ok()?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_three_servers_once_each() {
        let text = "# by hand\n; too\nsearch example.com\nnameserver 127.0.0.53 # local\nnameserver\tfe80::1%lo\n\
            nameserver 127.0.0.53\nnameserver none\nnameserver\noptions edns0\n nameserver 2001:db8::1\nnameserver 9.9.9.9\n";
        check(text, &["127.0.0.53:53", "[fe80::1%1]:53", "[2001:db8::1]:53"]);
        check("", &[]);
        check("nameserver fe80::1%nosuchlink", &[]);
    }
}
