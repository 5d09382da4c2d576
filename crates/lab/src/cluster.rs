//! A cluster on a lab: a daemon per host, `init` on the first, `join` on the others.
//!
//! Called by the cluster tests, the benchmarks and `rswarm lab up`. It speaks to the daemons only as
//! a person would: by the `rswarm` command inside the hosts, and by `GET /_ping` on their sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::{Error, ExecOptions, ExecOutput, Lab, ProcessId, Spawned, boot, state};

/// Port managers listen on for nodes and each other.
const CLUSTER_PORT: u16 = 2377;

/// How the daemons of a cluster are started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// The first so many hosts of the lab become managers …
    pub managers: usize,
    /// … and the next so many workers. Further hosts stay bare.
    pub workers: usize,
    /// Program and arguments of the daemon.
    pub daemon: Vec<String>,
    /// Added to the daemon's environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// For each step: a daemon answering, an init, a join.
    pub deadline: Duration,
}

impl ClusterSpec {
    /// `rswarm daemon` with its state in `/var/lib/rswarm`.
    #[must_use]
    pub fn new(managers: usize, workers: usize) -> Self {
        let daemon = ["rswarm", "daemon", "--state-dir", "/var/lib/rswarm", "--run-dir", "/run/rswarm"];
        Self {
            managers,
            workers,
            daemon: daemon.map(str::to_owned).to_vec(),
            env: Vec::new(),
            // A machine shared with builds starts a daemon in seconds, not in its usual 100 ms.
            deadline: Duration::from_secs(60),
        }
    }
}

/// Hosts of a lab that form a cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    lab: Lab,
    spec: ClusterSpec,
    managers: Vec<String>,
    workers: Vec<String>,
}

impl Cluster {
    /// Starts the daemons on the first hosts of the lab and joins them to one cluster.
    ///
    /// # Errors
    /// [`Error::Cluster`] with the end of the failing host's daemon log.
    pub fn up(lab: &Lab, managers: usize, workers: usize) -> Result<Self, Error> {
        Self::up_with(lab, ClusterSpec::new(managers, workers))
    }

