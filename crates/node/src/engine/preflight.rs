//! What a host needs before it can run containers, checked before anything is touched.
//!
//! [`Facts::read`] looks, [`missing`] judges. Called once by the engine's start.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// What was found on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub root: bool,
    pub overlayfs: bool,
    /// The `nft` program.
    pub nft: bool,
    /// The OCI runtime as configured, if it was not found.
    pub oci_runtime_missing: Option<String>,
    pub cgroup: CgroupFacts,
}

/// The control groups of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupFacts {
    /// 1 (also for the hybrid layout whose controllers are on version 1), 2, or 0 for none.
    pub version: u8,
    pub controllers: BTreeSet<String>,
}

/// Without these limits cannot be kept and tasks cannot be told apart.
const NEEDED_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

impl Facts {
    /// Looks at the host. What cannot be read counts as not there.
    pub fn read(oci_runtime: &str) -> Self {
        let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        Self {
            root: nix::unistd::geteuid().is_root(),
            overlayfs: filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay")),
            nft: find_program("nft").is_some(),
            oci_runtime_missing: find_runtime(oci_runtime).is_none().then(|| oci_runtime.to_owned()),
            cgroup: CgroupFacts::read(Path::new("/sys/fs/cgroup")),
        }
    }
}

impl CgroupFacts {
    /// Reads the layout mounted at `root`.
    pub fn read(root: &Path) -> Self {
        if let Ok(controllers) = std::fs::read_to_string(root.join("cgroup.controllers")) {
            let controllers = controllers.split_whitespace().map(str::to_owned).collect();
            return Self { version: 2, controllers };
        }
        let controllers: BTreeSet<String> = known_controllers()
            .into_iter()
            .filter(|name| root.join(name).is_dir() || root.join(format!("{name},cpuacct")).is_dir())
            .collect();
        Self { version: u8::from(!controllers.is_empty()), controllers }
    }
}

fn known_controllers() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    rows.filter(|line| line.ends_with('1')).filter_map(|line| line.split('\t').next()).map(str::to_owned).collect()
}

/// The name of the OCI runtime that is linked into the shim.
const EMBEDDED: &str = "embedded";

/// The OCI runtime of this name, if it is there.
pub(super) fn find_runtime(name: &str) -> Option<runtime::OciRuntime> {
    if name == EMBEDDED {
        return Some(runtime::OciRuntime::Embedded);
    }
    find_program(name).map(runtime::OciRuntime::External)
}

fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|p| p.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|p| p.is_file())
}

/// What is missing, each with what to do about it; empty when the host is fit.
pub fn missing(facts: &Facts) -> Vec<String> {
    let mut missing = Vec::new();
    let mut need = |there: bool, text: String| {
        if !there {
            missing.push(text);
        }
    };
    need(facts.root, "not running as root (start the daemon with systemd or sudo)".into());
    need(facts.nft, "the program nft is not in PATH (install the package nftables)".into());
    if let Some(runtime) = &facts.oci_runtime_missing {
        need(
            false,
            format!("the OCI runtime {runtime} was not found (install it, or name another with --oci-runtime)"),
        );
    }
    let cgroup = &facts.cgroup;
    if cgroup.version == 0 {
        need(false, "no control groups are mounted at /sys/fs/cgroup (mount cgroup2 there)".into());
    } else {
        let lacking: Vec<&str> = NEEDED_CONTROLLERS.into_iter().filter(|c| !cgroup.controllers.contains(*c)).collect();
        need(
            lacking.is_empty(),
            format!(
                "the cgroup controllers {} are not available at /sys/fs/cgroup (enable them on the kernel command line \
                 or, with version 2, in cgroup.subtree_control of the parent)",
                lacking.join(", ")
            ),
        );
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Facts {
        let controllers = ["cpu", "cpuset", "memory", "pids"].map(str::to_owned).into();
        let cgroup = CgroupFacts { version: 2, controllers };
        Facts { root: true, overlayfs: true, nft: true, oci_runtime_missing: None, cgroup }
    }

    #[test]
    fn a_fit_host_lacks_nothing() {
        assert!(missing(&fit()).is_empty());
    }

    #[test]
    fn everything_missing_is_said_at_once_with_what_to_do() {
        let said = missing(&Facts { oci_runtime_missing: Some("crun".into()), ..Facts::default() });
        assert_eq!(said.len(), 4, "{said:#?}");
        for (text, part) in said.iter().zip(["sudo", "nftables", "--oci-runtime", "mount cgroup2"]) {
            assert!(text.contains(part), "{text}");
        }
        let mut facts = fit();
        facts.cgroup.controllers.remove("pids");
        let said = missing(&facts);
        assert!(said.len() == 1 && said[0].contains("controllers pids are"), "{said:?}");
    }

    #[test]
    fn the_two_cgroup_layouts_are_told_apart() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(CgroupFacts::read(dir.path()).version, 0);
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu memory pids\n").expect("write");
        let facts = CgroupFacts::read(dir.path());
        assert_eq!((facts.version, facts.controllers.len()), (2, 3));
    }
}
