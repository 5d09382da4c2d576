//! Which way root filesystems are made, and whether that way works in the store's directory.
//!
//! Chosen once, when the store opens, by trying; each snapshot notes the one it was made with and keeps it.

use std::{fmt, fs, io, os::unix::fs::MetadataExt as _, path::Path, str::FromStr};

use rustix::fs::{AtFlags, CWD, FileType, Mode};
use serde::{Deserialize, Serialize};

use super::{
    btrfs, make_directory,
    mount::{mount_overlay, unmount},
};
use crate::error::{Error, Result};

/// How the root filesystem of a container is made of its image's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageDriver {
    /// The layers stay where they are; what the container writes goes over them.
    #[default]
    Overlay2,
    /// A writable snapshot of a subvolume that has all layers in it.
    Btrfs,
    /// A copy of its own; where the file system can share the blocks of files, they are shared.
    Vfs,
}

/// Best first.
const ALL: [StorageDriver; 3] = [StorageDriver::Overlay2, StorageDriver::Btrfs, StorageDriver::Vfs];

impl fmt::Display for StorageDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlay2 => "overlay2",
            Self::Btrfs => "btrfs",
            Self::Vfs => "vfs",
        })
    }
}

impl FromStr for StorageDriver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "zfs" {
            let zfs = "storage driver zfs: datasets are not made here; on a ZFS pool use overlay2 (OpenZFS 2.2 or newer) \
                       or vfs, which copies";
            return Err(zfs.to_owned());
        }
        let known = ALL.into_iter().find(|driver| driver.to_string() == text);
        known.ok_or_else(|| format!("storage driver {text:?} is not known; name one of overlay2, btrfs, vfs"))
    }
}

impl StorageDriver {
    /// The one that was asked for if it works here, or the first that does; a line for each that was passed over.
    pub(super) fn choose(root: &Path, asked: Option<Self>) -> Result<(Self, Vec<String>)> {
        if let Some(driver) = asked {
            let unfit = |reason| Error::StorageDriver { driver, path: root.to_owned(), reason };
            return driver.try_at(root).map(|()| (driver, Vec::new())).map_err(unfit);
        }
        let mut passed_over = Vec::new();
        for driver in ALL {
            match driver.try_at(root) {
                Ok(()) => return Ok((driver, passed_over)),
                Err(reason) => passed_over.push(format!("{driver}: {reason}")),
            }
        }
        Ok((Self::Vfs, passed_over))
    }

    fn try_at(self, root: &Path) -> Result<(), String> {
        let trial = root.join("tmp/trial");
        let done = match self {
            Self::Overlay2 => try_overlay(&trial),
            Self::Btrfs => btrfs::try_at(&trial),
            Self::Vfs => Ok(()),
        };
        if let Err(error) = fs::remove_dir_all(&trial)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %trial.display(), %error, "cannot remove what the storage driver was tried with");
        }
        done
    }
}

/// All that containers and layers need: marks for removed files, and files copied up and removed.
fn try_overlay(trial: &Path) -> Result<(), String> {
    let failed = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    for name in ["high", "low", "upper", "work", "root"] {
        make_directory(&trial.join(name)).map_err(|error| types::with_causes(&error))?;
    }
    for name in ["hidden", "seen"] {
        fs::write(trial.join("low").join(name), "").map_err(failed("write a file"))?;
    }
    let mark = trial.join("high/hidden");
    rustix::fs::mknodat(CWD, &mark, FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(|errno| failed("mark a file as removed")(errno.into()))?;
    let root = trial.join("root");
    mount_overlay(trial, &root, "lowerdir=high:low,upperdir=upper,workdir=work")
        .map_err(|error| format!("{}: {}", error.reason, error.source))?;
    let tried = (|| {
        if root.join("hidden").exists() {
            return Err("files that a layer removed are seen".to_owned());
        }
        fs::write(root.join("seen"), "x").map_err(failed("write over a file of a layer"))?;
        fs::remove_file(root.join("seen")).map_err(failed("remove a file of a layer"))
    })();
    unmount(&root).map_err(failed("unmount"))?;
    tried
}

/// Gives `to` the owner and the mode of `from`.
pub(super) fn same_owner_and_mode(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid()))?;
    rustix::fs::chmodat(CWD, to, Mode::from_raw_mode(meta.mode() & 0o7777), AtFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-38
    #[test]
    fn e_38_drivers_are_known_by_dockers_names() {
        for driver in ALL {
            assert_eq!(driver.to_string().parse(), Ok(driver));
        }
        let refused = |text: &str| text.parse::<StorageDriver>().expect_err("not one of ours");
        assert!(refused("aufs").contains("name one of overlay2, btrfs, vfs"));
        assert!(refused("zfs").contains("use overlay2"));
    }

    /// E-38
    #[test]
    fn e_38_what_does_not_work_is_passed_over_with_the_reason() {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(directory.path().join("tmp")).expect("made");
        assert_eq!(
            StorageDriver::choose(directory.path(), Some(StorageDriver::Vfs)).expect("works").0,
            StorageDriver::Vfs
        );
        let refused = StorageDriver::choose(Path::new("/proc"), Some(StorageDriver::Overlay2)).expect_err("no place");
        assert!(refused.to_string().contains("storage driver overlay2 does not work in /proc"), "{refused}");
        let (chosen, passed_over) = StorageDriver::choose(Path::new("/proc"), None).expect("the last resort");
        assert_eq!((chosen, passed_over.len()), (StorageDriver::Vfs, 2));
    }
}
