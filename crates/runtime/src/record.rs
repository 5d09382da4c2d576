//! What is known about one container, as files in its directory. The library writes `container.json`
//! and `config.json` (the OCI bundle) before the shim starts; the shim alone writes the other files. Files
//! are replaced by rename, so a reader sees a whole one or none. The directory is on a volatile
//! file system: nothing here has to survive the machine, everything has to survive the daemon.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{config::LogConfig, config::OciRuntime, process::Process};

/// Everything the shim has to know, and what the library wants to find again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) created_at_ns: u64,
    pub(crate) oci_runtime: OciRuntime,
    /// Absolute within the cgroup hierarchy, e.g. `/rswarm/<id>`.
    pub(crate) cgroup_path: String,
    pub(crate) log: LogConfig,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
    pub(crate) init: bool,
    /// The user of the first process; owns the pipes of its standard streams.
    pub(crate) uid: u32,
}

/// The container's first process, written by the shim after creation and after start.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct InitFile {
    pub(crate) process: Process,
    /// 0 before the start.
    pub(crate) started_at_ns: u64,
}

/// Why a container has the exit code it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The process ended by itself or by a signal; the shim saw it.
    Observed,
    /// The shim was killed, so nobody saw the exit; the code is 137 and what was left has been killed.
    ShimLost,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit code; 128 plus the signal's number if a signal ended it.
    pub code: i32,
    /// The number of the signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of this container for want of memory.
    pub oom_killed: bool,
    /// Nanoseconds since 1970; 0 if it was never started.
    pub started_at_ns: u64,
    pub finished_at_ns: u64,
    pub reason: ExitReason,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Everything is set up; the command has not been executed.
    Created,
    Running,
    Paused,
    Stopped(ExitStatus),
}

/// One container, as found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    pub id: String,
    pub status: Status,
    /// The container's first process, in the daemon's pid namespace; `None` once it ended.
    pub pid: Option<i32>,
    pub shim_pid: Option<i32>,
    pub labels: BTreeMap<String, String>,
    pub created_at_ns: u64,
    /// 0 if it was never started.
    pub started_at_ns: u64,
    pub log_path: PathBuf,
    pub tty: bool,
    pub open_stdin: bool,
}

/// A container that is ready to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Its first process, in the daemon's pid namespace.
    pub pid: i32,
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub(crate) struct ContainerDir(PathBuf);

impl ContainerDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What the shim says to people.
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    pub(crate) fn oci_root(&self) -> PathBuf {
        self.0.join("oci")
    }

    pub(crate) fn record(&self) -> io::Result<Option<Record>> {
        self.read("container.json")
    }

    pub(crate) fn write_record(&self, record: &Record) -> io::Result<()> {
        self.write("container.json", record)
    }

    pub(crate) fn shim(&self) -> io::Result<Option<Process>> {
        self.read("shim.json")
    }

    pub(crate) fn write_shim(&self, shim: Process) -> io::Result<()> {
        self.write("shim.json", &shim)
    }

    pub(crate) fn init(&self) -> io::Result<Option<InitFile>> {
        self.read("init.json")
    }

    pub(crate) fn write_init(&self, init: InitFile) -> io::Result<()> {
        self.write("init.json", &init)
    }

    pub(crate) fn exit(&self) -> io::Result<Option<ExitStatus>> {
        self.read("exit.json")
    }

    pub(crate) fn write_exit(&self, exit: &ExitStatus) -> io::Result<()> {
        self.write("exit.json", exit)
    }

    /// `None` if there is no such file; a file that does not parse is an error that names it.
    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.0.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(named(&path, &err)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|err| named(&path, &err.into()))
    }

    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let (path, temporary) = (self.0.join(name), self.0.join(format!(".{name}.new")));
        let bytes = serde_json::to_vec(value)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|err| named(&temporary, &err))?;
        file.write_all(&bytes).map_err(|err| named(&temporary, &err))?;
        fs::rename(&temporary, &path).map_err(|err| named(&path, &err))
    }
}

fn named(path: &Path, err: &io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{}: {err}", path.display()))
}
