//! Scheduler: a node for each task that has none, or the reason in words.
//!
//! Tasks of one service that ask for the same are placed together: nodes are judged once, then taken from
//! a heap, so that a thousand tasks cost little more than one.

mod candidate;
mod explain;
mod filter;
pub(super) mod neighbours;
mod preempt;
mod ramp;
mod rebalance;
mod spread;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use types::{
    Attachment, Migration, Node, NodeId, OnMissing, PortConfig, Service, ServiceId, Slot, Steering, Strategy, Task,
    TaskId, TaskSpec, TaskState, Timestamp,
};

use super::{
    draft::Draft,
    needs, networks,
    slots::{self, Standing},
    work::Work,
};
use crate::{NodeLoad, Tables, admission};
use candidate::{Candidate, Order};
use explain::Reasons;
use filter::Ask;
use neighbours::Neighbours;
pub(super) use preempt::make_way;
pub(crate) use rebalance::preview;
pub(super) use rebalance::{MOVED, Moves, is_wanted as is_rebalanced, run as rebalance};

/// A node on which a service failed this often within [`FAILURES_WITHIN`] is taken last (as in swarmkit), and so is one
/// that has rejected a task of its present spec within this time.
const MANY_FAILURES: usize = 5;
const FAILURES_WITHIN: Duration = Duration::from_secs(300);

/// In the order in which services get places: what is free goes to the highest priority first.
pub(super) fn by_priority(draft: &Draft, services: &BTreeSet<ServiceId>) -> Vec<ServiceId> {
    let mut all: Vec<ServiceId> = services.iter().copied().collect();
    if draft.has_priorities() {
        let priority = |id: &ServiceId| draft.service(*id).map_or(0, |service| steering(service).priority);
        all.sort_by_cached_key(|id| Reverse(priority(id)));
    }
    all
}

/// Places what waits. Returns whether something still does.
pub(super) fn run(work: &mut Work<'_>, service: &Service) -> bool {
    let mut left = !held(work, service).is_empty();
    let groups = waiting(work, service);
    if !groups.is_empty() && needs::unmet(work, service, needs::Step::Start).is_some() {
        return true;
    }
    for group in groups {
        left |= place(work, service, &group);
    }
    left
}

/// Says why tasks still wait. Asked when all services were served: the reasons hold for the value as the
/// plan leaves it.
pub(super) fn explain(work: &mut Work<'_>, service: &Service) {
    for (task, text) in held(work, service) {
        work.draft.explain(task, &text);
    }
    let unmet = needs::unmet(work, service, needs::Step::Start);
    for group in waiting(work, service) {
        if let Some(text) = &unmet {
            group.tasks.iter().for_each(|(task, _)| work.draft.explain(*task, text));
            continue;
        }
        for (task, text) in reasons(work, service, &group) {
            work.draft.explain(task, &text);
        }
    }
}

/// Tasks without a node whose slot's data is on its way to another, or still another task's, and what they wait for.
fn held(work: &Work<'_>, service: &Service) -> Vec<(TaskId, String)> {
    let of_service = |migration: &&Arc<Migration>| migration.slots.iter().any(|(id, _)| *id == service.id);
    let mut held = Vec::new();
    for migration in work.draft.migrations().filter(of_service) {
        let name = |id| work.draft.node(id).map_or_else(|| id.short(), |node| node.shown_name().to_owned());
        let (from, to) = (name(migration.from), name(migration.to));
        let text = format!("volume {} is on its way from node {from} to node {to}", migration.volume);
        let slots = migration.slots.iter().filter(|(id, _)| *id == service.id);
        let tasks = slots.flat_map(|(id, slot)| work.draft.tasks_of_slot(*id, *slot)).filter(|task| is_waiting(task));
        held.extend(tasks.map(|task| (task.id, text.clone())));
    }
    for task in work.draft.tasks_of_service(service.id).filter(|task| is_waiting(task)) {
        if let Some(volume) = work.draft.inherited(service, task.slot) {
            let text = format!(
                "volume {volume} is still in use by the service of this name that was removed: it waits for its end"
            );
            held.push((task.id, text));
        }
    }
    held
}

fn is_waiting(task: &Task) -> bool {
    task.node.is_none() && task.desired == TaskState::Running && !task.status.state.is_terminal()
}

/// Why a node takes no task of the service, but for room that its own tasks have.
pub(crate) fn why_not_on(tables: &Tables, service: &Service, node: NodeId, now: Timestamp) -> Option<String> {
    let draft = Draft::new(tables, now);
    let neighbours = Neighbours::of(&draft, service);
    let host_ports: Vec<PortConfig> = admission::host_ports(&service.spec).cloned().collect();
    let (spec, order) = (&service.task_spec, order(tables, service, &service.task_spec));
    let ask = Ask { spec, host_ports: &host_ports, neighbours: &neighbours, order };
    let candidate = Standpoint::new(&draft, service).candidate(node)?;
    explain::of_node(&ask, &candidate)
}

/// Tasks that ask for the same.
struct Group {
    spec: Arc<TaskSpec>,
    host_ports: Vec<PortConfig>,
    publishes: bool,
    tasks: Vec<(TaskId, Slot)>,
}

