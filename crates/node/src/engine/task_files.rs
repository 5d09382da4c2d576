//! The secrets and configs of tasks on this host: made with a container, changed while it runs (P12), found again.
//!
//! Called by the steps of a task and by the agent when it starts. Every part may be done again: which versions the files
//! have is noted when all is done, so whoever finds others noted than the task's spec names begins anew.

use std::{io, path::PathBuf};

use types::{Assignment, DependencyId, NodeId, Refresh, TaskId};

use super::{
    Engine,
    container_id::container_id,
    dependencies::{self, Dependencies, TaskFile},
    tasks::{TaskError, context, of_runtime, refused, stopping},
};

impl Engine {
    /// Where they are, and where they belong in the container.
    pub(super) async fn make_dependencies(
        &self,
        a: &Assignment,
        files: Vec<TaskFile>,
    ) -> Result<Vec<(PathBuf, String)>, TaskError> {
        let (directory, versions) = (self.dependencies_of(a.id), a.versions().collect::<Vec<_>>());
        written(move || dependencies::write(&directory, &files, &versions)).await
    }

    /// Changes the files in a container that runs, then tells its first process as the service's label says. Gives the
    /// versions that they have now.
    pub(crate) async fn refresh_task(
        &self,
        a: &Assignment,
        sent: &Dependencies,
        node: NodeId,
    ) -> Result<Vec<DependencyId>, TaskError> {
        let host = self.info();
        let files = dependencies::files(&context(&host, a, node), sent).map_err(refused)?;
        let directory = self.dependencies_of(a.id);
        written(move || dependencies::rewrite(&directory, &files)).await?;
        // what the label says was judged when the service was admitted; without one nobody is told
        if let Ok(Some(Refresh::Signal(signal))) = Refresh::of(&a.service_labels) {
            self.inner.runtime.signal(&container_id(a.id), signal).await.map_err(of_runtime)?;
        }
        let (directory, versions) = (self.dependencies_of(a.id), a.versions().collect::<Vec<_>>());
        let noted = versions.clone();
        written(move || dependencies::note_versions(&directory, &noted)).await?;
        Ok(versions)
    }

    /// The versions that the files of a task have; none if it has no files, or they were not finished. Reads memory alone.
    pub(crate) fn known_versions(&self, task: TaskId) -> Vec<DependencyId> {
        dependencies::noted_versions(&self.dependencies_of(task))
    }

    pub(super) fn dependencies_of(&self, task: TaskId) -> PathBuf {
        self.config().run_dir.join("dependencies").join(task.to_string())
    }
}

async fn written<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, TaskError> {
    let failed = |e: io::Error| TaskError::Transient(format!("write the task's secrets and configs: {e}"));
    tokio::task::spawn_blocking(work).await.map_err(|_| stopping())?.map_err(failed)
}
