//! The helper that runs one more command in a container: enters it, waits for the command's end, and ends with it.
//! Run only as `rswarm-shim DIRECTORY exec`, with a socket to the library as its standard input.
//!
//! The library hands over the command's standard streams and reads them itself. When its end of the socket
//! closes, because the time is over or the daemon died, the command is killed with all that it has started:
//! a command that nobody waits for must not pile up in the container.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
};

use nix::{
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, sigprocmask},
        stat::{Mode, SFlag, fstat},
    },
    unistd::{ForkResult, Pid, Uid, chdir, dup2_stdin, fchown, fork, isatty, pipe2, setsid},
};
use oci_spec::runtime::{LinuxSeccomp, Process as Command, Spec};

use super::{
    Failure,
    enter::{self, Entry},
    exec_group::ExecGroup,
    reap::{ChildSignal, End, ended_child, wait_for},
};
use crate::{
    cgroup::CgroupLayout,
    fds, launch, oci,
    process::Process,
    protocol::{self, ExecEvent, ExecRequest},
    record::ContainerDir,
};

/// The whole program.
pub(super) fn main(dir: &ContainerDir) -> ExitCode {
    // Without the socket there is nobody to tell.
    let Ok(control) = detach() else { return ExitCode::FAILURE };
    match serve(dir, &control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            send(&control, &ExecEvent::Failed { code: 128, reason });
            ExitCode::FAILURE
        }
    }
}

/// Leaves the daemon's session; the socket moves away from standard input.
fn detach() -> Result<UnixStream, Failure> {
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(|err| err.to_string())?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(|e| e.to_string())?;
    dup2_stdin(&null).map_err(|errno| errno.to_string())?;
    Ok(control.into())
}

fn serve(dir: &ContainerDir, control: &UnixStream) -> Result<(), Failure> {
    let say = |what: &'static str| move |errno: nix::Error| format!("cannot {what}: {}", errno.desc());
    setsid().map_err(say("begin a session"))?;
    chdir("/").map_err(say("leave the daemon's directory"))?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).map_err(say("block signals"))?;
    prctl::set_child_subreaper(true).map_err(say("become the reaper of the command"))?;
    // What enters the container must not be read or traced from inside it before it is the command.
    prctl::set_dumpable(false).map_err(say("hide from the container"))?;
    let children = ChildSignal::new()?;
    let (request, stdio) = receive(control)?;
    let text = |err: io::Error| err.to_string();
    let record = dir.record().map_err(text)?.ok_or_else(|| format!("{} has no record", dir.path().display()))?;
    let spec = Spec::load(dir.path().join("config.json")).map_err(|err| format!("cannot read its bundle: {err}"))?;
    let base = spec.process().as_ref().ok_or("its bundle names no process")?;
    let held = match request.privileged {
        true => launch::capabilities().map(|(effective, _)| effective).map_err(text)?,
        false => 0,
    };
    let command = oci::exec_process(base, &request, held).map_err(|err| format!("cannot form the command: {err}"))?;
    let init = dir.init().map_err(text)?.ok_or("it has no first process")?.process;
    let namespaces = enter::namespaces(&spec, Pid::from_raw(init.pid))?;
    // Asked after they were opened: a pid that belongs to another process by now would have led to others.
    if !init.is_alive() {
        return Err("it has ended".to_owned());
    }
    give_to(&stdio, command.user().uid()).map_err(say("give the streams to its user"))?;
    let me = Process::of_pid(std::process::id().cast_signed()).ok_or("/proc is not mounted")?;
    let layout = match request.layout {
        Some(layout) => layout,
        None => CgroupLayout::detect().map_err(text)?,
    };
    let group = ExecGroup::create(&layout, &record.cgroup_path, me)
        .map_err(|err| format!("cannot make a control group: {err}"))?;
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let outcome = run(&command, seccomp, namespaces, &group, stdio, control, &children);
    let cleared = if matches!(outcome, Ok(Outcome::Abandoned) | Err(_)) { group.kill() } else { group.dissolve() };
    // Told last: who hears of the end may remove the container at once.
    match outcome? {
        Outcome::Said(event) => send(control, &event),
        Outcome::Abandoned => {}
    }
    cleared.map_err(|err| format!("cannot remove the command's control group: {err}"))
}

/// How the command ended, for whoever asked.
enum Outcome {
    Said(ExecEvent),
    /// Nobody waits any more; it was killed.
    Abandoned,
}

