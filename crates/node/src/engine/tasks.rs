//! Doing one step to one task's container. Each step may be repeated after a crash at any point.
//!
//! Called by the agent, one step at a time per task. It decides nothing: whether a step is wanted was
//! settled before. Steps that cost CPU wait here for their turn; those that only wait do not.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use image::{Held, RunConfig};
use overlay::{EndpointDns, EndpointId};
use runtime::{ExitStatus, Status};
use types::{Assignment, Attachment, DependencyId, NodeId, PortConfig, PortProtocol, TaskId, Timestamp, with_causes};

use super::{
    Engine, HostInfo,
    container::{self, BRIDGE, Made, NONE, Planned, is_on_host},
    container_id::{container_id, container_name, task_of_container},
    dependencies::{self, Dependencies, TaskFile},
    files::{EtcFiles, HostFiles, read_host_resolv_conf},
    health::{self, HealthSettings},
    host_ports::{Conflict, WantedPort},
    log_driver,
    network::{AttachError, Attached, LocalWanted, Publish, Wanted, first_ipv4, first_ipv6, overlay_port},
    sockets,
    stop_signal::parse_signal,
    template::Context,
};

/// A step that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TaskError {
    /// It cannot be done on this host as it is; the text goes to the user.
    Refused(String),
    /// Trying again may help.
    Transient(String),
}

/// A task that can be run here, for `prepare`.
#[derive(Debug)]
pub(crate) struct Checked {
    planned: Planned,
    /// The image's name in the store.
    image: String,
    /// Keeps its images until its container does.
    held: Vec<Held>,
    files: Vec<TaskFile>,
}

/// What `prepare` made, for `create`.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    planned: Planned,
    image: RunConfig,
    made: Made,
    pub address: Option<IpAddr>,
    /// `None` without a health check.
    pub health: Option<HealthSettings>,
    /// Published on this host, every one with its number.
    pub ports: Vec<PortConfig>,
    /// Of its secrets and configs, as its files have them.
    pub versions: Vec<DependencyId>,
}

/// A task of which something was found at start.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub task: TaskId,
    pub what: FoundWhat,
    /// Empty for the default.
    pub stop_signal: String,
    pub stop_grace_ms: Option<u64>,
    pub health: Option<HealthSettings>,
}

#[derive(Debug, Clone)]
pub(crate) enum FoundWhat {
    /// Only its log.
    Log,
    /// Things made for a container that is not there: a step was broken off, or the host was rebooted.
    Parts,
    Created,
    Running {
        pid: u32,
        started_at: Timestamp,
    },
    Stopped {
        exit: ExitStatus,
        released: bool,
    },
}

impl Engine {
    /// Whether the spec can be run here at all, and its image, pulled if need be. Makes nothing that
    /// belongs to the task, so it may be broken off.
    pub(crate) async fn check_task(
        &self,
        a: &Assignment,
        sent: &Dependencies,
        node: NodeId,
    ) -> Result<Checked, TaskError> {
        let host = self.info();
        let filled = host.settings.defaults.fill_task(a);
        let a = &*filled;
        let context = context(&host, a, node);
        let planned = container::plan(&context).map_err(refused)?;
        let files = dependencies::files(&context, sent).map_err(refused)?;
        check_binds(&planned).await?;
        let (image, held) = self.ensure_images(a).await?;
        Ok(Checked { planned, image, held, files })
    }

