//! The containers of one host. Called by `node`'s engine. It holds no state about them: each call
//! looks into the container's directory or asks its shim, so a daemon that has just been started
//! knows as much as one that has created them all.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};
use tracing::warn;
use types::Signal;

use crate::{
    cgroup::{CgroupLayout, LimitsHere, Stats},
    client,
    config::{ContainerConfig, OciRuntime},
    error::{Error, Result},
    launch,
    log::{self, LogQuery, LogStream},
    oci,
    protocol::{CreateResult, Request, Response},
    record::{ContainerDir, ContainerState, Created, ExitStatus, Record, Status},
    subpath,
};

/// Setting up a container takes tens of milliseconds; much more means that the host is stuck.
pub(crate) const CREATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where containers live and what creates them.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// One directory per container; on a volatile file system, e.g. `/run/rswarm/containers`.
    pub run_dir: PathBuf,
    /// The program `rswarm-shim`.
    pub shim: PathBuf,
    pub oci_runtime: OciRuntime,
    /// Parent of all containers' cgroups, e.g. `/rswarm`.
    pub cgroup_parent: String,
}

/// The containers of one host.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(crate) config: RuntimeConfig,
    pub(crate) layout: CgroupLayout,
}

/// The path of a container's cgroup in `parent`.
fn below(parent: &str, id: &str) -> String {
    Path::new("/").join(parent.trim_start_matches('/')).join(id).to_string_lossy().into_owned()
}

