//! A service: a spec, the specs before it, and how far the present one has been rolled out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    JobStatus, Meta, PortConfig, PublishMode, Rebalance, ServiceId, ServiceSpec, TaskSpec, Timestamp, Version,
    VirtualIp,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    #[serde(default)]
    pub meta: Meta,
    pub spec: Arc<ServiceSpec>,
    /// `spec.task` once more, shared with the tasks made from it.
    pub task_spec: Arc<TaskSpec>,
    /// The version at which `spec` was last changed by a user: what tasks are compared with.
    pub spec_version: Version,
    /// The spec before the present one, for `rollback`.
    #[serde(default)]
    pub previous: Option<Arc<ServiceSpec>>,
    /// The last update asked for what was so already: see [`Service::shown_previous`].
    #[serde(default)]
    pub repeated: bool,
    /// The number of the present spec: 1 at the beginning, one more with each change.
    #[serde(default)]
    pub revision: u64,
    #[serde(default)]
    pub revised_at: Timestamp,
    /// Earlier specs, oldest first, at most [`KEPT_REVISIONS`].
    #[serde(default)]
    pub earlier: Vec<Arc<Revision>>,
    #[serde(default)]
    pub update: Option<UpdateStatus>,
    /// The last request to even it out.
    #[serde(default)]
    pub rebalance: Option<Rebalance>,
    /// Of jobs only.
    #[serde(default)]
    pub job: Option<JobStatus>,
    /// One for each of its networks, once allocated; none in mode dnsrr.
    #[serde(default)]
    pub virtual_ips: Vec<VirtualIp>,
    /// Its ports in the routing mesh, in the order of the spec, each with its number. They are its own until its
    /// removal is asked for.
    #[serde(default)]
    pub published: Arc<Vec<PortConfig>>,
    /// A removal was asked for: its tasks stop, then it goes.
    #[serde(default)]
    pub removing: bool,
}

/// So many earlier specs can be gone back to.
pub const KEPT_REVISIONS: usize = 10;

/// A spec that a service once had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub number: u64,
    pub spec: Arc<ServiceSpec>,
    /// When it became the service's.
    pub at: Timestamp,
}

impl Service {
    /// The service with another spec as its next revision. What was made from the spec before stays.
    pub fn revised(&self, spec: Arc<ServiceSpec>, now: Timestamp) -> Self {
        let past = Revision { number: self.revision, spec: Arc::clone(&self.spec), at: self.revised_at };
        let mut earlier = self.earlier.clone();
        earlier.push(Arc::new(past));
        let surplus = earlier.len().saturating_sub(KEPT_REVISIONS);
        earlier.drain(..surplus);
        let previous = Some(Arc::clone(&self.spec));
        let revision = self.revision + 1;
        Self { spec, previous, repeated: false, revision, revised_at: now, earlier, ..self.clone() }
    }

    /// Docker takes the spec before an update for the previous one even if that changed nothing, and clients compare
    /// the two to learn whether it did. A rollback goes back to what was different.
    pub fn shown_previous(&self) -> Option<&Arc<ServiceSpec>> {
        if self.repeated { Some(&self.spec) } else { self.previous.as_ref() }
    }

    /// The specs that it may be given back: the one before, and the earlier revisions.
    pub fn past_specs(&self) -> impl Iterator<Item = &ServiceSpec> {
        let earlier = self.earlier.iter().map(|revision| &*revision.spec);
        self.previous.as_deref().into_iter().chain(earlier)
    }

    /// The number of a job's present iteration.
    pub fn iteration(&self) -> Option<u64> {
        self.job.as_ref().map(|job| job.iteration)
    }

    /// Whether its tasks have a place in the ingress network.
    pub fn publishes(&self) -> bool {
        !self.published.is_empty()
    }

    /// All ports of the spec in their order, those of the routing mesh with their numbers.
    pub fn ports(&self) -> impl Iterator<Item = &PortConfig> {
        let mut numbered = self.published.iter();
        self.spec.endpoint.ports.iter().map(move |port| match port.mode {
            PublishMode::Ingress => numbered.next().unwrap_or(port),
            PublishMode::Host => port,
        })
    }
}

/// How a rollout stands (parity S-14).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    pub state: UpdateState,
    pub started_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateState {
    Updating,
    Paused,
    Completed,
    RollbackStarted,
    RollbackPaused,
    RollbackCompleted,
}
