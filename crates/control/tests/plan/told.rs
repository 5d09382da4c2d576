//! What a script shows: changes and tasks as text, with names for ids.

use std::fmt::Write as _;

use control::Change;
use types::*;

use crate::script::World;

impl World {
    pub fn show(&mut self) {
        let mut lines: Vec<String> = Vec::new();
        for task in self.tables.tasks() {
            let node = task.node.map_or_else(|| "-".to_owned(), |id| self.node_name(id));
            let mut line = format!("{} on {node} {} (wants {})", self.names[&task.id], task.status.state, task.desired);
            if !task.status.error.is_empty() {
                write!(line, ": {}", task.status.error).unwrap();
            }
            if !task.reason.is_empty() {
                write!(line, " ({})", task.reason).unwrap();
            }
            lines.push(line);
        }
        lines.sort();
        for line in lines {
            writeln!(self.out, "  {line}").unwrap();
        }
    }

    /// As a front end would say it: running, wanted, complete, and when the schedule is due.
    pub fn show_jobs(&mut self) {
        let request = ReadRequest::Services(Filters::new());
        let Ok(ReadReply::Services(all)) = control::view::read(&self.tables, &request) else {
            panic!("services were asked for");
        };
        for view in all {
            let Some(job) = &view.service.job else { continue };
            let (name, running, desired, completed) =
                (&view.service.spec.name, view.running, view.desired, view.completed);
            write!(self.out, "  {name} #{} {running}/{desired} {completed} completed", job.iteration).unwrap();
            let times = [("began", job.last_execution), ("next", job.next_run), ("skipped", job.skipped)];
            for (what, at) in times.into_iter().filter_map(|(what, at)| Some((what, at?))) {
                let seconds = |from: Timestamp, to: Timestamp| to.since(from).as_secs_f64();
                let at = seconds(self.started, at) - seconds(at, self.started);
                write!(self.out, ", {what} {at}s").unwrap();
            }
            writeln!(self.out).unwrap();
        }
    }

    pub fn show_ports(&mut self) {
        for service in self.tables.services() {
            let port = |port: &PortConfig| match port.published {
                Some(_) => format!(" {}->{}", port.place(), port.target),
                None => format!(" ?->{}", port.target),
            };
            let all: String = service.ports().map(port).collect();
            writeln!(self.out, "{} at{all}", service.spec.name).unwrap();
        }
    }

    /// From what the node was told, not from the value.
    pub fn show_mesh(&mut self, node: NodeId) {
        let (_, set) = &self.told[&node];
        let Some(mesh) = set.overlays.values().find(|overlay| overlay.network.spec.ingress) else {
            return writeln!(self.out, "  no mesh").unwrap();
        };
        let mut lines = Vec::new();
        for service in mesh.services.values() {
            let ports: String =
                service.ports.iter().map(|port| format!(" {}->{}", port.place(), port.target)).collect();
            let MeshSpec { policy, affinity } = service.mesh;
            lines.push(format!("{} {policy} {affinity} {:?}{ports}", service.name, service.addresses));
        }
        for (task, endpoint) in &mesh.endpoints {
            let (name, node) = (&self.names[task], self.node_name(endpoint.node));
            let stage = format!("{:?}", endpoint.stage).to_lowercase();
            lines.push(format!("{name} on {node} {stage} weight {} {:?}", endpoint.weight, endpoint.addresses));
        }
        lines.sort();
        let peers: Vec<_> = set.network.data_path_peers.keys().map(|id| self.node_name(*id)).collect();
        lines.push(format!("peers {}", peers.join(" ")));
        for line in lines {
            writeln!(self.out, "  {line}").unwrap();
        }
    }

    pub fn node_name(&self, id: NodeId) -> String {
        self.nodes.iter().find(|(_, n)| **n == id).map_or_else(|| id.short(), |(name, _)| name.clone())
    }

    pub fn service_name(&self, id: ServiceId) -> String {
        self.tables.service(id).map_or_else(|| id.short(), |s| s.spec.name.to_string())
    }

