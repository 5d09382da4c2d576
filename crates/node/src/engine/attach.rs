//! Clients at the standard streams of containers: of one that runs, and of one that is not made yet, so that a client
//! who comes before the start misses no byte.
//!
//! The API asks [`Engine::attach`]; the way that starts single containers calls [`Attachments::connect`] after the
//! runtime has made the container and before it starts.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use runtime::{AttachConfig, LogQuery, Runtime};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::oneshot,
    time::timeout,
};

use super::{
    Engine,
    containers::{ContainerRef, WaitCondition},
    detach_keys::DetachKeys,
    refusal::{Refusal, RefusalKind},
    streams::{Session, SessionEnd, Streams, say},
};

/// Clients that wait for a start; more than this are forgotten ones.
const WAITING_MAX: usize = 1024;

/// From the end of a container's outputs until its end is known. One that has closed them and goes on, or one that did not
/// start after all, is not waited for longer.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// What a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// What was written before.
    pub logs: bool,
    /// What is written from now on.
    pub stream: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// The container's standard input ends with this client's.
    pub stdin_once: bool,
}

/// A client's place at a container; made before the answer, used after it.
pub struct Attachment {
    engine: Engine,
    container: ContainerRef,
    options: AttachOptions,
    keys: DetachKeys,
    place: Place,
    /// No frames: bytes of both outputs as they come.
    is_raw: bool,
}

enum Place {
    /// Only what was written before is wanted.
    LogOnly,
    Ready(runtime::Attached),
    /// The container is yet to be made.
    Waiting(oneshot::Receiver<runtime::Attached>),
}

struct Waiting {
    config: AttachConfig,
    sender: oneshot::Sender<runtime::Attached>,
}

/// Those who wait for the start of a container, by its id.
pub(super) struct Attachments {
    runtime: Runtime,
    waiting: Mutex<HashMap<String, Vec<Waiting>>>,
}

impl Attachments {
    pub(super) fn new(runtime: Runtime) -> Self {
        Self { runtime, waiting: Mutex::default() }
    }

    /// Joins all who wait for this container to its streams. To be called when it is made and not started.
    pub(super) async fn connect(&self, id: &str) {
        let clients = self.waiting().remove(id).unwrap_or_default();
        for client in clients {
            match self.runtime.attach(id, &client.config).await {
                // A client that has left has no use for it.
                Ok(attached) => drop(client.sender.send(attached)),
                Err(error) => tracing::warn!(container.id = id, %error, "a waiting client could not be attached"),
            }
        }
    }

    /// The container will not start: those who wait for it hear the end.
    pub(super) fn forget(&self, id: &str) {
        self.waiting().remove(id);
    }