    /// Root filesystem, volumes, files and network of a task.
    pub(crate) async fn prepare_task(&self, a: &Assignment, checked: Checked) -> Result<Prepared, TaskError> {
        let filled = self.info().settings.defaults.fill_task(a);
        let a = &*filled;
        let Checked { planned, image, held: _held, files } = checked;
        let id = container_id(a.id);
        let (mounted, attached) = {
            let _turn = self.inner.turns.acquire().await.map_err(|_| stopping())?;
            tokio::join!(self.inner.images.snapshot_mount(&id, &image), self.attach_task(a, &planned.hostname))
        };
        let mounted = mounted.map_err(of_image)?;
        let attached = attached?;
        let address = attached.as_ref().and_then(|attached| attached.address);
        let detail = self.inner.images.inspect(&mounted.image.to_string()).map_err(of_image)?;
        let image = detail.config.config;
        let health = health::settings(a.spec.container.health_check.as_ref(), &image).map_err(refused)?;
        let images = self.mount_images(&id, &planned).await?;
        let address6 = attached.as_ref().and_then(|attached| attached.address6).map(IpAddr::V6);
        let addresses = address.into_iter().chain(address6).collect();
        let mut made = self.make_files(a, &planned, &image, mounted.rootfs, addresses).await?;
        made.volumes.extend(images);
        let (netns, ports) = attached.map(|attached| (attached.namespace, attached.ports)).unzip();
        let dependencies = self.make_dependencies(a, files).await?;
        let made = Made { netns, dependencies, ..made };
        let (ports, versions) = (ports.unwrap_or_default(), a.versions().collect());
        Ok(Prepared { planned, image, made, address, health, ports, versions })
    }

    /// How its container finds names.
    fn dns_of(&self, a: &Assignment) -> types::DnsConfig {
        self.info().settings.defaults.dns(&a.spec.container.dns)
    }

    /// The images that the task has as mounts, by target.
    async fn mount_images(&self, id: &str, planned: &Planned) -> Result<Vec<(String, PathBuf)>, TaskError> {
        let mut mounted = Vec::new();
        for mount in &planned.mounts {
            let types::MountKind::Image { source, .. } = &mount.kind else { continue };
            let image = self.inner.images.snapshot_image(id, source).await.map_err(of_image)?;
            mounted.push((mount.target.clone(), image.rootfs));
        }
        Ok(mounted)
    }

    /// `None` on the host's own network.
    async fn attach_task(&self, a: &Assignment, hostname: &str) -> Result<Option<Attached>, TaskError> {
        if is_on_host(&a.spec) {
            return Ok(None);
        }
        let network = &self.inner.network;
        let (mut overlays, mut locals) = (Vec::new(), Vec::new());
        for place in &a.attachments {
            match network.of_cluster(place.network).is_some_and(|network| network.vni == 0) {
                true => locals.push(local_wanted(a, place)),
                false => overlays.extend(overlay_port(place.network, &place.addresses)),
            }
        }
        let bridge = self.is_on_bridge(a);
        let sockets = match a.host_ports.first() {
            None => Vec::new(),
            Some(port) if !bridge => {
                let text = "no port can be published on the host: all networks of the service are internal; remove \
                            the port or add a network that is not";
                return Err(TaskError::Refused(format!("{}: {text}", port_name(port.protocol, port.target))));
            }
            Some(_) => tokio::task::spawn_blocking(sockets::of_host).await.map_err(|_| stopping())?,
        };
        let wanted = Wanted {
            hostname: hostname.to_owned(),
            bridge,
            publish: Publish { ports: a.host_ports.iter().cloned().map(WantedPort::from).collect(), sockets },
            overlays,
            locals,
            dns: EndpointDns { nameservers: self.dns_of(a).nameservers, ..EndpointDns::default() },
            ..Wanted::default()
        };
        match network.attach(EndpointId::from(a.id), wanted).await {
            Ok(attached) => Ok(Some(attached)),
            Err(AttachError::Failed(e)) => {
                Err(TaskError::Transient(format!("attach the container to the network: {e}")))
            }
            Err(AttachError::Held(conflict)) => {
                let text = tokio::task::spawn_blocking(move || held_by(&conflict)).await.map_err(|_| stopping())?;
                Err(TaskError::Refused(text))
            }
        }
    }

    /// Ports on the host lead over its bridge. An internal network alone has no way out (N-06), and so none in;
    /// `none` has neither (N-11).
    fn is_on_bridge(&self, a: &Assignment) -> bool {
        let network = &self.inner.network;
        let asked = |name: &str| a.spec.networks.iter().any(|network| network.target == name);
        let needed = || match a.host_ports.is_empty() {
            true => network.need_way_out(&a.attachments),
            false => !network.are_internal(&a.attachments),
        };
        asked(BRIDGE) || (!asked(NONE) && needed())
    }

