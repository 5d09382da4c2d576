//! The data of a secret or config: bytes that are shared, never printed and not compared in a way that prints them.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that no log and no error text ever shows. A clone shares them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(Arc<Vec<u8>>);

impl Payload {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Its length alone.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(Bytes).map(Self::new)
    }
}

struct Bytes;

impl de::Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a secret or config")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x01_bytes_travel_whole_and_are_never_printed() {
        let payload = Payload::new(vec![0, 159, 146, 150, b'p', b'w']);
        let packed = rmp_serde::to_vec_named(&payload).expect("encode");
        assert_eq!(packed.len(), payload.len() + 2, "packed as bytes");
        assert_eq!(rmp_serde::from_slice::<Payload>(&packed).expect("decode"), payload);
        assert_eq!(format!("{payload:?}"), "Payload(6 bytes)");
    }
}
