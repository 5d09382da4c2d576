//! The names of a log's files: `path` is the newest, `path.1` the one before, and so on.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The file that is `age` rotations old.
pub(super) fn aged(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

/// Opens every file of a log, oldest first. The writer may rotate meanwhile: files only grow older,
/// so looking from the newest to the oldest meets each at least once.
pub(super) fn open_all(path: &Path, max_files: u32) -> io::Result<Vec<File>> {
    let mut files: Vec<File> = Vec::new();
    for age in 0..max_files.max(1) {
        match File::open(aged(path, age)) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                let mut known = false;
                for other in &files {
                    known |= other.metadata()?.ino() == inode;
                }
                if !known {
                    files.push(file);
                }
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    files.reverse();
    Ok(files)
}

/// How old a file of the log is now; `None` if it has been thrown away.
pub(super) fn age_of(file: &File, path: &Path, max_files: u32) -> io::Result<Option<u32>> {
    let inode = file.metadata()?.ino();
    Ok((0..max_files.max(1)).find(|age| aged(path, *age).metadata().is_ok_and(|metadata| metadata.ino() == inode)))
}

/// Makes room for a new file at `path`: the oldest goes, the others grow older by one. After a
/// crash in the middle an age is missing for a moment; the next rotation closes the gap.
pub(super) fn rotate(path: &Path, max_files: u32) -> io::Result<()> {
    let ignore_missing = |result: io::Result<()>| match result {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    };
    if max_files <= 1 {
        return ignore_missing(fs::remove_file(path));
    }
    for age in (0..max_files - 1).rev() {
        ignore_missing(fs::rename(aged(path, age), aged(path, age + 1)))?;
    }
    Ok(())
}
