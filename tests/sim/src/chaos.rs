//! What goes wrong, what users do meanwhile, and the oracles that know better than the value.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use control::{Change, NodeLoad, Proposal, admission, invariants, view};
use types::{
    AttachRequest, Availability, NetworkId, NodeState, Service, ServiceChange, ServiceId, ServiceMode, ServiceSpec,
    Task, TaskId, TaskState, WriteRequest,
};

use crate::{
    cluster::{Cluster, Event, Fault, Origin},
    specs,
};

/// A verdict "lost" must have a cause at most this old: probes and silence take this long to show it, and
/// with delays of messages the cause may be over by then.
const CAUSE_WITHIN: Duration = Duration::from_secs(6);
const MOST_SERVICES: usize = 12;

impl Cluster {
    pub(crate) fn make_chaos(&mut self) {
        if !self.chaos {
            return;
        }
        let ms = self.random.between(20, 400);
        self.after_ms(ms, Event::Chaos);
        if self.random.chance(45) {
            self.fault();
        } else {
            self.user();
        }
    }

    fn fault(&mut self) {
        self.report.faults += 1;
        if self.random.chance(8) {
            self.leader = None;
            self.note(|| "the leader is gone".to_owned());
            let ms = self.random.between(100, 2500);
            self.after_ms(ms, Event::Elect);
            return;
        }
        let number = self.random.below(self.agents.len() as u64) as usize;
        let fault = *self.random.pick(&[Fault::Crash, Fault::Freeze, Fault::StreamCut, Fault::Cut]).expect("four");
        let ms = self.random.between(200, 25_000);
        self.note(|| format!("{fault:?} of host {number} for {ms} ms"));
        let agent = &mut self.agents[number];
        match fault {
            Fault::Crash => agent.crash(self.now),
            Fault::Freeze => agent.frozen = true,
            Fault::StreamCut => agent.stream_cut = true,
            Fault::Cut => agent.cut = true,
        }
        if !matches!(fault, Fault::Freeze | Fault::StreamCut) {
            agent.unwell_at = self.now;
        }
        agent.greets = true;
        let led_from_here = self.leader.as_ref().is_some_and(|leader| leader.observed.me == agent.id);
        self.after_ms(ms, Event::Heal(number, fault));
        if led_from_here {
            self.leader = None;
            let ms = self.random.between(300, 2000);
            self.after_ms(ms, Event::Elect);
        }
    }

    pub(crate) fn heal(&mut self, number: usize, fault: Fault) {
        let (now, agent) = (self.now, &mut self.agents[number]);
        match fault {
            Fault::Crash => agent.host_up = true,
            Fault::Freeze => agent.frozen = false,
            Fault::StreamCut => agent.stream_cut = false,
            Fault::Cut => agent.cut = false,
        }
        if !matches!(fault, Fault::Freeze | Fault::StreamCut) {
            agent.unwell_at = now;
        }
        agent.greets = true;
    }

    /// The end of all faults: hosts are up and whole, nodes active, images good.
    pub(crate) fn heal_all(&mut self) {
        self.chaos = false;
        self.note(|| "everything is healed".to_owned());
        for number in 0..self.agents.len() {
            for fault in [Fault::Crash, Fault::Freeze, Fault::StreamCut, Fault::Cut] {
                self.heal(number, fault);
            }
        }
        if self.leader.is_none() {
            self.after_ms(10, Event::Elect);
        }
        let nodes: Vec<_> = self.tables.nodes().cloned().collect();
        for node in nodes.iter().filter(|node| node.spec.availability != Availability::Active) {
            let mut next = (**node).clone();
            next.spec.availability = Availability::Active;
            self.heal_with(Change::PutNode(Box::new(next)));
        }
        let services: Vec<_> = self.tables.services().filter(|service| !service.removing).cloned().collect();
        for service in services {
            let mut spec = (*service.spec).clone();
            let is_job = spec.mode.is_job();
            spec.task.container.image = specs::image(if is_job { "job:good" } else { "app:good" });
            // with no schedule any more a job runs once, and then comes to rest
            spec.schedule = None;
            let job = service.job.as_ref().map(|job| types::JobStatus { next_run: None, ..job.begun(self.now) });
            let next = Service { spec: Arc::new(spec), job, update: None, previous: None, ..(*service).clone() };
            self.heal_with(Change::PutService { service: Box::new(next), new_spec: true });
        }
        self.plan_soon();
    }

