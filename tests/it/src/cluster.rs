//! A cluster on a lab that is gone when the test is.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use lab::{Cluster, Guard, Lab, LabSpec, Spawned};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{Api, DEADLINE, until};

/// Clusters run one after the other: two cores carry one well and two badly.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The image that every host gets: busybox.
pub const IMAGE: &str = "app:1";

/// Field order matters: the cluster goes before the lab, the lab before the turn.
pub struct ClusterUnderTest {
    pub cluster: Cluster,
    guard: Guard,
    _turn: MutexGuard<'static, ()>,
}

/// One task as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    pub id: String,
    pub slot: u64,
    pub node: String,
    pub state: String,
    pub desired: String,
    pub container: String,
    pub pid: u64,
    pub error: String,
    pub message: String,
}

impl TaskRow {
    fn of(task: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let status = &task["Status"];
        Self {
            id: text(&task["ID"]),
            slot: task["Slot"].as_u64().unwrap_or(0),
            node: text(&task["NodeID"]),
            state: text(&status["State"]),
            desired: text(&task["DesiredState"]),
            container: text(&status["ContainerStatus"]["ContainerID"]),
            pid: status["ContainerStatus"]["PID"].as_u64().unwrap_or(0),
            error: text(&status["Err"]),
            message: text(&status["Message"]),
        }
    }
}

/// The rswarm binary that was built beside this test.
pub fn rswarm_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("RSWARM_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe().context("find this test's own path")?;
    let found = test.ancestors().map(|d| d.join("rswarm")).find(|p| p.is_file());
    found.with_context(|| {
        format!(
            "no rswarm above {}; build it with `cargo build -p daemon -p runtime`, or set RSWARM_BIN",
            test.display()
        )
    })
}

impl ClusterUnderTest {
    /// A cluster of daemons with the test image on every host.
    pub fn up(test: &str, managers: usize, workers: usize) -> Result<Self> {
        let this = Self::without_image(test, managers, workers)?;
        this.load_image()?;
        Ok(this)
    }

    fn load_image(&self) -> Result<()> {
        let tar = image::busybox_archive(IMAGE).context("make the test image")?;
        for host in self.cluster.hosts() {
            self.api(&host)?.post_tar("/images/load", &tar).with_context(|| format!("load the image on {host}"))?;
        }
        Ok(())
    }

    /// A cluster of daemons without any image.
    pub fn without_image(test: &str, managers: usize, workers: usize) -> Result<Self> {
        Self::on(&LabSpec::new(Guard::name(test)?, managers + workers, rswarm_binary()?), managers, workers)
    }

    /// A cluster of daemons with the test image, on cables of this MTU in bytes.
    pub fn with_mtu(test: &str, managers: usize, workers: usize, mtu: u32) -> Result<Self> {
        let spec = LabSpec::new(Guard::name(test)?, managers + workers, rswarm_binary()?);
        let this = Self::on(&LabSpec { underlay_mtu: mtu, ..spec }, managers, workers)?;
        this.load_image()?;
        Ok(this)
    }

    /// The same as [`Self::up`] and further hosts that belong to no cluster, the last of the lab.
    pub fn with_bare(test: &str, managers: usize, workers: usize, bare: usize) -> Result<Self> {
        let spec = LabSpec::new(Guard::name(test)?, managers + workers + bare, rswarm_binary()?);
        let this = Self::on(&spec, managers, workers)?;
        this.load_image()?;
        Ok(this)
    }

    /// A cluster of daemons without any image, whose last host has a disk of so many bytes.
    pub fn with_small_disk(test: &str, managers: usize, workers: usize, bytes: u64) -> Result<Self> {
        let mut spec = LabSpec::new(Guard::name(test)?, managers + workers, rswarm_binary()?);
        spec.hosts.last_mut().context("a host")?.disk_bytes = Some(bytes);
        Self::on(&spec, managers, workers)
    }

