//! Keeps one stream to some manager, for as long as the agent lives.
//!
//! A task of its own, owned by the agent: heartbeats go out on their own timer, whatever the agent's
//! loop is busy with. When a session ends another manager is tried, with growing pauses. What is
//! said and heard is passed through channels; nothing is decided here but whom to turn to next.

use std::{net::IpAddr, time::Duration};

use identity::NodeIdentity;
use proto::v1::{AgentMessage, Heartbeat, Hello, ManagerMessage, agent_message, manager_message};
use proto::v1::{LogRequest, dispatcher_client::DispatcherClient};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, transport::Channel};
use types::{ManagerPeer, NodeDescription, NodeRole};

use super::assigned::Content;
use crate::clock::{Backoff, random};

/// Messages to the manager that wait: batches are large, so a few are plenty.
const MAX_WAITING: usize = 64;
/// From the call to the manager's welcome; after that the next manager is tried.
const WELCOME_LIMIT: Duration = Duration::from_secs(8);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A session that lasted this long was a good one: the next pause is short again.
const GOOD_SESSION: Duration = Duration::from_secs(5);
/// Managers that must say in a row that this node was removed, where there are so many: one alone may
/// be cut off from the others and not know a new node yet.
const REMOVED_VOTES: usize = 2;
/// Bounds on what a manager may ask for, so that a wrong number neither floods it nor silences us.
const HEARTBEAT_RANGE: std::ops::RangeInclusive<u64> = 100..=60_000;

/// What the session needs of the agent.
#[derive(Clone)]
pub(super) struct SessionConfig {
    pub identity: NodeIdentity,
    /// What the node says of itself, now.
    pub description: watch::Receiver<NodeDescription>,
    pub data_address: IpAddr,
}

/// What the session tells the agent.
#[derive(Debug)]
pub(super) enum Event {
    /// Welcomed: this is the way to the manager until `Ended`.
    Began(Connection),
    Ended,
    Assignments {
        applies_to: u64,
        results_in: u64,
        content: Box<Content>,
    },
    Managers(Vec<ManagerPeer>),
    DesiredRole(NodeRole),
    /// The roots to trust, as managers name them.
    Trust([u8; 32]),
    LogRequest(LogRequest),
    LogCancel(u64),
    UsageRequest(u64),
    Committed(u64),
    /// The cluster has removed this node; the session does not try again.
    Removed,
}

