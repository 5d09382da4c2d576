//! The last plan on disk, so that a process that was killed converges to it without the daemon.
//!
//! A thread of its own writes it: a plan of a thousand published ports takes as long to write as a change of one of them
//! takes altogether, and the next change need not wait for that.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use super::NetdError;
use crate::{NetworkPlan, kernel::explain};

/// Of the time that writing took, before the next one: one processor in twenty, whatever the rate of changes.
const REST: u32 = 20;

/// The file and who writes it. What was given last is written when this is dropped.
pub struct PlanFile {
    path: PathBuf,
    writer: Option<(Sender<Arc<NetworkPlan>>, JoinHandle<()>)>,
}

impl PlanFile {
    /// In this directory. Nothing is written yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: path(state_dir), writer: None }
    }

    /// Replaces what the file has, soon; of several plans the last one counts.
    pub fn write(&mut self, plan: Arc<NetworkPlan>) {
        if self.writer.is_none() {
            let (plans, given) = channel();
            let path = self.path.clone();
            let spawned = std::thread::Builder::new().name("plan".to_owned()).spawn(move || write_all(&path, &given));
            match spawned {
                Ok(thread) => self.writer = Some((plans, thread)),
                // It cannot have one now: then at once.
                Err(_) => return write_and_say(&self.path, &plan),
            }
        }
        if let Some((plans, _)) = &self.writer {
            plans.send(plan).expect("the thread waits until this end is closed");
        }
    }
}

impl Drop for PlanFile {
    fn drop(&mut self) {
        if let Some((plans, thread)) = self.writer.take() {
            drop(plans);
            // It ends by itself; had it panicked, that has been said.
            let _ = thread.join();
        }
    }
}

fn write_all(path: &Path, given: &Receiver<Arc<NetworkPlan>>) {
    while let Ok(mut plan) = given.recv() {
        plan = given.try_iter().last().unwrap_or(plan);
        let start = Instant::now();
        write_and_say(path, &plan);
        drop(plan);
        let rest = Instant::now() + start.elapsed() * REST;
        let mut last = None;
        let is_open = loop {
            match given.recv_timeout(rest.saturating_duration_since(Instant::now())) {
                Ok(plan) => last = Some(plan),
                Err(RecvTimeoutError::Timeout) => break true,
                Err(RecvTimeoutError::Disconnected) => break false,
            }
        };
        if let Some(plan) = last {
            write_and_say(path, &plan);
        }
        if !is_open {
            return;
        }
    }
}

fn write_and_say(path: &Path, plan: &NetworkPlan) {
    if let Err(error) = write(path, plan) {
        tracing::error!(error = explain(&error), "the plan is lost if this process ends");
    }
}

/// The plan kept in `state_dir`; None when there is none, or none that can be read (which is logged:
/// nothing is removed then, and the daemon sends a plan anyway).
pub fn read(state_dir: &Path) -> Option<NetworkPlan> {
    let path = path(state_dir);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the last plan; waiting for the daemon");
            return None;
        }
    };
    let plan = serde_json::from_slice(&text);
    plan.inspect_err(|error| {
        tracing::warn!(path = %path.display(), %error, "the last plan makes no sense; waiting for the daemon");
    })
    .ok()
}

/// Replaces it; a reader sees the old one or the new one. Readable by root only: it holds the probe key.
fn write(path: &Path, plan: &NetworkPlan) -> Result<(), NetdError> {
    let beside = path.with_extension("json.new");
    let bytes = serde_json::to_vec(plan).map_err(NetdError::Form)?;
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|source| NetdError::File { doing: "keep the plan in", path: path.to_owned(), source })
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("plan.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BridgePlan, EndpointPlan};

    /// Of many plans in a row the last one is in the file when its owner has gone, whatever was left out before.
    #[test]
    fn p36_the_last_of_many_plans_is_kept() {
        let directory = std::env::temp_dir().join(format!("rswarm-plan-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let bridge = BridgePlan::new("172.17.0.0/16".parse().expect("subnet")).expect("bridge");
        let mut plan = NetworkPlan { bridge: Some(bridge), ..NetworkPlan::default() };
        let mut file = PlanFile::new(&directory);
        for n in 0..200 {
            plan.endpoints.insert(format!("e{n}").parse().expect("id"), EndpointPlan::default());
            file.write(Arc::new(plan.clone()));
        }
        drop(file);
        let found = read(&directory);
        fs::remove_dir_all(&directory).expect("removed");
        assert_eq!(found, Some(plan));
    }
}
