//! Snapshots on disk, in sealed chunks: the newest, and as many before it as the cluster keeps (parity C-29).
//!
//! A snapshot becomes the one that counts by a single synced write of its head; those that are kept no longer
//! are deleted in the same write. One that is damaged gives way to the one before it. Called by the state machine.

use serde::{Deserialize, Serialize};

use super::{
    database::{Batch, Column, Database},
    log::LogStore,
};
use crate::{Error, raft::types::SnapshotMeta};

const HEAD: &[u8] = b"snapshot";
/// Heads of those before it, the oldest first.
const OLD: &[u8] = b"old-snapshots";
/// Bytes per record: large values would make the database's small buffers useless.
const CHUNK_BYTES: usize = 512 << 10;

/// Which chunks make up the snapshot that counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    meta: SnapshotMeta,
    /// Prefix of its chunks' keys; grows by one with each snapshot.
    number: u64,
    chunks: u64,
}

/// The snapshot that counts, if there is one.
pub(super) fn load(database: &Database) -> Result<Option<(SnapshotMeta, Vec<u8>)>, Error> {
    let Some(head) = load_head(database)? else { return Ok(None) };
    let mut data = Vec::new();
    for chunk in 0..head.chunks {
        let key = chunk_key(head.number, chunk);
        let missing = || database.damaged(Column::Snapshot, &key);
        data.append(&mut database.get(Column::Snapshot, &key)?.ok_or_else(missing)?);
    }
    Ok(Some((head.meta, data)))
}

/// The snapshot that counts. A damaged one gives way, for good, to the one before it if there is one and the log has all
/// between the two.
pub(super) fn load_or_fall_back(database: &Database, log: &LogStore) -> Result<Option<(SnapshotMeta, Vec<u8>)>, Error> {
    loop {
        match load(database) {
            Err(error) if error.is_damage() => {
                let Some(before) = fall_back(database, log)? else { return Err(error) };
                tracing::warn!(%error, snapshot = before, "going on from an older snapshot and the log after it");
            }
            result => return result,
        }
    }
}

/// Returns the name of the snapshot that counts from now on.
fn fall_back(database: &Database, log: &LogStore) -> Result<Option<String>, Error> {
    let mut old = load_old(database)?;
    let (Some(damaged), Some(head)) = (load_head(database)?, old.pop()) else { return Ok(None) };
    if !log.has_all_between(head.index(), damaged.index())? {
        return Ok(None);
    }
    let name = head.meta.snapshot_id.clone();
    let mut batch = database.batch();
    batch.put(Column::Meta, HEAD, proto::encode(&head));
    batch.put(Column::Meta, OLD, proto::encode(&old));
    // the next one takes the number of the damaged one
    batch.delete_range(Column::Snapshot, &chunk_key(head.number + 1, 0), &chunk_key(u64::MAX, 0));
    batch.write_synced(Column::Snapshot)?;
    Ok(Some(name))
}

/// The log entry up to which the oldest snapshot holds all, if there is one beside the newest.
pub(super) fn oldest_index(database: &Database) -> Result<Option<u64>, Error> {
    Ok(load_old(database)?.first().map(Head::index))
}

impl Head {
    fn index(&self) -> u64 {
        self.meta.last_log_id.map_or(0, |id| id.index)
    }
}

fn load_head(database: &Database) -> Result<Option<Head>, Error> {
    let Some(bytes) = database.get(Column::Meta, HEAD)? else { return Ok(None) };
    let head = proto::decode(&bytes).map_err(|e| database.format_error(Column::Meta, HEAD, &e))?;
    Ok(Some(head))
}

fn load_old(database: &Database) -> Result<Vec<Head>, Error> {
    let Some(bytes) = database.get(Column::Meta, OLD)? else { return Ok(Vec::new()) };
    proto::decode(&bytes).map_err(|e| database.format_error(Column::Meta, OLD, &e))
}

/// Makes `data` the snapshot that counts, and keeps so many of those before it.
pub(super) fn save(database: &Database, meta: &SnapshotMeta, data: &[u8], keep: u64) -> Result<(), Error> {
    save_with(database, meta, data, keep, |_| {})
}

/// The same, with what else is to change in the same step.
pub(super) fn save_with(
    database: &Database,
    meta: &SnapshotMeta,
    data: &[u8],
    keep: u64,
    more: impl FnOnce(&mut Batch<'_>),
) -> Result<(), Error> {
    let present = load_head(database)?;
    let number = present.as_ref().map_or(1, |head| head.number + 1);
    let mut chunks = 0;
    for chunk in data.chunks(CHUNK_BYTES) {
        database.put_unsynced(Column::Snapshot, &chunk_key(number, chunks), chunk.to_vec())?;
        chunks += 1;
    }
    let head = Head { meta: meta.clone(), number, chunks };
    let mut old = load_old(database)?;
    old.extend(present);
    let surplus = old.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    old.drain(..surplus);
    let oldest = old.first().map_or(number, |head| head.number);
    let mut batch = database.batch();
    batch.put(Column::Meta, HEAD, proto::encode(&head));
    batch.put(Column::Meta, OLD, proto::encode(&old));
    batch.delete_range(Column::Snapshot, &chunk_key(0, 0), &chunk_key(oldest, 0));
    more(&mut batch);
    // one log for all columns: syncing it syncs the chunks before it
    batch.write_synced(Column::Snapshot)
}

pub(super) fn chunk_key(number: u64, chunk: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}
