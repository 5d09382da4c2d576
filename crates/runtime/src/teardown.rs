//! Taking away what is left of a container: after its end, after a failed creation, and after the loss
//! of its shim. Called by `runtime` only. Everything here may be done twice.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::{process::Command, task::spawn_blocking};
use tracing::warn;

use crate::{
    config::OciRuntime,
    error::{Error, Result},
    log::COMPLAINT,
    process::Process,
    record::{ContainerDir, ExitReason, ExitStatus},
    runtime::{CREATE_TIMEOUT, Runtime},
    time,
};

/// What a shim takes to tell everybody who waits for an end that it has noted is far less, unless one of them reads nothing.
const TOLD_WITHIN: Duration = Duration::from_millis(500);
/// Of what a shim said in a container's life, so many lines: the last are about its end.
const COMPLAINTS_MAX: usize = 5;

impl Runtime {
    /// For a container whose shim is gone: if nobody recorded an exit, kills what is left and records
    /// that the exit is unknown. `None` while the shim lives.
    pub(crate) async fn settle(&self, id: &str, dir: &ContainerDir) -> Result<Option<ExitStatus>> {
        let unreadable = |source| Error::Io { id: id.to_owned(), operation: "look for its shim", source };
        // somebody removes it, or has
        let Some(record) = dir.record().map_err(unreadable)? else { return Err(Error::NotFound { id: id.to_owned() }) };
        let shim = dir.shim().map_err(unreadable)?;
        let age = Duration::from_nanos(time::now_ns().saturating_sub(record.created_at_ns));
        if shim.is_some_and(Process::is_alive) || (shim.is_none() && age < CREATE_TIMEOUT) {
            return Ok(None);
        }
        if let Some(exit) = dir.exit().map_err(unreadable)? {
            return Ok(Some(exit)); // written by the shim just before it ended
        }
        let init = dir.init().map_err(unreadable)?;
        if let Some(init) = init {
            init.process.signal(Signal::SIGKILL).ok();
        }
        let oom_killed = self.layout.cgroup(&record.cgroup_path).oom_kills() > 0;
        self.remove_cgroup(id, &record.cgroup_path).await?;
        let exit = ExitStatus {
            code: 137,
            signal: Some(Signal::SIGKILL as i32),
            oom_killed,
            started_at_ns: init.map_or(0, |init| init.started_at_ns),
            finished_at_ns: time::now_ns(),
            reason: ExitReason::ShimLost,
        };
        dir.write_exit(&exit).map_err(Error::io(id, "record its exit"))?;
        warn!(container.id = id, "its shim was killed, so its processes were killed too; the exit code is unknown");
        Ok(Some(exit))
    }

    pub(crate) async fn remove_cgroup(&self, id: &str, path: &str) -> Result<()> {
        let (layout, path) = (self.layout.clone(), path.to_owned());
        spawn_blocking(move || layout.cgroup(&path).remove())
            .await
            .expect("removing a cgroup does not panic")
            .map_err(Error::io(id, "remove its cgroup"))
    }

    /// Takes away all that is left of a container that does not run.
    pub(crate) async fn remove(&self, dir: &ContainerDir, cgroup_path: &str, oci_runtime: &OciRuntime) -> Result<()> {
        let id = dir.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(shim) = dir.shim().map_err(Error::io(id, "look for its shim"))? {
            if dir.exit().map_err(Error::io(id, "read its exit status"))?.is_some() {
                until_told(shim).await;
            }
            shim.signal(Signal::SIGKILL).map_err(|errno| Error::Io {
                id: id.to_owned(),
                operation: "end its shim",
                source: errno.into(),
            })?;
        }
        if let Some(init) = dir.init().map_err(Error::io(id, "look for its processes"))? {
            init.process.signal(Signal::SIGKILL).ok(); // where it has no cgroup any more
        }
        if let OciRuntime::External(program) = oci_runtime {
            let mut delete = Command::new(program);
            delete.arg("--root").arg(dir.oci_root()).args(["delete", "--force", id]);
            // Its state goes with the directory below; this is for what it may keep elsewhere.
            if let Err(err) = delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await {
                warn!(container.id = id, error = %err, "the OCI runtime cannot be asked to delete it");
            }
        }
        self.remove_cgroup(id, cgroup_path).await?;
        pass_on_complaints(id, dir);
        match fs::remove_dir_all(dir.path()) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Io { id: id.to_owned(), operation: "remove its directory", source: err })
            }
            _ => Ok(()),
        }
    }
}

/// Whoever removes a container may not be the only one who waited for its end: the shim tells all of them, and goes by itself.
async fn until_told(shim: Process) {
    let until = Instant::now() + TOLD_WITHIN;
    while shim.is_alive() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Lines that a log driver left out are told where people look, before the file about them goes.
fn pass_on_complaints(id: &str, dir: &ContainerDir) {
    let said = fs::read_to_string(dir.shim_log()).unwrap_or_default();
    let complaints: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix(COMPLAINT)).collect();
    for what in &complaints[complaints.len().saturating_sub(COMPLAINTS_MAX)..] {
        warn!(container.id = id, "its log driver said: {what}");
    }
}
