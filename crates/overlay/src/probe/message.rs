//! The probe on the wire. Pure: bytes in, bytes out.
//!
//! ```text
//!  0  "rswp"   4 version=1   5 kind   6 view   7 zero   8 length (u16)   10 zero
//! 16  sender (u128)   32 target (u128)   48 boot (u64)   56 sequence (u64)
//! 64  HMAC-SHA256 of bytes 0..64, and of the addresses   96 addresses (16 bytes each), or zeros, up to length
//! ```
//! All numbers big endian. An answer is exactly as long as its question, so the responder amplifies
//! nothing. `boot` is drawn at random by each process; with `sequence` it makes every message unique,
//! and an answer counts only for a question that is still open. IPv4 addresses are written as IPv6 has them
//! (RFC 4291, section 2.5.5.2); an unspecified address says nothing.

use std::net::{IpAddr, Ipv6Addr};

use ring::hmac;
use types::NodeId;

/// The smallest message, and the usual one.
pub const HEADER: usize = 96;
const SIGNED: usize = 64;
const MAGIC: &[u8; 4] = b"rswp";
const VERSION: u8 = 1;
/// Size of one address.
const ADDRESS: usize = 16;
/// So many addresses and all headers fit the least MTU of IPv6.
pub const MOST_ADDRESSES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Question,
    Answer,
    /// Does the target still lead new connections to these addresses?
    Leads,
    /// The addresses of those to which the sender leads none.
    Released,
}

impl Kind {
    fn has_addresses(self) -> bool {
        matches!(self, Self::Leads | Self::Released)
    }
}

/// A probe, read and verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    pub sender: NodeId,
    pub target: NodeId,
    /// What the sender says of its own probes to the target: answered, unanswered, or not yet known.
    pub view: Option<bool>,
    pub boot: u64,
    pub sequence: u64,
}

/// Why bytes are no probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Form,
    Mac,
}

impl Message {
    /// The message as `length` bytes, at least [`HEADER`].
    pub fn seal(&self, key: &hmac::Key, length: usize) -> Vec<u8> {
        self.sealed(key, vec![0; length.clamp(HEADER, usize::from(u16::MAX))])
    }

    /// The message with these addresses, [`MOST_ADDRESSES`] at most, and room for so many.
    pub fn seal_addresses(&self, key: &hmac::Key, addresses: &[IpAddr], room: usize) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + ADDRESS * room.clamp(addresses.len(), MOST_ADDRESSES)];
        for (place, address) in bytes[HEADER..].chunks_exact_mut(ADDRESS).zip(addresses) {
            let address = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => *v6,
            };
            place.copy_from_slice(&address.octets());
        }
        self.sealed(key, bytes)
    }

    fn sealed(&self, key: &hmac::Key, mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len();
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4] = VERSION;
        bytes[5] = match self.kind {
            Kind::Question => 1,
            Kind::Answer => 2,
            Kind::Leads => 3,
            Kind::Released => 4,
        };
        bytes[6] = match self.view {
            None => 0,
            Some(true) => 1,
            Some(false) => 2,
        };
        bytes[8..10].copy_from_slice(&u16::try_from(length).expect("at most 16 bits").to_be_bytes());
        bytes[16..32].copy_from_slice(&self.sender.as_u128().to_be_bytes());
        bytes[32..48].copy_from_slice(&self.target.as_u128().to_be_bytes());
        bytes[48..56].copy_from_slice(&self.boot.to_be_bytes());
        bytes[56..64].copy_from_slice(&self.sequence.to_be_bytes());
        let mac = hmac::sign(key, &signed(self.kind, &bytes));
        bytes[SIGNED..HEADER].copy_from_slice(mac.as_ref());
        bytes
    }

    /// Reads a datagram; authentication is checked before anything of it is believed.
    pub fn open(key: &hmac::Key, bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.len() < HEADER || &bytes[..4] != MAGIC || bytes[4] != VERSION {
            return Err(Refused::Form);
        }
        let kind = match bytes[5] {
            1 => Kind::Question,
            2 => Kind::Answer,
            3 => Kind::Leads,
            4 => Kind::Released,
            _ => return Err(Refused::Form),
        };
        hmac::verify(key, &signed(kind, bytes), &bytes[SIGNED..HEADER]).map_err(|_| Refused::Mac)?;
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let id = |at: usize| NodeId::from_random(u128::from(number(at)) << 64 | u128::from(number(at + 8)));
        if usize::from(u16::from_be_bytes([bytes[8], bytes[9]])) != bytes.len() {
            return Err(Refused::Form);
        }
        let view = match bytes[6] {
            0 => None,
            1 => Some(true),
            2 => Some(false),
            _ => return Err(Refused::Form),
        };
        Ok(Self { kind, sender: id(16), target: id(32), view, boot: number(48), sequence: number(56) })
    }

    /// What [`Message::seal_addresses`] put into a message that was opened.
    pub fn addresses(bytes: &[u8]) -> Vec<IpAddr> {
        let all = bytes.get(HEADER..).unwrap_or_default().chunks_exact(ADDRESS).take(MOST_ADDRESSES);
        let read = all.map(|bytes| Ipv6Addr::from(<[u8; ADDRESS]>::try_from(bytes).expect("sixteen bytes")));
        read.map(|address| address.to_canonical()).filter(|address| !address.is_unspecified()).collect()
    }

    /// The answer of host `me` to this question.
    pub fn answer(&self, me: NodeId, view: Option<bool>) -> Self {
        let kind = if self.kind == Kind::Leads { Kind::Released } else { Kind::Answer };
        Self { kind, sender: me, target: self.sender, view, ..*self }
    }
}

