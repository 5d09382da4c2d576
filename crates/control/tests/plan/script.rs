//! A small text form of a cluster's life: lines that happen, and for each `plan` line what was decided.
//!
//! ```text
//! node a cpu=4 mem=8g zone=1        a node that is READY
//! service web x3 image=a cpu=1      a service, see `spec.rs` for all words
//! network n1 subnet=10.1.0.0/29     see `spec.rs` for all words; `remove-network n1`, `networks` shows them
//! update web image=b                the same words, on top of the present spec
//! report web.1 running              what the task's node says
//! heard a / silent a / probe b a no / me a   what the leader notices (all nodes are heard unless silent)
//! back b                            node b says that it is READY
//! wait 5s                           time passes
//! plan                              decide once, print, apply
//! decide / propose                  the same in two steps, so that something may happen in between
//! agents / agents a                 agents do as told, once; only that of node a
//! crash a                           what runs on node a fails
//! settle / settle 2m                agents do as told and time passes until nothing happens, at most 10 minutes
//!                                   or as long as said; print all
//! beats 5                           so many times agents do as told and as long passes as an update watches a task
//! snapshot                          another manager leads, which has the value from a snapshot
//! elected                           another manager leads, which has heard nobody yet
//! show                              tasks as they are
//! attach a c1 n1 10.1.0.9 db        node a wants a place in network n1 for container c1: address and aliases, if any
//! detach a c1 n1                    it gives it back; `guests` shows all such places
//! secret s1 text / config c1 text   a secret or config with this data; `new s1 text` makes a new version of it
//! rollback web / rollback web 3      to the spec before, or to this revision; `revisions web` shows all
//! pause-update web / resume-update web
//! remove-secret s1                  with all its versions; `files a` shows the data that node a was told of
//! rebalance web budget=2 / rebalance dry   asks for all services, or those named, to be evened out, or what that would do
//! migrate data a b / renew / moved / abort   the data of a volume moves between nodes: begun, goes on, is there, given up
//! policy on-join 2                  the cluster's rebalance policy, and its budget if any; `privileged denied` the one for services
//! jobs                              how far all jobs are
//! events                            what happened to objects since the last such line
//! merged                            the same, as somebody who looks only now sees it
//! stack shop prune | network n1 | secret s1 text | service web x2 net=n1
//!                                   deploys all of it; `roll-back shop`, `roll-back shop 2`, `remove-stack shop`
//! stacks                            what is of each, and its revisions
//! ports                             published ports of all services
//! mesh a                            what node a was told of the routing mesh
//! ```

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use control::{Change, Observed, Planned, Planner, ProbeVerdict, Proposal, Tables, admission, assignments};
use types::*;

use crate::{happened::Happened, spec};

pub struct World {
    pub tables: Tables,
    pub planner: Planner,
    decided: Option<Planned>,
    pub observed: Observed,
    silent: Vec<NodeId>,
    pub now: Timestamp,
    pub started: Timestamp,
    next_id: u128,
    pub nodes: BTreeMap<String, NodeId>,
    pub names: BTreeMap<TaskId, String>,
    pub born: BTreeMap<String, u32>,
    /// What each node was told, by differences since it came.
    pub told: BTreeMap<NodeId, (assignments::Slice, AssignmentSet)>,
    pub happened: Happened,
    /// The last data that began to move.
    pub carried: Option<MigrationKey>,
    pub out: String,
}

// expectations are written in place, as everywhere with expect-test
#[allow(clippy::needless_pass_by_value)]
pub fn check(script: &str, expected: expect_test::Expect) {
    let mut world = World::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.line(line);
        control::invariants::check(&world.tables).expect("invariant");
    }
    expected.assert_eq(&world.out);
}

impl World {
    pub fn new() -> Self {
        let now = Timestamp::from_unix_ms(1_000_000_000);
        let me = NodeId::from_random(0xffff);
        let mut world = Self {
            tables: Tables::default(),
            planner: Planner::default(),
            decided: None,
            observed: Observed::new(me, now),
            silent: Vec::new(),
            now,
            started: now,
            next_id: 0x1000,
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            born: BTreeMap::new(),
            told: BTreeMap::new(),
            happened: Happened::default(),
            carried: None,
            out: String::new(),
        };
        let cluster = spec::cluster();
        world.apply(&Proposal { at: now, expects: vec![], changes: vec![Change::PutCluster(Box::new(cluster))] });
        world
    }