/// One session's way to its manager.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub messages: mpsc::Sender<AgentMessage>,
    /// For calls beside the stream.
    pub channel: Channel,
    pub manager: ManagerPeer,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the manager refused or broke off: {}", .0.message())]
    Status(#[from] Status),
    #[error("no welcome within {} s", WELCOME_LIMIT.as_secs())]
    NoWelcome,
    #[error("the manager said something that is not understood: {0}")]
    Message(#[from] proto::WireError),
    #[error("the manager is stopping")]
    Goodbye,
    #[error("the manager closed the stream")]
    Closed,
    #[error("this node was removed from the cluster")]
    Removed,
}

/// Runs until `stop`, or until the node was removed.
pub(super) async fn run(
    config: SessionConfig,
    managers: watch::Receiver<Vec<ManagerPeer>>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut last: Option<ManagerPeer> = None;
    let mut said_removed = 0;
    while !stop.is_cancelled() {
        let chosen = choose(&managers.borrow(), last.as_ref(), random());
        if let Some(manager) = chosen {
            let began = Instant::now();
            let end = tokio::select! {
                end = session(&config, &manager, &events) => end,
                () = stop.cancelled() => return,
            };
            if events.send(Event::Ended).await.is_err() {
                return;
            }
            said_removed = if matches!(end, End::Removed) { said_removed + 1 } else { 0 };
            if said_removed >= REMOVED_VOTES.min(managers.borrow().len()).max(1) {
                // The agent may be stopping already; then nobody needs to know.
                let _ = events.send(Event::Removed).await;
                return;
            }
            tracing::info!(manager = %manager.address, reason = %end, "session ended");
            if began.elapsed() >= GOOD_SESSION || matches!(end, End::Goodbye) {
                backoff.reset();
            }
            last = Some(manager);
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause(random())) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A manager by chance, but another one than the last if there is one.
fn choose(managers: &[ManagerPeer], last: Option<&ManagerPeer>, random: u64) -> Option<ManagerPeer> {
    let others: Vec<_> = managers.iter().filter(|m| Some(*m) != last).collect();
    let from = if others.is_empty() { managers.iter().collect() } else { others };
    let count = u64::try_from(from.len()).ok().filter(|n| *n > 0)?;
    from.get(usize::try_from(random % count).ok()?).map(|m| (*m).clone())
}

/// One session, from the call to its end.
async fn session(config: &SessionConfig, manager: &ManagerPeer, events: &mpsc::Sender<Event>) -> End {
    let identity = config.identity.clone();
    let channel = proto::transport::channel(&manager.address, move |address| identity.clone().connect(address));
    let (messages, queue) = mpsc::channel(MAX_WAITING);
    let mut description = config.description.clone();
    let node_description = proto::encode(&*description.borrow_and_update());
    let hello = Hello { node_description, data_address: config.data_address.to_string() };
    let hello = AgentMessage { message: Some(agent_message::Message::Hello(hello)) };
    if messages.send(hello).await.is_err() {
        return End::Closed;
    }
    let mut client = DispatcherClient::new(channel.clone()).max_decoding_message_size(proto::MAX_MESSAGE_BYTES);
    let opening = async {
        let mut stream = client.session(ReceiverStream::new(queue)).await?.into_inner();
        let first = stream.message().await?.and_then(|m| m.message);
        Ok::<_, Status>((stream, first))
    };
    let (stream, welcome) = match timeout(WELCOME_LIMIT, opening).await {
        Ok(Ok((stream, Some(manager_message::Message::Welcome(welcome))))) => (stream, welcome),
        Ok(Ok((_, Some(manager_message::Message::Goodbye(_))))) => return End::Goodbye,
        Ok(Ok(_)) => return End::NoWelcome,
        Ok(Err(status)) => return of_status(status),
        Err(_) => return End::NoWelcome,
    };
    tracing::info!(manager = %manager.address, "session began");
    let connection = Connection { messages: messages.clone(), channel, manager: manager.clone() };
    if events.send(Event::Began(connection)).await.is_err() {
        return End::Closed;
    }
    if let Err(end) = welcomed(&welcome, events).await {
        return end;
    }
    tokio::select! {
        end = listen(stream, events) => end,
        end = beat(welcome.heartbeat_ms, messages.clone()) => end,
        end = describe(description, messages) => end,
    }
}

async fn welcomed(welcome: &proto::v1::Welcome, events: &mpsc::Sender<Event>) -> Result<(), End> {
    let managers: Vec<ManagerPeer> = proto::decode(&welcome.managers)?;
    if !managers.is_empty() {
        events.send(Event::Managers(managers)).await.map_err(|_| End::Closed)?;
    }
    if let Some(role) = parse_role(&welcome.desired_role) {
        events.send(Event::DesiredRole(role)).await.map_err(|_| End::Closed)?;
    }
    Ok(())
}

/// Sends heartbeats until the session is gone.
async fn beat(period_ms: u64, messages: mpsc::Sender<AgentMessage>) -> End {
    let period_ms = period_ms.clamp(*HEARTBEAT_RANGE.start(), *HEARTBEAT_RANGE.end());
    let mut timer = interval(Duration::from_millis(period_ms));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let beat = AgentMessage { message: Some(agent_message::Message::Heartbeat(Heartbeat {})) };
        // With a full queue other messages are on their way, and they count as heartbeats too.
        if let Err(mpsc::error::TrySendError::Closed(_)) = messages.try_send(beat) {
            return End::Closed;
        }
    }
}

/// Tells what the node says of itself when that changes.
async fn describe(mut description: watch::Receiver<NodeDescription>, messages: mpsc::Sender<AgentMessage>) -> End {
    while description.changed().await.is_ok() {
        let bytes = proto::encode(&*description.borrow_and_update());
        let message = AgentMessage { message: Some(agent_message::Message::NodeDescription(bytes)) };
        if messages.send(message).await.is_err() {
            return End::Closed;
        }
    }
    // Nobody looks at the host any more: the agent is stopping, and ends this session.
    std::future::pending().await
}

/// Passes on what the manager says.
async fn listen(mut stream: Streaming<ManagerMessage>, events: &mpsc::Sender<Event>) -> End {
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return End::Closed,
            Err(status) => return of_status(status),
        };
        let event = match understand(message) {
            Ok(Some(event)) => event,
            Ok(None) => continue,
            Err(end) => return end,
        };
        if events.send(event).await.is_err() {
            return End::Closed;
        }
    }
}

