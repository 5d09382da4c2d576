//! Decisions of the planner as text: a script of what happens in, what was decided out.
#![allow(clippy::unwrap_used)]

mod admission;
mod dependencies;
mod happened;
mod health;
mod jobs;
mod migration;
mod needs;
mod networks;
mod orchestrate;
mod preempt;
mod properties;
mod publish;
mod rebalance;
mod restart;
mod rollout;
mod roots;
mod schedule;
mod script;
mod spec;
mod stacks;
mod steering;
mod subnets;
mod told;

pub use script::check;
