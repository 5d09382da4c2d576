//! Replicated state on disk and in memory: log, vote, snapshots, and the value made from them.
//!
//! Opened by `manager`; the consensus library drives it. Everything on disk is sealed. The value is
//! published through a `watch` channel, of which a reader clones a consistent state in O(1).

mod cipher;
mod database;
mod history;
mod log;
mod machine;
mod owner;
mod seed;
mod snapshot;
#[cfg(test)]
mod tests;

use control::Tables;
use identity::Vault;
use tokio::sync::watch;

use crate::{Error, config::RAFT_DIRECTORY};
pub(crate) use database::Closing;
use database::Database;
pub(crate) use history::{History, Step};
pub(crate) use log::LogStore;
pub(crate) use machine::Machine;
pub(crate) use machine::decode_value;
pub(crate) use owner::Owner;
pub(crate) use seed::Position;

/// The parts of an open store.
pub(crate) struct Store {
    pub(crate) log: LogStore,
    pub(crate) machine: Machine,
    pub(crate) tables: watch::Receiver<Tables>,
    database: Database,
}

impl Store {
    /// Opens the store beside the vault's files, or makes an empty one.
    pub(crate) fn open(vault: &Vault) -> Result<Self, Error> {
        let directory = vault.directory().join(RAFT_DIRECTORY);
        std::fs::create_dir_all(&directory).map_err(Error::file("create", &directory))?;
        let database = Database::open(&directory, vault)?;
        let (publish, tables) = watch::channel(Tables::default());
        let machine = Machine::load(database.clone(), publish)?;
        Ok(Self { log: LogStore::new(database.clone()), machine, tables, database })
    }

    /// Whom the store belongs to; `None` if it is new.
    pub(crate) fn owner(&self) -> Result<Option<Owner>, Error> {
        owner::load(&self.database)
    }

    pub(crate) fn closing(&self) -> Closing {
        self.database.closing()
    }

    /// What a backup holds of this value.
    pub(crate) fn encode(tables: Tables) -> Vec<u8> {
        machine::encode(tables)
    }

    /// Writes down whom the store belongs to, before anything else is in it.
    pub(crate) fn set_owner(&self, owner: &Owner) -> Result<(), Error> {
        owner::save(&self.database, owner)
    }
}
