//! What a user wants of the cluster as a whole (parity C-13).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Cidr, Labels, LogDriver};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSpec {
    pub labels: Labels,
    pub orchestration: OrchestrationConfig,
    pub raft: RaftConfig,
    pub dispatcher: DispatcherConfig,
    pub ca: CaConfig,
    /// Log driver of tasks that name none (parity C-43).
    pub log_driver: Option<LogDriver>,
    /// Where the subnets of networks that name none come from.
    pub address_pools: AddressPools,
    pub encryption: EncryptionConfig,
}

/// How the managers' keys lie on their disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EncryptionConfig {
    /// A manager whose daemon was restarted waits for the unlock key (parity C-14).
    pub auto_lock_managers: bool,
}

/// Ranges that are cut into subnets of one size (parity C-06).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AddressPools {
    /// Tried in this order; IPv4 and IPv6.
    pub pools: Vec<Cidr>,
    /// Prefix length of the IPv4 subnets cut from them. IPv6 subnets always have 64 (RFC 4291, section 2.5.4).
    pub mask_length: u8,
}

impl Default for AddressPools {
    fn default() -> Self {
        let pool = |text: &str| text.parse().expect("a constant that is a subnet");
        // swarmkit's built-in pool, and a unique local range (RFC 4193) for IPv6
        Self { pools: vec![pool("10.0.0.0/8"), pool("fd72:7377:726d::/48")], mask_length: 24 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrchestrationConfig {
    /// Ended tasks kept per slot (parity C-30); negative keeps all.
    pub task_history_limit: i64,
}

impl Default for OrchestrationConfig {
    fn default() -> Self {
        Self { task_history_limit: 5 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RaftConfig {
    /// Log entries between two snapshots (parity C-29).
    pub snapshot_interval: u64,
    /// Log entries kept behind a snapshot for managers that lag.
    pub log_entries_for_slow_followers: u64,
    /// Snapshots kept beside the newest, and the log from the oldest of them on: a manager whose newest one is damaged
    /// goes on from the one before.
    pub keep_old_snapshots: u64,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self { snapshot_interval: 10_000, log_entries_for_slow_followers: 500, keep_old_snapshots: 0 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DispatcherConfig {
    pub heartbeat_period: Duration,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self { heartbeat_period: Duration::from_secs(1) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaConfig {
    /// How long a node certificate is valid (parity C-16): at least one hour.
    pub node_cert_expiry: Duration,
    /// Another number than before asks for a new root (parity C-18).
    pub force_rotate: u64,
}

impl Default for CaConfig {
    fn default() -> Self {
        Self { node_cert_expiry: Duration::from_secs(2160 * 3600), force_rotate: 0 }
    }
}

/// One peer address of the data plane and the port its probe responder listens on.
pub const DEFAULT_PROBE_PORT: u16 = 7946;

/// The UDP port of VXLAN between hosts when none is said (RFC 7348, section 5; parity C-05).
pub const DEFAULT_DATA_PATH_PORT: u16 = 4789;

/// The address managers listen on when none is said (parity C-02).
pub const DEFAULT_CONTROL_PORT: u16 = 2377;
