//! One OCI container on one host, and the shim that outlives the daemon.
//!
//! Called by `node`'s engine, which hands in plain data ([`ContainerConfig`]) and gets plain data
//! back. Nothing here knows services, tasks or images. It must never keep the truth about a
//! container in the daemon's memory: everything is in the kernel, in the shim, or in the
//! container's directory, so that a daemon killed at any instant finds all of it again.

mod attach;
pub mod cdi;
mod cgroup;
mod client;
mod config;
mod dev;
mod end;
mod error;
mod exec;
mod fds;
mod fits;
mod launch;
mod log;
mod masked;
mod measure;
pub mod oci;
mod process;
mod protocol;
mod record;
mod renew;
mod rootfs;
mod runtime;
pub mod shim;
mod subpath;
mod teardown;
mod terminal;
mod time;

pub use attach::{AttachConfig, Attached};
pub use cgroup::{CgroupLayout, LimitsHere, Stats};
pub use config::{
    ContainerConfig, Device, DeviceRule, DeviceWeight, FileMount, Fluentd, FluentdAddress, Gelf, GelfCompression,
    GelfTransport, LogConfig, LogDriver, LogForward, LogQueue, Mount, MountKind, NamespaceMode, OciRuntime,
    Propagation, Resources, Seccomp, Syslog, SyslogAddress, SyslogFormat, Throttle, ThrottleKind, Ulimit,
};
pub use error::{Error, Result};
pub use exec::{Captured, ContainerFacts, Exec, ExecConfig, ExecEnd, ExecStreams};
pub use log::{LogEntry, LogQuery, LogStream, Stream};
pub use masked::masked_paths;
pub use measure::Usage;
/// What of /proc nobody may change, as Docker has it.
pub use oci::READONLY_PATHS;
pub use record::{ContainerState, Created, ExitReason, ExitStatus, Status};
pub use renew::renew_socket;
pub use rootfs::make_mount_points;
pub use runtime::{Runtime, RuntimeConfig};
pub use terminal::{Terminal, resize};
/// What a container can be sent.
pub use types::{NoSignal, Signal};
