//! The wire: gRPC code generated from `/proto`, and how values of `types` travel inside it.
//!
//! Used by whoever calls or serves a manager. Holds no decision and opens no socket of its own:
//! [`transport::channel`] is given the function that connects.

pub mod transport;
mod wire;

pub use wire::{WireError, decode, encode};

/// Generated from `/proto/rswarm/v1`.
#[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, rust_2018_idioms)]
pub mod v1 {
    tonic::include_proto!("rswarm.v1");
}

/// Largest message either side accepts: a whole assignment set of a node with thousands of tasks,
/// or a list of 30,000 tasks, fits with room to spare; more is a fault of the sender.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
