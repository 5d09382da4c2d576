//! What the containers of this host take on the disk, for `system df`.

use runtime::Status;

use super::{Engine, EngineError};

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUsage {
    pub id: String,
    pub name: String,
    /// Id and name of its image; empty once its root filesystem is gone.
    pub image_id: String,
    pub image: String,
    pub created_at_ns: u64,
    /// Docker's word: `created`, `running`, `paused`, `exited`.
    pub state: &'static str,
    /// Bytes of what it wrote.
    pub bytes: u64,
    /// Names of its volumes.
    pub volumes: Vec<String>,
    pub labels: types::Labels,
}

impl Engine {
    /// All containers, with what each wrote.
    ///
    /// # Errors
    /// When the runtime's directory or a root filesystem cannot be read.
    pub async fn container_usage(&self) -> Result<Vec<ContainerUsage>, EngineError> {
        let images = self.images();
        let snapshots = images.snapshot_list().await?;
        let volumes = self.volumes().list();
        let mut all = Vec::new();
        for container in self.containers().await? {
            // a task's container that has ended gave its root filesystem back
            let snapshot = snapshots.iter().find(|snapshot| snapshot.container == container.id);
            let bytes = match images.snapshot_usage(&container.id).await {
                Err(image::Error::NoSuchSnapshot(_)) => 0,
                other => other?,
            };
            let image_id = snapshot.map(|snapshot| snapshot.image.to_string()).unwrap_or_default();
            let known = images.inspect(&image_id).ok();
            let image = known.and_then(|image| image.summary.repo_tags.first().cloned());
            let users = volumes.iter().filter(|volume| volume.users.contains(&container.id));
            all.push(ContainerUsage {
                name: container.labels.get("com.docker.swarm.task.name").unwrap_or(&container.id).clone(),
                image: image.unwrap_or_else(|| image_id.clone()),
                image_id,
                created_at_ns: container.created_at_ns,
                state: state_of(&container.status),
                bytes,
                volumes: users.map(|volume| volume.name.clone()).collect(),
                labels: container.labels,
                id: container.id,
            });
        }
        Ok(all)
    }
}

fn state_of(status: &Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Stopped(_) => "exited",
    }
}
