//! What is written down about a lab: `/run/rswarm-lab/<name>/lab.json`, and the paths beside it.
//!
//! Each operation reads the file, and changes it under the lab's lock, so any number of processes
//! may work on one lab. The folder of a lab is one tmpfs: removing the lab is unmounting it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{ClusterSpec, Error, LabSpec, Name, ProcessId, lock};

/// Folder of all labs of this machine.
pub const ROOT: &str = "/run/rswarm-lab";

/// What is known about one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    pub name: Name,
    /// Place in the lab, from 1: the last number of its addresses.
    pub index: u8,
    /// Pid 1 of the host as the machine sees it; `None` after a kill.
    pub init: Option<ProcessId>,
    /// The `rswarm daemon`, once a cluster was started.
    #[serde(default)]
    pub daemon: Option<ProcessId>,
    /// Whether its cable is pulled.
    #[serde(default)]
    pub cut: bool,
}

/// What is known about one lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    pub spec: LabSpec,
    /// Third number of the addresses; no two labs share it.
    pub number: u8,
    pub creator: Option<ProcessId>,
    pub hosts: Vec<HostState>,
    /// Pairs of host indexes that may not talk.
    #[serde(default)]
    pub apart: Vec<(u8, u8)>,
    /// How the daemons are started, once a cluster was.
    #[serde(default)]
    pub cluster: Option<ClusterSpec>,
}

/// One line of `rswarm lab ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabSummary {
    pub name: String,
    /// `None` if the lab is half made.
    pub state: Option<LabState>,
}

impl LabState {
    /// The host of that name.
    pub fn host(&self, name: &str) -> Result<&HostState, Error> {
        self.hosts.iter().find(|h| h.name.as_str() == name).ok_or_else(|| self.unknown(name))
    }

    /// The host of that name, to be changed.
    pub(crate) fn host_mut(&mut self, name: &str) -> Result<&mut HostState, Error> {
        let unknown = self.unknown(name);
        self.hosts.iter_mut().find(|h| h.name.as_str() == name).ok_or(unknown)
    }

    fn unknown(&self, host: &str) -> Error {
        let known: Vec<&str> = self.hosts.iter().map(|h| h.name.as_str()).collect();
        Error::UnknownHost { lab: self.spec.name.to_string(), host: host.to_owned(), known: known.join(", ") }
    }
}

/// The paths of one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    pub dir: PathBuf,
}

impl Paths {
    pub fn of(lab: &str) -> Self {
        Self { dir: Path::new(ROOT).join(lab) }
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("lab.json")
    }

    pub fn host(&self, host: &str) -> PathBuf {
        self.dir.join(host)
    }

    /// Becomes the host's `/run/rswarm`.
    pub fn run(&self, host: &str) -> PathBuf {
        self.host(host).join("run")
    }

    /// Becomes the host's `/var/lib`, and outlives its processes.
    pub fn lib(&self, host: &str) -> PathBuf {
        self.host(host).join("lib")
    }

    /// Logs of what was spawned on the host.
    pub fn logs(&self, host: &str) -> PathBuf {
        self.host(host).join("log")
    }

    fn lock(&self) -> PathBuf {
        self.dir.join("lab.lock")
    }
}

/// Reads a lab's state; `None` if there is none, or it was never written whole.
pub fn read(lab: &str) -> Option<LabState> {
    serde_json::from_slice(&fs::read(Paths::of(lab).state()).ok()?).ok()
}

/// Writes a lab's state in one step: readers see the old or the new one.
pub fn write(state: &LabState) -> Result<(), Error> {
    let paths = Paths::of(state.spec.name.as_str());
    let next = paths.dir.join("lab.json.next");
    let text = serde_json::to_vec_pretty(state).map_err(io::Error::from).map_err(Error::io("encode", &next))?;
    fs::write(&next, text).map_err(Error::io("write", &next))?;
    fs::rename(&next, paths.state()).map_err(Error::io("rename", &next))
}

/// Reads, changes and writes the state under the lab's lock. Nothing is written if `change` fails.
pub fn change<T>(lab: &str, change: impl FnOnce(&mut LabState) -> Result<T, Error>) -> Result<T, Error> {
    let _lock = lock::take(&Paths::of(lab).lock())?;
    let mut state = read(lab).ok_or_else(|| Error::HalfMade { lab: lab.to_owned() })?;
    let result = change(&mut state)?;
    write(&state)?;
    Ok(result)
}

/// Names of all lab folders, sorted.
pub fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.parse::<Name>().is_ok())
        .collect();
    names.sort();
    names
}

/// The smallest number no lab has.
pub fn free_number(taken: &[u8]) -> Result<u8, Error> {
    (0..=u8::MAX).find(|n| !taken.contains(n)).ok_or(Error::NoNumberFree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gap_is_taken() {
        assert_eq!(free_number(&[]).unwrap(), 0);
        assert_eq!(free_number(&[0, 2, 1, 4]).unwrap(), 3);
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert!(matches!(free_number(&all), Err(Error::NoNumberFree)));
    }
}
