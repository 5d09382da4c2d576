//! The kernel's WireGuard by its generic netlink family (linux/wireguard.h). Works in the namespace the calling thread
//! is in.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::netfilter::{NLM_F_ACK, NLM_F_DUMP, address, ask, attribute, attributes, nested, plain};
use crate::{
    Cidr, PrivateKey, TunnelPeer,
    tunnel::{KEEPALIVE_S, WantedPeer},
};

/// linux/genetlink.h
const CONTROLLER: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Command, version and two bytes that mean nothing.
const GENERIC_HEADER: usize = 4;

const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const DEVICE_NAME: u16 = 2;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PUBLIC_KEY: u16 = 4;
const DEVICE_LISTEN_PORT: u16 = 6;
const DEVICE_PEERS: u16 = 8;
const PEER_PUBLIC_KEY: u16 = 1;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_LAST_HANDSHAKE: u16 = 6;
const PEER_ALLOWED: u16 = 9;
const REMOVE_ME: u32 = 1;
const REPLACE_ALLOWED: u32 = 2;
const ALLOWED_FAMILY: u16 = 1;
const ALLOWED_ADDRESS: u16 = 2;
const ALLOWED_PREFIX: u16 = 3;

/// Peers of one message: some 120 bytes each, and an attribute holds 65,535.
const PEERS_AT_ONCE: usize = 256;
/// WireGuard's own limit for the life of a session.
const SESSION: Duration = Duration::from_secs(180);

/// What a device says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// None before it was given a key.
    pub public_key: Option<[u8; 32]>,
    pub port: u16,
    pub peers: Vec<TunnelPeer>,
}

/// What is set about a device.
pub enum Change<'a> {
    Key(&'a PrivateKey, u16),
    Peers { remove: &'a [[u8; 32]], set: &'a [([u8; 32], WantedPeer)] },
}

