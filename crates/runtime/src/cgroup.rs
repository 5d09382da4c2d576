//! The cgroup of one container, on the unified hierarchy (v2) and on the older one with a mount per
//! controller (v1, also where v2 is mounted beside it without controllers). Called by the library
//! and by the shim. It touches only the container's own cgroup and the parents it makes for it,
//! and never moves a process: the OCI runtime does that.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// How this host mounts its cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupLayout {
    V2 {
        root: PathBuf,
    },
    /// One entry per mounted hierarchy: its controllers and where it is.
    V1 {
        hierarchies: Vec<(Vec<String>, PathBuf)>,
    },
}

/// What a container uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Processor time since creation, nanoseconds.
    pub cpu_ns: u64,
    /// Without the page cache that the kernel would give back first, as `docker stats` shows it.
    pub memory_bytes: u64,
    /// `None`: no limit.
    pub memory_limit_bytes: Option<u64>,
    pub pids: u64,
    pub pids_limit: Option<u64>,
}

/// Limits that not every kernel or layout of cgroups has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsHere {
    /// Shares of block devices, by BFQ, CFQ or `iocost`.
    pub io_weight: bool,
    pub swappiness: bool,
    pub oom_kill_disable: bool,
}

/// Controllers that limit or measure a container; on v2 they must be switched on for children.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// How long killed processes may take to leave a cgroup. Zombies leave when their parent reaps them.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

impl CgroupLayout {
    /// Asks the kernel.
    ///
    /// # Errors
    /// If no cgroups are mounted.
    pub fn detect() -> io::Result<Self> {
        Self::parse(&fs::read_to_string("/proc/self/mountinfo")?)
            .ok_or_else(|| io::Error::other("no cgroups are mounted on this host; mount cgroup2 on /sys/fs/cgroup"))
    }

    /// From the text of `/proc/self/mountinfo`. A later mount hides an earlier one.
    fn parse(mountinfo: &str) -> Option<Self> {
        let (mut unified, mut hierarchies) = (None, Vec::new());
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match (right.next(), right.next_back()) {
                (Some("cgroup2"), _) => unified = Some(PathBuf::from(point)),
                (Some("cgroup"), Some(options)) => {
                    let words = options.split(',').filter(|word| !["rw", "ro", "xattr"].contains(word));
                    let controllers: Vec<String> = words.map(str::to_owned).collect();
                    hierarchies.retain(|(known, _)| *known != controllers);
                    hierarchies.push((controllers, PathBuf::from(point)));
                }
                _ => {}
            }
        }
        let real = |(names, _): &(Vec<String>, PathBuf)| names.iter().any(|name| CONTROLLERS.contains(&name.as_str()));
        if hierarchies.iter().any(real) {
            return Some(Self::V1 { hierarchies });
        }
        unified.map(|root| Self::V2 { root })
    }

    /// Names of the directories of the hierarchies; none on v2.
    pub(crate) fn hierarchies(&self) -> Vec<String> {
        match self {
            Self::V2 { .. } => Vec::new(),
            Self::V1 { hierarchies } => {
                let names = hierarchies.iter().filter_map(|(_, point)| point.file_name());
                names.map(|name| name.to_string_lossy().into_owned()).collect()
            }
        }
    }

    pub(crate) fn swap_limit(&self) -> bool {
        match self {
            Self::V2 { root } => any_child_has(root, "memory.swap.max"),
            Self::V1 { .. } => self.root_has("memory", "memory.memsw.limit_in_bytes"),
        }
    }

    pub(crate) fn limits_here(&self) -> LimitsHere {
        match self {
            Self::V2 { root } => LimitsHere {
                // the second is in children only where the controller is switched on for them, its costs are in the root
                io_weight: self.root_has("io", "io.cost.qos")
                    || ["io.bfq.weight", "io.weight"].iter().any(|file| any_child_has(root, file)),
                swappiness: false,
                oom_kill_disable: false,
            },
            Self::V1 { .. } => LimitsHere {
                // BFQ shows its weight in children only, and what it counts in the root too
                io_weight: ["blkio.weight", "blkio.bfq.io_serviced"].iter().any(|file| self.root_has("blkio", file)),
                swappiness: self.root_has("memory", "memory.swappiness"),
                oom_kill_disable: self.root_has("memory", "memory.oom_control"),
            },
        }
    }

    fn root_has(&self, controller: &str, file: &str) -> bool {
        self.cgroup("/").dir(controller).is_some_and(|dir| dir.join(file).exists())
    }

    pub(crate) fn cgroup(&self, path: &str) -> Cgroup<'_> {
        Cgroup { layout: self, path: path.trim_start_matches('/').to_owned() }
    }
}

/// One cgroup, wherever its parts are mounted.
pub(crate) struct Cgroup<'a> {
    layout: &'a CgroupLayout,
    path: String,
}

