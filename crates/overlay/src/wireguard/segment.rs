//! Cuts what a TAP hands out into packets that fit the network, with right checksums. Pure.
//!
//! The kernel gives whole TCP (or UDP) trains of up to 64 KiB with one header and the size of the
//! cars; this does what a network card does with them. Called by the worker of a TAP.

use super::{
    checksum::Sum,
    packet::{Family, Layout, TCP, UDP, set_word, word},
    vnet::{GSO_ECN, GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, NEEDS_CHECKSUM, VnetHeader},
};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// What a TAP gave contradicts itself; it is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Where segments are put together: room before each frame, so that a caller can write in front of it.
#[derive(Debug)]
pub struct Bench {
    bytes: Vec<u8>,
    headroom: usize,
}

impl Bench {
    /// For frames of up to `largest` bytes.
    pub fn new(headroom: usize, largest: usize) -> Self {
        Self { bytes: vec![0; headroom + largest], headroom }
    }

    /// Hands `each` every packet of the frame, as headroom and frame, and the frame's length.
    ///
    /// # Errors
    /// When header and frame contradict each other, or a segment is larger than the bench.
    pub fn cut(
        &mut self,
        header: VnetHeader,
        frame: &mut [u8],
        mut each: impl FnMut(&mut [u8], usize),
    ) -> Result<(), Malformed> {
        let gso = header.gso_type & !GSO_ECN;
        if gso == GSO_NONE {
            return self.whole(header, frame, each);
        }
        let layout = Layout::of_uncut(frame).ok_or(Malformed)?;
        let fits = match gso {
            GSO_TCP4 => layout.protocol == TCP && layout.family == Family::V4,
            GSO_TCP6 => layout.protocol == TCP && layout.family == Family::V6,
            GSO_UDP => layout.protocol == UDP,
            _ => false,
        };
        let (size, front) = (usize::from(header.gso_size), self.headroom);
        if !fits || size == 0 || front + layout.payload + size > self.bytes.len() {
            return Err(Malformed);
        }
        let (head, payload) = frame.split_at(layout.payload);
        self.bytes[front..front + layout.payload].copy_from_slice(head);
        let count = payload.len().div_ceil(size).max(1);
        for at in 0..count {
            let piece = &payload[at * size..payload.len().min((at + 1) * size)];
            let length = layout.payload + piece.len();
            let packet = &mut self.bytes[..front + length];
            let segment = &mut packet[front..];
            segment[layout.payload..].copy_from_slice(piece);
            number(segment, head, &layout, at, size, at + 1 == count);
            finish(segment, &layout);
            each(packet, length);
        }
        Ok(())
    }

    /// One packet; only its checksum may be missing.
    fn whole(
        &mut self,
        header: VnetHeader,
        frame: &mut [u8],
        mut each: impl FnMut(&mut [u8], usize),
    ) -> Result<(), Malformed> {
        if header.flags & NEEDS_CHECKSUM != 0 {
            complete(header, frame)?;
        }
        let packet = self.bytes.get_mut(..self.headroom + frame.len()).ok_or(Malformed)?;
        packet[self.headroom..].copy_from_slice(frame);
        each(packet, frame.len());
        Ok(())
    }
}

/// What differs from segment to segment, but for lengths and checksums.
fn number(segment: &mut [u8], head: &[u8], layout: &Layout, at: usize, size: usize, is_last: bool) {
    if layout.family == Family::V4 {
        set_word(segment, 18, word(head, 18).wrapping_add(at as u16));
    }
    if layout.protocol != TCP {
        return;
    }
    let place = layout.transport + 4;
    let first = u32::from(word(head, place)) << 16 | u32::from(word(head, place + 2));
    let number = first.wrapping_add((at * size) as u32);
    segment[place..place + 4].copy_from_slice(&number.to_be_bytes());
    let mut flags = head[layout.transport + 13];
    if !is_last {
        flags &= !(FIN | PSH);
    }
    if at > 0 {
        flags &= !CWR;
    }
    segment[layout.transport + 13] = flags;
}

fn finish(segment: &mut [u8], layout: &Layout) {
    let length = segment.len() - layout.transport;
    layout.set_ip_length(segment, length);
    if layout.protocol == UDP {
        set_word(segment, layout.transport + 4, length as u16);
    }
    set_word(segment, layout.checksum(), 0);
    let sum = layout.pseudo(segment, length).add(&segment[layout.transport..]).finish();
    set_word(segment, layout.checksum(), never_zero_in_udp(sum, layout.checksum_offset()));
}

