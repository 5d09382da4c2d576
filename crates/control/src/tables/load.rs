//! What tasks take from a node, kept up to date by `apply` so that no decision has to add it up.

use std::collections::BTreeMap;

use types::{Resources, Task};

/// Sums over the tasks of a node that have not ended, those being stopped included: what they reserve is
/// free only when they are gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeLoad {
    pub tasks: u64,
    pub nano_cpus: u64,
    pub memory: u64,
    pub generic: BTreeMap<String, u64>,
}

static NONE: NodeLoad = NodeLoad { tasks: 0, nano_cpus: 0, memory: 0, generic: BTreeMap::new() };

impl NodeLoad {
    pub(crate) fn none() -> &'static Self {
        &NONE
    }

    /// Whether a task counts on its node.
    pub fn counts(task: &Task) -> bool {
        task.node.is_some() && !task.status.state.is_terminal()
    }

    pub(crate) fn add(&mut self, reserved: &Resources) {
        self.tasks += 1;
        self.nano_cpus = self.nano_cpus.saturating_add(reserved.nano_cpus.0);
        self.memory = self.memory.saturating_add(reserved.memory.0);
        for (kind, amount) in &reserved.generic {
            *self.generic.entry(kind.clone()).or_default() += amount.amount();
        }
    }

    pub(crate) fn subtract(&mut self, reserved: &Resources) {
        self.tasks = self.tasks.saturating_sub(1);
        self.nano_cpus = self.nano_cpus.saturating_sub(reserved.nano_cpus.0);
        self.memory = self.memory.saturating_sub(reserved.memory.0);
        for (kind, amount) in &reserved.generic {
            if let Some(sum) = self.generic.get_mut(kind) {
                *sum = sum.saturating_sub(amount.amount());
            }
        }
        self.generic.retain(|_, sum| *sum > 0);
    }
}
