//! ICMP echoes of one way: the socket, and the packets (RFC 792).

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Instant,
};

use tokio::net::UdpSocket;
use types::{NodeId, ProbePeer};

use super::{Place, Pulse, heart::Hearts, socket};
use crate::wireguard::checksum::Sum;

const REQUEST: u8 = 8;
const REPLY: u8 = 0;
/// Of ICMP: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// Two numbers after it: who asks, and the how-manieth echo it is.
const LENGTH: usize = HEADER + 16;
/// With the largest IPv4 header, and room to see that a packet is longer than ours.
const BUFFER: usize = 128;

/// The echoes of one way through the data path.
#[derive(Debug)]
pub struct Echoes {
    /// Drawn at random by each prober: answers to others are none of ours.
    boot: u64,
    hearts: Hearts,
    nodes: BTreeMap<Ipv4Addr, NodeId>,
    addresses: BTreeMap<NodeId, Ipv4Addr>,
    socket: Option<UdpSocket>,
}

impl Echoes {
    pub fn new(boot: u64) -> Self {
        let (nodes, addresses) = (BTreeMap::new(), BTreeMap::new());
        Self { boot, hearts: Hearts::default(), nodes, addresses, socket: None }
    }

    /// Whom to ask. Inside the data path all addresses are of IPv4.
    pub fn set(&mut self, peers: &[ProbePeer]) {
        let four = peers.iter().filter_map(|peer| match peer.address {
            IpAddr::V4(address) => Some((peer.node, address)),
            IpAddr::V6(_) => None,
        });
        self.addresses = four.collect();
        self.nodes = self.addresses.iter().map(|(node, address)| (*address, *node)).collect();
        self.hearts.set(self.addresses.keys().copied(), Instant::now());
    }

    /// The namespace is another one now.
    pub fn hang_up(&mut self) {
        self.socket = None;
    }

    /// Waits until there is something to read or to send.
    pub async fn ready(&self) {
        let Some(due) = self.hearts.due() else { return std::future::pending().await };
        let due = tokio::time::sleep_until(due.into());
        match &self.socket {
            None => due.await,
            Some(socket) => tokio::select! {
                () = due => {}
                _ = socket.readable() => {}
            },
        }
    }

    /// Reads what came, then sends what is due.
    pub fn go_on(&mut self, place: &Place) {
        self.read();
        let now = Instant::now();
        for (node, number) in self.hearts.beat(now) {
            if self.socket.is_none() {
                // Without a socket nobody is asked; the prober says why, for its own.
                self.socket = socket::raw(place.namespace.as_deref()).ok();
            }
            let (Some(socket), Some(to)) = (&self.socket, self.addresses.get(&node)) else { continue };
            let to = SocketAddr::new((*to).into(), 0);
            if socket::send_to(socket, &request(self.boot, number), to).is_ok() {
                self.hearts.sent(node, number, now);
            }
        }
    }

    pub fn pulse(&self, node: NodeId) -> Pulse {
        self.hearts.pulse(node)
    }

    fn read(&mut self) {
        let Some(socket) = &self.socket else { return };
        let mut buffer = [0; BUFFER];
        loop {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let number = reply(&buffer[..length], self.boot);
                    let node = match from.ip() {
                        IpAddr::V4(from) => self.nodes.get(&from),
                        IpAddr::V6(_) => None,
                    };
                    if let (Some(number), Some(node)) = (number, node) {
                        self.hearts.answer(*node, number, Instant::now());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A report about one of the peers: its silence says as much.
                Err(_) => {}
            }
        }
    }
}

fn request(boot: u64, number: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0] = REQUEST;
    bytes[HEADER..HEADER + 8].copy_from_slice(&boot.to_be_bytes());
    bytes[HEADER + 8..].copy_from_slice(&number.to_be_bytes());
    // As the header has them, where others look when they trace.
    bytes.copy_within(HEADER..HEADER + 2, 4);
    bytes.copy_within(LENGTH - 2.., 6);
    let checksum = Sum::default().add(&bytes).finish();
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The number of our echo, from an IPv4 packet that may be its reply. The kernel has looked at the checksum.
fn reply(packet: &[u8], boot: u64) -> Option<u64> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let message = packet.get(header..)?;
    let number = |at: usize| Some(u64::from_be_bytes(message.get(at..at + 8)?.try_into().ok()?));
    let is_ours = message.len() == LENGTH && message[0] == REPLY && number(HEADER)? == boot;
    is_ours.then(|| number(HEADER + 8)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_replies_to_own_requests_are_read() {
        let sent = request(7 << 60 | 5, 300);
        assert_eq!(Sum::default().add(&sent).finish(), 0, "a right checksum makes the sum zero");
        let mut packet = [vec![0x45; 20], sent.to_vec()].concat();
        assert_eq!(reply(&packet, 7 << 60 | 5), None, "a request");
        packet[20] = REPLY;
        assert_eq!(reply(&packet, 7 << 60 | 5), Some(300));
        assert_eq!(reply(&packet, 6), None);
        assert_eq!(reply(&packet[..43], 7 << 60 | 5), None);
        assert_eq!(reply(&[], 6), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            proptest::prop_assert_eq!(reply(&bytes, 1), None);
        }
    }
}