impl Group {
    fn takes(&self, task: &Task) -> bool {
        self.spec == task.spec && self.host_ports == task.host_ports && self.publishes == task.publishes
    }

    fn ask<'a>(&'a self, tables: &Tables, service: &Service, neighbours: &'a Neighbours) -> Ask<'a> {
        let order = order(tables, service, &self.spec);
        Ask { spec: &self.spec, host_ports: &self.host_ports, neighbours, order }
    }
}

/// Tasks without a node, those that ask for the same together. The present spec comes before older ones, and
/// a slot that had a place before one that never had: what a rollout stopped gets its place back.
fn waiting(work: &Work<'_>, service: &Service) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    if service.removing {
        return groups;
    }
    let mut had_place = BTreeSet::new();
    for task in work.draft.tasks_of_service(service.id) {
        if task.node.is_some() {
            had_place.insert(task.slot);
        }
        let is_held = || {
            work.draft.migration_of(service.id, task.slot).is_some()
                || work.draft.inherited(service, task.slot).is_some()
        };
        if !is_waiting(task) || is_held() {
            continue;
        }
        let entry = (task.id, task.slot);
        match groups.iter_mut().find(|group| group.takes(task)) {
            Some(group) => group.tasks.push(entry),
            None => groups.push(Group {
                spec: Arc::clone(&task.spec),
                host_ports: task.host_ports.clone(),
                publishes: task.publishes,
                tasks: vec![entry],
            }),
        }
    }
    for group in &mut groups {
        group.tasks.sort_by_cached_key(|(id, slot)| (!had_place.contains(slot), *slot, *id));
    }
    groups.sort_by_key(|group| group.spec != service.task_spec);
    groups
}

/// Labels were judged when the service was admitted; those of an older log that say nothing steer nothing.
pub(super) fn steering(service: &Service) -> Steering {
    service.spec.steering().unwrap_or_default()
}

/// Tasks that reserve something go to where most is free, once each node has one of them. Whose tasks are to be evened out
/// is placed by their number, as they are moved.
fn order(tables: &Tables, service: &Service, spec: &TaskSpec) -> Order {
    let reserved = &spec.resources.reservations;
    let reserves = reserved.nano_cpus.0 > 0 || reserved.memory.0 > 0;
    match steering(service).strategy {
        Strategy::BinPack => Order::Full,
        Strategy::Spread if reserves && !is_rebalanced(tables, service) => Order::Light,
        Strategy::Spread => Order::Even,
    }
}

/// How a service stands on a node.
#[derive(Debug, Clone, Copy, Default)]
struct Presence {
    tasks: u64,
    failures: usize,
    /// It cannot run what the service is now: it lacks a directory, a device, an image.
    refuses: bool,
}

fn presence(draft: &Draft, service: &Service) -> BTreeMap<NodeId, Presence> {
    let now = draft.now();
    let mut nodes: BTreeMap<NodeId, Presence> = BTreeMap::new();
    for task in draft.tasks_of_service(service.id) {
        let Some(node) = task.node else { continue };
        match slots::standing(draft, service, task, now) {
            Standing::Wanted | Standing::Stopping => nodes.entry(node).or_default().tasks += 1,
            Standing::Ended if failed_lately(task, now) => {
                let here = nodes.entry(node).or_default();
                here.failures += 1;
                here.refuses |= task.status.state == TaskState::Rejected && task.spec == service.task_spec;
            }
            Standing::Ended | Standing::Lost => {}
        }
    }
    nodes
}

fn failed_lately(task: &Task, now: types::Timestamp) -> bool {
    matches!(task.status.state, TaskState::Failed | TaskState::Rejected)
        && now.since(task.status.since) < FAILURES_WITHIN
}

/// The nodes as they stand for a service.
struct Standpoint<'a> {
    draft: &'a Draft,
    service: &'a Service,
    presence: BTreeMap<NodeId, Presence>,
}

impl<'a> Standpoint<'a> {
    fn new(draft: &'a Draft, service: &'a Service) -> Self {
        Self { draft, service, presence: presence(draft, service) }
    }

    fn candidate(&self, id: NodeId) -> Option<Candidate<'a>> {
        Some(self.judge(self.draft.node(id)?, self.draft.load(id)))
    }

    fn all(&self) -> impl Iterator<Item = Candidate<'a>> {
        self.draft.nodes_with_load().map(|(node, load)| self.judge(node, load))
    }

    fn judge(&self, node: &'a Node, load: &'a NodeLoad) -> Candidate<'a> {
        judge(self.service, &self.presence, node, load)
    }
}

fn judge<'a>(
    service: &Service,
    presence: &BTreeMap<NodeId, Presence>,
    node: &'a Node,
    load: &'a NodeLoad,
) -> Candidate<'a> {
    let here = presence.get(&node.id).copied().unwrap_or_default();
    Candidate::new(node, load, service.id, here.tasks, here.refuses || here.failures >= MANY_FAILURES)
}