    fn wait_for(&self, id: &str, config: AttachConfig) -> Result<oneshot::Receiver<runtime::Attached>, Refusal> {
        let mut waiting = self.waiting();
        waiting.retain(|_, clients| {
            clients.retain(|client| !client.sender.is_closed());
            !clients.is_empty()
        });
        if waiting.values().map(Vec::len).sum::<usize>() >= WAITING_MAX {
            let text = format!("{WAITING_MAX} clients wait for containers to start; end some of them");
            return Err(Refusal::new(RefusalKind::Conflict, text));
        }
        let (sender, receiver) = oneshot::channel();
        waiting.entry(id.to_owned()).or_default().push(Waiting { config, sender });
        Ok(receiver)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiting>>> {
        // Each change is one insertion or removal: a panic leaves nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// A place at a container's streams.
    ///
    /// # Errors
    /// If the keys are none, the container is paused, or it cannot be attached to.
    pub async fn attach(
        &self,
        container: ContainerRef,
        options: AttachOptions,
        keys: &str,
    ) -> Result<Attachment, Refusal> {
        let keys = DetachKeys::parse(keys).map_err(|why| Refusal::new(RefusalKind::Invalid, why))?;
        if container.is_paused {
            let text = format!("container {} is paused, unpause the container before attach", container.id);
            return Err(Refusal::new(RefusalKind::Conflict, text));
        }
        let place = if options.stream { self.place(&container.id, options).await? } else { Place::LogOnly };
        let is_raw = container.tty;
        self.tell(&container.id, "attach", &[]);
        Ok(Attachment { engine: self.clone(), container, options, keys, place, is_raw })
    }

    async fn place(&self, id: &str, options: AttachOptions) -> Result<Place, Refusal> {
        let AttachOptions { stdin, stdout, stderr, logs, .. } = options;
        let config = AttachConfig { stdin, stdout, stderr, replay: logs };
        let is_made = || async {
            match self.inner.runtime.state(id).await {
                Ok(state) if !matches!(state.status, runtime::Status::Stopped(_)) => Ok(Some(true)),
                Ok(_) => Ok(Some(false)),
                Err(runtime::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(Refusal::of_runtime(&error)),
            }
        };
        match is_made().await? {
            Some(true) => {
                let attached = self.inner.runtime.attach(id, &config).await;
                return attached.map(Place::Ready).map_err(|error| Refusal::of_runtime(&error));
            }
            Some(false) if logs => return Ok(Place::LogOnly),
            Some(false) | None => {}
        }
        let receiver = self.inner.attachments.wait_for(id, config)?;
        // It may have been made, and its clients connected, just before this one stood in line.
        if is_made().await? == Some(true) {
            self.inner.attachments.connect(id).await;
        }
        Ok(Place::Waiting(receiver))
    }
}

impl Attachment {
    pub fn tty(&self) -> bool {
        self.container.tty
    }

    /// Without frames, whatever the container has.
    pub fn raw(self) -> Self {
        Self { is_raw: true, ..self }
    }

    /// Speaks with the client until the container ends or the client leaves.
    pub async fn run(self, from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
        let Self { engine, container, options, keys, place, is_raw } = self;
        let attached = match place {
            Place::LogOnly => None,
            Place::Ready(attached) => Some(attached),
            // The sender is dropped when the container will not start.
            Place::Waiting(receiver) => match receiver.await {
                Ok(attached) => Some(attached),
                Err(_) => return,
            },
        };
        let until_ns = attached.as_ref().map_or(0, |attached| attached.at_ns);
        if options.logs && replay(&engine, &container.id, options, until_ns, is_raw, to).await.is_err() {
            return; // the client has left
        }
        let Some(runtime::Attached { stdin, stdout, stderr, .. }) = attached else { return };
        let streams = match Streams::new(stdin, stdout, stderr) {
            Ok(streams) => streams,
            Err(error) => {
                tracing::warn!(container.id = container.id, %error, "a client's streams could not be used");
                return;
            }
        };
        let session = Session { streams, is_raw, keys: container.tty.then_some(keys), ended: None };
        let closes = options.stdin && options.stdin_once && !container.tty;
        let stdin_closed = async || {
            if closes && let Err(error) = engine.inner.runtime.close_stdin(&container.id).await {
                tracing::debug!(container.id = container.id, %error, "its standard input could not be closed");
            }
        };
        let is_input_alone = !options.stdout && !options.stderr;
        let recorded = engine.wait_container(&container.id, WaitCondition::NextExit).await;
        let end = tokio::select! {
            (end, _) = session.run(from, to, stdin_closed) => end,
            // What tells others, the end of the outputs, tells this client nothing.
            _ = engine.inner.runtime.wait(&container.id), if is_input_alone => SessionEnd::Ended,
        };
        if let (SessionEnd::Ended, Ok(recorded)) = (end, recorded) {
            // The client asks for the exit code when its stream has ended.
            timeout(RECORDED_WITHIN, recorded).await.ok();
        }
        to.flush().await.ok();
    }
}

/// What was written up to a time, as the log has it.
async fn replay(
    engine: &Engine,
    container: &str,
    options: AttachOptions,
    until_ns: u64,
    is_raw: bool,
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let AttachOptions { stdout, stderr, .. } = options;
    let query = LogQuery { until_ns, stdout, stderr, ..LogQuery::default() };
    let mut entries = match engine.inner.runtime.logs(container, &query) {
        Ok(entries) => entries,
        Err(error) => {
            let text = format!("what was written before cannot be shown: {error}\r\n");
            return say(to, is_raw, true, text.as_bytes()).await;
        }
    };
    while let Some(entry) = entries.next().await {
        match entry {
            Ok(entry) => say(to, is_raw, entry.stream == runtime::Stream::Stderr, &entry.bytes).await?,
            Err(error) => say(to, is_raw, true, format!("{error}\r\n").as_bytes()).await?,
        }
    }
    Ok(())
}
