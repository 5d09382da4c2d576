//! Gathers what the nodes of this manager say and passes it to the leader, in few and small batches.
//!
//! One loop per manager, fed by its sessions; the leader may be this manager. While there is no
//! leader it keeps what it has and, once it is full, lets the sessions wait.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use proto::v1::RaftFrame;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout_at},
};
use types::{NodeId, ProbeReport, TaskReport};

use super::hub::Handle;
use crate::{
    Error,
    leader::{
        intake::Intake,
        upward::{Description, Upward},
    },
    raft::{Consensus, Leader, ProposeError},
};

/// Messages of sessions that may wait for the uplink.
pub(crate) const MAX_SAID: usize = 4096;
/// Heartbeats gather this long. It adds to the spread of their arrival, of which the leader allows a
/// fifth of a period.
const HEARTBEAT_WINDOW: Duration = Duration::from_millis(50);
/// News gathers this long when there was other news just before...
const BUSY_WINDOW: Duration = Duration::from_millis(25);
/// ...and this long when there was none.
const IDLE_WINDOW: Duration = Duration::from_millis(2);
/// Task reports in one batch; what comes meanwhile waits for the next.
const MAX_REPORTS: usize = 4096;
/// For one batch to be committed.
const DEADLINE: Duration = Duration::from_secs(20);
/// Before a batch that did not get through is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What a session heard from its node.
pub(crate) enum Said {
    Heartbeat(NodeId),
    Described {
        node: NodeId,
        description: Box<Description>,
    },
    /// `total` counts the reports of the session up to these.
    Tasks {
        session: Arc<Handle>,
        reports: Vec<TaskReport>,
        total: u64,
    },
    Probes {
        node: NodeId,
        reports: Vec<ProbeReport>,
    },
    /// The session ended.
    Gone(NodeId),
}

pub(crate) struct Uplink {
    consensus: Consensus,
    intake: Intake,
    heard: HashSet<NodeId>,
    batch: Upward,
    reports: usize,
    /// To be told once the batch is committed.
    waiting: HashMap<NodeId, (Arc<Handle>, u64)>,
    /// Last word of each session's node on each of its peers: a new leader needs all of them.
    probes: HashMap<NodeId, BTreeMap<NodeId, ProbeReport>>,
    /// Term and id of the leader that has them.
    told: Option<(u64, u64)>,
    last_news: Instant,
    /// Since when something has been on its way to the leader without arriving.
    stuck_since: watch::Sender<Option<Instant>>,
}

impl Uplink {
    pub(crate) fn new(consensus: Consensus, intake: Intake, stuck_since: watch::Sender<Option<Instant>>) -> Self {
        Self {
            stuck_since,
            consensus,
            intake,
            heard: HashSet::new(),
            batch: Upward::default(),
            reports: 0,
            waiting: HashMap::new(),
            probes: HashMap::new(),
            told: None,
            last_news: Instant::now(),
        }
    }

    /// Runs as long as the manager.
    pub(crate) async fn run(mut self, mut said: mpsc::Receiver<Said>) -> Result<(), Error> {
        let mut metrics = self.consensus.raft().server_metrics();
        loop {
            tokio::select! {
                next = said.recv() => match next {
                    Some(next) => self.note(next),
                    None => return Ok(()),
                },
                changed = metrics.changed() => if changed.is_err() { return Ok(()) },
            }
            self.gather(&mut said).await;
            self.pass_on().await;
        }
    }

    /// Waits for more to come, a little while.
    async fn gather(&mut self, said: &mut mpsc::Receiver<Said>) {
        let start = Instant::now();
        loop {
            self.repeat_probes_to_new_leader();
            let busy = start.duration_since(self.last_news) < BUSY_WINDOW * 4;
            let window = match (self.batch.is_news(), busy) {
                (false, _) => HEARTBEAT_WINDOW,
                (true, true) => BUSY_WINDOW,
                (true, false) => IDLE_WINDOW,
            };
            if self.reports >= MAX_REPORTS {
                return;
            }
            match timeout_at(start + window, said.recv()).await {
                Ok(Some(next)) => self.note(next),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn note(&mut self, said: Said) {
        match said {
            Said::Heartbeat(node) => {
                self.heard.insert(node);
            }
            Said::Described { node, description } => {
                self.heard.insert(node);
                self.batch.described.insert(node, *description);
            }
            Said::Tasks { session, mut reports, total } => {
                self.heard.insert(session.node);
                self.reports += reports.len();
                self.batch.tasks.entry(session.node).or_default().append(&mut reports);
                self.waiting.insert(session.node, (session, total));
            }
            Said::Probes { node, reports } => {
                self.heard.insert(node);
                let known = self.probes.entry(node).or_default();
                known.extend(reports.iter().map(|report| (report.peer, report.clone())));
                self.batch.probes.entry(node).or_default().extend(reports);
            }
            Said::Gone(node) => {
                self.probes.remove(&node);
                self.heard.remove(&node);
            }
        }
    }

    fn repeat_probes_to_new_leader(&mut self) {
        let metrics = self.consensus.metrics();
        let leader = metrics.current_leader.map(|id| (metrics.current_term, id));
        if leader.is_none() || leader == self.told {
            return;
        }
        self.told = leader;
        let all = self.probes.iter().map(|(node, known)| (*node, known.values().cloned().collect()));
        self.batch.probes = all.filter(|(_, reports): &(_, Vec<_>)| !reports.is_empty()).collect();
    }

    /// Until the batch is taken. Sessions wait meanwhile, once their queue is full.
    async fn pass_on(&mut self) {
        self.batch.heard = self.heard.drain().collect();
        if self.batch.is_empty() {
            return;
        }
        if self.batch.is_news() {
            self.last_news = Instant::now();
        }
        self.stuck_since.send_if_modified(|since| {
            let begins = since.is_none();
            since.get_or_insert_with(Instant::now);
            begins
        });
        loop {
            match self.try_pass_on().await {
                Ok(()) => {
                    self.stuck_since.send_replace(None);
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "what nodes said did not reach the leader; sending it again");
                    // presence that is late says nothing
                    self.batch.heard.clear();
                    if !self.batch.is_news() {
                        break;
                    }
                    sleep_until(Instant::now() + RETRY_PAUSE).await;
                }
            }
        }
        self.batch = Upward::default();
        self.reports = 0;
        for (_, (session, total)) in self.waiting.drain() {
            session.committed.send_replace(total);
        }
    }

    async fn try_pass_on(&self) -> Result<(), ProposeError> {
        let leader: Leader = self.consensus.wait_for_leader().await.map_err(ProposeError::Remote)?;
        if leader.here {
            return self.intake.take(self.batch.clone()).await;
        }
        let mut call = tonic::Request::new(RaftFrame { payload: proto::encode(&self.batch) });
        call.set_timeout(DEADLINE);
        self.consensus.client(&leader.address).relay(call).await.map(drop).map_err(ProposeError::Remote)
    }
}
