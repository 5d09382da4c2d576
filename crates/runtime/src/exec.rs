//! One more command in a container that runs. Called by `node`'s engine for health checks; streams are
//! descriptors of the caller's, so whoever wants them live, or a terminal, reads them itself.
//!
//! A helper process enters the container (`shim::exec`). It lives as long as its command, and kills it when
//! its [`Exec`] is dropped or the daemon dies.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    process::Stdio,
    time::Duration,
};

use nix::{fcntl::OFlag, unistd::pipe2};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::pipe},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    error::{Error, Result},
    fds,
    oci::{self, ResolvedUser},
    protocol::{self, ExecEvent, ExecRequest},
    rootfs::Rootfs,
    runtime::{Runtime, command_error},
    shim,
};

/// Entering a container takes milliseconds; much more means that the host is stuck.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A killed command is gone at once, unless it hangs in the kernel; the helper itself waits half as long.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// What is read after the command's end of what it left in the pipe: more than a pipe holds by default.
const LEFT_MAX: usize = 128 * 1024;

/// A command to run beside the container's own, with the container's capabilities and limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecConfig {
    pub args: Vec<String>,
    /// `NAME=value`, over the container's own variables.
    pub env: Vec<String>,
    /// Empty: the container's working directory.
    pub cwd: String,
    /// As in [`crate::ContainerConfig::user`]; empty: the user of the container's first process.
    pub user: String,
    /// All three streams are the slave of a [`crate::Terminal`] of this container.
    pub tty: bool,
    /// With all capabilities that the daemon has.
    pub privileged: bool,
}

/// The command's standard streams; the caller keeps the other ends.
#[derive(Debug)]
pub struct ExecStreams {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// What a container was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The user of its first process.
    pub uid: u32,
    pub gid: u32,
    pub readonly_rootfs: bool,
}

/// A command that runs in a container. Dropping it kills the command with all that it started.
#[derive(Debug)]
pub struct Exec {
    id: String,
    control: UnixStream,
    received: Vec<u8>,
    helper: Child,
    pid: i32,
    /// What the helper said of the end, once it has: it says so once, and whoever waits may be broken off after it.
    ended: Option<i32>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecEnd {
    /// Its exit code; 128 plus the signal's number if a signal ended it.
    Code(i32),
    /// It took too long and was killed with all that it had started.
    TimedOut,
}

/// A command that has ended, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    pub end: ExecEnd,
    /// The beginning of standard output and error, in the order they were written.
    pub output: Vec<u8>,
    /// Whether there was more.
    pub is_cut: bool,
}

