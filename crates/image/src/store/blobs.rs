//! Blobs: files named by the digest of their content. Called by load, import, pull and save.
//! A blob gets its name only after its bytes were hashed and synced.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::PathBuf,
};

use super::{Inner, Temp, create_file, sync_parent};
use crate::{
    digest::{Digest, HashingWriter},
    error::{Error, Result, is_disk_full},
};

const COPY_BUFFER_BYTES: usize = 128 << 10;

impl Inner {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Size of a blob in bytes, if it is there.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().map(|m| m.len())
    }

    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                Error::Damaged { path: self.root.clone(), reason: format!("blob {digest} is missing") }
            }
            _ => Error::file("open", path, e),
        })
    }

    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest) != Some(bytes.len() as u64) {
            self.write_file(&self.blob_path(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Copies a stream into a temporary file, hashing it. Errors of the reader become `on_read`.
    pub(crate) fn spool(&self, reader: &mut impl Read, on_read: impl Fn(io::Error) -> Error) -> Result<Spooled> {
        let temp = self.temp()?;
        let path = temp.path.join("blob");
        let mut out = HashingWriter::new(create_file(&path)?);
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => out.write_all(&buffer[..count]).map_err(|e| no_space_or(e, &path))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(on_read(e)),
            }
        }
        let (_, digest, size) = out.finish();
        Ok(Spooled { digest, size, path, _temp: temp })
    }

    /// A temporary file of what `write` writes, hashed.
    pub(crate) fn spool_written(&self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Spooled> {
        let temp = self.temp()?;
        let path = temp.path.join("blob");
        let buffered = io::BufWriter::with_capacity(COPY_BUFFER_BYTES, create_file(&path)?);
        let mut out = HashingWriter::new(buffered);
        write(&mut out)?;
        let (mut buffered, digest, size) = out.finish();
        buffered.flush().map_err(|e| no_space_or(e, &path))?;
        Ok(Spooled { digest, size, path, _temp: temp })
    }

    /// Gives a spooled file its name.
    pub(crate) fn keep(&self, spooled: &Spooled) -> Result<()> {
        if self.blob_size(&spooled.digest) == Some(spooled.size) {
            return Ok(());
        }
        let file = spooled.open()?;
        file.sync_all().map_err(|e| no_space_or(e, &spooled.path))?;
        self.name_blob(&spooled.path, &spooled.digest)
    }

    /// Renames a file that is hashed and synced to its blob name.
    pub(crate) fn name_blob(&self, file: &std::path::Path, digest: &Digest) -> Result<()> {
        let path = self.blob_path(digest);
        fs::rename(file, &path).map_err(|e| Error::file("rename into place", &path, e))?;
        sync_parent(&path)
    }
}

fn no_space_or(error: io::Error, path: &std::path::Path) -> Error {
    if is_disk_full(&error) {
        return Error::NoSpace { action: "storing image content".to_owned(), path: path.to_owned() };
    }
    Error::file("write", path, error)
}

/// A stream on disk that has no name yet; gone when dropped without [`Inner::keep`].
pub(crate) struct Spooled {
    pub digest: Digest,
    pub size: u64,
    path: PathBuf,
    _temp: Temp,
}

impl Spooled {
    pub(crate) fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| Error::file("open", &self.path, e))
    }

    /// The bytes of a small file; larger ones are refused.
    pub(crate) fn read(&self, what: &str, most: u64) -> Result<Vec<u8>> {
        if self.size > most {
            return Err(Error::Unusable {
                what: what.to_owned(),
                reason: format!("{} bytes, at most {most} are accepted", self.size),
            });
        }
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes).map_err(|e| Error::file("read", &self.path, e))?;
        Ok(bytes)
    }
}
