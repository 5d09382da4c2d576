//! What a manager tells a monitoring system of itself and of the cluster, as Prometheus reads it (parity C-38).
//!
//! What is counted while it runs is in [`Metrics`], which is passed to whoever counts. All else is read off the value
//! and off Raft when it is asked for, by [`Scrape`]. Names are those of Docker's managers where they have one. Labels
//! have values of a fixed set, but for the names of services, of which there is one series each, and for running tasks,
//! which their nodes are asked about ([`tasks`]).

mod tasks;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use control::view;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, prometheus_text},
    metrics::{MetricType, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};
use tokio_util::sync::CancellationToken;
use types::{Availability, DependencyKind, NodeState, TaskState};

use crate::{
    dispatch::Hub,
    raft::{
        Consensus,
        types::{ELECTION_MAX_MS, LogId},
    },
    rpc::usage::UsageReader,
};

/// A leader that has not heard a majority for so long will not have its writes committed.
const QUORUM_WITHIN: Duration = Duration::from_millis(4 * ELECTION_MAX_MS);

/// Seconds of what a disk and a network between hosts take.
const COMMIT_BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];
/// Seconds of what it takes to bring an image and start a container.
const TASK_BUCKETS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// What is counted. Copies share it.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// From when a proposal is made on the leader to when it is part of the value.
    pub(crate) proposals: Histogram,
    pub(crate) snapshots: Histogram,
    /// From a task's creation to its place; measured on the leader, as the next one.
    pub(crate) to_assigned: Histogram,
    pub(crate) to_running: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let (commit, task) = (|| Histogram::new(COMMIT_BUCKETS), || Histogram::new(TASK_BUCKETS));
        Self { proposals: commit(), snapshots: commit(), to_assigned: task(), to_running: task() }
    }
}

/// What is looked at when somebody asks.
#[derive(Clone)]
pub(crate) struct Scrape {
    pub(crate) consensus: Consensus,
    pub(crate) hub: Hub,
    /// Where log and snapshots are.
    pub(crate) directory: PathBuf,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// All metrics of a manager.
pub(crate) fn registry(metrics: &Metrics, scrape: Scrape) -> Registry {
    let mut registry = Registry::default();
    let mut histogram =
        |name: &str, help: &str, histogram: &Histogram| registry.register(name, help, histogram.clone());
    histogram(
        "swarm_raft_transaction_latency_seconds",
        "From a proposal on this leader to its place in the value",
        &metrics.proposals,
    );
    histogram("swarm_raft_snapshot_latency_seconds", "Time to take a snapshot", &metrics.snapshots);
    histogram(
        "swarm_dispatcher_scheduling_delay_seconds",
        "From a task's creation to RUNNING, counted by the manager that leads",
        &metrics.to_running,
    );
    histogram(
        "rswarm_task_assignment_delay_seconds",
        "From a task's creation to ASSIGNED, counted by the manager that leads",
        &metrics.to_assigned,
    );
    registry.register_collector(Box::new(scrape));
    registry
}

/// What a manager tells when it is asked.
pub(crate) struct Told {
    pub(crate) registry: Registry,
    pub(crate) usage: UsageReader,
    /// Whoever waits for nodes then holds the store open no longer.
    pub(crate) stopping: CancellationToken,
}

impl Told {
    /// As Prometheus reads it; nothing of a manager that stops meanwhile.
    pub(crate) async fn text(&self) -> String {
        let usage = tokio::select! {
            usage = self.usage.read() => usage,
            () = self.stopping.cancelled() => return String::new(),
        };
        let mut text = text(&self.registry);
        text.push_str(&tasks::text(&self.usage.consensus.tables(), usage));
        text
    }
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // a text has room for all there is
    prometheus_text::encode(&mut text, registry).unwrap_or_default();
    text
}

type Label<'a> = Option<(&'static str, &'a str)>;

/// Gauges of one name.
fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    values: impl IntoIterator<Item = (Label<'a>, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (label, value) in values {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        match label {
            Some(label) => gauge.encode(metric.encode_family(&[label])?)?,
            None => gauge.encode(metric.encode_family(&NONE)?)?,
        }
    }
    Ok(())
}

const NONE: [(&str, &str); 0] = [];

fn gauge(encoder: &mut DescriptorEncoder<'_>, about: (&str, &str), value: u64) -> fmt::Result {
    gauges(encoder, about, [(None, value)])
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.encode_raft(encoder)?;
        self.encode_nodes(encoder)?;
        self.encode_objects(encoder)?;
        self.encode_services(encoder)
    }
}

