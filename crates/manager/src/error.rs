//! What can go wrong with a manager, in words for the person who has to act.

use std::{io, path::PathBuf};

/// An operation of a manager that failed, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} {path}: {source}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "open the replicated state in {path}: {source}; if the disk is damaged, move the directory away and join the cluster again"
    )]
    Open {
        path: PathBuf,
        #[source]
        source: rocksdb::Error,
    },
    #[error(
        "the key file {path} is missing, but the state beside it is sealed with that key: restore the file from a backup, or move the directory away and join the cluster again"
    )]
    KeyMissing { path: PathBuf },
    #[error(
        "the key file {path} is damaged (it must hold {expected} bytes and has {found}): restore it from a backup, or move the directory away and join the cluster again"
    )]
    KeyDamaged { path: PathBuf, expected: usize, found: usize },
    #[error(
        "column {column:?}, record {record}, of the replicated state in {path} is damaged or was sealed with another key: restore the directory from a backup, or move it away and join the cluster again"
    )]
    Damaged { path: PathBuf, column: &'static str, record: String },
    #[error(
        "column {column:?}, record {record}, of the replicated state in {path} is not understood ({reason}): it was written by another version of rswarm; run that version, or move the directory away and join again"
    )]
    Format { path: PathBuf, column: &'static str, record: String, reason: String },
    #[error(
        "the replicated state in {path} belongs to node {found_node} of cluster {found_cluster}, this is node {node} of cluster {cluster}: move the directory away, or put back the certificate that belongs to it"
    )]
    Foreign { path: PathBuf, found_node: String, found_cluster: String, node: String, cluster: String },
    #[error(
        "there is already replicated state in {path}: this host is a manager of a cluster; leave that cluster first"
    )]
    NotEmpty { path: PathBuf },
    #[error("there is no replicated state in {path}: this host is not a manager yet; join the cluster again")]
    Empty { path: PathBuf },
    #[error(
        "write {column} of the replicated state in {path}: {source}; nothing acknowledged is lost: make room on the disk (or repair it) and start rswarm again"
    )]
    Write {
        path: PathBuf,
        column: &'static str,
        #[source]
        source: rocksdb::Error,
    },
    #[error("read {column} of the replicated state in {path}: {source}; check the disk")]
    Read {
        path: PathBuf,
        column: &'static str,
        #[source]
        source: rocksdb::Error,
    },
    #[error(
        "listen on {address}: {source}; is another rswarm or dockerd using the port? choose another with --listen-addr"
    )]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the consensus library could not start: {0}")]
    Raft(String),
    #[error("the replicated state stopped: {0}")]
    Stopped(String),
    #[error("become a manager: {0}")]
    Join(String),
    #[error("set up the cluster: {0}")]
    Bootstrap(String),
    #[error(
        "the content of the backup is not understood ({0}): it was made by another version of rswarm; restore it with that version"
    )]
    Backup(String),
    #[error(
        "this manager has not received the cluster's state yet: there is nothing it could go on from; use another manager, or a backup"
    )]
    NoValue,
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

impl Error {
    /// Whether what is on the disk is not what was written there.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Read { source, .. } => source.kind() == rocksdb::ErrorKind::Corruption,
            _ => false,
        }
    }

    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}
