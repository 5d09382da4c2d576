//! A manager that goes on alone: from its own disk when the others are gone for good, or from a backup on another host
//! (parity C-08, C-42).
//!
//! Called by the daemon while no manager of this host runs. Until the one write of `store::seed` nothing is changed.

use control::{Tables, admission};
use types::{Cluster, Node, NodeRole, RaftMember};

use crate::{
    Config, Error, Manager,
    manager::{BOOTSTRAP_PATIENCE, advertised, remove},
    raft::types::RaftId,
    rpc::server,
    store::{self, Owner, Position, Store},
    wiring,
};

/// What was in a backup.
pub struct BackedUp(Tables);

impl BackedUp {
    /// # Errors
    /// When it was written by a version that does not agree with this one, or holds no cluster.
    pub fn decode(content: &[u8]) -> Result<Self, Error> {
        let tables = store::decode_value(content)?;
        tables.cluster().ok_or_else(|| Error::Backup("it holds no cluster".to_owned()))?;
        Ok(Self(tables))
    }

    pub fn cluster(&self) -> &Cluster {
        self.0.cluster().expect("looked at when it was decoded")
    }
}

impl Manager {
    /// The manager of this disk, with all that it has, as the only one of the cluster.
    ///
    /// # Errors
    /// As [`Manager::open`]; then the disk is as it was.
    pub async fn open_alone(config: Config) -> Result<Self, Error> {
        let directory = config.raft_directory();
        if !Self::exists(&config) {
            return Err(Error::Empty { path: directory });
        }
        let store = Store::open(&config.vault)?;
        let owner = store.owner()?.ok_or_else(|| Error::Empty { path: directory.clone() })?;
        owner.check(config.identity.cluster(), config.identity.node(), &directory)?;
        let listener = server::listen(config.listen).await?;
        let (tables, after) = store.read_to_the_end()?;
        tables.cluster().ok_or(Error::NoValue)?;
        Box::pin(Self::alone(config, listener, store, (tables, after), None)).await
    }

    /// The first manager of a cluster that was backed up; `first` is this host's node in it.
    ///
    /// # Errors
    /// When there is replicated state already, when port or disk cannot be used. Nothing stays behind.
    pub async fn restore(config: Config, from: BackedUp, first: Node) -> Result<Self, Error> {
        let directory = config.raft_directory();
        let listener = server::listen(config.listen).await?;
        let store = Store::open(&config.vault)?;
        if store.owner()?.is_some() {
            return Err(Error::NotEmpty { path: directory });
        }
        let value = (from.0, Position::default());
        let result = Box::pin(Self::alone(config, listener, store, value, Some(first))).await;
        if result.is_err() {
            remove(&directory)?;
        }
        result
    }

    async fn alone(
        config: Config,
        listener: tokio::net::TcpListener,
        store: Store,
        (mut tables, after): (Tables, Position),
        first: Option<Node>,
    ) -> Result<Self, Error> {
        let address = advertised(&config, &listener)?;
        // a number that nobody knows: managers that come back speak to the one before, and are not heard
        let raft_id: RaftId = (crate::random::u128() as u64).max(1);
        let owner = Owner { cluster: config.identity.cluster(), node: config.identity.node(), raft_id };
        let raft = RaftMember { raft_id, address: address.clone() };
        let proposal = admission::sole_manager(&tables, owner.node, raft, first, (config.clock)());
        let applied = tables.apply(tables.index() + 1, &proposal);
        applied.map_err(|refused| Error::Bootstrap(refused.to_string()))?;
        let lost = tables.nodes().filter(|node| node.role == NodeRole::Worker).count();
        store.seed(&owner, &address, tables, after)?;
        tracing::warn!(workers = lost, "this manager is the only one of its cluster now");
        let store = Store::open(&config.vault)?;
        let parts = wiring::start(&config, listener, store, owner).await?;
        let manager = Self { config, parts };
        let leads =
            manager.parts.consensus.raft().wait(Some(BOOTSTRAP_PATIENCE)).current_leader(raft_id, "alone").await;
        match leads {
            Ok(_) => Ok(manager),
            Err(error) => {
                manager.abort().await;
                Err(Error::Bootstrap(format!("this manager did not become leader: {error}")))
            }
        }
    }
}
