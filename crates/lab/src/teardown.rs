//! Removing a lab by its name alone: it works for a whole lab, for a half-made one, and twice.
//!
//! Order: processes, switch, groups, mounts, folder. The folder goes last, because as long as it is
//! there the lab is listed and its removal can be tried again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::cgroup::Cgroups;
use crate::state::{self, Paths, ROOT};
use crate::{Error, boot, lock, net};

/// Held while a lab is made or removed.
pub fn root_lock() -> PathBuf {
    Path::new(ROOT).join("labs.lock")
}

/// Removes everything that carries the lab's name. Goes on after an error and tells all of them.
pub fn remove(lab: &str) -> Result<(), Error> {
    let cgroups = Cgroups::of_machine()?;
    let steps = [cgroups.kill_lab(lab), net::remove_switch(lab), cgroups.remove_lab(lab), unmount(lab)];
    let failed: Vec<String> = steps.into_iter().filter_map(Result::err).map(|e| e.sentence()).collect();
    if !failed.is_empty() {
        return Err(Error::Leftovers { name: lab.to_owned(), left: failed.join("; ") });
    }
    remove_folder(lab)
}

/// The lab's tmpfs and the disks inside it, the last mounted first.
fn unmount(lab: &str) -> Result<(), Error> {
    let dir = Paths::of(lab).dir;
    for point in boot::mount_points().iter().rev().filter(|m| m.starts_with(&dir)) {
        match umount2(point, MntFlags::MNT_DETACH) {
            // Somebody else is removing the same lab, and was quicker.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(e) => return Err(Error::io("unmount", point)(e.into())),
        }
    }
    Ok(())
}

fn remove_folder(lab: &str) -> Result<(), Error> {
    let root = Path::new(ROOT);
    if !root.exists() {
        return Ok(());
    }
    let lock = lock::take(&root_lock())?;
    let dir = Paths::of(lab).dir;
    match fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &dir)(e)),
        _ => {}
    }
    if state::names().is_empty() {
        let _ = fs::remove_file(root_lock());
        // Another lab may be waiting for the lock with its file in here: then the folder stays.
        let _ = fs::remove_dir(root);
    }
    drop(lock);
    Ok(())
}
