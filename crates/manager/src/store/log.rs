//! The Raft log, vote and commit mark on disk.
//!
//! Called by the consensus library only. Entries and the vote are acknowledged when they are synced,
//! never before.

use std::{fmt::Debug, io, ops::RangeBounds};

use openraft::{
    AnyError, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    database::{Batch, Column, Database},
    snapshot,
};
use crate::{
    Error,
    raft::types::{Entry, LogId, RaftId, StorageError, TypeConfig, Vote},
};

const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";

/// Bytes of entries (as stored) read for one append call: it must pass well within the call's
/// deadline. The first entry is read whatever its size.
const READ_BYTES: usize = 1 << 20;

/// A handle on the log; reader and writer are the same, as the database orders them.
#[derive(Clone)]
pub(crate) struct LogStore {
    database: Database,
    /// Bytes appended since the last purge, for compaction by size.
    appended: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl LogStore {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, appended: std::sync::Arc::default() }
    }

    /// Bytes of entries appended since this was last asked for.
    pub(crate) fn take_appended_bytes(&self) -> u64 {
        self.appended.swap(0, std::sync::atomic::Ordering::Relaxed)
    }

    fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        let Some(bytes) = self.database.get(Column::Meta, key)? else { return Ok(None) };
        let value = proto::decode(&bytes).map_err(|e| self.database.format_error(Column::Meta, key, &e))?;
        Ok(Some(value))
    }

    fn write_synced<T: Serialize>(&self, key: &[u8], value: &T) -> Result<(), Error> {
        let mut batch = self.database.batch();
        batch.put(Column::Meta, key, proto::encode(value));
        batch.write_synced(Column::Meta)
    }

    /// The entry up to which a snapshot beside the newest one holds all: from there on the log is needed too.
    pub(crate) fn needed_from(&self) -> Result<Option<u64>, Error> {
        snapshot::oldest_index(&self.database)
    }

    /// Whether all entries after `first` up to `last` are there.
    pub(super) fn has_all_between(&self, first: u64, last: u64) -> Result<bool, Error> {
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        Ok(index(self.read(PURGED)?) <= first && index(self.last_entry_id()?) >= last)
    }

    /// Some entries from this index on; none if the log ends before it.
    pub(super) fn read_from(&self, first: u64) -> Result<Vec<Entry>, Error> {
        self.read_range(first, u64::MAX, READ_BYTES)
    }

    /// The last term in which this manager voted.
    pub(super) fn voted_term(&self) -> Result<u64, Error> {
        let vote: Option<Vote> = self.read(VOTE)?;
        Ok(vote.map_or(0, |vote| vote.leader_id().get_term()))
    }

    fn append_synced(&self, entries: &[Entry]) -> Result<(), Error> {
        let mut batch = self.database.batch();
        let mut bytes = 0;
        for entry in entries {
            let encoded = proto::encode(entry);
            bytes += encoded.len() as u64;
            batch.put(Column::Log, &key(entry.log_id.index), encoded);
        }
        batch.write_synced(Column::Log)?;
        self.appended.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn read_range(&self, first: u64, end: u64, most_bytes: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        if first >= end {
            return Ok(entries);
        }
        self.database.scan(Column::Log, &key(first), |record, plain| {
            let entry = self.decode_entry(record, &plain)?;
            bytes += plain.len();
            let past_end = entry.log_id.index >= end;
            let too_much = bytes > most_bytes && !entries.is_empty();
            if past_end || too_much {
                return Ok(false);
            }
            entries.push(entry);
            Ok(true)
        })?;
        Ok(entries)
    }

    fn decode_entry(&self, record: &[u8], plain: &[u8]) -> Result<Entry, Error> {
        proto::decode(plain).map_err(|e| self.database.format_error(Column::Log, record, &e))
    }

    fn last_entry_id(&self) -> Result<Option<LogId>, Error> {
        let Some(plain) = self.database.last(Column::Log)? else { return Ok(None) };
        Ok(Some(self.decode_entry(b"last", &plain)?.log_id))
    }

    fn purge_to(&self, upto: LogId) -> Result<(), Error> {
        let mut batch = self.database.batch();
        batch.put(Column::Meta, PURGED, proto::encode(&upto));
        batch.delete_range(Column::Log, &key(0), &key(upto.index.saturating_add(1)));
        batch.write_synced(Column::Log)
    }

    fn truncate_from(&self, since: LogId) -> Result<(), Error> {
        let mut batch = self.database.batch();
        batch.delete_range(Column::Log, &key(since.index), &key(u64::MAX));
        batch.write_synced(Column::Log)
    }
}

