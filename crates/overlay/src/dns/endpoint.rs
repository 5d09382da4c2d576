//! The two sockets of one endpoint, and the rules that lead port 53 of 127.0.0.11 to them.
//!
//! Run by `supervisor`, one task for each endpoint. The sockets are not on port 53 itself: a container
//! that is a DNS server binds 0.0.0.0:53, which the kernel refuses while any address has the port taken.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Semaphore, mpsc, watch},
};

use super::{
    PORT, SERVER_ADDRESS,
    serve::{Shared, serve},
    zone::View,
};
use crate::{
    EndpointId, KernelError,
    kernel::{explain, on_own_thread, run_nft},
};

/// Ports above those that the kernel gives to clients, where hardly any server lives either.
const FIRST_PORT: u16 = 61_000;
const PORTS: u16 = 4_500;
/// Ports tried before giving up for this time.
const TRIES: u16 = 64;
/// After a failure, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Threads that work in namespaces and nft processes at one time: more only make each other slower.
pub const AT_ONCE: usize = 4;

/// Our table in every endpoint's namespace.
const TABLE: &str = "ip rswarm-dns";

/// How an endpoint stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Starting,
    Serving,
    Failed(String),
}

/// What a task of this kind is told and given.
pub struct Endpoint {
    pub id: EndpointId,
    pub namespace: PathBuf,
    pub view: watch::Receiver<Arc<View>>,
    pub shared: Arc<Shared>,
    pub room: Arc<Semaphore>,
    /// Of this very task; the next one for the same endpoint has another.
    pub serial: u64,
    pub reports: mpsc::Sender<(EndpointId, u64, State)>,
}

impl Endpoint {
    /// Serves for ever; what fails is tried again.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let (udp, tcp, port) = loop {
            match self.bind().await {
                Ok(bound) => break bound,
                Err(error) => pause = self.failed("cannot open its sockets", &error, pause).await,
            }
        };
        let serving = serve(udp, tcp, self.view.clone(), Arc::clone(&self.shared));
        // At once: after a restart of this process the rules stand, and questions already come.
        tokio::join!(serving, self.lead_to(port));
    }

    async fn lead_to(&self, port: u16) {
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.load_rules(port).await {
            pause = self.failed("cannot lead port 53 to them", &error, pause).await;
        }
        self.report(State::Serving).await;
    }

    /// Says so, waits, and returns how long to wait the next time.
    async fn failed(&self, failing: &str, error: &KernelError, pause: Duration) -> Duration {
        let error = format!("DNS {failing}: {}", explain(error));
        tracing::debug!(endpoint.id = %self.id, error, "the endpoint has no DNS yet");
        self.report(State::Failed(error)).await;
        tokio::time::sleep(pause).await;
        (2 * pause).min(LONGEST_PAUSE)
    }

    /// The supervisor reads these as long as this task lives.
    async fn report(&self, state: State) {
        let _ = self.reports.send((self.id.clone(), self.serial, state)).await;
    }

    async fn bind(&self) -> Result<(UdpSocket, TcpListener, u16), KernelError> {
        let first = offset(&self.id);
        let (udp, tcp, port) =
            self.inside("dns bind", move || async move { bind_any(first) }).await?.map_err(socket)?;
        udp.set_nonblocking(true).and_then(|()| tcp.set_nonblocking(true)).map_err(socket)?;
        let udp = UdpSocket::from_std(udp).map_err(socket)?;
        Ok((udp, TcpListener::from_std(tcp).map_err(socket)?, port))
    }

    async fn load_rules(&self, port: u16) -> Result<(), KernelError> {
        let work = move || async move { run_nft(&["-f", "-"], &rules(port), "load the rules of the DNS").await };
        self.inside("dns rules", work).await?.map(drop)
    }

    /// Works on a thread that enters the namespace and ends there.
    async fn inside<T, F, Fut>(&self, name: &str, work: F) -> Result<T, KernelError>
    where
        T: Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T>,
    {
        let _room = self.room.acquire().await.expect("the semaphore is never closed");
        let path = self.namespace.clone();
        let entered = on_own_thread(name, move || async move {
            enter(&path).map_err(|source| KernelError::Namespace { doing: "enter", path, source })?;
            Ok(work().await)
        });
        entered.await?
    }
}

fn socket(source: io::Error) -> KernelError {
    KernelError::Netlink { doing: format!("listen on {SERVER_ADDRESS}"), source }
}

fn enter(path: &Path) -> io::Result<()> {
    Ok(setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?)
}

/// The same for the same endpoint each time: connections tracked before a restart still lead here.
fn offset(id: &EndpointId) -> u16 {
    let digest = ring::digest::digest(&ring::digest::SHA256, id.as_str().as_bytes());
    u16::from_be_bytes([digest.as_ref()[0], digest.as_ref()[1]]) % PORTS
}

/// One port, free for both protocols, in the calling thread's namespace.
fn bind_any(first: u16) -> io::Result<(std::net::UdpSocket, std::net::TcpListener, u16)> {
    let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
    for offset in 0..TRIES {
        let port = FIRST_PORT + (first + offset) % PORTS;
        let at = SocketAddr::new(SERVER_ADDRESS.into(), port);
        let both = std::net::UdpSocket::bind(at).and_then(|udp| Ok((udp, std::net::TcpListener::bind(at)?)));
        match both {
            Ok((udp, tcp)) => return Ok((udp, tcp, port)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

/// Swaps the table in one transaction. The kernel translates the answers back by itself.
fn rules(port: u16) -> String {
    let address: Ipv4Addr = SERVER_ADDRESS;
    let rule = |protocol| format!("\t\tip daddr {address} {protocol} dport {PORT} dnat to {address}:{port}\n");
    format!(
        "table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n\tchain output {{\n\
         \t\ttype nat hook output priority -100; policy accept;\n{}{}\t}}\n}}\n",
        rule("udp"),
        rule("tcp")
    )
}
