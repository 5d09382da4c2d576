//! Log lines of a service from all nodes, through whichever managers hold their sessions (P20).

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use control::Tables;
use futures::{Stream, StreamExt, future, stream};
use proto::v1::{
    LogOptions, LogsCall, LogsEvent, NodeLogsCall, NodeLogsEvent, NodeTasks, logs_event::Event,
    node_logs_event::Event as NodeEvent,
};
use tokio::sync::watch;
use tonic::Status;
use types::{ManagerPeer, NodeId, TaskState};

use super::cluster::tasks_by_node;
use crate::{
    dispatch::logs::LogBroker,
    raft::{Consensus, peers},
};

/// For a manager to say which nodes it holds.
const MANAGER_PATIENCE: Duration = Duration::from_secs(4);

type Events = stream::BoxStream<'static, LogsEvent>;
type NodeEvents = stream::BoxStream<'static, NodeLogsEvent>;

/// All lines, and a warning for whatever is missing. When following a service, tasks that start
/// later are added.
pub(super) async fn collect(
    consensus: &Consensus,
    logs: &LogBroker,
    call: LogsCall,
) -> Result<impl Stream<Item = Result<LogsEvent, Status>> + Send + use<>, Status> {
    let wanted = tasks_by_node(&consensus.tables(), &call)?;
    let follow = call.options.is_some_and(|options| options.follow) && call.task.is_empty();
    let asked = wanted.iter().flat_map(|(_, tasks)| tasks.iter().cloned()).collect();
    let sources = open(consensus, logs, wanted, call.options).await?;
    let lines = stream::select_all(sources);
    if !follow {
        return Ok(lines.map(Ok).boxed());
    }
    let following = Following {
        consensus: consensus.clone(),
        logs: logs.clone(),
        tables: consensus.watch_tables(),
        call,
        asked,
        lines,
    };
    Ok(stream::unfold(following, Following::step).boxed())
}

/// Follows a service over updates: the tasks that replace others are asked for when they run.
struct Following {
    consensus: Consensus,
    logs: LogBroker,
    tables: watch::Receiver<Tables>,
    call: LogsCall,
    asked: HashSet<String>,
    lines: stream::SelectAll<Events>,
}

impl Following {
    async fn step(mut self) -> Option<(Result<LogsEvent, Status>, Self)> {
        loop {
            tokio::select! {
                Some(event) = self.lines.next() => return Some((Ok(event), self)),
                changed = self.tables.changed() => changed.ok()?,
            }
            // the service is gone: so is what there was to follow
            let mut wanted = tasks_by_node(&self.tables.borrow_and_update(), &self.call).ok()?;
            for (_, tasks) in &mut wanted {
                tasks.retain(|task| !self.asked.contains(task) && is_running(&self.tables.borrow(), task));
            }
            wanted.retain(|(_, tasks)| !tasks.is_empty());
            if wanted.is_empty() {
                continue;
            }
            self.asked.extend(wanted.iter().flat_map(|(_, tasks)| tasks.iter().cloned()));
            // a task that began after the call is shown from its first line on
            let options = self.call.options.map(|options| LogOptions { tail: -1, ..options });
            match open(&self.consensus, &self.logs, wanted, options).await {
                Ok(sources) => self.lines.extend(sources),
                Err(status) => return Some((Err(status), self)),
            }
        }
    }
}

fn is_running(tables: &Tables, task: &str) -> bool {
    let task = task.parse().ok().and_then(|id| tables.task(id));
    task.is_some_and(|task| task.status.state >= TaskState::Running)
}

/// Asks all managers for the lines of these tasks.
async fn open(
    consensus: &Consensus,
    logs: &LogBroker,
    wanted: Vec<(NodeId, Vec<String>)>,
    options: Option<LogOptions>,
) -> Result<Vec<Events>, Status> {
    let nodes = wanted.iter().map(|(node, tasks)| NodeTasks { node: node.to_string(), tasks: tasks.clone() });
    let ask = NodeLogsCall { nodes: nodes.collect(), options };
    let managers = peers::managers(&consensus.tables());
    let others = managers.into_iter().filter(|peer| peer.node != consensus.node());
    let asked = others.map(|peer| remote(consensus, peer, ask.clone()));
    let mut sources: Vec<NodeEvents> = vec![logs.node_logs(ask.clone())?.boxed()];
    sources.extend(future::join_all(asked).await.into_iter().flatten());

    let mut held = BTreeSet::new();
    let mut events: Vec<Events> = Vec::new();
    for mut source in sources {
        if let Ok(Some(NodeLogsEvent { event: Some(NodeEvent::Held(nodes)) })) =
            tokio::time::timeout(MANAGER_PATIENCE, source.next()).await
        {
            held.extend(nodes.nodes);
            events.push(source.filter_map(|event| future::ready(convert(event))).boxed());
        }
    }
    let missing = wanted.into_iter().filter(|(node, _)| !held.contains(&node.to_string())).map(|(node, tasks)| {
        warning(format!("node {node} is not connected to any manager: lines of {} task(s) are missing", tasks.len()))
    });
    events.push(stream::iter(missing.collect::<Vec<_>>()).boxed());
    Ok(events)
}

async fn remote(consensus: &Consensus, peer: ManagerPeer, ask: NodeLogsCall) -> Option<NodeEvents> {
    let mut client = consensus.client(&peer.address);
    let asked = tokio::time::timeout(MANAGER_PATIENCE, client.node_logs(ask)).await;
    match asked {
        Ok(Ok(answer)) => Some(answer.into_inner().map(or_warning).boxed()),
        // if it holds nodes that are wanted, these are named as missing
        Ok(Err(status)) => {
            tracing::debug!(address = %peer.address, %status, "manager gives no log lines");
            None
        }
        Err(_) => None,
    }
}

fn or_warning(event: Result<NodeLogsEvent, Status>) -> NodeLogsEvent {
    event.unwrap_or_else(|status| NodeLogsEvent {
        event: Some(NodeEvent::Warning(format!("a manager stopped sending lines: {}", status.message()))),
    })
}

fn convert(event: NodeLogsEvent) -> Option<LogsEvent> {
    match event.event? {
        NodeEvent::Held(_) => None,
        NodeEvent::Line(line) => Some(LogsEvent { event: Some(Event::Line(line)) }),
        NodeEvent::Warning(text) => Some(warning(text)),
    }
}

fn warning(text: String) -> LogsEvent {
    LogsEvent { event: Some(Event::Warning(text)) }
}
