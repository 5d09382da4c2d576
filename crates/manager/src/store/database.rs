//! The RocksDB database under a manager: columns, options, sealed reads and writes.
//!
//! Used by the log, the state machine and the snapshots. The only module that names `rocksdb`
//! beside the errors. Whatever must survive a crash goes through [`Database::write_synced`].

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use identity::Vault;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, Direction, IteratorMode,
    Options, WriteBatch, WriteOptions,
};

use super::cipher::Cipher;
use crate::Error;

/// Small on purpose: the whole daemon has a budget of 40 MiB when idle, and the applied state is
/// in memory anyway, so that nothing is read twice from disk.
const WRITE_BUFFER_BYTES: usize = 2 << 20;
const BLOCK_CACHE_BYTES: usize = 2 << 20;
const MAX_OPEN_FILES: i32 = 64;
/// RocksDB's own text log; two files of this size are kept.
const TEXT_LOG_BYTES: usize = 256 << 10;
/// Write-ahead log kept before a column is written out although its buffer is not full.
const MAX_WAL_BYTES: u64 = 16 << 20;

/// The last handle of a manager that stopped in this process is gone a moment before the database lets its directory go.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// The columns. Names are part of the format on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Vote, committed index, owner, which snapshot counts.
    Meta,
    /// Log entries by index, big-endian.
    Log,
    /// Chunks of snapshots, by snapshot number and chunk number, big-endian.
    Snapshot,
}

impl Column {
    const ALL: [Self; 3] = [Self::Meta, Self::Log, Self::Snapshot];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Log => "log",
            Self::Snapshot => "snapshot",
        }
    }
}

/// A cheap handle on the open database.
#[derive(Clone)]
pub(crate) struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    cipher: Cipher,
    path: PathBuf,
}

/// Tells when the last handle on a database is gone, and with it the lock on its directory.
pub(crate) struct Closing(Weak<Inner>);

impl Closing {
    /// Of no database.
    pub(crate) fn none() -> Self {
        Self(Weak::new())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Changes that reach the disk together or not at all.
pub(crate) struct Batch<'a> {
    database: &'a Database,
    batch: WriteBatch,
}

impl Database {
    /// Opens the database in `directory`, or makes it there.
    pub(crate) fn open(directory: &Path, vault: &Vault) -> Result<Self, Error> {
        let path = directory.join("db");
        let fresh = !path.join("CURRENT").exists();
        std::fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        private(directory)?;
        let cipher = Cipher::open(vault, fresh)?;
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let end = Instant::now() + RELEASE_PATIENCE;
        let db = loop {
            let columns = Column::ALL.map(|c| ColumnFamilyDescriptor::new(c.name(), column_options(&cache)));
            match DB::open_cf_descriptors(&database_options(), &path, columns) {
                Ok(db) => break db,
                Err(error) if is_held_here(&error) && Instant::now() < end => std::thread::sleep(RELEASE_PAUSE),
                Err(source) => return Err(Error::Open { path, source }),
            }
        };
        Ok(Self { inner: Arc::new(Inner { db, cipher, path }) })
    }

    pub(crate) fn closing(&self) -> Closing {
        Closing(Arc::downgrade(&self.inner))
    }

    pub(crate) fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let sealed = self.inner.db.get_pinned_cf(self.handle(column), key).map_err(|e| self.read_error(column, e))?;
        sealed.map(|sealed| self.unseal(column, key, &sealed)).transpose()
    }

