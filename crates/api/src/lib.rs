//! Docker Engine HTTP API on a unix socket.
//!
//! Started by `daemon`; speaks to managers through `proto`, to this host through `node`, and to the
//! daemon through `node::membership`. Docker's JSON is known in `convert` alone. It must never
//! decide anything about services or nodes: that is the managers' part.

mod bodies;
mod cluster;
mod convert;
mod error;
mod hijack;
mod host;
mod query;
mod router;
mod routes;
mod server;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use server::{ApiConfig, ServeError, serve};
