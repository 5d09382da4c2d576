//! Rebalance: running tasks of services that ask for it move to nodes that came, came back or have room again (P19).
//!
//! A task moves only if that evens out the service on the outermost level of its preferences that is uneven, by two
//! tasks or more, so moves come to an end. At most as many are under way as in an update, and the next begins when the
//! ones before have proved themselves as in an update.

use std::{collections::BTreeMap, time::Duration};

use types::{NodeId, NodeState, Service, ServiceMode, TaskState, Timestamp, UpdateState};

use super::{FAILURES_WITHIN, Standpoint, filter::Ask, neighbours::Neighbours, spread, steering};
use crate::{
    admission,
    plan::{
        restart,
        slots::{self, SlotView},
        work::Work,
    },
};

/// A node must be READY this long before tasks move to it: one that comes and goes gets none.
const SETTLE: Duration = Duration::from_secs(10);

pub(in crate::plan) fn run(work: &mut Work<'_>, service: &Service) {
    if !is_wanted(service) || is_updating(service) {
        return;
    }
    let views = slots::slots(&work.draft, service, work.now());
    let budget = budget(work, service, &views);
    if budget == 0 {
        return;
    }
    let (mut field, fresh) = Field::of(work, service);
    if let Some(at) = fresh {
        work.must_wait(service.id, at);
    }
    let mut here: BTreeMap<NodeId, Vec<&SlotView>> = BTreeMap::new();
    for view in &views {
        if let Some(node) = view.wanted().next().and_then(|task| task.node) {
            here.entry(node).or_default().push(view);
        }
    }
    // the task that has run shortest has least to lose
    let since = |view: &&SlotView| view.wanted().next().and_then(|task| task.running_since);
    here.values_mut().for_each(|views| views.sort_by_key(since));
    for _ in 0..budget {
        let Some(from) = field.next_move() else { return };
        let Some(view) = here.get_mut(&from).and_then(Vec::pop) else { return };
        if restart::starts_first(&work.draft, service) {
            work.fill(service, view.slot, None);
            continue;
        }
        for task in view.wanted() {
            work.draft.evict(task.id, "moved to another node, where its service is more even");
        }
    }
}

/// Whether the service asks for it.
pub(in crate::plan) fn is_wanted(service: &Service) -> bool {
    let replicated = matches!(service.spec.mode, ServiceMode::Replicated { .. });
    replicated && !service.removing && steering(service).rebalance
}

fn is_updating(service: &Service) -> bool {
    let state = service.update.as_ref().map(|update| update.state);
    !matches!(state, None | Some(UpdateState::Completed | UpdateState::RollbackCompleted))
}

/// How many more tasks may be under way. None while something that failed lately might have failed for its new place.
fn budget(work: &mut Work<'_>, service: &Service, views: &[SlotView]) -> usize {
    let config = &service.spec.update;
    let most = usize::try_from(config.parallelism.max(1)).unwrap_or(usize::MAX);
    let pause = config.monitor.max(config.delay);
    let now = work.now();
    let mut unproved = 0;
    for view in views {
        let failed = view.tasks.iter().find(|(task, _)| super::failed_lately(task, now));
        if let Some((failed, _)) = failed {
            work.must_wait(service.id, failed.status.since + FAILURES_WITHIN);
            return 0;
        }
        let mut wanted = view.wanted();
        let since = match (wanted.next(), wanted.next()) {
            (Some(task), None) if task.status.state == TaskState::Running => task.running_since,
            _ => None,
        };
        unproved += usize::from(since.is_none_or(|since| work.must_wait(service.id, since + pause)));
    }
    most.saturating_sub(unproved)
}

/// The nodes with the service's tasks, and those that would take one.
struct Field {
    depth: usize,
    places: Vec<Place>,
}

struct Place {
    node: NodeId,
    /// The values of the preferred labels, outermost first.
    path: Vec<String>,
    tasks: u64,
    takes: bool,
    gives: bool,
}

