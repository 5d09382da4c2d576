//! Removing containers: record, root filesystem, log and, if wanted, the volumes that were made for it (parity E-26).

use std::sync::PoisonError;
use types::with_causes;

use super::{ContainerError, ContainerErrorKind, Engine, Meant, Single, of_runtime, stopping};

impl Engine {
    /// Takes a container away.
    ///
    /// # Errors
    /// When it runs and `force` is not given, or something of it cannot be removed; another try goes on then.
    pub async fn remove_container(&self, text: &str, force: bool, volumes: bool) -> Result<(), ContainerError> {
        let single = match self.meant(text).await? {
            Meant::Single(single) => single,
            Meant::Task(state) => return self.remove_task_container(text, &state, force).await,
        };
        let _going = {
            // a start under way comes to its end first, and none comes after it
            let _turn = single.turn.lock().await;
            if single.news.borrow().is_removed {
                return gone(&single, text);
            }
            if single.is_running() && !force {
                let status = if self.is_paused(&single.id).await { "paused" } else { "running" };
                return Err(still_up(text, status));
            }
            Going::begin(&single, text)?
        };
        if single.is_running() {
            match self.kill_container(&single.id, "KILL").await {
                Ok(()) => {}
                // It ended by itself; with `--rm` it may be gone by now.
                Err(error) if matches!(error.kind, ContainerErrorKind::Conflict | ContainerErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let _turn = single.turn.lock().await;
        if single.news.borrow().is_removed {
            return gone(&single, text);
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

pub(super) fn still_up(text: &str, status: &str) -> ContainerError {
    ContainerError::conflict(format!(
        "cannot remove container \"{text}\": container is {status}: stop the container before removing or force remove"
    ))
}

/// Of one that somebody else has removed meanwhile: with `--rm` that is what was wanted.
fn gone(single: &Single, text: &str) -> Result<(), ContainerError> {
    match single.lock().spec.auto_remove {
        true => Ok(()),
        false => Err(ContainerError::not_found(text)),
    }
}

/// A removal that was asked for and is under way: until it is over, whichever way, nobody starts the container.
struct Going<'a>(&'a Single);

impl<'a> Going<'a> {
    /// Under the container's turn.
    fn begin(single: &'a Single, text: &str) -> Result<Self, ContainerError> {
        let is_first = single.news.send_if_modified(|news| !std::mem::replace(&mut news.is_going, true));
        match is_first {
            true => Ok(Self(single)),
            // Docker's words, which clients look for
            false => Err(ContainerError::conflict(format!("removal of container {text} is already in progress"))),
        }
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.0.news.send_modify(|news| news.is_going = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::record_of_labels;

    /// E-26: a second removal is refused in Docker's words; one that was broken off leaves the container to the next.
    #[test]
    fn e_26_one_removal_at_a_time() {
        let single = Single::new(record_of_labels("c1", &types::Labels::new()));
        let first = Going::begin(&single, "web").expect("the first");
        let second = Going::begin(&single, "web").err().expect("it is going already");
        assert_eq!(second.message, "removal of container web is already in progress");
        assert!(single.news.borrow().is_going, "the refused one changes nothing");
        drop(first);
        assert!(Going::begin(&single, "web").is_ok());
    }
}
