//! The command line of `rswarm daemon`.

use std::path::PathBuf;

use clap::Parser;

/// Runs the engine of this host and, once it is in a cluster, its agent and manager.
#[derive(Debug, Clone, Parser)]
#[command(name = "rswarm daemon", about, after_help = "Example:\n  rswarm daemon --state-dir /var/lib/rswarm")]
pub struct Config {
    /// Images, volumes and the cluster's state; must survive a reboot
    #[arg(long, default_value = "/var/lib/rswarm", env = "RSWARM_STATE_DIR")]
    pub state_dir: PathBuf,
    /// Sockets and the state of running containers; must not survive a reboot
    #[arg(long, default_value = "/run/rswarm", env = "RSWARM_RUN_DIR")]
    pub run_dir: PathBuf,
    /// The API's unix socket [default: RUN_DIR/rswarm.sock]
    #[arg(long)]
    pub socket: Option<PathBuf>,
    /// The shim [default: rswarm-shim beside this program, else on the PATH]
    #[arg(long, env = "RSWARM_SHIM")]
    pub shim: Option<PathBuf>,
    /// The built-in OCI runtime, or another by name or path, such as runc
    #[arg(long, value_name = "PROGRAM", default_value = "embedded", env = "RSWARM_OCI_RUNTIME")]
    pub oci_runtime: String,
    /// A registry that is spoken to without TLS; may be given several times
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
    /// A registry asked for Docker Hub's images first; may be given several times
    #[arg(long, value_name = "URL")]
    pub registry_mirror: Vec<String>,
    /// A label of this engine, for constraints on engine.labels; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Something tasks can reserve: KIND=COUNT, or KIND=NAME for each that has a name; may be given several times
    #[arg(long, value_name = "KIND=VALUE")]
    pub node_generic_resource: Vec<String>,
    /// error, warn, info, debug or trace, or a filter such as manager=debug
    #[arg(long, default_value = "info", env = "RSWARM_LOG")]
    pub log_level: String,
}

impl Config {
    /// Where the API listens.
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run_dir.join("rswarm.sock"))
    }

    /// Where everything that belongs to the cluster lies; removed when the host leaves.
    pub fn cluster_dir(&self) -> PathBuf {
        self.state_dir.join("cluster")
    }
}
