//! What this host is, for `info` and for the node's description.

mod platforms;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use image::StorageDriver;
use types::{Bytes, Drivers, NanoCpus, NodeDescription, Platform, Resources, Timestamp};

use super::{EngineConfig, LOG_DRIVERS, config::Settings, preflight::CgroupFacts};
use crate::clock::now;

pub const NETWORK_DRIVERS: [&str; 6] = ["bridge", "host", "ipvlan", "macvlan", "null", "overlay"];
pub const VOLUME_DRIVERS: [&str; 1] = ["local"];

/// Facts of the host, which do not change while the daemon runs, and its settings, which may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInfo {
    pub hostname: String,
    /// The distribution's own name (`PRETTY_NAME` of os-release).
    pub operating_system: String,
    pub os_version: String,
    pub kernel_version: String,
    /// `linux`.
    pub os_type: String,
    /// The kernel's word (`x86_64`), as Docker's `info` shows it.
    pub machine: String,
    /// Go's word (`amd64`), as specs and images use it.
    pub architecture: String,
    /// Other platforms whose programs run here.
    pub also_runs: Vec<Platform>,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
    pub cgroup_driver: String,
    pub cgroup_controllers: Vec<String>,
    pub storage_driver: String,
    /// Lines about it: name and value.
    pub storage_status: Vec<(String, String)>,
    /// The program that makes containers, or `embedded`.
    pub oci_runtime: String,
    pub root_dir: String,
    pub engine_version: String,
    pub settings: Settings,
    pub security_options: Vec<String>,
    pub cdi_directories: Vec<PathBuf>,
    /// Who seals the packets of encrypted networks: `kernel` or `userspace`.
    pub encryption: String,
    /// What works less well than it could, in words.
    pub warnings: Vec<String>,
    /// When this daemon started.
    pub since: Timestamp,
}

impl HostInfo {
    /// Looks at the host.
    pub(super) fn read(config: &EngineConfig, cgroup: &CgroupFacts, driver: StorageDriver) -> Self {
        let uname = nix::sys::utsname::uname();
        let field = |get: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map(|u| get(u).to_string_lossy().into_owned()).unwrap_or_default()
        };
        let release = os_release(&std::fs::read_to_string("/etc/os-release").unwrap_or_default());
        let release = |key: &str| release.get(key).cloned().unwrap_or_default();
        let machine = field(nix::sys::utsname::UtsName::machine);
        Self {
            hostname: field(nix::sys::utsname::UtsName::nodename),
            operating_system: release("PRETTY_NAME"),
            os_version: release("VERSION_ID"),
            kernel_version: field(nix::sys::utsname::UtsName::release),
            os_type: "linux".into(),
            architecture: go_architecture(&machine).to_owned(),
            also_runs: platforms::also_runs(&machine, Path::new("/proc/sys")),
            machine,
            cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memory_bytes: total_memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            cgroup_version: cgroup.version,
            cgroup_driver: "cgroupfs".into(),
            cgroup_controllers: cgroup.controllers.iter().cloned().collect(),
            storage_driver: driver.to_string(),
            storage_status: storage_status(
                &std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
                &config.state_dir,
            ),
            oci_runtime: config.oci_runtime.clone(),
            root_dir: config.state_dir.display().to_string(),
            engine_version: config.version.clone(),
            settings: config.settings.clone(),
            security_options: security_options(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()),
            cdi_directories: config.cdi_directories.clone(),
            encryption: config.encryption.to_string(),
            warnings: warnings(cgroup),
            since: now(),
        }
    }

    /// The same as the cluster sees it.
    pub fn description(&self, tls_issuer_pem: String) -> NodeDescription {
        NodeDescription {
            hostname: self.hostname.clone(),
            platform: self.platform(),
            also_runs: self.also_runs.clone(),
            resources: Resources {
                nano_cpus: NanoCpus(u64::from(self.cpus) * 1_000_000_000),
                memory: Bytes(self.memory_bytes),
                pids: 0,
                generic: self.settings.generic_resources.clone(),
            },
            engine_version: self.engine_version.clone(),
            engine_labels: self.settings.labels.clone(),
            tls_issuer_pem,
            drivers: Drivers {
                logs: LOG_DRIVERS.map(str::to_owned).into(),
                networks: NETWORK_DRIVERS.map(str::to_owned).into(),
                volumes: VOLUME_DRIVERS.map(str::to_owned).into(),
            },
            ..NodeDescription::default()
        }
    }
}

impl HostInfo {
    fn platform(&self) -> Platform {
        match self.architecture.as_str() {
            // the kernel's word has the variant
            "arm" => Platform::new(&self.os_type, &self.machine, "").normal(),
            architecture => {
                let variant = image::Platform::machine().variant.unwrap_or_default();
                Platform::new(&self.os_type, architecture, &variant)
            }
        }
    }
}

fn os_release(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned())).collect()
}

/// The kernel's architecture in Go's words (Go's `internal/goarch`); unknown ones stay as they are.
fn go_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" => "386",
        "armv6l" | "armv7l" | "armv8l" => "arm",
        "ppc64le" | "s390x" | "riscv64" => machine,
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Bytes of `MemTotal` in the text of /proc/meminfo (which counts in KiB).
fn total_memory(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    kib * 1024
}

/// What the layers lie on. The mount that is last in the table and above the directory is the one in force.
fn storage_status(mountinfo: &str, state_dir: &std::path::Path) -> Vec<(String, String)> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = std::path::PathBuf::from(before.split(' ').nth(4)?);
        state_dir
            .starts_with(&point)
            .then(|| (point.components().count(), after.split(' ').next().unwrap_or_default().to_owned()))
    };
    let kind = mountinfo.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind);
    vec![("Backing Filesystem".to_owned(), kind.unwrap_or_else(|| "unknown".to_owned()))]
}

fn security_options(status: &str) -> Vec<String> {
    let seccomp = status.lines().any(|line| line.starts_with("Seccomp:"));
    if seccomp { vec!["name=seccomp,profile=builtin".into()] } else { Vec::new() }
}

fn warnings(cgroup: &CgroupFacts) -> Vec<String> {
    let wanted = [("cpuset", "CPU pinning"), ("io", "block I/O limits")];
    let has = |name: &str| cgroup.controllers.contains(name) || (name == "io" && cgroup.controllers.contains("blkio"));
    wanted
        .into_iter()
        .filter(|(controller, _)| !has(controller))
        .map(|(controller, what)| format!("WARNING: no {what}: the cgroup controller {controller} is missing"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(total_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16384 * 1024);
        assert_eq!(total_memory("nonsense"), 0);
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / /var/lib rw - xfs /dev/sdb rw\nbroken\n";
        let backing = |path: &str| storage_status(mounts, std::path::Path::new(path))[0].1.clone();
        assert_eq!((backing("/var/lib/rswarm").as_str(), backing("/srv").as_str()), ("xfs", "ext4"));
        let release = os_release("PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID='12'\n");
        assert_eq!((release["PRETTY_NAME"].as_str(), release["VERSION_ID"].as_str()), ("Debian GNU/Linux 12", "12"));
        assert_eq!((go_architecture("x86_64"), go_architecture("aarch64")), ("amd64", "arm64"));
    }
}
