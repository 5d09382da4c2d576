//! The run: one queue of events in virtual time, a phase in which everything goes wrong, and one in which
//! nothing does any more and the cluster must come to rest.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use control::{Proposal, Tables, invariants};
use types::{AssignmentSet, NodeId, TaskReport, Timestamp};

use crate::{agent::Agent, leader::Leader, random::Random, specs};

/// Lines of the log that are kept for the story of a failure.
const LOG_LINES: usize = 200;

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub seed: u64,
    pub nodes: usize,
    /// How long faults happen, in virtual time.
    pub chaos: Duration,
    /// How long the healed cluster may take to come to rest.
    pub heal: Duration,
}

impl Settings {
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self { seed, nodes, chaos: Duration::from_secs(90), heal: Duration::from_secs(900) }
    }
}

/// What happened, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    pub events: u64,
    pub commits: u64,
    pub refused: u64,
    pub plans: u64,
    pub elections: u64,
    pub faults: u64,
    pub tasks: usize,
    /// From the last fault to rest.
    pub healed_in: Duration,
}

pub(crate) enum Event {
    Beat(usize),
    Step(usize),
    Probe,
    Chaos,
    Elect,
    Plan { term: u64 },
    Heal(usize, Fault),
    ToLeader { term: u64, from: usize, message: Message },
    ToAgent { to: usize, number: u64, set: Box<AssignmentSet> },
    Commit { term: u64, proposal: Box<Proposal>, origin: Origin },
}

#[derive(Clone)]
pub(crate) enum Message {
    Beat,
    /// A new session: everything is said.
    Hello(Vec<TaskReport>),
    Reports(Vec<TaskReport>),
}

/// Who waits for the outcome of a proposal.
pub(crate) enum Origin {
    Plan,
    Reports {
        from: usize,
        reports: Vec<TaskReport>,
    },
    /// A user raised the counter of a service.
    Bump(types::ServiceId),
    Other,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Crash,
    Freeze,
    StreamCut,
    Cut,
}

pub(crate) struct Cluster {
    pub(crate) now: Timestamp,
    pub(crate) settings: Settings,
    pub(crate) random: Random,
    pub(crate) tables: Tables,
    pub(crate) leader: Option<Leader>,
    pub(crate) term: u64,
    pub(crate) agents: Vec<Agent>,
    pub(crate) index_of: BTreeMap<NodeId, usize>,
    /// When each node's assignments last changed.
    pub(crate) assigned_at: BTreeMap<NodeId, u64>,
    /// Acknowledged raises of each service's counter.
    pub(crate) bumps: BTreeMap<types::ServiceId, u64>,
    /// Services whose spec was taken back at some time, and their counter with it.
    pub(crate) was_rolled_back: std::collections::BTreeSet<types::ServiceId>,
    pub(crate) chaos: bool,
    pub(crate) report: Report,
    queue: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
    log: VecDeque<String>,
}

/// Runs a seed to its end.
///
/// # Errors
/// The invariant that was broken, or what did not come to rest, after the last lines of the log.
pub fn run(settings: Settings) -> Result<Report, String> {
    let mut cluster = Cluster::new(settings);
    cluster.play().map_err(|problem| {
        let log: Vec<String> = cluster.log.iter().cloned().collect();
        format!("{}\nseed {} with {} nodes: {problem}", log.join("\n"), settings.seed, settings.nodes)
    })
}

impl Cluster {
    fn new(settings: Settings) -> Self {
        let now = Timestamp::from_unix_ms(1_000_000);
        let mut random = Random::new(settings.seed);
        let agents: Vec<Agent> = (0..settings.nodes).map(|_| Agent::new(NodeId::from_random(random.id()))).collect();
        let mut cluster = Self {
            now,
            settings,
            random,
            tables: Tables::default(),
            leader: None,
            term: 0,
            index_of: agents.iter().enumerate().map(|(number, agent)| (agent.id, number)).collect(),
            agents,
            assigned_at: BTreeMap::new(),
            bumps: BTreeMap::new(),
            was_rolled_back: std::collections::BTreeSet::new(),
            chaos: true,
            report: Report::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            log: VecDeque::new(),
        };
        cluster.bootstrap();
        cluster
    }

