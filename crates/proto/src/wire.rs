//! Values of `types` as MessagePack with named fields, the form they have in `bytes` fields and in
//! the store. A reader skips fields it does not know and fills in those that are missing, which is
//! what lets two neighbouring versions of rswarm share a cluster.

use serde::{Serialize, de::DeserializeOwned};

/// A `bytes` field did not hold what it should.
#[derive(Debug, thiserror::Error)]
#[error("message does not hold a {type_name}")]
pub struct WireError {
    type_name: &'static str,
    #[source]
    source: rmp_serde::decode::Error,
}

/// The bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("values of `types` hold nothing that MessagePack cannot")
}

/// The value of some bytes from another host.
///
/// # Errors
/// When the bytes are not such a value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    rmp_serde::from_slice(bytes).map_err(|source| WireError { type_name: short_type_name::<T>(), source })
}

fn short_type_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    full.rsplit("::").next().unwrap_or(full)
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}
