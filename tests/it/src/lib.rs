//! What cluster tests and benchmarks share: a lab with a cluster on it, an HTTP client for the
//! daemons' sockets, and waiting for a state with a deadline.
//!
//! Everything goes through the real binary: its command line, its API, its processes. Nothing here
//! links against the daemon.

mod cluster;
mod docker;
mod http;
mod wait;
mod wire;

pub use cluster::{ClusterUnderTest, IMAGE, TaskRow, rswarm_binary};
pub use docker::Docker;
pub use http::{Answer, Api};
pub use wait::{DEADLINE, until};
pub use wire::{Said, Wire, apart};