fn signed(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let addresses = if kind.has_addresses() { &bytes[HEADER..] } else { &[] };
    [&bytes[..SIGNED], addresses].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    fn question() -> Message {
        let (sender, target) = (NodeId::from_random(u128::MAX - 3), NodeId::from_random(9));
        Message { kind: Kind::Question, sender, target, view: Some(false), boot: 0xdead_beef_0000_0001, sequence: 77 }
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_only() {
        for length in [0, HEADER, 1472, 8972] {
            let sealed = question().seal(&key(1), length);
            assert_eq!(sealed.len(), length.max(HEADER));
            assert_eq!(Message::open(&key(1), &sealed), Ok(question()));
            assert_eq!(Message::open(&key(2), &sealed), Err(Refused::Mac));
        }
    }

    #[test]
    fn an_answer_is_as_long_as_its_question() {
        let sealed = question().seal(&key(1), 1472);
        let answer = question().answer(NodeId::from_random(9), None).seal(&key(1), sealed.len());
        assert_eq!(answer.len(), sealed.len());
        assert_eq!(Message::open(&key(1), &answer).expect("answer").target, question().sender);
    }

    #[test]
    fn addresses_are_signed_and_come_back_in_order() {
        let asked = Message { kind: Kind::Leads, ..question() };
        let addresses: Vec<IpAddr> = vec![[10, 0, 0, 7].into(), "fd00::9".parse().expect("address")];
        let mut sealed = asked.seal_addresses(&key(1), &addresses, 0);
        assert_eq!(sealed.len(), HEADER + 32);
        assert_eq!(Message::open(&key(1), &sealed), Ok(asked));
        assert_eq!(Message::addresses(&sealed), addresses);
        sealed[HEADER + 15] ^= 1;
        assert_eq!(Message::open(&key(1), &sealed), Err(Refused::Mac));
        let answer = asked.answer(NodeId::from_random(9), None).seal_addresses(&key(1), &addresses[1..], 2);
        assert_eq!(answer.len(), sealed.len());
        assert_eq!(Message::open(&key(1), &answer).expect("answer").kind, Kind::Released);
        assert_eq!(Message::addresses(&answer), addresses[1..]);
    }

    proptest::proptest! {
        #[test]
        fn any_changed_bit_is_refused(at in 0usize..HEADER, bit in 0u8..8) {
            let mut sealed = question().seal(&key(1), HEADER);
            sealed[at] ^= 1 << bit;
            proptest::prop_assert!(Message::open(&key(1), &sealed).is_err());
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            proptest::prop_assert!(Message::open(&key(1), &bytes).is_err());
        }

        #[test]
        fn a_wrong_length_is_refused(cut in 0usize..200) {
            let sealed = question().seal(&key(1), 400);
            proptest::prop_assert!(Message::open(&key(1), &sealed[..sealed.len() - 1 - cut]).is_err());
        }
    }
}
