//! The assignments of this node: how messages change them, and how they stay on its disk.
//!
//! Owned by the agent's loop. A message that does not fit the number it applies to changes nothing
//! and is answered by asking for the whole set. The file is replaced whole, with a checksum: a
//! damaged one is put aside and the node waits for a manager rather than guess, and until it has a
//! set again it removes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use types::{Assignment, AssignmentDiff, AssignmentSet, ManagerPeer, Payload, TaskId};

use super::report::Kept;
use crate::engine::dependencies::Dependencies;

/// What a manager sent.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Whole(AssignmentSet),
    Difference(AssignmentDiff),
}

/// The set and its number in the present session.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    set: AssignmentSet,
    /// `None` until the first whole set of a session has come.
    number: Option<u64>,
    /// False until some set was known at all: from disk or from a manager.
    known: bool,
}

/// A difference that belongs to another set than the one that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a difference applies to set {applies_to}, this node has {have:?}")]
pub(crate) struct OutOfStep {
    pub applies_to: u64,
    pub have: Option<u64>,
}

impl Assigned {
    pub(crate) fn restore(set: Option<AssignmentSet>) -> Self {
        Self { known: set.is_some(), set: set.unwrap_or_default(), number: None }
    }

    pub(crate) fn set(&self) -> &AssignmentSet {
        &self.set
    }

    /// Whether the set is one that a manager once sent, and not just empty for lack of any.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// The set as it may lie on a disk: without the data of secrets and configs and without credentials. What runs goes on without it, what
    /// does not run yet waits for a manager.
    pub(crate) fn kept(&self) -> Option<AssignmentSet> {
        let AssignmentSet { tasks, network, overlays, dependencies: _ } = &self.set;
        let kept = || AssignmentSet {
            tasks: tasks.iter().map(|(id, task)| (*id, without_auth(task))).collect(),
            network: network.clone(),
            overlays: overlays.clone(),
            ..AssignmentSet::default()
        };
        self.known.then(kept)
    }

    /// What a task has as files, as far as it is here.
    pub(crate) fn dependencies_of(&self, assignment: &Assignment) -> Dependencies {
        assignment.versions().filter_map(|id| Some((id, self.set.dependencies.get(&id)?.clone()))).collect()
    }

    /// A new session numbers its sets anew.
    pub(crate) fn session_began(&mut self) {
        self.number = None;
    }

    /// Takes a message in.
    ///
    /// # Errors
    /// [`OutOfStep`]: nothing was changed, the whole set must be asked for.
    pub(crate) fn apply(&mut self, applies_to: u64, results_in: u64, content: Content) -> Result<(), OutOfStep> {
        match content {
            Content::Whole(set) => self.set = set,
            Content::Difference(_) if self.number != Some(applies_to) => {
                return Err(OutOfStep { applies_to, have: self.number });
            }
            Content::Difference(difference) => self.set.apply(difference),
        }
        self.number = Some(results_in);
        self.known = true;
        Ok(())
    }
}

fn without_auth(assignment: &Assignment) -> Assignment {
    let mut assignment =
        Assignment { registry_auth: Payload::default(), mount_auths: BTreeMap::new(), ..assignment.clone() };
    if !assignment.spec.container.registry_auth.is_empty() {
        Arc::make_mut(&mut assignment.spec).container.registry_auth = Payload::default();
    }
    assignment
}

/// What the agent keeps on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Saved {
    pub set: Option<AssignmentSet>,
    pub reports: Kept,
    pub managers: Vec<ManagerPeer>,
    /// Tasks whose container its health check has found healthy: a daemon that finds them need not wait for that
    /// again before it calls them RUNNING.
    pub healthy: BTreeSet<TaskId>,
}

const FILE_NAME: &str = "agent.state";
const MAGIC: &[u8; 8] = b"rswarm01";
const HEADER: usize = 8 + 32;

/// The agent's file.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    path: PathBuf,
}

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    #[error("{operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
}

impl StateFile {
    /// The file in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn in_directory(directory: &Path) -> Result<Self, StateFileError> {
        let file = Self { path: directory.join(FILE_NAME) };
        fs::create_dir_all(directory).map_err(|source| file.error("make the directory of", source))?;
        Ok(file)
    }

    /// What was saved; nothing if there is no file or it is damaged, in which case it is moved aside
    /// so that it can be looked at.
    ///
    /// # Errors
    /// When the file cannot be read or moved.
    pub(crate) fn load(&self) -> Result<Saved, StateFileError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
            Err(source) => return Err(self.error("read", source)),
        };
        if let Some(saved) = decode(&bytes) {
            return Ok(saved);
        }
        let aside = self.path.with_extension("damaged");
        tracing::warn!(
            file = %self.path.display(), kept_as = %aside.display(),
            "the kept assignments are damaged; containers are left alone until a manager is reached"
        );
        fs::rename(&self.path, &aside).map_err(|source| self.error("move aside", source))?;
        Ok(Saved::default())
    }

    /// Replaces the file in one step; the old one stays until the new one is on the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, saved: &Saved) -> Result<(), StateFileError> {
        let temporary = self.path.with_extension("new");
        let bytes = encode(saved);
        let write = || {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            fs::rename(&temporary, &self.path)
        };
        write().map_err(|source| self.error("write", source))
    }

    /// Removes the file: the node left its cluster.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub(crate) fn remove(&self) -> Result<(), StateFileError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("remove", error)),
            _ => Ok(()),
        }
    }

    fn error(&self, operation: &'static str, source: io::Error) -> StateFileError {
        StateFileError::Io { operation, path: self.path.clone(), source }
    }
}

