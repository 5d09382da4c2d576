//! A fake agent: follows its assignments, says that every task runs, and what it uses.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use identity::NodeIdentity;
use proto::v1::{
    AgentMessage, Heartbeat, Hello, ManagerMessage, Resync, UsageReport, agent_message::Message as Up,
    assignments::Content, dispatcher_client::DispatcherClient, manager_message::Message as Down,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use types::{
    AssignmentDiff, AssignmentSet, ContainerStatus, NodeDescription, NodeId, NodeUsage, ProbeReport, TaskReport,
    TaskState, TaskStatus, TaskUsage, Traffic,
};

use crate::harness::now;

/// What the agent has seen so far.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub set: AssignmentSet,
    pub whole: usize,
    pub differences: usize,
    pub number: u64,
    pub role: String,
    pub managers: usize,
    pub committed: u64,
    pub goodbye: bool,
    pub ended: Option<String>,
    /// It does not say what its tasks use.
    pub is_mute: bool,
}

pub struct Agent {
    pub node: NodeId,
    seen: Arc<Mutex<Seen>>,
    up: mpsc::Sender<AgentMessage>,
    reader: JoinHandle<()>,
    heart: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.reader.abort();
        self.heart.abort();
    }
}

fn message(message: Up) -> AgentMessage {
    AgentMessage { message: Some(message) }
}

impl Agent {
    pub async fn start(identity: &NodeIdentity, address: &str) -> Result<Self, Status> {
        let node = identity.node();
        let dialled = identity.clone();
        let channel = proto::transport::channel(address, move |a| dialled.clone().connect(a));
        let (up, messages) = mpsc::channel(64);
        let description = NodeDescription {
            hostname: format!("host-{}", node.short()),
            platform: types::Platform::new("linux", "amd64", ""),
            resources: types::Resources {
                nano_cpus: types::NanoCpus(4_000_000_000),
                memory: types::Bytes(8 << 30),
                ..types::Resources::default()
            },
            ..NodeDescription::default()
        };
        let data_address = format!("127.0.1.{}", node.as_u128() % 250 + 1);
        let hello = Hello { node_description: proto::encode(&description), data_address };
        up.send(message(Up::Hello(hello))).await.unwrap();
        let mut client = DispatcherClient::new(channel);
        let mut down = client.session(ReceiverStream::new(messages)).await?.into_inner();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (noted, answers) = (seen.clone(), up.clone());
        let reader = tokio::spawn(async move {
            loop {
                match down.message().await {
                    Ok(Some(ManagerMessage { message: Some(Down::UsageRequest(id)) })) => {
                        let usage = usage(node, &noted.lock().unwrap());
                        if let Some(usage) = usage {
                            let report = UsageReport { id, node_usage: proto::encode(&usage) };
                            // whoever asked may be gone
                            let _ = client.publish_usage(report).await;
                        }
                    }
                    Ok(Some(message)) => take(&noted, &answers, message.message.unwrap()).await,
                    Ok(None) => {
                        noted.lock().unwrap().ended.get_or_insert("end of stream".to_owned());
                        return;
                    }
                    Err(status) => {
                        noted.lock().unwrap().ended = Some(status.message().to_owned());
                        return;
                    }
                }
            }
        });
        let beats = up.clone();
        let heart = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(250)).await;
                if beats.send(message(Up::Heartbeat(Heartbeat {}))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { node, seen, up, reader, heart })
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// From now on it does not say what its tasks use.
    pub fn mute(&self) {
        self.seen.lock().unwrap().is_mute = true;
    }

    /// The stream stays open and says nothing more: a stalled daemon.
    pub fn fall_silent(&self) {
        self.heart.abort();
    }

    pub async fn resync(&self) {
        self.up.send(message(Up::Resync(Resync {}))).await.unwrap();
    }

    pub async fn probe(&self, peer: NodeId, answered: bool) {
        let report = ProbeReport { peer, answered: Some(answered), impaired: false, detail: "probe".to_owned() };
        self.up.send(message(Up::ProbeReports(proto::encode(&vec![report])))).await.unwrap();
    }
}

async fn take(seen: &Mutex<Seen>, up: &mpsc::Sender<AgentMessage>, message: Down) {
    let reports = {
        let mut seen = seen.lock().unwrap();
        let reports_due = matches!(message, Down::Assignments(_));
        match message {
            Down::Welcome(welcome) => {
                seen.role = welcome.desired_role;
                seen.managers = proto::decode::<Vec<types::ManagerPeer>>(&welcome.managers).unwrap().len();
            }
            Down::DesiredRole(role) => seen.role = role,
            Down::Managers(bytes) => seen.managers = proto::decode::<Vec<types::ManagerPeer>>(&bytes).unwrap().len(),
            Down::ReportsCommitted(count) => seen.committed = count,
            Down::Goodbye(_) => seen.goodbye = true,
            Down::Assignments(assignments) => {
                match assignments.content.unwrap() {
                    Content::Whole(bytes) => {
                        assert_eq!(assignments.applies_to, 0);
                        seen.set = proto::decode(&bytes).unwrap();
                        seen.whole += 1;
                    }
                    Content::Difference(bytes) => {
                        assert_eq!(assignments.applies_to, seen.number, "a difference was lost");
                        seen.set.apply(proto::decode::<AssignmentDiff>(&bytes).unwrap());
                        seen.differences += 1;
                    }
                }
                seen.number = assignments.results_in;
            }
            Down::LogRequest(_) | Down::LogCancel(_) | Down::Trust(_) | Down::UsageRequest(_) => {}
        }
        if reports_due { statuses(&seen.set) } else { Vec::new() }
    };
    if !reports.is_empty() {
        // the test may be over
        let _ = up.send(self::message(Up::TaskReports(proto::encode(&reports)))).await;
    }
}

/// A second of processor time and so much of the rest for each task.
fn usage(node: NodeId, seen: &Seen) -> Option<NodeUsage> {
    let of = |task: &types::TaskId| TaskUsage {
        task: *task,
        cpu_ns: 1_000_000_000,
        memory_bytes: 3 << 20,
        rss_bytes: 2 << 20,
        memory_limit_bytes: None,
        processes: 1,
        network: Some(Traffic { received_bytes: 10, sent_bytes: 20 }),
        disk: Traffic::default(),
    };
    let tasks = seen.set.tasks.keys().map(of).collect();
    (!seen.is_mute).then(|| NodeUsage { node, at: now(), memory_bytes: 8 << 30, tasks })
}

fn statuses(set: &AssignmentSet) -> Vec<TaskReport> {
    let report = |task: &types::Assignment| TaskReport {
        task: task.id,
        status: TaskStatus {
            state: if task.desired == TaskState::Running { TaskState::Running } else { TaskState::Shutdown },
            since: now(),
            message: "fake".to_owned(),
            error: String::new(),
            container: Some(ContainerStatus { id: "c".repeat(64), ..ContainerStatus::default() }),
            ports: Vec::new(),
        },
    };
    set.tasks.values().filter(|task| task.state <= TaskState::Running).map(report).collect()
}
