//! What the `local` driver's options `type`, `device` and `o` mean, and the mount they ask for (parity E-29).
//!
//! Reading them is pure; the mount itself is the only thing here that touches the host.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, ToSocketAddrs},
    path::Path,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Options by name, as the user gave them.
pub(super) type Options = BTreeMap<String, String>;

const KNOWN: [&str; 3] = ["device", "o", "type"];

/// A file system to mount where the volume's data are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DriverMount {
    kind: String,
    device: String,
    flags: MsFlags,
    propagation: MsFlags,
    /// What the kernel's flags do not cover, for the file system.
    data: String,
}

/// Refuses what cannot be mounted.
///
/// # Errors
/// Docker's sentences, and for `size` what it needs.
pub(super) fn check(options: &Options) -> Result<(), String> {
    if options.contains_key("size") {
        return Err("quota size requested but no quota support: give a tmpfs its size with o=size=100m".to_owned());
    }
    if let Some(unknown) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("invalid option: {unknown:?}"));
    }
    let given = |key: &str| options.get(key).is_some_and(|value| !value.is_empty());
    for (key, needed) in [("device", "type"), ("type", "device"), ("o", "device"), ("o", "type")] {
        if options.contains_key(key) && !given(needed) {
            return Err(format!("missing required option: {needed:?}"));
        }
    }
    Ok(())
}

/// `None` for a plain directory.
pub(super) fn read(options: &Options) -> Option<DriverMount> {
    let device = options.get("device")?.clone();
    let kind = options.get("type")?.clone();
    let (mut flags, mut propagation, mut data) = (MsFlags::empty(), MsFlags::empty(), Vec::new());
    for word in options.get("o").map_or("", String::as_str).split(',').map(str::trim) {
        match (set_flag(word), clear_flag(word), propagation_flag(word)) {
            (Some(flag), _, _) => flags |= flag,
            (_, Some(flag), _) => flags &= !flag,
            (_, _, Some(flag)) => propagation |= flag,
            _ if matches!(word, "" | "defaults") => {}
            _ => data.push(word),
        }
    }
    Some(DriverMount { kind, device, flags, propagation, data: data.join(",") })
}

fn set_flag(word: &str) -> Option<MsFlags> {
    Some(match word {
        "ro" => MsFlags::MS_RDONLY,
        "nosuid" => MsFlags::MS_NOSUID,
        "nodev" => MsFlags::MS_NODEV,
        "noexec" => MsFlags::MS_NOEXEC,
        "sync" => MsFlags::MS_SYNCHRONOUS,
        "dirsync" => MsFlags::MS_DIRSYNC,
        "mand" => MsFlags::MS_MANDLOCK,
        "noatime" => MsFlags::MS_NOATIME,
        "nodiratime" => MsFlags::MS_NODIRATIME,
        "relatime" => MsFlags::MS_RELATIME,
        "strictatime" => MsFlags::MS_STRICTATIME,
        "bind" => MsFlags::MS_BIND,
        "rbind" => MsFlags::MS_BIND.union(MsFlags::MS_REC),
        _ => return None,
    })
}

fn clear_flag(word: &str) -> Option<MsFlags> {
    Some(match word {
        "rw" => MsFlags::MS_RDONLY,
        "suid" => MsFlags::MS_NOSUID,
        "dev" => MsFlags::MS_NODEV,
        "exec" => MsFlags::MS_NOEXEC,
        "async" => MsFlags::MS_SYNCHRONOUS,
        "nomand" => MsFlags::MS_MANDLOCK,
        "atime" => MsFlags::MS_NOATIME,
        "diratime" => MsFlags::MS_NODIRATIME,
        "norelatime" => MsFlags::MS_RELATIME,
        "nostrictatime" => MsFlags::MS_STRICTATIME,
        _ => return None,
    })
}

fn propagation_flag(word: &str) -> Option<MsFlags> {
    let recursive = MsFlags::MS_REC;
    Some(match word {
        "private" => MsFlags::MS_PRIVATE,
        "rprivate" => MsFlags::MS_PRIVATE.union(recursive),
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED.union(recursive),
        "slave" => MsFlags::MS_SLAVE,
        "rslave" => MsFlags::MS_SLAVE.union(recursive),
        "unbindable" => MsFlags::MS_UNBINDABLE,
        "runbindable" => MsFlags::MS_UNBINDABLE.union(recursive),
        _ => return None,
    })
}

