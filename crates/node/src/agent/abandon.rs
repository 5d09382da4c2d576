//! The end of a membership whose agent cannot run, because its keys are locked or damaged.
//!
//! Called by the daemon when such a node leaves by force. Nobody can be told, so that it ends only what
//! is on this host; the cluster sees a node that is down.

use tokio::task::JoinSet;

use super::local::StopPolicy;
use crate::engine::{
    ClusterNetwork, Engine,
    tasks::{Found, TaskError},
};

/// Stops and removes all tasks of the cluster from this host, and its networks after them. What cannot
/// be removed is said in the log. Takes as long as the longest grace period.
pub async fn abandon(engine: &Engine) {
    let found = match engine.found_tasks().await {
        Ok(found) => found,
        Err(TaskError::Refused(reason) | TaskError::Transient(reason)) => {
            tracing::warn!(reason, "the tasks of the cluster that was left could not be found; they stay");
            Vec::new()
        }
    };
    let mut ending: JoinSet<()> = found.into_iter().map(|found| end(engine.clone(), found)).collect();
    while ending.join_next().await.is_some() {}
    engine.set_cluster_network(ClusterNetwork::default());
}

async fn end(engine: Engine, found: Found) {
    let policy = StopPolicy::default();
    let grace = found.stop_grace_ms.map_or(policy.grace, std::time::Duration::from_millis);
    let work = async {
        engine.stop_task(found.task, &found.stop_signal, grace).await?;
        engine.release_task(found.task).await?;
        engine.remove_task(found.task).await
    };
    if let Err(TaskError::Refused(reason) | TaskError::Transient(reason)) = work.await {
        tracing::warn!(task.id = %found.task, reason, "a task of the cluster that was left could not be removed");
    }
}
