//! Object identifiers: 128 random bits, written as 25 base-36 digits.
//!
//! The text form is the one swarmkit uses (`identity/randomid.go`), so that tools which match on
//! its shape keep working. Whoever creates an object supplies the random bits.

use std::{fmt, hash::Hash, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Base-36 digits of a full identifier: `ceil(128 / log2(36))`.
pub const ID_LENGTH: usize = 25;

/// So many digits fit into 64 bits.
const PART_DIGITS: u32 = 12;
const PART: u128 = 36_u128.pow(PART_DIGITS);

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The identifier of one object of kind `K`. Copy, 16 bytes.
pub struct Id<K> {
    raw: u128,
    kind: PhantomData<fn() -> K>,
}

/// Marker types: one per kind of object, so that a task id is never taken for a node id.
pub mod kind {
    #[derive(Debug)]
    pub enum Cluster {}
    #[derive(Debug)]
    pub enum Node {}
    #[derive(Debug)]
    pub enum Service {}
    #[derive(Debug)]
    pub enum Task {}
    #[derive(Debug)]
    pub enum Network {}
    #[derive(Debug)]
    pub enum Dependency {}
}

pub type ClusterId = Id<kind::Cluster>;
pub type NodeId = Id<kind::Node>;
pub type ServiceId = Id<kind::Service>;
pub type TaskId = Id<kind::Task>;
pub type NetworkId = Id<kind::Network>;
pub type DependencyId = Id<kind::Dependency>;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("an id has {ID_LENGTH} characters, {0:?} has {1}")]
    Length(String, usize),
    #[error("an id is made of 0-9 and a-z, {0:?} is not")]
    Digit(String),
}

impl<K> Id<K> {
    /// An identifier from 128 random bits.
    pub const fn from_random(raw: u128) -> Self {
        Self { raw, kind: PhantomData }
    }

    /// The bits, for hashing and for tie-breaking.
    pub const fn as_u128(self) -> u128 {
        self.raw
    }

    /// The first 12 characters, the form that tables show.
    pub fn short(self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; ID_LENGTH];
        let mut rest = self.raw;
        // lists have tens of thousands of ids: two divisions of 128 bits for each, the others of 64
        for digits in text.rchunks_mut(PART_DIGITS as usize) {
            let mut part = (rest % PART) as u64;
            rest /= PART;
            for digit in digits.iter_mut().rev() {
                *digit = DIGITS[(part % 36) as usize];
                part /= 36;
            }
        }
        f.pad(std::str::from_utf8(&text).expect("base-36 digits are ASCII"))
    }
}

impl<K> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != ID_LENGTH {
            return Err(IdError::Length(text.to_owned(), text.chars().count()));
        }
        let mut raw: u128 = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|d| *d == byte).ok_or_else(|| IdError::Digit(text.to_owned()))?;
            raw = raw
                .checked_mul(36)
                .and_then(|r| r.checked_add(digit as u128))
                .ok_or_else(|| IdError::Digit(text.to_owned()))?;
        }
        Ok(Self::from_random(raw))
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        serializer.serialize_bytes(&self.raw.to_be_bytes())
    }
}

impl<'de, K> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(D::Error::custom);
        }
        deserializer.deserialize_bytes(RawId).map(Self::from_random)
    }
}

struct RawId;

impl serde::de::Visitor<'_> for RawId {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("16 bytes of an id")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<u128, E> {
        let raw = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
        Ok(u128::from_be_bytes(raw))
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.raw.cmp(&other.raw)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_sorts_like_the_bits() {
        let small = NodeId::from_random(35);
        let large = NodeId::from_random(u128::MAX);
        assert_eq!(small.to_string(), "000000000000000000000000z");
        assert_eq!(large.to_string().parse::<NodeId>().expect("own text"), large);
        assert!(small.to_string() < large.to_string());
    }

    #[test]
    fn bad_text_is_refused_with_the_reason() {
        assert!(matches!("abc".parse::<NodeId>(), Err(IdError::Length(_, 3))));
        assert!(matches!("Z".repeat(25).parse::<NodeId>(), Err(IdError::Digit(_))));
        assert!(matches!("z".repeat(25).parse::<NodeId>(), Err(IdError::Digit(_))));
    }

    #[test]
    fn binary_form_is_sixteen_bytes_and_json_is_text() {
        let id = TaskId::from_random(7);
        let bytes = rmp_serde::to_vec_named(&id).expect("encode");
        assert_eq!(bytes.len(), 18);
        assert_eq!(rmp_serde::from_slice::<TaskId>(&bytes).expect("decode"), id);
        let json = serde_json::to_string(&id).expect("encode");
        assert_eq!(serde_json::from_str::<TaskId>(&json).expect("decode"), id);
    }
}
