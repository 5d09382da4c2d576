//! Finds directories inside a layer without ever leaving it.
//! Called by the creator of entries. Each component is opened from its parent's descriptor without
//! following links; links are followed by hand: an absolute one starts at the layer's root, one that
//! climbs above the root is refused. The directory is private to us, so nobody races with the walk.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, XattrFlags},
    io::Errno,
};

/// As many links as Linux follows in one path.
const MAX_LINKS: u32 = 40;
/// Deepest directory accepted: far beyond real images (node_modules reaches about 60), low enough to
/// be removed again with one descriptor per level.
const MAX_DEPTH: usize = 512;

/// What hides the layers below a directory: overlayfs's own mark, and ours for file systems that refuse that one
/// (overlayfs itself), which only the copying storage drivers read.
pub(crate) const MARK_XATTRS: [&str; 2] = ["trusted.overlay.opaque", "trusted.rswarm.opaque"];
/// The same for a removed file: character devices with the numbers 0:0 and 0:1, which no driver has.
pub(super) const MARK_DEVICES: [u64; 2] = [0, 1];

#[derive(Debug)]
pub(super) enum WalkError {
    Hostile(String),
    System(&'static str, Errno),
    /// Only without `create`.
    Missing,
}

/// The root and the directory found last: entries of one directory stand together in a tar.
pub(super) struct Walker {
    root: Rc<OwnedFd>,
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Walker {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), last: None }
    }

    /// To be called when a directory or link has been removed.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// The directory at `path` (components without `..`), made where it is missing and `create` is set.
    pub(super) fn directory(&mut self, path: &[&[u8]], create: bool) -> Result<Rc<OwnedFd>, WalkError> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        let key = path.join(&b'/');
        if let Some((last, fd)) = &self.last
            && *last == key
        {
            return Ok(Rc::clone(fd));
        }
        let found = Rc::new(self.walk(path, create)?);
        self.last = Some((key, Rc::clone(&found)));
        Ok(found)
    }

    fn walk(&self, path: &[&[u8]], create: bool) -> Result<OwnedFd, WalkError> {
        let mut todo: VecDeque<Vec<u8>> = path.iter().map(|c| c.to_vec()).collect();
        let mut stack: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(component) = todo.pop_front() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    stack
                        .pop()
                        .ok_or_else(|| WalkError::Hostile("a symbolic link on its path leaves the image".into()))?;
                    continue;
                }
                _ if stack.len() >= MAX_DEPTH => {
                    return Err(WalkError::Hostile(format!("nested deeper than {MAX_DEPTH} directories")));
                }
                name => match step(stack.last().map_or(self.root.as_fd(), OwnedFd::as_fd), name, create)? {
                    Step::Into(fd) => stack.push(fd),
                    Step::Link(target) => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(WalkError::Hostile("too many symbolic links on its path".into()));
                        }
                        if target.starts_with(b"/") {
                            stack.clear();
                        }
                        for part in target.split(|b| *b == b'/').rev() {
                            todo.push_front(part.to_vec());
                        }
                    }
                },
            }
        }
        match stack.pop() {
            Some(fd) => Ok(fd),
            None => self.root.try_clone().map_err(|e| WalkError::System("open its directory", errno(&e))),
        }
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

enum Step {
    Into(OwnedFd),
    Link(Vec<u8>),
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}

/// One component down from `parent`.
fn step(parent: BorrowedFd<'_>, name: &[u8], create: bool) -> Result<Step, WalkError> {
    let failed = |action| move |e| WalkError::System(action, e);
    match open_directory(parent, name) {
        Ok(fd) => return Ok(Step::Into(fd)),
        Err(Errno::NOENT) if create => {
            make_directory(parent, name).map_err(failed("make its directory"))?;
        }
        Err(Errno::NOENT) => return Err(WalkError::Missing),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look at its directory"))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                let target = fs::readlinkat(parent, name, Vec::new()).map_err(failed("read a link on its path"))?;
                return Ok(Step::Link(target.into_bytes()));
            }
            if !is_whiteout(&stat) {
                let shown = String::from_utf8_lossy(name);
                return Err(WalkError::Hostile(format!("{shown:?} on its path is not a directory")));
            }
            if !create {
                return Err(WalkError::Missing);
            }
            // The layer hides what was below and puts a directory in its place.
            fs::unlinkat(parent, name, AtFlags::empty()).map_err(failed("replace a whiteout"))?;
            make_directory(parent, name).map_err(failed("make its directory"))?;
            let fd = open_directory(parent, name).map_err(failed("open its directory"))?;
            set_opaque(parent, name).map_err(failed("hide the layers below"))?;
            return Ok(Step::Into(fd));
        }
        Err(e) => return Err(WalkError::System("open its directory", e)),
    }
    open_directory(parent, name).map(Step::Into).map_err(failed("open its directory"))
}

/// A directory no entry describes (yet): owned by root, 0755, as other tools do.
fn make_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    fs::chmodat(parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())
}

/// The mark for "nothing here".
pub(crate) fn is_whiteout(stat: &fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && MARK_DEVICES.contains(&stat.st_rdev)
}

/// Leaves that mark: with the first numbers that the file system takes.
pub(super) fn make_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let make = |device| fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), device);
    make(MARK_DEVICES[0]).or_else(|_| make(MARK_DEVICES[1]))
}

/// Hides what lower layers have in this directory.
pub(crate) fn set_opaque(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = fs::openat(parent, name, flags, Mode::empty())?;
    let mark = |name| fs::fsetxattr(&fd, name, b"y", XattrFlags::empty());
    mark(MARK_XATTRS[0]).or_else(|_| mark(MARK_XATTRS[1]))
}
