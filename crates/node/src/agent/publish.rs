//! Sends log lines and measurements that a manager asked for, each request as a task of its own.

use std::collections::HashMap;

use futures::{StreamExt, stream::SelectAll};
use proto::v1::{LogBatch, LogLine, LogRequest, UsageReport, dispatcher_client::DispatcherClient};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use types::{NodeId, NodeUsage, TaskId, Timestamp};

use crate::{
    clock::now,
    engine::{Engine, LogOptions},
};

/// Lines in one message: with lines of the usual length that is well below 100 KiB.
const MAX_LINES: usize = 256;
/// Bytes in one message, for lines that are long.
const MAX_BYTES: usize = 512 << 10;
/// Messages under way to a manager that reads slowly.
const MAX_WAITING: usize = 8;
/// Requests answered at once; people read logs, not machines in crowds.
const MAX_REQUESTS: usize = 64;

/// The requests being answered.
#[derive(Debug)]
pub(super) struct Publisher {
    engine: Engine,
    node: NodeId,
    running: JoinSet<u64>,
    cancels: HashMap<u64, CancellationToken>,
}

impl Publisher {
    pub(super) fn new(engine: Engine, node: NodeId) -> Self {
        Self { engine, node, running: JoinSet::new(), cancels: HashMap::new() }
    }

    /// Begins to answer a request over `channel`.
    pub(super) fn begin(&mut self, request: LogRequest, channel: Channel) {
        if self.cancels.len() >= MAX_REQUESTS {
            tracing::warn!(request = request.id, "too many log requests at once; this one is not answered");
            return;
        }
        let (engine, node, id) = (self.engine.clone(), self.node, request.id);
        let cancel = CancellationToken::new();
        self.cancels.insert(id, cancel.clone());
        self.running.spawn(async move {
            tokio::select! {
                () = answer(engine, node, request, channel) => {}
                () = cancel.cancelled() => {}
            }
            id
        });
    }

    /// Measures what the tasks use and sends it over `channel`. A manager asks once at a time.
    pub(super) fn measure(&mut self, id: u64, channel: Channel) {
        if self.running.len() >= MAX_REQUESTS {
            tracing::warn!(request = id, "too many requests at once; what tasks use is not measured for this one");
            return;
        }
        let (engine, node) = (self.engine.clone(), self.node);
        self.running.spawn(async move {
            if let Err(why) = measured(&engine, node, id, channel).await {
                tracing::debug!(request = id, %why, "what tasks use could not be told");
            }
            id
        });
    }

    pub(super) fn cancel(&mut self, id: u64) {
        if let Some(cancel) = self.cancels.remove(&id) {
            cancel.cancel();
        }
    }

    /// Waits until a request has been answered. Safe to cancel.
    pub(super) async fn idle(&mut self) {
        match self.running.join_next().await {
            Some(Ok(id)) => drop(self.cancels.remove(&id)),
            Some(Err(error)) => tracing::error!(%error, "answering a manager's request ended badly"),
            None => std::future::pending().await,
        }
    }

    pub(super) async fn shutdown(&mut self) {
        self.running.shutdown().await;
    }
}

async fn measured(engine: &Engine, node: NodeId, id: u64, channel: Channel) -> Result<(), String> {
    let tasks = engine.task_usage().await.map_err(|error| error.to_string())?;
    let usage = NodeUsage { node, at: now(), memory_bytes: engine.info().memory_bytes, tasks };
    let report = UsageReport { id, node_usage: proto::encode(&usage) };
    let mut client = DispatcherClient::new(channel).max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
    client.publish_usage(report).await.map(drop).map_err(|status| status.message().to_owned())
}

async fn answer(engine: Engine, node: NodeId, request: LogRequest, channel: Channel) {
    let id = request.id;
    let (batches, queue) = mpsc::channel(MAX_WAITING);
    let mut client = DispatcherClient::new(channel);
    let sending = client.publish_logs(ReceiverStream::new(queue));
    let (sent, ()) = tokio::join!(sending, read(engine, node, request, batches));
    if let Err(status) = sent {
        tracing::debug!(request = id, %status, "log lines could not be sent");
    }
}

/// Reads all tasks of the request and sends what there is, in batches.
async fn read(engine: Engine, node: NodeId, request: LogRequest, batches: mpsc::Sender<LogBatch>) {
    let options = options(request.options.unwrap_or_default());
    let mut warnings = Vec::new();
    let mut all = SelectAll::new();
    for text in &request.tasks {
        let Ok(task) = text.parse::<TaskId>() else {
            warnings.push(format!("{text:?} is not a task id"));
            continue;
        };
        match engine.logs(task, options) {
            Ok(lines) => {
                let text = text.clone();
                all.push(lines.map(move |line| (text.clone(), line)).boxed());
            }
            Err(error) => warnings.push(format!("logs of task {text} on node {node}: {error}")),
        }
    }
    // The first message says which request is answered, even when there is nothing to say.
    let first = LogBatch { id: request.id, lines: Vec::new(), warning: warnings.join("; ") };
    if batches.send(first).await.is_err() {
        return;
    }
    let mut chunks = all.ready_chunks(MAX_LINES);
    let node = node.to_string();
    while let Some(chunk) = chunks.next().await {
        for batch in pack(request.id, &node, chunk) {
            if batches.send(batch).await.is_err() {
                return;
            }
        }
    }
}

type Read = (String, Result<crate::engine::LogLine, crate::engine::EngineError>);

/// Lines as messages of bounded size.
fn pack(id: u64, node: &str, chunk: Vec<Read>) -> Vec<LogBatch> {
    let empty = || LogBatch { id, lines: Vec::new(), warning: String::new() };
    let (mut batches, mut batch, mut bytes) = (Vec::new(), empty(), 0);
    for (task, line) in chunk {
        match line {
            Ok(line) => {
                bytes += line.data.len();
                batch.lines.push(LogLine {
                    task,
                    node: node.to_owned(),
                    is_stderr: line.is_stderr,
                    time_ns: line.time.as_unix_ns(),
                    data: line.data,
                });
            }
            Err(error) => batch.warning = format!("logs of task {task}: {error}"),
        }
        if bytes >= MAX_BYTES || !batch.warning.is_empty() {
            batches.push(std::mem::replace(&mut batch, empty()));
            bytes = 0;
        }
    }
    if !batch.lines.is_empty() {
        batches.push(batch);
    }
    batches
}

fn options(asked: proto::v1::LogOptions) -> LogOptions {
    let time = |ns: u64| (ns > 0).then(|| Timestamp::from_unix_ns(ns));
    LogOptions {
        follow: asked.follow,
        since: time(asked.since_ns),
        until: time(asked.until_ns),
        tail: u64::try_from(asked.tail).ok(),
        stdout: asked.stdout,
        stderr: asked.stderr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LogLine as Line;

    #[test]
    fn messages_are_bounded() {
        let line = |size: usize| Ok(Line { time: Timestamp::EPOCH, is_stderr: false, data: vec![b'x'; size] });
        let chunk = vec![("a".into(), line(MAX_BYTES)), ("a".into(), line(1)), ("b".into(), line(1))];
        let sizes: Vec<usize> = pack(1, "n", chunk).iter().map(|b| b.lines.len()).collect();
        assert_eq!(sizes, [1, 2]);
    }
}