    /// Records from `first` on, in order of their keys, until `take` says no.
    pub(crate) fn scan(
        &self,
        column: Column,
        first: &[u8],
        mut take: impl FnMut(&[u8], Vec<u8>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mode = IteratorMode::From(first, Direction::Forward);
        for record in self.inner.db.iterator_cf(self.handle(column), mode) {
            let (key, sealed) = record.map_err(|e| self.read_error(column, e))?;
            let plain = self.unseal(column, &key, &sealed)?;
            if !take(&key, plain)? {
                break;
            }
        }
        Ok(())
    }

    /// The record with the greatest key.
    pub(crate) fn last(&self, column: Column) -> Result<Option<Vec<u8>>, Error> {
        let Some(record) = self.inner.db.iterator_cf(self.handle(column), IteratorMode::End).next() else {
            return Ok(None);
        };
        let (key, sealed) = record.map_err(|e| self.read_error(column, e))?;
        self.unseal(column, &key, &sealed).map(Some)
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { database: self, batch: WriteBatch::default() }
    }

    /// One record of the kind that may be lost in a crash.
    pub(crate) fn put_unsynced(&self, column: Column, key: &[u8], plain: Vec<u8>) -> Result<(), Error> {
        let mut batch = self.batch();
        batch.put(column, key, plain);
        batch.write(column, false)
    }

    fn handle(&self, column: Column) -> &ColumnFamily {
        self.inner.db.cf_handle(column.name()).expect("all columns are made when the database is opened")
    }

    fn unseal(&self, column: Column, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.inner.cipher.unseal(&place(column, key), sealed).ok_or_else(|| self.damaged(column, key))
    }

    /// Of a record that is not what was written, or not there although it must be.
    pub(crate) fn damaged(&self, column: Column, key: &[u8]) -> Error {
        Error::Damaged { path: self.inner.path.clone(), column: column.name(), record: record_name(key) }
    }

    fn read_error(&self, column: Column, source: rocksdb::Error) -> Error {
        Error::Read { path: self.inner.path.clone(), column: column.name(), source }
    }

    /// A record that was opened but holds something else than it should.
    pub(crate) fn format_error(&self, column: Column, key: &[u8], reason: &impl ToString) -> Error {
        Error::Format {
            path: self.inner.path.clone(),
            column: column.name(),
            record: record_name(key),
            reason: reason.to_string(),
        }
    }
}

impl Batch<'_> {
    pub(crate) fn put(&mut self, column: Column, key: &[u8], plain: Vec<u8>) {
        let inner = &self.database.inner;
        let sealed = inner.cipher.seal(&place(column, key), plain);
        self.batch.put_cf(self.database.handle(column), key, sealed);
    }

    /// Records with keys from `first` to before `end`.
    pub(crate) fn delete_range(&mut self, column: Column, first: &[u8], end: &[u8]) {
        self.batch.delete_range_cf(self.database.handle(column), first, end);
    }

    /// Writes and waits until the disk has it.
    pub(crate) fn write_synced(self, what: Column) -> Result<(), Error> {
        self.write(what, true)
    }

    fn write(self, what: Column, synced: bool) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.set_sync(synced);
        let inner = &self.database.inner;
        inner.db.write_opt(self.batch, &options).map_err(|source| Error::Write {
            path: inner.path.clone(),
            column: what.name(),
            source,
        })
    }
}

/// Another process would be a daemon that runs: for that nobody waits.
fn is_held_here(error: &rocksdb::Error) -> bool {
    error.as_ref().contains("lock hold by current process")
}

fn private(directory: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
        .map_err(Error::file("restrict access to", directory))
}

/// What a sealed record is bound to.
fn place(column: Column, key: &[u8]) -> Vec<u8> {
    let mut place = column.name().as_bytes().to_vec();
    place.push(b'/');
    place.extend_from_slice(key);
    place
}

fn record_name(key: &[u8]) -> String {
    match <[u8; 8]>::try_from(key) {
        Ok(index) if index[0] == 0 => u64::from_be_bytes(index).to_string(),
        _ => String::from_utf8_lossy(key).into_owned(),
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_open_files(MAX_OPEN_FILES);
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(TEXT_LOG_BYTES);
    // a write cut off by a crash was never acknowledged; any other damage must be reported, not skipped
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options
}

fn column_options(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_arena_block_size(64 << 10);
    options
}
