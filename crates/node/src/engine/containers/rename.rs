//! Another name for a container, for people and in the networks of this host.

use super::{ContainerError, Engine, Meant, Phase, create::taken, names};

impl Engine {
    /// Another name. A container that runs is found by it at once, and by the old one no more.
    ///
    /// # Errors
    /// When it is taken or cannot be a name.
    pub async fn rename_container(&self, text: &str, name: &str) -> Result<(), ContainerError> {
        if name.is_empty() {
            return Err(ContainerError::invalid("Neither old nor new names may be empty"));
        }
        let single = match self.meant(text).await? {
            Meant::Single(single) => single,
            Meant::Task(state) => return self.rename_task_container(&state, name),
        };
        let _turn = single.turn.lock().await;
        let old = single.lock().name.clone();
        let name = names::checked(name)?.to_owned();
        {
            let mut names = self.inner.containers.names();
            match names.get(&name) {
                Some(owner) if *owner == single.id => {
                    return Err(ContainerError::invalid("Renaming a container with the same name as its current name"));
                }
                Some(owner) => return Err(taken(&name, owner)),
                None => {}
            }
            names.insert(name.clone(), single.id.clone());
        }
        if single.phase() == Phase::Running
            && let Err(error) = self.rename_endpoint(&single.id, &old, &name).await
        {
            self.inner.containers.release_name(&name, &single.id);
            return Err(ContainerError::failed(format!("rename {old} to {name} in its networks: {}", error.message)));
        }
        self.inner.containers.release_name(&old, &single.id);
        let record = single.change(&self.inner.containers.store, |record| record.name = name);
        self.announce_with("rename", &record, &[("oldName", format!("/{old}").as_str())]);
        Ok(())
    }
}
