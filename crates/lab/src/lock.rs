//! One writer at a time per lab, and one lab creation at a time, by lock files in the lab folder.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::Error;

/// Waits for the lock at `path` and holds it until the value is dropped.
///
/// The lock file may be removed by its holder (the last lab takes everything with it), so what was
/// locked is compared with what the path names now, and taken again if they differ.
pub fn take(path: &Path) -> Result<Flock<File>, Error> {
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(Error::io("open the lock", path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| Error::io("lock", path)(e.into()))?;
        let held = lock.metadata().map_err(Error::io("read", path))?.ino();
        if fs::metadata(path).is_ok_and(|m| m.ino() == held) {
            return Ok(lock);
        }
    }
}