    /// Volumes and the files in /etc: blocking work, done in one go.
    async fn make_files(
        &self,
        a: &Assignment,
        planned: &Planned,
        image: &RunConfig,
        rootfs: PathBuf,
        addresses: Vec<IpAddr>,
    ) -> Result<Made, TaskError> {
        let (a, planned, image) = (a.clone(), planned.clone(), image.clone());
        let volumes = self.inner.volumes.clone();
        let etc = self.config().run_dir.join("etc").join(a.id.to_string());
        let log_dir = self.log_directory(a.id);
        let dns = self.dns_of(&a);
        let work = move || {
            let targets =
                volumes.for_owner(&container_id(a.id), &planned, &image, &rootfs).map_err(|e| refused_chain(&e))?;
            let spec = &a.spec.container;
            let files = match is_on_host(&a.spec) {
                true => EtcFiles::of_host(&dns, &spec.hosts, &planned.hostname, &HostFiles::read()),
                false => {
                    let host = read_host_resolv_conf();
                    let has_names = !a.attachments.is_empty();
                    EtcFiles::new(&dns, &spec.hosts, &planned.hostname, &addresses, has_names, &host)
                }
            };
            let io = |what: &str, e: std::io::Error| TaskError::Transient(format!("{what}: {e}"));
            let files = files.write(&etc).map_err(|e| io("write the container's /etc files", e))?;
            std::fs::create_dir_all(&log_dir).map_err(|e| io("make the log's directory", e))?;
            let log_path = log_dir.join(log_driver::file_name(&container_id(a.id), a.log_driver()));
            let (netns, dependencies) = (None, Vec::new());
            Ok(Made { rootfs, netns, files, dependencies, volumes: targets, log_path })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| stopping())?
    }

    /// The container, up to but not including its command; gives its first process.
    pub(crate) async fn create_task(&self, a: &Assignment, prepared: &Prepared) -> Result<u32, TaskError> {
        let host = self.info();
        let filled = host.settings.defaults.fill_task(a);
        let a = &*filled;
        let Prepared { planned, image, made, health, ports, .. } = prepared;
        let built = container::container_config(a, planned, image, made, health.as_ref(), ports);
        let mut config = built.map_err(refused)?;
        let image_id = self.inner.images.snapshot_image_of(&config.id).map(|image| image.to_string());
        log_driver::complete(&mut config.log, &image_id.unwrap_or_default(), &config.args, Timestamp::EPOCH);
        config.init = host.settings.defaults.has_init(a.spec.container.init_asked());
        host.settings.defaults.fill_config(&mut config);
        let config = self.with_devices(&a.spec.container.host.claims, config).await.map_err(refused)?;
        let _turn = self.inner.turns.acquire().await.map_err(|_| stopping())?;
        let created = match self.inner.runtime.create(&config).await {
            // A step broken off half-way left it; it has not run its command yet.
            Err(runtime::Error::AlreadyExists { id }) => {
                self.inner.runtime.delete(&id).await.map_err(of_runtime)?;
                self.inner.runtime.create(&config).await
            }
            other => other,
        };
        let created = created.map_err(of_runtime)?;
        self.note_task_created(&config.id, &config.labels);
        Ok(u32::try_from(created.pid).unwrap_or(0))
    }

    /// Executes the command.
    pub(crate) async fn start_task(&self, task: TaskId) -> Result<(), TaskError> {
        let _turn = self.inner.turns.acquire().await.map_err(|_| stopping())?;
        let id = container_id(task);
        self.inner.runtime.start(&id).await.map_err(of_runtime)?;
        self.note_task_started(&id);
        Ok(())
    }

    /// Waits for the end of a container.
    pub(crate) async fn wait_task(&self, task: TaskId) -> Result<ExitStatus, TaskError> {
        self.inner.runtime.wait(&container_id(task)).await.map_err(of_runtime)
    }

