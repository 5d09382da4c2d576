//! The worker of the UDP socket: datagrams from peers, opened, checked, glued and given to their network.
//!
//! Started and stopped by the control. Whatever is not of a peer's session, network and endpoint is
//! dropped and counted.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use boringtun::{
    noise::{Packet, TunnResult, handshake::parse_handshake_anon},
    x25519::{PublicKey, StaticSecret},
};
use types::NodeId;

use super::{
    envelope::ENVELOPE,
    glue::Gluer,
    socket::{Inbox, Socket, Train},
    table::{Shared, Table, count},
    tunnel::{MESSAGE, Noise, Peer, Tunnel},
};

const INITIATION: u32 = 1;
const RESPONSE: u32 = 2;
const COOKIE: u32 = 3;
const DATA: u32 = 4;
/// A packet that waited for a session, sealed.
const LARGEST: usize = 66_000;

/// Works until told to stop.
pub fn run(shared: &Shared, socket: &Socket, stop: &Arc<AtomicBool>) {
    let mut inbox = Inbox::new();
    // Opened packets are shorter than sealed ones; an answer to a message may be longer than it.
    let mut worker = Inbound {
        shared,
        arena: vec![0; Inbox::BYTES + LARGEST],
        used: 0,
        gluer: Gluer::default(),
        extra: vec![0; LARGEST],
    };
    while !stop.load(Ordering::Acquire) {
        match inbox.receive(socket) {
            Ok(()) => worker.batch(&inbox),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // An error that an earlier packet met on its way: this one is told of it, and goes on.
            Err(error) => tracing::debug!(%error, "the WireGuard socket reports an error"),
        }
    }
}

struct Inbound<'a> {
    shared: &'a Shared,
    /// Opened packets of this batch, one after the other.
    arena: Vec<u8>,
    used: usize,
    gluer: Gluer,
    extra: Vec<u8>,
}

impl Inbound<'_> {
    fn batch(&mut self, inbox: &Inbox) {
        let Some(table) = self.shared.table() else { return };
        self.used = 0;
        for train in inbox.trains() {
            self.train(&table, train);
        }
        let counters = &self.shared.counters;
        self.gluer.drain(&self.arena, |vni, slices| {
            let written = table.overlays.get(&vni).map(|overlay| overlay.tap.write(slices));
            if !matches!(written, Some(Ok(()))) {
                count(&counters.not_delivered);
            }
        });
    }

    /// The datagrams of one sender; those of one session in a row share one lock.
    fn train(&mut self, table: &Table, train: Train<'_>) {
        let mut rest = train.bytes.chunks(train.size).peekable();
        while let Some(datagram) = rest.next() {
            let Some((kind, index)) = kind_and_index(datagram) else {
                count(&self.shared.counters.not_opened);
                continue;
            };
            if kind != DATA {
                self.handshake(table, datagram, kind, train.from);
                continue;
            }
            let Some((node, tunnel)) = table.tunnels.get(&(index >> 8)) else {
                count(&self.shared.counters.not_opened);
                continue;
            };
            let Some(peer) = table.peers.get(node) else { continue };
            let mut noise = tunnel.lock();
            self.open(table, *node, peer, &mut noise, datagram);
            while let Some(next) = rest.next_if(|next| kind_and_index(next) == Some((DATA, index))) {
                self.open(table, *node, peer, &mut noise, next);
            }
            if !tunnel.is_established() {
                tunnel.note_session(&noise);
                self.send_waiting(table, peer, tunnel, &mut noise);
            }
        }
    }

    fn open(&mut self, table: &Table, node: NodeId, peer: &Peer, noise: &mut Noise, datagram: &[u8]) {
        let start = self.used;
        let length = match noise.tunn.decapsulate(None, datagram, &mut self.arena[start..]) {
            TunnResult::WriteToTunnelV4(packet, _) => packet.len(),
            TunnResult::Done => return,
            TunnResult::WriteToTunnelV6(..) => return count(&self.shared.counters.not_allowed),
            TunnResult::WriteToNetwork(_) | TunnResult::Err(_) => return count(&self.shared.counters.not_opened),
        };
        let Some(opened) = table.admit(&self.arena[start..start + length], node, peer) else {
            return count(&self.shared.counters.not_allowed);
        };
        self.gluer.push(&self.arena, start + ENVELOPE..start + opened.end, opened.vni);
        self.used = start + length;
    }

    fn handshake(&mut self, table: &Table, datagram: &[u8], kind: u32, from: Option<SocketAddr>) {
        let found = match (kind, from) {
            (INITIATION, Some(from)) => initiator(table, datagram, from),
            (RESPONSE, _) if datagram.len() >= 12 => {
                let index = u32::from_le_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]);
                table.tunnels.get(&(index >> 8))
            }
            (COOKIE, _) => kind_and_index(datagram).and_then(|(_, index)| table.tunnels.get(&(index >> 8))),
            _ => None,
        };
        let Some((node, tunnel)) = found else { return count(&self.shared.counters.not_opened) };
        let Some(peer) = table.peers.get(node) else { return };
        let mut noise = tunnel.lock();
        let mut answer = [0; MESSAGE];
        match noise.tunn.decapsulate(from.map(|from| from.ip()), datagram, &mut answer) {
            TunnResult::WriteToNetwork(message) => report(table.socket.send_one(message, peer.endpoint)),
            TunnResult::Err(_) => count(&self.shared.counters.not_opened),
            _ => {}
        }
        tunnel.note_session(&noise);
        self.send_waiting(table, peer, tunnel, &mut noise);
    }

    /// Packets that waited for a session go now.
    fn send_waiting(&mut self, table: &Table, peer: &Peer, tunnel: &Tunnel, noise: &mut Noise) {
        if !tunnel.is_established() {
            return;
        }
        while let TunnResult::WriteToNetwork(message) = noise.tunn.decapsulate(None, &[], &mut self.extra) {
            report(table.socket.send_one(message, peer.endpoint));
        }
    }
}

