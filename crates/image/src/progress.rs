//! What load, pull and push tell their caller while they work, in the shape Docker's JSON progress needs
//! (`{id, status, progressDetail: {current, total}}`).
//! A slow listener loses counter updates, never a change of status order; nobody waits for it.

use std::fmt;

use tokio::sync::mpsc;

/// One line of progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressEvent {
    /// Short digest of a layer, or the tag for lines about the whole image.
    pub id: String,
    pub status: ProgressStatus,
    /// Bytes done and bytes in all, where they are known.
    pub current: Option<u64>,
    pub total: Option<u64>,
}

/// What happens; `Display` gives Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressStatus {
    PullingFrom(String),
    PullingLayer,
    AlreadyExists,
    Downloading,
    Retrying {
        seconds: u64,
    },
    DownloadComplete,
    LoadingLayer,
    Extracting,
    PullComplete,
    /// The repository a push goes to.
    RefersTo(String),
    Preparing,
    LayerExists,
    MountedFrom(String),
    Pushing,
    Pushed,
    PushedManifest {
        tag: String,
        digest: String,
        size: u64,
    },
    Digest(String),
    UpToDate(String),
    Downloaded(String),
    Warning(String),
    /// An archive that is imported.
    DownloadingFrom(String),
    Importing,
}

impl fmt::Display for ProgressStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PullingFrom(repository) => write!(f, "Pulling from {repository}"),
            Self::PullingLayer => f.write_str("Pulling fs layer"),
            Self::AlreadyExists => f.write_str("Already exists"),
            Self::Downloading => f.write_str("Downloading"),
            Self::Retrying { seconds } => write!(f, "Retrying in {seconds} seconds"),
            Self::DownloadComplete => f.write_str("Download complete"),
            Self::LoadingLayer => f.write_str("Loading layer"),
            Self::Extracting => f.write_str("Extracting"),
            Self::PullComplete => f.write_str("Pull complete"),
            Self::RefersTo(repository) => write!(f, "The push refers to repository [{repository}]"),
            Self::Preparing => f.write_str("Preparing"),
            Self::LayerExists => f.write_str("Layer already exists"),
            Self::MountedFrom(repository) => write!(f, "Mounted from {repository}"),
            Self::Pushing => f.write_str("Pushing"),
            Self::Pushed => f.write_str("Pushed"),
            Self::PushedManifest { tag, digest, size } => write!(f, "{tag}: digest: {digest} size: {size}"),
            Self::Digest(digest) => write!(f, "Digest: {digest}"),
            Self::UpToDate(name) => write!(f, "Status: Image is up to date for {name}"),
            Self::Downloaded(name) => write!(f, "Status: Downloaded newer image for {name}"),
            Self::Warning(text) => write!(f, "WARNING: {text}"),
            Self::DownloadingFrom(url) => write!(f, "Downloading from {url}"),
            Self::Importing => f.write_str("Importing"),
        }
    }
}

/// Where progress goes, or nowhere.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<mpsc::Sender<ProgressEvent>>);

impl Progress {
    pub fn none() -> Self {
        Self(None)
    }

    pub fn to(sender: mpsc::Sender<ProgressEvent>) -> Self {
        Self(Some(sender))
    }

    pub(crate) fn say(&self, id: &str, status: ProgressStatus) {
        self.send(ProgressEvent { id: id.to_owned(), status, current: None, total: None });
    }

    pub(crate) fn count(&self, id: &str, status: ProgressStatus, current: u64, total: u64) {
        self.send(ProgressEvent { id: id.to_owned(), status, current: Some(current), total: Some(total) });
    }

    /// Of what does not say how much it is.
    pub(crate) fn so_far(&self, id: &str, status: ProgressStatus, current: u64) {
        self.send(ProgressEvent { id: id.to_owned(), status, current: Some(current), total: None });
    }

    fn send(&self, event: ProgressEvent) {
        if let Some(sender) = &self.0 {
            // A full queue means a slow reader: the next counter says the same and more.
            let _ = sender.try_send(event);
        }
    }
}
