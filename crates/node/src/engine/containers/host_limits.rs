//! What the host has of the limits that containers ask for: processors and memory nodes that are not there are
//! refused, limits that its kernel does not know are left out with a warning. Docker's words, from moby
//! `daemon/daemon_unix.go`.

use std::fs;

use runtime::LimitsHere;

use super::{ContainerError, spec::Limits};

const PROCESSORS: &str = "/sys/devices/system/cpu/online";
const MEMORY_NODES: &str = "/sys/devices/system/node/online";

/// Looks at the host. Where it does not say, the kernel refuses at the start.
pub(super) fn check(limits: &Limits) -> Result<(), ContainerError> {
    let sets = [(&limits.cpuset_cpus, PROCESSORS, "CPUs"), (&limits.cpuset_mems, MEMORY_NODES, "memory nodes")];
    for (asked, file, what) in sets.into_iter().filter(|(asked, ..)| !asked.is_empty()) {
        let Ok(online) = fs::read_to_string(file) else { continue };
        let online = online.trim();
        if !is_within(asked, online) {
            return Err(ContainerError::invalid(format!(
                "Requested {what} are not available - requested {asked}, available: {online}"
            )));
        }
    }
    Ok(())
}

/// Takes away what the kernel has not, and says so. The host is looked at only for what is asked.
pub(super) fn discard(limits: &mut Limits, look: impl FnOnce() -> LimitsHere) -> Vec<String> {
    let asks_for_weight = limits.blkio_weight != 0 || !limits.device_weights.is_empty();
    if limits.swappiness.is_none() && !limits.oom_kill_disable && !asks_for_weight {
        return Vec::new();
    }
    let here = look();
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    if limits.swappiness.is_some() && !here.swappiness {
        limits.swappiness = None;
        warn(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory \
             swappiness discarded.",
        );
    }
    if limits.oom_kill_disable && !here.oom_kill_disable {
        limits.oom_kill_disable = false;
        warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
    }
    if limits.oom_kill_disable && limits.memory_bytes == 0 {
        warn(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running \
             out of resources.",
        );
    }
    if limits.blkio_weight != 0 && !here.io_weight {
        limits.blkio_weight = 0;
        warn("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.");
    }
    if !limits.device_weights.is_empty() && !here.io_weight {
        limits.device_weights.clear();
        warn(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device \
             discarded.",
        );
    }
    warnings
}

/// `0-2,7` as ranges; what is no number is left out, for it has been checked before.
fn ranges(text: &str) -> impl Iterator<Item = (u32, u32)> {
    text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    })
}

fn is_within(asked: &str, online: &str) -> bool {
    // The kernel joins neighbours, so what is there is in one range.
    ranges(asked).all(|(first, last)| ranges(online).any(|(from, to)| from <= first && last <= to))
}

#[cfg(test)]
mod tests {
    use super::{Limits, LimitsHere, discard};

    #[test]
    fn e_18_what_the_kernel_has_not_is_left_out_and_told() {
        let device_weights = vec![super::super::spec::WeightRequest { path: "/dev/sda".into(), weight: 20 }];
        let asked = Limits {
            memory_bytes: 1 << 30,
            swappiness: Some(10),
            oom_kill_disable: true,
            blkio_weight: 500,
            device_weights,
            ..Limits::default()
        };
        let all = LimitsHere { io_weight: true, swappiness: true, oom_kill_disable: true };
        let mut limits = asked.clone();
        assert_eq!((discard(&mut limits, || all), &limits), (Vec::new(), &asked));
        let none = LimitsHere { io_weight: false, swappiness: false, oom_kill_disable: false };
        assert_eq!(discard(&mut limits, || none).len(), 4);
        assert_eq!(limits, Limits { memory_bytes: 1 << 30, ..Limits::default() });
        assert_eq!(discard(&mut limits, || panic!("nothing is asked for")), Vec::<String>::new());
        let mut unbound = Limits { oom_kill_disable: true, ..Limits::default() };
        let told = discard(&mut unbound, || all);
        assert!(
            unbound.oom_kill_disable && told.len() == 1 && told[0].starts_with("OOM killer is disabled"),
            "{told:?}"
        );
    }

    #[test]
    fn e_18_sets_are_compared_by_ranges() {
        for (asked, online, wanted) in [
            ("0", "0-1", true),
            ("0-1", "0-1", true),
            ("1,3", "0-1", false),
            ("0-3", "0-1,3", false),
            ("3", "0-1,3", true),
        ] {
            assert_eq!(super::is_within(asked, online), wanted, "{asked} of {online}");
        }
    }
}
