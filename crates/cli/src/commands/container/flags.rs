//! The flags of `run` and `create`, in docker's names. Only names and places: `spec/single` says what they mean.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::limits::LimitFlags;
use crate::output::units::{parse_bytes, parse_duration};

pub(crate) fn nanoseconds(text: &str) -> Result<u64, String> {
    parse_duration(text).map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// What a container is made of.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, args_override_self = true)]
pub(crate) struct CreateFlags {
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    pub(crate) basics: Basics,
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(flatten)]
    pub(crate) rights: Rights,
    #[command(flatten)]
    pub(crate) health: HealthFlags,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    pub(crate) image: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// The process, and what becomes of it.
#[derive(Debug, Args)]
pub(crate) struct Basics {
    /// Name; a random one if left out
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// Attach to stdin, stdout or stderr
    #[arg(short, long, value_name = "STREAM", value_parser = ["stdin", "stdout", "stderr", "STDIN", "STDOUT", "STDERR"])]
    pub(crate) attach: Vec<String>,
    /// Keep standard input open
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) interactive: Option<bool>,
    /// On a terminal of its own
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) tty: Option<bool>,
    /// Remove the container when it ends
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) rm: Option<bool>,
    /// Set a variable: NAME=VALUE, or NAME to take this shell's
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Set a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Add an annotation
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Command before the arguments, in place of the image's; empty for none
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// User, and group: NAME|UID[:GROUP|GID]
    #[arg(short, long, default_value = "")]
    pub(crate) user: String,
    /// Additional groups
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Directory in the container
    #[arg(short, long, default_value = "")]
    pub(crate) workdir: String,
    /// Signal to stop it with
    #[arg(long, value_name = "SIGNAL", default_value = "")]
    pub(crate) stop_signal: String,
    /// Seconds between the stop signal and the end
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) stop_timeout: Option<i64>,
    /// When it ends: no, on-failure[:MAX], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub(crate) restart: String,
    /// An init as its first process, which passes signals on and reaps
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) init: Option<bool>,
    /// Logging driver
    #[arg(long, value_name = "DRIVER", default_value = "")]
    pub(crate) log_driver: String,
    /// Option of the logging driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Get the image first: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: String,
    /// Do not show how the image comes
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Platform of the image (os/architecture)
    #[arg(long, default_value = "")]
    pub(crate) platform: String,
    /// Runtime
    #[arg(long, default_value = "", hide = true)]
    pub(crate) runtime: String,
    /// Isolation technology
    #[arg(long, default_value = "", hide = true)]
    pub(crate) isolation: String,
}

/// Files and networks.
#[derive(Debug, Args)]
pub(crate) struct Places {
    /// Mount a directory or a volume: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long, value_name = "MOUNT")]
    pub(crate) volume: Vec<String>,
    /// Mount: type=bind|volume|tmpfs,source=,target=,readonly,…
    #[arg(long)]
    pub(crate) mount: Vec<String>,
    /// Mount memory: TARGET[:OPTIONS]
    #[arg(long, value_name = "TARGET")]
    pub(crate) tmpfs: Vec<String>,
    /// Mount what another container has mounted: CONTAINER[:ro]
    #[arg(long, value_name = "CONTAINER")]
    pub(crate) volumes_from: Vec<String>,
    /// Driver of new volumes
    #[arg(long, value_name = "DRIVER", default_value = "")]
    pub(crate) volume_driver: String,
    /// Option of the storage driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) storage_opt: Vec<String>,
    /// Its root is read-only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) read_only: Option<bool>,
    /// Publish a port: [[ADDRESS:]PORT:]TARGET[/PROTOCOL], ranges too
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports
    #[arg(short = 'P', long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) publish_all: Option<bool>,
    /// Expose a port, or a range of them
    #[arg(long, value_name = "PORT")]
    pub(crate) expose: Vec<String>,
    /// Network: NAME, bridge, host, none, container:NAME, or name=NAME,alias=,ip=,mac-address=,driver-opt=
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub(crate) network: Vec<String>,
    /// Another name of the container in its network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub(crate) network_alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub(crate) ip: String,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub(crate) ip6: String,
    /// MAC address
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub(crate) mac_address: String,
    /// Link to another container: CONTAINER[:ALIAS]
    #[arg(long, value_name = "CONTAINER")]
    pub(crate) link: Vec<String>,
    /// Link-local addresses
    #[arg(long, value_name = "ADDRESS", hide = true)]
    pub(crate) link_local_ip: Vec<String>,
    /// Host name
    #[arg(short = 'h', long, default_value = "")]
    pub(crate) hostname: String,
    /// NIS domain name
    #[arg(long, default_value = "")]
    pub(crate) domainname: String,
    /// A line for /etc/hosts: NAME:ADDRESS, or NAME:host-gateway
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// Search domain
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option of the resolver
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
}

/// What it may do, and whose namespaces it is in.
#[derive(Debug, Args)]
pub(crate) struct Rights {
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// All capabilities and devices
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) privileged: Option<bool>,
    /// seccomp=FILE|unconfined, no-new-privileges, apparmor=unconfined, label=disable, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Device of the host: PATH[:PATH_IN_CONTAINER[:rwm]]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<String>,
    /// Rule for devices, such as 'c 42:* rmw'
    #[arg(long, value_name = "RULE")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Graphics processors
    #[arg(long, value_name = "COUNT|all|KEY=VALUE")]
    pub(crate) gpus: Vec<String>,
    /// Kernel parameter of its namespaces
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// Processes of: host, container:NAME
    #[arg(long, value_name = "MODE", default_value = "")]
    pub(crate) pid: String,
    /// Shared memory of: none, private, shareable, host, container:NAME
    #[arg(long, value_name = "MODE", default_value = "")]
    pub(crate) ipc: String,
    /// Host name of: host
    #[arg(long, value_name = "MODE", default_value = "")]
    pub(crate) uts: String,
    /// Users of: host
    #[arg(long, value_name = "MODE", default_value = "")]
    pub(crate) userns: String,
    /// Control groups of: host, private
    #[arg(long, value_name = "MODE", default_value = "")]
    pub(crate) cgroupns: String,
}

/// Whether it is well.
#[derive(Debug, Args)]
pub(crate) struct HealthFlags {
    /// Command that checks its health
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Time between checks (default 30s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) health_interval: Option<u64>,
    /// Time a check may take (default 30s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) health_timeout: Option<u64>,
    /// Time after the start in which failures do not count
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) health_start_period: Option<u64>,
    /// Time between checks in that period (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) health_start_interval: Option<u64>,
    /// Failures in a row that make it unhealthy (default 3)
    #[arg(long, value_name = "N")]
    pub(crate) health_retries: Option<u64>,
    /// No check, the image's neither
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_healthcheck: Option<bool>,
}

/// A number of bytes, or -1 for no bound.
pub(crate) fn bytes_or_none(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        text => parse_bytes(text).and_then(|bytes| i64::try_from(bytes).map_err(|_| format!("{text:?} is too much"))),
    }
}
