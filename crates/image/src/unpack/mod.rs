//! A layer's tar -> a directory overlayfs can use as a lower layer.
//! Called by the store for every new layer, on a blocking thread, into a private empty directory.
//! It must never touch anything outside that directory, whatever the tar says: all paths are walked
//! component by component from the directory's descriptor (see [`walk`]).

mod create;
mod walk;

pub(crate) use create::{WHITEOUT_PREFIX, remove_all};
#[cfg(test)]
pub(crate) use walk::set_opaque;
pub(crate) use walk::{MARK_XATTRS, is_whiteout};

use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::fd::OwnedFd,
    path::Path,
};

use crate::{
    compression::Decompressed,
    digest::{Digest, HashingReader},
    tarball::{TarError, TarReader},
};

const READ_BUFFER_BYTES: usize = 64 << 10;

/// An entry no honest image has; the whole layer is refused for it.
#[derive(Debug, thiserror::Error)]
#[error("entry {entry:?}: {reason}")]
pub struct HostileEntry {
    pub entry: String,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error(transparent)]
    Hostile(#[from] HostileEntry),
    #[error("{0}")]
    NoTar(TarError),
    #[error("cannot {action} for entry {entry:?}")]
    Entry { action: &'static str, entry: String, source: io::Error },
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    #[error("cannot open the directory for the layer")]
    Open(#[source] io::Error),
}

impl UnpackError {
    /// The system's error behind it, if there is one.
    pub(crate) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Entry { source, .. } | Self::Read(source) | Self::Open(source) => Some(source),
            Self::Hostile(_) | Self::NoTar(_) => None,
        }
    }
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Read(source) => Self::Read(source),
            TarError::NoTar => Self::NoTar(error),
            TarError::Bad { entry, reason } => Self::Hostile(HostileEntry { entry, reason }),
        }
    }
}

/// What came out of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Sum of the sizes of all files.
    pub bytes: u64,
}

/// Unpacks the (compressed or plain) tar `layer` into the existing empty directory `target`.
/// After an error the directory holds leftovers; the caller removes it.
pub(crate) fn unpack(layer: impl Read, target: &Path) -> Result<Unpacked, UnpackError> {
    let root: OwnedFd = File::open(target).map_err(UnpackError::Open)?.into();
    let plain = HashingReader::new(Decompressed::new(layer).map_err(UnpackError::Read)?);
    let mut reader = TarReader::new(BufReader::with_capacity(READ_BUFFER_BYTES, plain));
    let mut tree = create::Tree::new(root);
    while let Some(entry) = reader.next_entry()? {
        tree.create(&entry, &mut reader)?;
    }
    let bytes = tree.finish()?;
    let mut hashing = reader.into_inner().into_inner();
    io::copy(&mut hashing, &mut io::sink()).map_err(UnpackError::Read)?;
    let diff_id = hashing.finish().map_err(UnpackError::Read)?;
    Ok(Unpacked { diff_id, bytes })
}

#[cfg(test)]
mod tests;
