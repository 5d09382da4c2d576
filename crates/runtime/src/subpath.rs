//! Parts of volumes and of mounted images. Who fills a volume may put a link in it that leads out, at any moment; so the part is found by the
//! kernel without leaving the volume, held open, and mounted from there to a place of ours, which the container's mount is
//! made of. As soon as the container has its own mounts, the place is given up. Called by `Runtime::create`.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::Mode,
};

use crate::{
    config::{ContainerConfig, MountKind},
    error::{Error, Result},
};

/// In the directory of the containers; no container has such a name.
const DIRECTORY: &str = ".subpaths";

/// Places with parts of volumes, given up when dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<PathBuf>);

impl Drop for Held {
    fn drop(&mut self) {
        for place in &self.0 {
            if let Err(error) = give_up(place) {
                tracing::warn!(place = %place.display(), %error, "a part of a volume stays mounted");
            }
        }
    }
}

/// The same container with the places instead of parts of volumes; nothing if it has no such mount.
pub(crate) fn hold(config: &ContainerConfig, run_dir: &Path) -> Result<Option<(ContainerConfig, Held)>> {
    let has_parts = |kind: &MountKind| matches!(kind, MountKind::Volume { subpath, .. } if !subpath.is_empty());
    if !config.mounts.iter().any(|mount| has_parts(&mount.kind)) {
        return Ok(None);
    }
    let id = config.id.as_str();
    let directory = run_dir.join(DIRECTORY);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.map_err(Error::io(id, "make the directory for parts of volumes"))?;
    let (mut config, mut held) = (config.clone(), Held::default());
    for (at, wanted) in config.mounts.iter_mut().enumerate() {
        let MountKind::Volume { source, subpath } = &mut wanted.kind else { continue };
        if subpath.is_empty() {
            continue;
        }
        let refused =
            |errno| Error::Invalid { id: id.to_owned(), reason: explain(&wanted.target, source, subpath, errno) };
        let part = find(source, subpath).map_err(refused)?;
        let place = directory.join(format!("{id}-{at}"));
        held.0.push(place.clone());
        show(&part, &place).map_err(Error::io(id, "mount a part of a volume"))?;
        (*source, *subpath) = (place, String::new());
    }
    Ok(Some((config, held)))
}

/// Gives up what a killed daemon had begun.
pub(crate) fn give_up_all(run_dir: &Path) -> io::Result<()> {
    let places = match fs::read_dir(run_dir.join(DIRECTORY)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        places => places?,
    };
    places.into_iter().try_for_each(|place| give_up(&place?.path()))
}

fn find(volume: &Path, subpath: &str) -> Result<OwnedFd, Errno> {
    let root = open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(inside);
    // The kernel gives up on ".." where something is renamed at the same time; so do we, after some tries.
    for _ in 0..16 {
        match openat2(&root, subpath, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            found => return found,
        }
    }
    Err(Errno::EAGAIN)
}

fn explain(target: &str, volume: &Path, subpath: &str, errno: Errno) -> String {
    let volume = volume.display();
    let why = match errno {
        Errno::ENOENT => {
            // docker ends with 127 by these words
            format!(
                "cannot access path {subpath:?} in {volume}: no such file or directory; name what is there when the container starts"
            )
        }
        Errno::EXDEV => format!("{subpath:?} leads out of {volume} by a link; name what is inside"),
        Errno::ENOTDIR => format!("a part of {subpath:?} in {volume} is no directory; name one that is"),
        errno => format!("{subpath:?} in {volume} cannot be opened: {}", errno.desc()),
    };
    format!("the mount at {target}: {why}")
}

/// Mounts what is open at `place`.
fn show(part: &OwnedFd, place: &Path) -> io::Result<()> {
    let source = PathBuf::from(format!("/proc/self/fd/{}", part.as_raw_fd()));
    match fs::metadata(&source)?.is_dir() {
        true => fs::DirBuilder::new().mode(0o700).create(place)?,
        false => drop(fs::File::create_new(place)?),
    }
    Ok(mount(Some(&source), place, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?)
}

/// Never removes anything below: what is mounted there is somebody's data.
fn give_up(place: &Path) -> io::Result<()> {
    match umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    match fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(place),
        Ok(_) => fs::remove_file(place),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::{LogConfig, LogDriver, Mount, Propagation};

    fn container(volume: &Path, subpath: &str) -> ContainerConfig {
        let log = LogConfig { path: "/log".into(), driver: LogDriver::None, forward: None };
        let mut config = ContainerConfig::new("c1", "/root".into(), vec!["true".to_owned()], log);
        config.mounts = vec![Mount {
            kind: MountKind::Volume { source: volume.to_owned(), subpath: subpath.to_owned() },
            target: "/x".to_owned(),
            readonly: false,
            propagation: Propagation::default(),
        }];
        config
    }

    /// S-65 E-15
    #[test]
    fn s_65_e_15_a_part_of_a_volume_is_held_and_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, run_dir) = (dir.path().join("v"), dir.path().join("run"));
        fs::create_dir_all(volume.join("a/b")).unwrap();
        fs::write(volume.join("a/b/f"), "inside").unwrap();
        symlink("a/b", volume.join("near")).unwrap();
        symlink("../../..", volume.join("a/up")).unwrap();
        symlink("/etc", volume.join("far")).unwrap();
        let refused = |subpath: &str| match hold(&container(&volume, subpath), &run_dir) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{subpath} was taken"),
        };
        assert!(refused("a/c").contains("cannot access path \"a/c\" in "), "{}", refused("a/c"));
        assert!(refused("far").contains("leads out of ") && refused("a/up").contains("leads out"));
        assert!(refused("a/b/f/g").contains("is no directory"));
        assert!(hold(&container(&volume, ""), &run_dir).unwrap().is_none());
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        for (subpath, file) in [("a/b", Some("f")), ("near", Some("f")), ("a/b/f", None)] {
            let (config, held) = hold(&container(&volume, subpath), &run_dir).unwrap().unwrap();
            let MountKind::Volume { source, subpath } = &config.mounts[0].kind else { panic!("another kind") };
            assert!(subpath.is_empty() && source.starts_with(&run_dir));
            let shown = file.map_or(source.clone(), |file| source.join(file));
            assert_eq!(fs::read_to_string(shown).unwrap(), "inside");
            drop(held);
            assert!(!source.exists());
        }
        // a daemon that was killed in between
        let (_, held) = hold(&container(&volume, "a"), &run_dir).unwrap().unwrap();
        std::mem::forget(held);
        give_up_all(&run_dir).unwrap();
        assert_eq!(fs::read_dir(run_dir.join(DIRECTORY)).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(volume.join("a/b/f")).unwrap(), "inside", "the data stays");
    }
}
