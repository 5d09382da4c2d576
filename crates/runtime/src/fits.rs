//! What the kernel would refuse a container, said in words before anything is made: the libraries that make containers tell of it
//! as of a root filesystem that cannot be prepared, or as of a number. Called by `launch`. It changes nothing.

use std::{
    fs::{self, File},
    path::Path,
};

use nix::{
    fcntl::OFlag,
    sys::resource::{Resource, getrlimit},
};

use crate::{
    config::{ContainerConfig, Mount, MountKind},
    error::{Error, Result},
    rootfs::Rootfs,
};

const CAP_SYS_RESOURCE: u32 = 24;

/// Where the kernel's own filesystems are mounted before anything of the user's.
const OF_KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

pub(crate) fn check(config: &ContainerConfig, rootfs: &Rootfs, capabilities: u64) -> Result<()> {
    let may_raise = capabilities & (1 << CAP_SYS_RESOURCE) != 0 && owns_the_machine();
    check_open_files(config)?;
    check_ulimits(config, |limit| if may_raise { None } else { own_hard_limit(limit) })?;
    check_oom_score(config, capabilities)?;
    check_mounts(config, rootfs)
}

/// The capability counts for the machine's own bounds outside a user namespace alone.
fn owns_the_machine() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok()) == Some(u64::from(u32::MAX))
}

/// A bound on open files that the kernel refuses to everybody.
fn check_open_files(config: &ContainerConfig) -> Result<()> {
    let most = fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let asked = config.ulimits.iter().find(|limit| limit.name == "nofile").map(|limit| limit.hard);
    match (asked, most) {
        (Some(asked), Some(most)) if asked > most => {
            let reason = format!("ulimit nofile: {asked} is more than the kernel's fs.nr_open, {most}");
            Err(Error::Invalid { id: config.id.clone(), reason })
        }
        _ => Ok(()),
    }
}

/// Nobody raises a hard limit above his own without the right to. `most`: the daemon's own, where that counts.
fn check_ulimits(config: &ContainerConfig, most: impl Fn(&str) -> Option<u64>) -> Result<()> {
    for limit in &config.ulimits {
        if let Some(most) = most(&limit.name).filter(|most| limit.hard > *most) {
            let asked = if limit.hard == u64::MAX { "unlimited".to_owned() } else { limit.hard.to_string() };
            let reason = format!(
                "ulimit {}: {asked} is more than the daemon's own hard limit, {most}, and raising it takes CAP_SYS_RESOURCE; \
                 ask for less, or start the daemon with more",
                limit.name
            );
            return Err(Error::Invalid { id: config.id.clone(), reason });
        }
    }
    Ok(())
}

fn own_hard_limit(name: &str) -> Option<u64> {
    let resource = match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    };
    getrlimit(resource).ok().map(|(_, hard)| hard)
}

/// Nobody lowers it below his own without the right to.
fn check_oom_score(config: &ContainerConfig, capabilities: u64) -> Result<()> {
    let own = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok());
    let (own, asked): (i64, i64) = (own.unwrap_or(0), config.oom_score_adj.into());
    if asked == 0 || asked >= own || capabilities & (1 << CAP_SYS_RESOURCE) != 0 {
        return Ok(());
    }
    let reason = format!("the OOM score {asked} is below the daemon's own, {own}, which takes CAP_SYS_RESOURCE");
    Err(Error::Invalid { id: config.id.clone(), reason })
}

/// A directory is mounted on a directory, and anything else on anything else.
fn check_mounts(config: &ContainerConfig, rootfs: &Rootfs) -> Result<()> {
    let named = |is_directory: bool| if is_directory { "directory" } else { "file" };
    for mount in &config.mounts {
        let Some(source) = source(mount) else { continue };
        let Ok(own) = fs::metadata(source).map(|metadata| metadata.is_dir()) else { continue };
        let Some(there) = is_directory_at(config, rootfs, &mount.target).filter(|there| *there != own) else {
            continue;
        };
        // The last sentence is Docker's, which people look for; the words before it settle the exit code (`error`).
        let reason = format!(
            "mount the {} {} on the {} {}: not a directory: Are you trying to mount a directory onto a file (or \
             vice-versa)? Check if the specified host path exists and is the expected type",
            named(own),
            source.display(),
            named(there),
            mount.target
        );
        return Err(Error::Failed { id: config.id.clone(), operation: "create it", reason });
    }
    Ok(())
}

