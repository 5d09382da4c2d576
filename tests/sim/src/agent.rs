//! A node as the cluster sees it: it does what it is assigned, after a while, and says so. A host may
//! crash, a daemon may freeze, and containers go on or not as they would.

use std::collections::BTreeMap;

use types::{AssignmentSet, NodeId, TaskId, TaskReport, TaskState, TaskStatus, Timestamp};

use crate::{random::Random, specs::is_job};

pub struct Agent {
    pub id: NodeId,
    /// The host is on. Off: no containers, nothing sent, nothing answered.
    pub host_up: bool,
    /// The daemon is stopped: containers and the probe responder go on, nothing is sent or received.
    pub frozen: bool,
    /// Whole assignment set as last received.
    assigned: AssignmentSet,
    containers: BTreeMap<TaskId, Container>,
    /// Number of the newest assignment that was taken in; older ones that arrive late are dropped.
    pub seen: u64,
    /// The stream broke: the next thing sent is a greeting with everything there is to say.
    pub greets: bool,
    /// Cut off from the managers; the data plane works.
    pub stream_cut: bool,
    /// Cut off from everything.
    pub cut: bool,
    /// When something last was wrong with the host or its network, for the oracle of "lost".
    pub unwell_at: Timestamp,
    /// Removed from the cluster for good.
    pub removed: bool,
}

struct Container {
    state: TaskState,
    since: Timestamp,
    next_step: Timestamp,
    ends: Option<(Timestamp, TaskState)>,
}

impl Agent {
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            host_up: true,
            frozen: false,
            assigned: AssignmentSet::default(),
            containers: BTreeMap::new(),
            seen: 0,
            greets: true,
            stream_cut: false,
            cut: false,
            unwell_at: Timestamp::EPOCH,
            removed: false,
        }
    }

    pub fn is_working(&self) -> bool {
        self.host_up && !self.frozen && !self.removed
    }

    /// Works and reaches the managers.
    pub fn is_talking(&self) -> bool {
        self.is_working() && !self.cut && !self.stream_cut
    }

    /// Answers the probes of peers that are not cut off themselves.
    pub fn answers(&self) -> bool {
        self.host_up && !self.cut && !self.removed
    }

    /// The host loses power: containers are gone, the disk with the assignments stays.
    pub fn crash(&mut self, now: Timestamp) {
        self.host_up = false;
        for container in self.containers.values_mut().filter(|c| !c.state.is_terminal()) {
            container.state = TaskState::Failed;
            container.since = now;
        }
    }

    pub fn receive(&mut self, number: u64, set: &AssignmentSet) {
        if number <= self.seen {
            return;
        }
        self.seen = number;
        self.assigned = set.clone();
        self.containers.retain(|id, _| set.tasks.contains_key(id));
    }

    /// Moves every container on by what time has brought. Returns reports of what changed.
    pub fn step(&mut self, now: Timestamp, random: &mut Random, failing_percent: u64) -> Vec<TaskReport> {
        let mut reports = Vec::new();
        if !self.is_working() {
            return reports;
        }
        for assignment in self.assigned.tasks.values() {
            // what had ended before this host knew of it is not begun again
            if assignment.state.is_terminal() && !self.containers.contains_key(&assignment.id) {
                continue;
            }
            let container = self.containers.entry(assignment.id).or_insert_with(|| Container {
                state: TaskState::Assigned,
                since: now,
                next_step: now + std::time::Duration::from_millis(random.between(1, 300)),
                ends: None,
            });
            let bad = assignment.spec.container.image.repository.contains("bad");
            let fails = random.chance(if bad { 100 } else { failing_percent });
            let end =
                if fails { Some(TaskState::Failed) } else { is_job(&assignment.spec).then_some(TaskState::Complete) };
            if container.advance(now, assignment.desired, assignment.not_before, end, random) {
                reports.push(TaskReport { task: assignment.id, status: container.status() });
            }
        }
        reports
    }

    /// Everything there is to say: sent when a session begins.
    pub fn all_reports(&self) -> Vec<TaskReport> {
        let known = self.containers.iter().filter(|(_, container)| container.state > TaskState::Assigned);
        known.map(|(task, container)| TaskReport { task: *task, status: container.status() }).collect()
    }

    /// Running containers, for the oracle that counts what really runs.
    pub fn running(&self) -> impl Iterator<Item = TaskId> {
        let up = self.host_up;
        self.containers.iter().filter(move |(_, c)| up && c.state == TaskState::Running).map(|(id, _)| *id)
    }
}

impl Container {
    fn status(&self) -> TaskStatus {
        TaskStatus {
            state: self.state,
            since: self.since,
            message: String::new(),
            error: if self.state == TaskState::Failed { "exit status 1".to_owned() } else { String::new() },
            container: None,
            ports: Vec::new(),
        }
    }

    fn advance(
        &mut self,
        now: Timestamp,
        desired: TaskState,
        not_before: Timestamp,
        end: Option<TaskState>,
        random: &mut Random,
    ) -> bool {
        if self.state.is_terminal() || self.next_step > now {
            return false;
        }
        let next = match (desired, self.state) {
            (TaskState::Running, TaskState::Running) => match self.ends {
                Some((at, state)) if at <= now => state,
                _ => return false,
            },
            (TaskState::Running, TaskState::Assigned) => TaskState::Preparing,
            (TaskState::Running, _) if not_before > now => return false,
            (TaskState::Running, TaskState::Preparing) => TaskState::Starting,
            (TaskState::Running, _) => TaskState::Running,
            _ => TaskState::Shutdown,
        };
        self.state = next;
        self.since = now;
        self.next_step = now + std::time::Duration::from_millis(random.between(1, 500));
        if let (TaskState::Running, Some(state)) = (next, end) {
            self.ends = Some((now + std::time::Duration::from_millis(random.between(1, 8000)), state));
        }
        true
    }
}
