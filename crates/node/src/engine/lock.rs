//! One daemon per state directory.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::fd::AsFd,
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};

use super::EngineError;

const FILE_NAME: &str = "daemon.lock";

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
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                // Who holds it is a courtesy; the refusal stands without it.
                let _ = file.read_to_string(&mut holder);
                let pid = holder.trim().parse().unwrap_or(0);
                return Err(EngineError::InUse { pid, state_dir: state_dir.to_owned() });
            }
            Err((_, errno)) => return Err(EngineError::file("lock", &path, errno.into())),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

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