    pub fn line(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match verb {
            "node" => self.node(&words),
            "service" => self.service(&words),
            "network" => self.write(&WriteRequest::CreateNetwork(Box::new(spec::network(&words)))),
            "remove-network" => self.write(&WriteRequest::RemoveNetwork(self.network_id(words[0]))),
            "add-subnet" => {
                let spec = spec::network(&words);
                let network = self.network_id(words[0]);
                for subnet in spec.subnets {
                    self.write(&WriteRequest::AddSubnet { network, subnet });
                }
            }
            "networks" => self.show_networks(),
            "attach" => self.attach(&words),
            "detach" => self.write(&WriteRequest::Detach {
                node: self.nodes[words[0]],
                network: self.network_id(words[2]),
                container: words[1].to_owned(),
            }),
            "secret" => self.create_dependency(DependencyKind::Secret, &words),
            "config" => self.create_dependency(DependencyKind::Config, &words),
            "new" => self.new_version(words[0], words[1]),
            "remove-secret" => self.write(&WriteRequest::RemoveDependency(self.dependency_id(words[0]))),
            "files" => self.show_files(self.nodes[words[0]]),
            "guests" => self.show_guests(),
            "snapshot" => self.snapshot(),
            "elected" => {
                self.observed = Observed::new(self.observed.me, self.now);
                self.planner = Planner::default();
            }
            "update" => self.update(&words),
            "rollback" if words.len() > 1 => {
                self.change_service(words[0], ServiceChange::RollbackTo(words[1].parse().unwrap()));
            }
            "rollback" => self.change_service(words[0], ServiceChange::Rollback),
            "pause-update" => self.change_service(words[0], ServiceChange::PauseUpdate),
            "resume-update" => self.change_service(words[0], ServiceChange::ResumeUpdate),
            "revisions" => self.show_revisions(words[0]),
            "remove" => {
                let id = self.service_id(words[0]);
                self.write(&WriteRequest::RemoveService(id));
            }
            "remove-node" => self.write(&WriteRequest::RemoveNode { id: self.nodes[words[0]], force: true }),
            "drain" | "pause" | "activate" | "label" => self.node_spec(verb, &words),
            "report" => self.report(words[0], words[1], words[2..].join(" ")),
            "silent" => self.silent.push(self.nodes[words[0]]),
            "heard" => {
                let id = self.nodes[words[0]];
                self.silent.retain(|silent| *silent != id);
            }
            "probe" => self.probe(words[0], words[1], Some(words[2] == "yes"), false),
            "impaired" => self.probe(words[0], words[1], None, words[2] == "yes"),
            "me" => self.observed.me = self.nodes[words[0]],
            "back" => self.back(self.nodes[words[0]]),
            "wait" => self.wait(spec::duration(words[0])),
            "plan" => _ = self.plan(),
            "decide" => self.decided = Some(self.decide()),
            "propose" => self.propose(),
            "agents" => _ = self.agents(words.first().map(|name| self.nodes[*name])),
            "crash" => self.crash(self.nodes[words[0]]),
            "settle" => self.settle(spec::duration(words.first().unwrap_or(&"10m"))),
            "beats" => (0..words[0].parse::<u32>().unwrap()).for_each(|_| self.beat()),
            "show" => self.show(),
            "jobs" => self.show_jobs(),
            "stack" => self.write(&WriteRequest::DeployStack(Box::new(spec::stack(rest)))),
            "roll-back" => self.write(&WriteRequest::RollbackStack {
                name: words[0].parse().unwrap(),
                to: words.get(1).map(|number| number.parse().unwrap()),
                by: "somebody".to_owned(),
            }),
            "rebalance" => self.rebalance(&words),
            "migrate" | "renew" | "moved" | "abort" => self.migrate(verb, &words),
            "policy" => self.policy(&[REBALANCE_LABEL, REBALANCE_BUDGET_LABEL], &words),
            "privileged" => self.policy(&[PRIVILEGED_LABEL], &words),
            "remove-stack" => self.write(&WriteRequest::RemoveStack(words[0].to_owned())),
            "stacks" => self.show_stacks(),
            "history" => self.show_history(words[0]),
            "events" => self.show_events(),
            "merged" => self.show_merged(),
            "ports" => self.show_ports(),
            "mesh" => self.show_mesh(self.nodes[words[0]]),
            other => panic!("unknown line {other:?}"),
        }
    }

