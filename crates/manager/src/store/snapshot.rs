//! The newest snapshot on disk, in sealed chunks.
//!
//! A snapshot becomes the one that counts by a single synced write of its head; the one before it
//! is deleted in the same write. Called by the state machine.

use serde::{Deserialize, Serialize};

use super::database::{Batch, Column, Database};
use crate::{Error, raft::types::SnapshotMeta};

const HEAD: &[u8] = b"snapshot";
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
        let missing = || database.format_error(Column::Snapshot, &key, &"the chunk is missing");
        data.append(&mut database.get(Column::Snapshot, &key)?.ok_or_else(missing)?);
    }
    Ok(Some((head.meta, data)))
}

fn load_head(database: &Database) -> Result<Option<Head>, Error> {
    let Some(bytes) = database.get(Column::Meta, HEAD)? else { return Ok(None) };
    let head = proto::decode(&bytes).map_err(|e| database.format_error(Column::Meta, HEAD, &e))?;
    Ok(Some(head))
}

/// Makes `data` the snapshot that counts.
pub(super) fn save(database: &Database, meta: &SnapshotMeta, data: &[u8]) -> Result<(), Error> {
    save_with(database, meta, data, |_| {})
}

/// The same, with what else is to change in the same step.
pub(super) fn save_with(
    database: &Database,
    meta: &SnapshotMeta,
    data: &[u8],
    more: impl FnOnce(&mut Batch<'_>),
) -> Result<(), Error> {
    let number = load_head(database)?.map_or(1, |head| head.number + 1);
    let mut chunks = 0;
    for chunk in data.chunks(CHUNK_BYTES) {
        database.put_unsynced(Column::Snapshot, &chunk_key(number, chunks), chunk.to_vec())?;
        chunks += 1;
    }
    let head = Head { meta: meta.clone(), number, chunks };
    let mut batch = database.batch();
    batch.put(Column::Meta, HEAD, proto::encode(&head));
    batch.delete_range(Column::Snapshot, &chunk_key(0, 0), &chunk_key(number, 0));
    more(&mut batch);
    // one log for all columns: syncing it syncs the chunks before it
    batch.write_synced(Column::Snapshot)
}

fn chunk_key(number: u64, chunk: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}