fn encode(saved: &Saved) -> Vec<u8> {
    let body = proto::encode(saved);
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&Sha256::digest(&body));
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Saved> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let (magic, checksum) = header.split_at(MAGIC.len());
    (magic == MAGIC && checksum == Sha256::digest(body).as_slice()).then(|| proto::decode(body).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::assignment;

    fn whole(ids: &[u128]) -> Content {
        let tasks = ids.iter().map(|n| assignment(*n)).map(|a| (a.id, a)).collect();
        Content::Whole(AssignmentSet { tasks, ..AssignmentSet::default() })
    }

    fn difference(upsert: &[u128], remove: &[u128]) -> Content {
        Content::Difference(AssignmentDiff {
            upsert: upsert.iter().map(|n| assignment(*n)).collect(),
            remove: remove.iter().map(|n| TaskId::from_random(*n)).collect(),
            ..AssignmentDiff::default()
        })
    }

    fn ids(assigned: &Assigned) -> Vec<u128> {
        assigned.set().tasks.keys().map(|id| id.as_u128()).collect()
    }

    #[test]
    fn whole_first_then_differences_in_step() {
        let mut assigned = Assigned::restore(None);
        assert!(!assigned.is_known());
        assert!(assigned.apply(0, 1, difference(&[9], &[])).is_err(), "no whole set yet");
        assigned.apply(0, 7, whole(&[1, 2])).expect("whole");
        assigned.apply(7, 8, difference(&[3], &[1])).expect("in step");
        assert_eq!((ids(&assigned), assigned.is_known()), (vec![2, 3], true));
        let error = assigned.apply(7, 8, difference(&[4], &[])).expect_err("doubled");
        assert_eq!((error, ids(&assigned)), (OutOfStep { applies_to: 7, have: Some(8) }, vec![2, 3]));
        assigned.session_began();
        assert!(assigned.apply(8, 9, difference(&[4], &[])).is_err(), "another session counts anew");
    }

    #[test]
    fn what_is_saved_is_found_again() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = StateFile::in_directory(dir.path()).expect("its directory");
        assert_eq!(file.load().expect("no file"), Saved::default());
        let mut assigned = Assigned::default();
        assigned.apply(0, 1, whole(&[1, 2])).expect("whole");
        let saved = Saved { set: Some(assigned.set().clone()), ..Saved::default() };
        file.save(&saved).expect("save");
        assert_eq!(file.load().expect("load"), saved);
        file.remove().expect("remove");
        assert_eq!(file.load().expect("gone"), Saved::default());
    }

    #[test]
    fn x02_data_of_secrets_is_not_kept() {
        let id = types::DependencyId::from_random(1);
        let data = types::Payload::new(b"hunter2".to_vec());
        let dependency = types::AssignedDependency { data, is_template: false };
        let set = AssignmentSet { dependencies: [(id, dependency)].into(), ..AssignmentSet::default() };
        let mut assigned = Assigned::default();
        assigned.apply(0, 1, Content::Whole(set)).expect("whole");
        let saved = encode(&Saved { set: assigned.kept(), ..Saved::default() });
        assert!(!saved.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(assigned.set().dependencies.len(), 1, "it is there in memory");
    }

    #[test]
    fn s_21_credentials_for_a_registry_are_not_on_the_disk() {
        let mut task = assignment(1);
        Arc::make_mut(&mut task.spec).container.registry_auth = Payload::new(b"hunter2".to_vec());
        task.mount_auths = [("registry.example/files".to_owned(), Payload::new(b"hunter2".to_vec()))].into();
        let set = AssignmentSet { tasks: [(task.id, task)].into(), ..AssignmentSet::default() };
        let mut assigned = Assigned::default();
        assigned.apply(0, 1, Content::Whole(set)).expect("whole");
        let saved = encode(&Saved { set: assigned.kept(), ..Saved::default() });
        assert!(!saved.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(ids(&assigned), [1]);
        assert!(!format!("{:?}", assigned.set()).contains("hunter2"), "nor in a log");
    }

    #[test]
    fn a_damaged_file_is_put_aside_at_every_cut() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = StateFile::in_directory(dir.path()).expect("its directory");
        let good = encode(&Saved::default());
        for cut in [0, 5, HEADER, good.len() - 1] {
            fs::write(&file.path, &good[..cut]).expect("write");
            assert_eq!(file.load().expect("no error"), Saved::default(), "cut at {cut}");
            assert!(!file.path.exists() && file.path.with_extension("damaged").exists());
        }
        let mut flipped = good;
        *flipped.last_mut().expect("not empty") ^= 1;
        fs::write(&file.path, &flipped).expect("write");
        assert_eq!(file.load().expect("no error"), Saved::default());
    }
}
