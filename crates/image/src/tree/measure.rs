//! How much there is below a directory. Used by the store for layers and containers, and by the engine for volumes.

use std::{
    collections::BTreeSet,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

/// The sum of what `size` says of all that is below `path`, each file once however many names it has.
///
/// # Errors
/// When a directory cannot be read.
pub fn sum_below(path: &Path, size: impl Fn(&Metadata) -> u64) -> io::Result<u64> {
    let (mut todo, mut seen, mut sum) = (vec![path.to_owned()], BTreeSet::new(), 0);
    while let Some(directory) = todo.pop() {
        for item in fs::read_dir(&directory)? {
            let item = item?;
            let Ok(meta) = item.metadata() else { continue }; // removed meanwhile
            if meta.is_dir() {
                todo.push(item.path());
            }
            if meta.is_dir() || meta.nlink() < 2 || seen.insert((meta.dev(), meta.ino())) {
                sum += size(&meta);
            }
        }
    }
    Ok(sum)
}