    fn heal_with(&mut self, change: Change) {
        let proposal = Proposal { at: self.now, expects: Vec::new(), changes: vec![change] };
        // straight into the value: what is simulated is how the cluster follows
        let _ = self.tables.apply(self.tables.index() + 1, &proposal);
    }

    fn user(&mut self) {
        if self.leader.is_none() {
            return;
        }
        let services: Vec<_> = self.tables.services().filter(|s| !s.removing).cloned().collect();
        let most = self.settings.nodes as u64;
        let Some(service) = self.random.pick(&services).cloned().filter(|_| services.len() >= 3) else {
            let name = format!("s{}", self.random.below(20));
            let mut spec = specs::any_service(&name, &mut self.random, most);
            let networks = self.network_names();
            spec.task.networks = specs::any_attachments(&networks, &mut self.random);
            return self.write(&WriteRequest::CreateService(Box::new(spec)), Origin::Other);
        };
        let (id, version) = (service.id, service.meta.version);
        let with = |spec: ServiceSpec| WriteRequest::UpdateService {
            id,
            version,
            change: ServiceChange::Spec(Box::new(spec)),
        };
        let mut spec = (*service.spec).clone();
        match self.random.below(18) {
            0 if services.len() < MOST_SERVICES => {
                let name = format!("s{}", self.random.below(20));
                let mut spec = specs::any_service(&name, &mut self.random, most);
                if self.random.chance(40) {
                    spec.needs = vec![specs::any_need(&service.spec, &mut self.random)];
                }
                self.write(&WriteRequest::CreateService(Box::new(spec)), Origin::Other);
            }
            1 => self.write(&WriteRequest::RemoveService(id), Origin::Other),
            2 | 3 => {
                specs::scale(&mut spec.mode, &mut self.random, most);
                self.write(&with(spec), Origin::Other);
            }
            4 | 5 => {
                let kind = if spec.mode.is_job() { "job" } else { "app" };
                let name = if self.random.chance(25) {
                    "bad:1".to_owned()
                } else {
                    format!("{kind}:{}", self.random.below(4))
                };
                spec.task.container.image = specs::image(&name);
                self.write(&with(spec), Origin::Other);
            }
            6 => {
                if spec.mode.is_job() {
                    // a job says nothing of a rollback afterwards
                    self.was_rolled_back.insert(id);
                }
                let change = ServiceChange::Rollback;
                self.write(&WriteRequest::UpdateService { id, version, change }, Origin::Other);
            }
            7 | 8 => self.change_node(),
            9 | 10 => self.change_networks(),
            14 => self.change_secrets(service.as_ref()),
            11 => {
                let networks = self.network_names();
                spec.task.networks = specs::any_attachments(&networks, &mut self.random);
                self.write(&with(spec), Origin::Other);
            }
            12 | 13 => {
                spec.endpoint.ports = specs::any_ports(&mut self.random);
                self.write(&with(spec), Origin::Other);
            }
            // several users at once raise the same counter: each raise that was accepted must be kept
            _ => {
                for _ in 0..3 {
                    let mut spec = (*service.spec).clone();
                    let count = counter(&spec) + 1;
                    spec.labels.insert("count".to_owned(), count.to_string());
                    self.write(&with(spec), Origin::Bump(id));
                }
            }
        }
    }

