//! The node crate's end of the conversation with the data plane process.
//!
//! Each request has a connection of its own: opening one on a unix socket costs microseconds, and so
//! a process that was replaced meanwhile needs no care.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{io::AsyncReadExt, net::UnixStream, sync::Mutex};

use crate::{
    NetworkPlan, Observed,
    netd::{
        NetdError,
        protocol::{Applied, Hello, ProbeUpdate, Request, Response, Status},
        read_frame, take_frame, write_frame,
    },
};

/// Longer than nft's own limit plus the work for thousands of endpoints.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long an application of a plan waits for a process that is just being replaced.
const RECONNECT_LIMIT: Duration = Duration::from_secs(5);
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// A handle on the data plane process of this host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    told: Arc<Mutex<Option<Told>>>,
}

/// What the process made of the last plan it was given by this client or its clones.
#[derive(Debug)]
struct Told {
    number: u64,
    plan: NetworkPlan,
}

impl Client {
    /// Nothing is connected yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), told: Arc::default() }
    }

    /// Who answers.
    ///
    /// # Errors
    /// [`NetdError::Connect`] when nobody does.
    pub async fn hello(&self) -> Result<Hello, NetdError> {
        Ok(self.connect().await?.1)
    }

    /// Waits until the process that answers now is gone. Returns at once when nobody answers.
    pub async fn gone(&self) {
        let Ok((mut stream, _)) = self.connect().await else { return };
        // It says nothing unasked: whatever ends this read, the conversation is over.
        let _ = stream.read_u8().await;
    }

    /// Makes the host match the plan, of which only what is new is sent. Tries again while the process is being replaced: applying a plan
    /// twice is the same as once.
    ///
    /// # Errors
    /// [`NetdError::Refused`] when the plan makes no sense; nothing was changed then. Failures of
    /// single endpoints are in the answer.
    pub async fn apply(&self, plan: &NetworkPlan) -> Result<Applied, NetdError> {
        let mut told = self.told.lock().await;
        // Taken out: whatever goes wrong, the next request is a whole again.
        if let Some(Told { number: applies_to, plan: mut before }) = told.take() {
            let change = plan.change_from(&before);
            let request = Request::Change { applies_to, change: Box::new(change.clone()) };
            match self.patiently(|| self.ask("Change", &request)).await? {
                Response::Applied { plan: number, applied } => {
                    before.change(change).expect("it was made from this very plan");
                    *told = Some(Told { number, plan: before });
                    return Ok(applied);
                }
                Response::OtherPlan => {}
                other => return Err(unexpected("Change", other)),
            }
        }
        let request = Request::Apply(Box::new(plan.clone()));
        match self.patiently(|| self.ask("Apply", &request)).await? {
            Response::Applied { plan: number, applied } => {
                *told = Some(Told { number, plan: plan.clone() });
                Ok(applied)
            }
            other => Err(unexpected("Apply", other)),
        }
    }

    /// What the kernel has, now.
    ///
    /// # Errors
    /// [`NetdError::Refused`] when the kernel could not be asked.
    pub async fn observe(&self) -> Result<Observed, NetdError> {
        match self.patiently(|| self.ask("Observe", &Request::Observe)).await? {
            Response::Observed(observed) => Ok(*observed),
            other => Err(unexpected("Observe", other)),
        }
    }

    /// The plan the process holds: the last one it was given, also by a daemon of before.
    ///
    /// # Errors
    /// [`NetdError::Connect`] when nobody answers.
    pub async fn plan(&self) -> Result<Option<NetworkPlan>, NetdError> {
        match self.patiently(|| self.ask("Plan", &Request::Plan)).await? {
            Response::Plan(plan) => Ok(plan.map(|plan| *plan)),
            other => Err(unexpected("Plan", other)),
        }
    }

    /// The same without waiting for a process that is away.
    ///
    /// # Errors
    /// [`NetdError::Connect`] when nobody answers.
    pub async fn held_plan(&self) -> Result<Option<NetworkPlan>, NetdError> {
        match self.ask("Plan", &Request::Plan).await? {
            Response::Plan(plan) => Ok(plan.map(|plan| *plan)),
            other => Err(unexpected("Plan", other)),
        }
    }

    /// The process and its probes, now. Does not wait for a process that is away.
    ///
    /// # Errors
    /// [`NetdError::Connect`] when nobody answers.
    pub async fn status(&self) -> Result<Status, NetdError> {
        match self.ask("Status", &Request::Status).await? {
            Response::Status(status) => Ok(*status),
            other => Err(unexpected("Status", other)),
        }
    }

    /// Ends the process. The network stays as it is; apply an empty plan first to remove it.
    ///
    /// # Errors
    /// [`NetdError::Connect`] when none runs.
    pub async fn shutdown(&self) -> Result<(), NetdError> {
        match self.ask("Shutdown", &Request::Shutdown).await? {
            Response::ShuttingDown => Ok(()),
            other => Err(unexpected("Shutdown", other)),
        }
    }

    /// What the probes find: the whole first, then differences.
    pub fn subscribe_probes(&self) -> ProbeStream {
        ProbeStream { client: self.clone(), stream: None, buffer: Vec::new() }
    }

    async fn connect(&self) -> Result<(UnixStream, Hello), NetdError> {
        let connected = UnixStream::connect(&self.socket).await;
        let mut stream = connected.map_err(|source| NetdError::Connect { socket: self.socket.clone(), source })?;
        let hello = read_frame(&mut stream).await?;
        Ok((stream, hello))
    }

    async fn ask(&self, name: &'static str, request: &Request) -> Result<Response, NetdError> {
        let conversation = async {
            let (mut stream, _) = self.connect().await?;
            write_frame(&mut stream, request).await?;
            read_frame(&mut stream).await
        };
        let seconds = ANSWER_LIMIT.as_secs();
        tokio::time::timeout(ANSWER_LIMIT, conversation)
            .await
            .map_err(|_| NetdError::NoAnswer { request: name, seconds })?
    }

    async fn patiently<F>(&self, ask: impl Fn() -> F) -> Result<Response, NetdError>
    where
        F: Future<Output = Result<Response, NetdError>>,
    {
        let deadline = tokio::time::Instant::now() + RECONNECT_LIMIT;
        loop {
            match ask().await {
                Err(NetdError::Connect { .. } | NetdError::Conversation(_))
                    if tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
                other => return other,
            }
        }
    }
}