/// The tunnel of the peer that proves to know its key, with the key of ours it knows us by.
fn initiator<'a>(table: &'a Table, datagram: &[u8], from: SocketAddr) -> Option<&'a (NodeId, Arc<Tunnel>)> {
    for key in &table.keys {
        let mut cookie = [0; MESSAGE];
        let initiation = match key.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
            Ok(Packet::HandshakeInit(initiation)) => initiation,
            Err(TunnResult::WriteToNetwork(cookie)) => {
                report(table.socket.send_one(cookie, from));
                return None;
            }
            _ => continue,
        };
        let secret = StaticSecret::from(*key.private.bytes());
        let half = parse_handshake_anon(&secret, &PublicKey::from(key.public), &initiation).ok()?;
        let is_meant = |tunnel: &Tunnel| {
            tunnel.pairing.own_public == key.public && tunnel.pairing.peer_public == half.peer_static_public
        };
        return table.tunnels.values().find(|(_, tunnel)| is_meant(tunnel));
    }
    None
}

fn kind_and_index(datagram: &[u8]) -> Option<(u32, u32)> {
    let (words, _) = datagram.as_chunks::<4>();
    let [kind, index, ..] = words else { return None };
    Some((u32::from_le_bytes(*kind), u32::from_le_bytes(*index)))
}

fn report(sent: io::Result<()>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "the underlay refuses a WireGuard message");
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Instant};

    use proptest::prelude::*;

    use super::{
        super::{
            keys::{OwnKey, generate_key_pair},
            tunnel::Peer,
        },
        *,
    };

    /// A host with one peer and no network, on the loopback device.
    fn table() -> Table {
        let socket = Arc::new(Socket::bind("127.0.0.1:0".parse().expect("address")).expect("bind"));
        let own = OwnKey::new(generate_key_pair().expect("key").0);
        let tunnel = Arc::new(Tunnel::new(&own, generate_key_pair().expect("key").1, 1, Instant::now()));
        let node = NodeId::from_random(1);
        let endpoint = "127.0.0.1:9".parse().expect("address");
        Table {
            socket,
            address: [250, 0, 0, 1].into(),
            port: 4789,
            keys: vec![own],
            peers: HashMap::from([(node, Peer { endpoint, tunnels: vec![tunnel.clone()] })]),
            tunnels: HashMap::from([(1, (node, tunnel))]),
            overlays: HashMap::new(),
        }
    }

    #[test]
    fn any_datagrams_are_allowed() {
        let (table, shared) = (table(), Shared::default());
        let datagrams = (1u8..6, any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), 1usize..200);
        let mut runner = proptest::test_runner::TestRunner::default();
        let ran = runner.run(&datagrams, |(kind, is_known, mut bytes, size)| {
            // Lengths of real messages pass the first look.
            bytes.resize(
                match kind {
                    1 => 148,
                    2 => 92,
                    3 => 64,
                    _ => bytes.len(),
                },
                7,
            );
            if let Some(head) = bytes.get_mut(..8) {
                head[..4].copy_from_slice(&[kind, 0, 0, 0]);
                if is_known {
                    head[4..].copy_from_slice(&[1, 1, 0, 0]);
                }
            }
            let mut worker = Inbound {
                shared: &shared,
                arena: vec![0; 4 * LARGEST],
                used: 0,
                gluer: Gluer::default(),
                extra: vec![0; LARGEST],
            };
            let size = if kind < 4 { bytes.len() } else { size };
            worker.train(&table, Train { bytes: &bytes, size, from: Some(([127, 0, 0, 1], 9).into()) });
            prop_assert_eq!(worker.used, 0);
            Ok(())
        });
        ran.expect("nothing of it is opened");
        assert!(shared.counters.snapshot().not_opened > 0);
    }
}
