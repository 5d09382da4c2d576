//! How fast the brain is: placements per second, memory per task, the cost of a heartbeat.

use std::time::Instant;

use control::{Change, Observed, Planner, Proposal, Tables, admission};
use serde::Serialize;
use types::{NanoCpus, NodeId, TaskId, Timestamp, WriteRequest};

use crate::{random::Random, specs};

/// Tasks of one simulated service: large clusters have many services rather than one huge one.
const TASKS_PER_SERVICE: u64 = 1000;

/// One measurement. All of it is of a debuggable build with the settings of the workspace.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PlanBench {
    pub nodes: usize,
    pub tasks: usize,
    /// From specs without tasks to all tasks placed, in one plan.
    pub placements_per_s: f64,
    /// Growth of this process's resident memory by the applied tasks, divided by their number.
    pub bytes_per_task: f64,
    /// A heartbeat followed by a plan in which nothing is to be done, with all tasks in the value.
    pub heartbeat_ns: f64,
}

/// Plans `tasks` tasks onto `nodes` nodes.
#[allow(clippy::cast_precision_loss)] // counts of a benchmark
pub fn bench_plan(nodes: usize, tasks: usize) -> PlanBench {
    let mut random = Random::new(1);
    let now = Timestamp::from_unix_ms(1_000_000);
    let mut tables = cluster(nodes, now, &mut random);
    let ids: Vec<NodeId> = tables.nodes().map(|node| node.id).collect();
    let observed = Observed::new(ids[0], now);
    let mut planner = Planner::default();
    planner.plan(&tables, &observed, now, &mut || random.id());
    create_services(&mut tables, tasks as u64, now, &mut random);

    let memory_before = resident_bytes();
    let started = Instant::now();
    let planned = planner.plan(&tables, &observed, now, &mut || random.id());
    let seconds = started.elapsed().as_secs_f64();
    let placed = planned.changes.iter().filter(|c| matches!(c, Change::CreateTask(t) if t.node.is_some())).count();
    let index = tables.index() + 1;
    tables.apply(index, &planned.proposal(now)).expect("a plan fits the value it was made from");
    let running: Vec<TaskId> = tables.tasks().map(|task| task.id).collect();
    let memory_after = resident_bytes();

    let heartbeat_ns = heartbeat(&mut planner, &tables, observed, &ids, now, &mut random);
    PlanBench {
        nodes,
        tasks: running.len(),
        placements_per_s: placed as f64 / seconds,
        bytes_per_task: memory_after.saturating_sub(memory_before) as f64 / running.len().max(1) as f64,
        heartbeat_ns,
    }
}

fn cluster(nodes: usize, now: Timestamp, random: &mut Random) -> Tables {
    let mut changes = vec![Change::PutCluster(Box::new(specs::cluster()))];
    for number in 0..nodes {
        let mut node = specs::node(NodeId::from_random(random.id()), number, now);
        if let Some(description) = &mut node.description {
            description.resources.nano_cpus = NanoCpus(1_000_000_000_000);
        }
        changes.push(Change::PutNode(Box::new(node)));
    }
    let mut tables = Tables::default();
    tables.apply(1, &Proposal { at: now, expects: Vec::new(), changes }).expect("fits the empty cluster");
    tables
}

fn create_services(tables: &mut Tables, tasks: u64, now: Timestamp, random: &mut Random) {
    for number in 0..tasks.div_ceil(TASKS_PER_SERVICE) {
        let replicas = TASKS_PER_SERVICE.min(tasks - number * TASKS_PER_SERVICE);
        let mut spec = specs::service(&format!("s{number}"), replicas);
        spec.task.resources.reservations.nano_cpus = NanoCpus(10_000_000);
        let request = WriteRequest::CreateService(Box::new(spec));
        let (proposal, _) =
            admission::admit(tables, &request, now, &mut || random.id()).expect("a good spec with a new name");
        tables.apply(tables.index() + 1, &proposal).expect("admitted just before");
    }
}

#[allow(clippy::cast_precision_loss)]
fn heartbeat(
    planner: &mut Planner,
    tables: &Tables,
    mut observed: Observed,
    nodes: &[NodeId],
    now: Timestamp,
    random: &mut Random,
) -> f64 {
    const BEATS: usize = 20_000;
    planner.plan(tables, &observed, now, &mut || random.id());
    let started = Instant::now();
    for beat in 0..BEATS {
        let at = now + std::time::Duration::from_micros(beat as u64);
        observed.last_heard.insert(nodes[beat % nodes.len()], at);
        planner.plan(tables, &observed, at, &mut || random.id());
    }
    started.elapsed().as_nanos() as f64 / BEATS as f64
}

/// 0 where the kernel does not say.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    pages * 4096
}