impl Runtime {
    /// Runs a command in a container; returns when it is executed.
    ///
    /// # Errors
    /// If the container does not run or the command cannot be executed.
    pub async fn exec(&self, id: &str, config: &ExecConfig, streams: ExecStreams) -> Result<Exec> {
        let failed = |reason: String| Error::Failed { id: id.to_owned(), operation: OPERATION, reason };
        let dir = self.dir(id)?;
        if dir.exit().map_err(Error::io(id, "read its exit status"))?.is_some() {
            return Err(failed("it has ended".to_owned()));
        }
        if dir.init().map_err(Error::io(id, "read its state"))?.is_none_or(|init| init.started_at_ns == 0) {
            return Err(failed("it has not been started".to_owned()));
        }
        // A command would stand still with the others, and could not even be killed.
        if self.cgroup_is_frozen(id) {
            return Err(failed("it is paused".to_owned()));
        }
        let request = ExecRequest {
            args: config.args.clone(),
            env: config.env.clone(),
            cwd: config.cwd.clone(),
            user: self.exec_user(id, &config.user)?,
            tty: config.tty,
            privileged: config.privileged,
            layout: Some(self.layout.clone()),
        };
        let io = Error::io(id, OPERATION);
        let (ours, theirs) = StdUnixStream::pair().map_err(io)?;
        let helper = Command::new(&self.config.shim)
            .arg(dir.path())
            .arg(shim::EXEC)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::Shim { path: self.config.shim.clone(), source })?;
        send(&ours, &request, &streams).map_err(Error::io(id, OPERATION))?;
        drop(streams);
        ours.set_nonblocking(true).map_err(Error::io(id, OPERATION))?;
        let control = UnixStream::from_std(ours).map_err(Error::io(id, OPERATION))?;
        let mut exec = Exec { id: id.to_owned(), control, received: Vec::new(), helper, pid: 0, ended: None };
        let begun = timeout(START_TIMEOUT, exec.event()).await;
        let event =
            begun.map_err(|_| Error::Timeout { id: id.to_owned(), operation: OPERATION, timeout: START_TIMEOUT })?;
        match event? {
            ExecEvent::Started { pid } => Ok(Exec { pid, ..exec }),
            ExecEvent::Failed { reason, .. } => Err(command_error(id, OPERATION, config.args.first(), reason)),
            other @ ExecEvent::Ended { .. } => Err(failed(format!("the helper said {other:?} before the start"))),
        }
    }

    /// Runs a command to its end, for at most `limit`, and keeps the first `output_max` bytes it writes.
    ///
    /// # Errors
    /// As [`Runtime::exec`]. That it took too long is no error.
    pub async fn exec_captured(
        &self,
        id: &str,
        config: &ExecConfig,
        limit: Duration,
        output_max: usize,
    ) -> Result<Captured> {
        let io = || Error::io(id, "make the streams of a command in it");
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from).map_err(io())?;
        let stdin = OwnedFd::from(File::open("/dev/null").map_err(io())?);
        let stderr = write.try_clone().map_err(io())?;
        let mut pipe = pipe::Receiver::from_owned_fd(read).map_err(io())?;
        let mut exec = self.exec(id, config, ExecStreams { stdin, stdout: write, stderr }).await?;
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        let (mut kept, mut chunk, mut is_open) = (Kept::new(output_max), [0; 4096], true);
        let end = loop {
            tokio::select! {
                code = exec.wait() => break ExecEnd::Code(code?),
                read = pipe.read(&mut chunk), if is_open => match read {
                    Ok(length @ 1..) => kept.take(&chunk[..length]),
                    Ok(0) | Err(_) => is_open = false,
                },
                () = &mut deadline => {
                    exec.kill().await?;
                    break ExecEnd::TimedOut;
                }
            }
        };
        // What it left behind may hold the pipe open for ever: only what is there already is read.
        let mut left = LEFT_MAX;
        while let Ok(length @ 1..) = pipe.try_read(&mut chunk) {
            kept.take(&chunk[..length]);
            left = left.saturating_sub(length);
            if left == 0 {
                break;
            }
        }
        Ok(Captured { end, output: kept.output, is_cut: kept.is_cut })
    }

    /// What a container was made with and its record does not say.
    ///
    /// # Errors
    /// If it does not exist or its bundle cannot be read.
    pub fn facts(&self, id: &str) -> Result<ContainerFacts> {
        let bundle = self.dir(id)?.path().join("config.json");
        let invalid = |reason: String| Error::Invalid { id: id.to_owned(), reason };
        let spec = oci_spec::runtime::Spec::load(&bundle).map_err(|err| invalid(err.to_string()))?;
        let user = spec.process().as_ref().map(|process| (process.user().uid(), process.user().gid()));
        let (uid, gid) = user.unwrap_or_default();
        let readonly_rootfs = spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false);
        Ok(ContainerFacts { uid, gid, readonly_rootfs })
    }

    /// Whether a container knows a user, for those who ask before anything is executed as it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it does not.
    pub fn check_user(&self, id: &str, user: &str) -> Result<()> {
        self.exec_user(id, user).map(drop)
    }

    fn exec_user(&self, id: &str, user: &str) -> Result<Option<ResolvedUser>> {
        if user.is_empty() {
            return Ok(None);
        }
        let bundle = self.dir(id)?.path().join("config.json");
        let invalid = |reason: String| Error::Invalid { id: id.to_owned(), reason };
        let spec = oci_spec::runtime::Spec::load(&bundle).map_err(|err| invalid(err.to_string()))?;
        let root = spec.root().as_ref().ok_or_else(|| invalid("its bundle names no root".to_owned()))?;
        let rootfs = Rootfs::open(root.path())
            .map_err(|_| Error::RootfsMissing { id: id.to_owned(), path: root.path().clone() })?;
        let read = |path| rootfs.read_text(path).map_err(Error::io(id, "read the users of its root filesystem"));
        oci::resolve_user(user, &[], &read("etc/passwd")?, &read("etc/group")?).map(Some).map_err(invalid)
    }
}

