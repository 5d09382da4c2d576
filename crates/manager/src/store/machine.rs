//! The state machine: applies committed proposals to the value, in memory, and publishes it.
//!
//! Called by the consensus library. On disk the value is the newest snapshot plus the committed
//! log after it; the library replays the latter at start. It must never do I/O while applying.

use std::{io::Cursor, sync::Arc, time::Instant};

use control::Tables;
use openraft::{EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, storage::RaftStateMachine};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    database::Database,
    history::History,
    log::{LogStore, blocking},
    snapshot,
};
use crate::{
    Error,
    metrics::Metrics,
    raft::{
        receipts::Receipts,
        types::{
            Entry, LogId, Outcomes, Proposed, RaftId, Snapshot, SnapshotMeta, StorageError, StoredMembership,
            TypeConfig,
        },
    },
};

/// The applied state and where it stands.
#[derive(Clone)]
pub(crate) struct Machine {
    database: Database,
    tables: Tables,
    applied: Option<LogId>,
    membership: StoredMembership,
    publish: Arc<watch::Sender<Tables>>,
    receipts: Receipts,
    history: History,
    metrics: Metrics,
}

/// What a snapshot holds.
#[derive(Serialize, Deserialize)]
struct Content {
    tables: Tables,
}

impl Machine {
    /// The state of the newest snapshot on disk.
    pub(crate) fn load(database: Database, publish: watch::Sender<Tables>) -> Result<Self, Error> {
        let log = LogStore::new(database.clone());
        let (tables, applied, membership) = match snapshot::load_or_fall_back(&database, &log)? {
            Some((meta, data)) => (decode(&database, &data)?, meta.last_log_id, meta.last_membership),
            None => (Tables::default(), None, StoredMembership::default()),
        };
        publish.send_replace(tables.clone());
        let (publish, receipts, history) = (Arc::new(publish), Receipts::default(), History::default());
        let metrics = Metrics::default();
        Ok(Self { database, tables, applied, membership, publish, receipts, history, metrics })
    }

    /// Counts there what it does.
    pub(crate) fn counted_in(self, metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), ..self }
    }

    /// The states that follow the present one.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    fn apply_entry(&mut self, entry: Entry) -> Outcomes {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Outcomes::default(),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Outcomes::default()
            }
            EntryPayload::Normal(entries) => {
                let mut results = Vec::with_capacity(entries.proposals.len());
                for Proposed { proposal, receipt } in entries.proposals {
                    // Proposals that share an entry still need indexes of their own: versions and the
                    // journal are compared by them. All managers count alike, as snapshots carry the count.
                    let index = self.tables.index() + 1;
                    let result = self.tables.apply(index, &proposal);
                    if result.is_ok() {
                        self.history.push(self.tables.clone(), proposal.at);
                    }
                    if let (Ok(()), Some(receipt)) = (&result, receipt) {
                        self.receipts.applied(receipt);
                    }
                    results.push(result.map(|()| index));
                }
                Outcomes { results }
            }
        }
    }

    /// The value after all that is in the log, and where that ends. Nobody is told.
    pub(super) fn replayed(mut self, log: &LogStore) -> Result<(Tables, Option<LogId>), Error> {
        self.history = History::default();
        loop {
            let entries = log.read_from(self.applied.map_or(0, |id| id.index + 1))?;
            if entries.is_empty() {
                return Ok((self.tables, self.applied));
            }
            for entry in entries {
                self.apply_entry(entry);
            }
        }
    }

    async fn store_snapshot(&self, meta: SnapshotMeta, data: Vec<u8>) -> Result<Vec<u8>, StorageError> {
        let database = self.database.clone();
        let keep = self.tables.cluster().map_or(0, |cluster| cluster.spec.raft.keep_old_snapshots);
        let signature = Some(meta.signature());
        blocking(ErrorSubject::Snapshot(signature), ErrorVerb::Write, move || {
            snapshot::save(&database, &meta, &data, keep)?;
            Ok(data)
        })
        .await
    }
}

/// The value as bytes.
pub(super) fn encode(tables: Tables) -> Vec<u8> {
    proto::encode(&Content { tables })
}

/// The value of such bytes, from elsewhere than this disk.
pub(crate) fn decode_value(data: &[u8]) -> Result<Tables, Error> {
    let content: Content = proto::decode(data).map_err(|e| Error::Backup(e.to_string()))?;
    Ok(content.tables)
}

fn decode(database: &Database, data: &[u8]) -> Result<Tables, Error> {
    let content: Content =
        proto::decode(data).map_err(|e| database.format_error(super::database::Column::Snapshot, b"content", &e))?;
    Ok(content.tables)
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let outcomes = entries.into_iter().map(|entry| self.apply_entry(entry)).collect();
        self.publish.send_if_modified(|published| {
            let changed = published.index() != self.tables.index();
            if changed {
                *published = self.tables.clone();
            }
            changed
        });
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Box<Cursor<Vec<u8>>>) -> Result<(), StorageError> {
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        let database = self.database.clone();
        let data = self.store_snapshot(meta.clone(), data.into_inner()).await?;
        self.tables = blocking(subject, ErrorVerb::Read, move || decode(&database, &data)).await?;
        self.receipts.lose_track();
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish.send_replace(self.tables.clone());
        self.history.jump(self.tables.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let database = self.database.clone();
        let found = blocking(ErrorSubject::Snapshot(None), ErrorVerb::Read, move || snapshot::load(&database)).await?;
        Ok(found.map(|(meta, data)| Snapshot { meta, snapshot: Box::new(Cursor::new(data)) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let tables = self.tables.clone();
        let began = Instant::now();
        let data = blocking(ErrorSubject::StateMachine, ErrorVerb::Read, move || Ok(encode(tables))).await?;
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: snapshot_id(self.applied),
        };
        let data = self.store_snapshot(meta.clone(), data).await?;
        self.metrics.snapshots.observe(began.elapsed().as_secs_f64());
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}

pub(super) fn snapshot_id(applied: Option<openraft::LogId<RaftId>>) -> String {
    applied.map_or_else(|| "empty".to_owned(), |id| format!("{}-{}", id.leader_id, id.index))
}
