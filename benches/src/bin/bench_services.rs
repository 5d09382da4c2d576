//! A cluster with many services on simulated nodes, as one JSON object on stdout: how fast the control plane is
//! without containers.
//!
//! One real manager in a host of its own. The nodes are streams to it that say RUNNING as soon as they are told to run:
//! they join, renew nothing and carry nothing. Everything is asked for through the API that users have.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use benches::{round, rss_mib, summary};
use identity::NodeIdentity;
use it::{Api, ClusterUnderTest, IMAGE};
use nix::sched::{CloneFlags, setns};
use node::join;
use proto::v1::{
    AgentMessage, Hello, ManagerMessage, agent_message, assignments::Content, dispatcher_client::DispatcherClient,
    manager_message,
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use types::{
    Assignment, AssignmentDiff, AssignmentSet, Availability, Bytes, NanoCpus, NodeDescription, Platform, Resources,
    TaskId, TaskReport, TaskState, TaskStatus, Timestamp,
};

/// Who is not done by then never will be.
const PATIENCE: Duration = Duration::from_secs(300);
/// Reports that wait for the manager; each may be of many tasks.
const MAX_WAITING: usize = 64;
/// A number of clients that keeps one manager busy.
const CLIENTS: usize = 8;
/// Enough that the 99th percentile is not the slowest one.
const LISTS: usize = 200;
/// Lists that take longer are told one by one, on stderr.
const SLOW: Duration = Duration::from_millis(150);

struct Plan {
    nodes: usize,
    services: usize,
    replicas: usize,
    /// As many tasks are there when lists are measured.
    listed: usize,
}

fn main() -> Result<()> {
    let plan = plan()?;
    let t = ClusterUnderTest::without_image("bench-services", 1, 0)?;
    let daemon = t.cluster.daemon("h1")?.context("the daemon runs")?.pid;
    let api = t.first()?;
    let idle = rss_mib(daemon)?;
    // the manager is to manage, not to run anything
    let node = api.get(&format!("/nodes/{}", t.node_id("h1")?))?;
    let spec = json!({ "Role": "manager", "Availability": "drain", "Labels": {} });
    api.post(&format!("/nodes/{}/update?version={}", t.node_id("h1")?, node["Version"]["Index"]), &spec)?;
    // simulated nodes answer no probes: there is no second witness for one that is not heard while the machine is busy
    t.cli("h1", &["swarm", "update", "--dispatcher-heartbeat", "60s"])?;
    let fleet = Fleet::join(&t, daemon, plan.nodes)?;

    let (mut creates, took) = fleet.until_running(plan.services * plan.replicas, || create_all(&api, &plan))?;
    let tasks = plan.services * plan.replicas;
    eprintln!("{tasks} tasks of {} services running after {took:?}", plan.services);
    let mut figures = json!({
        "nodes": plan.nodes, "services": plan.services, "tasks": tasks, "clients": CLIENTS,
        "create_s": summary(&mut creates), "running_s": round(took.as_secs_f64()),
        "tasks_per_second": (tasks as f64 / took.as_secs_f64()).round(),
        "rss_mib": { "idle": idle, "tasks": rss_mib(daemon)? },
    });
    let (mut scales, took) = fleet.until_running(plan.listed, || scale_all(&api, plan.listed / plan.services))?;
    eprintln!("{} tasks running after {took:?}", plan.listed);
    figures["scaled"] = json!({
        "tasks": plan.listed, "update_s": summary(&mut scales), "running_s": round(took.as_secs_f64()),
        "tasks_per_second": ((plan.listed - tasks) as f64 / took.as_secs_f64()).round(), "rss_mib": rss_mib(daemon)?,
    });
    figures["list_s"] = json!({
        "tasks": list(&api, "/tasks", plan.listed)?,
        "tasks_of_a_service": list(&api, "/tasks?filters=%7B%22service%22%3A%5B%22s1%22%5D%7D", plan.listed / plan.services)?,
        "services": list(&api, "/services?status=true", plan.services)?,
    });
    println!("{figures}");
    Ok(())
}

/// `--nodes N`, `--services N`, `--replicas N` and `--listed N`.
fn plan() -> Result<Plan> {
    let mut plan = Plan { nodes: 50, services: 500, replicas: 10, listed: 30_000 };
    let arguments: Vec<String> = env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        let [flag, value] = pair else { bail!("{} has no value", pair.concat()) };
        let number = value.parse().with_context(|| format!("{flag} {value}"))?;
        match flag.as_str() {
            "--nodes" => plan.nodes = number,
            "--services" => plan.services = number,
            "--replicas" => plan.replicas = number,
            "--listed" => plan.listed = number,
            _ => bail!("usage: bench-services [--nodes N] [--services N] [--replicas N] [--listed N]"),
        }
    }
    ensure!(plan.nodes > 0 && plan.services > 0, "at least one node and one service");
    ensure!(plan.listed >= plan.services * plan.replicas, "--listed is what there is in the end: not less than before");
    Ok(plan)
}

