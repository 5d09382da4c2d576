//! Everything that can go wrong with images, as one enum the callers branch on: the API turns a
//! variant into a status code, the agent into "rejected" or "try again".
//! Never put the cause into the text: it is the `source`.

use std::{io, path::PathBuf};

use crate::{digest::Digest, unpack::HostileEntry};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("no space left on the disk of {} while {action}; what was written has been removed. \
             Free space (`rswarm image prune`) and try again", path.display())]
    NoSpace { action: String, path: PathBuf },
    #[error("image store {} is damaged: {reason}. Move it away and pull or load the images again", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("image store {} is in use by another process; stop that daemon or choose another --state-dir", .0.display())]
    StoreBusy(PathBuf),
    #[error("image store {} has format {found}, this version reads format {known}; use the version that wrote it", path.display())]
    StoreFormat { path: PathBuf, found: u32, known: u32 },

    #[error("storage driver {driver} does not work in {}: {reason}; name another with --storage-driver, or leave it out \
             and the best that works is used", path.display())]
    StorageDriver { driver: crate::store::StorageDriver, path: PathBuf, reason: String },

    #[error("No such image: {0}")]
    NoSuchImage(String),
    #[error("image id prefix {prefix} is ambiguous: it matches {matches} images, give more digits")]
    AmbiguousId { prefix: String, matches: usize },
    #[error("An image does not exist locally with the tag: {0}")]
    NothingToPush(String),
    #[error("tag does not exist: {0}")]
    NoSuchTag(String),
    /// In Docker's words: `unable to delete X (must be forced) - …`.
    #[error("conflict: {0}")]
    Conflict(String),
    #[error(transparent)]
    Reference(#[from] types::ImageReferenceError),
    #[error("{0:?} is not a digest, want sha256: and 64 hexadecimal digits")]
    BadDigest(String),
    /// In Docker's words; a client pulls on it.
    #[error(
        "image with reference {image} was found but its platform ({has}) does not match the specified platform ({wanted})"
    )]
    OtherPlatform { image: String, has: String, wanted: String },
    #[error("{0}: invalid argument; write os/architecture or os/architecture/variant")]
    BadPlatform(String),
    #[error("{0:?} cannot be a container id: want 1 to 128 letters, digits, '_', '.' or '-'")]
    BadContainerId(String),

    #[error("the image archive is not usable: {0}")]
    BadArchive(String),
    #[error("cannot read the image archive")]
    ReadArchive(#[source] io::Error),
    #[error("cannot write the image archive")]
    WriteArchive(#[source] io::Error),
    #[error("{what} is not valid")]
    BadDocument { what: String, source: serde_json::Error },
    #[error("{what} is not usable: {reason}")]
    Unusable { what: String, reason: String },
    #[error("invalid change {instruction:?}: {reason}")]
    BadChange { instruction: String, reason: String },
    #[error("layer {layer} is refused")]
    Hostile { layer: String, source: Box<HostileEntry> },
    #[error("cannot unpack layer {layer}")]
    Unpack { layer: String, source: io::Error },
    #[error(
        "digest mismatch of {what}: expected {expected}, got {actual}; the content was altered on its way, nothing of it was kept"
    )]
    DigestMismatch { what: String, expected: Digest, actual: Digest },
    #[error("size mismatch of {what}: expected {expected} bytes, got {actual}")]
    SizeMismatch { what: String, expected: u64, actual: u64 },
    #[error("image {image} has no variant for {needed}; it offers {}", offered.join(", "))]
    NoMatchingPlatform { image: String, needed: String, offered: Vec<String> },

    #[error("{what} not found in registry {registry}; check the name and the tag")]
    NotFoundInRegistry { registry: String, what: String },
    #[error(
        "unauthorized: registry {registry} refuses access to {what}: {reason}. Log in with `rswarm login {registry}` \
             and check that the repository exists"
    )]
    Unauthorized { registry: String, what: String, reason: String },
    #[error(
        "cannot reach registry {registry}: {reason}. Check the name, the network and, for a registry without TLS, \
             that it is listed as insecure"
    )]
    RegistryUnreachable { registry: String, reason: String },
    #[error(
        "registry {registry} shows a certificate that is not trusted here: {reason}. Put the certificate of its CA into \
             /etc/docker/certs.d/{registry}/ca.crt on this host, it counts from the next try on; or list the registry as insecure"
    )]
    RegistryUntrusted { registry: String, reason: String },
    #[error("registry {registry} answers {status} for {what}: {message}")]
    RegistryStatus { registry: String, status: u16, what: String, message: String },
    #[error("registry {registry} breaks the protocol: {reason}")]
    RegistryProtocol { registry: String, reason: String },

    #[error("cannot get {url}: {reason}")]
    Fetch { url: String, status: Option<u16>, reason: String },

    #[error("no credentials for registry {registry} from {program}: {reason}")]
    CredentialHelper { program: String, registry: String, reason: String },

    #[error("cannot get {what} from another node: {reason}")]
    Peer { what: String, reason: String },

    #[error("cannot mount the root filesystem of container {container}: {reason}")]
    Mount { container: String, reason: String, source: io::Error },
    #[error("container {0} has no root filesystem in the image store")]
    NoSuchSnapshot(String),
    #[error("the image has {0} layers, overlayfs takes at most {max}", max = crate::store::MAX_LAYERS)]
    TooManyLayers(usize),
    #[error("cannot read the files of a container")]
    Tree(#[from] crate::tree::TreeError),
    #[error("image work was interrupted: {0}")]
    Interrupted(String),
}

impl Error {
    /// A file operation that failed; a full disk becomes its own variant.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.into(), source.into());
        if is_disk_full(&source) {
            return Self::NoSpace { action: action.to_owned(), path };
        }
        Self::File { action, path, source }
    }

    /// True where trying again later may help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RegistryUnreachable { .. } | Self::NoSpace { .. } | Self::Interrupted(_) | Self::Peer { .. } => true,
            Self::RegistryStatus { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

/// No space or no quota left.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
