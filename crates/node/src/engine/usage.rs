//! What the tasks of this host use, all at once, for a manager that asks.

use std::fs;

use runtime::{Runtime, Status};
use types::{TaskId, TaskUsage, Traffic};

use super::{Engine, EngineError, container_id::task_of_container, containers::interfaces};

/// A running task: its container and its first process.
type Running = (TaskId, String, Option<i32>);

impl Engine {
    /// Of all that run; what ends meanwhile is left out.
    ///
    /// # Errors
    /// As [`Engine::containers`].
    pub(crate) async fn task_usage(&self) -> Result<Vec<TaskUsage>, EngineError> {
        let runs = |status: &Status| matches!(status, Status::Running | Status::Paused);
        let states = self.containers().await?.into_iter().filter(|state| runs(&state.status));
        let running: Vec<Running> =
            states.filter_map(|state| Some((task_of_container(&state.id)?, state.id, state.pid))).collect();
        // some ten files for each task: not for the threads that others wait on, and all processors can read
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = running.len().div_ceil(threads).max(1);
        let reading: Vec<_> = running
            .chunks(share)
            .map(|some| {
                let (some, runtime) = (some.to_vec(), self.inner.runtime.clone());
                tokio::task::spawn_blocking(move || measure_all(&runtime, &some))
            })
            .collect();
        let mut all = Vec::with_capacity(running.len());
        for some in reading {
            all.extend(some.await.map_err(|_| EngineError::Runtime("the engine is stopping".to_owned()))?);
        }
        Ok(all)
    }
}

fn measure_all(runtime: &Runtime, running: &[Running]) -> Vec<TaskUsage> {
    let own_network = network_of("self");
    let one = |(task, container, pid): &Running| {
        let usage = runtime.usage(container).ok()?;
        let disk = Traffic {
            received_bytes: usage.io.iter().map(|(_, _, read, _)| read).sum(),
            sent_bytes: usage.io.iter().map(|(_, _, _, written)| written).sum(),
        };
        Some(TaskUsage {
            task: *task,
            cpu_ns: usage.stats.cpu_ns,
            memory_bytes: usage.stats.memory_bytes,
            rss_bytes: usage.rss_bytes,
            memory_limit_bytes: usage.stats.memory_limit_bytes,
            processes: usage.stats.pids,
            network: pid.and_then(|pid| traffic(pid, own_network.as_ref())),
            disk,
        })
    };
    running.iter().filter_map(one).collect()
}

/// Over all interfaces of the process's network, unless that is the host's.
fn traffic(pid: i32, own_network: Option<&std::path::PathBuf>) -> Option<Traffic> {
    let network = network_of(&pid.to_string())?;
    if own_network == Some(&network) {
        return None;
    }
    let all = interfaces(&fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?);
    let sum = |bytes: fn(&super::containers::NetworkUse) -> u64| all.iter().map(bytes).sum();
    Some(Traffic { received_bytes: sum(|one| one.received[0]), sent_bytes: sum(|one| one.sent[0]) })
}

fn network_of(process: &str) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/net")).ok()
}
