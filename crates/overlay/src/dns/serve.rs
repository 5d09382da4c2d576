//! Answers the questions of one endpoint on its two sockets, until its task is stopped.
//!
//! Started by `endpoint`. The sockets belong to the endpoint's namespace; what is passed on leaves from
//! the host's. Nothing in here waits for one question before it takes the next.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    answer::{Answer, answer},
    forward::{forward, random, read_message, write_message},
    message::{Received, Request, Transport, read},
    metrics::{Metrics, count},
    resolv_conf::MAX_SERVERS,
    zone::{Elsewhere, View},
};

/// Questions of all endpoints that are on their way to nameservers (N-17): each holds a socket.
const MAX_FORWARDS: usize = 1024;
/// Of one endpoint: a quarter of all, so that one that asks without end does not silence the others.
const MAX_FORWARDS_EACH: usize = 256;
/// Connections of one endpoint: resolvers use one at a time, and each ends when idle.
const MAX_CONNECTIONS: usize = 64;
/// RFC 7766 lets a server close an idle connection after seconds; forwarding has its own limits.
const IDLE: Duration = Duration::from_secs(10);
/// Questions are small: a header, a name, options. What is longer is cut, and refused as unreadable.
const LONGEST_QUESTION: usize = 4096;
/// Sockets that report errors without end (memory, files) must not keep the processor busy.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// What the endpoints share.
pub struct Shared {
    pub metrics: Arc<Metrics>,
    pub host_servers: watch::Receiver<Arc<[SocketAddr]>>,
    forwards: Semaphore,
}

impl Shared {
    pub fn new(metrics: Arc<Metrics>, host_servers: watch::Receiver<Arc<[SocketAddr]>>) -> Self {
        Self { metrics, host_servers, forwards: Semaphore::new(MAX_FORWARDS) }
    }
}

/// What the tasks of one endpoint share.
struct Responder {
    view: watch::Receiver<Arc<View>>,
    shared: Arc<Shared>,
    forwards: Semaphore,
}

/// Serves for ever.
pub async fn serve(udp: UdpSocket, tcp: TcpListener, view: watch::Receiver<Arc<View>>, shared: Arc<Shared>) {
    let responder = Arc::new(Responder { view, shared, forwards: Semaphore::new(MAX_FORWARDS_EACH) });
    tokio::join!(serve_udp(udp, Arc::clone(&responder)), serve_tcp(tcp, responder));
}

async fn serve_udp(socket: UdpSocket, responder: Arc<Responder>) {
    let socket = Arc::new(socket);
    // Not more than there are permits: without one a question is answered at once.
    let mut on_their_way = JoinSet::new();
    let mut buffer = vec![0; LONGEST_QUESTION];
    loop {
        let (length, from) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(_) => {
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            },
            Some(_) = on_their_way.join_next() => continue,
        };
        match responder.begin(&buffer[..length], Transport::Udp) {
            Begun::Done(reply) => send(&socket, &reply, from),
            Begun::Forward(request, servers) => {
                let (socket, responder, bytes) =
                    (Arc::clone(&socket), Arc::clone(&responder), buffer[..length].to_vec());
                if on_their_way.len() >= MAX_FORWARDS_EACH {
                    send(&socket, &responder.busy(&request, Transport::Udp), from);
                    continue;
                }
                on_their_way.spawn(async move {
                    let reply = responder.pass_on(&bytes, &request, Transport::Udp, &servers).await;
                    send(&socket, &reply, from);
                });
            }
            Begun::Nothing => {}
        }
    }
}

/// A full send buffer loses the answer, as a network may; the asker asks again.
fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if !reply.is_empty() {
        let _ = socket.try_send_to(reply, to);
    }
}

async fn serve_tcp(listener: TcpListener, responder: Arc<Responder>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, Arc::clone(&responder)))),
                Err(_) => tokio::time::sleep(PAUSE_AFTER_ERROR).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One question after the other, until the asker hangs up, is silent or does not read.
async fn converse(mut stream: TcpStream, responder: Arc<Responder>) {
    while let Ok(Ok(bytes)) = timeout(IDLE, read_message(&mut stream)).await {
        let reply = match responder.begin(&bytes, Transport::Tcp) {
            Begun::Done(reply) => reply,
            Begun::Forward(request, servers) => responder.pass_on(&bytes, &request, Transport::Tcp, &servers).await,
            Begun::Nothing => return,
        };
        if !matches!(timeout(IDLE, write_message(&mut stream, &reply)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// How far a question can be answered without asking anybody.
enum Begun {
    Done(Vec<u8>),
    Forward(Box<Request>, Arc<[SocketAddr]>),
    Nothing,
}

impl Responder {
    fn begin(&self, bytes: &[u8], transport: Transport) -> Begun {
        let metrics = &self.shared.metrics;
        let request = match read(bytes) {
            Received::Request(request) => request,
            Received::Refused(reply) => {
                count(&metrics.malformed);
                return Begun::Done(reply);
            }
            Received::Nothing => {
                count(&metrics.malformed);
                return Begun::Nothing;
            }
        };
        let view = Arc::clone(&self.view.borrow());
        let reply = match answer(&request.question, &view, u64::from_be_bytes(random())) {
            Answer::Known { answers, additionals } => {
                request.reply_with(ResponseCode::NoError, answers, additionals, transport)
            }
            Answer::Unknown => request.reply(ResponseCode::NXDomain, transport),
            Answer::Elsewhere => match &view.elsewhere {
                Elsewhere::Host => return Begun::Forward(request, Arc::clone(&self.shared.host_servers.borrow())),
                Elsewhere::Servers(servers) => return Begun::Forward(request, Arc::clone(servers)),
                // For this endpoint the world is its networks. Not SERVFAIL: resolvers would ask again and again.
                Elsewhere::Nobody => request.reply(ResponseCode::NXDomain, transport),
            },
        };
        count(&metrics.answered);
        Begun::Done(reply)
    }

    async fn pass_on(&self, bytes: &[u8], request: &Request, transport: Transport, servers: &[SocketAddr]) -> Vec<u8> {
        let metrics = &self.shared.metrics;
        let (Ok(_own), Ok(_all)) = (self.forwards.try_acquire(), self.shared.forwards.try_acquire()) else {
            return self.busy(request, transport);
        };
        count(&metrics.forwarded);
        let servers = &servers[..servers.len().min(MAX_SERVERS)];
        match forward(bytes, request, transport, servers, metrics).await {
            Some(answer) if answer.len() <= request.limit(transport) => answer,
            Some(_) => request.truncated(),
            None => self.fail(&metrics.unanswered, request, transport),
        }
    }

    fn busy(&self, request: &Request, transport: Transport) -> Vec<u8> {
        self.fail(&self.shared.metrics.refused_busy, request, transport)
    }

    fn fail(&self, counter: &AtomicU64, request: &Request, transport: Transport) -> Vec<u8> {
        count(counter);
        request.reply(ResponseCode::ServFail, transport)
    }
}
