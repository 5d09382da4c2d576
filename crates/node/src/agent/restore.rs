//! The agent's state at its start: what is on disk and what runs.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use types::{ContainerStatus, TaskState};

use super::{
    AgentConfig, AgentError, AgentEvent, AgentStatus,
    assigned::{Assigned, StateFile},
    data_key,
    follower::Follower,
    keeper::Keeper,
    local::{Local, LocalTask, Phase, StopPolicy},
    monitors::Monitors,
    overlays::Here,
    perform::Performer,
    probes::{ProbeNews, Unreachable},
    publish::Publisher,
    report::Reports,
};
use crate::engine::{
    Engine, EngineError, container_id,
    tasks::{Found, FoundWhat, TaskError},
};

impl Follower {
    /// Takes up what is on disk and what runs.
    pub(super) async fn restore(
        engine: Engine,
        config: AgentConfig,
        events: mpsc::Sender<AgentEvent>,
        status: watch::Sender<AgentStatus>,
    ) -> Result<Self, AgentError> {
        let file = StateFile::in_directory(&config.state_dir)?;
        let saved = file.load()?;
        let known: BTreeSet<_> = config.managers.iter().map(|m| m.node).collect();
        let others = saved.managers.into_iter().filter(|m| !config.others_are_gone && !known.contains(&m.node));
        let managers: Vec<_> = config.managers.iter().cloned().chain(others).collect();
        let node = config.identity.node();
        let (private_key, public_key) = data_key::load_or_make(&config.state_dir)?;
        let encryption = engine.config().encryption;
        let here = Here { node, address: config.data_address, private_key, encryption };
        let mut follower = Self {
            performer: Performer::new(engine.clone(), node),
            publisher: Publisher::new(engine.clone(), node),
            monitors: Monitors::new(engine.clone()),
            assigned: Assigned::restore(saved.set),
            local: Local::new(),
            reports: Reports::restore(saved.reports),
            prepared: HashMap::new(),
            containers: HashMap::new(),
            ends: JoinSet::new(),
            probe_news: ProbeNews::default(),
            unreachable: Unreachable::default(),
            has_heard: false,
            here,
            public_key,
            connection: None,
            keeper: Keeper::new(file),
            managers: watch::Sender::new(managers),
            desired_role: watch::Sender::new(None),
            trust: watch::Sender::new(None),
            flush_at: None,
            wake_at: None,
            told: BTreeSet::new(),
            leaving: None,
            was_healthy: saved.healthy,
            unclaimed: Vec::new(),
            engine,
            config,
            events,
            status,
        };
        let found = follower.engine.found_tasks().await;
        let found = found.map_err(|error| match error {
            TaskError::Refused(text) | TaskError::Transient(text) => EngineError::Runtime(text),
        })?;
        let (known, unclaimed) =
            found.into_iter().partition(|found| follower.assigned.set().tasks.contains_key(&found.task));
        follower.unclaimed = unclaimed;
        for found in Vec::<Found>::from_iter(known) {
            follower.adopt(found);
        }
        follower.adopt_ends();
        Ok(follower)
    }

    /// Takes up what the kept assignments did not name, now that a manager has said what this node shall do:
    /// they are written a moment after they come, and a daemon may be killed within it.
    pub(super) fn claim(&mut self) {
        for found in std::mem::take(&mut self.unclaimed) {
            self.adopt(found);
        }
        // Those that are still there have a monitor by now.
        self.was_healthy.clear();
    }

    /// Notes one task of before.
    fn adopt(&mut self, found: Found) {
        let Found { task, what, stop_signal, stop_grace_ms, health } = found;
        let mut stop = StopPolicy { signal: stop_signal, ..StopPolicy::default() };
        if let Some(ms) = stop_grace_ms {
            stop.grace = Duration::from_millis(ms);
        }
        let assignment = self.assigned.set().tasks.get(&task);
        if let Some(a) = assignment {
            stop = StopPolicy { grace: a.spec.container.stop_grace_period, ..stop };
        }
        let has_ended = assignment.is_some_and(|a| a.state.is_terminal()) || self.reports.ended(task).is_some();
        let address = self.engine.known_address(task);
        let id = container_id(task);
        let container = ContainerStatus { id, address, ..ContainerStatus::default() };
        self.containers.insert(task, container);
        let phase = match &what {
            FoundWhat::Log => Phase::Ended { released: true },
            FoundWhat::Parts if has_ended => Phase::Ended { released: false },
            FoundWhat::Parts => Phase::Prepared,
            FoundWhat::Created => Phase::Created,
            FoundWhat::Running { .. } => Phase::Running,
            FoundWhat::Stopped { released, .. } => Phase::Ended { released: *released },
        };
        let wanted = assignment.is_some();
        let ports = assignment.map(|a| self.engine.known_ports(task, &a.host_ports)).unwrap_or_default();
        let was_healthy = assignment.is_some_and(|a| a.state == TaskState::Running) || self.was_healthy.contains(&task);
        let is_remnant = phase == Phase::Prepared;
        let versions = self.engine.known_versions(task);
        let found = LocalTask { check: health, ports, versions, is_remnant, ..LocalTask::new(phase, stop) };
        self.local.insert(task, found);
        match what {
            FoundWhat::Running { pid, started_at } => {
                self.containers.entry(task).or_default().pid = pid;
                if wanted {
                    self.runs(task, started_at, was_healthy);
                } else {
                    self.watch_end(task);
                }
            }
            FoundWhat::Stopped { exit, released } if wanted && !has_ended => {
                self.ended(task, &exit);
                self.phase(task, Phase::Ended { released });
            }
            FoundWhat::Log if wanted && !has_ended => {
                let lost = "its container ended while the daemon did not run, and how is not known";
                self.tell(task, TaskState::Failed, lost.to_owned());
            }
            _ => {}
        }
    }

    /// Ends that were not committed belong to tasks of which nothing else may be left.
    fn adopt_ends(&mut self) {
        let ended = self.assigned.set().tasks.keys().filter(|t| self.reports.ended(**t).is_some()).copied();
        for task in ended.collect::<Vec<_>>() {
            let gone = LocalTask::new(Phase::Ended { released: true }, StopPolicy::default());
            self.local.entry(task).or_insert(gone);
        }
    }
}
