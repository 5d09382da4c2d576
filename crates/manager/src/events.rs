//! Tells what happens to the objects of the cluster, step by step, on every manager alike.
//!
//! Reads the states of the value that [`History`] keeps, asks `control::events` for what differs, and says it to the
//! sink that the daemon gave. Who leads and which managers answer is no part of the value: that is told as this
//! manager sees it. It must never wait for whoever listens.

use std::{collections::BTreeSet, time::Duration};

use control::Tables;
use tokio::time::{Instant, MissedTickBehavior, interval};
use types::{ClusterEvents, Node, NodeId, ObjectAction, ObjectEvent, ObjectKind, TaskState};

use crate::{
    Clock, Error,
    config::EventSink,
    metrics::Metrics,
    raft::{Consensus, membership::REACHABLE_WITHIN},
    store::{History, Machine, Step},
};

/// How often a leader looks which managers answer.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) struct Teller {
    history: History,
    before: Tables,
    sink: EventSink,
    clock: Clock,
    standing: Standing,
    metrics: Metrics,
}

/// What was last told of the managers.
#[derive(Debug, Default)]
struct Standing {
    leader: Option<NodeId>,
    /// Since when this manager leads.
    leading_since: Option<Instant>,
    /// Managers that do not answer this one, while it leads.
    silent: BTreeSet<NodeId>,
}

impl Teller {
    /// What a store holds when it is opened is where events begin.
    pub(crate) fn begin(machine: &Machine, sink: EventSink, clock: Clock, metrics: &Metrics) -> Self {
        let before = machine.tables().clone();
        let (index, at) = (Some(before.index()), clock());
        sink(ClusterEvents { index, at, is_gapless: false, is_past: true, events: Vec::new() });
        let (history, standing, metrics) = (machine.history().clone(), Standing::default(), metrics.clone());
        Self { history, before, sink, clock, standing, metrics }
    }

    /// Tells of all that was applied up to now as of something long known.
    pub(crate) fn tell_past(&mut self) {
        while let Some(step) = self.history.try_next() {
            self.tell(step, true);
        }
    }

    /// Runs as long as the manager.
    pub(crate) async fn run(mut self, consensus: Consensus) -> Result<(), Error> {
        let mut metrics = consensus.raft().server_metrics();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                step = self.history.next() => {
                    // one manager counts, so that the numbers of all can be added
                    if consensus.is_leader() {
                        self.count_delays(&step);
                    }
                    self.tell(step, false);
                }
                changed = metrics.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.tell_standing(&consensus);
                }
                _ = look.tick() => self.tell_standing(&consensus),
            }
        }
    }

    /// How long tasks took that reached their place, or run.
    fn count_delays(&self, step: &Step) {
        let Some(at) = step.at else { return };
        for (old, new) in control::changed_tasks(&self.before, &step.tables) {
            let (was, is) = (old.map_or(TaskState::New, |old| old.status.state), new.status.state);
            let delay = at.since(new.meta.created_at).as_secs_f64();
            let reached = |state| was < state && is >= state && !is.is_terminal();
            if reached(TaskState::Assigned) {
                self.metrics.to_assigned.observe(delay);
            }
            if reached(TaskState::Running) {
                self.metrics.to_running.observe(delay);
            }
        }
    }

    fn tell(&mut self, step: Step, is_past: bool) {
        // a manager that is new gets all objects at once, of which none is new
        let is_first = self.before.index() == 0 && !step.is_gapless;
        let events = if is_first { Vec::new() } else { control::events(&self.before, &step.tables) };
        let (index, at) = (Some(step.tables.index()), step.at.unwrap_or_else(|| (self.clock)()));
        (self.sink)(ClusterEvents { index, at, is_gapless: step.is_gapless, is_past, events });
        self.before = step.tables;
    }

    fn tell_standing(&mut self, consensus: &Consensus) {
        let leader = consensus.leader().and_then(|leader| leader.node);
        let heard = consensus.is_leader().then(|| consensus.peers().heard_within(REACHABLE_WITHIN));
        let silent = |node: &Node| {
            let raft_id = node.raft.as_ref().map(|raft| raft.raft_id);
            raft_id != Some(consensus.raft_id()) && !raft_id.zip(heard.as_ref()).is_some_and(|(id, h)| h.contains(&id))
        };
        let members = self.before.nodes().filter(|node| node.raft.is_some());
        let silent = heard.is_some().then(|| members.filter(|node| silent(node)).map(|node| node.id).collect());
        let events = self.standing.follow(&self.before, leader, silent, Instant::now());
        if !events.is_empty() {
            let at = (self.clock)();
            (self.sink)(ClusterEvents { index: None, at, is_gapless: true, is_past: false, events });
        }
    }
}

