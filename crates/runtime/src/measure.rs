//! What else is asked of a container that runs: its processes, its use in detail, other limits; and its log by
//! path, when nothing else of it is left. Called by the engine for single containers.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::Path,
};

use crate::{
    cgroup::{Cgroup, CgroupLayout, Stats},
    config::{ContainerConfig, DeviceWeight, LogConfig, Resources},
    error::{Error, Result},
    log::{self, LogQuery, LogStream},
    record::{ContainerDir, Record},
    runtime::Runtime,
};

/// What a container uses, in detail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    pub stats: Stats,
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    /// Periods, those in which it was held back, and for how long.
    pub throttled: (u64, u64, u64),
    /// Page cache that the kernel would give back first; not in `stats.memory_bytes`.
    pub inactive_file_bytes: u64,
    /// Memory that is no page cache.
    pub rss_bytes: u64,
    /// Major and minor number of the device, bytes read and written.
    pub io: Vec<(u64, u64, u64, u64)>,
    /// The same with numbers of operations.
    pub io_operations: Vec<(u64, u64, u64, u64)>,
    /// Everything that the kernel counts of its memory, by the kernel's names.
    pub memory: BTreeMap<String, u64>,
    /// The most it ever used, and how often it met its limit: counted by cgroup v1 alone.
    pub memory_peak: Option<(u64, u64)>,
    /// Processor time on each of them; counted by cgroup v1 alone.
    pub cpu_each_ns: Vec<u64>,
}

impl Runtime {
    /// All its processes, as this process numbers them.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn pids(&self, id: &str) -> Result<Vec<i32>> {
        Ok(self.layout.cgroup(&self.record(id)?.cgroup_path).pids())
    }

    /// What it uses now, in detail.
    ///
    /// # Errors
    /// If it does not exist or has no cgroup.
    pub fn usage(&self, id: &str) -> Result<Usage> {
        let record = self.record(id)?;
        let cgroup = self.layout.cgroup(&record.cgroup_path);
        let stats = cgroup.stats().map_err(Error::io(id, "read its cgroup"))?;
        let mut usage = Usage { stats, ..Usage::default() };
        match self.layout {
            CgroupLayout::V2 { .. } => read_v2(&cgroup, &mut usage),
            CgroupLayout::V1 { .. } => read_v1(&cgroup, &mut usage),
        }
        Ok(usage)
    }

    /// Gives a running container these limits in place of those it has; 0 and `None` leave one as it is.
    ///
    /// # Errors
    /// If it does not exist, or naming the limit that the kernel refuses; those before it are in force then.
    pub fn update(&self, id: &str, resources: &Resources) -> Result<()> {
        let record = self.record(id)?;
        let is_v2 = matches!(self.layout, CgroupLayout::V2 { .. });
        let changes = if is_v2 { changes_v2(resources) } else { changes_v1(resources) };
        self.write(&record, changes)
    }

    /// Gives it a label, in place of one of the same name: who lists it sees that from now on.
    ///
    /// # Errors
    /// If it does not exist or cannot be written down.
    pub fn label(&self, id: &str, name: &str, value: &str) -> Result<()> {
        let mut record = self.record(id)?;
        record.labels.insert(name.to_owned(), value.to_owned());
        self.dir(id)?.write_record(&record).map_err(Error::io(id, "write its record"))
    }

    /// A new container's shares of devices: not all OCI runtimes write them on v1.
    pub(crate) fn weigh_devices(&self, config: &ContainerConfig) -> Result<()> {
        let weights = &config.resources.device_weights;
        if weights.is_empty() {
            return Ok(());
        }
        let is_v2 = matches!(self.layout, CgroupLayout::V2 { .. });
        self.write(&self.record(&config.id)?, device_weights(weights, is_v2))
    }

    fn write(&self, record: &Record, changes: Vec<Change>) -> Result<()> {
        let (id, cgroup) = (&record.id, self.layout.cgroup(&record.cgroup_path));
        let (mut left, mut put_off) = (VecDeque::from(changes), Vec::new());
        while let Some((controller, file, value)) = left.pop_front() {
            let Some(dir) = cgroup.dir(controller) else { continue };
            let path = dir.join(file);
            // Not on every kernel: swap that is counted, shares of block devices.
            if (file.contains("sw") || file.contains("io.")) && !path.exists() {
                continue;
            }
            let hint = if file.contains("weight_device") { "; BFQ must be the device's scheduler" } else { "" };
            let failed =
                |e: io::Error| io::Error::new(e.kind(), format!("write {value} to {}: {e}{hint}", path.display()));
            match fs::write(&path, &value) {
                // Memory and memory with swap bound each other: which comes first depends on what they are now.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) && !put_off.contains(&file) && !left.is_empty() => {
                    put_off.push(file);
                    left.push_back((controller, file, value));
                }
                written => written.map_err(failed).map_err(Error::io(id, "change its limits"))?,
            }
        }
        Ok(())
    }

    /// The log of a container by its path, also when the container is not there any more.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn logs_at(&self, id: &str, log: &LogConfig, query: &LogQuery) -> Result<LogStream> {
        let dir = ContainerDir::new(self.config.run_dir.join(id));
        let query = LogQuery { follow: query.follow && dir.path().is_dir(), ..query.clone() };
        log::open(log, &dir, &query).map_err(Error::io(id, "read its log"))
    }
}

