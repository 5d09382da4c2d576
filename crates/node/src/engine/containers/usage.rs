//! What a container uses, its processes and its output (parity E-25, E-27).

use std::{fs, process::Command};

use runtime::{LogConfig, LogQuery, Status, Usage};
use types::{Timestamp, with_causes};

use super::{ContainerError, Engine, Meant, Phase, of_runtime, stopping};
use crate::{
    clock::now,
    engine::{
        log_driver,
        logs::{LogOptions, LogStream, lines},
    },
};

/// One reading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageView {
    pub read_at: Timestamp,
    pub usage: Usage,
    pub networks: Vec<NetworkUse>,
    /// Of the whole host, all processors together.
    pub system_cpu_ns: u64,
    pub processors: u32,
    pub host_memory_bytes: u64,
    /// Of the host: what the kernel counts, and how it says that there is no bound.
    pub cgroup_version: u8,
    pub is_running: bool,
}

/// What went over one interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkUse {
    pub interface: String,
    /// Bytes, packets, errors, dropped.
    pub received: [u64; 4],
    pub sent: [u64; 4],
}

impl Engine {
    /// What it uses now; of one that does not run, nothing.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn container_usage(&self, text: &str) -> Result<UsageView, ContainerError> {
        let id = self.find_container(text).await?.id;
        // what does not run is not read, as with Docker
        let view = UsageView::default();
        let state = match self.inner.runtime.state(&id).await {
            Ok(state) => state,
            Err(runtime::Error::NotFound { .. }) => return Ok(view),
            Err(error) => return Err(of_runtime(&error)),
        };
        let (Status::Running | Status::Paused, Some(pid)) = (&state.status, state.pid) else { return Ok(view) };
        let Ok(usage) = self.inner.runtime.usage(&id) else { return Ok(view) };
        let host = self.info();
        Ok(UsageView {
            read_at: now(),
            usage,
            networks: interfaces(&fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default()),
            system_cpu_ns: system_cpu_ns(&fs::read_to_string("/proc/stat").unwrap_or_default()),
            processors: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            host_memory_bytes: host.memory_bytes,
            cgroup_version: host.cgroup_version,
            is_running: true,
        })
    }

    /// Titles and rows of `ps` with these arguments, of the container's processes alone.
    ///
    /// # Errors
    /// When it does not run, or `ps` cannot do it.
    pub async fn container_processes(
        &self,
        text: &str,
        arguments: &str,
    ) -> Result<(Vec<String>, Vec<Vec<String>>), ContainerError> {
        let found = self.find_container(text).await?;
        if !found.is_running {
            return Err(ContainerError::conflict(format!("container {} is not running", found.id)));
        }
        let pids = self.inner.runtime.pids(&found.id).map_err(|e| of_runtime(&e))?;
        let words: Vec<String> = if arguments.is_empty() {
            vec!["-ef".to_owned()]
        } else {
            arguments.split_whitespace().map(str::to_owned).collect()
        };
        let work = move || {
            let output = Command::new("ps")
                .args(&words)
                .output()
                .map_err(|e| ContainerError::failed(format!("run ps on this host: {e}; install the package procps")))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                // what the user asked of it, it says
                return Err(ContainerError::invalid(format!("ps {}: {}", words.join(" "), said.trim())));
            }
            rows(&String::from_utf8_lossy(&output.stdout), &pids)
        };
        let shown = tokio::task::spawn_blocking(work).await.map_err(|_| stopping())??;
        self.tell(&found.id, "top", &[]);
        Ok(shown)
    }

    /// What it wrote; ends at the end of the log, or with the container when following.
    ///
    /// # Errors
    /// When there is no such container, or it keeps no log.
    pub async fn container_logs(&self, text: &str, options: LogOptions) -> Result<LogStream, ContainerError> {
        let query = LogQuery {
            follow: options.follow,
            since_ns: options.since.map_or(0, Timestamp::as_unix_ns),
            until_ns: options.until.map_or(0, Timestamp::as_unix_ns),
            tail: options.tail,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let opened = match self.meant(text).await? {
            Meant::Task(state) => self.inner.runtime.logs(&state.id, &query),
            Meant::Single(single) => {
                let record = single.record();
                let driver = log_driver::file_of(record.spec.log.as_ref());
                let driver = driver.map_err(|e| ContainerError::invalid(e.to_string()))?;
                if driver == runtime::LogDriver::None {
                    return Err(ContainerError::invalid("configured logging driver does not support reading"));
                }
                let path = self.log_path(&record);
                if record.state.phase == Phase::Created && !path.exists() {
                    return Ok(Box::pin(futures::stream::empty()));
                }
                let log = LogConfig { path, driver, forward: None };
                self.inner.runtime.logs_at(&record.id, &log, &query)
            }
        };
        Ok(lines(opened.map_err(|e| ContainerError::failed(with_causes(&e)))?))
    }
}

