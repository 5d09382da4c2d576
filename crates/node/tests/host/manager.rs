//! A manager as an agent sees one: a dispatcher over real TLS, told by the test what to send.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use futures::Stream;
use identity::{CertificateAuthority, KeyPair, NodeIdentity, Subject};
use proto::v1::{
    AgentMessage, Assignments, LogBatch, ManagerMessage, PublishLogsAnswer, PublishUsageAnswer, UsageReport, Welcome,
    agent_message, assignments,
    dispatcher_server::{Dispatcher, DispatcherServer},
    manager_message,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use types::{
    AssignmentSet, ClusterId, ManagerPeer, NodeId, NodeRole, NodeUsage, TaskId, TaskReport, TaskStatus, Timestamp,
};

/// The statuses of each task in the order they came.
pub type Heard = BTreeMap<TaskId, Vec<TaskStatus>>;

pub struct FakeManager {
    state: Arc<State>,
    pub peer: ManagerPeer,
    pub node: NodeIdentity,
    server: JoinHandle<()>,
}

struct State {
    heard: watch::Sender<Heard>,
    sessions: watch::Sender<u64>,
    session: Mutex<Option<mpsc::Sender<Result<ManagerMessage, Status>>>>,
    set: Mutex<(u64, AssignmentSet)>,
    logs: watch::Sender<Vec<String>>,
    usage: watch::Sender<Option<NodeUsage>>,
}

impl FakeManager {
    pub async fn start(now: Timestamp) -> Result<Self> {
        let authority = CertificateAuthority::generate(now)?;
        let cluster = ClusterId::from_random(9);
        let issue = |node: u128, role| {
            let key = KeyPair::generate()?;
            let subject = Subject { node: NodeId::from_random(node), role, cluster };
            let chain = authority.sign(key.csr_pem(), &subject, now, Duration::from_secs(86_400))?;
            Ok::<_, anyhow::Error>(NodeIdentity::from_pem(key.pem(), &chain)?)
        };
        let (own, node) = (issue(1, NodeRole::Manager)?, issue(2, NodeRole::Worker)?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let peer = ManagerPeer { node: own.node(), address: listener.local_addr()?.to_string() };
        let state = Arc::new(State {
            heard: watch::Sender::default(),
            sessions: watch::Sender::default(),
            session: Mutex::default(),
            set: Mutex::default(),
            logs: watch::Sender::default(),
            usage: watch::Sender::default(),
        });
        let server = tokio::spawn(serve(listener, own, Service(state.clone())));
        Ok(Self { state, peer, node, server })
    }

    /// Replaces the assignments, as a whole set.
    pub async fn assign(&self, set: AssignmentSet) {
        {
            let mut held = self.state.set.lock().expect("not poisoned");
            held.0 += 1;
            held.1 = set;
        }
        let message = self.state.whole();
        let session = self.state.session.lock().expect("not poisoned").clone();
        if let Some(session) = session {
            let _ = session.send(Ok(message)).await;
        }
    }

    pub async fn ask_logs(&self, task: TaskId) {
        let options = proto::v1::LogOptions { tail: -1, stdout: true, stderr: true, ..Default::default() };
        let request = proto::v1::LogRequest { id: 5, tasks: vec![task.to_string()], options: Some(options) };
        self.ask(manager_message::Message::LogRequest(request)).await;
    }

    async fn ask(&self, what: manager_message::Message) {
        let session = self.state.session.lock().expect("not poisoned").clone();
        if let Some(session) = session {
            let _ = session.send(Ok(ManagerMessage { message: Some(what) })).await;
        }
    }

    /// What the tasks use, as the agent tells when it is asked.
    pub async fn usage(&self) -> Result<NodeUsage> {
        let mut usage = self.state.usage.subscribe();
        usage.mark_unchanged();
        self.ask(manager_message::Message::UsageRequest(7)).await;
        tokio::time::timeout(Duration::from_secs(20), usage.changed()).await.context("no answer came")??;
        let told = usage.borrow().clone();
        told.context("an answer was noted")
    }

    /// Waits until what was reported fits.
    pub async fn wait(&self, what: &str, fits: impl FnMut(&Heard) -> bool) -> Result<Heard> {
        let mut heard = self.state.heard.subscribe();
        let mut fits = fits;
        let found = tokio::time::timeout(Duration::from_secs(40), heard.wait_for(|h| fits(h))).await;
        match found {
            Ok(heard) => Ok(heard?.clone()),
            Err(_) => anyhow::bail!("{what} did not come; heard {:#?}", self.state.heard.borrow()),
        }
    }

    pub async fn wait_logs(&self, fits: impl FnMut(&Vec<String>) -> bool) -> Result<()> {
        let mut logs = self.state.logs.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(20), logs.wait_for(fits)).await;
        found.context("the log lines did not come")??;
        Ok(())
    }

    pub fn sessions(&self) -> u64 {
        *self.state.sessions.borrow()
    }

    pub fn forget(&self) {
        self.state.heard.send_replace(Heard::new());
    }

    pub async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

impl State {
    fn whole(&self) -> ManagerMessage {
        let (number, set) = &*self.set.lock().expect("not poisoned");
        let content = Some(assignments::Content::Whole(proto::encode(set)));
        let message = Assignments { applies_to: 0, results_in: *number, content };
        ManagerMessage { message: Some(manager_message::Message::Assignments(message)) }
    }

    fn take(&self, reports: Vec<TaskReport>) {
        self.heard.send_modify(|heard| {
            for report in reports {
                heard.entry(report.task).or_default().push(report.status);
            }
        });
    }
}

/// TLS outside, the RPC server on the inner end of a pipe.
async fn serve(listener: TcpListener, identity: NodeIdentity, service: Service) {
    let (connections, incoming) = mpsc::channel(8);
    let accept = async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut accepted) = identity.accept(tcp).await else { continue };
            let (inner, mut outer) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut accepted.stream, &mut outer).await;
            });
            if connections.send(Ok::<_, std::io::Error>(inner)).await.is_err() {
                return;
            }
        }
    };
    let serve = tonic::transport::Server::builder()
        .add_service(DispatcherServer::new(service))
        .serve_with_incoming(ReceiverStream::new(incoming));
    let (_, result) = tokio::join!(accept, serve);
    result.expect("the fake manager serves");
}

