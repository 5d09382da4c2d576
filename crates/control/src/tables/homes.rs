//! Where the data of a service's slots is: the node on which a task of the slot last ran with named volumes (P41).
//!
//! Outlives the tasks and a scale-down, and goes with the service.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use types::{NodeId, Service, ServiceId, ServiceMode, Slot, Task};

use super::{FIRST_SLOT, LAST_SLOT, Tables};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Home {
    pub(crate) node: NodeId,
    pub(crate) volumes: Vec<String>,
}

impl Tables {
    /// A task began to run: its data is on its node from now on.
    pub(super) fn settle(&mut self, task: &Task) {
        let replicated =
            self.service(task.service).is_some_and(|s| matches!(s.spec.mode, ServiceMode::Replicated { .. }));
        let (Some(node), true) = (task.node, replicated) else { return };
        let volumes: Vec<String> = task.spec.container.node_volumes().map(str::to_owned).collect();
        let key = (task.service, task.slot);
        if volumes.is_empty() {
            self.homes.remove(&key);
        } else {
            self.homes.insert(key, Arc::new(Home { node, volumes }));
        }
    }

    /// The node with data that a task of the slot would have, and one of the volumes it is in.
    pub(crate) fn home<'t>(&'t self, service: &Service, slot: Slot) -> Option<(NodeId, &'t str)> {
        let home = self.homes.get(&(service.id, slot))?;
        self.node(home.node)?;
        let wanted = |volume: &&String| service.task_spec.container.node_volumes().any(|name| name == *volume);
        home.volumes.iter().find(wanted).map(|volume| (home.node, volume.as_str()))
    }

    /// All of them.
    pub(crate) fn homes(&self) -> impl Iterator<Item = (&(ServiceId, Slot), &Home)> {
        self.homes.iter().map(|(key, home)| (key, &**home))
    }

    pub(super) fn forget_homes(&mut self, service: ServiceId) {
        let slots: Vec<Slot> =
            self.homes.range((service, FIRST_SLOT)..=(service, LAST_SLOT)).map(|((_, slot), _)| *slot).collect();
        for slot in slots {
            self.homes.remove(&(service, slot));
        }
    }
}
