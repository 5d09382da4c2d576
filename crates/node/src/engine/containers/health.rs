//! A single container's health as it is shown, and the look that keeps it (parity E-41). The rules are those of
//! `engine::health`.

use std::{collections::VecDeque, sync::PoisonError};

use types::{ContainerHealth, TaskId, Timestamp};

use super::{Engine, Single};
use crate::{
    clock::now,
    engine::container_id,
    engine::health::{Finding, Health, HealthNews, HealthSettings, Look},
};

/// Looks that are remembered, as in Docker.
const KEPT: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthState {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

/// What is known of a container's health.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthView {
    pub state: HealthState,
    pub failures: u32,
    pub log: VecDeque<HealthProbe>,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthProbe {
    pub began_at: Timestamp,
    pub ended_at: Timestamp,
    pub exit_code: i32,
    pub output: String,
}

impl HealthState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl Engine {
    /// The agent tells how a task's container is; `None`: it is gone.
    pub(crate) fn note_task_health(&self, task: TaskId, health: Option<ContainerHealth>) {
        let mut known = self.inner.containers.task_health.lock().unwrap_or_else(PoisonError::into_inner);
        let id = container_id(task);
        let state = match health {
            None => return drop(known.remove(&id)),
            Some(ContainerHealth::Starting) => HealthState::Starting,
            Some(ContainerHealth::Healthy) => HealthState::Healthy,
            Some(ContainerHealth::Unhealthy) => HealthState::Unhealthy,
        };
        let before = known.insert(id.clone(), HealthView { state, ..HealthView::default() });
        drop(known);
        // what it is at first, or was for an earlier process, is no news
        if before.is_some_and(|before| before.state != state) {
            self.announce_of(&id, &format!("health_status: {}", state.as_str()), &[]);
        }
    }

    pub(super) fn task_health(&self, id: &str) -> Option<HealthView> {
        self.inner.containers.task_health.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

impl Single {
    pub(super) fn health(&self) -> Option<HealthView> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_health(&self, view: Option<HealthView>) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

/// Looks again and again; ends only by being dropped.
pub(super) async fn look(engine: &Engine, single: &Single, settings: Option<HealthSettings>, started_at: Timestamp) {
    let Some(settings) = settings else {
        single.set_health(None);
        return std::future::pending().await;
    };
    let mut view = HealthView::default();
    single.set_health(Some(view.clone()));
    let mut health = Health::new(settings, started_at, false);
    loop {
        tokio::time::sleep(health.pause(now())).await;
        let began_at = now();
        let Some(look) = engine.check_health_of(&single.id, health.settings()).await else { continue };
        let before = view.state;
        note(&mut view, &mut health, began_at, look);
        single.set_health(Some(view.clone()));
        if view.state != before {
            engine.announce_of(&single.id, &format!("health_status: {}", view.state.as_str()), &[]);
        }
    }
}

fn note(view: &mut HealthView, health: &mut Health, began_at: Timestamp, look: Look) {
    let Look { finding, exit_code, output } = look;
    if view.log.len() == KEPT {
        view.log.pop_front();
    }
    view.log.push_back(HealthProbe { began_at, ended_at: now(), exit_code, output });
    let is_well = finding == Finding::Well;
    let news = health.take(began_at, finding);
    view.failures = if is_well { 0 } else { view.failures + 1 };
    match news {
        _ if is_well => view.state = HealthState::Healthy,
        Some(HealthNews::Unhealthy(_)) => view.state = HealthState::Unhealthy,
        _ => {}
    }
}
