//! One host of the cluster: the engine that makes containers, and the agent that follows a manager.
//!
//! `daemon` starts an [`Engine`] once and an [`Agent`] for as long as the host belongs to a cluster;
//! `api` asks the engine about images, logs and the host, and the [`membership`] handle to found,
//! join or leave a cluster. What shall be done is decided in `agent::reconcile` from values alone;
//! everything else here only does it. The crate must never restart a task by itself (that is the
//! managers' decision) and never touch a container, mount, network object or process that does not
//! bear rswarm's names.

pub mod agent;
pub mod checkup;
mod clock;
pub mod engine;
pub mod join;
pub mod membership;
mod metrics;

/// What the doctor of this host's networks found.
pub use overlay::doctor;

/// The image store's own types, for whoever shows images.
pub use image;

pub use agent::{Agent, AgentConfig, AgentEvent, AgentStatus};
pub use engine::{Engine, EngineConfig, HostInfo, tunnels};