    fn on(spec: &LabSpec, managers: usize, workers: usize) -> Result<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = Guard::up_with(spec)?;
        let cluster = Cluster::up(&guard, managers, workers)?;
        Ok(Self { cluster, guard, _turn: turn })
    }

    /// Ends the daemon of a host as an operator does, and starts it with these flags too.
    pub fn restart_with(&self, host: &str, flags: &[&str]) -> Result<Spawned> {
        self.cluster.stop_daemon(host, Signal::SIGTERM)?;
        let started = self.cluster.start_daemon_with(host, flags);
        started.with_context(|| format!("the daemon of {host} with {flags:?}"))
    }

    pub fn lab(&self) -> &Lab {
        &self.guard
    }

    /// The API of a host.
    pub fn api(&self, host: &str) -> Result<Api> {
        Ok(Api::new(&self.lab().socket(host)?))
    }

    /// The API of the first manager.
    pub fn first(&self) -> Result<Api> {
        self.api(&self.cluster.managers()[0])
    }

    /// `rswarm ARGUMENTS` on a host: must succeed, gives what it printed.
    pub fn cli(&self, host: &str, arguments: &[&str]) -> Result<String> {
        let output = self.cluster.cli(host, arguments)?;
        ensure!(
            output.success(),
            "rswarm {} on {host}: exit code {}: {}",
            arguments.join(" "),
            output.code,
            output.stderr
        );
        Ok(output.stdout)
    }

    /// `rswarm ARGUMENTS` on a host: must fail, gives what it complained.
    pub fn cli_fails(&self, host: &str, arguments: &[&str]) -> Result<String> {
        let output = self.cluster.cli(host, arguments)?;
        ensure!(!output.success(), "rswarm {} on {host} succeeded: {}", arguments.join(" "), output.stdout);
        ensure!(!output.stderr.contains("panicked"), "rswarm {} panicked: {}", arguments.join(" "), output.stderr);
        Ok(output.stderr)
    }

    /// The node id of a host.
    pub fn node_id(&self, host: &str) -> Result<String> {
        let info = self.api(host)?.get("/info")?;
        let id = info["Swarm"]["NodeID"].as_str().unwrap_or_default();
        ensure!(!id.is_empty(), "{host} has no node id: {}", info["Swarm"]);
        Ok(id.to_owned())
    }

    /// The host that leads, as a majority sees it through `host`.
    pub fn leader(&self, through: &str) -> Result<String> {
        let nodes = self.api(through)?.get("/nodes")?;
        for node in nodes.as_array().into_iter().flatten() {
            if node["ManagerStatus"]["Leader"] == json!(true) {
                return Ok(node["Description"]["Hostname"].as_str().unwrap_or_default().to_owned());
            }
        }
        bail!("no leader among {nodes}")
    }

    /// All tasks of a service, newest state, through `api`.
    pub fn tasks_through(api: &Api, service: &str) -> Result<Vec<TaskRow>> {
        let filters = format!("{{\"service\":[\"{service}\"]}}").replace('{', "%7B").replace('}', "%7D");
        let filters = filters.replace('"', "%22").replace('[', "%5B").replace(']', "%5D");
        let tasks = api.get(&format!("/tasks?filters={filters}"))?;
        Ok(tasks.as_array().into_iter().flatten().map(TaskRow::of).collect())
    }

    /// All tasks of a service, through the first manager.
    pub fn tasks(&self, service: &str) -> Result<Vec<TaskRow>> {
        Self::tasks_through(&self.first()?, service)
    }

    /// Waits until exactly `count` tasks shall run and do; gives them by slot, and the time it took.
    pub fn running(&self, service: &str, count: usize) -> Result<(Vec<TaskRow>, Duration)> {
        self.running_through(&self.first()?, service, count)
    }

    /// As [`Self::running`], through another manager.
    pub fn running_through(&self, api: &Api, service: &str, count: usize) -> Result<(Vec<TaskRow>, Duration)> {
        until(&format!("{count} tasks of {service} running"), DEADLINE, || {
            let tasks = Self::tasks_through(api, service)?;
            let mut wanted: Vec<_> = tasks.into_iter().filter(|t| t.desired == "running").collect();
            let running = wanted.iter().filter(|t| t.state == "running").count();
            ensure!(running == count && wanted.len() == count, "{running} of {} run: {wanted:#?}", wanted.len());
            wanted.sort_by_key(|t| t.slot);
            Ok(wanted)
        })
    }

    /// Asks every host's process table whether a container is left.
    pub fn no_containers(&self) -> Result<()> {
        for host in self.cluster.hosts() {
            let options = lab::ExecOptions::default();
            let shims = self.lab().exec(&host, &["pgrep", "-x", "rswarm-shim"], &options)?.stdout;
            ensure!(shims.trim().is_empty(), "{host} still has shims: {shims}");
        }
        Ok(())
    }

    /// A service of the test image that sleeps, through the command line of the first manager.
    pub fn create(&self, name: &str, replicas: usize, more: &[&str]) -> Result<()> {
        let replicas = replicas.to_string();
        let mut arguments = vec!["service", "create", "--detach", "--name", name, "--replicas", &replicas];
        arguments.extend(more);
        arguments.extend([IMAGE, "sleep", "100000"]);
        self.cli(&self.cluster.managers()[0], &arguments).map(drop)
    }
}
