//! A new root for the cluster, step by step (parity C-18): who renews a certificate next, and when the old root goes.
//!
//! The value alone says where a rotation stands: which roots there are, and what each node said of its certificate. So
//! a leader that is lost in the middle is no event here. Certificates are made elsewhere.

use std::collections::BTreeSet;

use types::{Cluster, JoinSecrets, Node, NodeDescription, NodeId, NodeState};

use crate::{Ids, Tables, admission::LEFT_MESSAGE};

/// Nodes that renew at the same time: their keys and signatures cost the managers a moment each, and a thousand at
/// once would be late with their heartbeats.
const AT_ONCE: usize = 30;

/// The nodes that are to renew their certificates now because of what roots there are.
pub fn renewing(tables: &Tables) -> BTreeSet<NodeId> {
    let Some(cluster) = tables.cluster() else { return BTreeSet::new() };
    // one that does not say what it has is no node of this version, and would not know what it is asked
    let says = |told: &NodeDescription| !told.tls_issuer_pem.is_empty() && !cluster.root_ca.is_followed_by(told);
    let late = tables.nodes().filter(|node| node.status.state == NodeState::Ready);
    late.filter(|node| node.description.as_ref().is_some_and(says)).map(|node| node.id).take(AT_ONCE).collect()
}

/// Whether a rotation waits for this node. It does for one that is down too: once the old root is gone such a node could not
/// show who it is. Not for one that has left: it has no certificate any more.
fn is_awaited(cluster: &Cluster, node: &Node) -> bool {
    let has_left = node.status.state == NodeState::Down && node.status.message == LEFT_MESSAGE;
    !has_left && !node.description.as_ref().is_some_and(|told| cluster.root_ca.is_followed_by(told))
}

/// The cluster once the new root has taken the old one's place; `None` while it has not come to that. Join tokens are new
/// with it: those of the old root may be in the same hands as its key.
pub(crate) fn finished(tables: &Tables, ids: Ids<'_>) -> Option<Cluster> {
    let cluster = tables.cluster()?;
    let next = cluster.root_ca.rotation.as_ref()?;
    if tables.nodes().any(|node| is_awaited(cluster, node)) {
        return None;
    }
    let mut finished = (**cluster).clone();
    finished.root_ca = types::RootCa::new(&*next.certificate_pem, &*next.key_pem);
    finished.join = JoinSecrets { worker: ids().to_be_bytes(), manager: ids().to_be_bytes() };
    Some(finished)
}
