//! The agent's loop: the one owner of assignments, local state and reports.
//!
//! Something happens; it is noted; then `reconcile` says what to do about everything, and what it
//! says is begun. No call in here waits for a disk, a container or a manager.

use std::collections::{BTreeSet, HashMap};

use proto::v1::{AgentMessage, Resync, agent_message};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Duration, Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use types::{
    ContainerHealth, ContainerStatus, ManagerPeer, NodeDescription, NodeRole, PortStatus, TaskId, TaskState,
    TaskStatus, Timestamp,
};

use super::{
    AgentConfig, AgentEvent, AgentStatus,
    assigned::{Assigned, Saved},
    described, ends, image_care, image_server,
    keeper::Keeper,
    local::{Local, LocalTask, Phase, Step, StopPolicy},
    monitors::Monitors,
    overlays::{self, Here},
    perform::Performer,
    probes::{self, ProbeNews, Unreachable},
    publish::Publisher,
    reconcile::{Action, Source, reconcile},
    renewal::Renewal,
    report::Reports,
    session::{self, Connection, Event, SessionConfig},
};
use crate::{
    clock::now,
    engine::{
        ClusterNetwork, Engine, Uplink,
        image_gc::AssignedImages,
        peers::ImageLink,
        tasks::{Found, Prepared, TaskError},
    },
};

/// Events of the session that wait for the loop.
const MAX_WAITING: usize = 64;
/// Ends and RUNNING are sent this soon: tasks that start together travel together.
const SOON: Duration = Duration::from_millis(15);
/// States on the way are sent this late: most tasks are further by then, and one report is enough.
const LATER: Duration = Duration::from_millis(300);

pub(super) struct Follower {
    pub(super) engine: Engine,
    pub(super) config: AgentConfig,
    pub(super) assigned: Assigned,
    pub(super) local: Local,
    pub(super) reports: Reports,
    pub(super) prepared: HashMap<TaskId, Box<Prepared>>,
    pub(super) containers: HashMap<TaskId, ContainerStatus>,
    pub(super) performer: Performer,
    pub(super) ends: JoinSet<(TaskId, Result<runtime::ExitStatus, TaskError>)>,
    pub(super) monitors: Monitors,
    pub(super) publisher: Publisher,
    pub(super) probe_news: ProbeNews,
    /// What follows from it for the balancing.
    pub(super) unreachable: Unreachable,
    /// Whether a manager has spoken since this agent started; until then the set is the one from the disk.
    pub(super) has_heard: bool,
    pub(super) here: Here,
    /// Of the data plane, for the managers.
    pub(super) public_key: [u8; 32],
    pub(super) connection: Option<Connection>,
    pub(super) keeper: Keeper,
    pub(super) managers: watch::Sender<Vec<ManagerPeer>>,
    pub(super) desired_role: watch::Sender<Option<NodeRole>>,
    /// The roots that managers want this node to trust.
    pub(super) trust: watch::Sender<Option<[u8; 32]>>,
    pub(super) events: mpsc::Sender<AgentEvent>,
    pub(super) status: watch::Sender<AgentStatus>,
    /// When reports are to be sent, if there are any.
    pub(super) flush_at: Option<Instant>,
    pub(super) wake_at: Option<Timestamp>,
    /// Tasks whose end follows from the decision alone and was told in this session.
    pub(super) told: BTreeSet<TaskId>,
    /// Set when the node leaves: nothing is assigned any more, whatever managers say.
    pub(super) leaving: Option<oneshot::Sender<()>>,
    /// Healthy when an earlier process looked last; of those that were found at start.
    pub(super) was_healthy: BTreeSet<TaskId>,
    /// Found at start and not in the assignments kept on disk: left alone until a manager has spoken.
    pub(super) unclaimed: Vec<Found>,
}

