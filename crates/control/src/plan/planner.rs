//! Which parts of the value a plan has to look at: what changed since the last look, and what is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use types::{NodeId, NodeState, Service, ServiceId, ServiceMode, Timestamp};

use super::{
    Planned,
    draft::Draft,
    global,
    health::{self, Patience},
    networks, reaper, replicated, restart, rollout, scheduler,
    work::Work,
};
use crate::{Ids, Observed, Tables, Touched};

/// Deadlines of nodes are rounded up to this, so that thousands of nodes do not wake the leader one by one.
const NODE_TICK: Duration = Duration::from_millis(50);

/// The passes are repeated for services in which a stop made room, until nothing more follows. Three rounds
/// do for everything known; the bound is there so that a mistake cannot hang the leader.
const MOST_ROUNDS: usize = 8;

/// Remembers what it looked at, so that work follows what changed. Losing it costs one full look.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    seen: Option<u64>,
    deadlines: Deadlines<ServiceId>,
    /// Services with a task that waits for a node.
    waiting: BTreeSet<ServiceId>,
    globals: BTreeSet<ServiceId>,
    node_deadlines: Deadlines<NodeId>,
    /// Nodes that are not simply READY and heard: judged in every plan.
    suspects: BTreeSet<NodeId>,
}

impl Planner {
    /// What must change in `tables` at `now`. Ask again after each applied proposal (but not while one of the
    /// planner's own is still on its way), when a probe verdict changed, when a node that is not READY was
    /// heard, and at `wake_at`. Heartbeats of nodes that are READY need no plan.
    pub fn plan(&mut self, tables: &Tables, observed: &Observed, now: Timestamp, ids: Ids<'_>) -> Planned {
        let touched = self.seen.and_then(|index| tables.touched_since(index));
        let full = touched.is_none();
        let touched = touched.unwrap_or_default();
        let mut draft = Draft::new(tables, now);
        self.judge_nodes(&mut draft, observed, full, &touched);
        let dirty = self.dirty_services(&draft, full, &touched, now);
        let mut work = Work { draft, ids, wake: BTreeMap::new() };
        let mut round = dirty.clone();
        for _ in 0..MOST_ROUNDS {
            self.run_passes(&mut work, &round);
            round = work.draft.take_again();
            if work.draft.take_moved() {
                round.extend(&self.waiting);
            }
            if round.is_empty() {
                break;
            }
        }
        for id in &dirty {
            self.deadlines.set(*id, work.wake.get(id).copied());
        }
        self.seen = Some(tables.index());
        let wake_at = [self.deadlines.first(), self.node_deadlines.first()].into_iter().flatten().min();
        work.draft.finish(tables, wake_at)
    }

    fn judge_nodes(&mut self, draft: &mut Draft, observed: &Observed, full: bool, touched: &Touched) {
        let mut judged: BTreeSet<NodeId> =
            if full { draft.nodes().map(|n| n.id).collect() } else { touched.nodes.clone() };
        judged.extend(self.node_deadlines.due(draft.now()));
        judged.extend(&self.suspects);
        let patience = Patience::of(draft);
        for id in judged {
            let at = health::judge(draft, observed, patience, id).map(|at| round_up(at, NODE_TICK));
            self.node_deadlines.set(id, at);
            let suspect = draft.node(id).is_some_and(|node| {
                let well = node.status.state == NodeState::Ready && node.status.unreachable_peers.is_empty();
                !well || (id != observed.me && patience.is_overdue(observed.heard(id), draft.now()))
            });
            if suspect {
                self.suspects.insert(id);
            } else {
                self.suspects.remove(&id);
            }
        }
    }

    fn dirty_services(&mut self, draft: &Draft, full: bool, touched: &Touched, now: Timestamp) -> BTreeSet<ServiceId> {
        if full || touched.cluster {
            return draft.services().map(|service| service.id).collect();
        }
        let mut dirty = touched.services.clone();
        dirty.extend(self.deadlines.due(now));
        let nodes: BTreeSet<NodeId> = touched.nodes.union(&draft.touched().nodes).copied().collect();
        for node in &nodes {
            dirty.extend(draft.tasks_of_node(*node).map(|task| task.service));
        }
        if !nodes.is_empty() {
            dirty.extend(&self.globals);
        }
        if !nodes.is_empty() || touched.freed || !touched.networks.is_empty() {
            dirty.extend(&self.waiting);
        }
        dirty
    }

    fn run_passes(&mut self, work: &mut Work<'_>, dirty: &BTreeSet<ServiceId>) {
        // before tasks are made, and again after a rollback: no task takes the last address of its own service
        each(work, dirty, networks::run);
        each(work, dirty, restart::run);
        each(work, dirty, |work, service| {
            match service.spec.mode {
                _ if service.removing => {}
                ServiceMode::Replicated { replicas } => replicated::run(work, service, replicas),
                ServiceMode::Global => global::run(work, service),
            };
        });
        each(work, dirty, rollout::run);
        each(work, dirty, networks::run);
        each(work, dirty, |work, service| {
            let waits = scheduler::run(work, service);
            remember(&mut self.waiting, service.id, waits);
            remember(&mut self.globals, service.id, matches!(service.spec.mode, ServiceMode::Global));
        });
        each(work, dirty, reaper::run);
        for id in dirty {
            if work.draft.service(*id).is_none() {
                self.waiting.remove(id);
                self.globals.remove(id);
            }
        }
    }
}

/// A pass sees each service as the passes before it left it.
fn each(work: &mut Work<'_>, dirty: &BTreeSet<ServiceId>, mut pass: impl FnMut(&mut Work<'_>, &Service)) {
    for id in dirty {
        if let Some(service) = work.draft.service(*id).map(Arc::clone) {
            pass(work, &service);
        }
    }
}

fn remember<T: Ord>(set: &mut BTreeSet<T>, value: T, is_in: bool) {
    if is_in {
        set.insert(value);
    } else {
        set.remove(&value);
    }
}

fn round_up(at: Timestamp, step: Duration) -> Timestamp {
    let step = u64::try_from(step.as_nanos()).unwrap_or(1);
    Timestamp::from_unix_ns(at.as_unix_ns().div_ceil(step).saturating_mul(step))
}

/// One deadline per key, found by time.
#[derive(Debug, Clone)]
struct Deadlines<K> {
    by_key: BTreeMap<K, Timestamp>,
    by_time: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    fn set(&mut self, key: K, at: Option<Timestamp>) {
        let old = match at {
            Some(at) => self.by_key.insert(key, at),
            None => self.by_key.remove(&key),
        };
        if let Some(old) = old {
            self.by_time.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_time.insert((at, key));
        }
    }

    fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn due(&self, now: Timestamp) -> Vec<K> {
        self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect()
    }
}
