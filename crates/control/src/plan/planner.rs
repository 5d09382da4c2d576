//! Which parts of the value a plan has to look at: what changed since the last look, and what is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use types::{NodeId, Service, ServiceId, ServiceMode, Timestamp};

use super::{
    Planned,
    draft::Draft,
    global, global_job,
    health::{self, Patience},
    migration, networks, reaper, replicated, replicated_job, restart, rollout, schedule, scheduler,
    work::Work,
};
use crate::{Ids, Observed, Tables, Touched, roots};

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
    /// Services whose running tasks may move.
    balanced: BTreeSet<ServiceId>,
    moves: scheduler::Moves,
    /// Whether some service had constraints on what else runs on a node.
    had_neighbourly: bool,
    node_deadlines: Deadlines<NodeId>,
    /// Nodes that are not simply READY and heard: judged in every plan.
    suspects: BTreeSet<NodeId>,
    proposed: Looked,
}

/// What the last plan looked at, if it proposed something: it may be refused, so all of it is looked at again.
#[derive(Debug, Clone, Default)]
struct Looked {
    services: BTreeSet<ServiceId>,
    nodes: BTreeSet<NodeId>,
}

impl Planner {
    /// What must change in `tables` at `now`. Ask again after each applied proposal (but not while one of the
    /// planner's own is still on its way), when a probe verdict changed, when a node that is not READY was
    /// heard, and at `wake_at`. Heartbeats of nodes that are READY need no plan.
    pub fn plan(&mut self, tables: &Tables, observed: &Observed, now: Timestamp, ids: Ids<'_>) -> Planned {
        let touched = self.seen.and_then(|index| tables.touched_since(index));
        // what is said of the whole cluster (the heartbeat period, say) concerns everything in it
        let full = touched.as_ref().is_none_or(|touched| touched.cluster);
        let touched = touched.unwrap_or_default();
        let mut draft = Draft::new(tables, now);
        let before = std::mem::take(&mut self.proposed);
        if let Some(cluster) = roots::finished(&draft, ids) {
            draft.put_cluster(cluster);
        }
        let judged = self.judge_nodes(&mut draft, observed, full, &touched, &before);
        let mut dirty = self.dirty_services(&draft, full, &touched, now);
        dirty.extend(before.services);
        dirty.extend(self.moves.held_by(&dirty));
        let mut work = Work { draft, ids, wake: BTreeMap::new(), leads_since: observed.since };
        let mut looked = self.run_rounds(&mut work, dirty);
        networks::drop_leaving(&mut work);
        for id in &looked {
            self.deadlines.set(*id, work.wake.get(id).copied());
        }
        looked.extend(self.explain(&mut work, &looked, &touched));
        if work.draft.has_changes() {
            self.proposed = Looked { services: looked, nodes: judged };
        }
        self.seen = Some(tables.index());
        self.had_neighbourly = tables.has_neighbourly();
        let wake_at = [self.deadlines.first(), self.node_deadlines.first()].into_iter().flatten().min();
        work.draft.finish(tables, wake_at)
    }

    fn judge_nodes(
        &mut self,
        draft: &mut Draft,
        observed: &Observed,
        full: bool,
        touched: &Touched,
        before: &Looked,
    ) -> BTreeSet<NodeId> {
        let mut judged: BTreeSet<NodeId> =
            if full { draft.nodes().map(|n| n.id).collect() } else { touched.nodes.clone() };
        judged.extend(self.node_deadlines.due(draft.now()));
        judged.extend(&self.suspects);
        judged.extend(&before.nodes);
        judged.extend(health::is_complained_of(observed, observed.me).then_some(observed.me));
        let patience = Patience::of(draft);
        health::judge(draft, observed, patience, &judged);
        for id in judged.iter().copied() {
            let node = draft.node(id);
            self.node_deadlines.set(id, node.and_then(|node| health::next_look(draft, observed, patience, node)));
            let suspect = node.is_some_and(|node| health::is_suspect(draft, observed, patience, node));
            remember(&mut self.suspects, id, suspect);
        }
        judged
    }