    /// A secret comes, gets a new version or goes, and a service uses it or no more; all at once, so that some are
    /// decided on what is past.
    fn change_secrets(&mut self, service: &Service) {
        let name = format!("k{}", self.random.below(3));
        let data = vec![b'x'; self.random.between(1, 9) as usize];
        let known = self.tables.dependencies().find(|known| known.spec.name.as_str() == name && !known.superseded);
        let request = match known.cloned() {
            None => specs::secret(&name, data),
            Some(known) if self.random.chance(30) => WriteRequest::RemoveDependency(known.id),
            Some(known) => WriteRequest::UpdateDependency {
                id: known.id,
                version: known.meta.version,
                labels: known.spec.labels.clone(),
                data: Some(types::Payload::new(data)),
            },
        };
        self.write(&request, Origin::Other);
        let mut spec = (*service.spec).clone();
        spec.task.container.dependencies = if self.random.chance(70) { vec![specs::use_of(&name)] } else { Vec::new() };
        let (id, version) = (service.id, service.meta.version);
        let change = ServiceChange::Spec(Box::new(spec));
        self.write(&WriteRequest::UpdateService { id, version, change }, Origin::Other);
    }

    fn network_names(&self) -> Vec<String> {
        self.tables.networks().map(|network| network.spec.name.to_string()).collect()
    }

    /// Several at once, so that two want the same place; and one goes, used or not.
    fn change_networks(&mut self) {
        for _ in 0..self.random.between(1, 3) {
            let name = format!("n{}", self.random.below(8));
            let spec = specs::any_network(&name, &mut self.random);
            self.write(&WriteRequest::CreateNetwork(Box::new(spec)), Origin::Other);
        }
        let ids: Vec<_> = self.tables.networks().map(|network| network.id).collect();
        if let Some(id) = self.random.pick(&ids).copied() {
            self.write(&WriteRequest::RemoveNetwork(id), Origin::Other);
        }
        if let Some(network) = self.random.pick(&ids).copied() {
            let subnet = specs::any_subnet(&mut self.random);
            self.write(&WriteRequest::AddSubnet { network, subnet }, Origin::Other);
        }
        self.change_containers(&ids);
    }

    /// Single containers of some node join networks, attachable or not, and leave them.
    fn change_containers(&mut self, networks: &[NetworkId]) {
        for _ in 0..self.random.between(1, 4) {
            let Some(network) = self.random.pick(networks).copied() else { return };
            let node = self.agents[self.random.below(self.agents.len() as u64) as usize].id;
            let container = format!("c{}", self.random.below(6));
            let request = if self.random.chance(60) {
                let name = container.clone();
                let wanted =
                    AttachRequest { node, network, container, name, aliases: Vec::new(), addresses: Vec::new() };
                WriteRequest::Attach(Box::new(wanted))
            } else {
                WriteRequest::Detach { node, network, container }
            };
            self.write(&request, Origin::Other);
        }
    }

    fn change_node(&mut self) {
        let number = self.random.below(self.agents.len() as u64) as usize;
        let Some(node) = self.tables.node(self.agents[number].id) else { return };
        let (id, version, mut spec) = (node.id, node.meta.version, node.spec.clone());
        if self.random.chance(50) {
            let zone = specs::zone(self.random.below(3) as usize);
            spec.labels.insert("zone".to_owned(), zone);
        } else {
            let all = [Availability::Active, Availability::Drain, Availability::Pause, Availability::Active];
            spec.availability = *self.random.pick(&all).expect("four");
        }
        self.write(&WriteRequest::UpdateNode { id, version, spec }, Origin::Other);
    }

    fn write(&mut self, request: &WriteRequest, origin: Origin) {
        let random = &mut self.random;
        let admitted = admission::admit(&self.tables, request, self.now, &mut || random.id());
        if let Ok((proposal, _)) = admitted {
            self.note(|| format!("user: {request:?}"));
            self.propose(proposal, origin);
        }
    }

    /// Nothing is called lost that was well all the time.
    pub(crate) fn check_lost(&self, proposal: &Proposal) -> Result<(), String> {
        for change in &proposal.changes {
            let Change::NodeState { node, state: NodeState::Down, message } = change else { continue };
            let Some(agent) = self.index_of.get(node).and_then(|number| self.agents.get(*number)) else { continue };
            let recent = self.now.since(agent.unwell_at) < CAUSE_WITHIN;
            if message.starts_with("lost") && agent.answers() && !recent {
                return Err(format!("node {node} was called lost ({message}) though its host was there"));
            }
        }
        Ok(())
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.leader.as_ref().is_some_and(|leader| !leader.busy) && self.unrest().is_empty()
    }

