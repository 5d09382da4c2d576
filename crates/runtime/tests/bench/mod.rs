//! A place for containers to be tried: a root filesystem made of busybox, a runtime directory, a cgroup
//! parent of its own. When it goes it removes what is left and fails the test if the test left anything.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use runtime::{
    ContainerConfig, ExitStatus, LogConfig, LogDriver, LogEntry, LogQuery, OciRuntime, Runtime, RuntimeConfig, Stream,
};
use tokio_stream::StreamExt;

pub struct Bench {
    pub temp: tempfile::TempDir,
    pub config: RuntimeConfig,
    pub runtime: Runtime,
}

/// Says and counts what cannot be tried here.
pub fn can_run() -> bool {
    static SKIPPED: AtomicU32 = AtomicU32::new(0);
    let missing = if !nix::unistd::geteuid().is_root() {
        Some("root")
    } else if !Path::new("/bin/busybox").exists() {
        Some("/bin/busybox (package busybox-static)")
    } else {
        None
    };
    if let Some(missing) = missing {
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        eprintln!("SKIPPED: needs {missing}; {count} skipped in this program");
    }
    missing.is_none()
}

pub fn runc() -> Option<OciRuntime> {
    let path = ["/usr/bin/runc", "/usr/sbin/runc"].into_iter().find(|path| Path::new(path).exists());
    if path.is_none() {
        eprintln!("SKIPPED: needs runc");
    }
    path.map(|path| OciRuntime::External(PathBuf::from(path)))
}

impl Bench {
    pub fn new(oci_runtime: OciRuntime) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let temp = tempfile::Builder::new().prefix("rswarm-runtime-").tempdir().unwrap();
        make_rootfs(&temp.path().join("rootfs"));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let config = RuntimeConfig {
            run_dir: temp.path().join("run"),
            shim: PathBuf::from(env!("CARGO_BIN_EXE_rswarm-shim")),
            oci_runtime,
            cgroup_parent: format!("/rswarm-test-{}-{number}", std::process::id()),
        };
        let runtime = Runtime::new(config.clone()).unwrap();
        Self { temp, config, runtime }
    }

    pub fn embedded() -> Self {
        Self::new(OciRuntime::Embedded)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// A container that runs a line of shell.
    pub fn shell(&self, id: &str, line: &str) -> ContainerConfig {
        self.command(id, &["sh", "-c", line])
    }

    pub fn command(&self, id: &str, args: &[&str]) -> ContainerConfig {
        let driver = LogDriver::JsonFile { max_size_bytes: 0, max_files: 1, compress: false };
        let log = LogConfig { path: self.path("logs").join(id), driver, forward: None };
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        ContainerConfig::new(id, self.path("rootfs"), args, log)
    }

    pub async fn start(&self, config: &ContainerConfig) -> i32 {
        let created = self.runtime.create(config).await.unwrap_or_else(|err| panic!("{err}"));
        self.runtime.start(&config.id).await.unwrap();
        created.pid
    }

    /// Creates, runs to the end and deletes a container; its exit and all its output.
    pub async fn run(&self, config: &ContainerConfig) -> (ExitStatus, String) {
        self.start(config).await;
        let exit = tokio::time::timeout(Duration::from_secs(60), self.runtime.wait(&config.id)).await;
        let exit = exit.expect("it ends within a minute").unwrap();
        let output = self.output(&config.id).await;
        self.runtime.delete(&config.id).await.unwrap();
        (exit, output)
    }

    pub async fn entries(&self, id: &str) -> Vec<LogEntry> {
        let stream = self.runtime.logs(id, &LogQuery::default()).unwrap();
        stream.map(Result::unwrap).collect().await
    }

    pub async fn output(&self, id: &str) -> String {
        let entries = self.entries(id).await;
        let text = |entry: LogEntry| {
            let mark = if entry.stream == Stream::Stderr { "! " } else { "" };
            format!("{mark}{}", String::from_utf8(entry.bytes).unwrap())
        };
        entries.into_iter().map(text).collect()
    }

    /// Waits until the output has `text`.
    pub async fn until_output(&self, id: &str, text: &str) {
        until(&format!("{id} says {text:?}"), async || self.output(id).await.contains(text)).await;
    }

    /// What the kernel and the file system still have of this bench.
    fn left(&self) -> BTreeMap<&'static str, String> {
        let mut left = BTreeMap::new();
        let dirs: Vec<_> = fs::read_dir(&self.config.run_dir).into_iter().flatten().flatten().collect();
        if !dirs.is_empty() {
            left.insert("directories", format!("{dirs:?}"));
        }
        let cgroups = find_cgroups(self.config.cgroup_parent.trim_start_matches('/'));
        if !cgroups.is_empty() {
            left.insert("cgroups", format!("{cgroups:?}"));
        }
        let temp = self.temp.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts: Vec<_> = mounts.lines().filter(|line| line.contains(temp)).collect();
        if !mounts.is_empty() {
            left.insert("mounts", mounts.join("\n"));
        }
        let processes = processes_with(temp);
        if !processes.is_empty() {
            left.insert("processes", format!("{processes:?}"));
        }
        left
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The parent is ours to remove; below it nothing may be left.
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut left = self.left();
        while !left.is_empty() && !std::thread::panicking() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            left = self.left();
        }
        for (pid, _) in processes_with(self.temp.path().to_str().unwrap()) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
        let name = self.config.cgroup_parent.trim_start_matches('/').to_owned();
        // Those of commands first: they lie below the containers'.
        let below = |dir: &PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let containers = find_cgroups(&name);
        let commands = containers.iter().flat_map(below).filter(|path| path.is_dir()).collect::<Vec<_>>();
        for dir in commands.into_iter().chain(containers).chain(cgroup_dirs(&name)) {
            for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
                let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            while dir.exists() && fs::remove_dir(&dir).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "the test left something: {left:#?}");
        }
    }
}

