//! Removing containers: record, root filesystem, log and, if wanted, the volumes that were made for it (parity E-26).

use std::sync::PoisonError;
use types::with_causes;

use super::{ContainerError, ContainerErrorKind, Engine, Single, of_runtime, stopping};

impl Engine {
    /// Takes a container away.
    ///
    /// # Errors
    /// When it runs and `force` is not given, or something of it cannot be removed; another try goes on then.
    pub async fn remove_container(&self, text: &str, force: bool, volumes: bool) -> Result<(), ContainerError> {
        let single = self.single(text, "remove").await?;
        if single.is_running() {
            if !force {
                let status = if self.is_paused(&single.id).await { "paused" } else { "running" };
                return Err(ContainerError::conflict(format!(
                    "cannot remove container \"{text}\": container is {status}: stop the container before removing or \
                     force remove"
                )));
            }
            match self.kill_container(&single.id, "KILL").await {
                Ok(()) => {}
                // It ended by itself.
                Err(error) if error.kind == ContainerErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        let _turn = single.turn.lock().await;
        if single.news.borrow().is_removed {
            return match single.lock().spec.auto_remove {
                true => Ok(()),
                false => Err(ContainerError::not_found(text)),
            };
        }
        if single.is_running() {
            return Err(ContainerError::conflict(format!(
                "cannot remove container \"{text}\": it was started again meanwhile; try again"
            )));
        }
        self.remove_now(&single, volumes).await
    }

    /// Under its turn; it does not run.
    pub(super) async fn remove_now(&self, single: &Single, with_volumes: bool) -> Result<(), ContainerError> {
        let containers = &self.inner.containers;
        let record = single.record();
        self.inner.runtime.delete(&single.id).await.map_err(|e| of_runtime(&e))?;
        self.part(&single.id).await?;
        self.inner.images.snapshot_remove(&single.id).await.map_err(|e| ContainerError::failed(with_causes(&e)))?;
        let (store, volumes, id) = (containers.store.clone(), self.inner.volumes.clone(), single.id.clone());
        let work = move || {
            let given_back = if with_volumes { volumes.remove_anonymous(&id) } else { volumes.release(&id) };
            given_back.map_err(|e| ContainerError::failed(with_causes(&e)))?;
            store.remove(&id).map_err(|e| ContainerError::failed(format!("remove the container's record: {e}")))
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| stopping())??;
        self.inner.attachments.forget(&single.id);
        containers.release_name(&record.name, &single.id);
        containers.all.write().unwrap_or_else(PoisonError::into_inner).remove(&single.id);
        single.news.send_modify(|news| (news.is_removed, news.is_running) = (true, false));
        self.announce("destroy", &record);
        Ok(())
    }
}
