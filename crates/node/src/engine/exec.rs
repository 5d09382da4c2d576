//! Further commands in containers, as clients ask for them: made, started once, looked at, forgotten.
//!
//! Called by the API. A command belongs to this process: it ends with the daemon (`runtime::exec` says why). It does
//! not end with its client, as in Docker: who leaves a command lets it go on.

mod told;

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{fcntl::OFlag, unistd::pipe2};
use runtime::{ExecConfig, ExecStreams};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
};

use self::told::new_id;
pub(super) use self::told::{CODE_UNKNOWN, Probe};
use super::{
    Engine,
    containers::ContainerRef,
    detach_keys::DetachKeys,
    refusal::{Refusal, RefusalKind},
    streams::{Session, SessionEnd, Streams, copy_of, say},
};

/// Commands that are remembered, whether they run or not; each costs what its words do.
const EXECS_MAX: usize = 4096;

/// How long the end of a command can be asked for.
const KEPT: Duration = Duration::from_secs(300);

/// A command, as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub user: String,
    pub tty: bool,
    pub privileged: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// As Docker writes them; empty is the default.
    pub detach_keys: String,
    /// Rows and columns of its terminal; 0 if not known.
    pub size: (u16, u16),
}

/// What is known of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecView {
    pub id: String,
    pub container: String,
    pub spec: ExecSpec,
    pub is_running: bool,
    /// In the daemon's pid namespace; 0 before the start.
    pub pid: i32,
    pub code: Option<i32>,
}

enum Stage {
    Made,
    Starting,
    Running { pid: i32, master: Option<OwnedFd> },
    Ended { pid: i32, code: i32, at: Instant },
}

struct Entry {
    id: String,
    container: ContainerRef,
    spec: ExecSpec,
    made_at: Instant,
    stage: Mutex<Stage>,
}

impl Entry {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        // Each change replaces the whole value.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, engine: &Engine, action: &str) {
        engine.tell_exec(&self.container.id, &self.id, action, &self.spec.args);
    }

    fn is_past(&self, now: Instant) -> bool {
        match *self.stage() {
            Stage::Made => now >= self.made_at + KEPT,
            Stage::Ended { at, .. } => now >= at + KEPT,
            Stage::Starting | Stage::Running { .. } => false,
        }
    }
}

/// All commands of this process.
#[derive(Default)]
pub(super) struct Execs(Mutex<HashMap<String, Arc<Entry>>>);

impl Execs {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Result<Arc<Entry>, Refusal> {
        let found = self.all().get(id).cloned();
        found.ok_or_else(|| Refusal::new(RefusalKind::NotFound, format!("No such exec instance: {id}")))
    }

    fn add(&self, entry: Entry) -> Result<Arc<Entry>, Refusal> {
        let now = Instant::now();
        let mut all = self.all();
        all.retain(|_, entry| !entry.is_past(now));
        if all.len() >= EXECS_MAX {
            let text =
                format!("{EXECS_MAX} commands are running or were made in the last minutes; wait for some to end");
            return Err(Refusal::new(RefusalKind::Conflict, text));
        }
        let entry = Arc::new(entry);
        all.insert(entry.id.clone(), Arc::clone(&entry));
        Ok(entry)
    }
}

/// A command that may be started now, with its client.
pub struct ExecSession {
    engine: Engine,
    entry: Arc<Entry>,
    size: (u16, u16),
    keys: DetachKeys,
}

impl Engine {
    /// Remembers a command; gives its id.
    ///
    /// # Errors
    /// If the container does not run or does not know the user, or nothing is said to run.
    pub async fn exec_create(&self, container: &ContainerRef, spec: ExecSpec) -> Result<String, Refusal> {
        check_state(container)?;
        if spec.args.first().is_none_or(String::is_empty) {
            return Err(Refusal::new(RefusalKind::Invalid, "No exec command specified"));
        }
        let known = self.inner.runtime.check_user(&container.id, &spec.user);
        known.map_err(|error| match error {
            runtime::Error::Invalid { reason, .. } => Refusal::new(RefusalKind::Invalid, reason),
            error => Refusal::of_runtime(&error),
        })?;
        DetachKeys::parse(&spec.detach_keys).map_err(|why| Refusal::new(RefusalKind::Invalid, why))?;
        let id = new_id();
        let entry = Entry {
            id: id.clone(),
            container: container.clone(),
            spec,
            made_at: Instant::now(),
            stage: Mutex::new(Stage::Made),
        };
        self.inner.execs.add(entry)?.tell(self, "exec_create");
        Ok(id)
    }