fn body(name: &str, replicas: usize) -> Value {
    json!({
        "Name": name,
        "Mode": { "Replicated": { "Replicas": replicas } },
        "TaskTemplate": { "ContainerSpec": { "Image": IMAGE, "Args": ["sleep", "100000"] } },
    })
}

/// Takes from a common pile with all clients at once; gives how long each request took.
fn by_clients(count: usize, request: impl Fn(usize) -> Result<()> + Sync) -> Result<Vec<Duration>> {
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        let client = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                let begin = Instant::now();
                request(number)?;
                times.lock().unwrap_or_else(PoisonError::into_inner).push(begin.elapsed());
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })?;
    Ok(times.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn create_all(api: &Api, plan: &Plan) -> Result<Vec<Duration>> {
    by_clients(plan.services, |number| {
        api.post("/services/create", &body(&format!("s{number}"), plan.replicas)).map(drop)
    })
}

fn scale_all(api: &Api, replicas: usize) -> Result<Vec<Duration>> {
    let services = api.get("/services")?;
    let services = services.as_array().context("a list")?;
    by_clients(services.len(), |number| {
        let (id, version) = (&services[number]["ID"], &services[number]["Version"]["Index"]);
        let mut spec = services[number]["Spec"].clone();
        spec["Mode"]["Replicated"]["Replicas"] = replicas.into();
        let id = id.as_str().context("an id")?;
        // the planner may have changed it meanwhile
        let change = |version: &Value| api.post(&format!("/services/{id}/update?version={version}"), &spec).map(drop);
        change(version).or_else(|_| change(&api.get(&format!("/services/{id}"))?["Version"]["Index"]))
    })
}

fn list(api: &Api, path: &str, count: usize) -> Result<Value> {
    let mut times = Vec::new();
    for _ in 0..LISTS {
        let begin = Instant::now();
        let answer = api.request("GET", path, "application/json", b"")?;
        times.push(begin.elapsed());
        ensure!(answer.status == 200, "{path}: {}", answer.text());
        let found = answer.json()?.as_array().map_or(0, Vec::len);
        ensure!(found == count, "{path}: {found} of {count}: {:?}", states(&answer.json()?));
    }
    let slow = times.iter().enumerate().filter(|(_, took)| **took > SLOW);
    let slow: Vec<String> = slow.map(|(at, took)| format!("{at}: {took:?}")).collect();
    eprintln!("{path}: {} of {LISTS} took longer than {SLOW:?} {slow:?}", slow.len());
    Ok(summary(&mut times))
}

/// How many there are of each kind, for whoever finds too many or too few.
fn states(tasks: &Value) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for task in tasks.as_array().into_iter().flatten() {
        let status = &task["Status"];
        let kind = format!("{} {} {} {}", status["State"], task["DesiredState"], status["Message"], status["Err"]);
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

/// The simulated nodes.
struct Fleet {
    running: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Fleet {
    /// Joins them, from within the manager's host.
    fn join(t: &ClusterUnderTest, daemon: i32, count: usize) -> Result<Self> {
        let net = File::open(format!("/proc/{daemon}/ns/net")).context("open the manager's network namespace")?;
        let enter = move || {
            setns(&net, CloneFlags::CLONE_NEWNET).expect("root enters a namespace");
        };
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().on_thread_start(enter).build();
        let runtime = runtime.context("start a runtime")?;
        let token = t.cli("h1", &["swarm", "join-token", "-q", "worker"])?;
        let manager = format!("{}:2377", t.lab().address("h1")?);
        let running = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        let joins: Vec<_> = (0..count)
            .map(|number| {
                let request = join::Request {
                    token: token.trim().to_owned(),
                    remote_addrs: vec![manager.clone()],
                    availability: Availability::Active,
                };
                runtime.spawn(start(request, number, Arc::clone(&running)))
            })
            .collect();
        runtime.block_on(async {
            for join in joins {
                join.await??;
            }
            anyhow::Ok(())
        })?;
        eprintln!("{count} nodes joined after {:?}", begin.elapsed());
        Ok(Self { running, _runtime: runtime })
    }

    /// From the first request until the managers have committed that so many tasks run.
    fn until_running(
        &self,
        count: usize,
        requests: impl FnOnce() -> Result<Vec<Duration>>,
    ) -> Result<(Vec<Duration>, Duration)> {
        let begin = Instant::now();
        let times = requests()?;
        while self.running.load(Ordering::Relaxed) < count {
            ensure!(begin.elapsed() < PATIENCE, "{} of {count} run", self.running.load(Ordering::Relaxed));
            thread::sleep(Duration::from_millis(1));
        }
        Ok((times, begin.elapsed()))
    }
}

/// Joins and opens the stream; what comes on it is answered for as long as the runtime lives.
async fn start(request: join::Request, number: usize, running: Arc<AtomicUsize>) -> Result<()> {
    let joined = join::join(&request).await?;
    let identity = NodeIdentity::from_pem(&joined.key_pem, &joined.chain_pem)?;
    let channel = proto::transport::channel(&joined.manager, move |address| identity.clone().connect(address));
    let mut client = DispatcherClient::new(channel).max_decoding_message_size(proto::MAX_MESSAGE_BYTES);
    let (messages, queue) = mpsc::channel(MAX_WAITING);
    let description = NodeDescription {
        hostname: format!("sim{number}"),
        platform: Platform::new("linux", "amd64", ""),
        resources: Resources { nano_cpus: NanoCpus(64_000_000_000), memory: Bytes(1 << 38), ..Resources::default() },
        ..NodeDescription::default()
    };
    let data_address = format!("198.18.{}.{}", number / 250, number % 250 + 1);
    let hello = Hello { node_description: proto::encode(&description), data_address };
    messages.send(AgentMessage { message: Some(agent_message::Message::Hello(hello)) }).await?;
    let mut stream = client.session(ReceiverStream::new(queue)).await?.into_inner();
    tokio::spawn(async move {
        let mut node = Node { tasks: BTreeMap::new(), sent: Vec::new(), committed: 0, messages, running };
        let mut beat = tokio::time::interval(Duration::from_millis(500));
        loop {
            let answer = tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(message)) => node.hear(message).await,
                    other => Err(anyhow::anyhow!("the stream ended: {other:?}")),
                },
                _ = beat.tick() => node.say(agent_message::Message::Heartbeat(proto::v1::Heartbeat {})).await,
            };
            if let Err(error) = answer {
                eprintln!("sim{number}: {error:#}");
                return;
            }
        }
    });
    Ok(())
}

