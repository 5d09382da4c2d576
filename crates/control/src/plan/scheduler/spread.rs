//! The field of candidates: a tree over the values of the preferred labels, with a heap of nodes in each leaf.
//! On each level the branch with fewest tasks of the service is next.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use types::{Node, NodeId, SpreadOver, constraint::ConstraintKey};

use crate::plan::placement;

use super::{
    candidate::{Candidate, Rank},
    filter::Ask,
};

pub(super) struct Field<'a> {
    ask: Ask<'a>,
    candidates: Vec<Candidate<'a>>,
    root: Branch,
}

/// `tasks` counts the service's tasks on all nodes below.
#[derive(Default)]
struct Branch {
    tasks: u64,
    inner: BTreeMap<String, Branch>,
    /// Positions in `candidates`; only in leaves.
    heap: BinaryHeap<Reverse<(Rank, usize)>>,
}

impl<'a> Field<'a> {
    pub(super) fn new(ask: Ask<'a>, candidates: Vec<Candidate<'a>>) -> Self {
        let mut root = Branch::default();
        let preferences = &ask.spec.placement.preferences;
        for (position, candidate) in candidates.iter().enumerate() {
            if ask.refuses(candidate).is_none() {
                root.insert(preferences, candidate, (candidate.rank(&ask), position));
            }
        }
        Self { ask, candidates, root }
    }

    /// The best node for one more task; it is taken.
    pub(super) fn take(&mut self) -> Option<NodeId> {
        let Self { ask, candidates, root } = self;
        root.take(ask, candidates).and_then(|position| Some(candidates.get(position)?.node.id))
    }
}

impl Branch {
    fn insert(&mut self, preferences: &[SpreadOver], candidate: &Candidate<'_>, entry: (Rank, usize)) {
        self.tasks += candidate.service_tasks;
        match preferences {
            [] => self.heap.push(Reverse(entry)),
            [outer, inner @ ..] => {
                let value = label(candidate.node, outer);
                self.inner.entry(value).or_default().insert(inner, candidate, entry);
            }
        }
    }

    fn take(&mut self, ask: &Ask<'_>, candidates: &mut [Candidate<'_>]) -> Option<usize> {
        let taken = if self.inner.is_empty() {
            self.take_from_heap(ask, candidates)
        } else {
            self.take_from_inner(ask, candidates)
        };
        self.tasks += u64::from(taken.is_some());
        taken
    }

    fn take_from_inner(&mut self, ask: &Ask<'_>, candidates: &mut [Candidate<'_>]) -> Option<usize> {
        loop {
            let (value, _) = self.inner.iter().min_by_key(|(value, branch)| (branch.tasks, *value))?;
            let value = value.clone();
            if let Some(taken) = self.inner.get_mut(&value)?.take(ask, candidates) {
                return Some(taken);
            }
            self.inner.remove(&value);
        }
    }

    /// What a node has only shrinks while a group is placed, so a node that is used up is not asked again.
    fn take_from_heap(&mut self, ask: &Ask<'_>, candidates: &mut [Candidate<'_>]) -> Option<usize> {
        let Reverse((_, position)) = self.heap.pop()?;
        let candidate = candidates.get_mut(position)?;
        candidate.take(ask.reserved());
        if !ask.is_used_up(candidate) {
            self.heap.push(Reverse((candidate.rank(ask), position)));
        }
        Some(position)
    }
}

pub(super) fn label(node: &Node, over: &SpreadOver) -> String {
    let found = match over {
        SpreadOver::NodeLabel(name) => node.spec.labels.get(name).cloned(),
        SpreadOver::EngineLabel(name) => node.description.as_ref().and_then(|d| d.engine_labels.get(name)).cloned(),
        SpreadOver::Other(name) => ConstraintKey::of_node(name).and_then(|key| placement::found(node, &key)),
    };
    found.unwrap_or_default()
}