type Change = (&'static str, &'static str, String);

fn period(resources: &Resources) -> u64 {
    if resources.cpu_period_us > 0 { resources.cpu_period_us } else { 100_000 }
}

fn quota(resources: &Resources) -> Option<i64> {
    let of_cpus = || i64::try_from(u128::from(resources.nano_cpus) * u128::from(period(resources)) / 1_000_000_000);
    match (resources.cpu_quota_us, resources.nano_cpus) {
        (0, 0) => None,
        (0, _) => Some(of_cpus().unwrap_or(i64::MAX).max(1000)),
        (quota, _) => Some(quota),
    }
}

fn changes_v2(resources: &Resources) -> Vec<Change> {
    let mut changes = common(resources);
    if let Some(quota) = quota(resources) {
        let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
        changes.push(("cpu", "cpu.max", format!("{quota} {}", period(resources))));
    }
    if resources.cpu_shares > 0 {
        // The kernel's own mapping of shares, 2 to 262144, to weights, 1 to 10000.
        let weight = 1 + (resources.cpu_shares.max(2) - 2) * 9999 / 262_142;
        changes.push(("cpu", "cpu.weight", weight.to_string()));
    }
    if resources.memory_bytes > 0 {
        changes.push(("memory", "memory.max", resources.memory_bytes.to_string()));
    }
    if resources.memory_swap_bytes != 0 {
        let swap = u64::try_from(resources.memory_swap_bytes).ok();
        let value = swap.map_or("max".to_owned(), |all| all.saturating_sub(resources.memory_bytes).to_string());
        changes.push(("memory", "memory.swap.max", value));
    }
    if resources.memory_reservation_bytes > 0 {
        changes.push(("memory", "memory.low", resources.memory_reservation_bytes.to_string()));
    }
    if resources.blkio_weight > 0 {
        changes.push(("io", "io.bfq.weight", resources.blkio_weight.to_string()));
        changes.push(("io", "io.weight", iocost_weight(resources.blkio_weight).to_string()));
    }
    changes.extend(device_weights(&resources.device_weights, true));
    changes
}

