//! The flags of `service create` and `service update`.

use std::path::PathBuf;

use clap::Args;

use super::job::JobFlags;
use crate::output::units::{parse_bytes, parse_cpus, parse_duration};

fn nanoseconds(text: &str) -> Result<u64, String> {
    parse_duration(text).map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// One value each: given, it replaces what was there.
#[derive(Debug, Args, Default, PartialEq)]
pub(crate) struct Scalars {
    /// Number of tasks, or of completions of a replicated job
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) replicas: Option<u64>,
    /// Maximum number of tasks per node (0 = unlimited)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) replicas_max_per_node: Option<u64>,
    /// Limit CPUs
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    pub(crate) limit_cpu: Option<u64>,
    /// Limit memory
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) limit_memory: Option<u64>,
    /// Limit swap, beside the memory of --limit-memory (0 = none, -1 = unlimited)
    #[arg(long, value_name = "BYTES", value_parser = parse_swap, allow_negative_numbers = true)]
    pub(crate) memory_swap: Option<i64>,
    /// How readily memory is swapped out (0 to 100, -1 = as the host has it)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Limit the number of processes (0 = unlimited)
    #[arg(long, value_name = "N")]
    pub(crate) limit_pids: Option<u64>,
    /// Reserve CPUs
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    pub(crate) reserve_cpu: Option<u64>,
    /// Reserve memory
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) reserve_memory: Option<u64>,
    /// Restart when the condition is met: none, on-failure or any (default any)
    #[arg(long, value_name = "CONDITION")]
    pub(crate) restart_condition: Option<String>,
    /// Delay between restart attempts (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) restart_delay: Option<u64>,
    /// Maximum number of restarts before giving up (0 = unlimited)
    #[arg(long, value_name = "N")]
    pub(crate) restart_max_attempts: Option<u64>,
    /// Window used to evaluate the restart policy
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) restart_window: Option<u64>,
    /// Maximum number of tasks updated simultaneously (0 = all at once, default 1)
    #[arg(long, value_name = "N")]
    pub(crate) update_parallelism: Option<u64>,
    /// Delay between updates
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) update_delay: Option<u64>,
    /// Action on update failure: pause, continue or rollback (default pause)
    #[arg(long, value_name = "ACTION")]
    pub(crate) update_failure_action: Option<String>,
    /// Duration after each task update to monitor for failure (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) update_monitor: Option<u64>,
    /// Failure rate to tolerate during an update, 0 to 1
    #[arg(long, value_name = "RATIO")]
    pub(crate) update_max_failure_ratio: Option<f64>,
    /// Update order: start-first or stop-first (default stop-first)
    #[arg(long, value_name = "ORDER")]
    pub(crate) update_order: Option<String>,
    /// Maximum number of tasks rolled back simultaneously (0 = all at once, default 1)
    #[arg(long, value_name = "N")]
    pub(crate) rollback_parallelism: Option<u64>,
    /// Delay between task rollbacks
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) rollback_delay: Option<u64>,
    /// Action on rollback failure: pause or continue (default pause)
    #[arg(long, value_name = "ACTION")]
    pub(crate) rollback_failure_action: Option<String>,
    /// Duration after each task rollback to monitor for failure (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) rollback_monitor: Option<u64>,
    /// Failure rate to tolerate during a rollback, 0 to 1
    #[arg(long, value_name = "RATIO")]
    pub(crate) rollback_max_failure_ratio: Option<f64>,
    /// Rollback order: start-first or stop-first (default stop-first)
    #[arg(long, value_name = "ORDER")]
    pub(crate) rollback_order: Option<String>,
    /// Container hostname
    #[arg(long)]
    pub(crate) hostname: Option<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Time to wait before force killing a container (default 10s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) stop_grace_period: Option<u64>,
    /// Use an init inside each container to forward signals and reap processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) init: Option<bool>,
    /// Mount the container's root filesystem as read only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) read_only: Option<bool>,
    /// Allocate a pseudo-TTY
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) tty: Option<bool>,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) oom_score_adj: Option<i64>,
    /// Command to run to check health
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Time between running the check (default 30s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) health_interval: Option<u64>,
    /// Maximum time to allow one check to run (default 30s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) health_timeout: Option<u64>,
    /// Start period for the container to initialize before counting retries
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) health_start_period: Option<u64>,
    /// Time between running the check during the start period (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) health_start_interval: Option<u64>,
    /// Consecutive failures needed to report unhealthy (default 3)
    #[arg(long, value_name = "N")]
    pub(crate) health_retries: Option<u64>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
    /// Logging driver for service
    #[arg(long, value_name = "NAME")]
    pub(crate) log_driver: Option<String>,
    /// Logging driver options
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// Endpoint mode (vip or dnsrr)
    #[arg(long, value_name = "MODE")]
    pub(crate) endpoint_mode: Option<String>,
    /// To which tasks a node leads what arrives at a published port: cluster, local-first or local-only (default cluster)
    #[arg(long, value_name = "POLICY")]
    pub(crate) mesh_policy: Option<String>,
    /// Whether a client stays with its task: none or source (default none)
    #[arg(long, value_name = "AFFINITY")]
    pub(crate) mesh_affinity: Option<String>,
    /// How long the tasks of an unreachable node are left alone (default 1m)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) disconnect_lost_after: Option<u64>,
    /// Which task stays when a node returns after its tasks were replaced: keep-original or keep-replacement
    #[arg(long, value_name = "WHICH")]
    pub(crate) disconnect_reconcile: Option<String>,
    /// A task that has not run this long after an update made it counts as failed (0s = never, default 10m)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) update_progress_deadline: Option<u64>,
    /// The same of a rollback
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    pub(crate) rollback_progress_deadline: Option<u64>,
    #[command(flatten)]
    pub(crate) host: HostFlags,
    #[command(flatten)]
    pub(crate) steering: SteeringFlags,
    #[command(flatten)]
    pub(crate) job: JobFlags,
}

