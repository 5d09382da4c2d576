//! Requests about the cluster as a whole.

use std::time::Duration;

use types::{Cluster, ClusterSpec, Timestamp, Version};

use crate::{Change, Ids, ObjectRef, Proposal, Rejection, Tables};

/// Shortest validity of node certificates (parity C-16).
const MIN_CERT_EXPIRY: Duration = Duration::from_secs(3600);
/// Below this a heartbeat is mostly overhead; above, nobody would notice a dead host.
const HEARTBEAT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Which join tokens get a new secret.
#[derive(Clone, Copy)]
pub(super) struct Rotate {
    pub(super) worker: bool,
    pub(super) manager: bool,
}

pub(super) fn update(
    tables: &Tables,
    version: Version,
    spec: &ClusterSpec,
    rotate: Rotate,
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<Proposal, Rejection> {
    let cluster = tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
    if cluster.meta.version != version {
        return Err(Rejection::out_of_sequence("cluster", cluster.id));
    }
    check(spec)?;
    let mut next = Cluster { spec: spec.clone(), ..(**cluster).clone() };
    if rotate.worker {
        next.join.worker = ids().to_be_bytes();
    }
    if rotate.manager {
        next.join.manager = ids().to_be_bytes();
    }
    let expects = vec![(ObjectRef::Cluster, version)];
    Ok(Proposal { at: now, expects, changes: vec![Change::PutCluster(Box::new(next))] })
}

fn check(spec: &ClusterSpec) -> Result<(), Rejection> {
    let refuse = |what: String| Err(Rejection::Invalid(what));
    if spec.ca.node_cert_expiry < MIN_CERT_EXPIRY {
        return refuse(format!("certificate expiry {:?} is too short: give at least 1h", spec.ca.node_cert_expiry));
    }
    let (low, high) = HEARTBEAT_RANGE;
    let period = spec.dispatcher.heartbeat_period;
    if period < low || period > high {
        return refuse(format!("dispatcher heartbeat {period:?} is out of range: give {low:?} to {high:?}"));
    }
    if spec.raft.snapshot_interval == 0 {
        return refuse("snapshot interval must not be 0: the log would be compacted after each entry".to_owned());
    }
    Ok(())
}
