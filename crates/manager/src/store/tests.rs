//! The store against the consensus library's own suite, and what is peculiar to ours.

use std::path::Path;

use control::Proposal;
use identity::Vault;
use openraft::{
    CommittedLeaderId, EntryPayload, RaftLogReader,
    storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine},
    testing::{StoreBuilder, Suite},
};
use tempfile::TempDir;
use types::{ClusterId, NodeId, Timestamp};

use super::{LogStore, Machine, Owner, Store, database::Column, machine, snapshot};
use crate::{
    Error,
    config::DATA_KEY_FILE,
    raft::types::{Entries, Entry, LogId, Proposed, SnapshotMeta, StorageError, StoredMembership, TypeConfig, Vote},
};

fn open(directory: &Path) -> Result<Store, Error> {
    Store::open(&Vault::open(directory, &[DATA_KEY_FILE])?)
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = open(directory.path()).expect("new store");
        Ok((directory, store.log, store.machine))
    }
}

#[test]
fn the_librarys_own_suite_passes() {
    Suite::test_all(Builder).expect("suite");
}

const MARKER: &str = "MARKER-that-must-not-be-readable";

fn entry(index: u64) -> Entry {
    let node = types::Node {
        id: NodeId::from_random(u128::from(index)),
        meta: types::Meta::default(),
        spec: types::NodeSpec { name: format!("{MARKER}-{index}"), ..types::NodeSpec::default() },
        role: types::NodeRole::Worker,
        status: types::NodeStatus {
            state: types::NodeState::Unknown,
            message: String::new(),
            since: Timestamp::EPOCH,
            address: None,
            unreachable_peers: Vec::new(),
        },
        description: None,
        raft: None,
    };
    let changes = vec![control::Change::PutNode(Box::new(node))];
    let proposal = Proposal { at: Timestamp::EPOCH, expects: Vec::new(), changes };
    Entry {
        log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
        payload: EntryPayload::Normal(Entries { proposals: vec![Proposed { proposal, receipt: None }] }),
    }
}

async fn fill(store: &mut Store, entries: std::ops::RangeInclusive<u64>) {
    store.log.blocking_append(entries.map(entry)).await.expect("append");
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for child in std::fs::read_dir(directory).expect("directory") {
        let path = child.expect("entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn c_15_nothing_on_disk_is_readable() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut store = open(directory.path()).expect("open");
    fill(&mut store, 1..=20).await;
    store.machine.apply((1..=20).map(entry)).await.expect("apply");
    let mut builder = store.machine.get_snapshot_builder().await;
    openraft::RaftSnapshotBuilder::build_snapshot(&mut builder).await.expect("snapshot");
    drop((store, builder));
    let files = files(directory.path());
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).expect("read");
        let found = bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes());
        assert!(!found, "{} holds plain text", file.display());
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let owner = Owner { cluster: ClusterId::from_random(1), node: NodeId::from_random(2), raft_id: 3 };
    {
        let mut store = open(directory.path()).expect("open");
        store.set_owner(&owner).expect("owner");
        store.log.save_vote(&Vote::new(7, 3)).await.expect("vote");
        fill(&mut store, 1..=10).await;
        store.log.save_committed(Some(entry(9).log_id)).await.expect("committed");
        store.machine.apply((1..=5).map(entry)).await.expect("apply");
        let mut builder = store.machine.get_snapshot_builder().await;
        openraft::RaftSnapshotBuilder::build_snapshot(&mut builder).await.expect("snapshot");
        store.log.purge(entry(3).log_id).await.expect("purge");
    }
    let mut store = open(directory.path()).expect("open again");
    assert_eq!(store.owner().expect("owner"), Some(owner));
    assert_eq!(store.log.read_vote().await.expect("vote"), Some(Vote::new(7, 3)));
    assert_eq!(store.log.read_committed().await.expect("committed"), Some(entry(9).log_id));
    assert_eq!(store.log.try_get_log_entries(4..=10).await.expect("entries").len(), 7);
    assert_eq!(store.log.try_get_log_entries(0..).await.expect("entries")[0].log_id.index, 4);
    assert_eq!(store.machine.applied_state().await.expect("applied").0, Some(entry(5).log_id));
    assert_eq!(store.tables.borrow().nodes().count(), 5);
}

