//! What can go wrong with keys and certificates.

/// An operation on a key or certificate that failed, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("generate a key pair")]
    Generate(#[source] rcgen::Error),
    #[error("read the {what}: not valid PEM of that kind")]
    Pem { what: &'static str },
    #[error("read the {what}: {reason}")]
    Certificate { what: &'static str, reason: String },
    #[error("certificate signing request is not valid")]
    Request(#[source] rcgen::Error),
    #[error("sign the certificate of node {node}")]
    Sign {
        node: types::NodeId,
        #[source]
        source: rcgen::Error,
    },
    /// Of a root that somebody wants the cluster to have.
    #[error("the new root cannot be used: {0}")]
    Root(String),
    #[error("set up TLS with the certificate of this node")]
    Tls(#[source] rustls::Error),
    #[error("cannot use {}: {reason}", path.display())]
    Unusable { path: std::path::PathBuf, reason: String },
    #[error("this manager is locked: its keys are sealed; open them with `rswarm swarm unlock`")]
    Locked,
    #[error(
        "{path} is damaged, or was sealed by another manager: restore it from a backup, or give the membership up with `rswarm leave --force` and join again"
    )]
    Sealed { path: String },
    #[error(
        "the keys of this manager are sealed, but {path}, which the unlock key opens, is missing: restore it from a backup, or give the membership up with `rswarm leave --force` and join again"
    )]
    LockMissing { path: String },
    #[error("{operation} {path}")]
    File {
        operation: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
}
