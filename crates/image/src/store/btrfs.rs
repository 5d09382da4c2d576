//! Subvolumes of btrfs: made, snapshotted and removed by the file system's own calls. Called by the snapshots.

use std::{ffi::OsStr, fs::File, io, os::fd::AsRawFd, os::unix::ffi::OsStrExt as _, path::Path};

use nix::libc;

use super::make_directory;

/// `BTRFS_SUPER_MAGIC` of linux/magic.h.
const BTRFS_MAGIC: u64 = 0x9123_683e;
/// `BTRFS_SUBVOL_NAME_MAX` of linux/btrfs.h.
const NAME_MAX: usize = 4039;

/// `struct btrfs_ioctl_vol_args_v2` of linux/btrfs.h, with its unions as the bytes that they are.
#[repr(C)]
pub struct VolumeArguments {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_MAX + 1],
}

mod call {
    use super::VolumeArguments;

    nix::ioctl_write_ptr!(snapshot, 0x94, 23, VolumeArguments);
    nix::ioctl_write_ptr!(create, 0x94, 24, VolumeArguments);
    nix::ioctl_write_ptr!(destroy, 0x94, 63, VolumeArguments);
}

fn arguments(source: Option<&File>, name: &OsStr) -> io::Result<VolumeArguments> {
    let mut text = [0; NAME_MAX + 1];
    let bytes = name.as_bytes();
    if bytes.len() > NAME_MAX {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    text[..bytes.len()].copy_from_slice(bytes);
    Ok(VolumeArguments {
        fd: source.map_or(0, |file| file.as_raw_fd().into()),
        transid: 0,
        flags: 0,
        unused: [0; 4],
        name: text,
    })
}

type Call = unsafe fn(libc::c_int, *const VolumeArguments) -> nix::Result<libc::c_int>;

fn do_in_parent(call: Call, source: Option<&File>, path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = File::open(parent)?;
    let arguments = arguments(source, name)?;
    // SAFETY: the descriptors stay open until the call returned, and the kernel reads one structure of this layout.
    #[expect(unsafe_code, reason = "there is no safe wrapper of these calls")]
    unsafe { call(parent.as_raw_fd(), &raw const arguments) }?;
    Ok(())
}

/// Makes an empty subvolume.
pub(super) fn create(path: &Path) -> io::Result<()> {
    do_in_parent(call::create, None, path)
}

/// Makes a writable snapshot of the subvolume `source`.
pub(super) fn snapshot(source: &Path, path: &Path) -> io::Result<()> {
    do_in_parent(call::snapshot, Some(&File::open(source)?), path)
}

/// Removes a subvolume with all in it, but for subvolumes inside.
pub(super) fn destroy(path: &Path) -> io::Result<()> {
    do_in_parent(call::destroy, None, path)
}

/// Whether subvolumes can be made, snapshotted and removed in the (missing) directory `trial`.
pub(super) fn try_at(trial: &Path) -> Result<(), String> {
    let above = trial.parent().unwrap_or(trial);
    if !rustix::fs::statfs(above).is_ok_and(|s| s.f_type.cast_unsigned() == BTRFS_MAGIC) {
        return Err("the directory is not on btrfs".to_owned());
    }
    let failed = |what: &'static str| move |error: io::Error| format!("cannot {what} a subvolume: {error}");
    make_directory(trial).map_err(|error| types::with_causes(&error))?;
    let (one, two) = (trial.join("one"), trial.join("two"));
    create(&one).map_err(failed("make"))?;
    snapshot(&one, &two).map_err(failed("snapshot"))?;
    destroy(&two).and_then(|()| destroy(&one)).map_err(failed("remove"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout is the kernel's: a page.
    #[test]
    fn e_38_the_arguments_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<VolumeArguments>(), 4096);
        let long = OsStr::from_bytes(&[b'a'; NAME_MAX + 1]).to_owned();
        assert!(arguments(None, &long).is_err());
    }
}