    /// Takes a command to be started, once. `size`: rows and columns, (0, 0) for those it was made with.
    ///
    /// # Errors
    /// If there is no such command, it was started before, or its container does not run.
    pub async fn exec_session(&self, id: &str, size: (u16, u16)) -> Result<ExecSession, Refusal> {
        let entry = self.inner.execs.get(id)?;
        let container = self.find_container(&entry.container.id).await?;
        check_state(&container)?;
        let keys = DetachKeys::parse(&entry.spec.detach_keys).map_err(|why| Refusal::new(RefusalKind::Invalid, why))?;
        {
            let mut stage = entry.stage();
            let text = match *stage {
                Stage::Made => None,
                Stage::Starting | Stage::Running { .. } => Some(format!("Error: Exec command {id} is already running")),
                Stage::Ended { .. } => Some(format!("Error: Exec command {id} has already run")),
            };
            if let Some(text) = text {
                return Err(Refusal::new(RefusalKind::Conflict, text));
            }
            *stage = Stage::Starting;
        }
        let size = if size == (0, 0) { entry.spec.size } else { size };
        Ok(ExecSession { engine: self.clone(), entry, size, keys })
    }

    /// What is known of a command.
    ///
    /// # Errors
    /// If there is no such command (any more).
    pub fn exec_view(&self, id: &str) -> Result<ExecView, Refusal> {
        let entry = self.inner.execs.get(id)?;
        let (is_running, pid, code) = match *entry.stage() {
            Stage::Made | Stage::Starting => (false, 0, None),
            Stage::Running { pid, .. } => (true, pid, None),
            Stage::Ended { pid, code, .. } => (false, pid, Some(code)),
        };
        let (id, container, spec) = (entry.id.clone(), entry.container.id.clone(), entry.spec.clone());
        Ok(ExecView { id, container, spec, is_running, pid, code })
    }

    /// Ids of the commands of a container that have not ended, in the order in which they were made.
    pub fn execs_of(&self, container: &str) -> Vec<String> {
        let is_open = |entry: &Entry| !matches!(*entry.stage(), Stage::Ended { .. });
        let all = self.inner.execs.all();
        let own = all.values().filter(|entry| entry.container.id == container && is_open(entry));
        let mut own: Vec<(Instant, String)> = own.map(|entry| (entry.made_at, entry.id.clone())).collect();
        own.sort();
        own.into_iter().map(|(_, id)| id).collect()
    }

    /// Sets the size of a command's terminal, if it has one: clients do not look before they tell of theirs.
    ///
    /// # Errors
    /// If there is no such command, or it does not run.
    pub fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<(), Refusal> {
        let entry = self.inner.execs.get(id)?;
        match &*entry.stage() {
            Stage::Running { master: Some(master), .. } => {
                runtime::resize(std::os::fd::AsFd::as_fd(master), rows, columns).map_err(|error| Refusal::of(&error))
            }
            Stage::Running { master: None, .. } => Ok(()),
            _ => Err(Refusal::new(RefusalKind::Conflict, format!("the exec process {id} is not running"))),
        }
    }

    /// Sets the size of a container's own terminal, if it has one.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn resize(&self, container: &ContainerRef, rows: u16, columns: u16) -> Result<(), Refusal> {
        if !container.is_running {
            return Err(not_running(&container.id));
        }
        if !container.tty {
            return Ok(());
        }
        self.inner.runtime.resize(&container.id, rows, columns).await.map_err(|error| Refusal::of_runtime(&error))
    }
}

impl ExecSession {
    /// Starts the command without a client.
    ///
    /// # Errors
    /// If it cannot be executed.
    pub async fn run_detached(self) -> Result<(), Refusal> {
        let (streams, ended) = self.start(true).await?;
        if self.entry.spec.tty {
            let session = self.session(streams, true, ended);
            // Somebody has to take what the terminal is told; ends with the command.
            tokio::spawn(async move {
                session.run(&mut tokio::io::empty(), &mut tokio::io::sink(), async || {}).await;
            });
        }
        Ok(())
    }

    /// Starts the command and speaks with the client until either leaves. `is_raw`: without frames, which is for the
    /// client to say, whether the command has a terminal or not.
    pub async fn run(self, is_raw: bool, from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
        let (streams, mut ended) = match self.start(false).await {
            Ok(started) => started,
            Err(refusal) => {
                say(to, is_raw, true, format!("{}\r\n", refusal.message).as_bytes()).await.ok();
                return;
            }
        };
        let session = self.session(streams, is_raw, ended.clone());
        let (end, outputs) = session.run(from, to, async || {}).await;
        match end {
            // The client asks for the exit code when its stream has ended.
            SessionEnd::Ended => drop(ended.wait_for(Option::is_some).await),
            SessionEnd::Left => drop(tokio::spawn(outputs.drain())), // ends with the command
        }
        to.flush().await.ok();
    }

    fn session(&self, streams: Streams, is_raw: bool, ended: watch::Receiver<Option<i32>>) -> Session {
        let keys = self.entry.spec.tty.then(|| self.keys.clone());
        Session { streams, is_raw, keys, ended: Some(ended) }
    }

    async fn start(&self, detached: bool) -> Result<(Streams, watch::Receiver<Option<i32>>), Refusal> {
        let started = self.try_start(detached).await;
        if let Err((code, _)) = &started {
            *self.entry.stage() = Stage::Ended { pid: 0, code: *code, at: Instant::now() };
        }
        started.map_err(|(_, refusal)| refusal)
    }

