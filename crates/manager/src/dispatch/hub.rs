//! Which nodes hold their session here, and how to wake them.
//!
//! Shared by the session service, the logs and the loop that follows the value. Holds no decision.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use control::{Tables, Touched, roots};
use proto::v1::ManagerMessage;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use types::{NetworkId, NodeId};

use crate::Error;

/// Messages that other parts (logs) may have waiting for one session.
const MAX_REQUESTS: usize = 64;

#[derive(Clone, Default)]
pub(crate) struct Hub {
    sessions: Arc<Mutex<HashMap<NodeId, Arc<Handle>>>>,
    renewing: Arc<Mutex<Renewing>>,
}

/// Whose turn it is to renew a certificate because of the roots there are. Worked out once for all sessions.
#[derive(Clone, Default)]
struct Renewing {
    trust: Option<[u8; 32]>,
    nodes: BTreeSet<NodeId>,
}

/// What others may do with a session.
pub(crate) struct Handle {
    pub(crate) node: NodeId,
    /// The node's slice of the value, its role or the list of managers may have changed.
    pub(crate) dirty: Notify,
    /// Ends the session: another one of the same node came.
    pub(crate) replaced: CancellationToken,
    /// Task reports of this session that are committed.
    pub(crate) committed: watch::Sender<u64>,
    pub(crate) requests: mpsc::Sender<ManagerMessage>,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Handle>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a session; an earlier one of the same node ends.
    pub(crate) fn enter(&self, node: NodeId) -> (Arc<Handle>, mpsc::Receiver<ManagerMessage>) {
        let (requests, asked) = mpsc::channel(MAX_REQUESTS);
        let handle = Arc::new(Handle {
            node,
            dirty: Notify::new(),
            replaced: CancellationToken::new(),
            committed: watch::channel(0).0,
            requests,
        });
        if let Some(earlier) = self.lock().insert(node, handle.clone()) {
            earlier.replaced.cancel();
        }
        (handle, asked)
    }

    /// Removes a session, unless it has been replaced. True if it was removed.
    pub(crate) fn leave(&self, handle: &Arc<Handle>) -> bool {
        let mut sessions = self.lock();
        let own = sessions.get(&handle.node).is_some_and(|present| Arc::ptr_eq(present, handle));
        if own {
            sessions.remove(&handle.node);
        }
        own
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<Arc<Handle>> {
        self.lock().get(&node).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The roots that nodes are to trust, and whether it is this node's turn to see to that.
    pub(crate) fn trust(&self, node: NodeId) -> Option<([u8; 32], bool)> {
        let renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        renewing.trust.map(|trust| (trust, renewing.nodes.contains(&node)))
    }

    fn take_turns(&self, tables: &Tables) {
        let trust = tables.cluster().map(|cluster| identity::trust_digest(&cluster.root_ca.roots_pem()));
        let turns = Renewing { trust, nodes: roots::renewing(tables) };
        *self.renewing.lock().unwrap_or_else(PoisonError::into_inner) = turns;
    }

    fn wake(&self, node: NodeId) {
        if let Some(handle) = self.lock().get(&node) {
            handle.dirty.notify_one();
        }
    }

    fn wake_all(&self) {
        for handle in self.lock().values() {
            handle.dirty.notify_one();
        }
    }

    /// Wakes the nodes whose tasks changed, and those that share a network with what did.
    fn follow(&self, tables: &Tables, touched: &Touched) {
        // a network that any container may join is every node's, and so is all that is in the ingress network
        let everybodys =
            |id: &NetworkId| tables.network(*id).is_none_or(|network| network.spec.attachable || network.spec.ingress);
        let mesh = tables.ingress().is_some_and(|network| touched.overlays.contains(&network.id));
        if mesh || touched.networks.iter().any(everybodys) {
            return self.wake_all();
        }
        let mut nodes = touched.node_tasks.clone();
        nodes.extend(touched.overlays.iter().flat_map(|id| tables.nodes_of_network(*id)));
        nodes.into_iter().for_each(|node| self.wake(node));
    }

    /// Follows the value and wakes the sessions that a change touches. Runs as long as the manager.
    pub(crate) async fn run(self, mut tables: watch::Receiver<Tables>) -> Result<(), Error> {
        let mut seen = 0;
        self.take_turns(&tables.borrow().clone());
        while tables.changed().await.is_ok() {
            let now = tables.borrow_and_update().clone();
            let touched = now.touched_since(seen);
            seen = now.index();
            match touched {
                // a node that comes, goes or moves changes whom its neighbours probe
                Some(touched) if !touched.cluster && touched.nodes.is_empty() => {
                    self.follow(&now, &touched);
                }
                _ => {
                    self.take_turns(&now);
                    self.wake_all();
                }
            }
        }
        Ok(())
    }
}