    /// What still keeps the healed cluster from being as it should.
    pub(crate) fn unrest(&self) -> Vec<String> {
        if let Err(problem) = invariants::check(&self.tables) {
            return vec![problem];
        }
        let mut all = invariants::unrest(&self.tables);
        // a task for which there is no room holds up the rollout of its service, as it should: `placeable`
        // checks that there is none
        let waits = |line: &String| {
            let (place, why) = line.split_once(" waits: ")?;
            let known = ["no suitable node", "network ", "waits for service "].iter().any(|text| why.starts_with(text));
            known.then(|| place.to_owned())
        };
        let mut held_up: Vec<String> =
            all.iter().filter_map(waits).filter_map(|place| Some(format!("{}.", place.split_once('.')?.0))).collect();
        let is_held = |update: &types::UpdateStatus| update.message.starts_with("update waits for service ");
        let held = self.tables.services().filter(|service| service.update.as_ref().is_some_and(is_held));
        held_up.extend(held.map(|service| format!("{}.", service.spec.name)));
        all.retain(|line| !held_up.iter().any(|service| line.starts_with(service)));
        all.extend(self.placeable());
        all.extend(self.not_ready());
        all.extend(self.lost_updates());
        all.extend(self.really_running());
        all
    }

    fn not_ready(&self) -> impl Iterator<Item = String> {
        let ready = |node: &&Arc<types::Node>| node.status.state != NodeState::Ready;
        self.tables.nodes().filter(ready).map(|node| format!("node {} is {:?}", node.id, node.status.state))
    }

    fn lost_updates(&self) -> Vec<String> {
        let lost = |(id, accepted): (&ServiceId, &u64)| {
            let service = self.tables.service(*id)?;
            // a rollback takes the counter back with the rest of the spec: only more is a mistake then
            let rolled_back = self.rolled_back(service);
            let count = counter(&service.spec);
            (count != *accepted && !rolled_back)
                .then(|| format!("{} was raised {accepted} times and stands at {count}", service.spec.name))
        };
        self.bumps.iter().filter_map(lost).collect()
    }

    fn rolled_back(&self, service: &Service) -> bool {
        self.was_rolled_back.contains(&service.id)
    }

    /// The containers that run are the tasks that are RUNNING, no more and no fewer.
    fn really_running(&self) -> Vec<String> {
        let mut running: BTreeMap<TaskId, usize> = BTreeMap::new();
        for agent in &self.agents {
            for task in agent.running() {
                *running.entry(task).or_default() += 1;
            }
        }
        let mut all = Vec::new();
        for task in self.tables.tasks().filter(|task| task.status.state == TaskState::Running) {
            if running.remove(&task.id) != Some(1) {
                all.push(format!("task {} is said to run and does not", task.id));
            }
        }
        all.extend(running.keys().map(|id| format!("container of {id} runs and nobody knows")));
        all
    }

    /// A waiting task for which there is room after all, found by trying every node in the plainest way.
    fn placeable(&self) -> Option<String> {
        for task in self.tables.tasks() {
            let waits = task.node.is_none() && task.desired == TaskState::Running && !task.status.state.is_terminal();
            let Some(service) = self.tables.service(task.service).filter(|_| waits) else { continue };
            // a full network holds up what has a node in reach
            if task.status.error.starts_with("network ") {
                if let Some(problem) = self.is_not_full(service, task) {
                    return Some(problem);
                }
                continue;
            }
            if task.status.error.starts_with("waits for service ") {
                if service.spec.needs.iter().all(|need| self.is_plainly_met(need)) {
                    return Some(format!("{}.{} waits for what is there", service.spec.name, task.slot));
                }
                continue;
            }
            if let Some(node) = self.tables.nodes().find(|node| self.has_room(service, task, node)) {
                return Some(format!("{}.{} waits though {} has room", service.spec.name, task.slot, node.id));
            }
        }
        None
    }

