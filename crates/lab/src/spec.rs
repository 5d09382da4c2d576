//! What a caller asks for: the lab and its hosts. Plain data, checked by [`crate::Lab::up`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Name;

/// What the hosts see in `/sys/fs/cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// As the machine has it.
    #[default]
    Auto,
    /// One directory per v1 controller and `unified`, as on a hybrid machine.
    V1,
    /// One v2 tree. On a hybrid machine it holds only the controllers v1 does not.
    V2,
}

/// One host of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    pub name: Name,
    /// Size of `/var/lib` in bytes, to try a full disk; `None`: it shares the lab's tmpfs.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
}

/// A lab to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    pub name: Name,
    pub hosts: Vec<HostSpec>,
    #[serde(default)]
    pub cgroup: CgroupMode,
    /// Files and folders of the machine shown inside the hosts at the same path, writable. Only
    /// what lies on the machine's root file system is visible without this.
    #[serde(default)]
    pub share: Vec<PathBuf>,
    /// The `rswarm` program: it is pid 1 of every host (`rswarm lab-host`) and appears as
    /// `/usr/local/bin/rswarm` inside, together with an `rswarm-shim` that lies beside it.
    pub rswarm: PathBuf,
    /// MTU of the cables between the hosts, in bytes.
    pub underlay_mtu: u32,
}

impl LabSpec {
    /// `count` hosts named `h1`, `h2`, …, everything else as the machine has it.
    #[must_use]
    pub fn new(name: Name, count: usize, rswarm: impl Into<PathBuf>) -> Self {
        let hosts = (1..=count).map(|i| numbered("h", i)).collect();
        Self::with_hosts(name, hosts, rswarm)
    }

    /// Managers `m1`, `m2`, … followed by workers `w1`, `w2`, …
    #[must_use]
    pub fn cluster(name: Name, managers: usize, workers: usize, rswarm: impl Into<PathBuf>) -> Self {
        let managers = (1..=managers).map(|i| numbered("m", i));
        let workers = (1..=workers).map(|i| numbered("w", i));
        Self::with_hosts(name, managers.chain(workers).collect(), rswarm)
    }

    fn with_hosts(name: Name, hosts: Vec<HostSpec>, rswarm: impl Into<PathBuf>) -> Self {
        Self { name, hosts, cgroup: CgroupMode::Auto, share: Vec::new(), rswarm: rswarm.into(), underlay_mtu: 1500 }
    }
}

fn numbered(prefix: &str, i: usize) -> HostSpec {
    let name = format!("{prefix}{i}").parse().expect("a letter and a number make a name");
    HostSpec { name, disk_bytes: None }
}
