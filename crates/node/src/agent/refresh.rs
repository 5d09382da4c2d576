//! What the agent says of other versions of secrets and configs in a container that runs (P12). It goes on with what it has
//! when they cannot be written, and that is tried until they are.

use types::{ContainerHealth, DependencyId, TaskId, TaskState};

use super::{follower::Follower, local::Phase};

/// What a task is whose files are not what its spec names.
const STALE: &str = "running, its secrets and configs could not be changed";

impl Follower {
    /// The files have these versions now, and the container was told.
    pub(super) fn refreshed(&mut self, task: TaskId, versions: Vec<DependencyId>) {
        let Some(local) = self.local.get_mut(&task) else { return };
        local.versions = versions;
        tracing::info!(task.id = %task, "a running container has other versions of its secrets and configs");
        if std::mem::take(&mut local.is_stale) && local.phase == Phase::Running {
            self.tell(task, self.state_of_running(task), String::new());
        }
    }

    pub(super) fn not_refreshed(&mut self, task: TaskId, why: &str) {
        let Some(local) = self.local.get_mut(&task).filter(|local| local.phase == Phase::Running) else { return };
        local.is_stale = true;
        tracing::warn!(task.id = %task, error = why, "secrets and configs of a running container stay as they are; trying again");
        let error = format!("change its secrets and configs while it runs: {why}; trying again");
        self.tell_why(task, self.state_of_running(task), STALE, error);
    }

    /// Of a task whose container runs.
    fn state_of_running(&self, task: TaskId) -> TaskState {
        match self.containers.get(&task).and_then(|container| container.health) {
            Some(ContainerHealth::Starting) => TaskState::Starting,
            _ => TaskState::Running,
        }
    }
}
