//! Keeping the indexes in step: the only code that inserts and removes objects.

use std::sync::Arc;

use types::{Node, NodeId, Service, ServiceId, Task, TaskId};

use super::{NodeLoad, Tables};

impl Tables {
    pub(super) fn insert_node(&mut self, node: Arc<Node>) {
        self.nodes.insert(node.id, node);
    }

    pub(super) fn drop_node(&mut self, id: NodeId) {
        self.nodes.remove(&id);
    }

    pub(super) fn insert_service(&mut self, service: Arc<Service>) {
        if let Some(old) = self.services.get(&service.id)
            && self.names.get(&old.spec.name) == Some(&service.id)
        {
            let name = old.spec.name.clone();
            self.names.remove(&name);
        }
        if !service.removing {
            self.names.insert(service.spec.name.clone(), service.id);
        }
        self.services.insert(service.id, service);
    }

    pub(super) fn drop_service(&mut self, id: ServiceId) {
        if let Some(old) = self.services.remove(&id)
            && self.names.get(&old.spec.name) == Some(&id)
        {
            self.names.remove(&old.spec.name);
        }
    }

    pub(super) fn insert_task(&mut self, task: &Arc<Task>) {
        let (id, service, slot, node) = (task.id, task.service, task.slot, task.node);
        let counts = NodeLoad::counts(task);
        let old = self.tasks.insert(id, Arc::clone(task));
        match &old {
            None => {
                self.by_slot.insert((service, slot, id));
                if let Some(node) = node {
                    self.by_node.insert((node, id));
                }
            }
            // a task keeps its service and slot for life, and its node once it has one
            Some(old) if old.node != node => {
                if let Some(node) = node {
                    self.by_node.insert((node, id));
                }
            }
            Some(_) => {}
        }
        let counted = old.as_ref().is_some_and(|old| NodeLoad::counts(old));
        if counts && !counted {
            self.change_load(task, NodeLoad::add);
        } else if counted && !counts {
            self.change_load(task, NodeLoad::subtract);
        }
    }

    pub(super) fn drop_task(&mut self, id: TaskId) {
        let Some(old) = self.tasks.remove(&id) else { return };
        self.by_slot.remove(&(old.service, old.slot, id));
        if let Some(node) = old.node {
            self.by_node.remove(&(node, id));
        }
        if NodeLoad::counts(&old) {
            self.change_load(&old, NodeLoad::subtract);
        }
    }

    fn change_load(&mut self, task: &Task, change: fn(&mut NodeLoad, &Task)) {
        let Some(node) = task.node else { return };
        let load = self.loads.entry(node).or_default();
        change(load, task);
        if load.tasks == 0 {
            self.loads.remove(&node);
        }
    }
}
