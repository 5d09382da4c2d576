//! What travels inside a peer's WireGuard tunnel: IPv4, UDP, VXLAN, Ethernet. Pure.
//!
//! ```text
//! 20  IPv4   tunnel address of the sender -> of the receiver, TTL 64, DF, no options
//!  8  UDP    source port 49152, destination port that of the cluster's VXLAN, checksum 0
//!  8  VXLAN  flags 0x08, the network's VNI (RFC 7348)
//! 14+ the frame, without FCS
//! ```
//!
//! This is what a kernel sends that has a VXLAN device over a WireGuard device with these addresses, so
//! a node with the kernel's WireGuard can be a peer of one without. The padding such a peer adds is cut
//! off by the IPv4 length. A *tunnel address* is never given to any interface here.

use std::net::{IpAddr, Ipv4Addr};

use ring::digest;

use super::{
    checksum::Sum,
    packet::{set_word, word},
};

/// Bytes before the frame.
pub const ENVELOPE: usize = 36;
/// WireGuard's data header and tag.
pub const WIREGUARD: usize = 32;
/// Any would do: nobody balances by it inside a tunnel. A fixed one lets the receiver's kernel reuse its route.
const SOURCE_PORT: u16 = 49152;

/// A host's address inside tunnels: 240.0.0.0/4 and the last 28 bits of its underlay address, of IPv6 those
/// of its hash. No network uses this block (RFC 1112), so it never collides with a user's.
pub fn tunnel_address(underlay: IpAddr) -> Ipv4Addr {
    let bits = match underlay.to_canonical() {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let hash = digest::digest(&digest::SHA256, &address.octets());
            u32::from_be_bytes([hash.as_ref()[0], hash.as_ref()[1], hash.as_ref()[2], hash.as_ref()[3]])
        }
    };
    Ipv4Addr::from_bits(0xf000_0000 | bits & 0x0fff_ffff)
}

/// The bytes before every frame from one host to another in one network, but for the lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope([u8; ENVELOPE]);

impl Envelope {
    pub fn new(from: Ipv4Addr, to: Ipv4Addr, port: u16, vni: u32) -> Self {
        let mut bytes = [0; ENVELOPE];
        bytes[0] = 0x45;
        bytes[6] = 0x40;
        bytes[8] = 64;
        bytes[9] = 17;
        bytes[12..16].copy_from_slice(&from.octets());
        bytes[16..20].copy_from_slice(&to.octets());
        set_word(&mut bytes, 20, SOURCE_PORT);
        set_word(&mut bytes, 22, port);
        bytes[28] = 0x08;
        bytes[32..36].copy_from_slice(&(vni << 8).to_be_bytes());
        Self(bytes)
    }

    /// Writes the envelope of a frame of `length` bytes to the front of `target`.
    pub fn write(&self, target: &mut [u8], length: usize) {
        target[..ENVELOPE].copy_from_slice(&self.0);
        set_word(target, 2, (ENVELOPE + length) as u16);
        set_word(target, 24, (ENVELOPE - 20 + length) as u16);
        let sum = Sum::default().add(&target[..20]).finish();
        set_word(target, 10, sum);
    }
}

/// An opened packet that has the right form: whose it says it is, and of which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub vni: u32,
    /// Where the frame ends; it begins at [`ENVELOPE`].
    pub end: usize,
}

impl Opened {
    /// None for whatever is not VXLAN to this port.
    pub fn parse(packet: &[u8], port: u16) -> Option<Self> {
        if packet.len() < ENVELOPE || packet[0] != 0x45 || packet[9] != 17 || word(packet, 6) & 0xbfff != 0 {
            return None;
        }
        let end = usize::from(word(packet, 2));
        let is_whole = (ENVELOPE..=packet.len()).contains(&end) && usize::from(word(packet, 24)) == end - 20;
        if !is_whole || word(packet, 22) != port || packet[28] != 0x08 {
            return None;
        }
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let vni = u32::from_be_bytes([0, packet[32], packet[33], packet[34]]);
        Some(Self { from: address(12), to: address(16), vni, end })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tunnel_addresses_follow_the_underlay() {
        assert_eq!(tunnel_address([10, 1, 2, 3].into()), Ipv4Addr::new(250, 1, 2, 3));
        assert_eq!(tunnel_address("::ffff:10.1.2.3".parse().expect("address")), Ipv4Addr::new(250, 1, 2, 3));
        let six = tunnel_address("fd00::1".parse().expect("address"));
        assert!(six.octets()[0] >= 240);
        assert_ne!(six, tunnel_address("fd00::2".parse().expect("address")));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            vni in 0u32..1 << 24, port in 1u16.., length in 14usize..9000, pad in 0usize..16,
            from: u32, to: u32
        ) {
            let (from, to) = (Ipv4Addr::from_bits(from), Ipv4Addr::from_bits(to));
            let mut packet = vec![0; ENVELOPE + length + pad];
            Envelope::new(from, to, port, vni).write(&mut packet, length);
            prop_assert_eq!(Sum::default().add(&packet[..20]).finish(), 0);
            let read = Opened::parse(&packet, port);
            prop_assert_eq!(read, Some(Opened { from, to, vni, end: ENVELOPE + length }));
            prop_assert_eq!(Opened::parse(&packet, port ^ 1), None);
            prop_assert_eq!(Opened::parse(&packet[..ENVELOPE + length - 1], port), None);
        }

        #[test]
        fn any_bytes_are_allowed(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(opened) = Opened::parse(&bytes, 4789) {
                prop_assert!(opened.end <= bytes.len());
            }
        }
    }
}
