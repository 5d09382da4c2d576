//! The process beside a container: creates it, owns its output and its exit, and outlives the
//! daemon. Run only as the program `rswarm-shim`, with the container's directory as its argument; with the
//! word `exec` after it, it is the helper that runs one more command in the container (`exec`); with `dev`, a hook (`dev`).
//!
//! One thread, no async runtime, little memory: there is one such process per container. The memory
//! that setting up a container takes belongs to a forked child and goes with it. It must
//! never exit before the container has ended and its exit status is in the container's directory.
#![allow(unsafe_code)]

mod audience;
mod dev;
mod embedded;
mod enter;
mod exec;
mod exec_group;
mod executor;
mod external;
mod init;
mod reap;
mod serve;
mod stdio;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::{
    fcntl::{OFlag, open},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, sigprocmask},
        stat::{Mode, umask},
    },
    unistd::{ForkResult, chdir, dup2_stdin, dup2_stdout, fork, setsid},
};

use crate::{
    config::OciRuntime,
    fds,
    process::Process,
    protocol::{self, CreateResult},
    record::{ContainerDir, InitFile, Record},
};

/// What a step of the shim says when it cannot go on; it becomes the text of the library's error.
type Failure = String;

/// The program's second argument, for the helper of one more command.
pub(crate) const EXEC: &str = "exec";
/// The same, for the hook that lays a bind over /dev; the first is then a root filesystem.
pub(crate) const DEV: &str = "dev";

/// The whole program.
pub fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from).filter(|dir| dir.is_absolute()) else {
        let usage = b"rswarm-shim DIRECTORY [exec]: stands beside one container; the rswarm daemon starts it\n";
        io::stderr().write_all(usage).ok();
        return ExitCode::from(2);
    };
    match std::env::args_os().nth(2) {
        Some(word) if word == EXEC => return exec::main(&ContainerDir::new(dir)),
        Some(word) if word == DEV => return dev::main(&dir, &std::env::args_os().skip(3).collect::<Vec<_>>()),
        _ => {}
    }
    // SAFETY: this process has one thread, so its child has everything that it had.
    match unsafe { fork() } {
        // The daemon waits for this process only, so that the shim is nobody's child but init's.
        Ok(ForkResult::Parent { .. }) => return ExitCode::SUCCESS,
        Ok(ForkResult::Child) => {}
        Err(errno) => {
            io::stderr().write_all(format!("cannot fork: {errno}\n").as_bytes()).ok();
            return ExitCode::FAILURE;
        }
    }
    let dir = ContainerDir::new(dir);
    let prepared = detach(dir.path());
    let mut answer = match prepared {
        Ok(answer) => answer,
        Err(failure) => {
            io::stderr().write_all(failure.as_bytes()).ok();
            return ExitCode::FAILURE;
        }
    };
    let (shim, result) = match create(&dir) {
        Ok(shim) => {
            let pid = shim.init_pid();
            (Some(shim), CreateResult::Created { pid })
        }
        Err(failure) => (None, CreateResult::Failed(failure)),
    };
    // A daemon that died meanwhile finds the container by its directory.
    answer.write_all(&protocol::frame(&result)).ok();
    drop(answer);
    let Some(shim) = shim else { return ExitCode::FAILURE };
    match shim.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            io::stderr().write_all(format!("the shim of {} stops: {err}\n", dir.path().display()).as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}

/// Leaves the daemon's session, directory and standard streams. Returns the old standard output,
/// where the daemon waits for the result.
fn detach(dir: &Path) -> Result<File, Failure> {
    let say = |what: &'static str| move |errno: nix::Error| format!("cannot {what}: {errno}");
    setsid().map_err(say("begin a session"))?;
    prctl::set_child_subreaper(true).map_err(say("become the reaper of the container's processes"))?;
    // All signals wait: SIGCHLD is read from a descriptor, the others have nothing to say to a shim.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).map_err(say("block signals"))?;
    umask(Mode::from_bits_truncate(0o022));
    chdir(dir).map_err(|errno| format!("cannot enter {}: {errno}", dir.display()))?;
    let answer =
        io::stdout().as_fd().try_clone_to_owned().map_err(|err| format!("cannot keep standard output: {err}"))?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(say("open /dev/null"))?;
    dup2_stdin(&null).map_err(say("close standard input"))?;
    dup2_stdout(&null).map_err(say("close standard output"))?;
    Ok(File::from(answer))
}

/// Creates the container and everything needed to look after it.
fn create(dir: &ContainerDir) -> Result<serve::Shim, Failure> {
    let text = |err: io::Error| err.to_string();
    let record =
        dir.record().map_err(text)?.ok_or_else(|| format!("{} has no container.json", dir.path().display()))?;
    let me = Process::of_pid(std::process::id().cast_signed()).ok_or("/proc is not mounted")?;
    dir.write_shim(me).map_err(text)?;
    let log = crate::log::LogWriter::open(&record.log).map_err(text)?;
    let children = reap::ChildSignal::new()?;
    let mut stdio = stdio::Stdio::new(&record)?;
    let pid = match &record.oci_runtime {
        OciRuntime::Embedded => embedded::create(dir, &record, &mut stdio)?,
        OciRuntime::External(program) => external::create(program, dir, &record, &mut stdio)?,
    };
    let ours = stdio.into_ours()?;
    let process = Process::of_pid(pid).ok_or_else(|| format!("process {pid} of the container ended at once"))?;
    dir.write_init(InitFile { process, started_at_ns: 0 }).map_err(text)?;
    let listener = listen().map_err(|err| format!("cannot listen on {}: {err}", protocol::SOCKET))?;
    lower_oom_score();
    give_memory_back();
    forget_code();
    Ok(serve::Shim::new(dir.clone(), record, process, listener, children, ours, log))
}

/// The working directory is the container's, so the path is short however deep that is.
fn listen() -> io::Result<UnixListener> {
    fs::remove_file(protocol::SOCKET).or_else(|err| match err.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(err),
    })?;
    let listener = UnixListener::bind(protocol::SOCKET)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Where the daemon may, the kernel shall rather kill the container than its witness.
fn lower_oom_score() {
    fs::write("/proc/self/oom_score_adj", "-998").ok();
}

/// Returns free heap pages to the kernel.
fn give_memory_back() {
    // SAFETY: malloc_trim only looks at the allocator's own state, under its own lock.
    unsafe { libc::malloc_trim(0) };
}

/// Lets go of the program's pages that the creation has touched. They stay in the page cache, and those
/// that are needed again come back by themselves.
fn forget_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (begin, end) in maps.lines().filter_map(code_range) {
        // SAFETY: the range is executable and not writable, mapped from a file, so its pages hold nothing but
        // the file's own bytes, which the kernel reads again when this process comes by.
        unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_DONTNEED) };
    }
}

/// The addresses of a line of `/proc/PID/maps` that shows code of a file.
fn code_range(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let code = fields.next()? == "r-xp" && fields.nth(3)?.starts_with('/');
    let address = |text| usize::from_str_radix(text, 16).ok();
    if code { Some((address(begin)?, address(end)?)) } else { None }
}

/// What both kinds of runtime need to know about the record.
fn console_path(dir: &ContainerDir, record: &Record) -> Option<PathBuf> {
    record.tty.then(|| dir.path().join(stdio::CONSOLE))
}

/// Hands a descriptor to a child of ours.
fn give(fd: Option<OwnedFd>, what: &str) -> Result<OwnedFd, Failure> {
    fd.ok_or_else(|| format!("the container's {what} has already been given away"))
}