/// The kernel's NFS and CIFS take an address where people write a name.
fn resolved(data: &str, find: impl Fn(&str) -> io::Result<IpAddr>) -> io::Result<String> {
    let word = |word: &str| match word.strip_prefix("addr=") {
        Some(host) if host.parse::<IpAddr>().is_err() => find(host).map(|address| format!("addr={address}")),
        _ => Ok(word.to_owned()),
    };
    Ok(data.split(',').map(word).collect::<io::Result<Vec<String>>>()?.join(","))
}

fn look_up(host: &str) -> io::Result<IpAddr> {
    let mut found = (host, 0).to_socket_addrs()?;
    found.next().map(|address| address.ip()).ok_or_else(|| io::Error::other(format!("{host} has no address")))
}

impl DriverMount {
    /// Mounts it on `target`, unless it is there. Blocking; a server that does not answer takes long.
    pub(super) fn ensure(&self, target: &Path) -> io::Result<()> {
        if is_mount_point(target)? {
            return Ok(());
        }
        let network = self.kind.starts_with("nfs") || self.kind == "cifs";
        let data = if network { resolved(&self.data, look_up)? } else { self.data.clone() };
        let data = (!data.is_empty()).then_some(data.as_str());
        mount(Some(self.device.as_str()), target, Some(self.kind.as_str()), self.flags, data)?;
        let done = self.finish(target);
        if done.is_err() {
            unmount(target)?;
        }
        done
    }

    /// What `mount(2)` takes in calls of their own: a bind mount's flags, and the propagation.
    fn finish(&self, target: &Path) -> io::Result<()> {
        let (none, plain) = (None::<&str>, self.flags - (MsFlags::MS_BIND | MsFlags::MS_REC));
        if self.flags.contains(MsFlags::MS_BIND) && !plain.is_empty() {
            mount(none, target, none, plain | MsFlags::MS_BIND | MsFlags::MS_REMOUNT, none)?;
        }
        if !self.propagation.is_empty() {
            mount(none, target, none, self.propagation, none)?;
        }
        Ok(())
    }

    /// For messages.
    pub(super) fn describe(&self) -> String {
        format!("{} (type {})", self.device, self.kind)
    }
}

/// Nothing mounted is fine.
pub(super) fn unmount(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
    // the kernel's escapes of mountinfo
    let shown = path.display().to_string().replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
    Ok(text.lines().any(|line| line.split(' ').nth(4) == Some(shown.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn e29_options_are_checked_in_dockers_words() {
        for (pairs, wanted) in [
            (&[][..], Ok(())),
            (&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")], Ok(())),
            (&[("type", "none"), ("device", "/srv")], Ok(())),
            (&[("colour", "red")], Err("invalid option: \"colour\"")),
            (&[("type", "tmpfs")], Err("missing required option: \"device\"")),
            (&[("device", "/srv")], Err("missing required option: \"type\"")),
            (&[("device", "/srv"), ("type", "")], Err("missing required option: \"type\"")),
            (&[("o", "bind")], Err("missing required option: \"device\"")),
        ] {
            assert_eq!(check(&options(pairs)), wanted.map_err(str::to_owned), "{pairs:?}");
        }
        assert!(check(&options(&[("size", "1g")])).expect_err("no quota").starts_with("quota size requested"));
    }

    #[test]
    fn flags_go_to_the_kernel_and_the_rest_to_the_file_system() {
        let mount = read(&options(&[("type", "tmpfs"), ("device", "x"), ("o", "ro,noexec,size=1m,rw,uid=5,defaults")]));
        let mount = mount.expect("a mount");
        assert_eq!((mount.flags, mount.data.as_str()), (MsFlags::MS_NOEXEC, "size=1m,uid=5"));
        let bind = read(&options(&[("type", "none"), ("device", "/srv"), ("o", "rbind,rslave")])).expect("a mount");
        assert_eq!(bind.flags, MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(bind.propagation, MsFlags::MS_SLAVE | MsFlags::MS_REC);
        assert_eq!(read(&options(&[])), None);
    }

    #[test]
    fn names_of_servers_become_addresses() {
        let find = |host: &str| match host {
            "nas" => Ok(IpAddr::from([192, 0, 2, 7])),
            other => Err(io::Error::other(other.to_owned())),
        };
        assert_eq!(resolved("rw,addr=nas,vers=4", find).expect("found"), "rw,addr=192.0.2.7,vers=4");
        assert_eq!(resolved("addr=192.0.2.9", find).expect("as it is"), "addr=192.0.2.9");
        assert!(resolved("addr=nowhere", find).is_err());
    }
}