struct Service(Arc<State>);

#[tonic::async_trait]
impl Dispatcher for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<ManagerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (down, queue) = mpsc::channel(64);
        let peers: Vec<ManagerPeer> = Vec::new();
        let welcome = Welcome { heartbeat_ms: 200, managers: proto::encode(&peers), desired_role: "worker".into() };
        let _ = down.send(Ok(ManagerMessage { message: Some(manager_message::Message::Welcome(welcome)) })).await;
        let _ = down.send(Ok(self.0.whole())).await;
        *self.0.session.lock().expect("not poisoned") = Some(down.clone());
        self.0.sessions.send_modify(|n| *n += 1);
        let (state, mut up) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            let mut count = 0;
            while let Ok(Some(message)) = up.message().await {
                let Some(agent_message::Message::TaskReports(bytes)) = message.message else { continue };
                let reports: Vec<TaskReport> = proto::decode(&bytes).expect("reports");
                count += reports.len() as u64;
                state.take(reports);
                let committed = manager_message::Message::ReportsCommitted(count);
                let _ = down.send(Ok(ManagerMessage { message: Some(committed) })).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }

    async fn publish_logs(&self, request: Request<Streaming<LogBatch>>) -> Result<Response<PublishLogsAnswer>, Status> {
        let mut batches = request.into_inner();
        while let Some(batch) = batches.message().await? {
            let lines = batch.lines.into_iter().map(|l| String::from_utf8_lossy(&l.data).into_owned());
            self.0.logs.send_modify(|all| all.extend(lines));
        }
        Ok(Response::new(PublishLogsAnswer {}))
    }

    async fn publish_usage(&self, request: Request<UsageReport>) -> Result<Response<PublishUsageAnswer>, Status> {
        let usage: NodeUsage = proto::decode(&request.into_inner().node_usage)?;
        self.0.usage.send_replace(Some(usage));
        Ok(Response::new(PublishUsageAnswer {}))
    }
}
