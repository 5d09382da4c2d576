//! Who depends on whom: services by the names of those they need (parity K-08).

use std::collections::BTreeSet;

use types::{Name, NodeId, Service, ServiceId};

use super::{FIRST_SERVICE, LAST_SERVICE, Tables, Touched};

impl Tables {
    /// Services that need the one of this name.
    pub(crate) fn dependents(&self, name: &Name) -> impl Iterator<Item = ServiceId> {
        let range = (name.clone(), FIRST_SERVICE)..=(name.clone(), LAST_SERVICE);
        self.needed.range(range).map(|(_, id)| *id)
    }

    /// Whether some service needs another.
    pub(crate) fn has_needs(&self) -> bool {
        !self.needed.is_empty()
    }

    /// Whether the order in which tasks of the service start means something, to it or to others. One that is being
    /// removed starts none, and its name may be another's.
    pub(crate) fn is_ordered(&self, service: &Service) -> bool {
        let counts = self.has_needs() && !service.removing;
        counts && (!service.spec.needs.is_empty() || self.dependents(&service.spec.name).next().is_some())
    }

    pub(super) fn index_needs(&mut self, old: Option<&Service>, new: Option<&Service>) {
        let names = |service: Option<&Service>| -> BTreeSet<Name> { service.map(needs).unwrap_or_default() };
        let (was, is) = (names(old), names(new));
        let id = new.or(old).map(|service| service.id);
        for name in was.difference(&is).cloned() {
            _ = id.map(|id| self.needed.remove(&(name, id)));
        }
        for name in is.difference(&was).cloned() {
            _ = id.map(|id| self.needed.insert((name, id)));
        }
    }

    /// Nodes learn with a task whether its order means something: those with tasks of whom it means something new to.
    pub(super) fn touch_ordered(&self, old: Option<&Service>, new: Option<&Service>, touched: &mut Touched) {
        let names = |service: Option<&Service>| -> BTreeSet<Name> { service.map(needs).unwrap_or_default() };
        let (was, is) = (names(old), names(new));
        let is_going = |service: Option<&Service>| service.is_some_and(|service| service.removing);
        if was == is && is_going(old) == is_going(new) {
            return;
        }
        let needed = was.symmetric_difference(&is).filter_map(|name| self.service_by_name(name)).map(|found| found.id);
        let all: Vec<ServiceId> = needed.chain(new.or(old).map(|service| service.id)).collect();
        let nodes = all.into_iter().flat_map(|id| self.tasks_of_service(id).filter_map(|task| task.node));
        touched.node_tasks.extend(nodes.collect::<Vec<NodeId>>());
    }
}

/// What is being removed needs nobody any more.
fn needs(service: &Service) -> BTreeSet<Name> {
    let all = service.spec.needs.iter().filter(|_| !service.removing);
    all.map(|need| need.service.clone()).collect()
}