    pub fn apply(&mut self, proposal: &Proposal) {
        let before = self.tables.clone();
        let index = self.tables.index() + 1;
        self.tables.apply(index, proposal).expect("proposals of the script fit");
        control::invariants::check_step(&before, &self.tables, proposal.at).expect("invariant of the step");
        self.happened.follow(&before, &self.tables);
        self.tell();
    }

    /// Tells every node what changed, as a session would, and compares with telling it everything.
    fn tell(&mut self) {
        let nodes: Vec<NodeId> = self.tables.nodes().map(|node| node.id).collect();
        for id in nodes {
            let whole = assignments::of_node(&self.tables, id);
            let (slice, set) = self.told.entry(id).or_insert_with(|| {
                let slice = assignments::Slice::new(&self.tables, id);
                let set = slice.whole();
                (slice, set)
            });
            let next = slice.next(&self.tables, id);
            let plain = assignments::diff(set, &whole);
            let difference = slice.diff(&next);
            let nets = |d: &Option<AssignmentDiff>| {
                let parts =
                    |d: AssignmentDiff| (d.network, d.upsert_peers, d.remove_peers, d.overlays, d.remove_overlays);
                d.clone().map(parts).unwrap_or_default()
            };
            assert_eq!(nets(&difference), nets(&plain), "the short way and the long way differ");
            *slice = next;
            if let Some(difference) = difference {
                set.apply(difference);
            }
            assert_eq!((&set.overlays, &set.network), (&whole.overlays, &whole.network), "told by differences");
            assert_eq!(set.dependencies, whole.dependencies, "secrets and configs told by differences");
            let told = |set: &AssignmentSet| -> Vec<_> {
                set.tasks.values().map(|task| (task.id, task.is_ordered, task.desired)).collect()
            };
            assert_eq!(told(set), told(&whole), "tasks told by differences");
        }
    }

    fn network_id(&self, name: &str) -> NetworkId {
        self.tables.network_by_name(&name.parse().unwrap()).expect("network of the script").id
    }

    pub fn network_name(&self, id: NetworkId) -> String {
        self.tables.network(id).map_or_else(|| id.short(), |network| network.spec.name.to_string())
    }

    fn attach(&mut self, words: &[&str]) {
        let (addresses, aliases): (Vec<&str>, Vec<&str>) =
            words[3..].iter().partition(|word| word.parse::<std::net::IpAddr>().is_ok());
        let wanted = AttachRequest {
            node: self.nodes[words[0]],
            network: self.network_id(words[2]),
            container: words[1].to_owned(),
            name: format!("name-of-{}", words[1]),
            aliases: aliases.into_iter().map(str::to_owned).collect(),
            addresses: addresses.into_iter().map(|address| address.parse().unwrap()).collect(),
        };
        self.write(&WriteRequest::Attach(Box::new(wanted)));
    }

    /// Places of single containers, and who is told of them.
    fn show_guests(&mut self) {
        let all: Vec<_> = self.tables.guests().cloned().collect();
        for guest in all {
            let addresses = guest.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let network = self.network_name(guest.network);
            let hears = |node: &NodeId| {
                let told = self.told.get(node).and_then(|(_, set)| set.overlays.get(&guest.network));
                told.is_some_and(|told| told.containers.contains_key(&guest.container))
            };
            let hear: Vec<&str> =
                self.nodes.iter().filter(|(_, id)| hears(id)).map(|(name, _)| name.as_str()).collect();
            let (container, aliases) = (&guest.container, guest.aliases.join(","));
            let line = format!("  {container} in {network} at {addresses} [{aliases}] told to {}", hear.join(" "));
            writeln!(self.out, "{}", line.trim_end()).unwrap();
        }
    }