impl Scrape {
    fn encode_raft(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = self.consensus.metrics();
        let leads = self.consensus.is_leader();
        let heard = metrics.millis_since_quorum_ack.map(Duration::from_millis);
        let has_quorum = match leads {
            true => heard.is_none_or(|ago| ago <= QUORUM_WITHIN),
            false => metrics.current_leader.is_some(),
        };
        let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| id.index);
        gauge(encoder, ("swarm_manager_leader", "1 on the manager that leads"), leads.into())?;
        let help = "1 while a majority of the managers answers the leader, as far as this manager knows";
        gauge(encoder, ("rswarm_manager_has_quorum", help), has_quorum.into())?;
        let voters = metrics.membership_config.membership().voter_ids().count() as u64;
        gauge(encoder, ("rswarm_raft_voters", "Managers that vote"), voters)?;
        gauge(encoder, ("rswarm_raft_term", "Raft's term"), metrics.current_term)?;
        let last = metrics.last_log_index.unwrap_or(0);
        gauge(encoder, ("rswarm_raft_last_log_index", "Newest entry of this manager's log"), last)?;
        let help = "Newest committed entry that this manager has applied";
        gauge(encoder, ("rswarm_raft_applied_index", help), index(&metrics.last_applied))?;
        gauge(encoder, ("rswarm_raft_snapshot_index", "Entry of the newest snapshot"), index(&metrics.snapshot))?;
        let help = "The index of the value, which events have";
        gauge(encoder, ("rswarm_value_index", help), self.consensus.tables().index())?;
        let help = "Bytes of log and snapshots on this manager's disk";
        gauge(encoder, ("rswarm_raft_disk_bytes", help), bytes_below(&self.directory))?;
        let help = "Nodes that hold their session with this manager";
        gauge(encoder, ("rswarm_dispatcher_sessions", help), self.hub.len() as u64)
    }

    fn encode_nodes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let tables = self.consensus.tables();
        let mut states = BTreeMap::from(["unknown", "ready", "disconnected", "down"].map(|state| (state, 0)));
        let mut availabilities = BTreeMap::from(["active", "pause", "drain"].map(|availability| (availability, 0)));
        for node in tables.nodes() {
            // Docker's words
            let state = match node.status.state {
                NodeState::Unknown => "unknown",
                NodeState::Ready => "ready",
                NodeState::Unreachable => "disconnected",
                NodeState::Down => "down",
            };
            let availability = match node.spec.availability {
                Availability::Active => "active",
                Availability::Pause => "pause",
                Availability::Drain => "drain",
            };
            *states.entry(state).or_default() += 1;
            *availabilities.entry(availability).or_default() += 1;
        }
        let labelled = |key: &'static str, all: BTreeMap<&'static str, u64>| {
            all.into_iter().map(move |(value, count)| (Some((key, value)), count))
        };
        gauges(encoder, ("swarm_manager_nodes", "Nodes by state"), labelled("state", states))?;
        let about = ("rswarm_manager_nodes_by_availability", "Nodes by availability");
        gauges(encoder, about, labelled("availability", availabilities))
    }

    fn encode_objects(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let tables = self.consensus.tables();
        gauge(encoder, ("swarm_manager_services_total", "Services"), tables.service_count() as u64)?;
        gauge(encoder, ("swarm_manager_networks_total", "Networks of the cluster"), tables.networks().count() as u64)?;
        let dependencies = |kind| {
            let present = tables.dependencies().filter(|version| version.spec.kind == kind && !version.superseded);
            present.count() as u64
        };
        gauge(encoder, ("swarm_manager_secrets_total", "Secrets"), dependencies(DependencyKind::Secret))?;
        gauge(encoder, ("swarm_manager_configs_total", "Configs"), dependencies(DependencyKind::Config))?;
        let mut states: BTreeMap<TaskState, u64> = ALL_STATES.map(|state| (state, 0)).into();
        for task in tables.tasks() {
            *states.entry(task.status.state).or_default() += 1;
        }
        let words: Vec<_> = states.into_iter().map(|(state, count)| (state.to_string(), count)).collect();
        let values = words.iter().map(|(state, count)| (Some(("state", state.as_str())), *count));
        gauges(encoder, ("swarm_manager_tasks_total", "Tasks by state"), values)
    }

    /// P38: what each service wants, has, waits for and has lost.
    fn encode_services(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let tables = self.consensus.tables();
        let services: Vec<_> = tables.services().filter(|service| !service.removing).collect();
        let replicas: Vec<_> = services.iter().map(|service| view::replicas(&tables, service)).collect();
        let in_state = |is_wanted: &dyn Fn(&types::Task) -> bool| -> Vec<u64> {
            let count = |id| tables.tasks_of_service(id).filter(|task| is_wanted(task)).count() as u64;
            services.iter().map(|service| count(service.id)).collect()
        };
        let waits = |task: &types::Task| task.desired == TaskState::Running && task.status.state < TaskState::Running;
        let failed = |task: &types::Task| matches!(task.status.state, TaskState::Failed | TaskState::Rejected);
        let all: [(&str, &str, Vec<u64>); 4] = [
            ("rswarm_service_replicas_desired", "Tasks that shall run", replicas.iter().map(|r| r.desired).collect()),
            (
                "rswarm_service_replicas_running",
                "Tasks that shall run and do",
                replicas.iter().map(|r| r.running).collect(),
            ),
            ("rswarm_service_tasks_waiting", "Tasks that shall run and do not yet", in_state(&waits)),
            ("rswarm_service_tasks_failed", "Failed and rejected tasks in the history", in_state(&failed)),
        ];
        for (name, help, values) in all {
            let names = services.iter().map(|service| Some(("service", service.spec.name.as_str())));
            gauges(encoder, (name, help), names.zip(values))?;
        }
        Ok(())
    }
}

const ALL_STATES: [TaskState; 14] = [
    TaskState::New,
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Failed,
    TaskState::Rejected,
    TaskState::Remove,
    TaskState::Orphaned,
];

/// Of a store that is written at the same time: what cannot be looked at any more counts nothing.
fn bytes_below(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}