/// What the machine has now, as the snapshot up to this entry.
fn save(store: &Store, index: u64, keep: u64) {
    let meta = SnapshotMeta {
        last_log_id: Some(entry(index).log_id),
        last_membership: StoredMembership::default(),
        snapshot_id: format!("of-{index}"),
    };
    snapshot::save(&store.database, &meta, &machine::encode(store.machine.tables().clone()), keep).expect("save");
}

fn damage(store: &Store, number: u64) {
    let mut batch = store.database.batch();
    batch.delete_range(Column::Snapshot, &snapshot::chunk_key(number, 0), &snapshot::chunk_key(number + 1, 0));
    batch.write_synced(Column::Snapshot).expect("write");
}

#[tokio::test]
async fn c_29_a_damaged_snapshot_gives_way_to_the_one_before_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut store = open(directory.path()).expect("open");
    fill(&mut store, 1..=10).await;
    for (first, last) in [(1, 3), (4, 5), (6, 8)] {
        store.machine.apply((first..=last).map(entry)).await.expect("apply");
        save(&store, last, 1);
    }
    assert_eq!(store.log.needed_from().expect("read"), Some(5), "the first of three is gone");
    damage(&store, 3);
    drop(store);
    let mut store = open(directory.path()).expect("the one before it is whole");
    assert_eq!(store.machine.applied_state().await.expect("applied").0, Some(entry(5).log_id));
    let (tables, last) = store.machine.clone().replayed(&store.log).expect("the log goes on from there");
    assert_eq!((tables.nodes().count(), last), (10, Some(entry(10).log_id)));
    assert_eq!(store.log.needed_from().expect("read"), None);

    // where the log has a gap an old snapshot is of no use, and without old ones there is none
    store.machine.apply((6..=8).map(entry)).await.expect("apply");
    save(&store, 8, 1);
    store.log.purge(entry(6).log_id).await.expect("purge");
    damage(&store, 3);
    drop(store);
    assert!(matches!(open(directory.path()).err(), Some(Error::Damaged { .. })));
}

#[tokio::test]
async fn proposals_that_share_an_entry_have_indexes_of_their_own() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut store = open(directory.path()).expect("open");
    let proposals = [entry(1), entry(2)].map(|entry| match entry.payload {
        EntryPayload::Normal(entries) => entries.proposals,
        other => panic!("{other:?}"),
    });
    let shared =
        Entry { log_id: entry(1).log_id, payload: EntryPayload::Normal(Entries { proposals: proposals.concat() }) };
    let outcomes = store.machine.apply([shared]).await.expect("apply");
    assert_eq!(outcomes[0].results, [Ok(1), Ok(2)]);
    let touched = store.tables.borrow().touched_since(1).expect("the journal knows");
    assert_eq!(touched.nodes.len(), 1);
}

#[test]
fn a_missing_key_is_named() {
    let directory = tempfile::tempdir().expect("temporary directory");
    drop(open(directory.path()).expect("open"));
    std::fs::remove_file(directory.path().join(DATA_KEY_FILE)).expect("remove");
    let error = open(directory.path()).err().expect("refused");
    assert!(matches!(error, Error::KeyMissing { .. }), "{error}");
    assert!(error.to_string().contains("data.key is missing"), "{error}");
}

#[test]
fn another_key_and_another_cluster_are_named() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let owner = Owner { cluster: ClusterId::from_random(1), node: NodeId::from_random(2), raft_id: 3 };
    open(directory.path()).expect("open").set_owner(&owner).expect("owner");
    let error = owner.check(ClusterId::from_random(9), owner.node, directory.path()).expect_err("foreign");
    assert!(error.to_string().contains("belongs to node"), "{error}");
    std::fs::write(directory.path().join(DATA_KEY_FILE), [7; 32]).expect("write");
    let error = open(directory.path()).and_then(|store| store.owner().map(drop)).expect_err("refused");
    assert!(error.to_string().contains(r#"column "meta", record owner"#), "{error}");
}
