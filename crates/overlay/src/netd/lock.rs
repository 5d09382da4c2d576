//! A pid file, locked by the process it names: never two of a kind, and never a wrong pid killed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

use super::NetdError;

/// Of the data plane process.
pub const PID_FILE: &str = "netd.pid";

/// Held for the life of the process; the kernel gives it up when the process ends, however it ends.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the file `name` and writes this process's id.
    pub fn take(state_dir: &Path, name: &str) -> Result<Self, NetdError> {
        let path = state_dir.join(name);
        let mut file = open(&path)?;
        match fcntl(&file, FcntlArg::F_SETLK(&whole_file())) {
            Ok(_) => {}
            Err(Errno::EACCES | Errno::EAGAIN) => {
                return Err(NetdError::Running {
                    pid: holder(state_dir, name)?.unwrap_or(0),
                    path: state_dir.to_owned(),
                });
            }
            Err(error) => return Err(failed("lock", &path)(error.into())),
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed("write", &path))?;
        Ok(Self { _file: file })
    }
}

/// The process that holds the lock, as the kernel says, or None.
pub fn holder(state_dir: &Path, name: &str) -> Result<Option<i32>, NetdError> {
    let path = state_dir.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let file = open(&path)?;
    let mut question = whole_file();
    fcntl(&file, FcntlArg::F_GETLK(&mut question))
        .map_err(|error| failed("ask for the lock of", &path)(error.into()))?;
    let is_held = question.l_type != libc::F_UNLCK as libc::c_short;
    Ok(is_held.then_some(question.l_pid))
}

fn open(path: &Path) -> Result<File, NetdError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(failed("open", path))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetdError {
    let path = path.to_owned();
    move |source| NetdError::File { doing, path, source }
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
