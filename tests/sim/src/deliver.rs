//! Messages on their way, and what those who get them do.

use control::{ProbeVerdict, Proposal, Tables, admission, assignments};
use types::NodeId;

use crate::{
    cluster::{Cluster, Event, Message, Origin},
    leader::Leader,
    specs,
};

/// Of a hundred messages while things go wrong.
const LOST_PERCENT: u64 = 2;
const DOUBLED_PERCENT: u64 = 3;
const LATE_PERCENT: u64 = 3;
/// How many neighbours to each side probe a node.
const NEIGHBOURS: usize = 2;

impl Cluster {
    fn delay_ms(&mut self) -> u64 {
        if self.chaos && self.random.chance(LATE_PERCENT) {
            return self.random.between(100, 3000);
        }
        self.random.between(1, 30)
    }

    pub(crate) fn beat(&mut self, number: usize) {
        self.after_ms(1000, Event::Beat(number));
        if !self.agents[number].is_talking() {
            return;
        }
        let message = if std::mem::take(&mut self.agents[number].greets) {
            Message::Hello(self.agents[number].all_reports())
        } else {
            Message::Beat
        };
        self.send_to_leader(number, message);
    }

    pub(crate) fn step(&mut self, number: usize) {
        self.after_ms(100, Event::Step(number));
        let failing = if self.chaos { 3 } else { 0 };
        let (now, agent) = (self.now, &mut self.agents[number]);
        let reports = agent.step(now, &mut self.random, failing);
        if !reports.is_empty() {
            self.send_to_leader(number, Message::Reports(reports));
        }
    }

    fn send_to_leader(&mut self, from: usize, message: Message) {
        let lost = self.chaos && self.random.chance(LOST_PERCENT);
        if lost || !self.agents[from].is_talking() || self.leader.is_none() {
            // a stream that loses something is broken: the next one begins from the beginning
            self.agents[from].greets = true;
            return;
        }
        let term = self.term;
        if self.chaos && self.random.chance(DOUBLED_PERCENT) {
            let ms = self.delay_ms();
            self.after_ms(ms, Event::ToLeader { term, from, message: message.clone() });
        }
        let ms = self.delay_ms();
        self.after_ms(ms, Event::ToLeader { term, from, message });
    }