/// A message as an event; `None` for one of a kind that only a newer version knows.
fn understand(message: ManagerMessage) -> Result<Option<Event>, End> {
    use manager_message::Message;
    use proto::v1::assignments::Content as Sent;
    Ok(match message.message {
        Some(Message::Assignments(a)) => {
            let content = match a.content {
                Some(Sent::Whole(bytes)) => Content::Whole(proto::decode(&bytes)?),
                Some(Sent::Difference(bytes)) => Content::Difference(proto::decode(&bytes)?),
                None => return Ok(None),
            };
            let content = Box::new(content);
            Some(Event::Assignments { applies_to: a.applies_to, results_in: a.results_in, content })
        }
        Some(Message::Managers(bytes)) => Some(Event::Managers(proto::decode(&bytes)?)),
        Some(Message::DesiredRole(role)) => parse_role(&role).map(Event::DesiredRole),
        // one of another length is of a version to come
        Some(Message::Trust(digest)) => digest.try_into().ok().map(Event::Trust),
        Some(Message::LogRequest(request)) => Some(Event::LogRequest(request)),
        Some(Message::LogCancel(id)) => Some(Event::LogCancel(id)),
        Some(Message::UsageRequest(id)) => Some(Event::UsageRequest(id)),
        Some(Message::ReportsCommitted(count)) => Some(Event::Committed(count)),
        Some(Message::Goodbye(_)) => return Err(End::Goodbye),
        Some(Message::Welcome(_)) | None => None,
    })
}

pub(super) fn parse_role(text: &str) -> Option<NodeRole> {
    [NodeRole::Worker, NodeRole::Manager].into_iter().find(|role| role.to_string() == text)
}

/// Whether a manager says that this node is no longer part of the cluster. Only these words count: a
/// manager that lags behind may not know a new node yet, and that must not make it leave.
pub(super) fn says_removed(status: &Status) -> bool {
    status.code() == Code::PermissionDenied && status.message().contains("removed")
}

fn of_status(status: Status) -> End {
    if says_removed(&status) { End::Removed } else { End::Status(status) }
}

#[cfg(test)]
mod tests {
    use types::NodeId;

    use super::*;

    #[test]
    fn the_next_manager_is_another_one_if_there_is_one() {
        let peer = |n: u128| ManagerPeer { node: NodeId::from_random(n), address: format!("m{n}:2377") };
        let (a, b) = (peer(1), peer(2));
        assert_eq!(choose(&[], None, 7), None);
        assert_eq!(choose(std::slice::from_ref(&a), Some(&a), 7), Some(a.clone()));
        for random in 0..4 {
            assert_eq!(choose(&[a.clone(), b.clone()], Some(&a), random), Some(b.clone()));
        }
    }

    #[test]
    fn only_clear_words_make_a_node_leave() {
        assert!(says_removed(&Status::permission_denied("node was removed from the cluster")));
        assert!(!says_removed(&Status::permission_denied("a worker may not do this")));
        assert!(!says_removed(&Status::not_found("no such node")));
    }
}