impl Follower {
    /// Runs until `stop`, or until all is removed after a word on `leave`.
    pub(super) async fn run(mut self, mut leave: mpsc::Receiver<oneshot::Sender<()>>, stop: CancellationToken) {
        let (session_events, mut heard) = mpsc::channel(MAX_WAITING);
        let (probe_updates, mut probed) = mpsc::channel(MAX_WAITING);
        let side = CancellationToken::new();
        let mut beside = self.start_beside(session_events, probe_updates, &side);
        self.set_network();
        self.set_images();
        let mut has_left = false;
        loop {
            self.act();
            if self.keeper.is_due() {
                let saved = self.saved();
                self.keeper.write(saved);
            }
            self.publish_status();
            if self.leaving.is_some() && self.local.is_empty() {
                has_left = true;
                break;
            }
            let flush_at = self.flush_at.filter(|_| self.connection.is_some());
            let wake_at = self.wake_at.map(|at| Instant::now() + at.since(now()));
            tokio::select! {
                Some(event) = heard.recv() => self.hear(event).await,
                Some(update) = probed.recv() => {
                    self.take_probes(update);
                }
                (task, step, outcome) = self.performer.next() => self.step_ended(task, step, outcome),
                Some(ended) = self.ends.join_next() => self.end_seen(ended),
                (task, news) = self.monitors.next() => self.health_heard(task, news),
                () = self.keeper.due() => {}
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => self.flush(),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
                () = self.publisher.idle() => {}
                Some(reply) = leave.recv() => self.begin_leave(reply),
                () = stop.cancelled() => break,
                Some(ended) = beside.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a part of the agent ended badly; the agent ends");
                        break;
                    }
                }
            }
        }
        side.cancel();
        self.performer.shutdown().await;
        self.ends.shutdown().await;
        self.monitors.shutdown().await;
        self.publisher.shutdown().await;
        beside.abort_all();
        while beside.join_next().await.is_some() {}
        if has_left {
            self.keeper.erase().await;
        } else {
            self.flush();
            let last = self.saved();
            self.keeper.finish(last).await;
        }
        if let Some(reply) = self.leaving {
            // Whoever asked may have given up waiting.
            let _ = reply.send(());
        }
    }

    fn start_beside(
        &self,
        session_events: mpsc::Sender<Event>,
        probe_updates: mpsc::Sender<overlay::ProbeUpdate>,
        stop: &CancellationToken,
    ) -> JoinSet<()> {
        let mut beside = JoinSet::new();
        let identity = &self.config.identity;
        let (description, described) = watch::channel(NodeDescription {
            wireguard_key: Some(self.public_key),
            routes: self.engine.routes().to_vec(),
            tls_roots_pem: described::other_roots(identity),
            ..self.engine.info().description(identity.root_pem())
        });
        beside.spawn(described::follow(
            self.config.data_address,
            identity.clone(),
            self.engine.port_holders(),
            self.engine.clone(),
            description,
            stop.clone(),
        ));
        let session = SessionConfig {
            identity: identity.clone(),
            description: described,
            data_address: self.config.data_address,
        };
        beside.spawn(session::run(session, self.managers.subscribe(), session_events, stop.clone()));
        let renewal = Renewal {
            identity: identity.clone(),
            vault: self.config.vault.clone(),
            managers: self.managers.subscribe(),
            desired_role: self.desired_role.subscribe(),
            trust: self.trust.subscribe(),
            events: self.events.clone(),
        };
        beside.spawn(renewal.run(stop.clone()));
        let images = image_server::run(
            self.engine.clone(),
            identity.clone(),
            self.managers.subscribe(),
            self.config.data_address,
            stop.clone(),
        );
        beside.spawn(images);
        beside.spawn(image_care::run(self.engine.clone(), stop.clone()));
        beside.spawn(probes::hand_up(self.engine.clone(), probe_updates));
        beside
    }

    async fn hear(&mut self, event: Event) {
        match event {
            Event::Began(connection) => {
                let link = ImageLink { identity: self.config.identity.clone(), channel: connection.channel.clone() };
                self.engine.set_image_link(Some(link));
                let uplink = Uplink { node: self.here.node, channel: connection.channel.clone() };
                self.engine.set_uplink(Some(uplink));
                self.connection = Some(connection);
                self.assigned.session_began();
                self.told.clear();
                // this manager may know better than the one before
                self.trust.send_replace(None);
                self.reports.session_began();
                self.probe_news.session_began();
                self.flush_at = self.reports.has_unsent().then(Instant::now);
                self.send_probes();
            }
            Event::Ended => {
                self.connection = None;
                self.engine.set_uplink(None);
                self.engine.set_image_link(None);
            }
            Event::Assignments { applies_to, results_in, content } => self.assign(applies_to, results_in, *content),
            Event::Managers(managers) => {
                let changed = self.managers.send_if_modified(|known| {
                    let differs = *known != managers && !managers.is_empty();
                    if differs {
                        known.clone_from(&managers);
                    }
                    differs
                });
                if changed {
                    self.keeper.mark();
                    self.inform(AgentEvent::Managers(managers));
                }
            }
            Event::DesiredRole(role) => {
                self.desired_role.send_replace(Some(role));
            }
            Event::Trust(digest) => {
                self.trust.send_replace(Some(digest));
            }
            Event::LogRequest(request) => {
                if let Some(connection) = &self.connection {
                    self.publisher.begin(request, connection.channel.clone());
                }
            }
            Event::LogCancel(id) => self.publisher.cancel(id),
            Event::UsageRequest(id) => {
                if let Some(connection) = &self.connection {
                    self.publisher.measure(id, connection.channel.clone());
                }
            }
            Event::Committed(count) => {
                if self.reports.committed(count) {
                    self.keeper.mark();
                }
            }
            Event::Removed => self.inform(AgentEvent::Removed),
        }
    }

    /// A daemon that does not listen learns it from the status; the loop does not wait for it.
    fn inform(&self, event: AgentEvent) {
        if let Err(error) = self.events.try_send(event) {
            tracing::warn!(%error, "the daemon does not take the agent's events");
        }
    }

    fn assign(&mut self, applies_to: u64, results_in: u64, content: super::assigned::Content) {
        if self.leaving.is_some() {
            return;
        }
        let is_whole = matches!(content, super::assigned::Content::Whole(_));
        if let Err(error) = self.assigned.apply(applies_to, results_in, content) {
            tracing::info!(%error, "asking for all assignments again");
            self.send(agent_message::Message::Resync(Resync {}));
            return;
        }
        if is_whole {
            self.claim();
            self.reports.settle(self.assigned.set());
        }
        self.told.retain(|task| self.assigned.set().tasks.contains_key(task));
        self.keeper.mark();
        self.has_heard = true;
        self.set_network();
        self.set_images();
    }

    /// What the engine must not remove to make room. While no assignments are known it removes nothing.
    fn set_images(&self) {
        if self.assigned.is_known() {
            self.engine.set_assigned_images(AssignedImages::of(self.assigned.set()));
        }
    }

    fn set_network(&self) {
        let set = self.assigned.set();
        let mut said = overlays::cluster_network(set, &self.here, &self.unreachable);
        if let Some(probes) = &mut said.probes {
            let drains = |local: &LocalTask| local.drained_at.is_some() && local.phase == Phase::Running;
            let ids = self.local.iter().filter(|(_, local)| drains(local)).map(|(id, _)| id);
            let tasks = ids.filter_map(|id| set.tasks.get(id));
            probes.draining = probes::draining(set, (self.here.node, self.here.address), tasks);
        }
        self.engine.set_cluster_network(ClusterNetwork { is_kept: !self.has_heard, ..said });
    }

    /// What hosts have said of the tasks that are on their way out.
    fn note_release(&mut self) {
        let set = self.assigned.set();
        let are_asked = probes::are_on(&set.network);
        for (id, local) in self.local.iter_mut().filter(|(_, local)| local.drained_at.is_some()) {
            let places = set.tasks.get(id).into_iter().flat_map(|task| &task.attachments);
            local.is_led = are_asked && self.probe_news.are_led(places.flat_map(|place| &place.addresses));
        }
    }

    fn take_probes(&mut self, update: overlay::ProbeUpdate) {
        self.probe_news.take(update);
        self.send_probes();
        let unreachable = self.probe_news.unreachable();
        if unreachable != self.unreachable {
            self.unreachable = unreachable;
            self.set_network();
        }
    }

    fn begin_leave(&mut self, reply: oneshot::Sender<()>) {
        self.assigned = Assigned::restore(Some(types::AssignmentSet::default()));
        self.has_heard = true;
        self.set_network();
        self.set_images();
        self.claim();
        self.leaving = Some(reply);
    }

    /// Decides about everything and begins what was decided.
    fn act(&mut self) {
        let source = match (self.assigned.is_known(), self.has_heard) {
            (false, _) => Source::Nothing,
            (true, false) => Source::Disk,
            (true, true) => Source::Managers,
        };
        self.note_release();
        let decision = reconcile(self.assigned.set(), source, &self.local, now());
        self.wake_at = decision.wake_at;
        let mut drains = false;
        for action in decision.actions {
            match action {
                Action::Begin(task, step) => self.begin(task, step),
                Action::Cancel(task) => self.performer.cancel(task),
                Action::Drain(task, until) => {
                    if let Some(local) = self.local.get_mut(&task) {
                        local.drained_at = Some(until);
                        drains = true;
                    }
                }
                Action::Report(task, state, why) => {
                    if self.told.insert(task) {
                        self.tell_why(task, state, why, String::new());
                    }
                }
                Action::Forget(task) => {
                    self.local.remove(&task);
                    self.containers.remove(&task);
                    self.engine.note_task_health(task, None);
                }
            }
        }
        if drains {
            self.set_network();
        }
    }

    fn begin(&mut self, task: TaskId, step: Step) {
        let assignment = self.assigned.set().tasks.get(&task).cloned();
        let stop = assignment.as_ref().map(|a| {
            let spec = &a.spec.container;
            StopPolicy { signal: spec.stop_signal.clone(), grace: spec.stop_grace_period }
        });
        let entry = self.local.entry(task);
        let local = entry.or_insert_with(|| LocalTask::new(Phase::Absent, stop.unwrap_or_default()));
        local.busy = Some(step);
        let stop = local.stop.clone();
        match (step, assignment) {
            (Step::Prepare, Some(a)) => {
                self.tell(task, TaskState::Preparing, String::new());
                let sent = self.assigned.dependencies_of(&a);
                self.performer.prepare(a, sent);
            }
            (Step::Create, Some(a)) => {
                let prepared = self.prepared.remove(&task);
                let sent = self.assigned.dependencies_of(&a);
                self.performer.create(a, sent, prepared);
            }
            (Step::Start, _) => {
                self.tell(task, TaskState::Starting, String::new());
                self.performer.start(task);
            }
            (Step::Refresh, Some(a)) => {
                let sent = self.assigned.dependencies_of(&a);
                self.performer.refresh(a, sent);
            }
            (Step::Stop, _) => {
                self.monitors.end(task);
                self.performer.stop(task, stop);
            }
            (Step::Release, _) => self.performer.release(task),
            (Step::Remove, _) => self.performer.remove(task),
            (Step::Prepare | Step::Create | Step::Refresh, None) => local_idle(&mut self.local, task),
        }
    }

    /// Notes a status for the managers.
    pub(super) fn tell(&mut self, task: TaskId, state: TaskState, error: String) {
        self.tell_why(task, state, ends::message(state), error);
    }

    pub(super) fn tell_why(&mut self, task: TaskId, state: TaskState, message: &str, error: String) {
        let ports = self.local.get(&task).filter(|_| !state.is_terminal()).map(|local| local.ports.clone());
        let status = TaskStatus {
            state,
            since: now(),
            message: message.to_owned(),
            error,
            container: self.containers.get(&task).cloned(),
            ports: ports.unwrap_or_default().into_iter().map(|port| PortStatus { port }).collect(),
        };
        if !self.reports.note(task, status) {
            return;
        }
        if state.is_terminal() {
            self.keeper.mark();
        }
        let delay = if state >= TaskState::Running { SOON } else { LATER };
        let at = Instant::now() + delay;
        self.flush_at = Some(self.flush_at.map_or(at, |known| known.min(at)));
    }

    fn flush(&mut self) {
        self.flush_at = None;
        while self.reports.has_unsent() {
            let Some(connection) = &self.connection else { return };
            let Ok(permit) = connection.messages.try_reserve() else {
                // The manager is slow to take them: they wait, and newer states replace older ones.
                self.flush_at = Some(Instant::now() + LATER);
                return;
            };
            let batch = self.reports.take_batch();
            let message = agent_message::Message::TaskReports(proto::encode(&batch));
            permit.send(AgentMessage { message: Some(message) });
        }
    }

    fn send_probes(&mut self) {
        let news = self.probe_news.news(&self.assigned.set().network, self.here.address);
        if !news.is_empty() && self.send(agent_message::Message::ProbeReports(proto::encode(&news))) {
            self.probe_news.told(news);
        }
    }

    /// True if the message is on its way.
    fn send(&self, message: agent_message::Message) -> bool {
        let message = AgentMessage { message: Some(message) };
        self.connection.as_ref().is_some_and(|c| c.messages.try_send(message).is_ok())
    }

    fn saved(&self) -> Saved {
        let set = self.assigned.kept();
        let is_healthy = |status: &ContainerStatus| status.health == Some(ContainerHealth::Healthy);
        let healthy = self.containers.iter().filter(|(_, status)| is_healthy(status)).map(|(task, _)| *task);
        let healthy = self.was_healthy.iter().copied().chain(healthy).collect();
        Saved { set, reports: self.reports.kept(), managers: self.managers.borrow().clone(), healthy }
    }

    fn publish_status(&self) {
        let status = AgentStatus {
            manager: self.connection.as_ref().map(|c| c.manager.clone()),
            tasks: self.local.len(),
            running: self.local.values().filter(|t| t.phase == Phase::Running).count(),
            reports_waiting: self.reports.waiting(),
        };
        self.status.send_if_modified(|known| {
            let differs = *known != status;
            *known = status;
            differs
        });
    }
}

fn local_idle(local: &mut Local, task: TaskId) {
    if let Some(task) = local.get_mut(&task) {
        task.busy = None;
    }
}
