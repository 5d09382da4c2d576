//! The brain of the cluster: what its value is, which changes are allowed, and what must change next.
//!
//! The managers keep a [`Tables`], apply [`Proposal`]s to it in Raft order, and the leader asks
//! [`Planner::plan`] what to propose. Everything here is a pure function of its arguments: no clock,
//! no I/O, no randomness, no threads (`clippy.toml` of this crate enforces it), so that every manager
//! comes to the same value and a whole cluster can be simulated from a seed.

pub mod admission;
pub mod assignments;
mod calendar;
mod change;
pub mod invariants;
mod observed;
mod plan;
pub mod roots;
mod tables;
mod transition;
pub mod view;

pub use change::{Change, NewTask, ObjectRef, Proposal, Rejection};
pub use observed::{Observed, ProbeVerdict};
pub use plan::{Planned, Planner};
pub use tables::{NodeLoad, Tables, Touched, changed_tasks, events};
pub use transition::Component;

/// Where fresh ids and secrets come from: each call returns 128 new random bits.
pub type Ids<'a> = &'a mut dyn FnMut() -> u128;
