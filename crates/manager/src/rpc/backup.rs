//! The whole value at one moment, for a backup (parity C-42). Nothing waits for it: readers clone the value in O(1).

use tonic::Status;
use types::{BackupWords, DependencyKind, NodeRole, Payload, ReadReply, Timestamp};

use crate::{raft::Consensus, store::Store};

pub(super) async fn take(consensus: &Consensus, now: Timestamp) -> Result<ReadReply, Status> {
    let tables = consensus.tables();
    let cluster = tables.cluster().map(|cluster| cluster.id);
    let cluster =
        cluster.ok_or_else(|| Status::unavailable("this manager has not received the cluster's state yet"))?;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let of_kind = |kind| count(tables.dependencies().filter(|one| one.spec.kind == kind).count());
    let words = BackupWords {
        cluster,
        manager: consensus.node(),
        taken_at: now,
        index: tables.index(),
        nodes: count(tables.node_count()),
        managers: count(tables.nodes().filter(|node| node.role == NodeRole::Manager).count()),
        services: count(tables.service_count()),
        tasks: count(tables.task_count()),
        networks: count(tables.networks().count()),
        secrets: of_kind(DependencyKind::Secret),
        configs: of_kind(DependencyKind::Config),
    };
    let content = tokio::task::spawn_blocking(move || Store::encode(tables)).await;
    let content = content.map_err(|error| Status::internal(format!("the value could not be written down: {error}")))?;
    Ok(ReadReply::Backup { words: Box::new(words), content: Payload::new(content) })
}
