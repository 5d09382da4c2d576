//! The memory that containers share with `--ipc container:NAME`: of one that lets others join, `/dev/shm` is a tmpfs of
//! the host's, since what is mounted inside a container cannot be mounted into another.
//!
//! It is there while the container runs; its guests keep it for as long as they have it mounted.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{ContainerError, Engine, Meant, Record, spec::NamespaceRequest, stopping};

/// Docker's default.
const DEFAULT_BYTES: u64 = 64 << 20;

impl Engine {
    fn shared_memory(&self, id: &str) -> PathBuf {
        self.config().run_dir.join("shm").join(id)
    }

    /// What is this container's `/dev/shm`, made if others may join it; `None`: it has one of its own.
    pub(super) async fn prepare_shared_memory(&self, record: &Record) -> Result<Option<PathBuf>, ContainerError> {
        match &record.spec.ipc {
            NamespaceRequest::Container(other) => match self.meant(other).await? {
                Meant::Single(single) => Ok(Some(self.shared_memory(&single.id))),
                Meant::Task(_) => Ok(None),
            },
            NamespaceRequest::Shareable => {
                let place = self.shared_memory(&record.id);
                let bytes = if record.spec.shm_size_bytes == 0 { DEFAULT_BYTES } else { record.spec.shm_size_bytes };
                let made = place.clone();
                let work = move || remove(&made).and_then(|()| make(&made, bytes));
                let made = tokio::task::spawn_blocking(work).await.map_err(|_| stopping())?;
                made.map_err(|e| ContainerError::failed(format!("make its shared memory {}: {e}", place.display())))?;
                Ok(Some(place))
            }
            NamespaceRequest::Private | NamespaceRequest::Host | NamespaceRequest::None => Ok(None),
        }
    }

    /// Takes it away; none is fine.
    pub(super) async fn drop_shared_memory(&self, id: &str) {
        let place = self.shared_memory(id);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || remove(&place)).await {
            tracing::warn!(container.id = id, %error, "its shared memory could not be removed");
        }
    }
}

fn make(place: &Path, bytes: u64) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let options = format!("mode=1777,size={bytes}");
    Ok(mount(Some("shm"), place, Some("tmpfs"), flags, Some(options.as_str()))?)
}

fn remove(place: &Path) -> io::Result<()> {
    if !place.exists() {
        return Ok(());
    }
    match umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::errno::Errno::EINVAL) => fs::remove_dir(place),
        Err(errno) => Err(errno.into()),
    }
}