    fn snapshot(&mut self) {
        let bytes = rmp_serde::to_vec_named(&self.tables).unwrap();
        self.tables = rmp_serde::from_slice(&bytes).unwrap();
        self.planner = Planner::default();
    }

    fn show_networks(&mut self) {
        let ReadReply::Networks(all) =
            control::view::read(&self.tables, &ReadRequest::Networks(Filters::new())).unwrap()
        else {
            panic!("networks were asked for");
        };
        for view in all {
            let network = &view.network;
            write!(self.out, "  {} vni {}", network.spec.name, network.vni).unwrap();
            for (subnet, usage) in network.subnets.iter().zip(&view.usage) {
                let (range, gateway) = (subnet.range, subnet.gateway);
                write!(self.out, " {range} gateway {gateway} ({} of {} used)", usage.used, usage.total).unwrap();
            }
            writeln!(self.out).unwrap();
        }
    }

    fn node(&mut self, words: &[&str]) {
        let name = words[0].to_owned();
        let id = NodeId::from_random(u128::from(name.as_bytes()[0]) << 64 | name.len() as u128);
        let node = spec::node(id, words, self.now);
        self.apply(&Proposal { at: self.now, expects: vec![], changes: vec![Change::PutNode(Box::new(node))] });
        self.nodes.insert(name, id);
    }

    fn service(&mut self, words: &[&str]) {
        let spec = spec::service(None, words);
        self.write(&WriteRequest::CreateService(Box::new(spec)));
    }

    fn service_id(&self, name: &str) -> ServiceId {
        self.tables.service_by_name(&name.parse().unwrap()).expect("service of the script").id
    }

    fn update(&mut self, words: &[&str]) {
        let old = self.tables.service(self.service_id(words[0])).unwrap().spec.clone();
        let spec = spec::service(Some(&old), words);
        self.change_service(words[0], ServiceChange::Spec(Box::new(spec)));
    }

    /// Numbers and images of the earlier specs, then those of the present one.
    fn show_revisions(&mut self, name: &str) {
        let service = self.tables.service(self.service_id(name)).unwrap();
        let past = service.earlier.iter().map(|past| (past.number, &past.spec));
        let all = past.chain([(service.revision, &service.spec)]);
        let all = all.map(|(number, spec)| format!("{number}={}", spec.task.container.image.familiar()));
        let line = all.collect::<Vec<_>>().join(" ");
        writeln!(self.out, "  {line}").unwrap();
    }

    fn change_service(&mut self, name: &str, change: ServiceChange) {
        let id = self.service_id(name);
        let version = self.tables.service(id).unwrap().meta.version;
        self.write(&WriteRequest::UpdateService { id, version, change });
    }

    fn node_spec(&mut self, verb: &str, words: &[&str]) {
        let id = self.nodes[words[0]];
        let node = self.tables.node(id).unwrap();
        let (version, mut spec) = (node.meta.version, node.spec.clone());
        match verb {
            "drain" => spec.availability = Availability::Drain,
            "pause" => spec.availability = Availability::Pause,
            "activate" => spec.availability = Availability::Active,
            _ => {
                let (key, value) = words[1].split_once('=').unwrap();
                spec.labels.insert(key.into(), value.into());
            }
        }
        self.write(&WriteRequest::UpdateNode { id, version, spec });
    }

    pub fn write(&mut self, request: &WriteRequest) {
        let mut next = self.next_id;
        let result = admission::admit(&self.tables, request, self.now, &mut || {
            next += 1;
            next
        });
        self.next_id = next;
        match result {
            Ok((proposal, _)) => self.apply(&proposal),
            Err(rejection) => writeln!(self.out, "refused: {rejection}").unwrap(),
        }
    }

