//! Making a container: its name, its record, its root filesystem and its volumes. It does not run yet.

use std::path::{Path, PathBuf};

use types::{Labels, Mount, MountKind, plain_path, with_causes};

use super::{
    ContainerError, ContainerErrorKind, Engine, Meant, Record, check, host_limits,
    merge::merge,
    names,
    spec::{AskedMount, MountForm, NamespaceRequest, NetworkRequest, SingleSpec},
    stopping,
    store::{MountPoint, PointKind, State},
};
use crate::{
    clock::{now, random},
    engine::{
        container_id::task_of_container,
        health, log_driver,
        volumes::{Volumes, Wanted},
    },
};

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedContainer {
    pub id: String,
    pub warnings: Vec<String>,
}

impl Engine {
    /// Makes a container, of an image for `platform` where one is named; nothing is left of one that cannot be made.
    ///
    /// # Errors
    /// When the name is taken, the image is not here, or something that is asked for cannot be.
    pub async fn create_container(
        &self,
        name: Option<&str>,
        spec: SingleSpec,
        platform: Option<&image::Platform>,
    ) -> Result<CreatedContainer, ContainerError> {
        let id = new_id();
        let name = self.reserve(name, &id)?;
        let made = self.make(&id, &name, spec, platform).await;
        match made {
            Ok((record, warnings)) => {
                let single = self.inner.containers.insert(record);
                self.announce("create", &single.record());
                Ok(CreatedContainer { id, warnings })
            }
            Err(error) => {
                self.inner.containers.release_name(&name, &id);
                Err(error)
            }
        }
    }

    fn reserve(&self, wanted: Option<&str>, id: &str) -> Result<String, ContainerError> {
        let mut names = self.inner.containers.names();
        let name = match wanted.filter(|name| !name.is_empty()) {
            None => names::made_up(random(), |name| names.contains_key(name)),
            Some(name) => {
                let name = names::checked(name)?;
                if let Some(owner) = names.get(name) {
                    return Err(taken(name, owner));
                }
                name.to_owned()
            }
        };
        names.insert(name.clone(), id.to_owned());
        Ok(name)
    }

    async fn make(
        &self,
        id: &str,
        name: &str,
        mut spec: SingleSpec,
        platform: Option<&image::Platform>,
    ) -> Result<(Record, Vec<String>), ContainerError> {
        self.info().settings.defaults.fill_made(&mut spec);
        self.take_after_shared(&mut spec).await;
        let detail = self.image_of(&spec.image)?;
        if let Some(platform) = platform {
            detail.fits(&spec.image, platform).map_err(|e| of_image(&e))?;
        }
        let mut warnings = warnings(&spec, &detail, platform);
        warnings.extend(host_limits::discard(&mut spec.limits, || self.inner.runtime.limits_here()));
        let image = &detail.config.config;
        let merged = merge(&spec, image, id, &self.info().hostname)?;
        let invalid = |e: crate::engine::container::SpecError| ContainerError::invalid(with_causes(&e));
        let health = health::settings(spec.health.as_ref(), image).map_err(invalid)?;
        let refused = |e: log_driver::LogDriverError| ContainerError::invalid(e.to_string());
        log_driver::check(spec.log.as_ref()).map_err(refused)?;
        self.check(&spec).await?;
        self.check_asked_places(&spec)?;
        warnings.extend(self.discards_ports(&spec));
        self.name_links_by_id(&mut spec).await;
        let image_id = detail.summary.id.to_string();
        let mounted = self.inner.images.snapshot_mount(id, &image_id).await;
        let rootfs = mounted.map_err(|e| ContainerError::failed(with_causes(&e)))?.rootfs;
        if let Err(error) = runtime::make_mount_points(&rootfs) {
            self.drop_parts(id).await;
            return Err(ContainerError::failed(format!("make mount points in {}: {error}", rootfs.display())));
        }
        let points = match self.points(id, &spec, &merged.volumes, rootfs).await {
            Ok(points) => points,
            Err(error) => {
                self.drop_parts(id).await;
                return Err(error);
            }
        };
        let (id, name, state) = (id.to_owned(), name.to_owned(), State::default());
        let created_at = now();
        let record = Record { id, name, created_at, image: image_id, spec, merged, points, health, state };
        if let Err(error) = self.inner.containers.store.save(&record) {
            self.drop_parts(&record.id).await;
            return Err(ContainerError::failed(format!("write the container's record: {error}")));
        }
        Ok((record, warnings))
    }

    /// Who shares another's namespace is noted with that one's id; whose network, has its host name.
    async fn take_after_shared(&self, spec: &mut SingleSpec) {
        for namespace in [&mut spec.pid, &mut spec.ipc] {
            if let NamespaceRequest::Container(other) = namespace
                && let Ok(Meant::Single(single)) = self.meant(other).await
            {
                other.clone_from(&single.id);
            }
        }
        let NetworkRequest::Container(other) = &mut spec.network else { return };
        match self.meant(other).await {
            Ok(Meant::Single(single)) => {
                let shared = single.record();
                other.clone_from(&shared.id);
                spec.hostname.clone_from(&shared.merged.hostname);
                spec.domainname.clone_from(&shared.spec.domainname);
            }
            Ok(Meant::Task(state)) => other.clone_from(&state.id),
            // it is asked for again at the start, and missed then
            Err(_) => {}
        }
    }