    fn bootstrap(&mut self) {
        use control::Change;
        let mut changes = vec![Change::PutCluster(Box::new(specs::cluster()))];
        for number in 0..self.agents.len() {
            changes.push(Change::PutNode(Box::new(specs::node(self.agents[number].id, number, self.now))));
            let at = self.random.between(0, 1000);
            self.after_ms(at, Event::Beat(number));
            self.after_ms(at, Event::Step(number));
        }
        let first = Proposal { at: self.now, expects: Vec::new(), changes };
        self.tables.apply(1, &first).expect("the first proposal fits the empty cluster");
        let ingress = specs::ingress();
        let random = &mut self.random;
        let (proposal, _) = control::admission::admit(&self.tables, &ingress, self.now, &mut || random.id())
            .expect("an ingress network has place");
        self.tables.apply(2, &proposal).expect("it is the only network");
        self.after_ms(0, Event::Elect);
        self.after_ms(100, Event::Probe);
        self.after_ms(50, Event::Chaos);
    }

    fn play(&mut self) -> Result<Report, String> {
        let end = self.now + self.settings.chaos;
        self.until(end, |_| false)?;
        self.heal_all();
        let healed_at = self.now;
        let deadline = self.now + self.settings.heal;
        self.until(deadline, |cluster| cluster.now.since(healed_at) > Duration::from_secs(5) && cluster.is_at_rest())?;
        self.report.healed_in = self.now.since(healed_at);
        self.report.tasks = self.tables.task_count();
        let unrest = self.unrest();
        if unrest.is_empty() {
            return Ok(self.report);
        }
        for line in self.tables.tasks().map(|task| format!("{task:?}")).take(40).collect::<Vec<_>>() {
            self.note(|| line);
        }
        let shown: Vec<_> = unrest.iter().take(20).cloned().collect();
        Err(format!("no rest {:?} after the last fault: {}", self.settings.heal, shown.join("; ")))
    }

    fn until(&mut self, end: Timestamp, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let mut next_look = self.now;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.report.events += 1;
            self.handle(event)?;
            if self.now >= next_look {
                // looking at everything is dear, so it is done twice a second
                next_look = self.now + Duration::from_millis(500);
                if done(self) {
                    return Ok(());
                }
            }
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Beat(number) => self.beat(number),
            Event::Step(number) => self.step(number),
            Event::Probe => self.probe(),
            Event::Chaos => self.make_chaos(),
            Event::Elect => self.elect()?,
            Event::Plan { term } => self.plan(term)?,
            Event::Heal(number, fault) => self.heal(number, fault),
            Event::ToLeader { term, from, message } => self.at_leader(term, from, message),
            Event::ToAgent { to, number, set } => self.at_agent(to, number, &set),
            Event::Commit { term, proposal, origin } => self.commit(term, &proposal, origin)?,
        }
        Ok(())
    }

    /// Applies what Raft has ordered, and checks everything that must hold.
    pub(crate) fn commit(&mut self, term: u64, proposal: &Proposal, origin: Origin) -> Result<(), String> {
        let before = self.tables.clone();
        let index = self.tables.index() + 1;
        let outcome = self.tables.apply(index, proposal);
        self.report.commits += 1;
        self.report.refused += u64::from(outcome.is_err());
        let step = invariants::check_step(&before, &self.tables, proposal.at);
        step.map_err(|problem| format!("after proposal {index}: {problem}"))?;
        // the whole value is looked at now and then, and at the end
        if index.is_multiple_of(64) {
            invariants::check(&self.tables).map_err(|problem| format!("after proposal {index}: {problem}"))?;
        }
        if outcome.is_ok() {
            self.check_lost(proposal)?;
            self.remember_rollbacks();
            self.spread_assignments(&before);
        }
        self.answer(term, outcome.is_ok(), origin);
        self.plan_soon();
        Ok(())
    }

    fn remember_rollbacks(&mut self) {
        use types::UpdateState::{RollbackCompleted, RollbackPaused, RollbackStarted};
        let back = |s: &&std::sync::Arc<types::Service>| {
            s.update.as_ref().is_some_and(|u| matches!(u.state, RollbackStarted | RollbackPaused | RollbackCompleted))
        };
        self.was_rolled_back.extend(self.tables.services().filter(back).map(|s| s.id));
    }

    pub(crate) fn after_ms(&mut self, ms: u64, event: Event) {
        self.at(self.now + Duration::from_millis(ms), event);
    }

    pub(crate) fn at(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    /// Takes what earlier leaders still have on its way out of the queue, in order.
    pub(crate) fn take_commits(&mut self) -> Vec<(u64, Box<Proposal>, Origin)> {
        let keys: Vec<_> =
            self.queue.iter().filter(|(_, e)| matches!(e, Event::Commit { .. })).map(|(key, _)| *key).collect();
        let mut taken = Vec::new();
        for key in keys {
            if let Some(Event::Commit { term, proposal, origin }) = self.queue.remove(&key) {
                taken.push((term, proposal, origin));
            }
        }
        taken
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        let at = self.now.as_unix_ns() / 1_000_000;
        self.log.push_back(format!("{}.{:03} {}", at / 1000, at % 1000, line()));
    }
}
