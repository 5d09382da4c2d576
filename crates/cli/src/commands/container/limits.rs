//! The flags that bound what a container uses: of `run` and `create`, and those that `update` has too.

use clap::Args;

use super::flags::bytes_or_none;
use crate::output::units::{parse_bytes, parse_cpus};

/// What `update` changes as well.
#[derive(Debug, Args)]
pub(crate) struct SharedLimits {
    /// Memory
    #[arg(short, long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) memory: Option<u64>,
    /// Memory it asks for when memory is short
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) memory_reservation: Option<u64>,
    /// Memory and swap together; -1 for no bound
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = bytes_or_none)]
    pub(crate) memory_swap: Option<i64>,
    /// CPUs
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    pub(crate) cpus: Option<u64>,
    /// Share of the CPUs, beside others'
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cpu_shares: Option<i64>,
    /// Microseconds of each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Length of a period in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(crate) cpu_period: Option<i64>,
    /// Time of the real-time scheduler in each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, hide = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Period of the real-time scheduler
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, hide = true)]
    pub(crate) cpu_rt_period: Option<i64>,
    /// CPUs it runs on: 0-2,4
    #[arg(long, value_name = "CPUS", default_value = "")]
    pub(crate) cpuset_cpus: String,
    /// Memory nodes it has memory of
    #[arg(long, value_name = "NODES", default_value = "")]
    pub(crate) cpuset_mems: String,
    /// Number of processes; -1 for no bound
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Share of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct LimitFlags {
    #[command(flatten)]
    pub(crate) shared: SharedLimits,
    /// How readily its memory is swapped, 0 to 100
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Not killed when memory is short
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) oom_kill_disable: Option<bool>,
    /// How readily it is killed when memory is short, -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) oom_score_adj: Option<i64>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) shm_size: Option<u64>,
    /// Limit of its processes: NAME=SOFT[:HARD]
    #[arg(long, value_name = "ULIMIT")]
    pub(crate) ulimit: Vec<String>,
    /// Control group that its own is made in
    #[arg(long, value_name = "PATH", default_value = "")]
    pub(crate) cgroup_parent: String,
    /// Share of a block device, 10 to 1000: PATH:WEIGHT
    #[arg(long, value_name = "PATH:WEIGHT")]
    pub(crate) blkio_weight_device: Vec<String>,
    /// Bytes read of a device each second: PATH:RATE
    #[arg(long, value_name = "PATH:RATE")]
    pub(crate) device_read_bps: Vec<String>,
    /// Bytes written to a device each second: PATH:RATE
    #[arg(long, value_name = "PATH:RATE")]
    pub(crate) device_write_bps: Vec<String>,
    /// Reads of a device each second: PATH:RATE
    #[arg(long, value_name = "PATH:RATE")]
    pub(crate) device_read_iops: Vec<String>,
    /// Writes to a device each second: PATH:RATE
    #[arg(long, value_name = "PATH:RATE")]
    pub(crate) device_write_iops: Vec<String>,
}
