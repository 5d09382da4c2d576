//! Compresses a rotated file in a child process, so that the container never waits for it: the shim has one thread, and a
//! child gives its memory back. The shim reaps it with all others.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::OFlag,
    unistd::{ForkResult, fork, pipe2},
};

use super::files;

/// The first number that is not a standard stream's.
const KEPT: libc::c_int = 3;

/// The child at work. It holds the other end of this pipe as long as it lives.
pub(super) struct Packer(OwnedFd);

impl Packer {
    /// Begins to compress the file that was rotated last.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the shim has one thread, so its child may do anything, also allocate.
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => Ok(Self(ours)),
            ForkResult::Child => {
                // What others wait for the end of must not stay open here.
                // SAFETY: only numbers of descriptors are given; none but `theirs` is used from here on.
                unsafe {
                    libc::dup2(theirs.as_raw_fd(), KEPT);
                    libc::syscall(libc::SYS_close_range, KEPT + 1, libc::c_uint::MAX, 0);
                }
                let packed = files::pack(path);
                if let Err(err) = &packed {
                    io::stderr().write_all(format!("{err}; it stays as it is\n").as_bytes()).ok();
                }
                // SAFETY: ends this process at once; what the shim has open is not ours to flush or close.
                unsafe { libc::_exit(i32::from(packed.is_err())) }
            }
        }
    }

    /// Waits for the child's end.
    pub(super) fn finish(self) {
        File::from(self.0).read_to_end(&mut Vec::new()).ok();
    }
}
