//! Bounds on what a container uses, at `create` and `update`. The rules and words are Docker's (moby
//! `daemon/daemon_unix.go`), checked as far as the host need not be asked.

use super::spec::{Limits, ThrottleKind, ThrottleRequest, WeightRequest, cgroup_parent_problem};
use crate::convert::reader::{FieldError, Object};

/// Less memory than this starts nothing.
const LEAST_MEMORY_BYTES: u64 = 6 << 20;
const CPU_PERIODS_US: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const LEAST_QUOTA_US: i64 = 1_000;
const LEAST_NANO_CPUS: u64 = 10_000_000;
/// The kernel's bounds on a quota (44 bits of microseconds), on shares and on processes.
const MOST_QUOTA_US: i64 = (1 << 44) - 1;
const MOST_SHARES: i64 = 262_144;
const MOST_PIDS: i64 = 4 << 20;
const BLKIO_WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1_000;

const THROTTLES: [(&str, ThrottleKind); 4] = [
    ("BlkioDeviceReadBps", ThrottleKind::ReadBytes),
    ("BlkioDeviceWriteBps", ThrottleKind::WriteBytes),
    ("BlkioDeviceReadIOps", ThrottleKind::ReadOperations),
    ("BlkioDeviceWriteIOps", ThrottleKind::WriteOperations),
];

/// The fields of Docker's `Resources` in `from`.
pub(super) fn read(from: &mut Object<'_>) -> Result<Limits, FieldError> {
    let pids = from.integer("PidsLimit")?.unwrap_or(0);
    if pids > MOST_PIDS {
        return Err(from.bad("PidsLimit", format!("{pids} is more than the kernel has, {MOST_PIDS}; -1 is no bound")));
    }
    let mut limits = Limits {
        cpuset_cpus: read_cpuset(from, "CpusetCpus")?,
        cpuset_mems: read_cpuset(from, "CpusetMems")?,
        pids: u64::try_from(pids).unwrap_or(0),
        oom_kill_disable: from.boolean("OomKillDisable")?,
        cgroup_parent: read_cgroup_parent(from)?,
        ..Limits::default()
    };
    read_memory(from, &mut limits)?;
    read_cpus(from, &mut limits)?;
    read_block_io(from, &mut limits)?;
    Ok(limits)
}

fn read_memory(from: &mut Object<'_>, limits: &mut Limits) -> Result<(), FieldError> {
    let memory = amount(from, "Memory")?;
    if memory != 0 && memory < LEAST_MEMORY_BYTES {
        return Err(from.bad("Memory", "Minimum memory limit allowed is 6MB"));
    }
    let swap = from.integer("MemorySwap")?.unwrap_or(0);
    if swap < -1 {
        return Err(from.bad("MemorySwap", format!("{swap} is neither -1 for no bound nor a number of bytes")));
    }
    if swap > 0 && memory == 0 {
        let text = "You should always set the Memory limit when using Memoryswap limit, see usage";
        return Err(from.bad("MemorySwap", text));
    }
    if swap > 0 && u64::try_from(swap).unwrap_or(0) < memory {
        let text = "Minimum memoryswap limit should be larger than memory limit, see usage";
        return Err(from.bad("MemorySwap", text));
    }
    let reservation = amount(from, "MemoryReservation")?;
    if reservation != 0 && reservation < LEAST_MEMORY_BYTES {
        return Err(from.bad("MemoryReservation", "Minimum memory reservation allowed is 6MB"));
    }
    if memory != 0 && reservation > memory {
        let text = "Minimum memory limit can not be less than memory reservation limit, see usage";
        return Err(from.bad("MemoryReservation", text));
    }
    let swappiness = from.integer("MemorySwappiness")?.unwrap_or(-1);
    if !(-1..=100).contains(&swappiness) {
        let text = format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100");
        return Err(from.bad("MemorySwappiness", text));
    }
    (limits.memory_bytes, limits.memory_swap_bytes, limits.memory_reservation_bytes) = (memory, swap, reservation);
    limits.swappiness = u64::try_from(swappiness).ok();
    Ok(())
}

