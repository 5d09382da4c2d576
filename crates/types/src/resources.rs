//! Amounts of CPU, memory and counted or named extra resources.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Billionths of one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoCpus(pub u64);

/// Bytes of memory or disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl NanoCpus {
    /// Smallest limit or reservation that is not zero: 0.001 CPU (swarmkit `controlapi/service.go`).
    pub const MIN: Self = Self(1_000_000);
}

impl Bytes {
    /// Smallest memory limit or reservation that is not zero: 4 MiB (swarmkit `controlapi/service.go`).
    pub const MIN_MEMORY: Self = Self(4 << 20);
}

/// A kind of resource that the kernel does not know: discrete (a count) or named (a set).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GenericResource {
    Count(u64),
    Named(Vec<String>),
}

impl GenericResource {
    /// How many units there are.
    pub fn amount(&self) -> u64 {
        match self {
            Self::Count(count) => *count,
            Self::Named(names) => names.len() as u64,
        }
    }
}

/// What a node has, or what a task reserves or may use. Zero means "not said".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub nano_cpus: NanoCpus,
    pub memory: Bytes,
    /// Most processes a task may have; meaningless in a reservation.
    pub pids: u64,
    pub generic: BTreeMap<String, GenericResource>,
}
