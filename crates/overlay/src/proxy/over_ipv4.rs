//! From ::1 to published ports that are there in IPv4 only, over TCP and UDP: the host's own programs dial ::1 for `localhost` first.
//!
//! Rules lead here what this host sends to such a port at ::1; it is sent on from 127.0.0.1 to the same port. Which one that
//! was is asked of the connection tracking, so there is nothing to configure.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket, sockopt};
use tokio::{
    net::{TcpListener, TcpSocket, UdpSocket},
    task::{Id, JoinSet},
    time::timeout,
};

use super::listen;
use crate::kernel::dialled;

/// Taken if nobody has it; else the kernel chooses.
const USUAL_PORT: u16 = 7274;
/// A client that has sent and heard nothing for so long begins anew. The connection tracking remembers a flow of
/// datagrams that went both ways for two minutes.
const IDLE: Duration = Duration::from_secs(120);
/// Clients at once, each with a socket; datagrams of others are dropped, as a full queue would.
const MOST_CLIENTS: usize = 4096;
/// The largest that UDP carries.
const LARGEST: usize = 65_535;

/// Two sockets at one port of ::1.
pub struct Loopback {
    pub port: u16,
    pub streams: TcpListener,
    datagrams: Arc<UdpSocket>,
}

impl Loopback {
    /// None where the host has no ::1, or no port left there.
    pub fn open(before: Option<u16>) -> Option<Self> {
        before.into_iter().chain([USUAL_PORT, 0, 0, 0]).find_map(|port| Self::at(port).ok())
    }

    fn at(port: u16) -> io::Result<Self> {
        let streams = listen(TcpSocket::new_v6()?, (Ipv6Addr::LOCALHOST, port).into())?;
        let port = streams.local_addr()?.port();
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let datagrams = socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
        // Beside one of another version, until that has given up the port.
        setsockopt(&datagrams, sockopt::ReusePort, &true)?;
        bind(datagrams.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0)))?;
        Ok(Self { port, streams, datagrams: Arc::new(UdpSocket::from_std(datagrams.into())?) })
    }

    /// Carries datagrams for ever.
    pub fn datagrams(&self) -> impl Future<Output = ()> + Send + 'static {
        carry(Arc::clone(&self.datagrams))
    }
}

/// One client's socket towards the published port.
struct Client {
    onward: Arc<UdpSocket>,
    is_used: Arc<AtomicBool>,
    replies: Id,
}

async fn carry(socket: Arc<UdpSocket>) {
    let mut clients: HashMap<SocketAddr, Client> = HashMap::new();
    let mut replies = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                // Errors of single datagrams; the socket itself has none.
                let Ok((length, from)) = received else { continue };
                if !clients.contains_key(&from) && clients.len() < MOST_CLIENTS {
                    match begin(&socket, from, &mut replies).await {
                        Ok(client) => drop(clients.insert(from, client)),
                        Err(error) => tracing::debug!(%error, %from, "a datagram to ::1 leads nowhere"),
                    }
                }
                if let Some(client) = clients.get(&from) {
                    client.is_used.store(true, Ordering::Relaxed);
                    // Refused, or no room: datagrams may be lost.
                    let _ = client.onward.send(&buffer[..length]).await;
                }
            }
            Some(Ok((id, from))) = replies.join_next_with_id() => {
                if clients.get(&from).is_some_and(|client| client.replies == id) {
                    clients.remove(&from);
                }
            }
        }
    }
}

async fn begin(socket: &Arc<UdpSocket>, from: SocketAddr, replies: &mut JoinSet<SocketAddr>) -> io::Result<Client> {
    let to = dialled(from, socket.local_addr()?)?;
    let to = to.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "it came past the published ports"))?;
    let onward = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    onward.connect((Ipv4Addr::LOCALHOST, to.port())).await?;
    let is_used = Arc::new(AtomicBool::new(true));
    let answering = answer(Arc::clone(socket), Arc::clone(&onward), Arc::clone(&is_used), from);
    let replies = replies.spawn(answering).id();
    Ok(Client { onward, is_used, replies })
}

/// Carries answers back until there was nothing to carry for a while, or the port refuses.
async fn answer(
    socket: Arc<UdpSocket>,
    onward: Arc<UdpSocket>,
    is_used: Arc<AtomicBool>,
    to: SocketAddr,
) -> SocketAddr {
    let mut buffer = vec![0; LARGEST];
    loop {
        match timeout(IDLE, onward.recv(&mut buffer)).await {
            Ok(Ok(length)) => drop(socket.send_to(&buffer[..length], to).await),
            Ok(Err(_)) => return to,
            Err(_) if is_used.swap(false, Ordering::Relaxed) => {}
            Err(_) => return to,
        }
    }
}
