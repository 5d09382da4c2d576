//! A whole cluster in one thread and in virtual time, from a seed: the real tables, the real planner and
//! pure agents, with everything between them going wrong. The same seed gives the same run, to the byte.

mod agent;
mod bench;
mod chaos;
mod cluster;
mod deliver;
mod leader;
mod random;
mod specs;

pub use bench::{PlanBench, bench_plan};
pub use cluster::{Report, Settings, run};
