//! A container's health as it is shown, and the looks that keep it (parity E-41): of a single one they go on here, those at a
//! task's the agent asks for. The rules are those of `engine::health`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{MutexGuard, PoisonError},
};

use types::{ContainerHealth, TaskId, Timestamp};

use super::{Engine, Single};
use crate::{
    clock::now,
    engine::container_id,
    engine::health::{Health, HealthNews, HealthSettings, Look},
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
        let id = container_id(task);
        let mut known = self.known_health();
        let state = match health {
            None => return drop(known.remove(&id)),
            Some(ContainerHealth::Starting) => HealthState::Starting,
            Some(ContainerHealth::Healthy) => HealthState::Healthy,
            Some(ContainerHealth::Unhealthy) => HealthState::Unhealthy,
        };
        let before = known.get(&id).map(|view| view.state);
        known.entry(id.clone()).or_default().state = state;
        drop(known);
        // what it is at first, or was for an earlier process, is no news
        if before.is_some_and(|before| before != state) {
            self.announce_of(&id, &format!("health_status: {}", state.as_str()), &[]);
        }
    }

    /// A look at a task's container for its monitor, kept to be shown. What it makes of the container's state the agent
    /// says ([`Self::note_task_health`]).
    pub(crate) async fn look_at_task(&self, task: TaskId, health: &mut Health) -> Option<HealthNews> {
        let (id, began_at) = (container_id(task), now());
        let look = self.check_health(&id, health.settings()).await?;
        let mut known = self.known_health();
        let mut gone = HealthView::default();
        keep(known.get_mut(&id).unwrap_or(&mut gone), health, began_at, look)
    }

    pub(super) fn task_health(&self, id: &str) -> Option<HealthView> {
        self.known_health().get(id).cloned()
    }

    fn known_health(&self) -> MutexGuard<'_, BTreeMap<String, HealthView>> {
        self.inner.containers.task_health.lock().unwrap_or_else(PoisonError::into_inner)
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
        let Some(look) = engine.check_health(&single.id, health.settings()).await else { continue };
        let before = view.state;
        match keep(&mut view, &mut health, began_at, look) {
            Some(HealthNews::Healthy) => view.state = HealthState::Healthy,
            Some(HealthNews::Unhealthy(_)) => view.state = HealthState::Unhealthy,
            _ => {}
        }
        single.set_health(Some(view.clone()));
        if view.state != before {
            engine.announce_of(&single.id, &format!("health_status: {}", view.state.as_str()), &[]);
        }
    }
}

/// Takes a look in: keeps what it saw, and gives what it changes.
fn keep(view: &mut HealthView, health: &mut Health, began_at: Timestamp, look: Look) -> Option<HealthNews> {
    let Look { finding, exit_code, output } = look;
    if view.log.len() == KEPT {
        view.log.pop_front();
    }
    view.log.push_back(HealthProbe { began_at, ended_at: now(), exit_code, output });
    let news = health.take(began_at, finding);
    view.failures = health.failures();
    news
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::health::Finding;

    /// E-41, S-58: the last looks are kept whole; failures in the start period are among them and do not count.
    #[test]
    fn e_41_looks_are_kept() {
        let second = Duration::from_secs(1);
        let settings = HealthSettings {
            args: vec!["check".into()],
            interval: second,
            timeout: second,
            start_period: 10 * second,
            start_interval: second,
            retries: 2,
        };
        let mut health = Health::new(settings, Timestamp::EPOCH, false);
        let mut view = HealthView::default();
        let mut look = |at: u64, exit_code: i32| {
            let finding = if exit_code == 0 { Finding::Well } else { Finding::Sick("why".into()) };
            let look = Look { finding, exit_code, output: format!("at {at}") };
            let news = keep(&mut view, &mut health, Timestamp::from_unix_ms(at * 1000), look);
            (view.failures, news.is_some())
        };
        assert_eq!([look(1, 1), look(2, 0), look(3, 0)], [(0, true), (0, true), (0, false)]);
        let sick = [look(11, 1), look(12, 1), look(13, 1)];
        assert_eq!(sick.map(|(failures, _)| failures), [1, 2, 3]);
        let seen: Vec<_> = view.log.iter().map(|probe| (probe.output.as_str(), probe.exit_code)).collect();
        assert_eq!(seen, [("at 2", 0), ("at 3", 0), ("at 11", 1), ("at 12", 1), ("at 13", 1)]);
        assert_eq!(view.log[4].began_at, Timestamp::from_unix_ms(13_000));
    }
}
