//! What the ends of steps and of containers change in the agent's state.

use std::time::Duration;

use tokio::task::JoinError;
use types::{ContainerStatus, TaskId, TaskState};

use super::{
    ends,
    follower::Follower,
    local::{Phase, Step},
    perform::Outcome,
};
use crate::{
    clock::{now, pause_after},
    engine::tasks::TaskError,
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Tries of a step towards RUNNING before the task is given up: the managers know what to do then.
const ATTEMPTS: u32 = 4;

impl Follower {
    /// A step is over.
    pub(super) fn step_ended(&mut self, task: TaskId, step: Step, outcome: Outcome) {
        if let Some(local) = self.local.get_mut(&task) {
            // A container that was stopped is busy until its end was seen.
            let waits_for_end = step == Step::Stop && matches!(outcome, Outcome::Done) && local.phase == Phase::Running;
            local.is_stopped |= waits_for_end;
            if !waits_for_end && local.busy == Some(step) {
                local.busy = None;
            }
            if !matches!(outcome, Outcome::Failed(_)) {
                local.attempts = 0;
            }
        }
        match (step, outcome) {
            (_, Outcome::Prepared(prepared)) => {
                let id = crate::engine::container_id(task);
                let container = ContainerStatus { id, address: prepared.address, ..ContainerStatus::default() };
                self.containers.insert(task, container);
                self.prepared.insert(task, prepared);
                self.phase(task, Phase::Prepared);
            }
            (_, Outcome::Created { pid, prepared }) => {
                let id = crate::engine::container_id(task);
                let container = ContainerStatus { id, pid, address: prepared.address, ..ContainerStatus::default() };
                self.containers.insert(task, container);
                if let Some(local) = self.local.get_mut(&task) {
                    (local.check, local.ports, local.versions) = (prepared.health, prepared.ports, prepared.versions);
                }
                self.phase(task, Phase::Created);
                self.tell(task, TaskState::Ready, String::new());
            }
            (_, Outcome::Refreshed(versions)) => self.refreshed(task, versions),
            (Step::Start, Outcome::Done) => self.runs(task, now(), false),
            (Step::Release, Outcome::Done) => self.phase(task, Phase::Ended { released: true }),
            (Step::Remove, Outcome::Done) => {
                self.local.remove(&task);
                self.containers.remove(&task);
                self.engine.note_task_health(task, None);
                self.prepared.remove(&task);
            }
            (_, Outcome::Done) => {}
            // It was broken off before anything was made.
            (_, Outcome::Cancelled) => self.phase(task, Phase::Absent),
            (step, Outcome::Failed(error)) => self.step_failed(task, step, error),
        }
    }

    pub(super) fn phase(&mut self, task: TaskId, phase: Phase) {
        if let Some(local) = self.local.get_mut(&task) {
            local.phase = phase;
        }
    }

    fn step_failed(&mut self, task: TaskId, step: Step, error: TaskError) {
        let Some(local) = self.local.get_mut(&task) else { return };
        local.attempts += 1;
        local.retry_at = now() + pause_after(local.attempts, FIRST_PAUSE, LONGEST_PAUSE);
        let is_final = matches!(error, TaskError::Refused(_)) || local.attempts >= ATTEMPTS;
        let (TaskError::Refused(text) | TaskError::Transient(text)) = error;
        match step {
            Step::Prepare | Step::Create | Step::Start if is_final => {
                let start = step == Step::Start;
                let state = if start { TaskState::Failed } else { TaskState::Rejected };
                tracing::info!(task.id = %task, %state, error = text, "task cannot run");
                local.phase = Phase::Ended { released: false };
                (local.attempts, local.retry_at) = (0, types::Timestamp::EPOCH);
                self.prepared.remove(&task);
                self.tell(task, state, text);
            }
            Step::Prepare | Step::Create | Step::Start => {
                let state = if step == Step::Start { TaskState::Starting } else { TaskState::Preparing };
                self.tell(task, state, format!("{text}; trying again"));
            }
            Step::Refresh => self.not_refreshed(task, &text),
            Step::Stop | Step::Release | Step::Remove => {
                tracing::warn!(task.id = %task, ?step, error = text, "a step failed; trying again");
            }
        }
    }

    /// Waits for the end of a running container, beside the loop.
    pub(super) fn watch_end(&mut self, task: TaskId) {
        let engine = self.engine.clone();
        self.ends.spawn(async move { (task, engine.wait_task(task).await) });
    }

    pub(super) fn end_seen(&mut self, ended: Result<(TaskId, Result<runtime::ExitStatus, TaskError>), JoinError>) {
        match ended {
            Ok((task, Ok(exit))) => self.ended(task, &exit),
            Ok((task, Err(TaskError::Refused(text) | TaskError::Transient(text)))) => {
                tracing::warn!(task.id = %task, error = text, "lost sight of a container");
                self.over(task, TaskState::Failed, format!("lost sight of its container: {text}"));
            }
            Err(error) => tracing::error!(%error, "waiting for a container ended badly"),
        }
    }

    /// A container ended.
    pub(super) fn ended(&mut self, task: TaskId, exit: &runtime::ExitStatus) {
        self.engine.note_task_ended(&crate::engine::container_id(task), exit);
        let container = self.containers.entry(task).or_default();
        (container.pid, container.exit_code) = (0, Some(exit.code));
        let is_wanted = self.assigned.set().tasks.get(&task).is_some_and(|a| a.desired <= TaskState::Running);
        let local = self.local.get(&task);
        let unhealthy = local.and_then(|l| l.unhealthy.as_deref()).filter(|_| is_wanted);
        let was_asked = !is_wanted || local.is_some_and(|l| l.busy == Some(Step::Stop));
        let (state, error) = ends::of_exit(exit, was_asked, unhealthy);
        self.over(task, state, error);
    }

    fn over(&mut self, task: TaskId, state: TaskState, error: String) {
        self.monitors.end(task);
        if let Some(local) = self.local.get_mut(&task) {
            local.phase = Phase::Ended { released: false };
            // who writes its files, or has something to tell of its end, is waited for before it goes
            let is_under_way = |step: &Step| *step == Step::Refresh || *step == Step::Stop && !local.is_stopped;
            local.busy = local.busy.filter(is_under_way);
        }
        if self.assigned.set().tasks.contains_key(&task) {
            self.tell(task, state, error);
        }
    }
}