    pub(crate) fn at_leader(&mut self, term: u64, from: usize, message: Message) {
        let id = self.agents[from].id;
        let now = self.now;
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) else {
            self.agents[from].greets = true;
            return;
        };
        leader.observed.last_heard.insert(id, now);
        match message {
            Message::Beat => {}
            Message::Hello(reports) => {
                let description = specs::description(from);
                if let Some(proposal) = admission::describe_node(&self.tables, id, &description, None, now) {
                    self.propose(proposal, Origin::Other);
                }
                self.take_reports(from, reports);
                self.assign(from);
            }
            Message::Reports(reports) => self.take_reports(from, reports),
        }
        if self.agents[from].seen < self.assigned_at.get(&id).copied().unwrap_or(0) {
            self.assign(from);
        }
        if self.tables.node(id).is_some_and(|node| node.status.state != types::NodeState::Ready) {
            self.plan_soon();
        }
    }

    fn take_reports(&mut self, from: usize, reports: Vec<types::TaskReport>) {
        let proposal = admission::report_tasks(&self.tables, self.agents[from].id, &reports, self.now);
        if !proposal.changes.is_empty() {
            self.propose(proposal, Origin::Reports { from, reports });
        }
    }

    pub(crate) fn propose(&mut self, proposal: Proposal, origin: Origin) {
        let term = self.term;
        let ms = self.random.between(1, if self.chaos { 60 } else { 10 });
        self.after_ms(ms, Event::Commit { term, proposal: Box::new(proposal), origin });
    }

    pub(crate) fn answer(&mut self, term: u64, accepted: bool, origin: Origin) {
        let own = self.leader.as_ref().is_some_and(|leader| leader.term == term);
        match origin {
            Origin::Plan => {
                if let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) {
                    leader.busy = false;
                }
            }
            // another report overtook it: what is still news is said again
            Origin::Reports { from, reports } if !accepted && own => self.take_reports(from, reports),
            Origin::Bump(service) if accepted => *self.bumps.entry(service).or_default() += 1,
            _ => {}
        }
    }

    /// The node's assignments as they are now, on their way to it.
    fn assign(&mut self, to: usize) {
        let set = assignments::of_node(&self.tables, self.agents[to].id);
        let number = self.tables.index();
        let lost = self.chaos && self.random.chance(LOST_PERCENT);
        if !lost && self.leader.is_some() {
            let ms = self.delay_ms();
            self.after_ms(ms, Event::ToAgent { to, number, set: Box::new(set) });
        }
    }

    pub(crate) fn at_agent(&mut self, to: usize, number: u64, set: &types::AssignmentSet) {
        if self.agents[to].is_talking() {
            self.agents[to].receive(number, set);
        }
    }

    /// Sends new assignments to the nodes whose tasks a proposal changed.
    pub(crate) fn spread_assignments(&mut self, before: &Tables) {
        let Some(touched) = self.tables.touched_since(before.index()) else { return };
        let mut nodes = touched.node_tasks;
        nodes.extend(touched.overlays.iter().flat_map(|id| self.tables.nodes_of_network(*id)));
        if !touched.networks.is_empty() {
            nodes.extend(self.tables.nodes().map(|node| node.id));
        }
        for id in nodes {
            let changed = assignments::diff(&assignments::of_node(before, id), &assignments::of_node(&self.tables, id));
            if changed.is_some() {
                self.assigned_at.insert(id, self.tables.index());
                if let Some(to) = self.index_of.get(&id).copied() {
                    self.assign(to);
                }
            }
        }
    }

    /// Every node's neighbours say whether it answers, if they have somebody to say it to.
    pub(crate) fn probe(&mut self) {
        self.after_ms(500, Event::Probe);
        let count = self.agents.len();
        let mut words: Vec<(NodeId, NodeId, bool)> = Vec::new();
        for about in 0..count {
            for step in (1..=NEIGHBOURS).flat_map(|step| [step, count - step % count]) {
                let by = (about + step) % count;
                if by != about && self.agents[by].is_talking() {
                    words.push((self.agents[about].id, self.agents[by].id, self.agents[about].answers()));
                }
            }
        }
        let now = self.now;
        let Some(leader) = self.leader.as_mut() else { return };
        let mut news = false;
        for (about, by, answered) in words {
            let known = leader.observed.probes.entry(about).or_default();
            if known.get(&by).and_then(|word| word.answered) != Some(answered) {
                let (answered, impaired, detail) = (Some(answered), false, String::new());
                known.insert(by, ProbeVerdict { answered, impaired, at: now, detail });
                news |= answered == Some(false);
            }
        }
        if news {
            self.plan_soon();
        }
    }

    pub(crate) fn plan_soon(&mut self) {
        let at = self.now + std::time::Duration::from_millis(5);
        self.plan_at(at);
    }

    fn plan_at(&mut self, at: types::Timestamp) {
        let Some(leader) = self.leader.as_mut() else { return };
        if leader.plan_at.is_none_or(|planned| at < planned) {
            leader.plan_at = Some(at);
            let term = leader.term;
            self.at(at, Event::Plan { term });
        }
    }

    pub(crate) fn plan(&mut self, term: u64) -> Result<(), String> {
        let Some(mut leader) = self.leader.take() else { return Ok(()) };
        if leader.term != term {
            self.leader = Some(leader);
            return Ok(());
        }
        let due = leader.plan_at.is_some_and(|at| at <= self.now);
        if !due || leader.busy {
            if due {
                leader.plan_at = None;
            }
            self.leader = Some(leader);
            return Ok(());
        }
        leader.plan_at = None;
        let random = &mut self.random;
        let planned = leader.planner.plan(&self.tables, &leader.observed, self.now, &mut || random.id());
        self.report.plans += 1;
        let wake_at = planned.wake_at;
        let changes = !planned.changes.is_empty();
        leader.busy = changes;
        self.leader = Some(leader);
        if changes {
            for change in &planned.changes {
                self.note(|| format!("plan: {change:?}"));
            }
            let now = self.now;
            self.propose(planned.proposal(now), Origin::Plan);
        }
        if let Some(at) = wake_at {
            self.plan_at(at.max(self.now));
        }
        Ok(())
    }

    /// A new leader: what earlier ones had proposed was ordered before its reign, or never will be.
    pub(crate) fn elect(&mut self) -> Result<(), String> {
        for (term, proposal, origin) in self.take_commits() {
            if self.random.chance(50) {
                self.commit(term, &proposal, origin)?;
            }
        }
        let up: Vec<NodeId> = self.agents.iter().filter(|a| a.is_talking()).map(|a| a.id).take(5).collect();
        let Some(me) = self.random.pick(&up).copied() else {
            self.after_ms(500, Event::Elect);
            return Ok(());
        };
        self.term += 1;
        self.report.elections += 1;
        let (now, term) = (self.now, self.term);
        self.note(|| format!("elected {me} in term {term}"));
        self.leader = Some(Leader::new(me, now, term));
        for agent in &mut self.agents {
            agent.greets = true;
        }
        self.plan_soon();
        Ok(())
    }
}