impl Standing {
    /// What to tell. `silent` is known while this manager leads. That nobody leads for a moment is told when another
    /// does.
    fn follow(
        &mut self,
        tables: &Tables,
        leader: Option<NodeId>,
        silent: Option<BTreeSet<NodeId>>,
        now: Instant,
    ) -> Vec<ObjectEvent> {
        let mut events = Vec::new();
        if let Some(next) = leader
            && self.leader != leader
        {
            if let Some(last) = self.leader {
                events.extend(changed(tables, last, "leader", ("true", "false")));
                events.extend(changed(tables, next, "leader", ("false", "true")));
            }
            self.leader = leader;
        }
        let Some(silent) = silent else {
            (self.leading_since, self.silent) = (None, BTreeSet::new());
            return events;
        };
        // before that it has not had the time to hear everybody
        if now.duration_since(*self.leading_since.get_or_insert(now)) < REACHABLE_WITHIN {
            return events;
        }
        let (fell, rose) = (("reachable", "unreachable"), ("unreachable", "reachable"));
        events.extend(silent.difference(&self.silent).flat_map(|id| changed(tables, *id, "reachability", fell)));
        events.extend(self.silent.difference(&silent).flat_map(|id| changed(tables, *id, "reachability", rose)));
        self.silent = silent;
        events
    }
}

/// Docker's words. A node that is no part of the cluster any more has no events.
fn changed(tables: &Tables, id: NodeId, what: &str, (old, new): (&str, &str)) -> Option<ObjectEvent> {
    let node = tables.node(id)?;
    let attributes = [
        ("name".to_owned(), node.shown_name().to_owned()),
        (format!("{what}.old"), old.to_owned()),
        (format!("{what}.new"), new.to_owned()),
    ];
    let (kind, action) = (ObjectKind::Node, ObjectAction::Update);
    Some(ObjectEvent { kind, action, id: id.to_string(), attributes: attributes.into() })
}

#[cfg(test)]
mod tests {
    use control::{Change, Proposal};
    use types::{Meta, NodeRole, NodeSpec, NodeState, NodeStatus, RaftMember, Timestamp};

    use super::*;

    fn manager(number: u64) -> Node {
        let spec = NodeSpec { name: format!("m{number}"), role: NodeRole::Manager, ..NodeSpec::default() };
        Node {
            id: NodeId::from_random(number.into()),
            meta: Meta::default(),
            spec,
            role: NodeRole::Manager,
            status: NodeStatus {
                state: NodeState::Ready,
                message: String::new(),
                since: Timestamp::EPOCH,
                address: None,
                unreachable_peers: Vec::new(),
            },
            description: None,
            raft: Some(RaftMember { raft_id: number, address: String::new() }),
        }
    }

    fn said(events: &[ObjectEvent]) -> Vec<String> {
        let one = |event: &ObjectEvent| {
            let attributes = event.attributes.iter().filter(|(key, _)| key.contains('.'));
            let attributes: Vec<_> = attributes.map(|(key, value)| format!("{key}={value}")).collect();
            format!("{} {}", event.attributes["name"], attributes.join(" "))
        };
        events.iter().map(one).collect()
    }

    #[test]
    fn c_39_who_leads_and_who_answers_is_told_once() {
        let mut tables = Tables::default();
        let changes = [1, 2].map(|number| Change::PutNode(Box::new(manager(number)))).to_vec();
        tables.apply(1, &Proposal { at: Timestamp::EPOCH, expects: Vec::new(), changes }).expect("two nodes");
        let [one, two] = [1, 2].map(NodeId::from_random);
        let mut standing = Standing::default();
        let start = Instant::now();
        let (all, none) = (BTreeSet::from([two]), BTreeSet::new());
        let mut follow = |leader, silent: Option<&BTreeSet<NodeId>>, seconds| {
            said(&standing.follow(&tables, leader, silent.cloned(), start + Duration::from_secs(seconds)))
        };
        let quiet: [String; 0] = [];
        assert_eq!(follow(Some(two), None, 0), quiet, "where it begins is no news");
        assert_eq!(follow(None, None, 1), quiet);
        let leads = ["m2 leader.new=false leader.old=true", "m1 leader.new=true leader.old=false"];
        assert_eq!(follow(Some(one), Some(&all), 2), leads);
        assert_eq!(follow(Some(one), Some(&all), 3), quiet, "it has led for a moment only");
        assert_eq!(follow(Some(one), Some(&all), 5), ["m2 reachability.new=unreachable reachability.old=reachable"]);
        assert_eq!(follow(Some(one), Some(&all), 6), quiet);
        assert_eq!(follow(Some(one), Some(&none), 7), ["m2 reachability.new=reachable reachability.old=unreachable"]);
    }
}
