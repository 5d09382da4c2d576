//! Creating and starting the container with a program that has the OCI command line (runc, crun).
//! The program ends each time; the container's first process then falls to the shim, the reaper.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio as ProcessStdio},
};

use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::Pid,
};

use super::{Failure, console_path, give, reap, stdio::Stdio};
use crate::record::{ContainerDir, Record};

/// The end of what a runtime said is enough to understand it.
const MESSAGE_MAX: u64 = 16 * 1024;

/// Returns the pid of the container's first process, which waits for `start`.
pub(super) fn create(program: &Path, dir: &ContainerDir, record: &Record, stdio: &mut Stdio) -> Result<i32, Failure> {
    if record.init {
        return Err(format!("an init inside the container needs the embedded runtime; {} has none", program.display()));
    }
    let pid_file = dir.path().join("pid");
    let mut command = command(program, dir);
    command.arg("create").arg("--bundle").arg(dir.path()).arg("--pid-file").arg(&pid_file);
    if let Some(path) = console_path(dir, record) {
        command.arg("--console-socket").arg(path);
    } else {
        command
            .stdin(give(stdio.stdin.take(), "standard input")?)
            .stdout(give(stdio.stdout.take(), "standard output")?)
            .stderr(give(stdio.stderr.take(), "standard error")?);
    }
    command.arg(&record.id);
    run(program, command, dir)?;
    let text =
        fs::read_to_string(&pid_file).map_err(|err| format!("{} wrote no pid file: {err}", program.display()))?;
    text.trim().parse().map_err(|_| format!("{} wrote {text:?} as the pid", program.display()))
}

pub(super) fn start(program: &Path, dir: &ContainerDir, record: &Record) -> Result<(), Failure> {
    let mut command = command(program, dir);
    command.arg("start").arg(&record.id);
    run(program, command, dir)
}

fn command(program: &Path, dir: &ContainerDir) -> Command {
    let mut command = Command::new(program);
    command
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .args(["--root".as_ref(), dir.oci_root().as_os_str()])
        .args(["--log".as_ref(), dir.path().join("runtime.log").as_os_str()])
        .args(["--log-format", "json"])
        .stdin(ProcessStdio::null())
        .stdout(ProcessStdio::null())
        .stderr(ProcessStdio::null());
    command
}

fn run(program: &Path, mut command: Command, dir: &ContainerDir) -> Result<(), Failure> {
    // SAFETY: between fork and exec only sigprocmask and sigaction are called, both async-signal-safe.
    unsafe { command.pre_exec(|| Ok(unblock_signals()?)) };
    let child = command.spawn().map_err(|err| format!("cannot execute {}: {err}", program.display()))?;
    drop(command); // and with it our copies of the container's ends
    let end = reap::wait_for(Pid::from_raw(child.id().cast_signed())).map_err(|errno| errno.to_string())?;
    if end == reap::End::Code(0) {
        return Ok(());
    }
    let said = last_message(&dir.path().join("runtime.log")).unwrap_or_else(|| format!("{end:?}"));
    Err(format!("{}: {said}", program.display()))
}

fn unblock_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: restores the kernel's own action; no handler of ours is involved.
    unsafe { sigaction(Signal::SIGPIPE, &default) }?;
    SigSet::empty().thread_set_mask()
}

/// The message of the last line in a runtime's JSON log.
fn last_message(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MESSAGE_MAX).read_to_string(&mut text).ok()?;
    let line: serde_json::Value = serde_json::from_str(text.trim_end().lines().last()?).ok()?;
    Some(line.get("msg")?.as_str()?.to_owned())
}