const OPERATION: &str = "execute a command in it";

impl Exec {
    /// The command's process, in the daemon's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the end, however long that takes; the exit code, or 128 plus the number of the signal that ended
    /// it. What the command left behind goes on. May be dropped and called again.
    ///
    /// # Errors
    /// If the helper was killed; then the end is unknown.
    pub async fn wait(&mut self) -> Result<i32> {
        let code = match self.ended {
            Some(code) => code,
            None => match self.event().await? {
                ExecEvent::Ended { code } => *self.ended.insert(code),
                ExecEvent::Failed { reason, .. } => return Err(self.lost(reason)),
                other @ ExecEvent::Started { .. } => return Err(self.lost(format!("the helper said {other:?} twice"))),
            },
        };
        self.helper.wait().await.map_err(Error::io(&self.id, "wait for the helper of a command in it"))?;
        Ok(code)
    }

    /// Kills the command with all that it has started, and waits until it is gone.
    ///
    /// # Errors
    /// If it hangs in the kernel.
    pub async fn kill(mut self) -> Result<()> {
        self.control.shutdown().await.ok(); // the helper may have ended by itself
        match timeout(KILL_TIMEOUT, self.helper.wait()).await {
            Ok(ended) => ended.map(drop).map_err(Error::io(&self.id, "wait for the end of a command in it")),
            Err(_) => {
                let operation = "killing a command in it";
                Err(Error::Timeout { id: self.id.clone(), operation, timeout: KILL_TIMEOUT })
            }
        }
    }

    /// The helper's next word. Safe to cancel: what has come stays.
    async fn event(&mut self) -> Result<ExecEvent> {
        loop {
            match protocol::unframe(&self.received) {
                Ok(Some((event, taken))) => {
                    self.received.drain(..taken);
                    return Ok(event);
                }
                Ok(None) => {}
                Err(reason) => return Err(self.lost(reason)),
            }
            match self.control.read_buf(&mut self.received).await {
                Ok(1..) => {}
                Ok(0) => return Err(self.lost("its helper was killed".to_owned())),
                Err(err) => return Err(self.lost(err.to_string())),
            }
        }
    }

    fn lost(&self, reason: String) -> Error {
        Error::Failed { id: self.id.clone(), operation: "look after a command in it", reason }
    }
}

/// The request, and with it the command's standard streams. A socket's buffer holds it whole.
fn send(to: &StdUnixStream, request: &ExecRequest, streams: &ExecStreams) -> io::Result<()> {
    let frame = protocol::frame(request);
    if frame.len() > protocol::MAX_MESSAGE {
        let text = format!("its arguments and variables are longer than {} bytes", protocol::MAX_MESSAGE);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let given = [&streams.stdin, &streams.stdout, &streams.stderr].map(AsFd::as_fd);
    fds::send(to.as_fd(), &frame, &given)
}

/// The first bytes of an output.
struct Kept {
    output: Vec<u8>,
    max: usize,
    is_cut: bool,
}

impl Kept {
    fn new(max: usize) -> Self {
        Self { output: Vec::new(), max, is_cut: false }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = self.max - self.output.len();
        self.is_cut |= bytes.len() > room;
        self.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}
