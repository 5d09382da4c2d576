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
    #[error("set up TLS with the certificate of this node")]
    Tls(#[source] rustls::Error),
    #[error("cannot use {}: {reason}", path.display())]
    Unusable { path: std::path::PathBuf, reason: String },
    #[error("{operation} {path}")]
    File {
        operation: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
}
