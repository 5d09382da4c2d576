//! The files of single containers: copied in and out, exported, compared with the image, made into an image.
//!
//! Called by the API. A container that runs is looked at through its first process, so that its volumes and other
//! mounts are there as it sees them; one that does not, through its root filesystem with its volumes mounted in it.

use image::{Change, CommitOptions, Digest, ExtractOptions, PathStat, Root, TreeError, TreeMount};
use runtime::ContainerFacts;
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{io::AsyncRead, sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::SyncIoBridge;

use types::with_causes;

use super::{
    Engine,
    container::record_of_labels,
    containers::{ContainerRef, MountPoint, PointKind},
    events::{Event, EventKind},
    refusal::{Refusal, RefusalKind},
    volumes::{self, VolumeError},
};

/// One piece of a tar on its way to the client.
const CHUNK: usize = 128 * 1024;

/// Pieces that wait for a slow client; the walk waits when they are so many.
const QUEUE: usize = 4;

/// A tar, piece by piece. An error ends it early.
pub type TarStream = ReceiverStream<io::Result<Vec<u8>>>;

impl Engine {
    /// What is at a path of a container.
    ///
    /// # Errors
    /// If there is nothing.
    pub async fn path_stat(&self, container: &ContainerRef, path: &str) -> Result<PathStat, Refusal> {
        let root = self.root_of(container).await?;
        let (id, path) = (container.id.clone(), path.to_owned());
        let looked = spawn_blocking(move || root.stat(&path).map_err(|error| refused(&error, &path, &id)));
        looked.await.map_err(|_| stopping())?
    }

    /// What is at a path, and all of it as a tar.
    ///
    /// # Errors
    /// If there is nothing.
    pub async fn pack(&self, container: &ContainerRef, path: &str) -> Result<(PathStat, TarStream), Refusal> {
        let stat = self.path_stat(container, path).await?;
        let root = self.root_of(container).await?;
        self.tell(&container.id, "archive-path", &[("path", path)]);
        let path = path.to_owned();
        Ok((stat, streamed(move |to| root.pack(&path, to))))
    }

    /// The whole root filesystem as a tar, without what is mounted in it.
    ///
    /// # Errors
    /// If the container has none (any more).
    pub async fn export(&self, container: &ContainerRef) -> Result<TarStream, Refusal> {
        let root = open(&self.rootfs(container).await?)?;
        self.tell(&container.id, "export", &[]);
        Ok(streamed(move |to| root.pack_all(to)))
    }

    /// All data of a volume that no container has, for another host.
    ///
    /// # Errors
    /// There is no such volume, or a container has it.
    pub fn pack_volume(&self, name: &str) -> Result<TarStream, VolumeError> {
        let root = self.inner.volumes.unused(name)?;
        Ok(streamed(move |to| root.pack_exact(to)))
    }

    /// Takes in a volume's data from another host; the volume is as it was until it is kept.
    ///
    /// # Errors
    /// As [`super::volumes::Volumes::receive`].
    pub async fn receive_volume(
        &self,
        name: &str,
        tar: impl AsyncRead + Unpin + Send + 'static,
    ) -> Result<Digest, VolumeError> {
        let (volumes, volume) = (self.inner.volumes.clone(), name.to_owned());
        let taken = spawn_blocking(move || volumes.receive(&volume, SyncIoBridge::new(tar))).await;
        taken.map_err(|_| volumes::tree_error(name, TreeError::ReadArchive(io::ErrorKind::Interrupted.into())))?
    }

    /// Unpacks a tar into a directory of a container. `as_user`: everything belongs to the container's user, if it has one; else
    /// to whom the tar says.
    ///
    /// # Errors
    /// If there is no such directory, it may not be written to, or the tar is none.
    pub async fn extract(
        &self,
        container: &ContainerRef,
        path: &str,
        tar: impl AsyncRead + Unpin + Send + 'static,
        no_overwrite_dir_non_dir: bool,
        as_user: bool,
    ) -> Result<(), Refusal> {
        let facts = self.facts_of(container, as_user)?;
        let has_owner = as_user && self.has_user(&container.id).await;
        let owner = has_owner.then_some((facts.uid, facts.gid));
        let options = ExtractOptions { no_overwrite_dir_non_dir, owner, ..ExtractOptions::default() };
        if facts.readonly_rootfs && !container.is_running {
            return Err(Refusal::new(RefusalKind::Invalid, TreeError::ReadOnly.to_string()));
        }
        let root = self.root_of(container).await?;
        let (id, asked) = (container.id.clone(), path.to_owned());
        let path = asked.clone();
        let work = move || {
            let extracted = root.extract(&path, SyncIoBridge::new(tar), options);
            extracted.map_err(|error| match error {
                TreeError::ReadOnly if !facts.readonly_rootfs => {
                    Refusal::new(RefusalKind::Invalid, "mounted volume is marked read-only")
                }
                error => refused(&error, &path, &id),
            })
        };
        spawn_blocking(work).await.map_err(|_| stopping())??;
        self.tell(&container.id, "extract-to-dir", &[("path", &asked)]);
        Ok(())
    }

    /// What a container has changed of its image.
    ///
    /// # Errors
    /// If it has no root filesystem (any more).
    pub async fn changes(&self, container: &ContainerRef) -> Result<Vec<Change>, Refusal> {
        self.inner.images.snapshot_changes(&container.id).await.map_err(|error| Refusal::of_image(&error))
    }

    /// Makes an image of a container, which stands still meanwhile if `pause`.
    ///
    /// # Errors
    /// If a change is none, or the image cannot be made.
    pub async fn commit(
        &self,
        container: &ContainerRef,
        pause: bool,
        options: CommitOptions,
    ) -> Result<Digest, Refusal> {
        let runtime = &self.inner.runtime;
        let mut is_ours = pause && container.is_running && !container.is_paused;
        if is_ours {
            is_ours = match runtime.pause(&container.id).await {
                Ok(()) => true,
                Err(error) => match runtime.state(&container.id).await {
                    // It has ended since it was asked about, and stands still for good.
                    Ok(state) if matches!(state.status, runtime::Status::Stopped(_)) => false,
                    _ => return Err(Refusal::of_runtime(&error)),
                },
            };
        }
        if is_ours {
            self.tell(&container.id, "pause", &[]);
        }
        // A task of its own, so that a client who leaves does not leave the container paused.
        let (engine, id) = (self.clone(), container.id.clone());
        let work = tokio::spawn(async move {
            let (comment, name) = (options.message.clone(), options.reference.clone());
            let committed = engine.inner.images.commit(&id, options).await;
            if let Ok(made) = &committed {
                let name = name.map(|name| name.with_default_tag().familiar()).unwrap_or_default();
                engine.tell_committed(&id, made, &comment, &name);
            }
            if is_ours {
                match engine.inner.runtime.unpause(&id).await {
                    Ok(()) => engine.tell(&id, "unpause", &[]),
                    Err(error) => tracing::warn!(container.id = id, %error, "a container stays paused after a commit"),
                }
            }
            committed
        });
        work.await.map_err(|_| stopping())?.map_err(|error| Refusal::of_image(&error))
    }

    /// In dockerd's order: that there is an image, its name if it got one, and what it was made of.
    fn tell_committed(&self, container: &str, image: &Digest, comment: &str, name: &str) {
        let id = image.as_str();
        let labels = self.inner.images.inspect(id).map(|image| image.config.config.labels).unwrap_or_default();
        let of_image =
            |action: &str, name: &str| Event::new(EventKind::Image, action, id).with("name", name).with_labels(&labels);
        let named = (!name.is_empty()).then(|| of_image("tag", name));
        self.tell_all([of_image("create", id)].into_iter().chain(named));
        self.tell(container, "commit", &[("comment", comment), ("imageID", id), ("imageRef", name)]);
    }

    /// Those of one that was never started are what was asked for; names of users are looked up by its start.
    fn facts_of(&self, container: &ContainerRef, as_user: bool) -> Result<ContainerFacts, Refusal> {
        match (self.inner.runtime.facts(&container.id), self.asked_facts(&container.id)) {
            (Err(runtime::Error::NotFound { .. }), Some((user, readonly_rootfs))) => {
                let numbers = if user.is_empty() { Some((0, 0)) } else { numbers(&user) };
                let (uid, gid) = match numbers {
                    Some(numbers) => numbers,
                    None if !as_user => (0, 0),
                    None => {
                        let text = format!(
                            "container {}: the user {user} is looked up when the container starts; start it, or copy \
                             without -a",
                            container.name
                        );
                        return Err(Refusal::new(RefusalKind::Conflict, text));
                    }
                };
                Ok(ContainerFacts { uid, gid, readonly_rootfs })
            }
            (facts, _) => facts.map_err(|error| Refusal::of_runtime(&error)),
        }
    }

    /// Whether its image or who made it says whose its processes are.
    async fn has_user(&self, id: &str) -> bool {
        let is_said = |user: &str| !user.is_empty();
        match self.asked_facts(id) {
            Some((user, _)) => is_said(&user),
            None => {
                let state = self.inner.runtime.state(id).await;
                state.is_ok_and(|state| is_said(&record_of_labels(id, &state.labels).merged.user))
            }
        }
    }

    async fn root_of(&self, container: &ContainerRef) -> Result<Root, Refusal> {
        if container.is_running {
            let state = self.inner.runtime.state(&container.id).await.map_err(|error| Refusal::of_runtime(&error))?;
            if let Some(pid) = state.pid {
                let root = open(Path::new(&format!("/proc/{pid}/root")));
                // The pid may have become another's while it was opened.
                let after = self.inner.runtime.state(&container.id).await;
                if after.is_ok_and(|after| after.pid == Some(pid)) {
                    return root;
                }
            }
        }
        let rootfs = self.rootfs(container).await?;
        let mounts = self.mounts_of(&container.id);
        if mounts.is_empty() {
            return open(&rootfs);
        }
        let opened = spawn_blocking(move || Root::with_mounts(&rootfs, &mounts)).await.map_err(|_| stopping())?;
        opened.map_err(|error| {
            let text = format!("mount the volumes of container {}: {}", container.name, with_causes(&error));
            Refusal::new(RefusalKind::Failed, text)
        })
    }

    /// What of the host a single container that does not run has at places of its own.
    fn mounts_of(&self, container: &str) -> Vec<TreeMount> {
        let mount = |MountPoint { kind, target, read_only, .. }| {
            let (source, subpath) = match kind {
                PointKind::Bind { source, .. } => (source.into(), String::new()),
                PointKind::Volume { source, subpath, .. } | PointKind::Image { source, subpath, .. } => {
                    (source, subpath)
                }
                PointKind::Tmpfs { .. } => return None,
            };
            Some(TreeMount { source, subpath, target, read_only })
        };
        self.points_of(container).into_iter().filter_map(mount).collect()
    }

    async fn rootfs(&self, container: &ContainerRef) -> Result<PathBuf, Refusal> {
        self.inner.images.snapshot_root(&container.id).await.map_err(|error| Refusal::of_image(&error))
    }
}

/// `1000`, `1000:1000`.
fn numbers(user: &str) -> Option<(u32, u32)> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

fn open(path: &Path) -> Result<Root, Refusal> {
    let failed =
        |error| Refusal::new(RefusalKind::Failed, format!("open the root filesystem {}: {error}", path.display()));
    Root::open(path).map_err(failed)
}

fn refused(error: &TreeError, path: &str, container: &str) -> Refusal {
    match error {
        TreeError::NotFound(_) => {
            let text = format!("Could not find the file {path} in container {container}");
            Refusal::new(RefusalKind::NotFound, text)
        }
        // what is in the way is the client's fault; Docker takes it for its own
        TreeError::File { .. }
        | TreeError::WriteArchive(_)
        | TreeError::DirectoryInTheWay(_)
        | TreeError::FileInTheWay(_) => Refusal::new(RefusalKind::Failed, with_causes(error)),
        _ => Refusal::new(RefusalKind::Invalid, with_causes(error)),
    }
}

fn stopping() -> Refusal {
    Refusal::new(RefusalKind::Failed, "the daemon is stopping")
}

/// Runs `write` on a blocking thread; what it writes comes out here.
fn streamed(write: impl FnOnce(&mut Pieces) -> Result<(), TreeError> + Send + 'static) -> TarStream {
    let (sender, receiver) = mpsc::channel(QUEUE);
    // Ends with the walk, or with the receiver: then the next piece cannot be sent.
    spawn_blocking(move || {
        let mut pieces = Pieces { sender, piece: Vec::with_capacity(CHUNK) };
        if let Err(error) = write(&mut pieces) {
            tracing::info!(error = with_causes(&error), "a tar of a container ends early");
            pieces.sender.blocking_send(Err(io::Error::other(with_causes(&error)))).ok();
        }
    });
    ReceiverStream::new(receiver)
}

/// Gathers what is written into pieces.
struct Pieces {
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-28: `noOverwriteDirNonDir` refuses with Docker's status.
    #[test]
    fn e_28_refusals_have_dockers_status() {
        let kind = |error: TreeError| refused(&error, "/a", "c1").kind;
        for in_the_way in [TreeError::DirectoryInTheWay("/a".into()), TreeError::FileInTheWay("/a".into())] {
            assert_eq!(kind(in_the_way), RefusalKind::Failed);
        }
        assert_eq!(kind(TreeError::NotFound("/a".into())), RefusalKind::NotFound);
        assert_eq!(kind(TreeError::ReadOnly), RefusalKind::Invalid);
    }
}
