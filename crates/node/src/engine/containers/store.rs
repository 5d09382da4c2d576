//! What is kept of a single container: one directory each, with one file that is replaced whole.
//!
//! `<state_dir>/containers/<id>/container.json` survives a reboot; the log lies beside it. Containers of tasks have their logs
//! there too, and no record.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use types::{PortConfig, Timestamp};

use super::spec::SingleSpec;
use crate::engine::{container_id::task_of_container, health::HealthSettings};

const FILE: &str = "container.json";

/// A container as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct Record {
    pub id: String,
    pub name: String,
    pub created_at: Timestamp,
    /// The image's id, `sha256:…`.
    pub image: String,
    pub spec: SingleSpec,
    /// What the image and the spec make together.
    pub merged: Merged,
    pub points: Vec<MountPoint>,
    #[serde(default)]
    pub health: Option<HealthSettings>,
    pub state: State,
}

impl Record {
    pub(in crate::engine) fn host_names(&self) -> Vec<String> {
        host_names(&self.merged.hostname, &self.spec.domainname)
    }
}

/// A host name, and before it that with its domain, if it has one.
pub fn host_names(host: &str, domain: &str) -> Vec<String> {
    if host.is_empty() {
        return Vec::new();
    }
    let whole = (!domain.is_empty()).then(|| format!("{host}.{domain}"));
    whole.into_iter().chain([host.to_owned()]).collect()
}

/// The command and its surroundings, the image's taken in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Merged {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub dir: String,
    pub user: String,
    pub hostname: String,
    pub labels: types::Labels,
    pub stop_signal: String,
    pub exposed: std::collections::BTreeSet<(u16, types::PortProtocol)>,
    /// The image's own.
    pub volumes: Vec<String>,
    /// What was asked for over the image's, as clients read it.
    #[serde(default)]
    pub health: Option<types::HealthCheck>,
}

/// Something of the host, at a place in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    pub kind: PointKind,
    pub target: String,
    pub read_only: bool,
    /// Docker's word for how it was asked for, for showing.
    #[serde(default)]
    pub mode: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PointKind {
    Bind {
        source: String,
        propagation: String,
        #[serde(default)]
        non_recursive: bool,
        #[serde(default)]
        read_only_non_recursive: bool,
    },
    Volume {
        name: String,
        /// Its directory on the host.
        source: PathBuf,
        /// It was made for this container.
        is_anonymous: bool,
        /// The part of it that is mounted; empty: all of it.
        #[serde(default)]
        subpath: String,
    },
    Image {
        /// As the user wrote it.
        name: String,
        /// The image's id.
        image: String,
        /// Where its files are on the host.
        source: PathBuf,
        subpath: String,
    },
    Tmpfs {
        size_bytes: u64,
        mode: u32,
        #[serde(default)]
        options: Vec<String>,
        /// Asked for as a mount: Docker lists only these.
        #[serde(default)]
        is_listed: bool,
    },
}

/// Where in its life it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Phase {
    #[default]
    Created,
    Running,
    /// It ended and will be started again.
    Restarting,
    Exited,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub phase: Phase,
    pub pid: u32,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub exit_code: i32,
    pub error: String,
    pub oom_killed: bool,
    pub restarts: u32,
    /// Somebody stopped it by hand.
    pub is_hand_stopped: bool,
    /// Published, every one with its number, while it runs.
    pub ports: Vec<PortConfig>,
}

impl State {
    /// How long its last run was, once it has ended.
    pub(super) fn ran_for(&self) -> Duration {
        self.finished_at.since(self.started_at)
    }
}

/// The directory of all.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { root: state_dir.join("containers") }
    }

    pub(super) fn directory(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// All that can be read; what cannot is left alone and named. Blocking.
    pub(super) fn load(&self) -> io::Result<Vec<Record>> {
        fs::create_dir_all(&self.root)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| task_of_container(name).is_some()) {
                continue;
            }
            let path = entry.path().join(FILE);
            let read = fs::read(&path).map(|bytes| serde_json::from_slice::<Record>(&bytes));
            match read {
                Ok(Ok(record)) => found.push(record),
                Ok(Err(error)) => {
                    tracing::error!(path = %path.display(), %error, "a container's record is damaged; it stays out");
                }
                // A creation or removal that was broken off.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Some(directory) = path.parent() {
                        fs::remove_dir_all(directory)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Blocking, well below a millisecond: nothing waits for the disk, a power cut may lose the newest state.
    pub(super) fn save(&self, record: &Record) -> io::Result<()> {
        let directory = self.directory(&record.id);
        fs::create_dir_all(&directory)?;
        let (path, temporary) = (directory.join(FILE), directory.join(".container.json.new"));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        fs::rename(&temporary, &path)
    }

    /// The record goes first: what is left of the directory then is nobody's.
    pub(super) fn remove(&self, id: &str) -> io::Result<()> {
        let directory = self.directory(id);
        for result in [fs::remove_file(directory.join(FILE)), fs::remove_dir_all(&directory)] {
            match result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-42: an end tells how long the run was, and what a clock that was set back makes of it is nothing.
    #[test]
    fn e_42_how_long_a_run_was() {
        let ran = |from, to| {
            let (started_at, finished_at) = (Timestamp::from_unix_ms(from), Timestamp::from_unix_ms(to));
            State { started_at, finished_at, ..State::default() }.ran_for().as_secs()
        };
        assert_eq!([ran(1000, 6999), ran(1000, 1999), ran(5000, 1000)], [5, 0, 0]);
    }

    #[test]
    fn records_come_back_and_remnants_go() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::new(dir.path());
        let record = Record {
            id: "ab".into(),
            name: "web".into(),
            created_at: Timestamp::from_unix_ms(5),
            image: "sha256:0".into(),
            spec: SingleSpec { image: "app:1".into(), ..SingleSpec::default() },
            merged: Merged::default(),
            points: Vec::new(),
            health: None,
            state: State::default(),
        };
        store.save(&record).expect("saved");
        let of_task = crate::engine::container_id(types::TaskId::from_random(7));
        for id in ["cd", of_task.as_str()] {
            fs::create_dir_all(store.directory(id)).expect("a directory without a record");
        }
        assert_eq!(store.load().expect("loaded"), [record]);
        assert!(!store.directory("cd").exists(), "a remnant");
        assert!(store.directory(&of_task).exists(), "the log of a task");
        store.remove("ab").expect("removed");
        store.remove("ab").expect("again is fine");
        assert!(store.load().expect("loaded").is_empty());
    }
}
