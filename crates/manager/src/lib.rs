//! A manager: the cluster's value, replicated; the loop that keeps it as wanted; and all that nodes
//! and front ends may ask of it.
//!
//! Used by the daemon (and by tests), which starts a [`Manager`] and holds it. What must change and
//! whether something is allowed is decided in `control`; this crate stores, orders, transports and
//! wakes. It is the only one that names the consensus library and the database, and it must never
//! acknowledge a write that a majority has not synced.

mod config;
mod dispatch;
mod error;
mod events;
mod leader;
mod lock;
mod manager;
mod metrics;
mod raft;
mod random;
mod rpc;
mod store;
mod survival;
mod wiring;

pub use config::{Clock, Config, CredentialSource, DATA_KEY_FILE, EventSink};
pub use error::Error;
pub use manager::{Manager, ManagerStatus};
pub use rpc::read::Reader;
pub use survival::BackedUp;
