//! Log lines from the nodes that hold their session here (P20).
//!
//! A request goes down a node's session, its lines come up a stream of their own. Every wait is
//! bounded, and whatever is missing is said in a warning instead of holding up the rest.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use proto::v1::{
    HeldNodes, LogBatch, LogOptions, LogRequest, ManagerMessage, NodeLogsCall, NodeLogsEvent, NodeTasks,
    manager_message, node_logs_event::Event,
};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Status, Streaming};
use types::NodeId;

use super::{Hub, hub::Handle};

/// Batches that may wait for a slow reader; then the node waits.
const MAX_BATCHES: usize = 16;
/// For a node to begin to answer.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Between two batches when the node only reads what is there.
const NEXT_BATCH: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct LogBroker {
    hub: Hub,
    requests: Arc<Mutex<HashMap<u64, Request>>>,
    next_id: Arc<AtomicU64>,
}

/// A request whose lines are awaited.
struct Request {
    node: NodeId,
    lines: mpsc::Sender<LogBatch>,
}

/// The reading side of one request. Cancels it at the node when dropped.
struct Tail {
    broker: LogBroker,
    id: u64,
    session: Arc<Handle>,
    lines: mpsc::Receiver<LogBatch>,
    follow: bool,
    answered: bool,
    ended: bool,
}

impl LogBroker {
    pub(crate) fn new(hub: Hub) -> Self {
        // ids of an earlier life of this manager must not meet those of this one
        let first = crate::random::u128() as u64 >> 16;
        Self { hub, requests: Arc::default(), next_id: Arc::new(AtomicU64::new(first)) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines of those of the nodes that hold their session here; first, which these are.
    pub(crate) fn node_logs(&self, call: NodeLogsCall) -> Result<impl Stream<Item = NodeLogsEvent> + use<>, Status> {
        let options = call.options.unwrap_or_default();
        let mut held = Vec::new();
        let mut tails = Vec::new();
        for NodeTasks { node, tasks } in call.nodes {
            let id: NodeId = node.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
            if let Some(session) = self.hub.get(id) {
                held.push(node);
                tails.push(self.request(session, tasks, options));
            }
        }
        let first = NodeLogsEvent { event: Some(Event::Held(HeldNodes { nodes: held })) };
        let tails = tails.into_iter().map(|tail| stream::unfold(tail, Tail::step).flat_map(stream::iter).boxed());
        Ok(stream::once(async { first }).chain(stream::select_all(tails)))
    }

    fn request(&self, session: Arc<Handle>, tasks: Vec<String>, options: LogOptions) -> Tail {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (lines, received) = mpsc::channel(MAX_BATCHES);
        self.lock().insert(id, Request { node: session.node, lines });
        let request = manager_message::Message::LogRequest(LogRequest { id, tasks, options: Some(options) });
        // a full queue means a session that does not move: no answer will come, and the tail says so
        let _ = session.requests.try_send(ManagerMessage { message: Some(request) });
        let (broker, follow) = (self.clone(), options.follow);
        Tail { broker, id, session, lines: received, follow, answered: false, ended: false }
    }

    /// Takes the lines that a node sends for one request.
    pub(crate) async fn publish(&self, node: NodeId, mut batches: Streaming<LogBatch>) -> Result<(), Status> {
        let mut served = None;
        let result = self.forward(node, &mut batches, &mut served).await;
        if let Some(id) = served {
            self.lock().remove(&id);
        }
        result
    }

    async fn forward(
        &self,
        node: NodeId,
        batches: &mut Streaming<LogBatch>,
        served: &mut Option<u64>,
    ) -> Result<(), Status> {
        while let Some(batch) = batches.message().await? {
            let lines = match self.lock().get(&batch.id) {
                Some(request) if request.node == node => request.lines.clone(),
                // nobody reads any more, or it was never asked of this node
                _ => return Ok(()),
            };
            *served = Some(batch.id);
            if lines.send(batch).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Tail {
    /// The events of the next batch; `None` at the end.
    async fn step(mut self) -> Option<(Vec<NodeLogsEvent>, Self)> {
        if self.ended {
            return None;
        }
        let patience = match (self.answered, self.follow) {
            (false, _) => FIRST_ANSWER,
            (true, false) => NEXT_BATCH,
            (true, true) => Duration::MAX,
        };
        let received = timeout(patience, self.lines.recv()).await;
        let Ok(received) = received else {
            self.ended = true;
            let text = format!(
                "node {} did not answer within {} s: its lines are missing or not complete",
                self.session.node,
                patience.as_secs()
            );
            return Some((vec![warning(text)], self));
        };
        let batch = received?;
        self.answered = true;
        let mut events: Vec<_> =
            batch.lines.into_iter().map(|line| NodeLogsEvent { event: Some(Event::Line(line)) }).collect();
        if !batch.warning.is_empty() {
            events.push(warning(batch.warning));
        }
        Some((events, self))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.broker.lock().remove(&self.id);
        let cancel = ManagerMessage { message: Some(manager_message::Message::LogCancel(self.id)) };
        // best effort: a node also stops when its stream is no longer taken
        let _ = self.session.requests.try_send(cancel);
    }
}

fn warning(text: String) -> NodeLogsEvent {
    NodeLogsEvent { event: Some(Event::Warning(text)) }
}