/// What containers have of their host beyond others.
#[derive(Debug, Args, Default, PartialEq)]
pub(crate) struct HostFlags {
    /// All capabilities and devices, nothing masked
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) privileged: Option<bool>,
    /// Size of /dev/shm (default 64m)
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) shm_size: Option<u64>,
    /// Process namespace: host or private
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// IPC namespace: host or private
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// CPUs to run on (0-3, 0,1)
    #[arg(long, value_name = "SET")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use (0-3, 0,1)
    #[arg(long, value_name = "SET")]
    pub(crate) cpuset_mems: Option<String>,
}

/// How tasks are spread, moved and given room. Kept in labels of the service.
#[derive(Debug, Args, Default, PartialEq)]
pub(crate) struct SteeringFlags {
    /// Platforms that the image is for, where it is labelled wrongly: os/architecture[/variant], or any (default as the image says)
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<types::Platform>,
    /// Which of the nodes that take a task gets it: spread or binpack (default spread)
    #[arg(long, value_name = "STRATEGY")]
    pub(crate) placement_strategy: Option<String>,
    /// When running tasks move to where the service is more even: off, on-join (to nodes that came or came back) or continuous
    /// (default as the cluster says)
    #[arg(long, value_name = "POLICY")]
    pub(crate) rebalance: Option<String>,
    /// A task whose named volume is on a node that does not take it: wait, or create an empty one elsewhere (default wait)
    #[arg(long, value_name = "WHAT")]
    pub(crate) on_missing: Option<String>,
    /// When nodes ask the registry for the image: missing, always (an update asks for its digest anew, too) or never (default
    /// missing)
    #[arg(long, value_name = "POLICY")]
    pub(crate) pull: Option<String>,
    /// A replica that is replaced has the addresses of the one before, where that one has ended (default false)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) stable_ip: Option<bool>,
    /// Services of higher priority are placed first, and those of lower make way (-1000 to 1000, default 0)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) priority: Option<i16>,
    /// When a secret or config that tasks have as a file changes, change the file and keep the containers: signal:NAME sends them
    /// this then, none nothing (default: replace the tasks)
    #[arg(long, value_name = "HOW")]
    pub(crate) refresh: Option<String>,
}

/// Lists of a new service.
#[derive(Debug, Args, Default)]
pub(crate) struct CreateLists {
    /// Set environment variables
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Service labels
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Container labels
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) container_label: Vec<String>,
    /// Placement constraints (node.labels.NAME==VALUE, service==NAME, ...; with ~ before it a wish)
    #[arg(long)]
    pub(crate) constraint: Vec<String>,
    /// Add a placement preference (spread=node.labels.NAME)
    #[arg(long, value_name = "PREFERENCE")]
    pub(crate) placement_pref: Vec<String>,
    /// Attach a filesystem mount to the service
    #[arg(long)]
    pub(crate) mount: Vec<String>,
    /// Give the containers a secret: NAME, or source=NAME,target=FILE,uid=,gid=,mode=0444
    #[arg(long)]
    pub(crate) secret: Vec<String>,
    /// Give the containers a config: NAME, or source=NAME,target=FILE,uid=,gid=,mode=0444
    #[arg(long)]
    pub(crate) config: Vec<String>,
    /// Network to join: NAME, or name=NAME,alias=ALIAS,driver-opt=KEY=VALUE
    #[arg(long)]
    pub(crate) network: Vec<String>,
    /// Publish a port: [[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL], or published=,target=,protocol=,mode=ingress|host,host_ip=,interface=,proxy_protocol=v2; ranges too
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// Ulimit options (NAME=SOFT[:HARD])
    #[arg(long, value_name = "ULIMIT")]
    pub(crate) ulimit: Vec<String>,
    /// Set one or more supplementary user groups for the container
    #[arg(long)]
    pub(crate) group: Vec<String>,
    /// Set one or more custom host-to-IP mappings (HOST:IP)
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) host: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Set DNS options
    #[arg(long, value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// User defined resources (KIND=COUNT or KIND=NAME)
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) generic_resource: Vec<String>,
    /// Give the containers a device of their host (HOST[:CONTAINER[:rwm]], or VENDOR/CLASS=NAME)
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<String>,
    /// Give the containers GPUs of their host (all, a number, or driver=…,device=…,capabilities=…)
    #[arg(long, value_name = "GPUS")]
    pub(crate) gpus: Option<String>,
}