    /// As [`Cluster::up`] with daemon arguments and environment of one's own.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn up_with(lab: &Lab, spec: ClusterSpec) -> Result<Self, Error> {
        let cluster = Self::place(lab, spec)?;
        state::change(lab.name(), |state| {
            state.cluster = Some(cluster.spec.clone());
            Ok(())
        })?;
        let all = cluster.hosts();
        in_parallel(&all, |host| cluster.start_daemon(host).map(drop))?;
        let first = &cluster.managers[0];
        let address = lab.address(first)?.to_string();
        cluster.step(first, "init", &["init", "--advertise-addr", &address])?;
        let remote = format!("{address}:{CLUSTER_PORT}");
        let join = |hosts: &[String], role: &str| -> Result<(), Error> {
            if hosts.is_empty() {
                return Ok(());
            }
            let token = cluster.step(first, "join-token", &["join-token", "-q", role])?;
            in_parallel(hosts, |host| {
                cluster.step(host, "join", &["join", "--detach", "--token", token.trim(), &remote]).map(drop)
            })
        };
        join(&cluster.managers[1..], "manager")?;
        join(&cluster.workers, "worker")?;
        Ok(cluster)
    }

    /// The cluster that was started on the lab earlier, by this or another process.
    ///
    /// # Errors
    /// [`Error::BadSpec`] if the lab is bare.
    pub fn open(lab: &Lab) -> Result<Self, Error> {
        let spec = lab.state()?.cluster;
        let bare = || Error::BadSpec(format!("lab {} is bare, no daemon was started on it", lab.name()));
        Self::place(lab, spec.ok_or_else(bare)?)
    }

    fn place(lab: &Lab, spec: ClusterSpec) -> Result<Self, Error> {
        let hosts = lab.hosts()?;
        let wanted = spec.managers + spec.workers;
        if spec.managers == 0 || wanted > hosts.len() {
            return Err(Error::BadSpec(format!(
                "{} managers and {} workers do not fit on the {} hosts of lab {}; a cluster needs one manager at least \
                 and a host for each node",
                spec.managers,
                spec.workers,
                hosts.len(),
                lab.name()
            )));
        }
        let managers = hosts[..spec.managers].to_vec();
        let workers = hosts[spec.managers..wanted].to_vec();
        Ok(Self { lab: lab.clone(), spec, managers, workers })
    }

    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Hosts that were made managers. Later promotions are not seen here: ask the cluster.
    #[must_use]
    pub fn managers(&self) -> &[String] {
        &self.managers
    }

    /// Hosts that were made workers.
    #[must_use]
    pub fn workers(&self) -> &[String] {
        &self.workers
    }

    /// Managers, then workers.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        [self.managers.as_slice(), self.workers.as_slice()].concat()
    }

    /// Runs `rswarm ARGUMENTS` inside a host, whatever its exit code.
    ///
    /// # Errors
    /// As [`Lab::exec`]; a command that outlives the cluster's deadline.
    pub fn cli<S: AsRef<str>>(&self, host: &str, arguments: &[S]) -> Result<ExecOutput, Error> {
        let mut argv = vec!["rswarm"];
        argv.extend(arguments.iter().map(AsRef::as_ref));
        let options = ExecOptions { timeout: Some(self.spec.deadline), ..ExecOptions::default() };
        self.lab.exec(host, &argv, &options)
    }

    /// Starts the daemon of a host and waits until its socket answers.
    ///
    /// # Errors
    /// [`Error::Cluster`] with the end of its log.
    pub fn start_daemon(&self, host: &str) -> Result<Spawned, Error> {
        self.start_daemon_with(host, &[])
    }

    /// The same, with these flags too.
    ///
    /// # Errors
    /// As [`Self::start_daemon`].
    pub fn start_daemon_with(&self, host: &str, flags: &[&str]) -> Result<Spawned, Error> {
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        let words: Vec<String> = self.spec.daemon.iter().cloned().chain(flags).collect();
        let daemon = self.lab.spawn(host, "daemon", &words, &self.spec.env)?;
        state::change(self.lab.name(), |state| {
            state.host_mut(host)?.daemon = Some(daemon.process);
            Ok(())
        })?;
        let socket = self.lab.socket(host)?;
        let end = Instant::now() + self.spec.deadline;
        loop {
            if ping(&socket) {
                return Ok(daemon);
            }
            let what = match daemon.exit_code() {
                Some(code) => format!("the daemon on host {host} ended with exit code {code}"),
                None if Instant::now() > end => {
                    format!(
                        "the daemon on host {host} did not answer on {} in {:?}",
                        socket.display(),
                        self.spec.deadline
                    )
                }
                None => {
                    thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            return Err(Error::Cluster { host: host.to_owned(), what, log: boot::tail(&daemon.log) });
        }
    }

    /// The daemon's process on a host, if it runs.
    ///
    /// # Errors
    /// Unknown host.
    pub fn daemon(&self, host: &str) -> Result<Option<ProcessId>, Error> {
        Ok(self.lab.state()?.host(host)?.daemon.filter(|d| d.alive()))
    }

    /// Ends the daemon of a host by a signal and waits until it is gone; its containers are left alone.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it survives the deadline.
    pub fn stop_daemon(&self, host: &str, signal: Signal) -> Result<(), Error> {
        let Some(daemon) = self.daemon(host)? else { return Ok(()) };
        self.lab.signal(host, daemon, signal)?;
        let end = Instant::now() + self.spec.deadline;
        while daemon.alive() {
            if Instant::now() > end {
                let doing = format!("ending the daemon on host {host} by {signal}");
                return Err(Error::Timeout { doing, after: self.spec.deadline });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// One command of forming the cluster; a failure shows the daemon's last words.
    fn step(&self, host: &str, name: &str, arguments: &[&str]) -> Result<String, Error> {
        let failed = |why: String| {
            let logs = self.lab.logs(host).unwrap_or_default();
            let log = logs.iter().rev().find(|(path, _)| is_daemon_log(path)).map(|(path, _)| boot::tail(path));
            Error::Cluster {
                host: host.to_owned(),
                what: format!("`rswarm {name}` on host {host} failed: {why}"),
                log: log.unwrap_or_else(|| "there is none".to_owned()),
            }
        };
        match self.cli(host, arguments) {
            Ok(output) if output.success() => Ok(output.stdout),
            Ok(output) => Err(failed(format!("exit code {}: {}{}", output.code, output.stderr, output.stdout))),
            Err(e) => Err(failed(e.sentence())),
        }
    }
}

fn is_daemon_log(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("daemon."))
}

/// Runs the same on all hosts at once; the first error wins.
fn in_parallel(hosts: &[String], work: impl Fn(&str) -> Result<(), Error> + Sync) -> Result<(), Error> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = hosts.iter().map(|host| scope.spawn(move || work(host))).collect();
        let panicked = || Err(Error::BadSpec("a thread working on a host panicked".to_owned()));
        let results: Vec<_> = running.into_iter().map(|t| t.join().unwrap_or_else(|_| panicked())).collect();
        results.into_iter().collect()
    })
}

/// Whether a daemon answers `GET /_ping` with 200 on its socket.
fn ping(socket: &Path) -> bool {
    /// A daemon that takes longer than this is asked again.
    const PATIENCE: Duration = Duration::from_secs(2);
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: rswarm\r\nConnection: close\r\n\r\n")?;
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head)?;
        Ok(head.starts_with(b"HTTP/1.") && head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