    fn show_stacks(&mut self) {
        let ReadReply::Stacks(all) = control::view::read(&self.tables, &ReadRequest::Stacks).unwrap() else {
            panic!("stacks were asked for");
        };
        for view in all {
            let parts = [view.services, view.networks, view.secrets, view.configs].map(|names| names.join(" "));
            let earlier = self.tables.stack(&view.name.parse().unwrap()).map_or_else(String::new, |stack| {
                let one = |revision: &StackRevision| {
                    let services = revision.spec.services.len();
                    let back = revision.back_to.map_or_else(String::new, |to| format!(", back to {to}"));
                    format!("{} ({services} services{back})", revision.number)
                };
                stack.revisions().map(one).collect::<Vec<_>>().join(" ")
            });
            writeln!(self.out, "  {}: {} | revisions: {earlier}", view.name, parts.join(" | ")).unwrap();
        }
    }

    fn show_history(&mut self, name: &str) {
        let found = control::view::read(&self.tables, &ReadRequest::Stack(name.to_owned())).unwrap();
        let ReadReply::Stack(view) = found else { panic!("a stack was asked for") };
        for revision in view.stack.unwrap().revisions() {
            let result = revision.result.as_ref().expect("what was asked for has results");
            let line = format!("  {} by {}: {} {}", revision.number, revision.by, result.state.as_str(), result.reason);
            writeln!(self.out, "{}", line.trim_end()).unwrap();
        }
    }

    pub fn task_named(&self, name: &str) -> TaskId {
        let wanted = if name.contains('/') { name.to_owned() } else { format!("{name}/{}", self.born[name]) };
        *self.names.iter().find(|(_, n)| **n == wanted).unwrap_or_else(|| panic!("no task {wanted}")).0
    }

    fn report(&mut self, name: &str, state: &str, error: String) {
        let id = self.task_named(name);
        let task = self.tables.task(id).unwrap();
        let status = TaskStatus { state: spec::state(state), since: self.now, error, ..task.status.clone() };
        let node = task.node.expect("only placed tasks have somebody to report");
        self.report_status(node, id, status);
    }

    fn report_status(&mut self, node: NodeId, task: TaskId, status: TaskStatus) {
        let proposal = admission::report_tasks(&self.tables, node, &[TaskReport { task, status }], self.now);
        self.apply(&proposal);
    }

    fn back(&mut self, id: NodeId) {
        let Some(description) = self.tables.node(id).and_then(|node| node.description.clone()) else { return };
        if let Some(proposal) = admission::describe_node(&self.tables, id, &description, None, self.now) {
            self.apply(&proposal);
        }
    }

    fn probe(&mut self, by: &str, about: &str, answered: Option<bool>, impaired: bool) {
        let verdict = ProbeVerdict { answered, impaired, at: self.now, detail: String::new() };
        self.observed.probes.entry(self.nodes[about]).or_default().insert(self.nodes[by], verdict);
    }

