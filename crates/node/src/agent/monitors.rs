//! One monitor for each running container that has a health check, as a task of its own; what they find comes
//! back to the agent's loop.
//!
//! Ending a monitor breaks off the check it is at, and kills that with all it started.

use std::collections::HashMap;

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use types::{ContainerHealth, TaskId, TaskState, Timestamp};

use super::{follower::Follower, local::Phase};
use crate::{
    clock::now,
    engine::{
        Engine,
        health::{Health, HealthNews, HealthSettings},
    },
};

/// News that wait for the loop: a monitor has one at a time, and waits until it is taken.
const MAX_WAITING: usize = 64;

/// The monitors that run.
#[derive(Debug)]
pub(super) struct Monitors {
    engine: Engine,
    running: JoinSet<()>,
    handles: HashMap<TaskId, AbortHandle>,
    news: mpsc::Sender<(TaskId, HealthNews)>,
    inbox: mpsc::Receiver<(TaskId, HealthNews)>,
}

impl Monitors {
    pub(super) fn new(engine: Engine) -> Self {
        let (news, inbox) = mpsc::channel(MAX_WAITING);
        Self { engine, running: JoinSet::new(), handles: HashMap::new(), news, inbox }
    }

    /// Begins to look at a container that was started at `started_at`.
    pub(super) fn begin(&mut self, task: TaskId, settings: HealthSettings, started_at: Timestamp, is_healthy: bool) {
        self.end(task);
        while self.running.try_join_next().is_some() {}
        let health = Health::new(settings, started_at, is_healthy);
        let handle = self.running.spawn(watch(self.engine.clone(), task, health, self.news.clone()));
        self.handles.insert(task, handle);
    }

    /// Ends the monitor of a container; none is fine.
    pub(super) fn end(&mut self, task: TaskId) {
        if let Some(handle) = self.handles.remove(&task) {
            handle.abort();
        }
    }

    /// What the next monitor found. Safe to cancel.
    pub(super) async fn next(&mut self) -> (TaskId, HealthNews) {
        loop {
            match self.inbox.recv().await {
                // What a monitor said before it was ended is about a container that is going anyway.
                Some((task, news)) if self.handles.contains_key(&task) => return (task, news),
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    pub(super) async fn shutdown(&mut self) {
        self.running.shutdown().await;
    }
}

/// Until the container is found unhealthy, or the monitor is ended.
async fn watch(engine: Engine, task: TaskId, mut health: Health, news: mpsc::Sender<(TaskId, HealthNews)>) {
    loop {
        tokio::time::sleep(health.pause(now())).await;
        let Some(change) = engine.look_at_task(task, &mut health).await else { continue };
        let is_last = matches!(change, HealthNews::Unhealthy(_));
        if news.send((task, change)).await.is_err() || is_last {
            return;
        }
    }
}

/// What a task is waiting for while its container runs.
const WAITING: &str = "starting, waiting for the first health check to succeed";

/// What a task is that is about to be given up.
const FAILING: &str = "running, its health check fails";

impl Follower {
    /// A container runs: with a check, its task does so only when it is healthy for the first time.
    pub(super) fn runs(&mut self, task: TaskId, started_at: Timestamp, was_healthy: bool) {
        self.phase(task, Phase::Running);
        self.watch_end(task);
        let Some(settings) = self.local.get(&task).and_then(|local| local.check.clone()) else {
            return self.tell(task, TaskState::Running, String::new());
        };
        self.monitors.begin(task, settings, started_at, was_healthy);
        if was_healthy {
            self.set_health(task, ContainerHealth::Healthy);
            self.tell(task, TaskState::Running, String::new());
        } else {
            self.set_health(task, ContainerHealth::Starting);
            self.tell_why(task, TaskState::Starting, WAITING, String::new());
        }
    }

    /// A monitor found something.
    pub(super) fn health_heard(&mut self, task: TaskId, news: HealthNews) {
        if self.local.get(&task).is_none_or(|local| local.phase != Phase::Running) {
            return self.monitors.end(task);
        }
        match news {
            HealthNews::Healthy => {
                self.set_health(task, ContainerHealth::Healthy);
                self.tell(task, TaskState::Running, String::new());
            }
            HealthNews::Waiting(why) => self.tell_why(task, TaskState::Starting, WAITING, why),
            HealthNews::Failing(why) => self.tell_why(task, TaskState::Running, FAILING, why),
            HealthNews::Unhealthy(why) => {
                tracing::info!(task.id = %task, why, "container is unhealthy and is stopped");
                self.set_health(task, ContainerHealth::Unhealthy);
                if let Some(local) = self.local.get_mut(&task) {
                    local.unhealthy = Some(why);
                }
            }
        }
    }

    fn set_health(&mut self, task: TaskId, health: ContainerHealth) {
        self.keeper.mark();
        self.containers.entry(task).or_default().health = Some(health);
        self.engine.note_task_health(task, Some(health));
    }
}
