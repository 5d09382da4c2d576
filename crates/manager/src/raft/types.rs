//! The shape of our Raft group: what a log entry holds, how members are named, and the timing.
//!
//! The consensus library is named in `raft` and `store` only; the rest of the crate speaks of
//! proposals and indexes.

use std::sync::Arc;

use control::{Proposal, Rejection};
use openraft::SnapshotPolicy;
use serde::{Deserialize, Serialize};
use types::NodeId;

use super::receipts::Receipt;
use crate::Error;

/// Raft's own number of a member: random, drawn each time a node joins with an empty log.
pub(crate) type RaftId = u64;

/// What one log entry holds: proposals that were waiting at the same time share one entry, and so
/// one write to each disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entries {
    pub(crate) proposals: Vec<Proposed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposed {
    pub(crate) proposal: Proposal,
    /// For an asker that wants to know even if the leader cannot tell it.
    #[serde(default)]
    pub(crate) receipt: Option<Receipt>,
}

/// What applying them gave, in the same order. Never leaves the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    pub(crate) results: Vec<Result<u64, Rejection>>,
}

/// A member as the membership entries of the log name it. The address is the one it joined with; a
/// newer one is in the value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The node's id as text (the library wants a default value, which ids have none of).
    pub(crate) node: String,
    /// `host:port`.
    pub(crate) address: String,
}

impl Member {
    pub(crate) fn new(node: NodeId, address: &str) -> Self {
        Self { node: node.to_string(), address: address.to_owned() }
    }

    pub(crate) fn node_id(&self) -> Option<NodeId> {
        self.node.parse().ok()
    }
}

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Entries,
        R = Outcomes,
        NodeId = RaftId,
        Node = Member,
        SnapshotData = std::io::Cursor<Vec<u8>>,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<RaftId>;
pub(crate) type Vote = openraft::Vote<RaftId>;
pub(crate) type StoredMembership = openraft::StoredMembership<RaftId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<RaftId, Member>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type StorageError = openraft::StorageError<RaftId>;
pub(crate) type Metrics = openraft::RaftMetrics<RaftId, Member>;
pub(crate) type ServerMetrics = openraft::metrics::RaftServerMetrics<RaftId, Member>;

/// A leader shows itself this often. Also the deadline the library sets for one append call, which
/// includes the follower's write to disk; late ones are sent again, so it is not shorter.
pub(crate) const HEARTBEAT_MS: u64 = 100;
/// A follower stands for election when it has not heard the leader for the lease
/// ([`ELECTION_MAX_MS`]) and then a time between these two; with the library's tick of 1.5
/// heartbeats that is 450 to 750 ms after the last heartbeat, which leaves room below one second
/// for the vote and the first commit. Smaller numbers would take a disk that syncs slowly for a
/// dead leader.
pub(crate) const ELECTION_MIN_MS: u64 = 150;
pub(crate) const ELECTION_MAX_MS: u64 = 300;
/// Entries in one append call; their bytes are bounded by the log reader.
const MAX_APPEND_ENTRIES: u64 = 256;
/// A whole snapshot must be sent, stored and taken into use within this time.
pub(crate) const SNAPSHOT_TIMEOUT_MS: u64 = 60_000;

/// The library's configuration. When to snapshot and how much log to keep is decided in
/// `raft::compaction`, because the numbers are part of the cluster's spec and may change.
pub(crate) fn config() -> Result<Arc<openraft::Config>, Error> {
    let config = openraft::Config {
        cluster_name: "rswarm".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        max_payload_entries: MAX_APPEND_ENTRIES,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX / 2,
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| Error::Raft(e.to_string()))
}
