//! What client and data plane process say to each other: JSON values, each after its length (u32, big endian).
//!
//! The process speaks first: a [`Hello`]. Then each [`Request`] gets one [`Response`], in order; after
//! `SubscribeProbes` the connection carries [`Response::Probes`] only, until the client closes it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use types::{NetworkId, NodeId, Timestamp};

use crate::{
    DnsCounters, EndpointId, NetworkPlan, Observed, PlanChange,
    probe::{Led, PeerState, ProbePath, ProbeTable},
    wireguard::Standing,
};

/// Raised when an older client could not understand the answers.
pub const PROTOCOL: u32 = 3;
/// Longest message, in bytes: a plan with a hundred thousand endpoints fits.
pub const MAX_FRAME: usize = 32 * 1024 * 1024;

/// The first message on every connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    pub version: String,
    pub pid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Make the host match this plan.
    Apply(Box<NetworkPlan>),
    /// Make the host match the plan that this makes of the one with the number `applies_to`.
    Change {
        applies_to: u64,
        change: Box<PlanChange>,
    },
    /// What the kernel has.
    Observe,
    /// The plan it holds, so that a daemon that starts goes on from there.
    Plan,
    SubscribeProbes,
    Status,
    /// End the process; the network stays.
    Shutdown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The plan has this number now.
    Applied {
        plan: u64,
        applied: Applied,
    },
    /// The plan that a change applies to is not the one that is held: give the whole.
    OtherPlan,
    Observed(Box<Observed>),
    Plan(Option<Box<NetworkPlan>>),
    Probes(ProbeUpdate),
    Status(Box<Status>),
    ShuttingDown,
    /// Nothing was done; the text says why.
    Refused(String),
}

/// How an application of a plan went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// Steps it took; none when the kernel was already as wanted.
    pub steps: usize,
    pub took_us: u64,
    /// Failures that concern the host as a whole.
    pub errors: Vec<String>,
    /// Changes outside our own objects that the user should know of.
    pub notes: Vec<String>,
    /// One for each endpoint of the plan.
    pub endpoints: BTreeMap<EndpointId, EndpointResult>,
    /// The overlays and local networks that do not stand as planned, and why. Their endpoints are there, but may not reach others.
    #[serde(default)]
    pub overlays: BTreeMap<NetworkId, String>,
}

/// Whether an endpoint can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointResult {
    /// Its namespace, to be joined by path.
    Ready {
        namespace: PathBuf,
    },
    Failed {
        error: String,
    },
}

impl Applied {
    /// Whether everything of the plan stands.
    pub fn is_complete(&self) -> bool {
        self.errors.is_empty()
            && self.overlays.is_empty()
            && self.endpoints.values().all(|e| matches!(e, EndpointResult::Ready { .. }))
    }
}

/// First the whole, then differences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeUpdate {
    /// Nothing is known of what is on its way out, unless that follows.
    Whole(Vec<PeerState>),
    /// A peer may be known by several ways.
    Changed { upsert: Vec<PeerState>, remove: Vec<(ProbePath, NodeId)> },
    /// All of it, whenever it changes.
    Led(Led),
}

/// The process as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub started: Timestamp,
    pub last_apply: Option<LastApply>,
    pub probes: ProbeTable,
    #[serde(default)]
    pub dns: DnsCounters,
    #[serde(default)]
    pub encryption: Standing,
}

/// The newest convergence, asked for by a client or by a change of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastApply {
    pub at: Timestamp,
    pub applied: Applied,
}