impl Field {
    /// With the time at which a node that is too fresh now will be none any more.
    fn of(work: &Work<'_>, service: &Service) -> (Self, Option<Timestamp>) {
        let neighbours = Neighbours::of(&work.draft, service);
        let host_ports: Vec<_> = admission::host_ports(&service.spec).cloned().collect();
        let (spec, strategy) = (&service.task_spec, steering(service).strategy);
        let ask = Ask { spec, host_ports: &host_ports, neighbours: &neighbours, strategy };
        let preferences = &spec.placement.preferences;
        let standpoint = Standpoint::new(&work.draft, service);
        let all: Vec<_> = standpoint.all().collect();
        let takes = |candidate: &_| ask.refuses(candidate).is_none();
        // a node that lacks what another has is none to move to
        let fewest = all.iter().filter(|candidate| takes(candidate)).map(|candidate| ask.unmet_wishes(candidate)).min();
        let settled = |since: Timestamp| since + SETTLE <= work.now();
        let mut fresh = None;
        let mut places = Vec::new();
        for candidate in &all {
            let (node, status) = (candidate.node.id, &candidate.node.status);
            let suits = takes(candidate) && !candidate.fails && fewest == Some(ask.unmet_wishes(candidate));
            if suits && !settled(status.since) {
                fresh = fresh.into_iter().chain([status.since + SETTLE]).min();
            }
            places.push(Place {
                node,
                path: preferences.iter().map(|over| spread::label(candidate.node, over)).collect(),
                tasks: candidate.service_tasks,
                takes: suits && settled(status.since),
                gives: status.state == NodeState::Ready && candidate.service_tasks > 0,
            });
        }
        (Self { depth: preferences.len(), places }, fresh)
    }

    /// The node that should give a task away. The move is counted.
    fn next_move(&mut self) -> Option<NodeId> {
        let all: Vec<usize> = (0..self.places.len()).collect();
        let (from, to) = self.gap(&all, 0)?;
        self.places.get_mut(to)?.tasks += 1;
        let from = self.places.get_mut(from)?;
        from.tasks -= 1;
        from.gives = from.tasks > 0;
        Some(from.node)
    }

    /// The places between which a move evens out the outermost level that is uneven.
    fn gap(&self, of: &[usize], level: usize) -> Option<(usize, usize)> {
        let groups = self.groups(of, level);
        let from =
            groups.iter().filter(|group| self.any(group, |place| place.gives)).max_by_key(|group| self.sum(group));
        let to = groups.iter().filter(|group| self.any(group, |place| place.takes)).min_by_key(|group| self.sum(group));
        let (from, to) = (from?, to?);
        if self.sum(from) >= self.sum(to) + 2 {
            let most = self.narrow(from, level, |place| place.gives, |sum| u64::MAX - sum)?;
            let least = self.narrow(to, level, |place| place.takes, |sum| sum)?;
            return Some((most, least));
        }
        if level == self.depth {
            return None;
        }
        groups.iter().find_map(|group| self.gap(group, level + 1))
    }

    /// The first place of a group, level by level, in the order of `rank`.
    fn narrow(&self, group: &[usize], level: usize, is: fn(&Place) -> bool, rank: fn(u64) -> u64) -> Option<usize> {
        if level == self.depth {
            return group.first().copied();
        }
        let inner = self.groups(group, level + 1);
        let next = inner.iter().filter(|group| self.any(group, is)).min_by_key(|group| rank(self.sum(group)))?;
        self.narrow(next, level + 1, is, rank)
    }

    /// By the value of the label of this level; below the last each place is by itself.
    fn groups(&self, of: &[usize], level: usize) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<(Option<&String>, usize), Vec<usize>> = BTreeMap::new();
        for (at, place) in of.iter().filter_map(|at| Some((*at, self.places.get(*at)?))) {
            let value = place.path.get(level);
            groups.entry((value, if value.is_some() { 0 } else { at })).or_default().push(at);
        }
        groups.into_values().collect()
    }

    fn any(&self, group: &[usize], is: fn(&Place) -> bool) -> bool {
        group.iter().filter_map(|at| self.places.get(*at)).any(is)
    }

    fn sum(&self, group: &[usize]) -> u64 {
        group.iter().filter_map(|at| self.places.get(*at)).map(|place| place.tasks).sum()
    }
}
