//! The data plane process of one host: makes the kernel match the last [`NetworkPlan`] it was given.
//!
//! The `rswarm netd` command calls [`run`]; the daemon calls [`ensure_running`] and speaks through
//! [`crate::Client`]. It is a process apart, so that the network and the answers to probes outlive a
//! daemon that crashes, hangs or is upgraded. It keeps the last plan on disk under `/run` and converges
//! to it alone. It never decides what the network should be.

mod error;
mod frame;
mod held;

mod launch;
pub(crate) mod lock;
mod plan_file;
pub mod protocol;
mod server;
mod worker;

use std::{ffi::OsString, fs, os::unix::fs::DirBuilderExt, path::PathBuf};

use nix::sys::stat::{Mode, umask};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use error::NetdError;
pub(crate) use frame::{read_frame, take_frame, write_frame};
use held::Held;
pub use launch::{Launch, Running, ensure_running};
use lock::Lock;
use server::Server;
use worker::{Parts, Worker};

use crate::{
    Kernel, NetworkPlan, dns,
    probe::{self, Place, ProbePath},
    proxy::Keeper,
    wireguard::Wireguard,
};

/// Plans waiting for the worker. The newest wins, so more would only be thrown away.
const COMMANDS: usize = 64;

/// Where one data plane process lives.
#[derive(Debug, Clone)]
pub struct NetdConfig {
    /// The unix socket it serves on; mode 0600.
    pub socket: PathBuf,
    /// Pid file, last plan and endpoint namespaces (`netns/<id>`); on a file system that a reboot empties, like `/run/rswarm`.
    pub state_dir: PathBuf,
    /// Told to clients, so that an upgraded daemon can replace an older process.
    pub version: String,
    /// Program and arguments of the process that writes PROXY protocol headers ([`crate::proxy::run`]); empty: none is
    /// known, and ports that ask for headers are refused.
    pub port_proxy: Vec<OsString>,
}

impl NetdConfig {
    /// Everything under `run_dir`: `netd.sock`, `netd.pid`, `plan.json`, `netns/`.
    pub fn in_dir(run_dir: impl Into<PathBuf>, version: impl Into<String>) -> Self {
        let state_dir = run_dir.into();
        Self { socket: state_dir.join("netd.sock"), state_dir, version: version.into(), port_proxy: Vec::new() }
    }
}

/// The body of the data plane process. Returns after a `Shutdown` request, SIGTERM or SIGINT; the
/// network stays as it is then.
///
/// # Errors
/// When another one runs with this state directory, or the socket or directory cannot be made.
pub fn run(config: &NetdConfig) -> Result<(), NetdError> {
    // A session of its own: the daemon's terminal and process group mean nothing to it. It fails only
    // for a group leader, which a process started for this is not; then nothing needs to change.
    let _ = nix::unistd::setsid();
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&config.state_dir);
    made.map_err(|source| NetdError::File { doing: "make the directory", path: config.state_dir.clone(), source })?;
    let _lock = Lock::take(&config.state_dir, lock::PID_FILE)?;
    prefer_this_process();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NetdError::Runtime)?;
    runtime.block_on(serve(config))
}

/// The plan that a process with this state directory left on disk, for a look at what it was to do.
pub(crate) fn kept_plan(state_dir: &std::path::Path) -> Option<NetworkPlan> {
    plan_file::read(state_dir)
}

async fn serve(config: &NetdConfig) -> Result<(), NetdError> {
    let plan = plan_file::read(&config.state_dir);
    let listener = listen(config)?;
    let (probe_settings, settings) = watch::channel(plan.as_ref().and_then(|plan: &NetworkPlan| plan.probes.clone()));
    let (table_writer, table) = watch::channel(probe::ProbeTable::default());
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let (stop, mut stopped) = mpsc::channel(1);
    let (wireguard, encryption) = Wireguard::start().map_err(NetdError::Encryption)?;
    let (names, answers, metrics) = dns::new();
    let kernel = Kernel::new(&config.state_dir);
    let places =
        ProbePath::OVERLAYS.map(|path| Place { path, namespace: Some(kernel.namespace_path(&path.endpoint())) });
    let port_proxy = Keeper::new(&config.state_dir, &config.port_proxy, &config.version);
    let (applied_plan, applied) = watch::channel(None);
    let parts = Parts { probes: probe_settings, applied: applied_plan, dns: names, wireguard, port_proxy };
    let (worker, last_apply) = Worker::new(kernel, Held::new(&config.state_dir, plan), parts);
    let server = Server::new(config.version.clone(), commands, table, metrics, encryption, last_apply, stop);

    // Every task is owned here: the first that ends, ends the process.
    let mut tasks = JoinSet::new();
    for place in places {
        tasks.spawn(probe::run(place, settings.clone(), table_writer.clone(), applied.clone()));
    }
    let between_hosts = Place { path: ProbePath::Host, namespace: None };
    tasks.spawn(probe::run(between_hosts, settings, table_writer, applied));
    tasks.spawn(dns::run(answers));
    tasks.spawn(worker.run(inbox));
    tasks.spawn(server.run(listener));
    let signals = |kind| signal(kind).map_err(NetdError::Runtime);
    let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    tracing::info!(socket = %config.socket.display(), version = %config.version, "data plane runs");
    let result = tokio::select! {
        _ = stopped.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        Some(ended) = tasks.join_next() => Err(NetdError::TaskEnded(ended.err().map(|error| error.to_string()))),
    };
    let _ = fs::remove_file(&config.socket);
    tracing::info!("data plane stops; the network stays as it is");
    result
}

/// The lock is held, so a socket file that is there was left by a process that was killed.
fn listen(config: &NetdConfig) -> Result<UnixListener, NetdError> {
    let failed = |source| NetdError::File { doing: "serve on", path: config.socket.clone(), source };
    match fs::remove_file(&config.socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // The mask makes the file 0600 from its first moment on. No other thread runs yet that it could disturb.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(&config.socket);
    umask(before);
    bound.map_err(failed)
}

/// Probes must be answered on a host under load, and the network must outlive a lack of memory.
/// These are wishes: without the privilege the process works all the same.
fn prefer_this_process() {
    let _ = rustix::process::setpriority_process(None, -10);
    // Where sessions compete as groups, the value of the group counts.
    let _ = fs::write("/proc/self/autogroup", "-10");
    let _ = fs::write("/proc/self/oom_score_adj", "-900");
}
