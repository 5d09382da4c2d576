//! Docker Engine HTTP API on a unix socket, and over TCP for clients with a certificate.
//!
//! Started by `daemon`; speaks to managers through `proto`, to this host through `node`, and to the
//! daemon through `node::membership`. Docker's JSON is known in `convert` alone. It must never
//! decide anything about services or nodes: that is the managers' part.

mod bodies;
mod cluster;
mod convert;
mod error;
mod gone;
mod hijack;
mod host;
mod listener;
mod query;
mod remote;
mod request_line;
mod router;
mod routes;
mod server;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use listener::{Listeners, ServeError, Tcp};
pub use server::{ApiConfig, serve};
