//! The control groups of a lab: `rswarm-lab-<lab>/<host>` in every hierarchy the machine has mounted.
//!
//! They are also the truth about what belongs to a host: whatever is in them is killed with it, and
//! no recorded pid is needed for that. Never touches a group outside `rswarm-lab-*`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::{CgroupMode, Error};

/// How long killed processes may take to leave their groups: exiting a large process on a busy machine.
const EMPTY_DEADLINE: Duration = Duration::from_secs(20);

/// Pause between two looks at a group that must become empty.
const EMPTY_PAUSE: Duration = Duration::from_millis(4);

/// A cgroup file system mounted on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    mount_point: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// With the mount data that names it: `memory`, `cpu,cpuacct`, `none,name=systemd`.
    V1(String),
    V2,
}

/// A mount that a host makes for itself below `/sys/fs/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMount {
    /// Folder below `/sys/fs/cgroup`; empty: that folder itself.
    pub dir: String,
    pub fs_type: String,
    pub data: String,
}

/// All cgroup file systems of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups(Vec<Hierarchy>);

impl Cgroups {
    /// Reads them from our own mount table.
    pub fn of_machine() -> Result<Self, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let found = parse(&text);
        if found.is_empty() {
            return Err(Error::BadSpec(
                "no cgroup file system is mounted on this machine; mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
                    .to_owned(),
            ));
        }
        Ok(Self(found))
    }

    /// What the hosts mount, by mode; fails where the machine cannot offer the mode.
    pub fn mounts(&self, mode: CgroupMode) -> Result<Vec<CgroupMount>, Error> {
        let pure_v2 = self.0.iter().all(|h| h.kind == Kind::V2);
        let v2 = |dir: &str| CgroupMount { dir: dir.to_owned(), fs_type: "cgroup2".to_owned(), data: String::new() };
        match (mode, pure_v2) {
            (CgroupMode::V1, true) => Err(Error::BadSpec(
                "this machine has only cgroup v2, hosts with v1 cannot be made; choose cgroup auto or v2".to_owned(),
            )),
            (CgroupMode::V2, _) | (CgroupMode::Auto, true) => {
                if self.0.iter().any(|h| h.kind == Kind::V2) {
                    return Ok(vec![v2("")]);
                }
                Err(Error::BadSpec("this machine has no cgroup v2 mounted; choose cgroup auto or v1".to_owned()))
            }
            (CgroupMode::V1 | CgroupMode::Auto, false) => Ok(self.0.iter().map(Hierarchy::mount).collect()),
        }
    }

    /// Makes the lab's group in every hierarchy. In `v2_trees` also hands all v2 controllers down to it.
    pub fn ensure_lab(&self, lab: &str, mode: CgroupMode) -> Result<(), Error> {
        for h in &self.0 {
            make(&h.mount_point, &h.lab(lab))?;
            if h.delegates(mode, self.0.len()) {
                delegate(&h.mount_point)?;
                delegate(&h.lab(lab))?;
            }
        }
        Ok(())
    }

    /// Makes a host's groups.
    pub fn ensure_host(&self, lab: &str, host: &str) -> Result<(), Error> {
        for h in &self.0 {
            let group = h.host(lab, host);
            make(&h.lab(lab), &group)?;
            if h.kind == Kind::V2 {
                // A v2 group with controllers for its children may hold no process itself.
                make(&group, &group.join("init"))?;
                make(&group, &group.join("exec"))?;
            }
        }
        Ok(())
    }

    /// The files a process writes 0 to before it makes the host's namespaces: their roots lie there.
    pub fn boot_files(&self, lab: &str, host: &str) -> Vec<PathBuf> {
        self.0.iter().map(|h| h.host(lab, host).join("cgroup.procs")).collect()
    }

    /// The files a process writes 0 to before it enters the running host.
    pub fn exec_files(&self, lab: &str, host: &str) -> Vec<PathBuf> {
        let leaf = |h: &Hierarchy| match h.kind {
            Kind::V1(_) => h.host(lab, host),
            Kind::V2 => h.host(lab, host).join("exec"),
        };
        self.0.iter().map(|h| leaf(h).join("cgroup.procs")).collect()
    }

    /// Moves what booted the host out of its v2 root, so that the host may enable controllers there.
    pub fn clear_root(&self, lab: &str, host: &str) {
        for h in self.0.iter().filter(|h| h.kind == Kind::V2) {
            let group = h.host(lab, host);
            for pid in direct(&group) {
                // Gone meanwhile: nothing to move.
                let _ = fs::write(group.join("init/cgroup.procs"), pid.to_string());
            }
        }
    }

    /// Whether nothing runs in a host.
    pub fn is_empty(&self, lab: &str, host: &str) -> bool {
        self.0.iter().all(|h| members(&h.host(lab, host)).is_empty())
    }

    /// Whether a process is in a host's groups.
    pub fn holds(&self, lab: &str, host: &str, pid: i32) -> bool {
        self.0.iter().any(|h| members(&h.host(lab, host)).contains(&pid))
    }

    /// Kills all processes of a host and waits until they are gone.
    pub fn kill_host(&self, lab: &str, host: &str) -> Result<(), Error> {
        self.kill(&self.0.iter().map(|h| h.host(lab, host)).collect::<Vec<_>>())
    }

    /// Kills all processes of a lab and waits until they are gone.
    pub fn kill_lab(&self, lab: &str) -> Result<(), Error> {
        self.kill(&self.0.iter().map(|h| h.lab(lab)).collect::<Vec<_>>())
    }

    /// Removes the groups of a host, with those made inside.
    pub fn remove_host(&self, lab: &str, host: &str) -> Result<(), Error> {
        self.0.iter().try_for_each(|h| remove(&h.host(lab, host)))
    }

    /// Removes all groups of a lab.
    pub fn remove_lab(&self, lab: &str) -> Result<(), Error> {
        self.0.iter().try_for_each(|h| remove(&h.lab(lab)))
    }

    /// Names of labs that have groups, also of those that lost their folder.
    pub fn labs(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .0
            .iter()
            .filter_map(|h| fs::read_dir(&h.mount_point).ok())
            .flat_map(Iterator::flatten)
            .filter_map(|e| Some(e.file_name().to_str()?.strip_prefix(PREFIX)?.to_owned()))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    fn kill(&self, groups: &[PathBuf]) -> Result<(), Error> {
        let end = Instant::now() + EMPTY_DEADLINE;
        loop {
            let left: Vec<i32> = groups.iter().flat_map(|g| members(g)).collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Error::Timeout {
                    doing: format!("waiting for the killed processes {left:?} to end"),
                    after: EMPTY_DEADLINE,
                });
            }
            thaw(groups);
            for pid in left {
                // It ended between the look and the kill: fine.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(EMPTY_PAUSE);
        }
    }
}

