//! What tasks use, from the nodes that hold their session here (P38).
//!
//! Nodes measure when they are asked, and nothing is kept but for who asks at the same moment: a number that is told is
//! as fresh as the question. A request goes down a node's session, its answer comes up by a call of its own.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use proto::v1::{ManagerMessage, UsageReport, manager_message};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tonic::Status;
use types::{HeldUsage, NodeId, NodeUsage};

use super::{Hub, hub::Handle};

/// For a node to measure all its tasks; a thousand take some hundred milliseconds.
const NODE_PATIENCE: Duration = Duration::from_secs(2);
/// Who asks so soon after another gets the same answer, so that many who watch cost the nodes what one does.
const SHARED_FOR: Duration = Duration::from_millis(300);

#[derive(Clone)]
pub(crate) struct UsageBroker {
    hub: Hub,
    waiting: Arc<Mutex<HashMap<u64, Waiting>>>,
    next_id: Arc<AtomicU64>,
    /// Held while nodes are asked.
    last: Arc<tokio::sync::Mutex<Option<(Instant, HeldUsage)>>>,
}

/// A request whose answer is awaited.
struct Waiting {
    node: NodeId,
    answer: oneshot::Sender<NodeUsage>,
}

impl UsageBroker {
    pub(crate) fn new(hub: Hub) -> Self {
        // ids of an earlier life of this manager must not meet those of this one
        let first = crate::random::u128() as u64 >> 16;
        Self { hub, waiting: Arc::default(), next_id: Arc::new(AtomicU64::new(first)), last: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the tasks of these nodes use now.
    pub(crate) async fn held(&self) -> HeldUsage {
        let mut last = self.last.lock().await;
        if let Some((at, held)) = &*last
            && at.elapsed() < SHARED_FOR
        {
            return held.clone();
        }
        let asked: FuturesUnordered<_> = self.hub.all().into_iter().map(|session| self.ask(session)).collect();
        let mut held = HeldUsage::default();
        for (node, answer) in asked.collect::<Vec<_>>().await {
            match answer {
                Some(usage) => held.nodes.push(usage),
                None => held.silent.push(node),
            }
        }
        *last = Some((Instant::now(), held.clone()));
        held
    }

    async fn ask(&self, session: Arc<Handle>) -> (NodeId, Option<NodeUsage>) {
        let (id, node) = (self.next_id.fetch_add(1, Ordering::Relaxed), session.node);
        let (answer, answered) = oneshot::channel();
        self.lock().insert(id, Waiting { node, answer });
        // whoever stops waiting leaves nothing behind
        let forget = Forget { broker: self, id };
        let request = ManagerMessage { message: Some(manager_message::Message::UsageRequest(id)) };
        let answer = match session.requests.try_send(request) {
            Ok(()) => timeout(NODE_PATIENCE, answered).await.ok().and_then(Result::ok),
            // a full queue means a session that does not move
            Err(_) => None,
        };
        drop(forget);
        (node, answer)
    }

    /// Takes a node's answer.
    pub(crate) fn publish(&self, node: NodeId, report: &UsageReport) -> Result<(), Status> {
        let usage: NodeUsage = proto::decode(&report.node_usage)?;
        let is_its_own = self.lock().get(&report.id).is_some_and(|waiting| waiting.node == node);
        if usage.node != node {
            return Err(Status::invalid_argument(format!("node {node} told what node {} uses", usage.node)));
        }
        // one that comes too late is of no use to anybody
        if is_its_own && let Some(waiting) = self.lock().remove(&report.id) {
            let _ = waiting.answer.send(usage);
        }
        Ok(())
    }
}

struct Forget<'a> {
    broker: &'a UsageBroker,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.broker.lock().remove(&self.id);
    }
}