    pub fn describe(&mut self, change: &Change) -> String {
        match change {
            Change::CreateTask(new) => {
                let slot = match new.slot {
                    Slot::Replica(number) => number.to_string(),
                    Slot::Node(node) => self.node_name(node),
                };
                let place = format!("{}.{slot}", self.service_name(new.service));
                let count = self.born.entry(place.clone()).or_default();
                *count += 1;
                let name = format!("{place}/{count}");
                self.names.insert(new.id, name.clone());
                let mut text = format!("create {name}");
                match new.node {
                    Some(node) => write!(text, " on {}", self.node_name(node)).unwrap(),
                    None => write!(text, " waiting: {}", new.error).unwrap(),
                }
                text.push_str(&places(&new.attachments));
                text.push_str(&granted(&new.granted));
                if new.not_before > self.now {
                    write!(text, " in {}s", new.not_before.since(self.now).as_secs_f64()).unwrap();
                }
                if !new.message.is_empty() {
                    write!(text, " ({})", new.message).unwrap();
                }
                text
            }
            Change::AssignTask { task, node, attachments, granted: own } => {
                let (places, granted) = (places(attachments), granted(own));
                format!("place {} on {}{places}{granted}", self.names[task], self.node_name(*node))
            }
            Change::ServiceAddresses { service, virtual_ips } => {
                let vip = |vip: &VirtualIp| format!(" {} {:?}", self.network_name(vip.network), vip.addresses);
                let all: String = virtual_ips.iter().map(vip).collect();
                format!("{} has addresses{all}", self.service_name(*service))
            }
            Change::TaskStatus { task, status, .. } => {
                let words = if status.error.is_empty() { &status.message } else { &status.error };
                format!("status {} {}: {words}", self.names[task], status.state)
            }
            Change::TaskDesired { task, desired, .. } => format!("want {} {desired}", self.names[task]),
            Change::RefreshTask(task) => format!("refresh {}", self.names[task]),
            Change::RemoveTask(task) => format!("forget {}", self.names[task]),
            Change::NodeState { node, state, message } => {
                format!("node {} {} {message}", self.node_name(*node), format!("{state:?}").to_lowercase())
            }
            Change::NodePeers { node, unreachable_peers } => {
                let peers: Vec<_> = unreachable_peers.iter().map(|peer| self.node_name(peer.by)).collect();
                format!("node {} cannot be reached by {peers:?}", self.node_name(*node))
            }
            Change::ServiceUpdate { service, update } => {
                let task = self.names.iter().find(|(id, _)| update.message.contains(&id.to_string()));
                let message = match task {
                    Some((id, name)) => update.message.replace(&id.to_string(), name),
                    None => update.message.clone(),
                };
                format!("{} {:?}: {message}", self.service_name(*service), update.state)
            }
            Change::ServiceRebalance { service, rebalance } => {
                let Rebalance { state, moved, message, .. } = rebalance;
                let task = self.names.iter().find(|(id, _)| message.contains(&id.to_string()));
                let message = task.map_or(message.clone(), |(id, name)| message.replace(&id.to_string(), name));
                let why = if message.is_empty() { String::new() } else { format!(": {message}") };
                format!("rebalance of {} {} with {moved} moved{why}", self.service_name(*service), state.as_str())
            }
            Change::EndMigration { volume, .. } => format!("volume {volume} stays"),
            Change::ServiceJob { service, job } => {
                let began = job.last_execution == Some(self.now);
                let what = if began { format!("begins #{}", job.iteration) } else { "skips a run".to_owned() };
                format!("{} {what}", self.service_name(*service))
            }
            Change::PutService { service, .. } => {
                format!("{} back to image {}", service.spec.name, service.spec.task.container.image.familiar())
            }
            Change::RemoveService(id) => format!("service {} gone", self.service_name(*id)),
            Change::RemoveNetwork(id) => format!("network {} gone", self.network_name(*id)),
            other => format!("{other:?}"),
        }
    }
}

/// Names alone: a count says no more than the spec.
fn granted(granted: &types::GenericResources) -> String {
    let names = granted.values().filter_map(|amount| match amount {
        types::GenericResource::Named(names) => Some(names.join("+")),
        _ => None,
    });
    names.map(|names| format!(" with {names}")).collect()
}

fn places(attachments: &[Attachment]) -> String {
    let addresses = attachments.iter().flat_map(|place| &place.addresses);
    addresses.map(|address| format!(" {address}")).collect()
}