impl Runtime {
    /// Makes the directory for containers and looks how this host does cgroups.
    ///
    /// # Errors
    /// If the directory cannot be made or no cgroups are mounted.
    pub fn new(config: RuntimeConfig) -> Result<Self> {
        let at_dir = |source| Error::RunDir { path: config.run_dir.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.run_dir).map_err(at_dir)?;
        let layout = CgroupLayout::detect().map_err(at_dir)?;
        subpath::give_up_all(&config.run_dir).map_err(at_dir)?;
        // What a killed daemon had begun to write is nobody's.
        for entry in fs::read_dir(&config.run_dir).map_err(at_dir)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".new-") {
                fs::remove_dir_all(entry.path()).map_err(at_dir)?;
            }
        }
        Ok(Self { config, layout })
    }

    /// Sets up a container and its shim; the command waits for [`Runtime::start`]. If it fails nothing
    /// is left. If the future is dropped on the way, `list` shows what there is and `delete` removes it.
    ///
    /// # Errors
    /// See [`Error`]; the exit code to report for the command is [`Error::exit_code`].
    pub async fn create(&self, config: &ContainerConfig) -> Result<Created> {
        let with_parts = subpath::hold(config, &self.config.run_dir)?;
        // held until the container has mounts of its own
        let (config, _held) = with_parts.as_ref().map_or((config, None), |(config, held)| (config, Some(held)));
        let id = config.id.as_str();
        let cgroup_path = match config.cgroup_parent.as_str() {
            "" => self.cgroup_path(id),
            parent => below(parent, id),
        };
        let dir = launch::prepare(config, &self.config, &cgroup_path, &self.layout)?;
        let launched = self.launch(id, config, &dir).await;
        let created = launched.and_then(|created| self.weigh_devices(config).map(|()| created));
        if created.is_err()
            && let Err(err) = self.remove(&dir, &cgroup_path, &self.config.oci_runtime).await
        {
            warn!(container.id = id, error = %err, "what is left of a container that could not be created stays");
        }
        created
    }

    async fn launch(&self, id: &str, config: &ContainerConfig, dir: &ContainerDir) -> Result<Created> {
        let errors = fs::File::create(dir.shim_log()).map_err(Error::io(id, "make the shim's log"))?;
        let mut shim = Command::new(&self.config.shim)
            .arg(dir.path())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|source| Error::Shim { path: self.config.shim.clone(), source })?;
        let mut answer = shim.stdout.take().expect("standard output is piped above");
        let result = timeout(CREATE_TIMEOUT, client::read_message::<CreateResult, _>(&mut answer)).await;
        // The program itself ends at once: the shim is its child.
        shim.wait().await.map_err(Error::io(id, "wait for the shim's start"))?;
        match result {
            Ok(Ok(CreateResult::Created { pid })) => Ok(Created { pid }),
            Ok(Ok(CreateResult::Failed(reason))) => Err(command_error(id, "create it", config.args.first(), reason)),
            Ok(Err(err)) => {
                let said = fs::read_to_string(dir.shim_log()).unwrap_or_default();
                let reason = format!("the shim ended without an answer ({err}): {}", said.trim());
                Err(Error::Failed { id: id.to_owned(), operation: "create it", reason })
            }
            Err(_) => Err(Error::Timeout { id: id.to_owned(), operation: "creating it", timeout: CREATE_TIMEOUT }),
        }
    }

    /// Lets the command run.
    ///
    /// # Errors
    /// If it runs already, has ended, or does not exist.
    pub async fn start(&self, id: &str) -> Result<()> {
        self.request(id, "start it", Request::Start).await
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// If the container has ended or does not exist.
    pub async fn signal(&self, id: &str, signal: Signal) -> Result<()> {
        self.request(id, "signal it", Request::Signal { number: signal.number(), all: false }).await
    }

    /// Stops all its processes where they are.
    ///
    /// # Errors
    /// If the container has ended or does not exist.
    pub async fn pause(&self, id: &str) -> Result<()> {
        self.request(id, "pause it", Request::Pause).await
    }

    /// Lets paused processes go on.
    ///
    /// # Errors
    /// If the container has ended or does not exist.
    pub async fn unpause(&self, id: &str) -> Result<()> {
        self.request(id, "unpause it", Request::Unpause).await
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// If it has no terminal, has ended, or does not exist.
    pub async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        self.request(id, "resize its terminal", Request::Resize { rows, columns }).await
    }

    /// Closes its standard input.
    ///
    /// # Errors
    /// If it has ended or does not exist.
    pub async fn close_stdin(&self, id: &str) -> Result<()> {
        self.request(id, "close its standard input", Request::CloseStdin).await
    }

    /// Waits for the end, however long that takes. The answer stays until `delete`.
    ///
    /// # Errors
    /// If the container does not exist.
    pub async fn wait(&self, id: &str) -> Result<ExitStatus> {
        let dir = self.dir(id)?;
        loop {
            if let Some(exit) = dir.exit().map_err(Error::io(id, "read its exit status"))? {
                return Ok(exit);
            }
            match client::call(dir.path(), &Request::Wait).await {
                Ok(Response::Exited(exit)) => return Ok(exit),
                Ok(other) => return Err(unexpected(id, "wait for it", &other)),
                Err(err) if client::is_gone(&err) => {
                    if let Some(exit) = self.settle(id, &dir).await? {
                        return Ok(exit);
                    }
                    // The shim is just beginning or just ending.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(err) => return Err(Error::Io { id: id.to_owned(), operation: "wait for it", source: err }),
            }
        }
    }

    /// Ends the container if it runs and removes its processes, cgroup and directory. Its log stays: it is where
    /// the caller wanted it. Nothing there is success.
    ///
    /// # Errors
    /// If something cannot be removed; another call tries again.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let dir = match self.dir(id) {
            Ok(dir) => dir,
            Err(Error::NotFound { .. }) => return self.remove_cgroup(id, &self.cgroup_path(id)).await,
            Err(err) => return Err(err),
        };
        let record = dir.record().map_err(Error::io(id, "read its record"))?;
        if dir.exit().map_err(Error::io(id, "read its exit status"))?.is_none()
            && let Err(err) = self.kill_all(id).await
        {
            warn!(container.id = id, error = %err, "it does not end as it should and is removed by force");
        }
        let cgroup_path = record.as_ref().map_or_else(|| self.cgroup_path(id), |record| record.cgroup_path.clone());
        let oci_runtime = record.map_or(OciRuntime::Embedded, |record| record.oci_runtime);
        self.remove(&dir, &cgroup_path, &oci_runtime).await
    }

    /// Every container of this host, whoever created it. A container whose shim was killed is ended
    /// and shown as stopped.
    ///
    /// # Errors
    /// If the directory of containers, or a file in it, cannot be read.
    pub async fn list(&self) -> Result<Vec<ContainerState>> {
        let at_dir = |source| Error::RunDir { path: self.config.run_dir.clone(), source };
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.config.run_dir).map_err(at_dir)? {
            let name = entry.map_err(at_dir)?.file_name();
            let Some(id) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            match self.state(id).await {
                Ok(state) => all.push(state),
                Err(Error::NotFound { .. }) => {} // deleted meanwhile
                Err(err) => return Err(err),
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// One container.
    ///
    /// # Errors
    /// If it does not exist or its files cannot be read.
    pub async fn state(&self, id: &str) -> Result<ContainerState> {
        let dir = self.dir(id)?;
        let unreadable = |source| Error::Io { id: id.to_owned(), operation: "read its state", source };
        let record = dir.record().map_err(unreadable)?.ok_or_else(|| Error::NotFound { id: id.to_owned() })?;
        let mut exit = dir.exit().map_err(unreadable)?;
        let shim = dir.shim().map_err(unreadable)?.filter(|shim| shim.is_alive());
        if exit.is_none() && shim.is_none() {
            exit = self.settle(id, &dir).await?;
        }
        let init = dir.init().map_err(unreadable)?;
        let started_at_ns = init.map_or(0, |init| init.started_at_ns);
        let pid = init.map(|init| init.process.pid).filter(|_| exit.is_none());
        let status = match exit {
            Some(exit) => Status::Stopped(exit),
            None if self.layout.cgroup(&record.cgroup_path).is_frozen() => Status::Paused,
            None if started_at_ns > 0 => Status::Running,
            None => Status::Created,
        };
        Ok(ContainerState {
            id: record.id,
            status,
            pid,
            shim_pid: shim.map(|shim| shim.pid),
            labels: record.labels,
            created_at_ns: record.created_at_ns,
            started_at_ns,
            log_path: record.log.path,
            tty: record.tty,
            open_stdin: record.open_stdin,
        })
    }

    /// What it uses now.
    ///
    /// # Errors
    /// If it does not exist or has no cgroup.
    pub fn stats(&self, id: &str) -> Result<Stats> {
        let record = self.record(id)?;
        self.layout.cgroup(&record.cgroup_path).stats().map_err(Error::io(id, "read its cgroup"))
    }

    /// Its output so far and, if asked for, from now on until it ends.
    ///
    /// # Errors
    /// If it does not exist or its log cannot be read.
    pub fn logs(&self, id: &str, query: &LogQuery) -> Result<LogStream> {
        let dir = self.dir(id)?;
        let record = self.record(id)?;
        log::open(&record.log, &dir, query).map_err(Error::io(id, "read its log"))
    }

    pub(crate) fn record(&self, id: &str) -> Result<Record> {
        let record = self.dir(id)?.record().map_err(Error::io(id, "read its record"))?;
        record.ok_or_else(|| Error::NotFound { id: id.to_owned() })
    }

    /// The directory of an existing container. An id that cannot be one is not found, rather than a
    /// path of somebody else.
    pub(crate) fn dir(&self, id: &str) -> Result<ContainerDir> {
        let path = self.config.run_dir.join(id);
        if !oci::is_id(id) || !path.is_dir() {
            return Err(Error::NotFound { id: id.to_owned() });
        }
        Ok(ContainerDir::new(path))
    }

    /// Removes the control group above all containers' if there is none in it.
    pub fn remove_empty_parent(&self) {
        let parent = format!("/{}", self.config.cgroup_parent.trim_matches('/'));
        for dir in self.layout.cgroup(&parent).dirs() {
            // The kernel refuses where something is left, which is what is wanted.
            fs::remove_dir(dir).ok();
        }
    }

    pub(crate) fn cgroup_path(&self, id: &str) -> String {
        below(&self.config.cgroup_parent, id)
    }

    /// Whether this host's kernel bounds swap apart from memory.
    pub fn limits_swap(&self) -> bool {
        self.layout.swap_limit()
    }

    /// Which limits this host's kernel has at all.
    pub fn limits_here(&self) -> LimitsHere {
        self.layout.limits_here()
    }

    pub(crate) fn cgroup_is_frozen(&self, id: &str) -> bool {
        self.record(id).is_ok_and(|record| self.layout.cgroup(&record.cgroup_path).is_frozen())
    }

    pub(crate) async fn request(&self, id: &str, operation: &'static str, request: Request) -> Result<()> {
        match self.ask(id, operation, request).await? {
            Response::Done => Ok(()),
            other => Err(unexpected(id, operation, &other)),
        }
    }

    async fn ask(&self, id: &str, operation: &'static str, request: Request) -> Result<Response> {
        let dir = self.dir(id)?;
        let failed = |reason: String| Error::Failed { id: id.to_owned(), operation, reason };
        if dir.exit().map_err(Error::io(id, "read its exit status"))?.is_some() {
            return Err(failed("it has ended".to_owned()));
        }
        match client::call(dir.path(), &request).await {
            Ok(Response::Failed(reason)) => Err(failed(reason)),
            Ok(Response::Exited(_)) => Err(failed("it has ended".to_owned())),
            Ok(response) => Ok(response),
            Err(err) if client::is_gone(&err) => match self.settle(id, &dir).await? {
                Some(_) => Err(failed("it has ended".to_owned())),
                None => Err(failed("its shim does not answer yet".to_owned())),
            },
            Err(source) => Err(Error::Io { id: id.to_owned(), operation, source }),
        }
    }
}

fn unexpected(id: &str, operation: &'static str, response: &Response) -> Error {
    Error::Failed {
        id: id.to_owned(),
        operation,
        reason: format!("the shim gave an answer to another question: {response:?}"),
    }
}

/// The runtimes tell a missing command by text only.
pub(crate) fn command_error(id: &str, operation: &'static str, command: Option<&String>, reason: String) -> Error {
    let (id, command) = (id.to_owned(), command.cloned().unwrap_or_default());
    if reason.contains("executable file not found in $PATH")
        || (reason.contains("exec: \"") && reason.contains("no such file or directory"))
    {
        return Error::CommandNotFound { id, command };
    }
    if reason.contains("exec: \"") && reason.contains("permission denied") {
        return Error::CommandNotExecutable { id, command };
    }
    Error::Failed { id, operation, reason }
}