/// `None`: it is new.
fn source(mount: &Mount) -> Option<&Path> {
    match &mount.kind {
        MountKind::Bind { source, .. } | MountKind::Volume { source, .. } => Some(source),
        MountKind::Tmpfs { .. } => None,
    }
}

/// What a mount will find at its place, in the mount that is nearest above it or in the root filesystem. `None`: nothing, or
/// that cannot be said before.
fn is_directory_at(config: &ContainerConfig, rootfs: &Rootfs, target: &str) -> Option<bool> {
    if OF_KERNEL.iter().any(|directory| *directory == target || below(target, directory).is_some()) {
        return None;
    }
    let above = config.mounts.iter().filter_map(|mount| Some((mount, below(target, &mount.target)?)));
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let found = match above.min_by_key(|(_, rest)| rest.len()) {
        None => rootfs.resolve(target, flags),
        Some((mount, rest)) => Rootfs::open(source(mount)?).ok()?.resolve(rest, flags),
    };
    File::from(found.ok()?).metadata().ok().map(|metadata| metadata.is_dir())
}

/// The rest of a path behind that of a directory above it.
fn below<'a>(path: &'a str, directory: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(directory.trim_end_matches('/'))?;
    (rest.len() > 1 && rest.starts_with('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use crate::config::{LogConfig, LogDriver, Propagation, Ulimit};

    use super::*;

    fn config(rootfs: &Path) -> ContainerConfig {
        let log = LogConfig { path: rootfs.join("log"), driver: LogDriver::None, forward: None };
        ContainerConfig::new("c", rootfs.to_owned(), vec!["true".to_owned()], log)
    }

    /// E-15: a file on a directory, or the other way round, is refused with both, also where another mount is between; what is
    /// not there yet, or fits, is not.
    #[test]
    fn e_15_files_and_directories_are_told_apart() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
        for directory in [root.join("etc"), root.join("data/inner"), volume.clone()] {
            fs::create_dir_all(directory).expect("made");
        }
        for file in [root.join("etc/passwd"), volume.join("inner")] {
            fs::write(file, "").expect("written");
        }
        let rootfs = Rootfs::open(&root).expect("opened");
        let bind = |source: &Path, target: &str| Mount {
            kind: MountKind::Bind { source: source.to_owned(), recursive: true, readonly_below: true },
            target: target.to_owned(),
            readonly: false,
            propagation: Propagation::RPrivate,
        };
        let (file, directory) = (root.join("etc/passwd"), root.join("etc"));
        let check = |mounts: Vec<Mount>| {
            let config = ContainerConfig { mounts, ..config(&root) };
            check_mounts(&config, &rootfs).map_err(|error| (error.to_string(), error.exit_code()))
        };
        let (said, code) = check(vec![bind(&file, "/data")]).expect_err("a file on a directory");
        let words = format!("mount the file {} on the directory /data: not a directory: Are you", file.display());
        assert!(said.contains(&words), "{said}");
        assert_eq!(code, 127);
        assert!(check(vec![bind(&directory, "/etc/passwd")]).is_err());
        for (source, target) in [(&file, "/etc/passwd"), (&directory, "/data"), (&file, "/new"), (&file, "/dev/null")] {
            assert_eq!(check(vec![bind(source, target)]), Ok(()), "{target}");
        }
        let between = |source: &Path| check(vec![bind(&volume, "/data"), bind(source, "/data/inner")]);
        assert!(between(&file).is_ok() && between(&directory).is_err(), "the volume's file counts");
    }

    /// E-18: a limit above what the daemon may give is named, with both numbers.
    #[test]
    fn e_18_a_limit_above_the_hosts_is_named() {
        let ulimits = |hard| vec![Ulimit { name: "memlock".to_owned(), soft: 1, hard }];
        let check = |hard, most: Option<u64>| {
            let config = ContainerConfig { ulimits: ulimits(hard), ..config(Path::new("/")) };
            check_ulimits(&config, |_| most).map_err(|error| error.to_string())
        };
        assert_eq!([check(64, Some(64)), check(65, None)], [Ok(()), Ok(())]);
        let said = check(65, Some(64)).expect_err("too much");
        assert!(said.contains("ulimit memlock: 65 is more than the daemon's own hard limit, 64"), "{said}");
        assert!(check(u64::MAX, Some(64)).expect_err("too much").contains("memlock: unlimited is"));
    }
}