/// An empty log, as if all up to `at` had been in it.
pub(super) fn begin_after(batch: &mut Batch<'_>, at: LogId, vote: Vote) {
    batch.put(Column::Meta, VOTE, proto::encode(&vote));
    batch.put(Column::Meta, COMMITTED, proto::encode(&Some(at)));
    batch.put(Column::Meta, PURGED, proto::encode(&at));
    batch.delete_range(Column::Log, &key(0), &key(u64::MAX));
}

/// Big-endian, so that the database sorts by index.
fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn storage_error(subject: ErrorSubject<RaftId>, verb: ErrorVerb, error: &Error) -> StorageError {
    tracing::error!(%error, "the replicated state cannot go on");
    StorageIOError::new(subject, verb, AnyError::new(error)).into()
}

/// Runs a disk operation away from the threads that serve connections.
pub(super) async fn blocking<T: Send + 'static>(
    subject: ErrorSubject<RaftId>,
    verb: ErrorVerb,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| storage_error(subject, verb, &error)),
        Err(stopped) => Err(StorageIOError::new(subject, verb, AnyError::new(&stopped)).into()),
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let (first, end) = bounds(&range);
        self.read_range(first, end, usize::MAX).map_err(|e| storage_error(ErrorSubject::Logs, ErrorVerb::Read, &e))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read_range(start, end, READ_BYTES).map_err(|e| storage_error(ErrorSubject::Logs, ErrorVerb::Read, &e))
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let first = match range.start_bound() {
        Included(first) => *first,
        Excluded(before) => before.saturating_add(1),
        Unbounded => 0,
    };
    let end = match range.end_bound() {
        Included(last) => last.saturating_add(1),
        Excluded(end) => *end,
        Unbounded => u64::MAX,
    };
    (first, end)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let read = || -> Result<_, Error> {
            let last_purged_log_id: Option<LogId> = self.read(PURGED)?;
            let last_log_id = self.last_entry_id()?.or(last_purged_log_id);
            Ok(LogState { last_purged_log_id, last_log_id })
        };
        read().map_err(|e| storage_error(ErrorSubject::Logs, ErrorVerb::Read, &e))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let (store, vote) = (self.clone(), *vote);
        blocking(ErrorSubject::Vote, ErrorVerb::Write, move || store.write_synced(VOTE, &vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.read(VOTE).map_err(|e| storage_error(ErrorSubject::Vote, ErrorVerb::Read, &e))
    }

    /// Not synced: after a crash an older mark only means that some entries are applied once they
    /// are known to be committed again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.database
            .put_unsynced(Column::Meta, COMMITTED, proto::encode(&committed))
            .map_err(|e| storage_error(ErrorSubject::Store, ErrorVerb::Write, &e))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let committed: Result<Option<Option<LogId>>, Error> = self.read(COMMITTED);
        committed.map(Option::flatten).map_err(|e| storage_error(ErrorSubject::Store, ErrorVerb::Read, &e))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let store = self.clone();
        let written = blocking(ErrorSubject::Logs, ErrorVerb::Write, move || store.append_synced(&entries)).await;
        match written {
            Ok(()) => callback.log_io_completed(Ok(())),
            Err(error) => {
                callback.log_io_completed(Err(io::Error::other(error.to_string())));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let store = self.clone();
        blocking(ErrorSubject::Log(log_id), ErrorVerb::Delete, move || store.truncate_from(log_id)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let store = self.clone();
        blocking(ErrorSubject::Log(log_id), ErrorVerb::Delete, move || store.purge_to(log_id)).await
    }
}
