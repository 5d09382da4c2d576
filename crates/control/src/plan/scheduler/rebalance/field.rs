//! The nodes of a service as a move sees them: between which of them a task should move, and why.

use std::collections::BTreeMap;

use types::{NodeId, NodeState, Service, Strategy, Timestamp};

use super::{
    super::{Standpoint, candidate::Order, filter::Ask, neighbours::Neighbours, spread, steering},
    SETTLE,
};
use crate::{
    admission,
    plan::{draft::Draft, slots::SlotView},
};

/// The nodes with the service's tasks, and those that would take one.
pub(super) struct Field {
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
    /// Since when the node is READY.
    since: Timestamp,
    shown: String,
}

/// The tasks on each node as they will be when what moves has moved, and how many slots have no node yet.
fn count(views: &[SlotView]) -> (BTreeMap<NodeId, u64>, usize) {
    let (mut counts, mut placeless) = (BTreeMap::new(), 0);
    for view in views {
        match view.wanted().last().map(|task| task.node) {
            Some(Some(node)) => *counts.entry(node).or_default() += 1,
            _ => placeless += 1,
        }
    }
    (counts, placeless)
}

/// Between two nodes, or two groups of them.
pub(super) struct Gap {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    /// When the node that takes came.
    pub(super) joined: Timestamp,
    pub(super) why: String,
    places: (usize, usize),
}

impl Field {
    /// With the time at which a node that is too fresh now will be none any more, if that matters.
    pub(super) fn of(
        draft: &Draft,
        service: &Service,
        views: &[SlotView],
        must_settle: bool,
    ) -> (Self, Option<Timestamp>) {
        let (counts, placeless) = count(views);
        let neighbours = Neighbours::of(draft, service);
        let host_ports: Vec<_> = admission::host_ports(&service.spec).cloned().collect();
        let spec = &service.task_spec;
        let order = if steering(service).strategy == Strategy::BinPack { Order::Full } else { Order::Even };
        let ask = Ask { spec, host_ports: &host_ports, neighbours: &neighbours, order };
        let preferences = &spec.placement.preferences;
        let standpoint = Standpoint::new(draft, service);
        let mut all: Vec<_> = standpoint.all().collect();
        // of places that are as good as each other, the scheduler's choice
        all.sort_by_cached_key(|candidate| candidate.rank(&ask));
        let takes = |candidate: &_| ask.refuses(candidate).is_none();
        // a node that lacks what another has is none to move to
        let fewest = all.iter().filter(|candidate| takes(candidate)).map(|candidate| ask.unmet_wishes(candidate)).min();
        let settled = |since: Timestamp| !must_settle || since + SETTLE <= draft.now();
        let mut fresh = None;
        let mut places = Vec::new();
        for candidate in &all {
            let (node, status) = (candidate.node, &candidate.node.status);
            let suits = takes(candidate) && !candidate.fails && fewest == Some(ask.unmet_wishes(candidate));
            if suits && !settled(status.since) {
                fresh = fresh.into_iter().chain([status.since + SETTLE]).min();
            }
            let tasks = counts.get(&node.id).copied().unwrap_or(0);
            places.push(Place {
                node: node.id,
                path: preferences.iter().map(|over| spread::label(node, over)).collect(),
                tasks,
                takes: suits && settled(status.since),
                gives: status.state == NodeState::Ready && tasks > 0,
                since: status.since,
                shown: node.shown_name().to_owned(),
            });
        }
        let mut field = Self { depth: preferences.len(), places };
        (0..placeless).for_each(|_| field.expect_one());
        (field, fresh)
    }

    /// A task that has no node yet gets the best one.
    fn expect_one(&mut self) {
        let all: Vec<usize> = (0..self.places.len()).collect();
        let taking = |group: &&Vec<usize>| self.any(group, |place| place.takes);
        let groups = self.groups(&all, 0);
        let best = groups.iter().filter(taking).min_by_key(|group| self.sum(group));
        let best = best.and_then(|group| self.narrow(group, 0, |place| place.takes, |sum| sum));
        if let Some(place) = best.and_then(|at| self.places.get_mut(at)) {
            place.tasks += 1;
        }
    }

    /// Other nodes take nothing.
    pub(super) fn only_joined_after(&mut self, oldest: Timestamp) {
        self.places.iter_mut().for_each(|place| place.takes &= place.since > oldest);
    }

    /// Where a task should go from and to.
    pub(super) fn next_gap(&self) -> Option<Gap> {
        let all: Vec<usize> = (0..self.places.len()).collect();
        let ((from, to), why) = self.gap(&all, 0)?;
        let (giver, taker) = (self.places.get(from)?, self.places.get(to)?);
        Some(Gap { from: giver.node, to: taker.node, joined: taker.since, why, places: (from, to) })
    }

    /// The move is counted.
    pub(super) fn take(&mut self, gap: &Gap) {
        let (from, to) = gap.places;
        if let Some(to) = self.places.get_mut(to) {
            to.tasks += 1;
        }
        if let Some(from) = self.places.get_mut(from) {
            from.tasks = from.tasks.saturating_sub(1);
            from.gives = from.tasks > 0;
        }
    }

    /// The node has no task that may go there.
    pub(super) fn keeps(&mut self, gap: &Gap) {
        if let Some(from) = self.places.get_mut(gap.places.0) {
            from.gives = false;
        }
    }

    /// The places between which a move evens out the outermost level that is uneven.
    fn gap(&self, of: &[usize], level: usize) -> Option<((usize, usize), String)> {
        let groups = self.groups(of, level);
        let giving = groups.iter().filter(|group| self.any(group, |place| place.gives));
        let from = giving.max_by_key(|group| self.sum(group))?;
        let to =
            groups.iter().filter(|group| self.any(group, |place| place.takes)).min_by_key(|group| self.sum(group))?;
        let (most, least) = (self.sum(from), self.sum(to));
        if most >= least + 2 {
            let why =
                format!("{} has {most} of its tasks, {} {least}", self.called(from, level), self.called(to, level));
            let giver = self.narrow(from, level, |place| place.gives, |sum| u64::MAX - sum)?;
            let taker = self.narrow(to, level, |place| place.takes, |sum| sum)?;
            return Some(((giver, taker), why));
        }
        if level == self.depth {
            return None;
        }
        groups.iter().find_map(|group| self.gap(group, level + 1))
    }

    /// A group by the value of its label, a node by its name.
    fn called(&self, group: &[usize], level: usize) -> String {
        let place = group.first().and_then(|at| self.places.get(*at));
        match place.map(|place| (place.path.get(level), &place.shown)) {
            Some((Some(value), _)) if value.is_empty() => "no label".to_owned(),
            Some((Some(value), _)) => value.clone(),
            Some((None, name)) => name.clone(),
            None => String::new(),
        }
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
