//! A store that begins with a value that is there already: taken from a backup, or from this store itself when the
//! other managers are gone for good (parity C-08, C-42).
//!
//! The value becomes the snapshot that counts, its one member this manager, and what was in the log goes, all in one
//! write: a crash leaves the store as it was or as it shall be.

use std::collections::{BTreeMap, BTreeSet};

use control::Tables;
use openraft::{CommittedLeaderId, Membership};

use super::{Store, log, machine, owner, snapshot};
use crate::{
    Error,
    raft::types::{LogId, Member, SnapshotMeta, StoredMembership, Vote},
    store::Owner,
};

/// Where the log stood whose place this one takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl Store {
    /// The value with all that is in the log, and where the log ends.
    ///
    /// Entries that no majority had are in it too. Nobody was told that they were written, and nobody that they were not.
    pub(crate) fn read_to_the_end(&self) -> Result<(Tables, Position), Error> {
        let (tables, last) = self.machine.clone().replayed(&self.log)?;
        let voted = self.log.voted_term()?;
        let index = last.map_or(0, |id| id.index);
        let term = last.map_or(0, |id| id.leader_id.term).max(voted);
        Ok((tables, Position { term, index }))
    }

    /// Makes `tables` the state of this store, with its owner as the only manager. The store must be opened anew.
    pub(crate) fn seed(self, owner: &Owner, address: &str, tables: Tables, after: Position) -> Result<(), Error> {
        let me = owner.raft_id;
        // the next election's term is above all that was; an uncommitted vote makes nobody leader
        let (term, index) = (after.term + 1, after.index + 1);
        let at = LogId::new(CommittedLeaderId::new(term, me), index);
        let member = Member::new(owner.node, address);
        let membership = Membership::new(vec![BTreeSet::from([me])], BTreeMap::from([(me, member)]));
        let meta = SnapshotMeta {
            last_log_id: Some(at),
            last_membership: StoredMembership::new(Some(at), membership),
            snapshot_id: machine::snapshot_id(Some(at)),
        };
        let content = machine::encode(tables);
        // snapshots of the group that was before are of no use to this one
        snapshot::save_with(&self.database, &meta, &content, 0, |batch| {
            owner::put(batch, owner);
            log::begin_after(batch, at, Vote::new(term, me));
        })
    }
}
