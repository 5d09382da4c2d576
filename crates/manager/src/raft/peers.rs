//! Where the other managers are, and channels to them.
//!
//! An address is an attribute of a manager, not its name: the newest one in the value wins over the
//! one in Raft's membership entries, so a manager may move. Used by all code that calls managers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use control::Tables;
use identity::NodeIdentity;
use tokio::sync::watch;
use tonic::transport::Channel;
use types::{ManagerPeer, NodeId};

use super::types::{Member, RaftId};

/// Channels kept open: more than the managers a cluster may have, so old addresses do not pile up.
const MAX_CHANNELS: usize = 16;

#[derive(Clone)]
pub(crate) struct Peers {
    identity: NodeIdentity,
    tables: watch::Receiver<Tables>,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
    /// When each member last answered; filled by the leader's replication, which calls every heartbeat.
    answered: Arc<Mutex<HashMap<RaftId, Instant>>>,
}

impl Peers {
    pub(crate) fn new(identity: NodeIdentity, tables: watch::Receiver<Tables>) -> Self {
        Self { identity, tables, channels: Arc::default(), answered: Arc::default() }
    }

    /// A channel to `host:port` that connects when used and is shared by all callers.
    pub(crate) fn channel(&self, address: &str) -> Channel {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.len() >= MAX_CHANNELS && !channels.contains_key(address) {
            channels.clear();
        }
        let open = || {
            let identity = self.identity.clone();
            proto::transport::channel(address, move |address| identity.clone().connect(address))
        };
        channels.entry(address.to_owned()).or_insert_with(open).clone()
    }

    pub(super) fn note_answer(&self, id: RaftId) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.insert(id, Instant::now());
    }

    /// The members that answered within this time. Says something on the leader only.
    pub(crate) fn heard_within(&self, time: Duration) -> BTreeSet<RaftId> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.iter().filter(|(_, at)| at.elapsed() <= time).map(|(id, _)| *id).collect()
    }

    /// Where a member of the Raft group is reached now.
    pub(crate) fn address_of(&self, id: RaftId, member: &Member) -> String {
        let tables = self.tables.borrow();
        let node = member.node_id().and_then(|node| tables.node(node));
        match node.and_then(|node| node.raft.as_ref()) {
            Some(raft) if raft.raft_id == id => raft.address.clone(),
            _ => member.address.clone(),
        }
    }

    /// The manager with this node id, if it is in the Raft group.
    pub(crate) fn address_of_node(&self, node: NodeId) -> Option<String> {
        self.tables.borrow().node(node)?.raft.as_ref().map(|raft| raft.address.clone())
    }
}

/// All managers that nodes may turn to, in the order of their ids.
pub(crate) fn managers(tables: &Tables) -> Vec<ManagerPeer> {
    let peer = |node: &Arc<types::Node>| {
        node.raft.as_ref().map(|raft| ManagerPeer { node: node.id, address: raft.address.clone() })
    };
    tables.nodes().filter_map(peer).collect()
}
