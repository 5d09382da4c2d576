//! The encrypted data path of overlay networks, in user space.

mod checksum;
mod envelope;
mod glue;
mod keys;
mod neighbour;
mod packet;
mod segment;
mod vnet;

pub use keys::{generate_key_pair, public_key};

/// What can go wrong with the encrypted data path.
#[derive(Debug, thiserror::Error)]
pub enum WireguardError {
    #[error("cannot make a key: the system gives no random bytes")]
    Randomness,
}
