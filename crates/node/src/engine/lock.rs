//! One daemon per state directory.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::fd::AsFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

use super::EngineError;

const FILE_NAME: &str = "daemon.lock";

/// A daemon that is killed while it starts a process leaves a copy of the lock in the child, until that one executes its
/// program: a moment, and longer on a busy host.
const CHILD_PATIENCE: Duration = Duration::from_secs(5);
const CHILD_PAUSE: Duration = Duration::from_millis(20);

/// Held for the life of the engine; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<File>,
}

impl StateLock {
    /// Takes the lock of `state_dir` and writes this process's id into it.
    ///
    /// # Errors
    /// [`EngineError::InUse`] names the process that holds it.
    pub fn take(state_dir: &Path) -> Result<Self, EngineError> {
        let path = state_dir.join(FILE_NAME);
        let mut options = OpenOptions::new();
        let file = options.create(true).read(true).write(true).truncate(false).open(&path);
        let file = file.map_err(|source| EngineError::file("open", &path, source))?;
        let mut lock = acquire(file, state_dir, &path)?;
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        written.map_err(|source| EngineError::file("write", &path, source))?;
        // Children must not inherit it: a shim that outlives us would hold the lock.
        nix::fcntl::fcntl(lock.as_fd(), nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))
            .map_err(|errno| EngineError::file("lock", &path, errno.into()))?;
        Ok(Self { _file: lock })
    }
}

/// Waits for a lock whose owner is dead; one that lives keeps it.
fn acquire(mut file: File, state_dir: &Path, path: &Path) -> Result<Flock<File>, EngineError> {
    let begin = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((refused, nix::errno::Errno::EWOULDBLOCK)) => file = refused,
            Err((_, errno)) => return Err(EngineError::file("lock", path, errno.into())),
        }
        let mut holder = String::new();
        // Who holds it is a courtesy; the refusal stands without it.
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
        let pid = holder.trim().parse().unwrap_or(0);
        if is_alive(pid) || begin.elapsed() > CHILD_PATIENCE {
            return Err(EngineError::InUse { pid, state_dir: state_dir.to_owned() });
        }
        thread::sleep(CHILD_PAUSE);
    }
}

/// Whether it still executes a program; a dead one that nobody has waited for does not.
fn is_alive(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-39: what a killed daemon's last child still holds is waited for.
    #[test]
    fn the_lock_of_a_dead_daemon_is_waited_for() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let held = StateLock::take(dir.path()).expect("free");
        // no process has this id: the kernel's numbers end below
        std::fs::write(dir.path().join(FILE_NAME), format!("{}\n", i32::MAX)).expect("write");
        let child = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(held);
        });
        StateLock::take(dir.path()).expect("free after a while");
        child.join().expect("it let go");
    }

    #[test]
    fn a_second_daemon_is_told_who_is_first() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = StateLock::take(dir.path()).expect("free");
        let error = StateLock::take(dir.path()).expect_err("taken").to_string();
        let want = format!("another rswarm daemon (pid {}) uses {}", std::process::id(), dir.path().display());
        assert!(error.starts_with(&want), "{error}");
        drop(first);
        StateLock::take(dir.path()).expect("free again");
    }
}