    /// Asks, waits, forces. An end is seen by whoever waits for it.
    pub(crate) async fn stop_task(&self, task: TaskId, signal: &str, grace: Duration) -> Result<(), TaskError> {
        let signal = parse_signal(signal).unwrap_or_else(|problem| {
            tracing::warn!(%task, problem, "stopping with SIGTERM");
            runtime::Signal::SIGTERM
        });
        match self.stop_task_container(&container_id(task), signal, grace).await {
            Ok(()) | Err(runtime::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(of_runtime(error)),
        }
    }

    /// Gives back everything but the log and the runtime's record, by which the log is read. The root
    /// filesystem goes last: while it is there, a later start knows that this was not finished.
    pub(crate) async fn release_task(&self, task: TaskId) -> Result<(), TaskError> {
        let id = container_id(task);
        let detached = self.inner.network.detach(EndpointId::from(task)).await;
        detached.map_err(|e| TaskError::Transient(format!("detach the container from the network: {e}")))?;
        let etc = self.config().run_dir.join("etc").join(task.to_string());
        let (volumes, owner) = (self.inner.volumes.clone(), id.clone());
        let dependencies = self.dependencies_of(task);
        let files = tokio::task::spawn_blocking(move || {
            let failed = |e: std::io::Error| TaskError::Transient(format!("remove {}: {e}", dependencies.display()));
            dependencies::remove(&dependencies).map_err(failed)?;
            remove_directory(&etc)?;
            volumes.remove_anonymous(&owner).map_err(|e| TaskError::Transient(with_causes(&e)))
        });
        files.await.map_err(|_| stopping())??;
        self.inner.images.snapshot_remove(&id).await.map_err(of_image)
    }

    /// Removes everything, the log last.
    pub(crate) async fn remove_task(&self, task: TaskId) -> Result<(), TaskError> {
        let id = container_id(task);
        match self.inner.runtime.delete(&id).await {
            Ok(()) | Err(runtime::Error::NotFound { .. }) => {}
            Err(error) => return Err(of_runtime(error)),
        }
        self.release_task(task).await?;
        let logs = [self.log_directory(task), self.old_logs_root().join(task.to_string())];
        let remove = move || logs.iter().try_for_each(|directory| remove_directory(directory));
        tokio::task::spawn_blocking(remove).await.map_err(|_| stopping())??;
        self.note_task_removed(&id);
        Ok(())
    }

    /// Everything of ours on this host, by task.
    pub(crate) async fn found_tasks(&self) -> Result<Vec<Found>, TaskError> {
        let mut found = std::collections::BTreeMap::new();
        let parts = self.inner.images.snapshot_list();
        let (directory, old) = (self.containers_root(), self.old_logs_root());
        let look = move || {
            let mut tasks: Vec<TaskId> = names_in(&directory).iter().filter_map(|id| task_of_container(id)).collect();
            tasks.extend(names_in(&old).iter().filter_map(|task| task.parse::<TaskId>().ok()));
            tasks
        };
        let logs = tokio::task::spawn_blocking(look).await.map_err(|_| stopping())?;
        let plain = |task, what| Found { task, what, stop_signal: String::new(), stop_grace_ms: None, health: None };
        for task in logs {
            found.insert(task, plain(task, FoundWhat::Log));
        }
        for task in parts.iter().filter_map(|p| task_of_container(&p.container)) {
            found.insert(task, plain(task, FoundWhat::Parts));
        }
        let has_parts: std::collections::BTreeSet<String> = parts.into_iter().map(|p| p.container).collect();
        for state in self.inner.runtime.list().await.map_err(of_runtime)? {
            let Some(task) = task_of_container(&state.id) else { continue };
            let what = match state.status {
                Status::Created => FoundWhat::Created,
                Status::Running | Status::Paused => {
                    let pid = state.pid.and_then(|p| u32::try_from(p).ok()).unwrap_or(0);
                    FoundWhat::Running { pid, started_at: Timestamp::from_unix_ns(state.started_at_ns) }
                }
                Status::Stopped(exit) => FoundWhat::Stopped { released: !has_parts.contains(&state.id), exit },
            };
            let (stop_signal, stop_grace_ms) = container::stop_of_labels(&state.labels);
            let health = container::health_of_labels(&state.labels);
            found.insert(task, Found { task, what, stop_signal, stop_grace_ms, health });
        }
        Ok(found.into_values().collect())
    }

    /// Beside single containers, as Docker has it: there collectors look for logs, by the ids of containers.
    fn containers_root(&self) -> PathBuf {
        self.config().state_dir.join("containers")
    }

    fn log_directory(&self, task: TaskId) -> PathBuf {
        self.containers_root().join(container_id(task))
    }

    /// Where its log may be, whichever driver it has and whichever version began it.
    pub(super) fn log_files(&self, task: TaskId) -> [PathBuf; 3] {
        let names = log_driver::file_names(&container_id(task));
        let [of_json_file, of_others] = names.map(|name| self.log_directory(task).join(name));
        [of_others, of_json_file, self.old_logs_root().join(task.to_string()).join("json.log")]
    }

    /// Where logs of tasks were before; those that began there end there.
    fn old_logs_root(&self) -> PathBuf {
        self.config().state_dir.join("logs")
    }
}

/// A task's place in a network that each host has for itself: found by the names that a service has in overlays,
/// on this host alone.
fn local_wanted(a: &Assignment, place: &Attachment) -> LocalWanted {
    let service = a.service_name.as_str();
    let own = [
        container_name(a),
        format!("{service}.{}", a.slot),
        service.to_owned(),
        format!("tasks.{service}"),
        container_id(a.id)[..12].to_owned(),
    ];
    let names = own.into_iter().chain(place.aliases.iter().cloned()).map(|name| name.to_ascii_lowercase()).collect();
    let (address, address6) = (first_ipv4(&place.addresses), first_ipv6(&place.addresses));
    LocalWanted { address, address6, names, ..LocalWanted::of(place.network) }
}

/// Who has the port that a task asks for. Blocking.
fn held_by(conflict: &Conflict) -> String {
    let (protocol, port, holder) = match conflict {
        Conflict::Process { protocol, port, inode } => {
            let owner = sockets::owner(*inode).unwrap_or_else(|| "a process that cannot be seen from here".to_owned());
            (*protocol, *port, owner)
        }
        Conflict::Endpoint { protocol, port, endpoint } => (*protocol, *port, format!("task {}", endpoint.as_str())),
        Conflict::Twice { protocol, port } => (*protocol, *port, "this task itself".to_owned()),
        Conflict::NoneFree { protocol } => {
            return format!("no free port of this host is left for {protocol}; publish a fixed one");
        }
    };
    let name = port_name(protocol, port);
    format!("port {name} of this host is held by {holder}; stop that, or publish another port")
}

fn port_name(protocol: PortProtocol, port: u16) -> String {
    format!("{port}/{protocol}")
}

/// What placeholders stand for.
pub(super) fn context<'a>(host: &'a HostInfo, assignment: &'a Assignment, node: NodeId) -> Context<'a> {
    Context {
        assignment,
        node: Some(node),
        node_hostname: &host.hostname,
        node_os: &host.os_type,
        node_architecture: &host.machine,
    }
}

async fn check_binds(planned: &Planned) -> Result<(), TaskError> {
    for mount in &planned.mounts {
        let types::MountKind::Bind { source, create, .. } = &mount.kind else { continue };
        if tokio::fs::metadata(source).await.is_ok() {
            continue;
        }
        if !create {
            return Err(TaskError::Refused(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {source}; make it on this node, \
                 or have it made where it is missing (bind-create-mountpoint, in Compose files create_host_path)"
            )));
        }
        let made = tokio::fs::create_dir_all(source).await;
        made.map_err(|e| TaskError::Refused(format!("make the bind source {source}: {e}")))?;
    }
    Ok(())
}

fn names_in(directory: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn remove_directory(path: &std::path::Path) -> Result<(), TaskError> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(TaskError::Transient(format!("remove {}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}

pub(super) fn refused(error: impl std::error::Error) -> TaskError {
    refused_chain(&error)
}

fn refused_chain(error: &dyn std::error::Error) -> TaskError {
    TaskError::Refused(with_causes(error))
}

pub(super) fn stopping() -> TaskError {
    TaskError::Transient("the engine is stopping".into())
}

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
pub(super) fn of_image(error: image::Error) -> TaskError {
    let text = with_causes(&error);
    if error.is_transient() { TaskError::Transient(text) } else { TaskError::Refused(text) }
}

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
pub(super) fn of_runtime(error: runtime::Error) -> TaskError {
    let text = with_causes(&error);
    match error {
        runtime::Error::Timeout { .. } | runtime::Error::Io { .. } => TaskError::Transient(text),
        _ => TaskError::Refused(text),
    }
}
