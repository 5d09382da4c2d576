//! Creating the container with the runtime library linked into this program. The library's work is
//! done in a forked child, so its memory and whatever it changes in its process go with it; the
//! container's first process then falls to the shim, the reaper.

use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use nix::{
    fcntl::OFlag,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask},
    unistd::{ForkResult, chdir, fork, pipe2},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use types::with_causes;

use super::{
    Failure, console_path,
    executor::Command,
    give, init,
    reap::{End, wait_for},
    stdio::Stdio,
};
use crate::{
    protocol::{self, CreateResult},
    record::{ContainerDir, Record},
};

/// Returns the pid of the container's first process, which waits for `start`.
pub(super) fn create(dir: &ContainerDir, record: &Record, stdio: &mut Stdio) -> Result<i32, Failure> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| format!("cannot make a pipe: {errno}"))?;
    // SAFETY: this process has one thread, so its child may do anything, also allocate.
    match unsafe { fork() }.map_err(|errno| format!("cannot fork: {errno}"))? {
        ForkResult::Child => {
            let result = match build(dir, record, stdio) {
                Ok(pid) => CreateResult::Created { pid },
                Err(failure) => CreateResult::Failed(failure),
            };
            let sent = File::from(write).write_all(&protocol::frame(&result));
            // SAFETY: ends this process at once; what the shim has open is not ours to flush or close.
            unsafe { libc::_exit(i32::from(sent.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let end = wait_for(child).map_err(|errno| format!("cannot wait for the runtime: {errno}"))?;
            result_of(read, end)
        }
    }
}

/// The child has ended, so all it had to say is in the pipe. The end of the pipe may never come: the
/// container's first process holds it until it executes its command.
fn result_of(pipe: OwnedFd, end: End) -> Result<i32, Failure> {
    let mut bytes = vec![0; protocol::MAX_MESSAGE];
    let length = match end {
        End::Code(0) => File::from(pipe).read(&mut bytes).unwrap_or(0),
        _ => 0,
    };
    match protocol::unframe::<CreateResult>(&bytes[..length]) {
        Ok(Some((CreateResult::Created { pid }, _))) => Ok(pid),
        Ok(Some((CreateResult::Failed(failure), _))) => Err(failure),
        _ => Err(format!("the embedded runtime ended without a word ({end:?})")),
    }
}

fn build(dir: &ContainerDir, record: &Record, stdio: &mut Stdio) -> Result<i32, Failure> {
    reset_signals().map_err(|errno| format!("cannot reset signals: {errno}"))?;
    let text = |err: libcontainer::error::LibcontainerError| with_causes(&err);
    let mut builder = ContainerBuilder::new(record.id.clone(), SyscallType::default())
        .with_executor(Command { init: record.init.then(init::Arguments::own) })
        .with_root_path(dir.oci_root())
        .map_err(text)?
        .with_console_socket(console_path(dir, record));
    if !record.tty {
        builder = builder
            .with_stdin(give(stdio.stdin.take(), "standard input")?)
            .with_stdout(give(stdio.stdout.take(), "standard output")?)
            .with_stderr(give(stdio.stderr.take(), "standard error")?);
    }
    let container =
        builder.validate_id().map_err(text)?.as_init(dir.path()).with_systemd(false).build().map_err(text)?;
    let pid = container.pid().ok_or_else(|| "the container has no process".to_owned())?;
    Ok(pid.as_raw())
}

/// The container inherits signal settings: it shall have those of a freshly started program.
pub(super) fn reset_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| ![Signal::SIGKILL, Signal::SIGSTOP].contains(signal)) {
        // SAFETY: restores the kernel's own action; no handler of ours is involved.
        unsafe { sigaction(signal, &default) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Lets the container's first process execute its command.
pub(super) fn start(dir: &ContainerDir, record: &Record) -> Result<(), Failure> {
    let home = dir.oci_root().join(&record.id);
    let notify = || -> std::io::Result<()> {
        // A socket's path may not be long, so go there; the shim's own directory is left for a moment only.
        chdir(&home)?;
        let connected = UnixStream::connect("notify.sock");
        chdir(dir.path())?;
        connected?.write_all(b"start container")
    };
    notify().map_err(|err| format!("cannot reach the container's first process: {err}"))
}
