//! The gRPC services of a manager, all on one port and all over TLS.
//!
//! Each method checks the caller's role first, bounds its time, and hands over to the part that does
//! the work. Nothing is decided here.

mod backup;
pub(crate) mod ca;
pub(crate) mod cluster;
mod cluster_logs;
pub(crate) mod connection;
pub(crate) mod dispatcher;
pub(crate) mod images;
mod peer;
pub(crate) mod raft;
pub(crate) mod read;
mod roots;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod usage;
