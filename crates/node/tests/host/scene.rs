//! What is tried on the host.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use node::{Agent, AgentConfig, Engine, EngineConfig, engine::container_id};
use types::{
    Assignment, AssignmentSet, ContainerSpec, Placement, ResourceRequirements, RestartPolicy, ServiceId, Slot, TaskId,
    TaskSpec, TaskState, TaskStatus, Timestamp,
};

use crate::{
    health, images,
    manager::{FakeManager, Heard},
};

pub const IMAGE: &str = "rswarm-test/busybox:1";

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_unix_ns(u64::try_from(since.as_nanos()).expect("before 2554"))
}

pub async fn up_loopback() -> Result<()> {
    let status = tokio::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().await?;
    ensure!(status.success(), "set lo up");
    Ok(())
}

pub struct Host {
    pub dir: tempfile::TempDir,
    pub manager: FakeManager,
}

impl Host {
    fn netd(&self) -> overlay::Client {
        overlay::Client::new(&self.dir.path().join("run/netd.sock"))
    }

    /// Where the images are, which is a disk of its own.
    pub fn images(&self) -> PathBuf {
        self.dir.path().join("state/images")
    }

    pub async fn engine(&self) -> Result<Engine> {
        let exe = std::env::current_exe()?;
        let run_dir = self.dir.path().join("run");
        let config = EngineConfig {
            state_dir: self.dir.path().join("state"),
            run_dir: run_dir.clone(),
            shim: exe.clone(),
            oci_runtime: std::env::var("RSWARM_OCI_RUNTIME").unwrap_or_else(|_| "embedded".into()),
            storage_driver: None,
            settings: node::engine::Settings::default(),
            netd: vec![exe.into(), "netd".into(), run_dir.into()],
            version: "test".into(),
            cdi_directories: Vec::new(),
            encryption: overlay::EncryptionBackend::Userspace,
            address_pools: overlay::default_pools(),
            network: node::engine::HostNetwork::default(),
        };
        let engine = Engine::start(config).await?;
        if engine.images().get(IMAGE).is_err() {
            let archive = node::image::busybox_archive(IMAGE)?;
            engine.images().load(std::io::Cursor::new(archive), node::image::Progress::none()).await?;
        }
        Ok(engine)
    }

    pub async fn agent(&self, engine: &Engine) -> Result<Agent> {
        let config = AgentConfig {
            others_are_gone: false,
            identity: self.manager.node.clone(),
            vault: identity::Vault::open(&self.dir.path().join("identity"), &[identity::NodeIdentity::FILE])?,
            managers: vec![self.manager.peer.clone()],
            data_address: [127, 0, 0, 1].into(),
            state_dir: self.dir.path().join("agent"),
        };
        Ok(Agent::start(engine.clone(), config).await?)
    }
}

pub fn task(n: u128, image: &str, args: &[&str]) -> Assignment {
    let mut container = ContainerSpec::of_image(image.parse().expect("a reference"));
    container.args = args.iter().map(|a| (*a).to_owned()).collect();
    container.stop_grace_period = Duration::from_secs(1);
    Assignment {
        id: TaskId::from_random(n << 64 | 0xabc),
        service: ServiceId::from_random(7),
        service_name: "web".parse().expect("a name"),
        service_labels: types::Labels::new(),
        slot: Slot::Replica(1),
        spec: Arc::new(TaskSpec {
            container,
            resources: ResourceRequirements::default(),
            restart: RestartPolicy::default(),
            placement: Placement::default(),
            log_driver: None,
            networks: Vec::new(),
            force_update: 0,
        }),
        attachments: Vec::new(),
        host_ports: Vec::new(),
        granted: types::GenericResources::new(),
        default_log: None,
        registry_auth: types::Payload::default(),
        mount_auths: std::collections::BTreeMap::new(),
        is_ordered: false,
        desired: TaskState::Running,
        not_before: Timestamp::EPOCH,
        state: TaskState::Assigned,
    }
}