/// Changes to the lists of an existing service.
#[derive(Debug, Args, Default, PartialEq)]
pub(crate) struct UpdateLists {
    /// Give the containers a device of their host (HOST[:CONTAINER[:rwm]], or VENDOR/CLASS=NAME)
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device_add: Vec<String>,
    /// Take a device away by its path on the host or its name
    #[arg(long, value_name = "HOST")]
    pub(crate) device_rm: Vec<String>,
    /// Other GPUs of their host (all, a number, or driver=…,device=…,capabilities=…), or none
    #[arg(long, value_name = "GPUS")]
    pub(crate) gpus: Option<String>,
    /// Add or update an environment variable
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env_add: Vec<String>,
    /// Remove an environment variable
    #[arg(long, value_name = "NAME")]
    pub(crate) env_rm: Vec<String>,
    /// Add or update a service label
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label_add: Vec<String>,
    /// Remove a label by its key
    #[arg(long, value_name = "KEY")]
    pub(crate) label_rm: Vec<String>,
    /// Add or update a container label
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) container_label_add: Vec<String>,
    /// Remove a container label by its key
    #[arg(long, value_name = "KEY")]
    pub(crate) container_label_rm: Vec<String>,
    /// Add or update a placement constraint
    #[arg(long, value_name = "CONSTRAINT")]
    pub(crate) constraint_add: Vec<String>,
    /// Remove a constraint
    #[arg(long, value_name = "CONSTRAINT")]
    pub(crate) constraint_rm: Vec<String>,
    /// Add a placement preference
    #[arg(long, value_name = "PREFERENCE")]
    pub(crate) placement_pref_add: Vec<String>,
    /// Remove a placement preference
    #[arg(long, value_name = "PREFERENCE")]
    pub(crate) placement_pref_rm: Vec<String>,
    /// Add or update a mount on a service
    #[arg(long, value_name = "MOUNT")]
    pub(crate) mount_add: Vec<String>,
    /// Remove a mount by its target path
    #[arg(long, value_name = "TARGET")]
    pub(crate) mount_rm: Vec<String>,
    /// Add or update a secret on a service
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret_add: Vec<String>,
    /// Remove a secret by its name
    #[arg(long, value_name = "NAME")]
    pub(crate) secret_rm: Vec<String>,
    /// Add or update a config on a service
    #[arg(long, value_name = "CONFIG")]
    pub(crate) config_add: Vec<String>,
    /// Remove a config by its name
    #[arg(long, value_name = "NAME")]
    pub(crate) config_rm: Vec<String>,
    /// Add a network: NAME, or name=NAME,alias=ALIAS,driver-opt=KEY=VALUE
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network_add: Vec<String>,
    /// Remove a network
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network_rm: Vec<String>,
    /// Add or update a published port
    #[arg(long, value_name = "PORT")]
    pub(crate) publish_add: Vec<String>,
    /// Remove a published port by its target port: [PUBLISHED:]TARGET[/PROTOCOL]
    #[arg(long, value_name = "PORT")]
    pub(crate) publish_rm: Vec<String>,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// Add or update a Sysctl option
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) sysctl_add: Vec<String>,
    /// Remove a Sysctl option
    #[arg(long, value_name = "KEY")]
    pub(crate) sysctl_rm: Vec<String>,
    /// Add or update a ulimit option
    #[arg(long, value_name = "ULIMIT")]
    pub(crate) ulimit_add: Vec<String>,
    /// Remove a ulimit option
    #[arg(long, value_name = "NAME")]
    pub(crate) ulimit_rm: Vec<String>,
    /// Add an additional supplementary user group to the container
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Remove a previously added supplementary user group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_rm: Vec<String>,
    /// Add a custom host-to-IP mapping (HOST:IP)
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) host_add: Vec<String>,
    /// Remove a custom host-to-IP mapping (HOST:IP)
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) host_rm: Vec<String>,
    /// Add or update a custom DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns_add: Vec<String>,
    /// Remove a custom DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns_rm: Vec<String>,
    /// Add or update a custom DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search_add: Vec<String>,
    /// Remove a DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search_rm: Vec<String>,
    /// Add or update a DNS option
    #[arg(long, value_name = "OPTION")]
    pub(crate) dns_option_add: Vec<String>,
    /// Remove a DNS option
    #[arg(long, value_name = "OPTION")]
    pub(crate) dns_option_rm: Vec<String>,
    /// Add a generic resource
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) generic_resource_add: Vec<String>,
    /// Remove a generic resource
    #[arg(long, value_name = "KIND")]
    pub(crate) generic_resource_rm: Vec<String>,
}

/// Bytes, or -1.
fn parse_swap(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        _ => parse_bytes(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
    }
}