/// Waits for a condition with a deadline.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn make_rootfs(rootfs: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/web"] {
        fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n")
        .unwrap();
    fs::write(rootfs.join("etc/group"), "root:x:0:\nweb:x:1000:\nlog:x:4:web\n").unwrap();
    fs::write(rootfs.join("etc/data"), "not executable\n").unwrap();
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let points = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    points.filter(|words| words[2].starts_with("cgroup")).map(|words| PathBuf::from(words[1])).collect()
}

fn cgroup_dirs(name: &str) -> Vec<PathBuf> {
    hierarchies().into_iter().map(|point| point.join(name)).filter(|dir| dir.exists()).collect()
}

/// The containers' cgroups below a parent.
fn find_cgroups(name: &str) -> Vec<PathBuf> {
    let children = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    cgroup_dirs(name).into_iter().flat_map(children).filter(|path| path.is_dir()).collect()
}

/// Processes other than this one that name a path in their command line: shims and runtimes.
fn processes_with(text: &str) -> Vec<(i32, String)> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let named = pids.filter_map(|pid: i32| {
        let line = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).ok()?).replace('\0', " ");
        (line.contains(text) && pid != std::process::id().cast_signed()).then_some((pid, line))
    });
    named.collect()
}

/// A file of the container's cgroup, as the kernel shows it.
pub fn cgroup_file(bench: &Bench, id: &str, controller: &str, v1: &str, v2: &str) -> String {
    let relative = format!("{}/{id}", bench.config.cgroup_parent.trim_start_matches('/'));
    let v1_path = Path::new("/sys/fs/cgroup").join(controller).join(&relative).join(v1);
    let v2_path = Path::new("/sys/fs/cgroup").join(&relative).join(v2);
    fs::read_to_string(&v1_path).or_else(|_| fs::read_to_string(&v2_path)).unwrap().trim().to_owned()
}