/// Of the table that `ps` printed those rows whose process is one of the container's. The last column takes the rest.
fn rows(table: &str, pids: &[i32]) -> Result<(Vec<String>, Vec<Vec<String>>), ContainerError> {
    let mut lines = table.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let Some(at) = titles.iter().position(|title| title == "PID") else {
        return Err(ContainerError::invalid("Couldn't find PID field in ps output: ask for the column pid too"));
    };
    let row = |line: &str| {
        let mut words: Vec<String> = Vec::new();
        let mut rest = line.trim();
        while words.len() + 1 < titles.len() {
            let Some((word, more)) = rest.split_once(char::is_whitespace) else { break };
            words.push(word.to_owned());
            rest = more.trim_start();
        }
        words.push(rest.to_owned());
        let pid: i32 = words.get(at)?.parse().ok()?;
        pids.contains(&pid).then_some(words)
    };
    let found = lines.filter_map(row).collect();
    Ok((titles, found))
}

/// Lines such as `eth0: 1 2 3 4 5 6 7 8 9 10 …`, after two of titles.
pub(in crate::engine) fn interfaces(text: &str) -> Vec<NetworkUse> {
    let one = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map(|n| n.parse().unwrap_or(0)).collect();
        let four =
            |at: usize| Some([*numbers.get(at)?, *numbers.get(at + 1)?, *numbers.get(at + 2)?, *numbers.get(at + 3)?]);
        Some(NetworkUse { interface: name.trim().to_owned(), received: four(0)?, sent: four(8)? })
    };
    text.lines().skip(2).filter_map(one).filter(|one| one.interface != "lo").collect()
}

/// The first line of /proc/stat in clock ticks of a hundredth of a second, without time of guests, which is in
/// `user` already.
fn system_cpu_ns(text: &str) -> u64 {
    const TICK_NS: u64 = 10_000_000;
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    line.split_whitespace().take(8).map(|n| n.parse::<u64>().unwrap_or(0)).sum::<u64>().saturating_mul(TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_processes_is_cut_to_the_containers() {
        let table = "UID PID CMD\nroot 1 /sbin/init a\nroot 7  sleep  100\nroot x y\n";
        let (titles, found) = rows(table, &[7]).expect("a table");
        assert_eq!(titles, ["UID", "PID", "CMD"]);
        assert_eq!(found, [["root", "7", "sleep  100"]]);
        assert!(rows("A B\n1 2\n", &[1]).is_err());
    }

    #[test]
    fn numbers_of_the_kernel_are_read() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";
        let found = interfaces(text);
        assert_eq!((found.len(), found[0].received, found[0].sent), (1, [10, 2, 3, 4], [50, 6, 7, 8]));
        assert_eq!(system_cpu_ns("cpu  1 2 3 4 0 0 0 0 9 9\ncpu0 1\n"), 100_000_000);
    }
}