fn unexpected(request: &'static str, response: Response) -> NetdError {
    match response {
        Response::Refused(why) => NetdError::Refused(why),
        _ => NetdError::WrongAnswer { request },
    }
}

/// Updates of the probes. It connects by itself, again and again; after each connection the first
/// update is the whole, so nothing is missed.
#[derive(Debug)]
pub struct ProbeStream {
    client: Client,
    stream: Option<UnixStream>,
    /// Read, but not yet a whole message.
    buffer: Vec<u8>,
}

impl ProbeStream {
    /// Waits for the next update. Safe to cancel: what was read so far is kept.
    pub async fn next(&mut self) -> ProbeUpdate {
        loop {
            match self.try_next().await {
                Ok(update) => return update,
                Err(error) => {
                    tracing::debug!(%error, "the stream of probes broke off; connecting again");
                    (self.stream, self.buffer) = (None, Vec::new());
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<ProbeUpdate, NetdError> {
        if self.stream.is_none() {
            let (mut stream, _) = self.client.connect().await?;
            write_frame(&mut stream, &Request::SubscribeProbes).await?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().expect("it was connected just now");
        loop {
            if let Some(response) = take_frame(&mut self.buffer)? {
                return match response {
                    Response::Probes(update) => Ok(update),
                    other => Err(unexpected("SubscribeProbes", other)),
                };
            }
            let read = stream.read_buf(&mut self.buffer).await.map_err(NetdError::Conversation)?;
            if read == 0 {
                return Err(NetdError::Conversation(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
