//! What may be done to a task's container by hand, as dockerd lets it be done (parity E-25, E-26): the commands are in every
//! clean-up job. The task's service sees what became of it and does the rest: who kills or removes a container has a task that
//! failed, in whose place another begins. What is changed of one holds for this one, and for none that comes after it.

use runtime::{ContainerState, Status};

use super::{
    ContainerError, ContainerErrorKind, Engine,
    create::taken,
    names, of_runtime,
    remove::still_up,
    spec::{Change, RestartPolicy},
    task_name,
};
use crate::engine::container::{LABEL_RENAMED, record_of_labels, with_limits};

impl Engine {
    /// Takes it away. What else the task has on this host is given back by its agent, as after a reboot; its log stays as long
    /// as the task is known.
    pub(super) async fn remove_task_container(
        &self,
        text: &str,
        state: &ContainerState,
        force: bool,
    ) -> Result<(), ContainerError> {
        let up = match state.status {
            Status::Running => Some("running"),
            Status::Paused => Some("paused"),
            Status::Created | Status::Stopped(_) => None,
        };
        if let Some(up) = up {
            if !force {
                return Err(still_up(text, up));
            }
            match self.kill_container(&state.id, "KILL").await {
                Ok(()) => {}
                // it ended by itself
                Err(error) if error.kind == ContainerErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        self.inner.runtime.delete(&state.id).await.map_err(|e| of_runtime(&e))?;
        self.note_task_removed(&state.id);
        Ok(())
    }

    /// Stops it. With dockerd that ends its task too; it starts the container again beside the one that takes the task's place,
    /// until its agent stops it for good. Here the service's restart policy alone decides what comes.
    pub(super) async fn restart_task_container(
        &self,
        state: &ContainerState,
        signal: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<(), ContainerError> {
        match self.stop_container(&state.id, signal, seconds).await {
            Err(error) if error.kind == ContainerErrorKind::Unchanged => Err(ContainerError::conflict(format!(
                "cannot restart container {}: task {} has ended, and its service decides what comes after it; use \
                 `service update --force`",
                state.id,
                task_name(state)
            ))),
            stopped => stopped,
        }
    }

    /// Another name for people; in its networks the task is found as before.
    pub(super) fn rename_task_container(&self, state: &ContainerState, name: &str) -> Result<(), ContainerError> {
        let (old, name) = (task_name(state), names::checked(name)?);
        if name == old {
            return Err(ContainerError::invalid("Renaming a container with the same name as its current name"));
        }
        let containers = &self.inner.containers;
        {
            let mut names = containers.names();
            if let Some(owner) = names.get(name) {
                return Err(taken(name, owner));
            }
            names.insert(name.to_owned(), state.id.clone());
        }
        if let Err(error) = self.inner.runtime.label(&state.id, LABEL_RENAMED, name) {
            containers.release_name(name, &state.id);
            return Err(of_runtime(&error));
        }
        containers.release_name(old, &state.id);
        containers.tasks.renamed(&state.id, name);
        self.announce_of(&state.id, "rename", &[("oldName", format!("/{old}").as_str())]);
        Ok(())
    }

    /// Other limits for this container. When another begins its service alone says.
    pub(super) fn update_task_container(
        &self,
        state: &ContainerState,
        change: Change,
    ) -> Result<Vec<String>, ContainerError> {
        if change.restart.is_some_and(|policy| policy != RestartPolicy::No) {
            return Err(ContainerError::conflict(format!(
                "cannot update the restart policy of container {}: it belongs to task {}, whose service decides what comes \
                 after it; use `service update --restart-condition`",
                state.id,
                task_name(state)
            )));
        }
        let record = record_of_labels(&state.id, &state.labels);
        let is_up = matches!(state.status, Status::Running | Status::Paused);
        let (limits, warnings) = self.bound(&record, change, is_up)?;
        if let Some((label, text)) = with_limits(&state.labels, limits) {
            self.inner.runtime.label(&state.id, label, &text).map_err(|e| of_runtime(&e))?;
        }
        self.announce_of(&state.id, "update", &[]);
        Ok(warnings)
    }
}
