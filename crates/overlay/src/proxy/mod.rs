//! The process that does for published ports what the kernel cannot: `rswarm port-proxy`, one for all of them. It writes PROXY
//! protocol headers for those that ask for them, and leads from IPv6 to those that are there in IPv4 only, and from ::1 to those
//! that are there in IPv6 only ([`onward`]).
//!
//! The rules of such a port lead to it what comes from clients ([`crate::mesh`]); it dials the same address again with
//! a mark, by which the same rules lead on to a backend. So it has no configuration, chooses nothing, and needs no
//! word when backends come and go. `netd` starts it and gives up nothing of its own to it: however busy it is, probes
//! and rules are not. It outlives netd; one of another version takes the port over, and the old one ends with its last
//! connection.

mod error;
mod header;
mod keeper;
mod onward;
mod relay;
mod standing;

use std::{fs, future::poll_fn, io, net::SocketAddr, path::Path, task::Poll, time::Duration};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    socket::{setsockopt, sockopt},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

pub use error::ProxyError;
pub use keeper::Keeper;
use onward::{Onward, Relay};
use standing::Standing;
pub use standing::standing;

/// Taken if nobody has it; else the kernel chooses. An operator's firewall must let it in where it is closed by default.
pub const USUAL_PORT: u16 = 7273;
/// Connections at once; the next ones wait in the kernel's queue. Each takes up to 32 KiB here.
const MOST_CONNECTIONS: usize = 16_384;
/// Files beside the two sockets of each connection.
const OTHER_FILES: usize = 64;
const QUEUE: u32 = 4096;
/// After a failure to accept, which is most often a lack of files or memory.
const PAUSE: Duration = Duration::from_millis(100);
const WORKERS: usize = 2;

/// The body of the process. Returns after SIGTERM, when the last connection has ended.
///
/// # Errors
/// When it cannot listen, or cannot say in `state_dir` where.
pub fn run(state_dir: &Path, version: &str) -> Result<(), ProxyError> {
    // As in `netd::run`; netd's own privileges are not for this process.
    let _ = nix::unistd::setsid();
    let _ = rustix::process::setpriority_process(None, 0);
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    runtime.map_err(ProxyError::Runtime)?.block_on(serve(state_dir, version))
}

async fn serve(state_dir: &Path, version: &str) -> Result<(), ProxyError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ProxyError::Runtime)?;
    let most = raise_limit();
    let before = standing::read(state_dir).map(|standing| standing.ports());
    let listeners = Listeners::open(before.map(|ports| ports.headers))?;
    let relays = [
        (Onward::OverIpv4, before.and_then(|ports| ports.over_ipv4)),
        (Onward::PastLoopback, before.and_then(|ports| ports.past_loopback)),
    ];
    let relays: Vec<Relay> = relays.into_iter().filter_map(|(onward, before)| Relay::open(onward, before)).collect();
    let port_of = |onward| relays.iter().find(|relay| relay.onward == onward).map(|relay| relay.port);
    let (over_ipv4, past_loopback) = (port_of(Onward::OverIpv4), port_of(Onward::PastLoopback));
    let (port, pid) = (listeners.port, std::process::id());
    // The one from before still takes connections until the lock is asked for.
    let standing = Standing { pid, version: version.to_owned(), port, over_ipv4, past_loopback };
    let lock = standing::take(state_dir, &standing).await?;
    tracing::info!(
        port,
        over_ipv4,
        past_loopback,
        version,
        "connections get their PROXY protocol header here, and those of IPv6 their way on"
    );
    let mut connections = JoinSet::new();
    let mut datagrams = JoinSet::new();
    for relay in &relays {
        datagrams.spawn(relay.datagrams());
    }
    loop {
        tokio::select! {
            accepted = listeners.accept(), if connections.len() < most => match accepted {
                Ok((client, _)) => drop(connections.spawn(connection(client, Onward::WithHeader))),
                Err(error) => not_accepted(&error).await,
            },
            accepted = accepted_at(&relays), if connections.len() < most => match accepted {
                Ok((client, onward)) => drop(connections.spawn(connection(client, onward))),
                Err(error) => not_accepted(&error).await,
            },
            Some(_) = connections.join_next() => {}
            _ = terminate.recv() => break,
        }
    }
    for client in listeners.waiting() {
        connections.spawn(connection(client, Onward::WithHeader));
    }
    for relay in &relays {
        for client in waiting_at(&relay.streams) {
            connections.spawn(connection(client, relay.onward));
        }
    }
    datagrams.shutdown().await;
    drop((listeners, relays));
    drop(lock);
    tracing::info!(connections = connections.len(), "no new connections here; ending with the last one");
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn not_accepted(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(PAUSE).await;
}

async fn accepted_at(relays: &[Relay]) -> io::Result<(TcpStream, Onward)> {
    let accepted = poll_fn(|context| {
        let ready = relays.iter().find_map(|relay| match relay.streams.poll_accept(context) {
            Poll::Ready(accepted) => Some(accepted.map(|(client, _)| (client, relay.onward))),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    });
    accepted.await
}

async fn connection(client: TcpStream, onward: Onward) {
    if let Err(error) = relay::serve(client, onward).await {
        tracing::debug!(%error, "a connection ended with a reset");
    }
}

/// How many connections there is room for, after asking for as many files as the host allows.
fn raise_limit() -> usize {
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return MOST_CONNECTIONS / 16 };
    let files = if setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok() { most } else { now };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    (files.saturating_sub(OTHER_FILES) / 2).clamp(1, MOST_CONNECTIONS)
}

/// The same port in both families; a host without IPv6 has one.
struct Listeners {
    port: u16,
    four: TcpListener,
    six: Option<TcpListener>,
}

impl Listeners {
    fn open(before: Option<u16>) -> Result<Self, ProxyError> {
        let mut failed = io::Error::from(io::ErrorKind::AddrInUse);
        for port in before.into_iter().chain([USUAL_PORT, 0, 0, 0]) {
            match Self::at(port) {
                Ok(listeners) => return Ok(listeners),
                Err(error) => failed = error,
            }
        }
        Err(ProxyError::Listen(failed))
    }

    fn at(port: u16) -> io::Result<Self> {
        let four = listen(TcpSocket::new_v4()?, ([0; 4], port).into())?;
        let port = four.local_addr()?.port();
        let six = match TcpSocket::new_v6() {
            Ok(socket) => {
                setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
                match listen(socket, ([0u16; 8], port).into()) {
                    Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => None,
                    listener => Some(listener?),
                }
            }
            Err(_) => None,
        };
        Ok(Self { port, four, six })
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(six) = &self.six else { return self.four.accept().await };
        tokio::select! {
            accepted = self.four.accept() => accepted,
            accepted = six.accept() => accepted,
        }
    }

    /// Whoever is in the queues already: closing these would turn them away.
    fn waiting(&self) -> Vec<TcpStream> {
        [Some(&self.four), self.six.as_ref()].into_iter().flatten().flat_map(waiting_at).collect()
    }
}

fn waiting_at(listener: &TcpListener) -> Vec<TcpStream> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut waiting = Vec::new();
    while let Poll::Ready(Ok((client, _))) = listener.poll_accept(&mut context) {
        waiting.push(client);
    }
    waiting
}

/// Beside one of another version, until that has given up the port.
fn listen(socket: TcpSocket, at: SocketAddr) -> io::Result<TcpListener> {
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(at)?;
    socket.listen(QUEUE)
}