fn changes_v1(resources: &Resources) -> Vec<Change> {
    let mut changes = common(resources);
    if let Some(quota) = quota(resources) {
        changes.push(("cpu", "cpu.cfs_period_us", period(resources).to_string()));
        changes.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
    }
    if resources.cpu_shares > 0 {
        changes.push(("cpu", "cpu.shares", resources.cpu_shares.to_string()));
    }
    if resources.memory_swap_bytes != 0 {
        // First up, then the other: the kernel refuses memory above memory and swap.
        changes.push(("memory", "memory.memsw.limit_in_bytes", resources.memory_swap_bytes.to_string()));
    }
    if resources.memory_bytes > 0 {
        changes.push(("memory", "memory.limit_in_bytes", resources.memory_bytes.to_string()));
    }
    if resources.memory_reservation_bytes > 0 {
        let value = resources.memory_reservation_bytes.to_string();
        changes.push(("memory", "memory.soft_limit_in_bytes", value));
    }
    if resources.blkio_weight > 0 {
        let value = resources.blkio_weight.to_string();
        changes.push(("blkio", "blkio.weight", value.clone()));
        changes.push(("blkio", "blkio.bfq.weight", value));
    }
    changes.extend(device_weights(&resources.device_weights, false));
    changes
}

/// For each way that a kernel may have; those it has not are passed over.
fn device_weights(weights: &[DeviceWeight], is_v2: bool) -> Vec<Change> {
    let of_one = |of: &DeviceWeight| {
        let line = |weight: u64| format!("{}:{} {weight}", of.major, of.minor);
        let own = line(of.weight.into());
        match is_v2 {
            true => [("io", "io.bfq.weight", own), ("io", "io.weight", line(iocost_weight(of.weight)))],
            false => [("blkio", "blkio.weight_device", own.clone()), ("blkio", "blkio.bfq.weight_device", own)],
        }
    };
    weights.iter().flat_map(of_one).collect()
}

/// From CFQ's weights, 10 to 1000, to those of `iocost`, 1 to 10000, as runc has it.
fn iocost_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).max(10) - 10) * 9999 / 990
}

fn common(resources: &Resources) -> Vec<Change> {
    let mut changes = Vec::new();
    let pids = if resources.pids_limit > 0 { resources.pids_limit.to_string() } else { "max".to_owned() };
    changes.push(("pids", "pids.max", pids));
    for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
        if !value.is_empty() {
            changes.push(("cpuset", file, value.clone()));
        }
    }
    changes
}

fn read_v2(cgroup: &Cgroup<'_>, usage: &mut Usage) {
    let text = |controller: &str, file: &str| read(cgroup, controller, file);
    let cpu = text("cpu", "cpu.stat");
    usage.cpu_user_ns = field(&cpu, "user_usec").saturating_mul(1000);
    usage.cpu_system_ns = field(&cpu, "system_usec").saturating_mul(1000);
    let held = field(&cpu, "throttled_usec").saturating_mul(1000);
    usage.throttled = (field(&cpu, "nr_periods"), field(&cpu, "nr_throttled"), held);
    let memory = text("memory", "memory.stat");
    (usage.inactive_file_bytes, usage.rss_bytes) = (field(&memory, "inactive_file"), field(&memory, "anon"));
    usage.memory = fields(&memory);
    // 8:0 rbytes=1 wbytes=2 rios=3 …
    for line in text("io", "io.stat").lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        let pairs: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
        let value = |name| pairs.iter().find(|(key, _)| *key == name).and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
        usage.io.push((major, minor, value("rbytes"), value("wbytes")));
        usage.io_operations.push((major, minor, value("rios"), value("wios")));
    }
}

