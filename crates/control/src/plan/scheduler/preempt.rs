//! Preemption: where a task finds no room, tasks of services with a lower priority make some, as few and as low ones
//! as do.
//!
//! A service loses no more tasks at once than an update would stop, as long as others of a lower priority make room
//! too: first come those that keep within these budgets, then the lowest priorities, then the fewest tasks.
//!
//! It keeps no memory: what is being stopped already counts as free, so nobody is stopped twice for one task. Who made
//! way waits for a place like any other, behind those of higher priority, and counts in its service's budget until
//! somebody runs in its slot again.

mod budget;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use budget::{Budgets, MADE_WAY};
use types::{NodeId, Service, ServiceId, Slot, Task, TaskState};

use super::{Group, Presence, filter::Ask, judge, neighbours::Neighbours, presence, steering};
use crate::{
    NodeLoad,
    plan::{needs, networks, work::Work},
};

/// Stops what has to make way for the tasks that wait.
pub(in crate::plan) fn make_way(work: &mut Work<'_>, waiting: &BTreeSet<ServiceId>) {
    if !work.draft.has_priorities() {
        return;
    }
    let services = waiting.iter().filter_map(|id| work.draft.service(*id)).map(Arc::clone);
    let mut services: Vec<(i16, Arc<Service>)> =
        services.map(|service| (steering(&service).priority, service)).collect();
    services.sort_by_key(|(priority, service)| (Reverse(*priority), service.id));
    let mut soon = Soon::default();
    for (priority, service) in services {
        let is_held = needs::unmet(work, &service, needs::Step::Start).is_some();
        if is_held || networks::lacks_address(&work.draft, &service).is_some() {
            continue;
        }
        for group in super::waiting(work, &service) {
            find_room(work, &service, priority, &group, &mut soon);
        }
    }
}

fn find_room(work: &mut Work<'_>, service: &Service, priority: i16, group: &Group, soon: &mut Soon) {
    let neighbours = Neighbours::of(&work.draft, service);
    let ask = group.ask(&work.draft, service, &neighbours);
    // who makes way is of other services: this one stands as it does
    let presence = presence(&work.draft, service);
    let seeker = Seeker { service, priority, presence: &presence, ask };
    for (id, slot) in &group.tasks {
        let Some(task) = work.draft.task(*id).cloned() else { continue };
        let Some(room) = room(work, &seeker, *slot, soon) else {
            // nor will there be any for the others of the group, unless each has a node of its own
            if super::pinned(&work.draft, service, *slot).is_none() {
                return;
            }
            continue;
        };
        let load = soon.load(work, room.node);
        room.victims.iter().for_each(|victim| load.subtract(victim));
        load.add(&task);
        for victim in room.victims {
            soon.budgets.spend(work, &victim);
            work.draft.depends_on(service.id);
            let why = format!("{MADE_WAY} {} of priority {priority}", service.spec.name);
            work.draft.evict(victim.id, &why);
        }
    }
}

/// What the nodes will carry when all is gone that shall go and all is there that waits for that, and what services may
/// still lose, as far as looked at.
#[derive(Default)]
struct Soon {
    loads: BTreeMap<NodeId, NodeLoad>,
    budgets: Budgets,
}

impl Soon {
    fn load(&mut self, work: &Work<'_>, node: NodeId) -> &mut NodeLoad {
        self.loads.entry(node).or_insert_with(|| {
            let mut load = work.draft.load(node).clone();
            let goes = |task: &&Arc<Task>| task.desired > TaskState::Running && NodeLoad::counts(task);
            work.draft.tasks_of_node(node).filter(goes).for_each(|task| load.subtract(task));
            load
        })
    }
}

/// Where a task fits once some others are gone; nobody has to go where something is on its way out anyway.
struct Room {
    node: NodeId,
    victims: Vec<Arc<Task>>,
}

/// Whose tasks seek room.
struct Seeker<'a> {
    service: &'a Service,
    priority: i16,
    presence: &'a BTreeMap<NodeId, Presence>,
    ask: Ask<'a>,
}

fn room(work: &Work<'_>, seeker: &Seeker<'_>, slot: Slot, soon: &mut Soon) -> Option<Room> {
    let Seeker { service, priority, presence, ask } = *seeker;
    let mut best: Option<((usize, i16, usize), Room)> = None;
    let only = super::pinned(&work.draft, service, slot).map(|(node, _)| node);
    for node in work.draft.nodes().filter(|node| only.is_none_or(|only| only == node.id)) {
        let load = soon.load(work, node.id).clone();
        let fits = |load: &NodeLoad| ask.refuses(&judge(service, presence, node, load)).is_none();
        if fits(&load) {
            return Some(Room { node: node.id, victims: Vec::new() });
        }
        let lower = lower(work, priority, node.id);
        let Some(mut victims) = victims(&lower, &load, fits) else { continue };
        let mut excess = soon.budgets.excess(work, &victims);
        if excess > 0
            && let Some(within) = self::victims(&soon.budgets.keep_within(work, &lower), &load, fits)
        {
            (victims, excess) = (within, 0);
        }
        let highest = victims.iter().map(|victim| priority_of(work, victim)).max().unwrap_or(i16::MIN);
        let cost = (excess, highest, victims.len());
        if best.as_ref().is_none_or(|(known, _)| cost < *known) {
            best = Some((cost, Room { node: node.id, victims }));
        }
    }
    best.map(|(_, room)| room)
}

/// The tasks of the node below `priority`: the lowest and youngest first.
fn lower(work: &Work<'_>, priority: i16, node: NodeId) -> Vec<Arc<Task>> {
    let runs = |task: &&Arc<Task>| task.desired == TaskState::Running && NodeLoad::counts(task);
    let mut lower: Vec<(i16, Arc<Task>)> = work
        .draft
        .tasks_of_node(node)
        .filter(runs)
        .cloned()
        .map(|task| (priority_of(work, &task), task))
        .filter(|(of, _)| *of < priority)
        .collect();
    lower.sort_by_key(|(of, task)| (*of, Reverse(task.meta.created_at), task.id));
    lower.into_iter().map(|(_, task)| task).collect()
}

/// Those of `lower` that have to leave a node with this load: the first, and of those none that may stay.
fn victims(lower: &[Arc<Task>], load: &NodeLoad, fits: impl Fn(&NodeLoad) -> bool) -> Option<Vec<Arc<Task>>> {
    let mut load = load.clone();
    let mut gone = Vec::new();
    for task in lower {
        load.subtract(task);
        gone.push(Arc::clone(task));
        if fits(&load) {
            break;
        }
    }
    if !fits(&load) {
        return None;
    }
    gone.reverse();
    gone.retain(|task| {
        load.add(task);
        let may_stay = fits(&load);
        if !may_stay {
            load.subtract(task);
        }
        !may_stay
    });
    Some(gone)
}

fn priority_of(work: &Work<'_>, task: &Task) -> i16 {
    work.draft.service(task.service).map_or(0, |service| steering(service).priority)
}