/// The one node that a slot may be on, if there is only one, and the volume that keeps it there.
fn pinned<'t>(draft: &'t Draft, service: &Service, slot: Slot) -> Option<(NodeId, Option<&'t str>)> {
    match slot {
        Slot::Node(id) => Some((id, None)),
        Slot::Replica(_) if steering(service).on_missing == OnMissing::Create => None,
        Slot::Replica(_) => draft.home(service, slot).map(|(node, volume)| (node, Some(volume))),
    }
}

/// Returns whether a task is left over.
fn place(work: &mut Work<'_>, service: &Service, group: &Group) -> bool {
    if networks::lacks_address(&work.draft, service).is_some() {
        return true;
    }
    let (mut bound, mut free) = (Vec::new(), Vec::new());
    for (task, slot) in &group.tasks {
        match pinned(&work.draft, service, *slot) {
            Some((node, _)) => bound.push((*task, node)),
            None => free.push(*task),
        }
    }
    let neighbours = Neighbours::of(&work.draft, service);
    let ask = group.ask(&work.draft, service, &neighbours);
    // the service is counted once: a global one has a task for each of ten thousand nodes
    let mut presence = presence(&work.draft, service);
    let mut left = false;
    for (task, id) in bound {
        let nodes = Standpoint { draft: &work.draft, service, presence };
        let fits = nodes.candidate(id).is_some_and(|candidate| ask.refuses(&candidate).is_none());
        presence = nodes.presence;
        let settled = settle(work, service, group, task, fits.then_some(id));
        presence.entry(id).or_default().tasks += u64::from(settled);
        left |= !settled;
    }
    let nodes = Standpoint { draft: &work.draft, service, presence };
    // what is evened out goes where it was said to go, a few tasks at a time, and what fills nodes up takes new ones last
    let ramps = ask.order != Order::Full && !is_rebalanced(&work.draft, service);
    let coming = free.len() as u64;
    let new_field = || {
        let mut candidates: Vec<Candidate<'_>> = nodes.all().collect();
        if ramps {
            ramp::bound(&mut candidates, coming, nodes.draft.now());
        }
        spread::Field::new(ask, candidates)
    };
    let mut field: Option<spread::Field<'_>> = None;
    let mut take = || field.get_or_insert_with(new_field).take();
    let placed: Vec<_> = free.into_iter().map(|task| (task, take())).collect();
    for (task, node) in placed {
        left |= !settle(work, service, group, task, node);
    }
    left
}

/// Gives a task its node and its places in networks, if there are any.
fn settle(work: &mut Work<'_>, service: &Service, group: &Group, task: TaskId, node: Option<NodeId>) -> bool {
    let attachments = node.map(|_| {
        let before = places_before(&work.draft, service, task);
        networks::places(&work.draft, &group.spec, group.publishes, &before)
    });
    match (node, attachments) {
        (Some(node), Some(Ok(attachments))) => {
            work.draft.place(task, node, attachments);
            true
        }
        _ => false,
    }
}

/// The places of the last task of the slot, where the next one shall have them again.
fn places_before(draft: &Draft, service: &Service, task: TaskId) -> Vec<Attachment> {
    let Some(task) = draft.task(task).filter(|_| steering(service).stable_ip) else { return Vec::new() };
    let others = draft.tasks_of_slot(service.id, task.slot).filter(|other| other.id != task.id);
    let last = others.filter(|other| !other.attachments.is_empty()).max_by_key(|other| other.meta.created_at);
    last.map(|last| last.attachments.clone()).unwrap_or_default()
}

/// A full network is the reason for tasks that a node would take; for the others it is the nodes.
fn reasons(work: &Work<'_>, service: &Service, group: &Group) -> Vec<(TaskId, String)> {
    if let Some(text) = networks::lacks_address(&work.draft, service) {
        return group.tasks.iter().map(|(task, _)| (*task, text.clone())).collect();
    }
    let neighbours = Neighbours::of(&work.draft, service);
    let ask = group.ask(&work.draft, service, &neighbours);
    let nodes = Standpoint::new(&work.draft, service);
    let full = networks::places(&work.draft, &group.spec, group.publishes, &[]).err();
    let takes = |candidate: &Candidate<'_>| ask.refuses(candidate).is_none();
    let mut of_all: Option<String> = None;
    let mut for_all = || match &full {
        Some(text) if nodes.all().any(|candidate| takes(&candidate)) => text.clone(),
        _ => Reasons::of(&ask, nodes.all()).text(&ask),
    };
    let mut text = |slot: &Slot| match pinned(&work.draft, service, *slot) {
        Some((id, volume)) => match (nodes.candidate(id), &full, volume) {
            (Some(only), Some(text), _) if takes(&only) => text.clone(),
            (Some(only), _, Some(volume)) => explain::of_home(&ask, &only, volume),
            (Some(only), _, None) => Reasons::of(&ask, [only]).text(&ask),
            (None, ..) => "its node is gone".to_owned(),
        },
        None => of_all.get_or_insert_with(&mut for_all).clone(),
    };
    group.tasks.iter().map(|(task, slot)| (*task, text(slot))).collect()
}