fn read_v1(cgroup: &Cgroup<'_>, usage: &mut Usage) {
    let text = |controller: &str, file: &str| read(cgroup, controller, file);
    let number = |file: &str| text("cpuacct", file).trim().parse().unwrap_or(0);
    (usage.cpu_user_ns, usage.cpu_system_ns) = (number("cpuacct.usage_user"), number("cpuacct.usage_sys"));
    let cpu = text("cpu", "cpu.stat");
    usage.throttled = (field(&cpu, "nr_periods"), field(&cpu, "nr_throttled"), field(&cpu, "throttled_time"));
    let memory = text("memory", "memory.stat");
    usage.inactive_file_bytes = field(&memory, "total_inactive_file");
    usage.rss_bytes = field(&memory, "total_rss");
    usage.memory = fields(&memory);
    let of_memory = |file: &str| text("memory", file).trim().parse::<u64>().ok();
    usage.memory_peak = of_memory("memory.max_usage_in_bytes").zip(of_memory("memory.failcnt"));
    let each = text("cpuacct", "cpuacct.usage_percpu");
    usage.cpu_each_ns = each.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    usage.io = by_device(&text("blkio", "blkio.throttle.io_service_bytes"));
    usage.io_operations = by_device(&text("blkio", "blkio.throttle.io_serviced"));
}

/// `8:0 Read 4096`, a line for each device and way.
fn by_device(text: &str) -> Vec<(u64, u64, u64, u64)> {
    let mut found: Vec<(u64, u64, u64, u64)> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [of, kind, counted] = words[..] else { continue };
        let (Some((major, minor)), Ok(counted)) = (device(of), counted.parse::<u64>()) else { continue };
        let place = found.iter().position(|(a, b, ..)| (*a, *b) == (major, minor)).unwrap_or_else(|| {
            found.push((major, minor, 0, 0));
            found.len() - 1
        });
        match kind {
            "Read" => found[place].2 = counted,
            "Write" => found[place].3 = counted,
            _ => {}
        }
    }
    found
}

/// All lines of a file of `name number` lines.
fn fields(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn read(cgroup: &Cgroup<'_>, controller: &str, file: &str) -> String {
    let path = cgroup.dir(controller).unwrap_or_else(|| Path::new("/nonexistent").to_owned()).join(file);
    fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, name: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_25_what_the_kernel_counts_is_read() {
        let io = by_device("8:0 Read 4096\n8:0 Write 1\n8:0 Sync 9\n8:16 Read 2\nTotal 5000\n");
        assert_eq!(io, [(8, 0, 4096, 1), (8, 16, 2, 0)]);
        let memory = fields("cache 4096\nrss 12\nodd\nworse x\n");
        assert_eq!(memory.into_iter().collect::<Vec<_>>(), [("cache".to_owned(), 4096), ("rss".to_owned(), 12)]);
    }

    #[test]
    fn limits_become_files_of_both_layouts() {
        let resources = Resources {
            nano_cpus: 500_000_000,
            memory_bytes: 64 << 20,
            memory_swap_bytes: 128 << 20,
            pids_limit: 20,
            cpu_shares: 1024,
            blkio_weight: 500,
            device_weights: vec![DeviceWeight { major: 8, minor: 0, weight: 1000 }],
            ..Resources::default()
        };
        let files = |changes: Vec<Change>| changes.into_iter().map(|(_, f, v)| format!("{f}={v}")).collect::<Vec<_>>();
        assert_eq!(
            files(changes_v2(&resources)),
            [
                "pids.max=20",
                "cpu.max=50000 100000",
                "cpu.weight=39",
                "memory.max=67108864",
                "memory.swap.max=67108864",
                "io.bfq.weight=500",
                "io.weight=4950",
                "io.bfq.weight=8:0 1000",
                "io.weight=8:0 10000"
            ]
        );
        assert_eq!(
            files(changes_v1(&resources)),
            [
                "pids.max=20",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpu.shares=1024",
                "memory.memsw.limit_in_bytes=134217728",
                "memory.limit_in_bytes=67108864",
                "blkio.weight=500",
                "blkio.bfq.weight=500",
                "blkio.weight_device=8:0 1000",
                "blkio.bfq.weight_device=8:0 1000"
            ]
        );
        assert_eq!(files(changes_v2(&Resources::default())), ["pids.max=max"]);
    }
}