/// The number of the family, which exists once the module is loaded.
fn family() -> io::Result<u16> {
    let mut body = vec![CTRL_CMD_GETFAMILY, 1, 0, 0];
    body.extend(plain(CTRL_ATTR_FAMILY_NAME, b"wireguard\0")?);
    let answers = ask(libc::NETLINK_GENERIC as isize, CONTROLLER, 0, &body)?;
    let found = answers.first().and_then(|answer| attribute(answer.get(GENERIC_HEADER..)?, CTRL_ATTR_FAMILY_ID));
    found.and_then(number::<2>).map(u16::from_ne_bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What the device of this name has.
pub fn device(name: &str) -> io::Result<Device> {
    let mut body = vec![GET_DEVICE, 1, 0, 0];
    body.extend(plain(DEVICE_NAME, &terminated(name))?);
    let answers = ask(libc::NETLINK_GENERIC as isize, family()?, NLM_F_DUMP, &body)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(read(answers.iter().filter_map(|answer| answer.get(GENERIC_HEADER..)), now))
}

/// Sets it; each message wholly or not at all.
pub fn set(name: &str, change: &Change<'_>) -> io::Result<()> {
    let family = family()?;
    for attributes in messages(change)? {
        let mut body = vec![SET_DEVICE, 1, 0, 0];
        body.extend(plain(DEVICE_NAME, &terminated(name))?);
        body.extend(attributes);
        ask(libc::NETLINK_GENERIC as isize, family, NLM_F_ACK, &body)?;
    }
    Ok(())
}

/// A device with many peers is told in several parts; a peer may go on in the next one.
fn read<'a>(parts: impl Iterator<Item = &'a [u8]>, now: Duration) -> Device {
    let mut device = Device::default();
    let mut peers: BTreeMap<[u8; 32], TunnelPeer> = BTreeMap::new();
    for part in parts {
        for (kind, content) in attributes(part) {
            match kind {
                DEVICE_PUBLIC_KEY => device.public_key = number(content),
                DEVICE_LISTEN_PORT => device.port = number(content).map_or(0, u16::from_ne_bytes),
                DEVICE_PEERS => {
                    for peer in attributes(content).filter_map(|(_, peer)| read_peer(peer, now)) {
                        match peers.get_mut(&peer.public_key) {
                            Some(begun) => begun.allowed.extend(peer.allowed),
                            None => drop(peers.insert(peer.public_key, peer)),
                        }
                    }
                }
                _ => {}
            }
        }
    }
    device.peers = peers.into_values().collect();
    device
}

fn read_peer(bytes: &[u8], now: Duration) -> Option<TunnelPeer> {
    let allowed = attribute(bytes, PEER_ALLOWED).into_iter().flat_map(attributes);
    let allowed = allowed.filter_map(|(_, one)| {
        let prefix = attribute(one, ALLOWED_PREFIX).and_then(|byte| byte.first().copied())?;
        Cidr::new(address(attribute(one, ALLOWED_ADDRESS)?)?, prefix).ok()
    });
    // `struct __kernel_timespec`: seconds and nanoseconds, zero before the first one.
    let handshake = attribute(bytes, PEER_LAST_HANDSHAKE).and_then(|time| number::<8>(time.get(..8)?));
    let handshake = handshake.and_then(|seconds| u64::try_from(i64::from_ne_bytes(seconds)).ok()).filter(|s| *s > 0);
    Some(TunnelPeer {
        public_key: number(attribute(bytes, PEER_PUBLIC_KEY)?)?,
        endpoint: attribute(bytes, PEER_ENDPOINT).and_then(read_endpoint),
        allowed: allowed.collect(),
        keepalive: attribute(bytes, PEER_KEEPALIVE).and_then(number).map_or(0, u16::from_ne_bytes),
        is_established: handshake.is_some_and(|at| now.saturating_sub(Duration::from_secs(at)) < SESSION),
    })
}

/// `struct sockaddr_in` and `sockaddr_in6`.
fn read_endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let family = libc::c_int::from(u16::from_ne_bytes(number(bytes.get(..2)?)?));
    let port = u16::from_be_bytes(number(bytes.get(2..4)?)?);
    let ip = match family {
        libc::AF_INET => address(bytes.get(4..8)?)?,
        libc::AF_INET6 => address(bytes.get(8..24)?)?,
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn endpoint(to: SocketAddr) -> Vec<u8> {
    let (family, address) = match to.ip() {
        IpAddr::V4(v4) => (libc::AF_INET, [&v4.octets()[..], &[0; 8]].concat()),
        // The flow label is before the address, the scope behind it.
        IpAddr::V6(v6) => (libc::AF_INET6, [&[0; 4][..], &v6.octets(), &[0; 4]].concat()),
    };
    let family = u16::try_from(family).expect("families are small numbers");
    [&family.to_ne_bytes()[..], &to.port().to_be_bytes(), &address].concat()
}

fn messages(change: &Change<'_>) -> io::Result<Vec<Vec<u8>>> {
    match change {
        Change::Key(key, port) => Ok(vec![
            [plain(DEVICE_PRIVATE_KEY, key.bytes())?, plain(DEVICE_LISTEN_PORT, &port.to_ne_bytes())?].concat(),
        ]),
        Change::Peers { remove, set } => {
            let gone = remove.iter().map(|key| peer(&[plain(PEER_PUBLIC_KEY, key)?, flags(REMOVE_ME)?]));
            let come = set.iter().map(|(key, wanted)| wanted_peer(key, wanted));
            // Who comes shakes hands at once; to let one go, the kernel waits for all who read, and packets of a replaced key
            // would be refused meanwhile.
            let peers = come.chain(gone).collect::<io::Result<Vec<_>>>()?;
            peers.chunks(PEERS_AT_ONCE).map(|peers| nested(DEVICE_PEERS, &peers.concat())).collect()
        }
    }
}

fn wanted_peer(key: &[u8; 32], wanted: &WantedPeer) -> io::Result<Vec<u8>> {
    let family = u16::try_from(libc::AF_INET).expect("families are small numbers");
    let allowed = [
        plain(ALLOWED_FAMILY, &family.to_ne_bytes())?,
        plain(ALLOWED_ADDRESS, &wanted.address.octets())?,
        plain(ALLOWED_PREFIX, &[32])?,
    ];
    peer(&[
        plain(PEER_PUBLIC_KEY, key)?,
        flags(REPLACE_ALLOWED)?,
        plain(PEER_ENDPOINT, &endpoint(wanted.endpoint))?,
        plain(PEER_KEEPALIVE, &KEEPALIVE_S.to_ne_bytes())?,
        nested(PEER_ALLOWED, &nested(0, &allowed.concat())?)?,
    ])
}

fn flags(flags: u32) -> io::Result<Vec<u8>> {
    plain(PEER_FLAGS, &flags.to_ne_bytes())
}

fn peer(attributes: &[Vec<u8>]) -> io::Result<Vec<u8>> {
    nested(0, &attributes.concat())
}

fn number<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn wanted(endpoint: &str) -> WantedPeer {
        WantedPeer { endpoint: endpoint.parse().expect("endpoint"), address: [250, 0, 0, 2].into() }
    }

    /// What is set is what is read, with either family of addresses.
    #[test]
    fn n04_peers_are_written_as_they_are_read() {
        let set = [([1; 32], wanted("192.0.2.2:51820")), ([2; 32], wanted("[2001:db8::2]:51820"))];
        let messages = messages(&Change::Peers { remove: &[], set: &set }).expect("messages");
        let device = read(messages.iter().map(Vec::as_slice), NOW);
        assert_eq!(device.peers.len(), 2);
        for (peer, (key, wanted)) in device.peers.iter().zip(&set) {
            assert_eq!((peer.public_key, peer.endpoint, peer.keepalive), (*key, Some(wanted.endpoint), KEEPALIVE_S));
            assert_eq!(peer.allowed, ["250.0.0.2/32".parse().expect("address")]);
            assert!(!peer.is_established);
        }
    }

    #[test]
    fn many_peers_take_several_messages() {
        let set: Vec<_> = (0..=255u8).map(|n| ([n; 32], wanted("192.0.2.2:51820"))).collect();
        let messages = messages(&Change::Peers { remove: &[[9; 32]; 300], set: &set }).expect("messages");
        assert_eq!(messages.len(), 3);
    }

    /// N-04: a host with a new key has it before its old one goes.
    #[test]
    fn n04_who_comes_is_told_before_who_goes() {
        let set = [([2; 32], wanted("192.0.2.2:51820"))];
        let messages = messages(&Change::Peers { remove: &[[1; 32]], set: &set }).expect("messages");
        let peers = attribute(&messages[0], DEVICE_PEERS).expect("peers");
        let keys = attributes(peers).map(|(_, peer)| attribute(peer, PEER_PUBLIC_KEY).expect("a key")[0]);
        assert_eq!(keys.collect::<Vec<_>>(), [2, 1]);
    }

    /// A dump may end in the middle of a peer.
    #[test]
    fn a_peer_goes_on_in_the_next_part() {
        let allowed = |last: u8| {
            let one = [plain(ALLOWED_ADDRESS, &[250, 0, 0, last]), plain(ALLOWED_PREFIX, &[32])];
            let one = one.map(|a| a.expect("attribute")).concat();
            nested(PEER_ALLOWED, &nested(0, &one).expect("one")).expect("all")
        };
        let recent = [i64::try_from(NOW.as_secs() - 20).expect("time").to_ne_bytes(), [0; 8]].concat();
        let first = [
            plain(PEER_PUBLIC_KEY, &[1; 32]).expect("key"),
            plain(PEER_LAST_HANDSHAKE, &recent).expect("time"),
            allowed(2),
        ];
        let second = [plain(PEER_PUBLIC_KEY, &[1; 32]).expect("key"), allowed(3)];
        let part = |peer: &[Vec<u8>]| nested(DEVICE_PEERS, &super::peer(peer).expect("peer")).expect("part");
        let parts = [part(&first), part(&second)];
        let device = read(parts.iter().map(Vec::as_slice), NOW);
        assert_eq!((device.peers.len(), device.peers[0].allowed.len()), (1, 2));
        assert!(device.peers[0].is_established);
    }

    /// Whatever the bytes are.
    #[test]
    fn damaged_answers_are_no_peers() {
        let set = [([1; 32], wanted("192.0.2.2:51820"))];
        let message = messages(&Change::Peers { remove: &[], set: &set }).expect("message").concat();
        for length in 0..message.len() {
            assert!(read([&message[..length]].into_iter(), NOW).peers.len() <= 1);
        }
    }
}
