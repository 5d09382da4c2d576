//! What a user wants of a secret or config, and how a container asks for one (parity, S-63).
//!
//! The two differ in their limits, in where their files are by default, and in whether a view shows the data;
//! in all else they are one thing, a *dependency*.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DependencyId, DependencyName, Labels, Payload};

/// swarmkit `api/validation/secrets.go`: a secret is smaller than this.
const SECRET_BYTES: usize = 500 << 10;
/// swarmkit `manager/controlapi/config.go`: a config is smaller than this.
const CONFIG_BYTES: usize = 1000 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DependencyKind {
    Secret,
    Config,
}

impl DependencyKind {
    /// The first size that is too large.
    pub fn size_limit(self) -> usize {
        match self {
            Self::Secret => SECRET_BYTES,
            Self::Config => CONFIG_BYTES,
        }
    }

    /// Where a file of this name or path is in a container.
    pub fn target(self, file: &str) -> String {
        match self {
            _ if file.starts_with('/') => file.to_owned(),
            Self::Secret => format!("/run/secrets/{file}"),
            Self::Config => format!("/{file}"),
        }
    }
}

impl fmt::Display for DependencyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Secret => "secret",
            Self::Config => "config",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencySpec {
    pub kind: DependencyKind,
    pub name: DependencyName,
    #[serde(default)]
    pub labels: Labels,
    /// Empty in views of a secret.
    pub data: Payload,
    /// The data has placeholders, which each node fills in for each task (parity X-04).
    #[serde(default)]
    pub is_template: bool,
}

/// What a container wants of a secret or config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyRef {
    pub kind: DependencyKind,
    /// Which version of what has the name; `None` only on the way in: the present one.
    #[serde(default)]
    pub id: Option<DependencyId>,
    /// Filled in on the way in if only the id is known.
    #[serde(default)]
    pub name: Option<DependencyName>,
    pub file: TargetFile,
}

impl DependencyRef {
    /// Whether both are the same file of what has the same name, in whatever version.
    pub fn is_version_of(&self, other: &Self) -> bool {
        (self.kind, &self.name, &self.file) == (other.kind, &other.name, &other.file)
    }

    /// By which people know it.
    pub fn shown(&self) -> String {
        match (&self.name, self.id) {
            (Some(name), _) => name.to_string(),
            (None, Some(id)) => id.to_string(),
            (None, None) => String::new(),
        }
    }
}

/// A file in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// As the user wrote it; relative ones are taken as [`DependencyKind::target`] says.
    pub name: String,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    #[serde(default = "default_file_mode")]
    pub mode: u32,
}

/// Docker's default: everybody in the container may read it.
pub const DEFAULT_FILE_MODE: u32 = 0o444;

fn default_file_mode() -> u32 {
    DEFAULT_FILE_MODE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s63_where_files_are() {
        for (kind, file, wanted) in [
            (DependencyKind::Secret, "password", "/run/secrets/password"),
            (DependencyKind::Secret, "/etc/password", "/etc/password"),
            (DependencyKind::Config, "app.conf", "/app.conf"),
            (DependencyKind::Config, "/etc/app.conf", "/etc/app.conf"),
        ] {
            assert_eq!(kind.target(file), wanted);
        }
    }
}