/// What one simulated node remembers.
struct Node {
    tasks: BTreeMap<TaskId, TaskState>,
    /// How many tasks each report that was sent says to be RUNNING, by how many reports of tasks there were then.
    sent: Vec<(u64, usize)>,
    committed: u64,
    messages: mpsc::Sender<AgentMessage>,
    running: Arc<AtomicUsize>,
}

impl Node {
    async fn say(&self, message: agent_message::Message) -> Result<()> {
        Ok(self.messages.send(AgentMessage { message: Some(message) }).await?)
    }

    async fn hear(&mut self, message: ManagerMessage) -> Result<()> {
        match message.message {
            Some(manager_message::Message::Assignments(sent)) => {
                let wanted: Vec<Assignment> = match sent.content {
                    Some(Content::Whole(bytes)) => {
                        proto::decode::<AssignmentSet>(&bytes)?.tasks.into_values().collect()
                    }
                    Some(Content::Difference(bytes)) => proto::decode::<AssignmentDiff>(&bytes)?.upsert,
                    None => Vec::new(),
                };
                self.report(&wanted).await
            }
            Some(manager_message::Message::ReportsCommitted(count)) => {
                self.committed = count;
                let committed = self.sent.iter().filter(|(at, _)| *at <= count).map(|(_, running)| running).sum();
                self.sent.retain(|(at, _)| *at > count);
                self.running.fetch_add(committed, Ordering::Relaxed);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Says of each task at once that it is as it shall be.
    async fn report(&mut self, wanted: &[Assignment]) -> Result<()> {
        let mut reports = Vec::new();
        for assignment in wanted {
            let state = if assignment.desired == TaskState::Running { TaskState::Running } else { TaskState::Shutdown };
            if assignment.state.is_terminal() || self.tasks.insert(assignment.id, state) == Some(state) {
                continue;
            }
            let (message, error) = (String::new(), String::new());
            let status = TaskStatus { state, since: now(), message, error, container: None, ports: Vec::new() };
            reports.push(TaskReport { task: assignment.id, status });
        }
        if reports.is_empty() {
            return Ok(());
        }
        let running = reports.iter().filter(|report| report.status.state == TaskState::Running).count();
        let before = self.sent.last().map_or(self.committed, |(at, _)| *at);
        self.sent.push((before + reports.len() as u64, running));
        self.say(agent_message::Message::TaskReports(proto::encode(&reports))).await
    }
}

fn now() -> Timestamp {
    let passed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(passed.as_millis()).unwrap_or_default())
}