/// The kernel left the pseudo header's sum in the checksum's place.
fn complete(header: VnetHeader, frame: &mut [u8]) -> Result<(), Malformed> {
    let (start, offset) = (usize::from(header.checksum_start), usize::from(header.checksum_offset));
    if start + offset + 2 > frame.len() {
        return Err(Malformed);
    }
    let sum = Sum::default().add(&frame[start..]).finish();
    set_word(frame, start + offset, never_zero_in_udp(sum, offset));
    Ok(())
}

/// In UDP zero means "no checksum" (RFC 768). Its place tells UDP from TCP.
fn never_zero_in_udp(sum: u16, offset: usize) -> u16 {
    if sum == 0 && offset == 6 { 0xffff } else { sum }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::packet::testing, *};

    const HEADROOM: usize = 36;

    pub fn vnet(frame: &[u8], family: Family, protocol: u8, size: u16) -> VnetHeader {
        let layout = Layout::of_uncut(frame).expect("layout");
        let gso_type = match (protocol, family) {
            (TCP, Family::V4) => GSO_TCP4,
            (TCP, Family::V6) => GSO_TCP6,
            _ => GSO_UDP,
        };
        VnetHeader {
            flags: NEEDS_CHECKSUM,
            gso_type,
            header_length: layout.payload as u16,
            gso_size: size,
            checksum_start: layout.transport as u16,
            checksum_offset: layout.checksum_offset() as u16,
        }
    }

    fn cut(header: VnetHeader, frame: &mut [u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut packets = Vec::new();
        let mut bench = Bench::new(HEADROOM, 70_000);
        bench.cut(header, frame, |packet, length| {
            assert_eq!(packet.len(), HEADROOM + length);
            packets.push(packet[HEADROOM..].to_vec());
        })?;
        Ok(packets)
    }

    fn families() -> impl Strategy<Value = Family> {
        prop_oneof![Just(Family::V4), Just(Family::V6)]
    }

    proptest! {
        #[test]
        fn segments_are_sound_and_together_the_whole(
            family in families(), is_tcp: bool, options in 0usize..=10,
            payload in prop::collection::vec(any::<u8>(), 1..20_000), size in 100u16..9000
        ) {
            let protocol = if is_tcp { TCP } else { UDP };
            let mut frame = testing::frame(family, protocol, options, &payload);
            let header = vnet(&frame, family, protocol, size);
            let packets = cut(header, &mut frame).expect("cut");
            prop_assert_eq!(packets.len(), payload.len().div_ceil(usize::from(size)));
            let mut joined = Vec::new();
            for (at, packet) in packets.iter().enumerate() {
                let layout = Layout::of(packet).expect("a packet");
                prop_assert_eq!(layout.end, packet.len());
                prop_assert!(layout.is_sound(packet));
                if family == Family::V4 {
                    prop_assert_eq!(Sum::default().add(&packet[14..34]).finish(), 0);
                }
                if is_tcp {
                    let number = u32::from_be_bytes(packet[layout.transport + 4..][..4].try_into().expect("4"));
                    prop_assert_eq!(number, 0xffff_ff00u32.wrapping_add(joined.len() as u32));
                    let is_last = at + 1 == packets.len();
                    prop_assert_eq!(packet[layout.transport + 13], if is_last { 0x18 } else { 0x10 });
                }
                joined.extend_from_slice(&packet[layout.payload..]);
            }
            prop_assert_eq!(joined, payload);
        }

        #[test]
        fn a_missing_checksum_is_completed(family in families(), payload in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut frame = testing::frame(family, UDP, 0, &payload);
            let right = frame.clone();
            let layout = Layout::of(&frame).expect("layout");
            let pseudo = layout.pseudo(&frame, layout.end - layout.transport).folded();
            set_word(&mut frame, layout.checksum(), pseudo);
            let header = VnetHeader { gso_type: GSO_NONE, ..vnet(&frame, family, UDP, 0) };
            let packets = cut(header, &mut frame).expect("one packet");
            prop_assert!(layout.is_sound(&packets[0]));
            prop_assert_eq!(&packets[0][layout.payload..], &right[layout.payload..]);
        }

        #[test]
        fn any_bytes_are_allowed(mut bytes in prop::collection::vec(any::<u8>(), 0..300), gso in 0u8..7) {
            if let Some((header, frame)) = VnetHeader::split(&mut bytes) {
                let _ = cut(VnetHeader { gso_type: gso, ..header }, frame);
            }
        }
    }
}