const PREFIX: &str = "rswarm-lab-";

impl Hierarchy {
    fn lab(&self, lab: &str) -> PathBuf {
        self.mount_point.join(format!("{PREFIX}{lab}"))
    }

    fn host(&self, lab: &str, host: &str) -> PathBuf {
        self.lab(lab).join(host)
    }

    /// On a hybrid machine the v2 tree is only handed down when the hosts work with it alone.
    fn delegates(&self, mode: CgroupMode, hierarchies: usize) -> bool {
        self.kind == Kind::V2 && (hierarchies == 1 || mode == CgroupMode::V2)
    }

    fn mount(&self) -> CgroupMount {
        let dir = self.mount_point.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match &self.kind {
            Kind::V1(data) => CgroupMount { dir, fs_type: "cgroup".to_owned(), data: data.clone() },
            Kind::V2 => CgroupMount { dir, fs_type: "cgroup2".to_owned(), data: String::new() },
        }
    }
}

/// The first mount of each cgroup file system in a mountinfo text.
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount_point) = left.split(' ').nth(4) else { continue };
        let mut right = right.split(' ');
        let kind = match (right.next(), right.nth(1)) {
            (Some("cgroup"), Some(options)) => Kind::V1(v1_data(options)),
            (Some("cgroup2"), _) => Kind::V2,
            _ => continue,
        };
        if !found.iter().any(|h| h.kind == kind) {
            found.push(Hierarchy { mount_point: PathBuf::from(mount_point), kind });
        }
    }
    found
}

