//! Glues TCP segments of one flow together again, so that the kernel handles one large frame. Pure.
//!
//! The opposite of [`super::segment`]; what the kernel calls GRO. Only segments that differ in nothing
//! but their place in the stream are glued, and only after their checksums were found right: the large
//! frame's checksum is left to the kernel, which would hide damage otherwise. Nothing is copied: a
//! frame goes out as a list of slices of the bytes that were opened. Called by the UDP worker.

use std::{io::IoSlice, ops::Range};

use super::{
    packet::{ETHERNET, Family, Layout, TCP, set_word, word},
    vnet::{GSO_TCP4, GSO_TCP6, NEEDS_CHECKSUM, VNET, VnetHeader},
};

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
/// Ethernet, IPv6 and the longest TCP header.
const LONGEST_HEADER: usize = ETHERNET + 40 + 60;
/// Slices of one frame: a 64 KiB train at the usual sizes has 50.
const PIECES: usize = 64;
/// Header and payload of the kernel's largest packet, by the length field of IPv4.
const LARGEST: usize = 65_535;
/// How many runs a segment is compared with, newest first: streams that take turns in one batch.
const LOOK_BACK: usize = 16;

/// Frames of one network in the order of their first segments.
#[derive(Debug)]
struct Run {
    vni: u32,
    /// None: not TCP, or nothing can follow it.
    open: Option<Open>,
    /// In the arena.
    first: Range<usize>,
    /// Payloads of the segments after the first.
    pieces: Vec<Range<usize>>,
    layout: Option<Layout>,
    is_pushed: bool,
}

/// What the next segment must be like.
#[derive(Debug, Clone, Copy)]
struct Open {
    number: u32,
    size: usize,
    total: usize,
}

/// Collects the frames of one batch. Its memory is used again by the next.
#[derive(Debug, Default)]
pub struct Gluer {
    runs: Vec<Run>,
    used: usize,
}

impl Gluer {
    /// Takes the frame that lies at `frame` in the arena, of the network `vni`.
    pub fn push(&mut self, arena: &[u8], frame: Range<usize>, vni: u32) {
        let bytes = &arena[frame.clone()];
        let layout = Layout::of(bytes).filter(|layout| is_gluable(bytes, layout));
        if let Some(layout) = layout {
            for run in self.runs[..self.used].iter_mut().rev().take(LOOK_BACK) {
                if run.vni != vni || !run.is_flow_of(arena, bytes, &layout) {
                    continue;
                }
                if run.append(arena, &frame, &layout) {
                    return;
                }
                // Never past a run of the same flow: segments keep their order.
                break;
            }
        }
        self.start(bytes, frame, vni, layout);
    }

    fn start(&mut self, bytes: &[u8], first: Range<usize>, vni: u32, layout: Option<Layout>) {
        let open = layout.filter(|layout| bytes[layout.transport + 13] == ACK).map(|layout| {
            let size = layout.end - layout.payload;
            let number = sequence(bytes, &layout).wrapping_add(size as u32);
            Open { number, size, total: layout.end - ETHERNET }
        });
        if self.used == self.runs.len() {
            let pieces = Vec::with_capacity(PIECES);
            self.runs.push(Run { vni, open, first, pieces, layout, is_pushed: false });
        } else {
            let run = &mut self.runs[self.used];
            run.pieces.clear();
            (run.vni, run.open, run.first, run.layout, run.is_pushed) = (vni, open, first, layout, false);
        }
        self.used += 1;
    }

