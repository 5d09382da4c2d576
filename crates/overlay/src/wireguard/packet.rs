//! What an Ethernet frame carries, as far as this data path must know. Pure; any bytes are allowed.

use std::ops::Range;

use super::checksum::{Sum, pseudo_header};
use crate::MacAddress;

pub const ETHERNET: usize = 14;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;

/// The two bytes at `at`, which the caller knows to be there.
pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Destination address of a frame; None when it is no frame.
pub fn destination(frame: &[u8]) -> Option<MacAddress> {
    (frame.len() >= ETHERNET).then(|| mac_at(frame, 0))
}

/// Source address of a frame; None when it is no frame.
pub fn source(frame: &[u8]) -> Option<MacAddress> {
    (frame.len() >= ETHERNET).then(|| mac_at(frame, 6))
}

/// The address at `at`, which the caller knows to be there.
pub fn mac_at(bytes: &[u8], at: usize) -> MacAddress {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at..at + 6]);
    MacAddress::from_bytes(mac)
}

pub fn is_group(mac: MacAddress) -> bool {
    mac.bytes()[0] & 1 == 1
}

pub fn is_arp(frame: &[u8]) -> bool {
    frame.len() >= ETHERNET && word(frame, 12) == ARP
}

pub fn is_ipv6(frame: &[u8]) -> bool {
    frame.len() >= ETHERNET && word(frame, 12) == IPV6
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Where the parts of a TCP or UDP packet lie in its frame. Neither IPv4 options, nor IPv6 extension
/// headers, nor fragments: such packets pass as they are and are never cut or glued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub family: Family,
    pub protocol: u8,
    /// Where TCP or UDP begins.
    pub transport: usize,
    /// Where its payload begins.
    pub payload: usize,
    /// Where the packet ends by its IP header; what follows in the frame is padding.
    pub end: usize,
}

impl Layout {
    /// Of a frame whose lengths must be true.
    pub fn of(frame: &[u8]) -> Option<Self> {
        Self::parse(frame, false)
    }

    /// Of a frame from the kernel that is still to be cut: its IP length may not fit the field.
    pub fn of_uncut(frame: &[u8]) -> Option<Self> {
        Self::parse(frame, true)
    }

    fn parse(frame: &[u8], is_uncut: bool) -> Option<Self> {
        if frame.len() < ETHERNET + 20 {
            return None;
        }
        let (family, protocol, transport, length) = match word(frame, 12) {
            IPV4 => {
                // Version 4 with five words of header, and of the fragment field at most "don't fragment".
                if frame[14] != 0x45 || word(frame, 20) & 0xbfff != 0 {
                    return None;
                }
                (Family::V4, frame[23], ETHERNET + 20, usize::from(word(frame, 16)))
            }
            IPV6 if frame.len() >= ETHERNET + 40 && frame[14] >> 4 == 6 => {
                (Family::V6, frame[20], ETHERNET + 40, 40 + usize::from(word(frame, 18)))
            }
            _ => return None,
        };
        let end = if is_uncut { frame.len() } else { ETHERNET + length };
        if end > frame.len() {
            return None;
        }
        let header = match protocol {
            TCP if end >= transport + 20 => usize::from(frame[transport + 12] >> 4) * 4,
            UDP => 8,
            _ => return None,
        };
        let least = if protocol == TCP { 20 } else { 8 };
        let payload = transport + header;
        (header >= least && payload <= end).then_some(Self { family, protocol, transport, payload, end })
    }

    /// Both IP addresses, one after the other.
    pub fn addresses(&self) -> Range<usize> {
        match self.family {
            Family::V4 => ETHERNET + 12..ETHERNET + 20,
            Family::V6 => ETHERNET + 8..ETHERNET + 40,
        }
    }

    /// Where the transport checksum lies.
    pub fn checksum(&self) -> usize {
        self.transport + self.checksum_offset()
    }

    pub fn checksum_offset(&self) -> usize {
        if self.protocol == TCP { 16 } else { 6 }
    }

    /// The pseudo header's sum for a transport length.
    pub fn pseudo(&self, frame: &[u8], length: usize) -> Sum {
        pseudo_header(&frame[self.addresses()], self.protocol, length)
    }