    fn dirty_services(&mut self, draft: &Draft, full: bool, touched: &Touched, now: Timestamp) -> BTreeSet<ServiceId> {
        if full {
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
        // a place may be free now, or what somebody wants to be near may be there
        let neighbours = !touched.services.is_empty() && (self.had_neighbourly || draft.has_neighbourly());
        if !nodes.is_empty() || touched.freed || !touched.networks.is_empty() || neighbours {
            dirty.extend(&self.waiting);
            dirty.extend(&self.balanced);
        }
        with_dependents(draft, &mut dirty);
        dirty
    }

    /// Runs the passes over `dirty`, and again over what follows. Returns what was looked at.
    fn run_rounds(&mut self, work: &mut Work<'_>, dirty: BTreeSet<ServiceId>) -> BTreeSet<ServiceId> {
        let mut looked = BTreeSet::new();
        let mut round = dirty;
        for _ in 0..MOST_ROUNDS {
            self.run_passes(work, &round);
            looked.append(&mut round);
            round = work.draft.take_again();
            with_dependents(&work.draft, &mut round);
            let placed = work.draft.take_placed() && work.draft.has_neighbourly();
            if work.draft.take_freed() || placed {
                round.extend(&self.waiting);
            }
            if round.is_empty() {
                scheduler::make_way(work, &self.waiting);
                round = work.draft.take_again();
            }
            if round.is_empty() {
                break;
            }
        }
        looked
    }

    /// Why a task waits depends on all that the nodes have to carry, so where anything of that changed, all
    /// that wait are told anew. Returns who was told.
    fn explain(&self, work: &mut Work<'_>, looked: &BTreeSet<ServiceId>, touched: &Touched) -> BTreeSet<ServiceId> {
        let drafted = work.draft.touched();
        let nodes = !touched.nodes.is_empty() || !drafted.nodes.is_empty();
        let all = nodes || touched.freed || touched.taken || drafted.taken;
        let told = self.waiting.iter().filter(|id| all || looked.contains(id)).copied().collect();
        each(work, &told, scheduler::explain);
        told
    }

    fn run_passes(&mut self, work: &mut Work<'_>, dirty: &BTreeSet<ServiceId>) {
        // a run that is due begins before anything is decided about its tasks
        each(work, dirty, schedule::run);
        // before tasks are made, and again after a rollback: no task takes the last address of its own service
        each(work, dirty, networks::run);
        each(work, dirty, migration::run);
        each(work, dirty, restart::run);
        each(work, dirty, |work, service| {
            match service.spec.mode {
                _ if service.removing => {}
                ServiceMode::Replicated { replicas } => replicated::run(work, service, replicas),
                ServiceMode::Global => global::run(work, service),
                ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
                    replicated_job::run(work, service, max_concurrent, total_completions);
                }
                ServiceMode::GlobalJob => global_job::run(work, service),
            };
        });
        each(work, dirty, rollout::run);
        self.moves.count(work, dirty);
        each(work, dirty, |work, service| scheduler::rebalance(work, service, &mut self.moves));
        each(work, dirty, networks::run);
        for id in scheduler::by_priority(&work.draft, dirty) {
            let Some(service) = work.draft.service(id).map(Arc::clone) else { continue };
            let waits = scheduler::run(work, &service);
            remember(&mut self.waiting, id, waits);
            remember(&mut self.globals, id, service.spec.mode.is_per_node());
            remember(&mut self.balanced, id, scheduler::is_rebalanced(&work.draft, &service));
        }
        each(work, dirty, reaper::run);
        for id in dirty {
            if work.draft.service(*id).is_none() {
                self.waiting.remove(id);
                self.globals.remove(id);
                self.balanced.remove(id);
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

/// What becomes of a service is what others wait for.
fn with_dependents(draft: &Draft, services: &mut BTreeSet<ServiceId>) {
    if !draft.has_needs() {
        return;
    }
    let names = services.iter().filter_map(|id| draft.service(*id)).map(|service| &service.spec.name);
    let dependents: Vec<ServiceId> = names.flat_map(|name| draft.dependents(name)).collect();
    services.extend(dependents);
}

fn remember<T: Ord>(set: &mut BTreeSet<T>, value: T, is_in: bool) {
    if is_in {
        set.insert(value);
    } else {
        set.remove(&value);
    }
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