/// Controllers and name out of a v1 mount's options.
fn v1_data(options: &str) -> String {
    let named = options.split(',').find(|o| o.starts_with("name="));
    let controllers: Vec<&str> = options
        .split(',')
        .filter(|o| !matches!(*o, "rw" | "ro" | "xattr" | "noprefix" | "clone_children" | "cpuset_v2_mode"))
        .filter(|o| !o.contains('='))
        .collect();
    match named {
        Some(name) if controllers.is_empty() => format!("none,{name}"),
        Some(name) => format!("{},{name}", controllers.join(",")),
        None => controllers.join(","),
    }
}

/// Makes one group. A v1 cpuset takes no process before it has been given processors and memory nodes.
fn make(parent: &Path, group: &Path) -> Result<(), Error> {
    match fs::create_dir(group) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(Error::io("make the cgroup", group))?,
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), group.join(file));
        let is_v1 = !group.join("cgroup.controllers").exists();
        if is_v1 && to.exists() {
            let value = fs::read_to_string(&from).map_err(Error::io("read", &from))?;
            fs::write(&to, value.trim()).map_err(Error::io("write", &to))?;
        }
    }
    Ok(())
}

/// Enables every controller for the children of a v2 group.
fn delegate(group: &Path) -> Result<(), Error> {
    let path = group.join("cgroup.controllers");
    let controllers = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let path = group.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    for controller in controllers.split_whitespace() {
        if !enabled.split_whitespace().any(|e| e == controller) {
            fs::write(&path, format!("+{controller}")).map_err(Error::io("hand controllers down in", &path))?;
        }
    }
    Ok(())
}

/// Pids directly in a group, as the machine sees them.
fn direct(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid > 0).collect()
}

/// Pids in a group and all below it.
fn members(group: &Path) -> Vec<i32> {
    let mut pids = direct(group);
    for child in children(group) {
        pids.extend(members(&child));
    }
    pids
}

fn children(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// A process in a frozen v1 group does not die before it is thawed.
fn thaw(groups: &[PathBuf]) {
    for group in groups {
        let state = group.join("freezer.state");
        if state.exists() {
            let _ = fs::write(&state, "THAWED");
            thaw(&children(group));
        }
    }
}

/// Removes a group and all below it, waiting for the last exits to be accounted. A process that joined
/// since the kill (its creator died while starting it) is killed too.
fn remove(group: &Path) -> Result<(), Error> {
    for child in children(group) {
        remove(&child)?;
    }
    let end = Instant::now() + EMPTY_DEADLINE;
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(nix::libc::EBUSY) && Instant::now() < end => {
                for pid in direct(group) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                thread::sleep(EMPTY_PAUSE);
            }
            Err(e) => return Err(Error::io("remove the cgroup", group)(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
55 31 0:29 / /elsewhere rw,relatime - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn hosts_of_a_hybrid_machine_see_what_it_has() {
        let cgroups = Cgroups(parse(HYBRID));
        let seen: Vec<String> = cgroups
            .mounts(CgroupMode::Auto)
            .unwrap()
            .iter()
            .map(|m| format!("{} {} {}", m.dir, m.fs_type, m.data))
            .collect();
        assert_eq!(seen, ["cpu,cpuacct cgroup cpu,cpuacct", "systemd cgroup none,name=systemd", "unified cgroup2 "]);
        assert_eq!(cgroups.mounts(CgroupMode::V2).unwrap().len(), 1);
    }

    #[test]
    fn v1_hosts_are_refused_on_a_pure_v2_machine() {
        let cgroups = Cgroups(parse("29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"));
        assert!(cgroups.mounts(CgroupMode::V1).unwrap_err().to_string().contains("only cgroup v2"));
        assert_eq!(cgroups.mounts(CgroupMode::Auto).unwrap()[0].dir, "");
    }
}