fn read_cpus(from: &mut Object<'_>, limits: &mut Limits) -> Result<(), FieldError> {
    let (nano_cpus, period) = (amount(from, "NanoCpus")?, amount(from, "CpuPeriod")?);
    let quota = from.integer("CpuQuota")?.unwrap_or(0);
    let shares = from.integer("CpuShares")?.unwrap_or(0);
    if nano_cpus > 0 && period > 0 {
        let text = "Conflicting options: Nano CPUs and CPU Period cannot both be set";
        return Err(from.bad("NanoCpus", text));
    }
    if nano_cpus > 0 && quota > 0 {
        return Err(from.bad("NanoCpus", "Conflicting options: Nano CPUs and CPU Quota cannot both be set"));
    }
    if nano_cpus > 0 && nano_cpus < LEAST_NANO_CPUS {
        return Err(from.bad("NanoCpus", "Range of CPUs is from 0.01 up to what the host has"));
    }
    if period > 0 && !CPU_PERIODS_US.contains(&period) {
        let text = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
        return Err(from.bad("CpuPeriod", text));
    }
    if quota > 0 && quota < LEAST_QUOTA_US {
        return Err(from.bad("CpuQuota", "CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    if quota > MOST_QUOTA_US {
        return Err(from.bad("CpuQuota", format!("{quota} is more than the kernel takes, {MOST_QUOTA_US}")));
    }
    if shares > MOST_SHARES {
        return Err(from.bad("CpuShares", format!("{shares} is more than the kernel takes, {MOST_SHARES}")));
    }
    let positive =
        |_| from.bad("CpuShares", format!("invalid CPU shares ({shares}): value must be a positive integer"));
    limits.cpu_shares = u64::try_from(shares).map_err(positive)?;
    (limits.nano_cpus, limits.cpu_period_us, limits.cpu_quota_us) = (nano_cpus, period, quota.max(-1));
    Ok(())
}

fn read_block_io(from: &mut Object<'_>, limits: &mut Limits) -> Result<(), FieldError> {
    limits.blkio_weight = weight(from, "BlkioWeight", "Range of blkio weight is from 10 to 1000")?;
    for mut item in from.objects("BlkioWeightDevice")? {
        let path = read_device(&mut item)?;
        let text = format!("invalid weight for device: {path}; it is from 10 to 1000");
        let weight = weight(&mut item, "Weight", text)?;
        item.finish()?;
        // as Docker has it, none is the host's own
        if weight != 0 {
            limits.device_weights.push(WeightRequest { path, weight });
        }
    }
    for (field, kind) in THROTTLES {
        for mut item in from.objects(field)? {
            let path = read_device(&mut item)?;
            let rate = amount(&mut item, "Rate")?;
            item.finish()?;
            limits.throttles.push(ThrottleRequest { kind, path, rate });
        }
    }
    Ok(())
}

/// 10 to 1000; nothing is 0.
fn weight(from: &mut Object<'_>, field: &'static str, bad: impl Into<String>) -> Result<u16, FieldError> {
    match amount(from, field)? {
        0 => Ok(0),
        weight => match u16::try_from(weight).ok().filter(|weight| BLKIO_WEIGHTS.contains(weight)) {
            Some(weight) => Ok(weight),
            None => Err(from.bad(field, bad)),
        },
    }
}

fn read_device(item: &mut Object<'_>) -> Result<String, FieldError> {
    let path = item.string("Path")?;
    match path.starts_with('/') {
        true => Ok(path),
        false => Err(item.bad("Path", format!("{path:?} is not the absolute path of a device"))),
    }
}

fn read_cgroup_parent(from: &mut Object<'_>) -> Result<String, FieldError> {
    let parent = from.string("CgroupParent")?;
    match cgroup_parent_problem(&parent) {
        Some(problem) => Err(from.bad("CgroupParent", problem)),
        None => Ok(parent),
    }
}

/// `0-2,4`.
pub(crate) fn read_cpuset(from: &mut Object<'_>, field: &'static str) -> Result<String, FieldError> {
    let text = from.string(field)?;
    let number = |digits: &str| digits.parse::<u16>().ok();
    let part = |part: &str| match part.split_once('-') {
        None => number(part).is_some(),
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
    };
    match text.is_empty() || text.split(',').all(part) {
        true => Ok(text),
        false => Err(from.bad(field, format!("Invalid value {text} for {}: write 0-2,4", kind_of_set(field)))),
    }
}

fn kind_of_set(field: &str) -> &'static str {
    if field == "CpusetCpus" { "cpuset cpus" } else { "cpuset mems" }
}

/// A number that is not negative; nothing is 0.
fn amount(from: &mut Object<'_>, field: &'static str) -> Result<u64, FieldError> {
    let number = from.natural(field)?.unwrap_or(0);
    // Docker's numbers have a sign, the kernel's too
    if i64::try_from(number).is_err() {
        return Err(from.bad(field, format!("{number} is more than any host has")));
    }
    Ok(number)
}
