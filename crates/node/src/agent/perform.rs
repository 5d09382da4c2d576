//! Runs the steps that were decided on, each as a task of its own; their ends come back to the loop.
//!
//! One step per task at a time is the caller's promise. Dropping the performer breaks all steps off,
//! which is as safe as a crash: every step can be done again.

use std::{collections::HashMap, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::{Assignment, DependencyId, NodeId, TaskId};

use super::local::{Step, StopPolicy};
use crate::engine::{
    Engine,
    dependencies::Dependencies,
    tasks::{Prepared, TaskError},
};

/// The steps in progress.
#[derive(Debug)]
pub(super) struct Performer {
    engine: Engine,
    node: NodeId,
    running: JoinSet<(TaskId, Step, Outcome)>,
    cancels: HashMap<TaskId, CancellationToken>,
}

/// How a step ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Prepared(Box<Prepared>),
    Created { pid: u32, prepared: Box<Prepared> },
    Refreshed(Vec<DependencyId>),
    Done,
    Failed(TaskError),
    Cancelled,
}

impl Performer {
    pub(super) fn new(engine: Engine, node: NodeId) -> Self {
        Self { engine, node, running: JoinSet::new(), cancels: HashMap::new() }
    }

    pub(super) fn prepare(&mut self, assignment: Assignment, sent: Dependencies) {
        let (engine, node, task) = (self.engine.clone(), self.node, assignment.id);
        let cancel = CancellationToken::new();
        self.cancels.insert(task, cancel.clone());
        self.running.spawn(async move {
            // Only what leaves nothing behind may be broken off: the checks and the pull.
            let checked = tokio::select! {
                result = engine.check_task(&assignment, &sent, node) => result,
                () = cancel.cancelled() => return (task, Step::Prepare, Outcome::Cancelled),
            };
            let work = async { engine.prepare_task(&assignment, checked?).await };
            let outcome = match work.await {
                Ok(prepared) => Outcome::Prepared(Box::new(prepared)),
                Err(error) => Outcome::Failed(error),
            };
            (task, Step::Prepare, outcome)
        });
    }

    /// What an earlier process prepared is prepared again, which finds it there.
    pub(super) fn create(&mut self, assignment: Assignment, sent: Dependencies, prepared: Option<Box<Prepared>>) {
        let (engine, node, task) = (self.engine.clone(), self.node, assignment.id);
        self.running.spawn(async move {
            let work = async {
                let prepared = match prepared {
                    Some(prepared) => prepared,
                    None => {
                        let checked = engine.check_task(&assignment, &sent, node).await?;
                        Box::new(engine.prepare_task(&assignment, checked).await?)
                    }
                };
                let pid = engine.create_task(&assignment, &prepared).await?;
                Ok((pid, prepared))
            };
            let outcome = match work.await {
                Ok((pid, prepared)) => Outcome::Created { pid, prepared },
                Err(error) => Outcome::Failed(error),
            };
            (task, Step::Create, outcome)
        });
    }

    pub(super) fn start(&mut self, task: TaskId) {
        let engine = self.engine.clone();
        self.running.spawn(async move { (task, Step::Start, done(engine.start_task(task).await)) });
    }

    pub(super) fn refresh(&mut self, assignment: Assignment, sent: Dependencies) {
        let (engine, node, task) = (self.engine.clone(), self.node, assignment.id);
        self.running.spawn(async move {
            let outcome = match engine.refresh_task(&assignment, &sent, node).await {
                Ok(versions) => Outcome::Refreshed(versions),
                Err(error) => Outcome::Failed(error),
            };
            (task, Step::Refresh, outcome)
        });
    }

    pub(super) fn stop(&mut self, task: TaskId, policy: StopPolicy) {
        let engine = self.engine.clone();
        self.running.spawn(async move {
            let StopPolicy { signal, grace } = policy;
            (task, Step::Stop, done(engine.stop_task(task, &signal, grace).await))
        });
    }

    pub(super) fn release(&mut self, task: TaskId) {
        let engine = self.engine.clone();
        self.running.spawn(async move { (task, Step::Release, done(engine.release_task(task).await)) });
    }

    pub(super) fn remove(&mut self, task: TaskId) {
        let engine = self.engine.clone();
        self.running.spawn(async move { (task, Step::Remove, done(engine.remove_task(task).await)) });
    }

    pub(super) fn cancel(&mut self, task: TaskId) {
        if let Some(cancel) = self.cancels.get(&task) {
            cancel.cancel();
        }
    }

    /// The next step that ended; waits for ever when none is running. Safe to cancel.
    pub(super) async fn next(&mut self) -> (TaskId, Step, Outcome) {
        loop {
            match self.running.join_next().await {
                Some(Ok(ended)) => {
                    self.cancels.remove(&ended.0);
                    return ended;
                }
                Some(Err(error)) => tracing::error!(%error, "a step ended badly"),
                None => std::future::pending().await,
            }
        }
    }

    /// Breaks off what is running and waits until it is.
    pub(super) async fn shutdown(&mut self) {
        // Short steps may end by themselves, which saves doing them again.
        let settle = async { while self.running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), settle).await;
        self.running.shutdown().await;
    }
}

fn done(result: Result<(), TaskError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(error),
    }
}
