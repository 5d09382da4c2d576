//! The worker of one TAP: frames from the bridge, cut, wrapped, sealed and sent to their peers.
//!
//! Started and stopped by the control. What it cannot seal it drops and counts; nothing leaves in clear.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use boringtun::noise::TunnResult;

use super::{
    envelope::{ENVELOPE, WIREGUARD},
    neighbour,
    segment::Bench,
    socket::{LARGEST_SEND, SEGMENTS, Socket},
    table::{Counters, Shared, Table, Way, count},
    tap::Tap,
    tunnel::MESSAGE,
    vnet::{VNET, VnetHeader},
};

/// Frames of one batch: so many small ones go out with few calls; more would only wait for each other.
const FRAMES: usize = 64;
/// The kernel's largest frame with its headers.
const LARGEST_FRAME: usize = 65_536 + 128;
/// Sealed bytes that are sent before more are read.
const ENOUGH: usize = 2 * LARGEST_SEND;
const OUTBOX: usize = 4 * LARGEST_SEND;

/// Works until told to stop or until the TAP is gone.
pub fn run(shared: &Shared, tap: &Tap, vni: u32, stop: &Arc<AtomicBool>) {
    let mut worker = Outbound { shared, tap, vni, bench: Bench::new(ENVELOPE, LARGEST_FRAME), outbox: Outbox::new() };
    let mut buffer = vec![0; VNET + LARGEST_FRAME];
    while !stop.load(Ordering::Acquire) {
        match worker.batch(&mut buffer) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if tap.wait().is_err() {
                    return;
                }
            }
            // The namespace went away, and the TAP with it.
            Err(error) => {
                tracing::debug!(vni, %error, "the TAP of an encrypted network is gone");
                return;
            }
        }
    }
}

struct Outbound<'a> {
    shared: &'a Shared,
    tap: &'a Tap,
    vni: u32,
    bench: Bench,
    outbox: Outbox,
}

impl Outbound<'_> {
    /// All frames that are there, up to a bound. An error of the first read only: the rest is sent.
    fn batch(&mut self, buffer: &mut [u8]) -> std::io::Result<()> {
        let mut length = self.tap.read(buffer)?;
        let table = self.shared.table();
        for _ in 0..FRAMES {
            if let Some(table) = &table {
                self.frame(table, &mut buffer[..length]);
            }
            if self.outbox.used >= ENOUGH {
                break;
            }
            match self.tap.read(buffer) {
                Ok(next) => length = next,
                Err(_) => break,
            }
        }
        if let Some(table) = &table {
            self.outbox.flush(&table.socket, &self.shared.counters);
        }
        Ok(())
    }

    fn frame(&mut self, table: &Table, bytes: &mut [u8]) {
        let counters = &self.shared.counters;
        let (Some((header, frame)), Some(overlay)) = (VnetHeader::split(bytes), table.overlays.get(&self.vni)) else {
            return count(&counters.malformed);
        };
        let (node, envelope) = match overlay.way(frame) {
            Way::Peer(node, envelope) => (node, envelope),
            Way::Group => {
                let answer = neighbour::answer(frame, |address| overlay.neighbour(address));
                return match answer {
                    Some(answer) => self.say(&answer),
                    None => count(&counters.unknown_destination),
                };
            }
            Way::Nowhere => return count(&counters.unknown_destination),
        };
        let Some(peer) = table.peers.get(&node) else { return count(&counters.unknown_destination) };
        let (outbox, mut noise) = (&mut self.outbox, peer.outgoing().lock());
        let cut = self.bench.cut(header, frame, |packet, length| {
            envelope.write(packet, length);
            if !outbox.has_room(packet.len()) {
                outbox.flush(&table.socket, counters);
            }
            outbox.add(peer.endpoint, |place| match noise.tunn.encapsulate(packet, place) {
                TunnResult::WriteToNetwork(sealed) => sealed.len(),
                // Without a session the packet waits in a bounded queue, and at most one handshake is under way.
                _ => 0,
            });
        });
        if cut.is_err() {
            count(&counters.malformed);
        }
    }

    fn say(&self, frame: &[u8]) {
        let slices = [std::io::IoSlice::new(&[0; VNET]), std::io::IoSlice::new(frame)];
        if self.tap.write(&slices).is_err() {
            count(&self.shared.counters.not_delivered);
        }
    }
}

/// Sealed datagrams that wait to be sent: trains of equal size to one peer go with one call.
struct Outbox {
    bytes: Vec<u8>,
    used: usize,
    trains: Vec<Train>,
}

struct Train {
    to: SocketAddr,
    start: usize,
    end: usize,
    size: usize,
    count: usize,
    /// A shorter one was its last.
    is_closed: bool,
}

impl Outbox {
    fn new() -> Self {
        Self { bytes: vec![0; OUTBOX], used: 0, trains: Vec::with_capacity(FRAMES) }
    }

    /// Whether a packet of this many bytes can be sealed into what is free.
    fn has_room(&self, packet: usize) -> bool {
        self.used + (packet + WIREGUARD).max(MESSAGE) <= self.bytes.len()
    }

    fn add(&mut self, to: SocketAddr, seal: impl FnOnce(&mut [u8]) -> usize) {
        let length = seal(&mut self.bytes[self.used..]);
        if length == 0 {
            return;
        }
        let start = self.used;
        self.used += length;
        if let Some(train) = self.trains.last_mut().filter(|train| train.takes(to, length)) {
            train.end = self.used;
            train.count += 1;
            train.is_closed = length < train.size;
            return;
        }
        self.trains.push(Train { to, start, end: self.used, size: length, count: 1, is_closed: false });
    }

    fn flush(&mut self, socket: &Socket, counters: &Counters) {
        for train in self.trains.drain(..) {
            let sent = socket.send_train(&mut self.bytes[train.start..train.end], train.size, train.to);
            if let Err(error) = sent {
                counters.not_sent.fetch_add(train.count as u64, Ordering::Relaxed);
                tracing::debug!(to = %train.to, size = train.size, %error, "the underlay refuses packets");
            }
        }
        self.used = 0;
    }
}

impl Train {
    fn takes(&self, to: SocketAddr, length: usize) -> bool {
        let fits = length <= self.size && self.count < SEGMENTS && self.end - self.start + length <= LARGEST_SEND;
        self.to == to && !self.is_closed && fits
    }
}
