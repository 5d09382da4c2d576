//! Where the data of a service's slots is: the node on which a task of the slot last ran with named volumes (P41).
//!
//! Kept by the service's name. Outlives the tasks, a scale-down and the service itself: volumes stay on their nodes when it is
//! removed, and who makes a service of that name again wants the data that it had.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use types::{Name, NodeId, OnMissing, Service, ServiceId, ServiceMode, Slot, Task};

use super::{FIRST_SERVICE, Tables};

/// Names of removed services whose data is remembered. Beyond it the one that went first is forgotten: who makes services
/// of ever new names does not come back to them.
const MAX_LEFT: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Home {
    pub(crate) node: NodeId,
    pub(crate) volumes: Vec<String>,
    /// Whose task ran there.
    #[serde(default = "nobody")]
    pub(super) service: ServiceId,
}

fn nobody() -> ServiceId {
    FIRST_SERVICE
}

/// The homes of all slots, by names of services.
#[derive(Debug, Clone, Default)]
pub(super) struct Homes {
    by_name: OrdMap<Name, OrdMap<Slot, Arc<Home>>>,
    /// Of names that no service has any more, and the index of the value when it went.
    left: OrdMap<Name, u64>,
}

impl Homes {
    pub(super) fn get(&self, name: &Name, slot: Slot) -> Option<&Arc<Home>> {
        self.by_name.get(name)?.get(&slot)
    }

    pub(super) fn insert(&mut self, name: &Name, slot: Slot, home: Arc<Home>) {
        let mut slots = self.by_name.get(name).cloned().unwrap_or_default();
        slots.insert(slot, home);
        self.by_name.insert(name.clone(), slots);
    }

    fn remove(&mut self, name: &Name, slot: Slot) {
        let Some(mut slots) = self.by_name.get(name).cloned() else { return };
        slots.remove(&slot);
        match slots.is_empty() {
            true => _ = self.by_name.remove(name),
            false => _ = self.by_name.insert(name.clone(), slots),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, Slot, &Arc<Home>)> {
        self.by_name.iter().flat_map(|(name, slots)| slots.iter().map(move |(slot, home)| (name, *slot, home)))
    }

    pub(super) fn left(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.left.iter().map(|(name, index)| (name, *index))
    }

    /// A service has the name.
    pub(super) fn taken(&mut self, name: &Name) {
        self.left.remove(name);
    }

    /// None has it any more, since `index`.
    pub(super) fn leave(&mut self, name: &Name, index: u64) {
        if !self.by_name.contains_key(name) {
            return;
        }
        self.left.insert(name.clone(), index);
        if self.left.len() > MAX_LEFT
            && let Some((oldest, _)) = self.left.iter().min_by_key(|(name, index)| (**index, *name))
        {
            let oldest = oldest.clone();
            self.left.remove(&oldest);
            self.by_name.remove(&oldest);
        }
    }
}

impl Tables {
    /// A task began to run: its data is on its node from now on.
    pub(super) fn settle(&mut self, task: &Task) {
        let Some(service) = self.service(task.service).cloned() else { return };
        let (Some(node), ServiceMode::Replicated { .. }) = (task.node, &service.spec.mode) else { return };
        let name = &service.spec.name;
        // of one on its way out: another may have its name by now, and says itself where it runs
        if self.service_by_name(name).is_some_and(|other| other.id != service.id) {
            return;
        }
        let volumes: Vec<String> = task.spec.container.node_volumes().map(str::to_owned).collect();
        if volumes.is_empty() {
            self.homes.remove(name, task.slot);
        } else {
            self.homes.insert(name, task.slot, Arc::new(Home { node, volumes, service: service.id }));
        }
    }

    /// The node with data that a task of the slot would have, and one of the volumes it is in.
    pub(crate) fn home<'t>(&'t self, service: &Service, slot: Slot) -> Option<(NodeId, &'t str)> {
        let (home, volume) = self.home_of(service, slot)?;
        Some((home.node, volume))
    }

    fn home_of<'t>(&'t self, service: &Service, slot: Slot) -> Option<(&'t Home, &'t str)> {
        let home = self.homes.get(&service.spec.name, slot)?;
        self.node(home.node)?;
        let wanted = |volume: &&String| service.task_spec.container.node_volumes().any(|name| name == *volume);
        home.volumes.iter().find(wanted).map(|volume| (&**home, volume.as_str()))
    }

    /// The volume that a task of the slot would have and a removed service of the same name still has: two must not write
    /// to it.
    pub(crate) fn inherited<'t>(&'t self, service: &Service, slot: Slot) -> Option<&'t str> {
        let (home, volume) = self.home_of(service, slot).filter(|(home, _)| home.service != service.id)?;
        let waits = service.spec.steering().is_ok_and(|steering| steering.on_missing != OnMissing::Create);
        let is_used = || self.tasks_of_slot(home.service, slot).any(|task| !task.status.state.is_terminal());
        (waits && is_used()).then_some(volume)
    }

    /// All of the services that there are.
    pub(crate) fn homes(&self) -> impl Iterator<Item = ((ServiceId, Slot), &Home)> {
        self.homes.iter().filter_map(move |(name, slot, home)| Some(((self.service_by_name(name)?.id, slot), &**home)))
    }

    /// Names of removed services whose data is in a volume of this name, and where.
    pub(crate) fn left_homes(&self, volume: &str) -> impl Iterator<Item = (&Name, Slot, NodeId)> {
        let gone = self.homes.iter().filter(move |(name, ..)| self.service_by_name(name).is_none());
        let has = move |home: &Home| home.volumes.iter().any(|name| name == volume);
        gone.filter(move |(_, _, home)| has(home)).map(|(name, slot, home)| (name, slot, home.node))
    }

    /// Whether all homes are of a service, or will be forgotten some day.
    pub(crate) fn check_homes(&self) -> Result<(), String> {
        let is_left = |name: &Name| self.homes.left().any(|(left, _)| left == name);
        let is_named = |name: &Name| self.services().any(|service| service.spec.name == *name);
        let is_wrong = |name: &Name| match self.service_by_name(name) {
            Some(_) => is_left(name),
            None => !is_left(name) && !is_named(name),
        };
        match self.homes.iter().find(|(name, ..)| is_wrong(name)) {
            Some((name, slot, _)) => {
                Err(format!("the data of {name}.{slot} is of no service and never forgotten, or of one and will be"))
            }
            None => Ok(()),
        }
    }
}
