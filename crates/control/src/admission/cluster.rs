//! Requests about the cluster as a whole.

use std::time::Duration;

use types::{AddressPools, Cluster, ClusterSpec, RootCa, RootRotation, Timestamp, UnlockKey, Version};

use crate::{Change, Ids, ObjectRef, Proposal, Rejection, Tables};

/// Shortest validity of node certificates (parity C-16).
const MIN_CERT_EXPIRY: Duration = Duration::from_secs(3600);
/// Below this a heartbeat is mostly overhead; above, nobody would notice a dead host.
const HEARTBEAT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Each keeps the log from it to the next on every manager's disk too.
const MOST_OLD_SNAPSHOTS: u64 = 100;
/// UDP ports of VXLAN that a user may choose (parity C-05).
const DATA_PATH_PORTS: (u16, u16) = (1024, 49_151);
/// A subnet of this length still has a place beside its gateway.
const LONGEST_MASK: u8 = 29;

/// What gets a new secret.
#[derive(Clone, Copy, Default)]
pub(super) struct Rotate {
    pub(super) worker: bool,
    pub(super) manager: bool,
    pub(super) unlock_key: bool,
}

/// How the cluster is to be.
pub(super) struct Wanted<'a> {
    pub(super) spec: &'a ClusterSpec,
    pub(super) rotate: Rotate,
    pub(super) root: Option<&'a RootRotation>,
}

pub(super) fn update(
    tables: &Tables,
    version: Version,
    wanted: &Wanted<'_>,
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<Proposal, Rejection> {
    let Wanted { spec, rotate, root } = *wanted;
    let cluster = tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
    if cluster.meta.version != version {
        return Err(Rejection::out_of_sequence("cluster", cluster.id));
    }
    check(spec)?;
    let asks = root.is_some() || spec.ca.force_rotate != cluster.spec.ca.force_rotate;
    let mut next = Cluster { spec: spec.clone(), ..(**cluster).clone() };
    if asks {
        next.root_ca.rotation = rotation(&cluster.root_ca, root)?;
    }
    if rotate.worker {
        next.join.worker = ids().to_be_bytes();
    }
    if rotate.manager {
        next.join.manager = ids().to_be_bytes();
    }
    next.unlock_key = match cluster.unlock_key {
        // without a lock there is no key that could be asked for or rotated
        _ if !spec.encryption.auto_lock_managers => None,
        Some(key) if !rotate.unlock_key => Some(key),
        _ => Some(new_unlock_key(ids)),
    };
    let expects = vec![(ObjectRef::Cluster, version)];
    Ok(Proposal { at: now, expects, changes: vec![Change::PutCluster(Box::new(next))] })
}

/// The root that is on its way in once `wanted` is asked for. Another one than before takes its place, the one that is there
/// already ends it.
fn rotation(present: &RootCa, wanted: Option<&RootRotation>) -> Result<Option<Box<RootRotation>>, Rejection> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.cross_signed_pem.is_empty()) else {
        return Err(Rejection::FailedPrecondition(
            "the manager that leads has made no new root: its rswarm is older than this one; upgrade it, then repeat"
                .to_owned(),
        ));
    };
    if wanted.certificate_pem == present.certificate_pem {
        return Ok(None);
    }
    let under_way = present.rotation.as_ref().filter(|next| next.certificate_pem == wanted.certificate_pem);
    Ok(Some(under_way.cloned().unwrap_or_else(|| Box::new(wanted.clone()))))
}

fn new_unlock_key(ids: Ids<'_>) -> UnlockKey {
    let mut key = [0; 32];
    for half in key.chunks_exact_mut(16) {
        half.copy_from_slice(&ids().to_be_bytes());
    }
    UnlockKey(key)
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
    let keep = spec.raft.keep_old_snapshots;
    if keep > MOST_OLD_SNAPSHOTS {
        return refuse(format!(
            "{keep} old snapshots are too many for the managers' disks, which keep the log from the oldest on too: give at most {MOST_OLD_SNAPSHOTS}"
        ));
    }
    if let Err(why) = spec.rebalance().and(spec.privileged_services()) {
        return refuse(why.to_string());
    }
    pools(&spec.address_pools)
}

/// What `init` chooses for good, and the spec it begins with.
///
/// # Errors
/// The data path port or a part of the spec is not possible.
pub fn check_new(cluster: &Cluster) -> Result<(), Rejection> {
    let (low, high) = DATA_PATH_PORTS;
    if !(low..=high).contains(&cluster.data_path_port) {
        return Err(Rejection::Invalid(format!(
            "data path port {} is out of range: give {low} to {high}, or none for {}",
            cluster.data_path_port,
            types::DEFAULT_DATA_PATH_PORT
        )));
    }
    if cluster.spec.encryption.auto_lock_managers != cluster.unlock_key.is_some() {
        return Err(Rejection::Invalid(
            "a cluster has an unlock key when its managers are locked, and only then".to_owned(),
        ));
    }
    check(&cluster.spec)
}

/// Networks keep what they have: pools may change at any time (P25).
fn pools(wanted: &AddressPools) -> Result<(), Rejection> {
    let refuse = |what: String| Err(Rejection::Invalid(what));
    let mask = wanted.mask_length;
    if !(1..=LONGEST_MASK).contains(&mask) {
        return refuse(format!("address pool mask length {mask} is out of range: give 1 to {LONGEST_MASK}"));
    }
    if wanted.pools.is_empty() {
        return refuse("the cluster needs an address pool: networks without a subnet get theirs from it".to_owned());
    }
    for (at, pool) in wanted.pools.iter().enumerate() {
        let longest = if pool.address().is_ipv4() { mask } else { 64 };
        if pool.prefix() == 0 || pool.prefix() > longest {
            return refuse(format!(
                "address pool {pool} cannot be cut into subnets of length {longest}: it is smaller"
            ));
        }
        if pool.network() != *pool {
            return refuse(format!("address pool {pool} has bits beyond its prefix: write {}", pool.network()));
        }
        if let Some(other) = wanted.pools[..at].iter().find(|other| other.overlaps(*pool)) {
            return refuse(format!("address pools {other} and {pool} overlap"));
        }
    }
    Ok(())
}