impl Cgroup<'_> {
    /// Its directory for one controller.
    pub(crate) fn dir(&self, controller: &str) -> Option<PathBuf> {
        match self.layout {
            CgroupLayout::V2 { root } => Some(root.join(&self.path)),
            CgroupLayout::V1 { hierarchies } => hierarchies
                .iter()
                .find(|(names, _)| names.iter().any(|name| name == controller))
                .map(|(_, point)| point.join(&self.path)),
        }
    }

    /// Its directories in all hierarchies.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        match self.layout {
            CgroupLayout::V2 { root } => vec![root.join(&self.path)],
            CgroupLayout::V1 { hierarchies } => hierarchies.iter().map(|(_, point)| point.join(&self.path)).collect(),
        }
    }

    /// Makes the parents and, on v2, lets their children have controllers. On v1 the runtime makes
    /// what it needs.
    pub(crate) fn ensure_parents(&self) -> io::Result<()> {
        let CgroupLayout::V2 { root } = self.layout else { return Ok(()) };
        let mut dir = root.clone();
        let parts: Vec<&str> = self.path.split('/').collect();
        for part in &parts[..parts.len().saturating_sub(1)] {
            enable_controllers(&dir)?;
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(at(&dir, &err)),
                _ => {}
            }
        }
        enable_controllers(&dir)
    }

    /// Stops or resumes all its processes; returns when the kernel says so. What does not stop in time goes on.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        let dir = self.dir("freezer").ok_or_else(|| io::Error::other("the freezer cgroup is not mounted"))?;
        let (file, [go_on, stop], state_file, states) = match self.layout {
            CgroupLayout::V2 { .. } => ("cgroup.freeze", ["0", "1"], "cgroup.events", ["frozen 0", "frozen 1"]),
            CgroupLayout::V1 { .. } => ("freezer.state", ["THAWED", "FROZEN"], "freezer.state", ["THAWED", "FROZEN"]),
        };
        let (value, state) = (if frozen { stop } else { go_on }, states[usize::from(frozen)]);
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            // Written again each time: on v1 a process forked meanwhile may have escaped the first.
            fs::write(dir.join(file), value).map_err(|err| at(&dir.join(file), &err))?;
            if fs::read_to_string(dir.join(state_file))?.lines().any(|line| line == state) {
                return Ok(());
            }
            if Instant::now() > deadline {
                // or it would stop later, although somebody was told that it does not
                fs::write(dir.join(file), go_on).map_err(|err| at(&dir.join(file), &err))?;
                return Err(io::Error::other(format!("{} does not become {state:?} within 2 s", dir.display())));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        let (file, state) = match self.layout {
            CgroupLayout::V2 { .. } => ("cgroup.freeze", "1"),
            CgroupLayout::V1 { .. } => ("freezer.state", "FROZEN"),
        };
        self.dir("freezer").and_then(|dir| fs::read_to_string(dir.join(file)).ok()).is_some_and(|s| s.trim() == state)
    }

    /// The processes in it and below, as this process numbers them.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.dirs().iter().flat_map(|dir| pids_below(dir)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Sends `signal` to every process in it. Those that are gone meanwhile do not matter.
    pub(crate) fn signal_all(&self, signal: Signal) {
        if let (CgroupLayout::V2 { root }, Signal::SIGKILL) = (self.layout, signal)
            && fs::write(root.join(&self.path).join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        for pid in self.pids() {
            kill(Pid::from_raw(pid), signal).ok();
        }
    }

    /// How many processes the kernel killed in it for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = match self.layout {
            CgroupLayout::V2 { .. } => "memory.events",
            CgroupLayout::V1 { .. } => "memory.oom_control",
        };
        self.dir("memory").and_then(|dir| field(&dir.join(file), "oom_kill")).unwrap_or(0)
    }

    pub(crate) fn stats(&self) -> io::Result<Stats> {
        let number = |controller: &str, file: &str| {
            self.dir(controller).and_then(|dir| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok())
        };
        if !self.dirs().iter().any(|dir| dir.exists()) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it has no cgroup; it is not running"));
        }
        let memory_field = |name: &str| self.dir("memory").and_then(|dir| field(&dir.join("memory.stat"), name));
        Ok(match self.layout {
            CgroupLayout::V2 { root } => Stats {
                cpu_ns: field(&root.join(&self.path).join("cpu.stat"), "usage_usec").unwrap_or(0).saturating_mul(1000),
                memory_bytes: number("memory", "memory.current")
                    .unwrap_or(0)
                    .saturating_sub(memory_field("inactive_file").unwrap_or(0)),
                memory_limit_bytes: number("memory", "memory.max"),
                pids: number("pids", "pids.current").unwrap_or(0),
                pids_limit: number("pids", "pids.max"),
            },
            CgroupLayout::V1 { .. } => Stats {
                cpu_ns: number("cpuacct", "cpuacct.usage").unwrap_or(0),
                memory_bytes: number("memory", "memory.usage_in_bytes")
                    .unwrap_or(0)
                    .saturating_sub(memory_field("total_inactive_file").unwrap_or(0)),
                // v1 writes "no limit" as the largest number of whole pages.
                memory_limit_bytes: number("memory", "memory.limit_in_bytes").filter(|limit| *limit < 1 << 62),
                pids: number("pids", "pids.current").unwrap_or(0),
                pids_limit: number("pids", "pids.max"),
            },
        })
    }

    /// Kills what is in it and removes it from every hierarchy. Nothing there is success.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        loop {
            let left: Vec<(PathBuf, io::Error)> =
                self.dirs().into_iter().filter_map(|dir| remove_tree(&dir).err().map(|err| (dir, err))).collect();
            let Some((dir, err)) = left.first() else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(at(dir, err));
            }
            if self.is_frozen() {
                self.freeze(false).ok();
            }
            self.signal_all(Signal::SIGKILL);
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The root of v2 has no files of limits: what the kernel has is seen in any child.
fn any_child_has(root: &Path, file: &str) -> bool {
    children(root).iter().take(64).any(|child| child.join(file).exists())
}