    /// Beyond doubt: all that shall run does, and all that shall end has.
    fn is_plainly_met(&self, need: &types::Need) -> bool {
        let Some(other) = self.tables.service_by_name(&need.service) else { return true };
        let tasks = || self.tables.tasks_of_service(other.id).filter(|task| task.desired == TaskState::Running);
        let is_present = |task: &Arc<types::Task>| *task.spec == other.spec.task && task.iteration == other.iteration();
        let state = |task: &Arc<types::Task>, state: TaskState| is_present(task) && task.status.state == state;
        match need.condition {
            types::NeedCondition::Completed => {
                let done = tasks().filter(|task| state(task, TaskState::Complete)).count() as u64;
                matches!(other.spec.mode, ServiceMode::ReplicatedJob { total_completions, .. } if done >= total_completions)
            }
            _ => {
                let running = tasks().filter(|task| state(task, TaskState::Running)).count() as u64;
                let is_all = tasks().all(is_present);
                is_all && matches!(other.spec.mode, ServiceMode::Replicated { replicas } if running >= replicas)
            }
        }
    }

    /// One of the task's networks must have no address left, or an older spec's network be gone.
    fn is_not_full(&self, service: &Service, task: &Task) -> Option<String> {
        let full = |text: &String| {
            let reply = view::read(&self.tables, &types::ReadRequest::Network(text.clone()));
            match reply {
                Ok(types::ReadReply::Network(view)) => specs::is_full(&view),
                _ => true,
            }
        };
        let ingress = self.tables.ingress().map_or_else(|| "gone".to_owned(), |network| network.id.to_string());
        let mesh = (task.publishes || service.publishes()).then_some(&ingress);
        let mut targets = task.spec.networks.iter().chain(&service.spec.task.networks).map(|a| &a.target).chain(mesh);
        let found = targets.any(full);
        (!found).then(|| format!("{}.{} waits for a network that is not full", service.spec.name, task.slot))
    }

    fn has_room(&self, service: &Service, task: &Task, node: &types::Node) -> bool {
        let load = self.tables.load(node.id);
        let Some(description) = &node.description else { return false };
        let (has, want) = (&description.resources, &task.spec.resources.reservations);
        let gpus =
            |resources: &types::Resources| resources.generic.get("gpu").map_or(0, types::GenericResource::amount);
        let used = load.generic.get("gpu").copied().unwrap_or(0);
        let zones = &task.spec.placement.constraints;
        let here = |s: &Service| {
            self.tables.tasks_of_service(s.id).filter(|t| t.node == Some(node.id) && NodeLoad::counts(t)).count() as u64
        };
        let most = task.spec.placement.max_replicas;
        let slot_fits = !matches!(task.slot, types::Slot::Node(id) if id != node.id);
        slot_fits
            && load.nano_cpus + want.nano_cpus.0 <= has.nano_cpus.0
            && load.memory + want.memory.0 <= has.memory.0
            && used + gpus(want) <= gpus(has)
            && zones.iter().all(|c| is_in_zone(node, c))
            && (most == 0 || here(service) < most)
            && !task.host_ports.iter().any(|port| load.holds_port(port))
    }
}

/// Of the two forms of constraints that simulated services have.
fn is_in_zone(node: &types::Node, constraint: &types::Constraint) -> bool {
    let zone = node.spec.labels.get("zone");
    match &constraint.rule {
        types::constraint::Rule::Equal(wanted) => zone == Some(wanted),
        types::constraint::Rule::In(wanted) => zone.is_some_and(|zone| wanted.contains(zone)),
        other => panic!("no simulated service says {other:?}"),
    }
}

fn counter(spec: &ServiceSpec) -> u64 {
    spec.labels.get("count").and_then(|count| count.parse().ok()).unwrap_or(0)
}