    /// Hands out all frames in order, each as a virtio header and slices, with its network; then is empty.
    pub fn drain(&mut self, arena: &[u8], mut each: impl FnMut(u32, &[IoSlice<'_>])) {
        for run in &self.runs[..self.used] {
            run.emit(arena, &mut each);
        }
        self.used = 0;
    }
}

impl Run {
    fn is_flow_of(&self, arena: &[u8], frame: &[u8], layout: &Layout) -> bool {
        let mine = &arena[self.first.clone()];
        let Some(own) = &self.layout else { return false };
        let (at, addresses) = (layout.transport, layout.addresses());
        own.family == layout.family
            && mine[addresses.clone()] == frame[addresses]
            && mine[at..at + 4] == frame[at..at + 4]
    }

    /// Whether the frame is the next segment; then it belongs to this run.
    fn append(&mut self, arena: &[u8], frame: &Range<usize>, layout: &Layout) -> bool {
        let (mine, bytes) = (&arena[self.first.clone()], &arena[frame.clone()]);
        let Some(open) = &mut self.open else { return false };
        let size = layout.end - layout.payload;
        let is_next = sequence(bytes, layout) == open.number
            && size <= open.size
            && open.total + size <= LARGEST
            && self.pieces.len() < PIECES - 1
            && self.layout.as_ref().is_some_and(|own| own.payload == layout.payload)
            && is_same_header(mine, bytes, layout);
        if !is_next {
            return false;
        }
        self.pieces.push(frame.start + layout.payload..frame.start + layout.end);
        open.number = open.number.wrapping_add(size as u32);
        open.total += size;
        self.is_pushed = bytes[layout.transport + 13] & PSH != 0;
        if self.is_pushed || size < open.size {
            self.open = None;
        }
        true
    }

    fn emit(&self, arena: &[u8], each: &mut impl FnMut(u32, &[IoSlice<'_>])) {
        let first = &arena[self.first.clone()];
        let (Some(layout), false) = (&self.layout, self.pieces.is_empty()) else {
            return each(self.vni, &[IoSlice::new(&[0; VNET]), IoSlice::new(first)]);
        };
        let size = layout.end - layout.payload;
        let payload = size + self.pieces.iter().map(ExactSizeIterator::len).sum::<usize>();
        let mut header = [0; LONGEST_HEADER];
        let header = &mut header[..layout.payload];
        header.copy_from_slice(&first[..layout.payload]);
        let transport_length = layout.payload - layout.transport + payload;
        layout.set_ip_length(header, transport_length);
        if self.is_pushed {
            header[layout.transport + 13] |= PSH;
        }
        let pseudo = layout.pseudo(header, transport_length).folded();
        set_word(header, layout.checksum(), pseudo);
        let vnet = VnetHeader {
            flags: NEEDS_CHECKSUM,
            gso_type: if layout.family == Family::V4 { GSO_TCP4 } else { GSO_TCP6 },
            header_length: layout.payload as u16,
            gso_size: size as u16,
            checksum_start: layout.transport as u16,
            checksum_offset: layout.checksum_offset() as u16,
        };
        let vnet = vnet.bytes();
        let mut slices = [IoSlice::new(&[]); PIECES + 2];
        (slices[0], slices[1]) = (IoSlice::new(&vnet), IoSlice::new(header));
        slices[2] = IoSlice::new(&first[layout.payload..layout.end]);
        for (slice, piece) in slices[3..].iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(&arena[piece.clone()]);
        }
        each(self.vni, &slices[..3 + self.pieces.len()]);
    }
}

fn sequence(frame: &[u8], layout: &Layout) -> u32 {
    u32::from(word(frame, layout.transport + 4)) << 16 | u32::from(word(frame, layout.transport + 6))
}

/// TCP with payload and nothing special, of which no bit is wrong.
fn is_gluable(frame: &[u8], layout: &Layout) -> bool {
    layout.protocol == TCP
        && layout.payload < layout.end
        && matches!(frame[layout.transport + 13], ACK | 0x18)
        && (layout.family == Family::V6 || word(frame, ETHERNET + 6) == 0x4000)
        && layout.is_sound(frame)
}

/// Whether two headers of one length differ in nothing but lengths, sums, numbers and PSH.
fn is_same_header(a: &[u8], b: &[u8], layout: &Layout) -> bool {
    let t = layout.transport;
    let is_same = |range: Range<usize>| a[range.clone()] == b[range];
    let is_same_ip = match layout.family {
        // Without identification (with DF it says nothing), length and checksum.
        Family::V4 => is_same(0..16) && is_same(20..24) && is_same(26..34),
        Family::V6 => is_same(0..18) && is_same(20..54),
    };
    is_same_ip
        && is_same(t..t + 4)
        && is_same(t + 8..t + 13)
        && (a[t + 13] | PSH) == (b[t + 13] | PSH)
        && is_same(t + 14..t + 16)
        && is_same(t + 18..layout.payload)
}

#[cfg(test)]
mod tests;