pub fn set(tasks: impl IntoIterator<Item = Assignment>) -> AssignmentSet {
    AssignmentSet { tasks: tasks.into_iter().map(|a| (a.id, a)).collect(), ..AssignmentSet::default() }
}

pub fn last(heard: &Heard, task: TaskId) -> Option<&TaskStatus> {
    heard.get(&task)?.last()
}

pub fn is(heard: &Heard, task: TaskId, state: TaskState) -> bool {
    last(heard, task).is_some_and(|s| s.state == state)
}

pub fn pid(heard: &Heard, task: TaskId) -> Result<u32> {
    let container = last(heard, task).and_then(|s| s.container.as_ref()).context("no container was reported")?;
    ensure!(container.id == container_id(task) && container.pid > 0, "{container:?}");
    Ok(container.pid)
}

#[expect(clippy::print_stdout, reason = "the test's report")]
pub fn passed(name: &str, began: Instant) {
    println!("ok: {name} ({} ms)", began.elapsed().as_millis());
}

pub async fn all() -> Result<()> {
    let host = Host { dir: tempfile::tempdir()?, manager: FakeManager::start(now()).await? };
    images::mount_disk(&host.images())?;
    let outcome = scenes(&host).await;
    let cleaned = clean_up(&host, &host.netd()).await;
    host.manager.stop().await;
    outcome?;
    cleaned
}

async fn scenes(host: &Host) -> Result<()> {
    let began = Instant::now();
    let engine = host.engine().await?;
    let agent = host.agent(&engine).await?;
    passed("an engine and an agent start", began);
    runs_stops_and_is_removed(host).await?;
    killed_and_failing(host).await?;
    rejected(host).await?;
    let (engine, agent) = survives_the_daemon(host, engine, agent).await?;
    let (engine, agent) = health::all(host, engine, agent).await?;
    many(host, &engine).await?;
    let began = Instant::now();
    crate::networks::single_containers(&engine).await?;
    passed("networks of the host, and single containers in them", began);
    let began = Instant::now();
    images::make_room(host, &engine).await?;
    passed("old images make room for new ones", began);
    let began = Instant::now();
    agent.leave().await;
    ensure!(engine.containers().await?.is_empty(), "containers are left after leaving");
    engine.shutdown().await;
    passed("leaving removes everything", began);
    Ok(())
}