    pub fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        for id in self.nodes.values().filter(|id| !self.silent.contains(id)) {
            self.observed.last_heard.insert(*id, self.now);
        }
    }

    /// Whether what the line speaks of is there, or for a new thing is not.
    pub fn fits(&self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let (verb, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let service = || self.tables.service_by_name(&name.parse().unwrap()).is_some();
        let node = || self.nodes.get(name).is_some_and(|id| self.tables.node(*id).is_some());
        match verb {
            "node" => !node(),
            "remove-secret" | "new" => self.has_dependency(name),
            "remove-network" | "add-subnet" => self.tables.network_by_name(&name.parse().unwrap()).is_some(),
            "update" | "rollback" | "remove" | "pause-update" | "resume-update" => service(),
            "drain" | "pause" | "activate" | "label" | "remove-node" => node(),
            _ => true,
        }
    }

    fn decide(&mut self) -> Planned {
        let first = self.next_id;
        let mut next = first;
        let mut ids = || {
            next += 1;
            next
        };
        let planned = self.planner.plan(&self.tables, &self.observed, self.now, &mut ids);
        self.next_id = next;
        // whoever looks at everything anew must come to the same answer
        let mut again = first;
        let mut ids = || {
            again += 1;
            again
        };
        let full = Planner::default().plan(&self.tables, &self.observed, self.now, &mut ids);
        assert_eq!(main(&planned), main(&full), "an incremental plan differs from a full one");
        planned
    }

    /// What was decided reaches the value, if that is still as it was read.
    fn propose(&mut self) {
        let Some(planned) = self.decided.take() else { return };
        for change in &planned.changes {
            self.describe(change);
        }
        let before = self.tables.clone();
        let proposal = planned.proposal(self.now);
        let _ = self.tables.apply(before.index() + 1, &proposal);
        control::invariants::check_step(&before, &self.tables, self.now).expect("invariant of the step");
        self.happened.follow(&before, &self.tables);
    }

    /// Decides once, prints and applies. Returns whether something changed and when to wake.
    pub fn plan(&mut self) -> (bool, Option<Timestamp>) {
        let planned = self.decide();
        let wake = planned.wake_at;
        for change in &planned.changes {
            let text = self.describe(change);
            let seconds = self.now.since(self.started).as_secs_f64();
            writeln!(self.out, "{seconds}s {text}").unwrap();
        }
        let any = !planned.changes.is_empty();
        if any {
            self.apply(&planned.proposal(self.now));
            let mut next = self.next_id;
            let mut ids = || {
                next += 1;
                next
            };
            let rest = Planner::default().plan(&self.tables, &self.observed, self.now, &mut ids);
            assert_eq!(main(&rest), [], "a plan on a plan's own result must be empty");
        }
        (any, wake)
    }

    /// Agents do as they are told at once; time goes on to the next deadline.
    fn settle(&mut self, most: Duration) {
        let end = self.now + most;
        for _ in 0..500 {
            let (changed, wake) = self.plan();
            if self.agents(None) || changed {
                continue;
            }
            let waiting = self.tables.tasks().filter(|t| !t.status.state.is_terminal()).map(|t| t.not_before);
            let next = waiting.filter(|at| *at > self.now).chain(wake.filter(|at| *at > self.now)).min();
            match next.filter(|at| *at <= end && !self.at_rest()) {
                Some(at) => self.wait(at.since(self.now)),
                None => return,
            }
        }
    }

    /// As long as an update watches a task.
    fn beat(&mut self) {
        for _ in 0..3 {
            self.plan();
            self.agents(None);
        }
        self.wait(Duration::from_secs(6));
    }

    fn at_rest(&self) -> bool {
        let updating = |service: &Service| {
            service
                .update
                .as_ref()
                .is_some_and(|u| matches!(u.state, UpdateState::Updating | UpdateState::RollbackStarted))
        };
        control::invariants::unrest(&self.tables).is_empty() && !self.tables.services().any(|s| updating(s))
    }

    fn agents(&mut self, only: Option<NodeId>) -> bool {
        let mut any = false;
        let tasks: Vec<_> = self.tables.tasks().cloned().collect();
        for task in tasks {
            let talks = |node: &NodeId| !self.silent.contains(node) && only.is_none_or(|only| only == *node);
            let Some(node) = task.node.filter(talks) else { continue };
            let state = match (task.desired, task.status.state) {
                (_, state) if state.is_terminal() => continue,
                (TaskState::Running, TaskState::Running) if is_job(&task) => TaskState::Complete,
                (TaskState::Running, TaskState::Running) => continue,
                (TaskState::Running, _) if task.not_before > self.now => continue,
                (TaskState::Running, _) if task.spec.container.image.repository.contains("bad") => TaskState::Failed,
                (TaskState::Running, _) => TaskState::Running,
                _ => TaskState::Shutdown,
            };
            any = true;
            self.report_status(node, task.id, TaskStatus { state, since: self.now, ..task.status.clone() });
        }
        any
    }

    fn crash(&mut self, node: NodeId) {
        let running = |task: &&std::sync::Arc<Task>| task.status.state == TaskState::Running;
        let tasks: Vec<_> = self.tables.tasks_of_node(node).filter(running).cloned().collect();
        for task in tasks {
            let state = TaskState::Failed;
            self.report_status(node, task.id, TaskStatus { state, since: self.now, ..task.status.clone() });
        }
    }
}

/// What runs in such a container ends by itself.
fn is_job(task: &Task) -> bool {
    task.spec.container.image.repository.contains("job")
}

/// What was decided, but for failing probes of nodes that are heard, which are looked at once a second.
fn main(planned: &Planned) -> Vec<Change> {
    planned.changes.iter().filter(|c| !matches!(c, Change::NodePeers { .. })).cloned().collect()
}
