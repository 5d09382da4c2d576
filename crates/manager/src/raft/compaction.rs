//! When to take a snapshot and how much of the log to drop: by entries and by bytes.
//!
//! One loop per manager; the consensus library does the work. The numbers come from the cluster's
//! spec (parity C-29), so they can change while managers run.

use std::time::Duration;

use types::RaftConfig;

use super::{Consensus, types::Metrics};
use crate::{Error, store::LogStore};

/// Log bytes after which a snapshot is taken although few entries were written: bounds the disk and
/// the time a restart needs.
const MAX_LOG_BYTES: u64 = 64 << 20;
/// How often to look. A log grows by some megabytes in this time at most.
const PERIOD: Duration = Duration::from_secs(1);

/// What to ask of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Action {
    snapshot: bool,
    purge_to: Option<u64>,
}

/// Runs as long as the manager.
pub(crate) async fn run(consensus: Consensus, log: LogStore) -> Result<(), Error> {
    let mut metrics = consensus.raft().data_metrics();
    let mut bytes = 0;
    loop {
        if metrics.changed().await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(PERIOD).await;
        metrics.borrow_and_update();
        bytes += log.take_appended_bytes();
        let spec = consensus.tables().cluster().map(|c| c.spec.raft.clone()).unwrap_or_default();
        // one small record a second, and only where old snapshots are kept
        let needed_from = if spec.keep_old_snapshots > 0 { log.needed_from()? } else { None };
        let action = decide(&Standing::of(&consensus.metrics(), bytes, needed_from), &spec);
        if action.snapshot {
            bytes = 0;
            consensus.raft().trigger().snapshot().await.map_err(|e| Error::Raft(e.to_string()))?;
        }
        if let Some(index) = action.purge_to {
            consensus.raft().trigger().purge_log(index).await.map_err(|e| Error::Raft(e.to_string()))?;
        }
    }
}

/// Where log and snapshot stand; indexes count from 1, 0 is "none".
#[derive(Debug, Clone, Copy)]
struct Standing {
    applied: u64,
    snapshot: u64,
    purged: u64,
    bytes: u64,
    /// The index of the oldest snapshot, if there are some beside the newest.
    needed_from: Option<u64>,
}

impl Standing {
    fn of(metrics: &Metrics, bytes: u64, needed_from: Option<u64>) -> Self {
        let index = |id: &Option<super::types::LogId>| id.as_ref().map_or(0, |id| id.index);
        Self {
            applied: index(&metrics.last_applied),
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            bytes,
            needed_from,
        }
    }
}

fn decide(standing: &Standing, spec: &RaftConfig) -> Action {
    let new_entries = standing.applied.saturating_sub(standing.snapshot);
    let snapshot = new_entries >= spec.snapshot_interval.max(1) || (standing.bytes >= MAX_LOG_BYTES && new_entries > 0);
    let for_followers = standing.snapshot.saturating_sub(spec.log_entries_for_slow_followers);
    let keep_from = standing.needed_from.map_or(for_followers, |index| index.min(for_followers));
    let purge_to = (keep_from > standing.purged).then_some(keep_from);
    Action { snapshot, purge_to }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(applied: u64, snapshot: u64, purged: u64, bytes: u64) -> (bool, Option<u64>) {
        check_with(&Standing { applied, snapshot, purged, bytes, needed_from: None })
    }

    fn check_with(standing: &Standing) -> (bool, Option<u64>) {
        let spec = RaftConfig { snapshot_interval: 100, log_entries_for_slow_followers: 10, ..RaftConfig::default() };
        let action = decide(standing, &spec);
        (action.snapshot, action.purge_to)
    }

    #[test]
    fn c_29_snapshots_by_entries_and_by_bytes() {
        assert_eq!(check(99, 0, 0, 0), (false, None));
        assert_eq!(check(100, 0, 0, 0), (true, None));
        assert_eq!(check(101, 100, 0, MAX_LOG_BYTES), (true, Some(90)));
        assert_eq!(check(100, 100, 90, MAX_LOG_BYTES), (false, None));
    }

    #[test]
    fn c_29_the_log_behind_a_snapshot_is_kept_for_slow_followers() {
        assert_eq!(check(150, 100, 0, 0), (false, Some(90)));
        assert_eq!(check(150, 5, 0, 0), (true, None));
    }

    #[test]
    fn c_29_the_log_goes_on_from_the_oldest_snapshot_that_is_kept() {
        let standing = |needed_from| Standing { applied: 350, snapshot: 300, purged: 50, bytes: 0, needed_from };
        assert_eq!(check_with(&standing(None)), (false, Some(290)));
        assert_eq!(check_with(&standing(Some(100))), (false, Some(100)));
        assert_eq!(check_with(&standing(Some(295))), (false, Some(290)));
        assert_eq!(check_with(&standing(Some(40))), (false, None));
    }
}
