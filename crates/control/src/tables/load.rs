//! What tasks take from a node, kept up to date by `apply` so that no decision has to add it up.

use std::collections::{BTreeMap, BTreeSet};

use types::{GenericResource, GenericResources, NodeId, PortBind, PortConfig, PortProtocol, Task};

use super::Tables;
use crate::Rejection;

/// Sums over the tasks of a node that have not ended, those being stopped included: what they reserve is
/// free only when they are gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeLoad {
    pub tasks: u64,
    pub nano_cpus: u64,
    pub memory: u64,
    pub generic: BTreeMap<String, u64>,
    /// Generic resources that have a name, by kind: each is one task's.
    pub named: BTreeSet<(String, String)>,
    /// Host ports, and how many tasks hold each. More than one would be a mistake, as would be two that overlap.
    pub ports: BTreeMap<(PortProtocol, u16, PortBind), u64>,
}

static NONE: NodeLoad = NodeLoad {
    tasks: 0,
    nano_cpus: 0,
    memory: 0,
    generic: BTreeMap::new(),
    named: BTreeSet::new(),
    ports: BTreeMap::new(),
};

impl NodeLoad {
    pub(crate) fn none() -> &'static Self {
        &NONE
    }

    /// Whether a task holds the number of `port` here, at an address that `port` would need too (P32). A port
    /// without a number takes one that is free.
    pub fn holds_port(&self, port: &PortConfig) -> bool {
        let Some(number) = port.published else { return false };
        let at = (port.protocol, number);
        // the first place of all
        let held = self.ports.range((at.0, at.1, PortBind::All)..);
        held.take_while(|((protocol, number, _), _)| (*protocol, *number) == at)
            .any(|((_, _, bind), _)| bind.overlaps(&port.bind))
    }

    /// Whether a task counts on its node.
    pub fn counts(task: &Task) -> bool {
        task.node.is_some() && !task.status.state.is_terminal()
    }

    /// What of a node's generic resources a task gets that wants so much of each: names where the node has names, the
    /// first that are free. `None` if there is not as much.
    pub(crate) fn grant(&self, has: &GenericResources, wanted: &GenericResources) -> Option<GenericResources> {
        let is_free = |kind: &String, name: &String| !self.named.contains(&(kind.clone(), name.clone()));
        let one = |(kind, amount): (&String, &GenericResource)| {
            let there = has.get(kind);
            let used = self.generic.get(kind).copied().unwrap_or(0);
            let left = there.map_or(0, GenericResource::amount).saturating_sub(used);
            let these = amount.names();
            let granted = match there {
                _ if left < amount.amount() => return None,
                Some(GenericResource::Named(names)) => {
                    let mut free = names.iter().filter(|name| is_free(kind, name));
                    if !these.iter().all(|name| free.clone().any(|other| other == name)) {
                        return None;
                    }
                    let more = usize::try_from(amount.unnamed()).unwrap_or(usize::MAX);
                    let others = free.by_ref().filter(|name| !these.contains(name)).take(more);
                    GenericResource::Named(these.iter().chain(others).cloned().collect())
                }
                _ => these.is_empty().then(|| amount.clone())?,
            };
            Some((kind.clone(), granted))
        };
        wanted.iter().map(one).collect()
    }

    pub(crate) fn add(&mut self, task: &Task) {
        let reserved = &task.spec.resources.reservations;
        self.tasks += 1;
        self.nano_cpus = self.nano_cpus.saturating_add(reserved.nano_cpus.0);
        self.memory = self.memory.saturating_add(reserved.memory.0);
        for (kind, amount) in &reserved.generic {
            *self.generic.entry(kind.clone()).or_default() += amount.amount();
        }
        self.named.extend(names(&task.granted));
        for port in fixed_ports(&task.host_ports) {
            *self.ports.entry(port).or_default() += 1;
        }
    }

    pub(crate) fn subtract(&mut self, task: &Task) {
        let reserved = &task.spec.resources.reservations;
        self.tasks = self.tasks.saturating_sub(1);
        self.nano_cpus = self.nano_cpus.saturating_sub(reserved.nano_cpus.0);
        self.memory = self.memory.saturating_sub(reserved.memory.0);
        for (kind, amount) in &reserved.generic {
            if let Some(sum) = self.generic.get_mut(kind) {
                *sum = sum.saturating_sub(amount.amount());
            }
        }
        self.generic.retain(|_, sum| *sum > 0);
        for name in names(&task.granted) {
            self.named.remove(&name);
        }
        for port in fixed_ports(&task.host_ports) {
            if let Some(count) = self.ports.get_mut(&port) {
                *count = count.saturating_sub(1);
            }
        }
        self.ports.retain(|_, count| *count > 0);
    }
}

/// Ports that the user chose; of the others each node takes what is free.
fn fixed_ports(ports: &[PortConfig]) -> impl Iterator<Item = (PortProtocol, u16, PortBind)> {
    ports.iter().filter_map(|port| Some((port.protocol, port.published?, port.bind.clone())))
}

fn names(granted: &GenericResources) -> impl Iterator<Item = (String, String)> {
    granted.iter().flat_map(|(kind, amount)| amount.names().iter().map(|name| (kind.clone(), name.clone())))
}

impl Tables {
    /// A named resource has one owner: a plan that was made before another was applied is refused.
    pub(super) fn check_granted(&self, node: NodeId, granted: &GenericResources) -> Result<(), Rejection> {
        let held = self.load(node);
        match names(granted).find(|name| held.named.contains(name)) {
            Some((kind, name)) => Err(Rejection::out_of_sequence("generic resource", format!("{kind}={name}"))),
            None => Ok(()),
        }
    }
}
