//! Which capabilities a container gets: Docker's default set, plus and minus what was asked, and
//! never more than the daemon has itself. Pure.

/// All capabilities by number, as in `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What Docker gives to every container.
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The names in a mask such as `CapBnd` of `/proc/self/status`.
pub(crate) fn names_of(mask: u64) -> impl Iterator<Item = &'static str> {
    NAMES.iter().enumerate().filter(move |(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| *name)
}

/// The container's capabilities, in the order of their numbers. `available` is the daemon's own mask.
pub(super) fn resolve(
    privileged: bool,
    add: &[String],
    drop: &[String],
    available: u64,
) -> Result<Vec<&'static str>, String> {
    let (add, drop) = (normalise(add)?, normalise(drop)?);
    let held: Vec<&'static str> = names_of(available).collect();
    if let Some(lacking) = add.iter().find(|name| **name != "ALL" && !held.contains(name)) {
        return Err(format!("the daemon itself does not have {lacking}, so it cannot give it to a container"));
    }
    let all = privileged || add.contains(&"ALL");
    let wanted = |name: &&'static str| {
        let base = all || (!drop.contains(&"ALL") && DEFAULT.contains(name));
        (base || add.contains(name)) && (privileged || !drop.contains(name))
    };
    Ok(held.into_iter().filter(wanted).collect())
}

/// Whether this is a capability's name, `ALL` among them.
pub fn is_capability(name: &str) -> bool {
    canonical(name).is_ok()
}

fn normalise(names: &[String]) -> Result<Vec<&'static str>, String> {
    names.iter().map(|name| canonical(name)).collect()
}

fn canonical(name: &str) -> Result<&'static str, String> {
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if short == "ALL" {
        return Ok("ALL");
    }
    NAMES
        .iter()
        .find(|known| &known[4..] == short)
        .copied()
        .ok_or_else(|| format!("there is no capability {name:?}; capabilities(7) lists them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], expected: &str) {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let got = match resolve(false, &owned(add), &owned(drop), 0x1ff_feff_ffff) {
            Ok(names) => names.join(" ").replace("CAP_", ""),
            Err(err) => err,
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn default_add_drop_all() {
        check(
            &[],
            &[],
            "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP",
        );
        check(&["net_admin"], &["all"], "NET_ADMIN");
        check(&["CAP_CHOWN"], &["ALL"], "CHOWN");
        check(&[], &["ALL"], "");
        check(&["NET_FLY"], &[], "there is no capability \"NET_FLY\"; capabilities(7) lists them");
        check(
            &["SYS_RESOURCE"],
            &[],
            "the daemon itself does not have CAP_SYS_RESOURCE, so it cannot give it to a container",
        );
    }

    #[test]
    fn all_means_all_the_daemon_has() {
        let all = resolve(false, &["ALL".to_owned()], &["MKNOD".to_owned()], 0x1ff_feff_ffff).unwrap();
        assert_eq!(all.len(), 39); // 41 less the daemon's SYS_RESOURCE and the dropped MKNOD
        assert_eq!(resolve(true, &[], &[], u64::MAX).unwrap().len(), 41);
    }
}