    async fn try_start(&self, detached: bool) -> Result<(Streams, watch::Receiver<Option<i32>>), (i32, Refusal)> {
        let spec = &self.entry.spec;
        self.entry.tell(&self.engine, "exec_start");
        let (ours, theirs, master) = self.streams(detached).map_err(|refusal| (CODE_FAILED, refusal))?;
        let config = ExecConfig {
            args: spec.args.clone(),
            env: spec.env.clone(),
            cwd: spec.cwd.clone(),
            user: spec.user.clone(),
            tty: spec.tty,
            privileged: spec.privileged,
        };
        let exec = self.engine.inner.runtime.exec(&self.entry.container.id, &config, theirs).await;
        let mut exec = exec.map_err(|error| (code_of(&error), refused(&error)))?;
        let pid = exec.pid();
        *self.entry.stage() = Stage::Running { pid, master };
        let (sender, receiver) = watch::channel(None);
        let (entry, engine) = (Arc::clone(&self.entry), self.engine.clone());
        // Ends with the command; if this process ends before, the command does too.
        tokio::spawn(async move {
            let code = exec.wait().await.unwrap_or_else(|error| {
                tracing::warn!(container.id = entry.container.id, %error, "the end of a command was not seen");
                CODE_UNKNOWN
            });
            *entry.stage() = Stage::Ended { pid, code, at: Instant::now() };
            engine.tell_exec_end(&entry.container.id, &entry.id, code);
            sender.send_replace(Some(code));
        });
        Ok((ours, receiver))
    }

    /// Our ends, the command's ends, and the terminal's master to resize it by.
    fn streams(&self, detached: bool) -> Result<(Streams, ExecStreams, Option<OwnedFd>), Refusal> {
        let spec = &self.entry.spec;
        let failed = |error: std::io::Error| {
            Refusal::new(RefusalKind::Failed, format!("make the streams of the command: {error}"))
        };
        if spec.tty {
            let terminal = self.engine.inner.runtime.terminal(&self.entry.container.id, self.size.0, self.size.1);
            let runtime::Terminal { master, slave } = terminal.map_err(|error| Refusal::of_runtime(&error))?;
            let copy = || copy_of(&master).map_err(failed);
            let stdin = if spec.stdin && !detached { Some(copy()?) } else { None };
            let ours = Streams::new(stdin, Some(copy()?), None).map_err(failed)?;
            let [stdout, stderr] = [copy_of(&slave).map_err(failed)?, copy_of(&slave).map_err(failed)?];
            return Ok((ours, ExecStreams { stdin: slave, stdout, stderr }, Some(master)));
        }
        let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let output = |is_wanted: bool| match is_wanted && !detached {
            true => pipe().map(|(ours, theirs)| (Some(ours), theirs)),
            false => null().map(|null| (None, null)),
        };
        let (stdin, stdin_theirs) = match spec.stdin && !detached {
            true => pipe().map(|(theirs, ours)| (Some(ours), theirs)).map_err(failed)?,
            false => (None, null().map_err(failed)?),
        };
        let (stdout, stdout_theirs) = output(spec.stdout).map_err(failed)?;
        let (stderr, stderr_theirs) = output(spec.stderr).map_err(failed)?;
        for ours in [&stdin, &stdout, &stderr].into_iter().flatten() {
            set_nonblocking(ours).map_err(failed)?;
        }
        let ours = Streams::new(stdin, stdout, stderr).map_err(failed)?;
        Ok((ours, ExecStreams { stdin: stdin_theirs, stdout: stdout_theirs, stderr: stderr_theirs }, None))
    }
}

/// Exit code of a command whose execution the runtime was not asked for.
const CODE_FAILED: i32 = 126;

/// Ours alone is made non-blocking: the command's end is its own open file.
fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

fn set_nonblocking(fd: &OwnedFd) -> std::io::Result<()> {
    use nix::fcntl::{FcntlArg, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

fn not_running(id: &str) -> Refusal {
    Refusal::new(RefusalKind::Conflict, format!("container {id} is not running"))
}

fn check_state(container: &ContainerRef) -> Result<(), Refusal> {
    if container.is_paused {
        let text = format!("Container {} is paused, unpause the container before exec", container.id);
        return Err(Refusal::new(RefusalKind::Conflict, text));
    }
    if !container.is_running { Err(not_running(&container.id)) } else { Ok(()) }
}

/// As in Docker, what the runtime's words mean, and one code for all that fails before it is asked.
fn code_of(error: &runtime::Error) -> i32 {
    match error {
        runtime::Error::CommandNotFound { .. }
        | runtime::Error::CommandNotExecutable { .. }
        | runtime::Error::Failed { .. } => error.exit_code(),
        _ => CODE_FAILED,
    }
}

/// Docker's words for a command that cannot be executed; clients look for them.
fn refused(error: &runtime::Error) -> Refusal {
    let text = types::with_causes(error);
    let reason = match error {
        runtime::Error::Failed { reason, .. } => reason.as_str(),
        _ => text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason),
    };
    let kind = match error.exit_code() {
        126 | 127 => RefusalKind::Invalid,
        _ => RefusalKind::Failed,
    };
    let text = format!("OCI runtime exec failed: exec failed: unable to start container process: {reason}");
    Refusal::new(kind, text)
}
