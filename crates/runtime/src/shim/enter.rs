//! Becoming a process of a container that runs: its control group, namespaces, user, capabilities and filter
//! on system calls, then its command. Called by the exec helper, in forked children that have one thread.
//!
//! The order follows from what each step needs of the one before: control groups are reached through the
//! host's files, namespaces by the host's privileges, and the filter is set while that is still allowed. The
//! runtime library's own way in is not taken: it forgets the filter, and knows only containers that it made.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Write,
    mem::ManuallyDrop,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use libcontainer::{
    capabilities, seccomp,
    syscall::{Syscall, syscall::create_syscall},
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::{
        prctl,
        stat::{Mode, umask},
    },
    unistd::{
        ForkResult, Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork, getcwd, setgroups,
        setresgid, setresuid, setsid,
    },
};
use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccomp, Process as Command, Spec};

use super::{Failure, embedded::reset_signals, exec_group::ExecGroup, executor};
use crate::protocol::{self, ExecEvent};

/// What a command is executed with.
pub(super) struct Entry<'a> {
    pub(super) command: &'a Command,
    pub(super) seccomp: Option<&'a LinuxSeccomp>,
    pub(super) namespaces: Vec<(CloneFlags, OwnedFd)>,
    pub(super) group: &'a ExecGroup,
    /// Standard input, output and error.
    pub(super) stdio: [OwnedFd; 3],
    /// Closed by the kernel when the command is executed; until then, why it is not.
    pub(super) failure: File,
}

/// Why a command is not executed: a shell's code for it, and words.
struct Refusal {
    code: i32,
    reason: Failure,
}

impl From<Failure> for Refusal {
    fn from(reason: Failure) -> Self {
        Self { code: 128, reason }
    }
}

/// The namespaces of the container's first process, those of its own only. Mount last: after it the
/// host's files are gone.
pub(super) fn namespaces(spec: &Spec, init: Pid) -> Result<Vec<(CloneFlags, OwnedFd)>, Failure> {
    use LinuxNamespaceType as Type;
    const KINDS: [(Type, &str, CloneFlags); 6] = [
        (Type::Cgroup, "cgroup", CloneFlags::CLONE_NEWCGROUP),
        (Type::Ipc, "ipc", CloneFlags::CLONE_NEWIPC),
        (Type::Uts, "uts", CloneFlags::CLONE_NEWUTS),
        (Type::Network, "net", CloneFlags::CLONE_NEWNET),
        (Type::Pid, "pid", CloneFlags::CLONE_NEWPID),
        (Type::Mount, "mnt", CloneFlags::CLONE_NEWNS),
    ];
    let own = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let opened = KINDS.iter().filter(|(kind, ..)| own.iter().any(|ns| ns.typ() == *kind)).map(|(_, name, flag)| {
        let path = format!("/proc/{init}/ns/{name}");
        let file = File::open(&path).map_err(|err| format!("cannot open {path}: {err}"))?;
        Ok((*flag, OwnedFd::from(file)))
    });
    opened.collect()
}

/// Forks the process that shall execute the command, and ends this one. The child falls to the nearest reaper above,
/// the helper; its pid goes to `pid`.
pub(super) fn enter_and_fork(entry: Entry<'_>, mut pid: File) -> ! {
    // This process and its child end without dropping anything: what is open is closed by the kernel, once.
    let entry = ManuallyDrop::new(entry);
    let code = match place(&entry) {
        // SAFETY: this process has one thread.
        Ok(()) => match unsafe { fork() } {
            Ok(ForkResult::Child) => become_command(&entry),
            Ok(ForkResult::Parent { child }) => i32::from(pid.write_all(&child.as_raw().to_le_bytes()).is_err()),
            Err(errno) => tell(&entry.failure, Failure::from(format!("cannot fork: {}", errno.desc())).into()),
        },
        Err(reason) => tell(&entry.failure, reason.into()),
    };
    // SAFETY: ends this process at once; what the helper has open is not ours to flush or close.
    unsafe { libc::_exit(code) }
}

/// What only the host's side can do: control groups, limits, namespaces.
fn place(entry: &Entry<'_>) -> Result<(), Failure> {
    entry.group.join().map_err(|err| format!("cannot join its control group: {err}"))?;
    if let Some(score) = entry.command.oom_score_adj() {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|err| format!("cannot set its OOM score: {err}"))?;
    }
    let syscall = create_syscall();
    for limit in entry.command.rlimits().iter().flatten() {
        syscall.set_rlimit(limit).map_err(|err| format!("cannot set its limits: {err}"))?;
    }
    for (kind, namespace) in &entry.namespaces {
        setns(namespace, *kind).map_err(|errno| format!("cannot join its namespaces: {}", errno.desc()))?;
    }
    Ok(())
}

fn become_command(entry: &Entry<'_>) -> ! {
    let code = match take_streams(entry) {
        Ok(failure) => match ready(entry.command, entry.seccomp) {
            Ok(words) => execute(&words),
            Err(refusal) => tell(&failure, refusal),
        },
        Err(errno) => tell(&entry.failure, Failure::from(format!("cannot take its streams: {}", errno.desc())).into()),
    };
    // SAFETY: as in `enter_and_fork`.
    unsafe { libc::_exit(code) }
}

