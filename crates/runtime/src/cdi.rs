//! Devices as their vendors describe them: the Container Device Interface, version 1.1
//! (github.com/cncf-tags/container-device-interface, SPEC.md).
//!
//! A vendor's file says what a container needs to use a device: nodes, mounts, variables, programs to run. The engine reads the
//! files when a container with such devices starts, so what a driver has just written counts. Nothing here opens a device.

mod document;
mod edits;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use document::{Document, Edits};
use types::{ClaimError, DeviceClaim, resolve_claims};

/// Where vendors' files are; what the later directory says of a device counts.
pub const DEFAULT_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// A vendor's description of all its devices on one host is some ten KiB; more than this is no such file.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Why a container does not get its devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CdiError {
    /// With what there is instead.
    #[error("{error}; {about}")]
    Claim { error: ClaimError, about: String },
    #[error("CDI device {device} asks for {what}, which containers here cannot have")]
    Unsupported { device: String, what: String },
}

/// The devices of this host.
#[derive(Debug, Default)]
pub struct Registry {
    directories: Vec<PathBuf>,
    documents: Vec<Document>,
    /// By `vendor/class=name`: which document, and which of its devices.
    devices: BTreeMap<String, (usize, usize)>,
    /// Files that could not be read and names that two files of one directory give.
    problems: Vec<String>,
}

impl Registry {
    /// Reads all `.json` and `.yaml` files of the directories. A file that is wrong is a problem, not an error: the others count.
    pub fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Self { directories: directories.to_vec(), ..Self::default() };
        for directory in directories {
            registry.read_directory(directory);
        }
        registry
    }

    fn read_directory(&mut self, directory: &Path) {
        let mut here = BTreeMap::new();
        let mut twice = BTreeSet::new();
        for path in files(directory) {
            let document = match read_file(&path) {
                Ok(document) => document,
                Err(why) => {
                    self.problems.push(format!("{}: {why}", path.display()));
                    continue;
                }
            };
            let at = self.documents.len();
            for (number, device) in document.devices.iter().enumerate() {
                let name = format!("{}={}", document.kind, device.name);
                if here.insert(name.clone(), (at, number)).is_some() {
                    twice.insert(name);
                }
            }
            self.documents.push(document);
        }
        for name in twice {
            self.problems.push(format!("{}: {name} is in two files of it", directory.display()));
            here.remove(&name);
            self.devices.remove(&name);
        }
        self.devices.extend(here);
    }

    /// `vendor/class=name` of all devices.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// What there is instead, for a refusal.
    fn about(&self) -> String {
        let directories: Vec<String> = self.directories.iter().map(|path| path.display().to_string()).collect();
        let directories = directories.join(" and ");
        let names: Vec<&str> = self.names().take(10).collect();
        let known = match names.is_empty() {
            true => format!("{directories} describe no device"),
            false => format!("{directories} describe {}", names.join(", ")),
        };
        match self.problems.first() {
            None => known,
            Some(problem) => format!("{known}; {problem}"),
        }
    }

    /// Gives `config` what the claimed devices need.
    ///
    /// # Errors
    /// A device that no file describes, too few of a kind, a request that names nothing; then `config` is as it was.
    pub fn inject(&self, claims: &[DeviceClaim], config: &mut crate::ContainerConfig) -> Result<(), CdiError> {
        let there = self.devices.keys().cloned().collect();
        let names = resolve_claims(claims, &there).map_err(|error| CdiError::Claim { error, about: self.about() })?;
        let mut edits = Vec::new();
        let mut seen = BTreeSet::new();
        for name in &names {
            let (document, device) = self.devices[name];
            let document_of = &self.documents[document];
            if seen.insert(document) {
                edits.push((name, &document_of.container_edits));
            }
            edits.push((name, &document_of.devices[device].container_edits));
        }
        edits.iter().try_for_each(|(name, edits)| edits.check(name))?;
        edits.iter().for_each(|(_, edits)| edits.apply(config));
        Ok(())
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_one = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "json" || kind == "yaml");
    let mut files: Vec<PathBuf> = entries.filter(is_one).collect();
    files.sort();
    files
}

fn read_file(path: &Path) -> Result<Document, String> {
    let length = fs::metadata(path).map_err(|e| e.to_string())?.len();
    if length > MAX_FILE_BYTES {
        return Err(format!("is {length} bytes long, more than {MAX_FILE_BYTES}"));
    }
    Document::parse(&fs::read_to_string(path).map_err(|e| e.to_string())?)
}

#[cfg(test)]
mod tests;