    /// Whether the transport checksum is right.
    pub fn is_sound(&self, frame: &[u8]) -> bool {
        let covered = &frame[self.transport..self.end];
        self.pseudo(frame, covered.len()).add(covered).finish() == 0
    }

    /// Writes the IP header's length, and what depends on it.
    pub fn set_ip_length(&self, header: &mut [u8], transport_length: usize) {
        match self.family {
            Family::V4 => {
                set_word(header, ETHERNET + 2, (20 + transport_length) as u16);
                set_word(header, ETHERNET + 10, 0);
                let sum = Sum::default().add(&header[ETHERNET..ETHERNET + 20]).finish();
                set_word(header, ETHERNET + 10, sum);
            }
            Family::V6 => set_word(header, ETHERNET + 4, transport_length as u16),
        }
    }
}

#[cfg(test)]
pub mod testing {
    //! Frames for tests of this module and its neighbours.

    use super::*;

    /// A TCP or UDP frame with right lengths and checksums.
    pub fn frame(family: Family, protocol: u8, options: usize, payload: &[u8]) -> Vec<u8> {
        let header = if protocol == TCP { 20 + options * 4 } else { 8 };
        let mut frame = vec![2, 0x42, 10, 0, 0, 2, 2, 0x42, 10, 0, 0, 1];
        match family {
            Family::V4 => {
                frame.extend([8, 0, 0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, protocol, 0, 0]);
                frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            }
            Family::V6 => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, protocol, 64]);
                frame.extend((1..=32).collect::<Vec<u8>>());
            }
        }
        let transport = frame.len();
        frame.extend([0x30, 0x39, 0, 80]);
        if protocol == TCP {
            frame.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 9, ((header / 4) as u8) << 4, 0x18, 1, 0, 0, 0, 0, 0]);
            frame.extend(vec![1; options * 4]);
        } else {
            frame.extend(((8 + payload.len()) as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
        frame.extend(payload);
        finish(&mut frame, family, protocol, transport);
        frame
    }

    fn finish(frame: &mut [u8], family: Family, protocol: u8, transport: usize) {
        let layout = Layout { family, protocol, transport, payload: transport, end: frame.len() };
        let length = frame.len() - transport;
        layout.set_ip_length(frame, length);
        let sum = layout.pseudo(frame, length).add(&frame[transport..]).finish();
        set_word(frame, layout.checksum(), sum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{testing::frame, *};

    #[test]
    fn the_parts_are_found() {
        let four = frame(Family::V4, TCP, 3, b"hello");
        let layout = Layout::of(&four).expect("tcp");
        assert_eq!((layout.transport, layout.payload, layout.end), (34, 66, 71));
        assert!(layout.is_sound(&four));
        let six = frame(Family::V6, UDP, 0, b"hello");
        let layout = Layout::of(&six).expect("udp");
        assert_eq!((layout.transport, layout.payload, layout.end), (54, 62, 67));
        assert!(layout.is_sound(&six));
        let mut damaged = six;
        damaged[63] ^= 1;
        assert!(!Layout::of(&damaged).expect("udp").is_sound(&damaged));
    }

    #[test]
    fn fragments_and_options_are_left_alone() {
        let mut fragment = frame(Family::V4, TCP, 0, b"hello");
        fragment[20] = 0x20;
        assert_eq!(Layout::of(&fragment), None);
        let mut options = frame(Family::V4, TCP, 0, b"hello");
        options[14] = 0x46;
        assert_eq!(Layout::of(&options), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_allowed(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..4) {
            let mut bytes = bytes;
            if let Some(place) = bytes.get_mut(12..15) {
                let head: [u8; 3] = match kind {
                    0 => [8, 0, 0x45],
                    1 => [0x86, 0xdd, 0x60],
                    2 => [8, 6, 0],
                    _ => [place[0], place[1], place[2]],
                };
                place.copy_from_slice(&head);
            }
            for layout in [Layout::of(&bytes), Layout::of_uncut(&bytes)].into_iter().flatten() {
                prop_assert!(layout.transport < layout.payload && layout.payload <= layout.end);
                prop_assert!(layout.end <= bytes.len());
                layout.is_sound(&bytes);
            }
        }
    }
}