    /// The image by name or id; what is not here is the client's to pull, which it does on this very text.
    fn image_of(&self, name: &str) -> Result<image::ImageDetail, ContainerError> {
        let images = &self.inner.images;
        let shown = match name.parse::<types::ImageReference>() {
            Ok(reference) => {
                let full = reference.with_default_tag();
                match images.inspect(&full.to_string()) {
                    Ok(detail) => return Ok(detail),
                    Err(_) => full.familiar(),
                }
            }
            Err(_) => name.to_owned(),
        };
        images.inspect(name).map_err(|error| match error {
            image::Error::NoSuchImage(_) => {
                ContainerError::new(ContainerErrorKind::NotFound, format!("No such image: {shown}"))
            }
            other => of_image(&other),
        })
    }

    /// What can be said before anything is made.
    async fn check(&self, spec: &SingleSpec) -> Result<(), ContainerError> {
        if matches!(spec.network, NetworkRequest::Host | NetworkRequest::None) && spec.publish_all {
            tracing::debug!("ports are not published without a network of the container's own");
        }
        check::spec(spec)?;
        host_limits::check(&spec.limits)?;
        let of_bridge = spec.is_on_bridge();
        let linked = spec.links.iter().filter(|_| of_bridge).map(|(other, _)| other);
        let joined = [&spec.pid, &spec.ipc].into_iter().filter_map(|request| match request {
            NamespaceRequest::Container(other) => Some(other),
            _ => None,
        });
        for other in linked.chain(joined) {
            self.meant(other).await.map_err(not_there)?;
        }
        for AskedMount { mount, .. } in &spec.mounts {
            if let MountKind::Image { source, .. } = &mount.kind {
                self.image_of(source)?;
            }
            let MountKind::Bind { source, create, .. } = &mount.kind else { continue };
            if tokio::fs::metadata(source).await.is_ok() {
                continue;
            }
            if !create {
                return Err(ContainerError::invalid(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {source}"
                )));
            }
            let made = tokio::fs::create_dir_all(source).await;
            made.map_err(|e| ContainerError::failed(format!("make the bind source {source}: {e}")))?;
        }
        Ok(())
    }

    /// Everything that is mounted: of other containers, as asked, and the image's volumes.
    async fn points(
        &self,
        id: &str,
        spec: &SingleSpec,
        of_image: &[String],
        rootfs: PathBuf,
    ) -> Result<Vec<MountPoint>, ContainerError> {
        let mut points: Vec<MountPoint> = Vec::new();
        for text in &spec.volumes_from {
            let (other, is_read_only) = match text.rsplit_once(':') {
                Some((other, "ro")) => (other, true),
                Some((other, "rw" | "z" | "Z")) => (other, false),
                Some((_, mode)) => {
                    return Err(ContainerError::invalid(format!("invalid mode {mode:?} of volumes-from {text:?}")));
                }
                None => (text.as_str(), false),
            };
            let Meant::Single(other) = self.meant(other).await.map_err(not_there)? else {
                return Err(ContainerError::invalid(format!(
                    "volumes-from {other}: it is a task's container; name its volumes with -v"
                )));
            };
            for mut point in other.record().points {
                // a container's own `--tmpfs` is not handed on
                if matches!(point.kind, PointKind::Tmpfs { is_listed: false, .. }) {
                    continue;
                }
                point.read_only |= is_read_only;
                point.mode.clear();
                if let PointKind::Volume { is_anonymous, .. } = &mut point.kind {
                    *is_anonymous = false;
                }
                place(&mut points, point);
            }
        }
        let (owner, volumes, mounts) = (id.to_owned(), self.inner.volumes.clone(), spec.mounts.clone());
        let own: Vec<AskedMount> = of_image
            .iter()
            .filter(|target| !points.iter().any(|p| same(&p.target, target)))
            .filter(|target| !mounts.iter().any(|m| same(&m.mount.target, target)))
            .map(|target| Mount { target: target.clone(), read_only: false, kind: anonymous() })
            .map(|mount| AskedMount { mount, form: MountForm::Volume })
            .collect();
        check::volume_driver(&spec.volume_driver, mounts.iter().chain(&own))?;
        let work = move || {
            hold(&volumes, &owner, &points)?;
            for mount in mounts.into_iter().chain(own) {
                place(&mut points, point(&volumes, &owner, mount, &rootfs)?);
            }
            Ok::<_, ContainerError>(points)
        };
        let mut points = tokio::task::spawn_blocking(work).await.map_err(|_| stopping())??;
        self.hold_images(id, &mut points).await?;
        Ok(points)
    }

    /// The images among these are the container's, mounted where need be.
    pub(super) async fn hold_images(&self, owner: &str, points: &mut [MountPoint]) -> Result<(), ContainerError> {
        for point in points {
            let PointKind::Image { image, source, .. } = &mut point.kind else { continue };
            let mounted = self.inner.images.snapshot_image(owner, image).await;
            let mounted = mounted.map_err(|e| ContainerError::failed(with_causes(&e)))?;
            (*image, *source) = (mounted.image.to_string(), mounted.rootfs);
        }
        Ok(())
    }

    /// What was made for a container that will not be.
    pub(super) async fn drop_parts(&self, id: &str) {
        let (volumes, owner) = (self.inner.volumes.clone(), id.to_owned());
        let removed = tokio::task::spawn_blocking(move || volumes.remove_anonymous(&owner)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(container.id = id, error = with_causes(&error), "a volume could not be removed");
        }
        if let Err(error) = self.inner.images.snapshot_remove(id).await {
            tracing::warn!(container.id = id, error = with_causes(&error), "a root filesystem could not be removed");
        }
    }
}

