//! Several managers and fake agents in one process, over real TLS connections on loopback.
#![allow(clippy::unwrap_used)]

mod agent;
mod certificates;
mod disk;
mod dispatch;
mod events;
mod failover;
mod harness;
mod lock;
mod membership;
mod metrics;
mod renewal;
mod survival;