fn run(
    command: &Command,
    seccomp: Option<&LinuxSeccomp>,
    namespaces: Vec<(nix::sched::CloneFlags, OwnedFd)>,
    group: &ExecGroup,
    stdio: [OwnedFd; 3],
    control: &UnixStream,
    children: &ChildSignal,
) -> Result<Outcome, Failure> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| format!("cannot make a pipe: {}", errno.desc()));
    let ((pid, pid_theirs), (failure, failure_theirs)) = (pipe()?, pipe()?);
    let failure_theirs = File::from(failure_theirs);
    let entry = Entry { command, seccomp, namespaces, group, stdio, failure: failure_theirs };
    // SAFETY: this process has one thread, so its child may do anything, also allocate.
    let entering = match unsafe { fork() }.map_err(|errno| format!("cannot fork: {}", errno.desc()))? {
        ForkResult::Child => enter::enter_and_fork(entry, File::from(pid_theirs)),
        ForkResult::Parent { child } => child,
    };
    drop((entry, pid_theirs));
    wait_for(entering).map_err(|errno| format!("cannot wait for the entering process: {}", errno.desc()))?;
    let (mut bytes, mut failure) = ([0; 4], File::from(failure));
    if File::from(pid).read_exact(&mut bytes).is_err() {
        return said_failure(&mut failure).map(Outcome::Said);
    }
    let child = Pid::from_raw(i32::from_le_bytes(bytes));
    look_after(child, failure, group, control, children)
}

/// Until the command has ended, or nobody waits for it any more.
fn look_after(
    child: Pid,
    failure: File,
    group: &ExecGroup,
    control: &UnixStream,
    children: &ChildSignal,
) -> Result<Outcome, Failure> {
    let mut failure = Some(failure);
    loop {
        children.clear();
        let ended = ended_child(child);
        let (is_executed, is_abandoned) = match (&failure, ended) {
            (Some(_), Some(_)) => (true, false), // the pipe has all that there will be
            (_, Some(_)) => (false, false),
            (pending, None) => wait(pending.as_ref(), control, children)?,
        };
        if is_abandoned {
            group.signal_kill();
            wait_for(child).ok();
            return Ok(Outcome::Abandoned);
        }
        if let Some(mut pipe) = failure.take_if(|_| is_executed) {
            let mut first = [0];
            if pipe.read(&mut first).unwrap_or(0) > 0 {
                let refused = said_failure(&mut (&first[..]).chain(pipe));
                wait_for(child).ok();
                return refused.map(Outcome::Said);
            }
            send(control, &ExecEvent::Started { pid: child.as_raw() });
        }
        if let Some(end) = ended {
            let code = match end {
                End::Code(code) => code,
                End::Signal(number) => 128 + number,
            };
            return Ok(Outcome::Said(ExecEvent::Ended { code }));
        }
    }
}

/// Sleeps until something happens: whether the pipe for failures has something to say or has ended, and whether the
/// library has gone.
fn wait(failure: Option<&File>, control: &UnixStream, children: &ChildSignal) -> Result<(bool, bool), Failure> {
    let entry = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds = vec![entry(children.fd()), entry(control.as_fd())];
    fds.extend(failure.map(|pipe| entry(pipe.as_fd())));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(errno) => return Err(format!("cannot wait for the command: {}", errno.desc())),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
    // The library says nothing after its request: whatever comes is its end.
    Ok((ready.get(2).copied().unwrap_or(false), ready[1]))
}

/// The words of the process that could not become the command.
fn said_failure(pipe: &mut impl Read) -> Result<ExecEvent, Failure> {
    let mut said = Vec::new();
    pipe.take(protocol::MAX_MESSAGE as u64).read_to_end(&mut said).ok();
    match protocol::unframe::<ExecEvent>(&said) {
        Ok(Some((event, _))) => Ok(event),
        _ => Err("the process that should have become the command ended without a word".to_owned()),
    }
}

/// The library may be gone; then its end is seen where it is waited for.
fn send(mut control: &UnixStream, event: &ExecEvent) {
    control.write_all(&protocol::frame(event)).ok();
}

/// The request, and the command's standard streams.
fn receive(control: &UnixStream) -> Result<(ExecRequest, [OwnedFd; 3]), Failure> {
    let say = |err: io::Error| format!("cannot read the request: {err}");
    let (mut received, mut fds) = (vec![0_u8; protocol::MAX_MESSAGE + 4], Vec::new());
    let mut length = fds::receive(control.as_fd(), &mut received, &mut fds).map_err(say)?;
    let request = loop {
        if let Some((request, _)) = protocol::unframe(&received[..length])? {
            break request;
        }
        match (&*control).read(&mut received[length..]).map_err(say)? {
            0 => return Err("the request ends in its middle".to_owned()),
            more => length += more,
        }
    };
    let fds = fds.try_into().map_err(|_| "the request comes without three descriptors".to_owned())?;
    Ok((request, fds))
}

/// A terminal comes from the container's own devpts, made for this command.
fn is_terminal(stream: &OwnedFd) -> bool {
    isatty(stream).unwrap_or(false)
}

/// A program that is not root opens /dev/stdout anew: it must own what it opens.
fn give_to(stdio: &[OwnedFd; 3], uid: u32) -> nix::Result<()> {
    for stream in stdio {
        let kind = SFlag::from_bits_truncate(fstat(stream)?.st_mode & SFlag::S_IFMT.bits());
        if kind == SFlag::S_IFIFO || is_terminal(stream) {
            fchown(stream, Some(Uid::from_raw(uid)), None)?;
        }
    }
    Ok(())
}
