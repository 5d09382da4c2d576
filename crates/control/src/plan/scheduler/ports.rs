//! Host ports: which node has which taken. Added up only for services that want some.

use std::collections::BTreeSet;

use types::{NodeId, PortProtocol, Service, ServiceSpec};

use crate::{NodeLoad, Tables, admission};

pub(super) struct PortsInUse {
    wanted: Vec<(PortProtocol, u16)>,
    taken: BTreeSet<(NodeId, PortProtocol, u16)>,
}

impl PortsInUse {
    pub(super) fn new(tables: &Tables, service: &Service) -> Self {
        let wanted: Vec<_> = fixed(&service.spec).collect();
        let mut taken = BTreeSet::new();
        if !wanted.is_empty() {
            for other in tables.services() {
                add_ports(tables, other, &mut taken);
            }
        }
        Self { wanted, taken }
    }

    pub(super) fn wanted(&self) -> &[(PortProtocol, u16)] {
        &self.wanted
    }

    pub(super) fn conflict(&self, node: NodeId) -> Option<(PortProtocol, u16)> {
        self.wanted.iter().find(|(protocol, port)| self.taken.contains(&(node, *protocol, *port))).copied()
    }
}

fn fixed(spec: &ServiceSpec) -> impl Iterator<Item = (PortProtocol, u16)> {
    admission::host_ports(spec).filter_map(|port| Some((port.protocol, port.published?)))
}

/// A task made before the last change of the spec may hold the ports of either.
fn add_ports(tables: &Tables, service: &Service, taken: &mut BTreeSet<(NodeId, PortProtocol, u16)>) {
    let now: Vec<_> = fixed(&service.spec).collect();
    let before: Vec<_> = service.previous.as_deref().into_iter().flat_map(fixed).collect();
    if now.is_empty() && before.is_empty() {
        return;
    }
    for task in tables.tasks_of_service(service.id).filter(|task| NodeLoad::counts(task)) {
        let Some(node) = task.node else { continue };
        taken.extend(now.iter().map(|(protocol, port)| (node, *protocol, *port)));
        if task.spec_version != service.spec_version {
            taken.extend(before.iter().map(|(protocol, port)| (node, *protocol, *port)));
        }
    }
}
