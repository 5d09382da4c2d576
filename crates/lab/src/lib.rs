//! Hosts on one machine: each host is a set of namespaces that looks like a small server.
//!
//! Called by the cluster tests, the benchmarks and `rswarm lab …`. A host has its own network,
//! mount, pid, uts, ipc and cgroup namespaces, a root file system that is an overlay of the
//! machine's, private `/run`, `/tmp` and `/var/lib`, and a cable into the lab's own switch.
//!
//! It must never change the machine's root network namespace, never touch a process, mount or
//! cgroup that is not inside a lab, and never leave anything behind after [`Lab::down`].
//!
//! ```no_run
//! # fn main() -> Result<(), lab::Error> {
//! let spec = lab::LabSpec::new("demo".parse()?, 3, "/usr/local/bin/rswarm");
//! let lab = lab::Lab::up(&spec)?;
//! lab.run("h1", &["ping", "-c1", "h2"])?;
//! lab.down()?;
//! # Ok(()) }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod addr;
mod boot;
mod cgroup;
pub mod cli;
mod cluster;
mod error;
mod exec;
mod faults;
mod guard;
pub mod host_init;
mod lock;
mod name;
mod net;
mod process;
mod scene;
mod spec;
mod state;
mod teardown;
mod tool;

pub use cluster::{Cluster, ClusterSpec};
pub use error::Error;
pub use exec::{ExecOptions, ExecOutput, Spawned, Stdio};
pub use faults::StateDir;
pub use guard::Guard;
pub use name::Name;
pub use process::ProcessId;
pub use scene::Lab;
pub use spec::{CgroupMode, HostSpec, LabSpec};
pub use state::{HostState, LabState, LabSummary};