/// What is said of a container that is made all the same, in Docker's words (moby `daemon/create.go`).
fn warnings(spec: &SingleSpec, image: &image::ImageDetail, platform: Option<&image::Platform>) -> Vec<String> {
    let (own, host) = (image.config.platform(), image::Platform::machine());
    let other = (platform.is_none() && !image.config.fits(&host)).then(|| {
        format!(
            "The requested image's platform ({own}) does not match the detected host platform ({host}) and no specific \
             platform was requested"
        )
    });
    let images = spec.mounts.iter().filter(|asked| matches!(asked.mount.kind, MountKind::Image { .. }));
    other.into_iter().chain(images.map(|_| "Image mount is an experimental feature".to_owned())).collect()
}

fn of_image(error: &image::Error) -> ContainerError {
    let text = with_causes(error);
    match error {
        image::Error::NoSuchImage(_) | image::Error::OtherPlatform { .. } => {
            ContainerError::new(ContainerErrorKind::NotFound, text)
        }
        _ => ContainerError::invalid(text),
    }
}

/// Of what a request names beside its image. Clients take "not found" for the image, and pull that.
fn not_there(error: ContainerError) -> ContainerError {
    ContainerError::invalid(error.message)
}

pub(super) fn taken(name: &str, owner: &str) -> ContainerError {
    ContainerError::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    ))
}

fn anonymous() -> MountKind {
    MountKind::Volume {
        name: String::new(),
        no_copy: false,
        labels: Labels::new(),
        driver_options: Labels::new(),
        subpath: String::new(),
    }
}

fn same(one: &str, other: &str) -> bool {
    plain_path(one) == plain_path(other)
}

/// The later one of two at the same place is meant.
fn place(points: &mut Vec<MountPoint>, point: MountPoint) {
    points.retain(|known| !same(&known.target, &point.target));
    points.push(point);
}

/// The volumes among these are the container's, mounted where need be. Blocking.
pub(super) fn hold(volumes: &Volumes, owner: &str, points: &[MountPoint]) -> Result<(), ContainerError> {
    let labels = Labels::new();
    for MountPoint { kind, target, .. } in points {
        let PointKind::Volume { name, is_anonymous, .. } = kind else { continue };
        let wanted = Wanted { owner, target, labels: &labels, options: &labels, copy_from: None };
        volumes.take(name, *is_anonymous, &wanted).map_err(|e| ContainerError::invalid(with_causes(&e)))?;
    }
    Ok(())
}

/// Blocking.
fn point(volumes: &Volumes, owner: &str, asked: AskedMount, rootfs: &Path) -> Result<MountPoint, ContainerError> {
    let (mode, is_listed) = (asked.mode().to_owned(), asked.form == MountForm::Mount);
    let Mount { target, mut read_only, kind } = asked.mount;
    let target = plain_path(&target);
    let kind = match kind {
        MountKind::Bind { source, propagation, non_recursive, read_only_non_recursive, .. } => {
            PointKind::Bind { source: plain_path(&source), propagation, non_recursive, read_only_non_recursive }
        }
        MountKind::Image { source, subpath } => {
            read_only = true;
            PointKind::Image { name: source.clone(), image: source, source: PathBuf::new(), subpath }
        }
        MountKind::Tmpfs { size, mode, options } => PointKind::Tmpfs { size_bytes: size.0, mode, options, is_listed },
        MountKind::Volume { name, no_copy, labels, driver_options, subpath } => {
            let is_anonymous = name.is_empty();
            let name = if is_anonymous { new_id() } else { name };
            let copy_from = (!no_copy && subpath.is_empty()).then_some(rootfs);
            let wanted = Wanted { owner, target: &target, labels: &labels, options: &driver_options, copy_from };
            let made = volumes.take(&name, is_anonymous, &wanted);
            let source = made.map_err(|e| ContainerError::invalid(with_causes(&e)))?;
            PointKind::Volume { name, source, is_anonymous, subpath }
        }
    };
    Ok(MountPoint { kind, target, read_only, mode })
}

/// 64 hexadecimal digits that are no task's.
fn new_id() -> String {
    loop {
        let id: String = (0..4).map(|_| format!("{:016x}", random())).collect();
        if task_of_container(&id).is_none() {
            return id;
        }
    }
}
