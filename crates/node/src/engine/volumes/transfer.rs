//! The data of a volume, given to another host or taken from one (P41). Called by the API for managers, which see to it that
//! no task has the volume meanwhile; all calls block.
//!
//! What comes is gathered beside the volume and takes its place in one step, when somebody has compared both sides.

use std::{fs, io, path::PathBuf};

use image::{Digest, Root, TreeError};

use types::Labels;

use super::{Record, VolumeError, Volumes, io_error, options};

/// Beside the volume's data, until it takes its place.
const INCOMING: &str = "_incoming";
/// What it takes the place of, until it is removed.
const REPLACED: &str = "_replaced";

/// What a carrier of data must know of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeFacts {
    pub exists: bool,
    pub is_empty: bool,
    /// It shows what is elsewhere: a mount of its own options.
    pub is_mounted: bool,
    /// What somebody wrote to it. Options it has none: with those it would show what is elsewhere.
    pub labels: Labels,
    /// Containers that have it, running or not.
    pub users: Vec<String>,
}

impl Volumes {
    /// # Errors
    /// A directory that cannot be read.
    pub fn facts(&self, name: &str) -> Result<VolumeFacts, VolumeError> {
        let record = self.known().get(name).cloned();
        let is_empty = match fs::read_dir(self.data(name)) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(io_error(name, "read it")(error)),
        };
        let is_mounted = record.as_ref().is_some_and(|record| options::read(&record.options).is_some());
        let users = record.iter().flat_map(|record| record.users.iter().cloned()).collect();
        let exists = record.is_some();
        let labels = record.map(|record| record.labels).unwrap_or_default();
        Ok(VolumeFacts { exists, is_empty, is_mounted, labels, users })
    }

    /// The data of a volume that no container has, to be packed.
    ///
    /// # Errors
    /// [`VolumeError::NotFound`], [`VolumeError::InUse`], or a directory that cannot be opened.
    pub fn unused(&self, name: &str) -> Result<Root, VolumeError> {
        let record = self.known().get(name).cloned().ok_or_else(|| VolumeError::NotFound(name.to_owned()))?;
        if !record.users.is_empty() {
            let users = record.users.into_iter().collect();
            return Err(VolumeError::InUse { name: name.to_owned(), operation: "carry", users });
        }
        Root::open(&self.data(name)).map_err(io_error(name, "open it"))
    }

    /// Takes in what [`Root::pack_exact`] wrote elsewhere; the volume is as it was. Gives the digest of what is there now.
    ///
    /// # Errors
    /// A name that is none, a damaged archive, or a failed file operation: then nothing is left of it.
    pub fn receive(&self, name: &str, tar: impl io::Read) -> Result<Digest, VolumeError> {
        let invalid = |reason| VolumeError::Invalid { name: name.to_owned(), reason };
        super::record::check_name(name).map_err(invalid)?;
        self.drop_incoming(name)?;
        let incoming = self.incoming(name);
        fs::create_dir_all(&incoming).map_err(io_error(name, "make a directory for its data"))?;
        let taken = Root::open(&incoming).map_err(io_error(name, "open it")).and_then(|root| {
            let taken = root.extract_exact(tar).and_then(|()| root.digest_exact());
            taken.map_err(|error| tree_error(name, error))
        });
        if taken.is_err() {
            self.drop_incoming(name).ok(); // the first error says more
        }
        taken
    }

    /// What came takes the place of the volume's data, with the labels that it had.
    ///
    /// # Errors
    /// The volume has data, and `overwrite` does not say that it may go; a container has it; or a failed file operation.
    pub fn keep_received(&self, name: &str, labels: &Labels, overwrite: bool) -> Result<(), VolumeError> {
        let _working = self.work();
        let facts = self.facts(name)?;
        if !facts.users.is_empty() {
            return Err(VolumeError::InUse { name: name.to_owned(), operation: "replace", users: facts.users });
        }
        if !facts.is_empty && !overwrite {
            let reason = "there is data in a volume of this name already".to_owned();
            return Err(VolumeError::Invalid { name: name.to_owned(), reason });
        }
        let (data, replaced) = (self.data(name), self.directory(name).join(REPLACED));
        let move_to = |from: &PathBuf, to: &PathBuf| match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved,
        };
        remove(&replaced).map_err(io_error(name, "remove what it was before"))?;
        move_to(&data, &replaced).map_err(io_error(name, "put its data aside"))?;
        fs::rename(self.incoming(name), &data).map_err(io_error(name, "put its data in place"))?;
        let known = self.known().get(name).cloned();
        let is_new = known.is_none();
        let created = crate::clock::now();
        let known = known.unwrap_or(Record { created, ..Record::default() });
        let record = Record { filled: true, labels: labels.clone(), ..known };
        self.keep(name, record)?;
        if is_new {
            self.inner.events.publish(self.event("create", name));
        }
        remove(&replaced).map_err(io_error(name, "remove what it was before"))
    }

    /// What came is not wanted, or a daemon ended before it was. None is fine.
    ///
    /// # Errors
    /// A failed file operation.
    pub fn drop_incoming(&self, name: &str) -> Result<(), VolumeError> {
        remove(&self.incoming(name)).map_err(io_error(name, "remove what came of it"))?;
        // of a volume that never was nothing stays
        if !self.known().contains_key(name) {
            fs::remove_dir(self.directory(name)).ok();
        }
        Ok(())
    }

    /// What came and was never kept goes when the daemon begins: whoever carried it has given up.
    pub(super) fn forget_incoming(&self) {
        let entries = fs::read_dir(&self.inner.root).into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            if let Err(error) = self.drop_incoming(&name) {
                tracing::warn!(volume = name, %error, "half of a volume from another node stays");
            }
        }
    }

    fn incoming(&self, name: &str) -> PathBuf {
        self.directory(name).join(INCOMING)
    }
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Of a tree that is a volume's.
pub fn tree_error(name: &str, error: TreeError) -> VolumeError {
    VolumeError::Io { name: name.to_owned(), operation: "carry its data", source: io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{events::Events, volumes::VolumeSpec};

    #[test]
    fn p41_a_volume_is_taken_in_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |host: &str| Volumes::open(&dir.path().join(host), Events::default()).expect("opened");
        let (from, to) = (open("from"), open("to"));
        let labels = Labels::from([("keep".to_owned(), "yes".to_owned())]);
        let spec = VolumeSpec { name: "db".to_owned(), labels: labels.clone(), ..VolumeSpec::default() };
        let data = from.create(spec).expect("made").mountpoint;
        assert_eq!(from.facts("db").expect("read").labels, labels);
        fs::write(data.join("file"), "rows").expect("written");
        let packed = || {
            let mut tar = Vec::new();
            from.unused("db").expect("nobody has it").pack_exact(&mut tar).expect("packed");
            tar
        };
        let tar = packed();
        let digest = to.receive("db", tar.as_slice()).expect("taken");
        assert_eq!(digest, from.unused("db").expect("there").digest_exact().expect("read"));
        assert_eq!(
            to.facts("db").expect("read"),
            VolumeFacts { exists: false, is_empty: true, is_mounted: false, labels: Labels::new(), users: vec![] }
        );
        to.keep_received("db", &labels, false).expect("kept");
        let there = to.get("db").expect("there");
        assert_eq!(there.labels, labels);
        let there = there.mountpoint;
        assert_eq!(fs::read_to_string(there.join("file")).expect("there"), "rows");

        // not over other data, and of a damaged one nothing stays
        to.receive("db", packed().as_slice()).expect("taken");
        let refused = to.keep_received("db", &labels, false).expect_err("there is data").to_string();
        assert!(refused.contains("there is data in a volume of this name already"), "{refused}");
        fs::write(data.join("file"), "more rows").expect("written");
        to.receive("db", packed().as_slice()).expect("taken");
        to.keep_received("db", &labels, true).expect("replaced");
        assert_eq!(fs::read_to_string(there.join("file")).expect("there"), "more rows");
        to.receive("other", &tar[..700]).expect_err("cut");
        assert!(!dir.path().join("to/volumes/other").exists());
        to.receive("../db", tar.as_slice()).expect_err("no name");

        // a daemon that ended meanwhile
        to.receive("late", tar.as_slice()).expect("taken");
        to.receive("db", tar.as_slice()).expect("taken");
        let again = open("to");
        assert!(!dir.path().join("to/volumes/late").exists() && !dir.path().join("to/volumes/db/_incoming").exists());
        assert_eq!(again.list().len(), 1);
    }
}