async fn runs_stops_and_is_removed(host: &Host) -> Result<()> {
    let began = Instant::now();
    let mut task = task(1, IMAGE, &["sh", "-c", "echo hello; cat /etc/hostname; exec sleep 1000"]);
    host.manager.assign(set([task.clone()])).await;
    let heard = host.manager.wait("RUNNING", |h| is(h, task.id, TaskState::Running)).await?;
    let pid = pid(&heard, task.id)?;
    ensure!(Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is there");
    let states: Vec<TaskState> = heard[&task.id].iter().map(|s| s.state).collect();
    ensure!(states.is_sorted(), "never backwards: {states:?}");
    host.manager.ask_logs(task.id).await;
    let name = container_id(task.id)[..12].to_owned();
    host.manager.wait_logs(|lines| lines.concat() == format!("hello\n{name}\n")).await?;
    let usage = host.manager.usage().await?;
    let used = usage.tasks.iter().find(|used| used.task == task.id).context("what the task uses")?;
    ensure!(used.cpu_ns > 0 && used.rss_bytes > 0 && used.processes == 1, "{used:?}");
    passed("a task runs, its log is read and its use is measured", began);
    let began = Instant::now();
    (task.desired, task.state) = (TaskState::Shutdown, TaskState::Running);
    host.manager.assign(set([task.clone()])).await;
    let heard = host.manager.wait("SHUTDOWN", |h| is(h, task.id, TaskState::Shutdown)).await?;
    let code = last(&heard, task.id).and_then(|s| s.container.as_ref()?.exit_code);
    ensure!(code == Some(137), "sleep as process 1 ignores SIGTERM: {code:?}");
    ensure!(began.elapsed() < Duration::from_secs(4), "the grace period is one second: {:?}", began.elapsed());
    host.manager.assign(set([])).await;
    passed("it stops within its grace period", began);
    Ok(())
}

async fn killed_and_failing(host: &Host) -> Result<()> {
    let began = Instant::now();
    let (long, short) = (task(2, IMAGE, &["sleep", "1000"]), task(3, IMAGE, &["sh", "-c", "exit 3"]));
    let fine = task(4, IMAGE, &["true"]);
    host.manager.assign(set([long.clone(), short.clone(), fine.clone()])).await;
    let heard = host.manager.wait("RUNNING", |h| is(h, long.id, TaskState::Running)).await?;
    kill(Pid::from_raw(i32::try_from(pid(&heard, long.id)?)?), Signal::SIGKILL)?;
    let ended = |h: &Heard| {
        is(h, long.id, TaskState::Failed) && is(h, short.id, TaskState::Failed) && is(h, fine.id, TaskState::Complete)
    };
    let heard = host.manager.wait("three ends", ended).await?;
    let errors: Vec<&str> = [long.id, short.id].iter().filter_map(|t| Some(last(&heard, *t)?.error.as_str())).collect();
    ensure!(errors == ["task: non-zero exit (137): ended by signal 9", "task: non-zero exit (3)"], "{errors:?}");
    host.manager.assign(set([])).await;
    passed("a killed container and a failing one are FAILED with their codes", began);
    Ok(())
}

async fn rejected(host: &Host) -> Result<()> {
    let began = Instant::now();
    let mut bound = task(6, IMAGE, &["true"]);
    let kind = types::MountKind::Bind {
        source: "/nowhere/at/all".into(),
        propagation: String::new(),
        create: false,
        non_recursive: false,
        read_only_non_recursive: false,
    };
    Arc::make_mut(&mut bound.spec).container.mounts =
        vec![types::Mount { target: "/x".into(), read_only: false, kind }];
    let (lost, absent) = (task(5, "127.0.0.1:9/none:1", &["true"]), task(7, IMAGE, &["no-such-program"]));
    host.manager.assign(set([bound.clone(), lost.clone(), absent.clone()])).await;
    let ended =
        |h: &Heard| [bound.id, lost.id, absent.id].iter().all(|t| last(h, *t).is_some_and(|s| s.state.is_terminal()));
    let heard = host.manager.wait("rejections", ended).await?;
    let error = |t: TaskId| last(&heard, t).map(|s| format!("{}: {}", s.state, s.error)).unwrap_or_default();
    ensure!(error(lost.id).starts_with("rejected: No such image: 127.0.0.1:9/none:1"), "{}", error(lost.id));
    ensure!(error(bound.id).contains("bind source path does not exist: /nowhere/at/all"), "{}", error(bound.id));
    ensure!(error(absent.id).contains("no-such-program"), "{}", error(absent.id));
    host.manager.assign(set([])).await;
    passed("what cannot run is rejected with the reason", began);
    Ok(())
}

async fn survives_the_daemon(host: &Host, engine: Engine, agent: Agent) -> Result<(Engine, Agent)> {
    let began = Instant::now();
    let (mut stays, mut ends) = (task(8, IMAGE, &["sleep", "1000"]), task(9, IMAGE, &["sleep", "1000"]));
    let leftover = task(10, IMAGE, &["sleep", "1000"]);
    host.manager.assign(set([stays.clone(), ends.clone(), leftover.clone()])).await;
    let all = [stays.id, ends.id, leftover.id];
    let heard = host.manager.wait("RUNNING", |h| all.iter().all(|t| is(h, *t, TaskState::Running))).await?;
    let pids: Vec<u32> = all.iter().map(|t| pid(&heard, *t)).collect::<Result<_>>()?;
    agent.shutdown().await;
    engine.shutdown().await;
    drop(engine);
    kill(Pid::from_raw(i32::try_from(pids[1])?), Signal::SIGKILL)?;
    host.manager.forget();
    (stays.state, ends.state) = (TaskState::Running, TaskState::Running);
    host.manager.assign(set([stays.clone(), ends.clone()])).await;
    let engine = host.engine().await?;
    let agent = host.agent(&engine).await?;
    let there = |h: &Heard| is(h, stays.id, TaskState::Running) && is(h, ends.id, TaskState::Failed);
    let heard = host.manager.wait("both statuses", there).await?;
    ensure!(pid(&heard, stays.id)? == pids[0], "the same process");
    let code = last(&heard, ends.id).and_then(|s| s.container.as_ref()?.exit_code);
    ensure!(code == Some(137), "the exit code of meanwhile: {code:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while Path::new(&format!("/proc/{}", pids[2])).exists() {
        ensure!(Instant::now() < deadline, "the leftover still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(host.manager.sessions() >= 2, "a new session");
    host.manager.assign(set([])).await;
    passed("a restarted agent finds its containers, reports what ended and removes leftovers", began);
    Ok((engine, agent))
}

/// Not a test of time: the figures are for people.
#[expect(clippy::print_stdout, reason = "the test's report")]
async fn many(host: &Host, engine: &Engine) -> Result<()> {
    let tasks: Vec<Assignment> = (100..120).map(|n| task(n, IMAGE, &["sleep", "1000"])).collect();
    let netd = host.netd().status().await?.pid;
    let (before, netd_before) = (cpu_ms()?, process_ms(netd)?);
    let began = Instant::now();
    host.manager.assign(set(tasks.clone())).await;
    let running = |h: &Heard| tasks.iter().all(|t| is(h, t.id, TaskState::Running));
    let heard = host.manager.wait("twenty RUNNING", running).await?;
    let (took, cpu) = (began.elapsed().as_millis(), cpu_ms()? - before);
    let netd = process_ms(netd)? - netd_before;
    let containers = engine.containers().await?;
    let shims: Vec<u32> = containers.iter().filter_map(|c| u32::try_from(c.shim_pid?).ok()).collect();
    let shims = shims.into_iter().map(process_ms).sum::<Result<u64>>()?;
    let reports: usize = tasks.iter().map(|t| heard[&t.id].len()).sum();
    println!(
        "figures: 20 tasks to RUNNING in {took} ms, {reports} reports; CPU: {cpu} ms here, {netd} ms netd, {shims} ms shims"
    );
    Ok(())
}

/// CPU of a process and of its children that ended, to the kernel's tick of 10 ms.
fn process_ms(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("the shape of stat")?.1.split_whitespace();
    let ticks = fields.skip(11).take(4).map(|f| Ok(f.parse::<u64>()?)).sum::<Result<u64>>()?;
    Ok(ticks * 10)
}

fn cpu_ms() -> Result<i64> {
    let usage = |who| -> Result<i64> {
        let u = nix::sys::resource::getrusage(who)?;
        let ms = |t: nix::sys::time::TimeVal| t.tv_sec() * 1000 + t.tv_usec() / 1000;
        Ok(ms(u.user_time()) + ms(u.system_time()))
    };
    use nix::sys::resource::UsageWho;
    Ok(usage(UsageWho::RUSAGE_SELF)? + usage(UsageWho::RUSAGE_CHILDREN)?)
}

/// Takes the network away, ends its process, and looks for what is left.
async fn clean_up(host: &Host, client: &overlay::Client) -> Result<()> {
    let root = host.dir.path().to_owned();
    if let Ok(engine) = host.engine().await {
        for container in engine.containers().await? {
            if let Some(pid) = container.shim_pid {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            if let Some(pid) = container.pid {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        engine.shutdown().await;
    }
    client.apply(&overlay::NetworkPlan::default()).await?;
    client.shutdown().await?;
    umount2(&host.images(), MntFlags::MNT_DETACH)?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let left: Vec<&str> = mounts.lines().filter(|l| l.contains(&*root.to_string_lossy())).collect();
    if !left.is_empty() {
        bail!("mounts are left: {left:#?}");
    }
    for directory in ["run/containers", "state/containers", "state/anonymous", "run/etc"] {
        let left = std::fs::read_dir(root.join(directory)).map_or(0, Iterator::count);
        ensure!(left == 0, "{left} entries are left in {directory}");
    }
    Ok(())
}
