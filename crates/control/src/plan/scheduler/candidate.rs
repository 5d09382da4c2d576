//! A node as the scheduler sees it while it hands out tasks: what is free, and how good a choice it is.

use std::collections::BTreeMap;

use types::{GenericResource, Node, Resources, ServiceId};

use super::filter::Ask;
use crate::NodeLoad;

/// What one task without reservations weighs beside reserved shares of a node, in thousandths of a node.
const TASK_WEIGHT: u64 = 10;

/// Which of the nodes that take a task is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The one with fewest tasks of the service, then the least loaded.
    Even,
    /// One without a task of the service, then the least loaded: what tasks reserve counts for more than how many they
    /// are (P49).
    Light,
    /// The most loaded.
    Full,
}

/// Lower is better: no recent failures, few wishes left open, no task of the service yet (unless nodes are filled up),
/// not held back for being new, then as the order says, and a fixed toss-up.
pub(super) type Rank = (bool, usize, u64, bool, u64, u64, u64);

pub(super) struct Candidate<'a> {
    pub(super) node: &'a Node,
    pub(super) free_cpus: u64,
    pub(super) free_memory: u64,
    pub(super) free_generic: BTreeMap<String, u64>,
    /// What tasks hold here.
    pub(super) held: &'a NodeLoad,
    /// Tasks of the service here.
    pub(super) service_tasks: u64,
    /// Of all services.
    pub(super) tasks: u64,
    /// From how many of them on the node comes after the others: see `ramp`.
    pub(super) enough: Option<u64>,
    /// The service keeps failing here, or was rejected.
    pub(super) fails: bool,
    tie: u64,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(node: &'a Node, load: &'a NodeLoad, service: ServiceId, service_tasks: u64, fails: bool) -> Self {
        let none = Resources::default();
        let total = node.description.as_ref().map_or(&none, |d| &d.resources);
        let generic = |(kind, amount): (&String, &types::GenericResource)| {
            let used = load.generic.get(kind).copied().unwrap_or(0);
            (kind.clone(), amount.amount().saturating_sub(used))
        };
        Self {
            node,
            free_cpus: total.nano_cpus.0.saturating_sub(load.nano_cpus),
            free_memory: total.memory.0.saturating_sub(load.memory),
            free_generic: total.generic.iter().map(generic).collect(),
            held: load,
            service_tasks,
            tasks: load.tasks,
            enough: None,
            fails,
            tie: toss(node.id.as_u128(), service.as_u128()),
        }
    }

    /// Whether the node has these by name, and nobody holds them.
    pub(super) fn has_names(&self, kind: &str, wanted: &[String]) -> bool {
        let described = self.node.description.as_ref();
        let Some(GenericResource::Named(names)) = described.and_then(|told| told.resources.generic.get(kind)) else {
            return wanted.is_empty();
        };
        let is_free = |name: &String| !self.held.named.contains(&(kind.to_owned(), name.clone()));
        wanted.iter().all(|name| names.contains(name) && is_free(name))
    }

    pub(super) fn rank(&self, ask: &Ask<'_>) -> Rank {
        let (beside, first, second) = match ask.order {
            Order::Even => (self.service_tasks.min(1), self.service_tasks, self.load()),
            Order::Light => (self.service_tasks.min(1), self.load(), 0),
            Order::Full => (0, u64::MAX - self.load(), 0),
        };
        let is_held_back = self.enough.is_some_and(|enough| self.tasks >= enough);
        (self.fails, ask.unmet_wishes(self), beside, is_held_back, first, second, self.tie)
    }

    /// Thousandths of the node that are reserved, of whichever is scarcer, plus a little for each task.
    fn load(&self) -> u64 {
        let Some(description) = &self.node.description else { return 0 };
        let (cpus, memory) = (description.resources.nano_cpus.0, description.resources.memory.0);
        let share = |free: u64, total: u64| {
            let used = u128::from(total.saturating_sub(free));
            u64::try_from((used * 1000).checked_div(u128::from(total)).unwrap_or(0)).unwrap_or(1000)
        };
        share(self.free_cpus, cpus).max(share(self.free_memory, memory)) + self.tasks * TASK_WEIGHT
    }

    /// One task of the service is put here.
    pub(super) fn take(&mut self, reserved: &Resources) {
        self.service_tasks += 1;
        self.tasks += 1;
        self.free_cpus = self.free_cpus.saturating_sub(reserved.nano_cpus.0);
        self.free_memory = self.free_memory.saturating_sub(reserved.memory.0);
        for (kind, amount) in &reserved.generic {
            if let Some(free) = self.free_generic.get_mut(kind) {
                *free = free.saturating_sub(amount.amount());
            }
        }
    }
}

/// A number that differs by service, so that not every service begins on the same node. Any mixing will do,
/// as long as it is the same on every manager for ever.
fn toss(node: u128, service: u128) -> u64 {
    let mixed = (node ^ service.rotate_left(64)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    #[allow(clippy::cast_possible_truncation)] // the upper half is the well mixed one
    let upper = (mixed >> 64) as u64;
    upper
}