/// Returns the code to end with.
fn tell(mut to: &File, refusal: Refusal) -> i32 {
    let Refusal { code, reason } = refusal;
    i32::from(to.write_all(&protocol::frame(&ExecEvent::Failed { code, reason })).is_err())
}

fn ready(command: &Command, filter: Option<&LinuxSeccomp>) -> Result<Words, Refusal> {
    prepare(command, filter)?;
    words(command)
}

/// Returns only if it fails, the code to end with. For whoever waits the command has begun: the words go where its own
/// would.
fn execute((path, args, env): &Words) -> i32 {
    let Err(errno) = execve(path, args, env);
    executor::say(&executor::not_executed(path, errno));
    executor::NOT_EXECUTED
}

/// All that a process of this container has given up and been given.
fn prepare(command: &Command, filter: Option<&LinuxSeccomp>) -> Result<(), Failure> {
    let step = |what: &'static str| move |errno: Errno| format!("cannot {what}: {}", errno.desc());
    reset_signals().map_err(step("reset signals"))?;
    setsid().map_err(step("begin a session"))?;
    if command.terminal().unwrap_or(false) {
        // SAFETY: TIOCSCTTY takes a number; standard input is the terminal that came with the request.
        if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
            return Err(step("take its terminal")(Errno::last()));
        }
    }
    umask(Mode::from_bits_truncate(0o022));
    let syscall = create_syscall();
    let no_new_privileges = command.no_new_privileges().unwrap_or(false);
    if no_new_privileges {
        prctl::set_no_new_privs().map_err(step("give up new privileges"))?;
    }
    let user = command.user();
    let cwd = command.cwd();
    // As root first: the user may not reach the directory that the container was given.
    let entered = chdir(cwd);
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).map_err(step("set its groups"))?;
    become_user(Uid::from_raw(user.uid()), Gid::from_raw(user.gid())).map_err(step("set its user"))?;
    // A user that is not root has lost what the following steps need, for a moment.
    capabilities::reset_effective(syscall.as_ref()).map_err(|err| format!("cannot set its user: {err}"))?;
    let install = |filter: Option<&LinuxSeccomp>| match filter {
        Some(filter) => {
            seccomp::initialize_seccomp(filter).map(drop).map_err(|err| format!("cannot set its filter: {err}"))
        }
        None => Ok(()),
    };
    // Without "no new privileges" the filter needs the privilege that is about to go.
    install(filter.filter(|_| !no_new_privileges))?;
    drop_capabilities(command, syscall.as_ref())?;
    if entered.is_err() {
        chdir(cwd).map_err(|errno| not_entered(cwd, errno))?;
    }
    // A directory of the host, reached through something that was open, has no name here.
    getcwd().map_err(|_| format!("the directory {} is outside the container", cwd.display()))?;
    install(filter.filter(|_| no_new_privileges))
}

/// Ends with what to do: commands and containers are given their directory alike.
fn not_entered(cwd: &Path, errno: Errno) -> String {
    let what_next = match errno {
        Errno::ENOENT => "make it in the container, or choose another with --workdir",
        Errno::EACCES => "choose another with --workdir, or another user",
        _ => "choose another with --workdir",
    };
    format!("cannot enter the directory {}: {}; {what_next}", cwd.display(), errno.desc().to_lowercase())
}

/// Capabilities stay permitted until they are dropped on purpose.
fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    prctl::set_keepcaps(true)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    prctl::set_keepcaps(false)
}

fn drop_capabilities(command: &Command, syscall: &dyn Syscall) -> Result<(), Failure> {
    match command.capabilities() {
        Some(set) => {
            capabilities::drop_privileges(set, syscall).map_err(|err| format!("cannot drop privileges: {err}"))
        }
        None => Ok(()),
    }
}

/// Takes the three standard streams and closes every other descriptor of the host but the one for failures, which
/// becomes the fourth.
fn take_streams(entry: &Entry<'_>) -> Result<File, Errno> {
    const KEPT: i32 = 3;
    let [stdin, stdout, stderr] = &entry.stdio;
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    let failure = entry.failure.as_raw_fd();
    // SAFETY: both are plain numbers to the kernel; what was number 3 is one that the next call would close anyway.
    if failure != KEPT && unsafe { libc::dup3(failure, KEPT, libc::O_CLOEXEC) } < 0 {
        return Err(Errno::last());
    }
    // SAFETY: nothing of them is used by this process from here on, and their owners are never dropped.
    if unsafe { libc::close_range(KEPT.unsigned_abs() + 1, libc::c_uint::MAX, 0) } < 0 {
        return Err(Errno::last());
    }
    // SAFETY: it is open, as of above, and has no other owner that is ever dropped.
    Ok(unsafe { File::from_raw_fd(KEPT) })
}

type Words = (CString, Vec<CString>, Vec<CString>);

fn words(command: &Command) -> Result<Words, Refusal> {
    let not_found = |reason: String| {
        let code = if reason.ends_with("permission denied") { 126 } else { 127 };
        Refusal { code, reason }
    };
    let path = executor::find(command).and_then(|path| executor::c_string(&path)).map_err(not_found)?;
    let env = command.env().iter().flatten().map(|entry| executor::c_string(entry));
    Ok((path, executor::arguments(command)?, env.collect::<Result<_, _>>()?))
}