fn enable_controllers(dir: &Path) -> io::Result<()> {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).map_err(|err| at(dir, &err))?;
    let enabled = fs::read_to_string(dir.join("cgroup.subtree_control")).map_err(|err| at(dir, &err))?;
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    for name in CONTROLLERS.iter().filter(|name| has(&available, name) && !has(&enabled, name)) {
        fs::write(dir.join("cgroup.subtree_control"), format!("+{name}")).map_err(|err| {
            let hint = match err.raw_os_error() {
                Some(libc::EBUSY) => "; there are processes in this cgroup itself: start the daemon in one below it",
                _ => "",
            };
            io::Error::new(
                err.kind(),
                format!("cannot enable {name} for the children of {}: {err}{hint}", dir.display()),
            )
        })?;
    }
    Ok(())
}

fn pids_below(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    pids.extend(children(dir).iter().flat_map(|child| pids_below(child)));
    pids
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Ok(()) => return Ok(()),
        Err(err) if is_nowhere(&err) => return Ok(()),
        Err(_) => {}
    }
    children(dir).iter().try_for_each(|child| remove_tree(child))?;
    fs::remove_dir(dir)
}

/// No cgroup can be there: below a file, or with a name that the kernel does not take.
fn is_nowhere(err: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(err.kind(), NotFound | NotADirectory | InvalidFilename)
}

/// The number after `name` in a file of `name number` lines.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn at(path: &Path, err: &io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(point: &str, kind: &str, options: &str) -> String {
        format!("31 25 0:27 / {point} rw,nosuid shared:5 - {kind} {kind} {options}\n")
    }

    #[test]
    fn layouts() {
        let v2 = line("/sys/fs/cgroup", "cgroup2", "rw,nsdelegate");
        assert_eq!(CgroupLayout::parse(&v2), Some(CgroupLayout::V2 { root: "/sys/fs/cgroup".into() }));

        let hybrid = [
            line("/sys/fs/cgroup/unified", "cgroup2", "rw"),
            line("/sys/fs/cgroup/cpu", "cgroup", "rw,cpu,cpuacct"),
            line("/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
            line("/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd"),
            line("/elsewhere/memory", "cgroup", "rw,memory"),
        ]
        .concat();
        let layout = CgroupLayout::parse(&hybrid).unwrap();
        let cgroup = layout.cgroup("/rswarm/x");
        assert_eq!(cgroup.dir("cpuacct"), Some("/sys/fs/cgroup/cpu/rswarm/x".into()));
        assert_eq!(cgroup.dir("memory"), Some("/elsewhere/memory/rswarm/x".into()));
        assert_eq!(cgroup.dir("pids"), None);
        assert_eq!(cgroup.dirs().len(), 3);

        assert_eq!(CgroupLayout::parse(&line("/", "ext4", "rw")), None);
    }

    /// E-25: a pause that failed is none: on a busy host a container stood still some seconds after it, and was not known to.
    #[test]
    fn e_25_what_does_not_stop_in_time_goes_on() {
        let root = tempfile::tempdir().unwrap();
        let layout = CgroupLayout::V2 { root: root.path().to_owned() };
        let dir = root.path().join("busy");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        let error = layout.cgroup("/busy").freeze(true).unwrap_err();
        assert!(error.to_string().contains("does not become"), "{error}");
        assert_eq!(fs::read_to_string(dir.join("cgroup.freeze")).unwrap(), "0");
    }
}
