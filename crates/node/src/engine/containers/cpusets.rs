//! Processors and memory nodes that containers are bound to: only such as the host has. Docker's words, from moby
//! `daemon/daemon_unix.go`.

use std::fs;

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
