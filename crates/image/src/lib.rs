//! Images of one host: from a registry or an archive, through a content-addressed store, to the root
//! filesystem of a container.
//!
//! Called by the agent (pull, mount) and the API (everything else). It must never give content a name
//! before its digest was verified, never let an archive write outside its own directory, and never
//! leave the store different from before when something fails.

mod archive;
mod compression;
mod config;
mod digest;
mod document;
mod error;
mod peer;
mod platform;
mod progress;
mod registry;
mod store;
mod tarball;
mod tree;
mod unpack;

pub use archive::{CommitOptions, ImportOptions, LoadedImage, busybox_archive};
pub use config::{Empty, Healthcheck, HistoryEntry, ImageConfig, RootFs, RunConfig};
pub use digest::Digest;
pub use document::Descriptor;
pub use error::{Error, Result};
pub use peer::{BlobReader, BlobSource, Offer};
pub use platform::Platform;
pub use progress::{Progress, ProgressEvent, ProgressStatus};
pub use registry::{
    CertificateDirectories, Credentials, PullOptions, PulledImage, PushOptions, PushedImage, Resolved, SearchResult,
    ask_helper, check_login, resolve_digest, search,
};
pub use store::{
    DiskUsage, Held, ImageDetail, ImageManifests, ImageSummary, ImageUsage, ManifestKind, ManifestView, Mounted,
    RemoveOptions, Removed, SnapshotInfo, StorageDriver, Store, Swept, TaskImage, Transfers,
};
pub use tree::{Change, ChangeKind, ExtractOptions, PathStat, Root, TreeError, TreeMount, sum_below};
pub use types::ImageReference;
pub use unpack::HostileEntry;
