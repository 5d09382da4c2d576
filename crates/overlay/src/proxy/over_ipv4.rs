//! From the host's IPv6 addresses to published ports that are there in IPv4 only, over TCP and UDP.
//!
//! Rules lead here what comes to such a port; it is sent on from 127.0.0.1 to the same port at an address in 127.64.0.0/10 that
//! stands for the dialled one ([`ports::over_ipv4`]), where the same rules know which of several ports is meant. What was
//! dialled is asked of the connection tracking, so there is nothing to configure. The container sees its bridge's gateway as
//! the client.

use std::{
    collections::HashMap,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn6, bind, recvmsg,
        sendmsg, setsockopt, socket, sockopt,
    },
};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpSocket, UdpSocket},
    task::{Id, JoinSet},
    time::timeout,
};

use super::listen;
use crate::{kernel::begun, mesh::ports};

/// Taken if nobody has it; else the kernel chooses.
const USUAL_PORT: u16 = 7274;
/// A client that has sent and heard nothing for so long begins anew. The connection tracking remembers a flow of
/// datagrams that went both ways for two minutes.
const IDLE: Duration = Duration::from_secs(120);
/// Clients at once, each with a socket; datagrams of others are dropped, as a full queue would.
const MOST_CLIENTS: usize = 4096;
/// The largest that UDP carries.
const LARGEST: usize = 65_535;

/// Two sockets at one port of all addresses of IPv6.
pub struct OverIpv4 {
    pub port: u16,
    pub streams: TcpListener,
    datagrams: Arc<UdpSocket>,
}

impl OverIpv4 {
    /// None where the host has no IPv6, or no port left there.
    pub fn open(before: Option<u16>) -> Option<Self> {
        before.into_iter().chain([USUAL_PORT, 0, 0, 0]).find_map(|port| Self::at(port).ok())
    }

    fn at(port: u16) -> io::Result<Self> {
        let streams = TcpSocket::new_v6()?;
        setsockopt(&streams, sockopt::Ipv6V6Only, &true)?;
        let streams = listen(streams, (Ipv6Addr::UNSPECIFIED, port).into())?;
        let port = streams.local_addr()?.port();
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let datagrams = socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
        // Beside one of another version, until that has given up the port.
        setsockopt(&datagrams, sockopt::ReusePort, &true)?;
        setsockopt(&datagrams, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&datagrams, sockopt::Ipv6RecvPacketInfo, &true)?;
        bind(datagrams.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0)))?;
        Ok(Self { port, streams, datagrams: Arc::new(UdpSocket::from_std(datagrams.into())?) })
    }

    /// Carries datagrams for ever.
    pub fn datagrams(&self) -> impl Future<Output = ()> + Send + 'static {
        carry(Arc::clone(&self.datagrams))
    }
}

/// Where the port is over IPv4 that was dialled at this address of IPv6.
pub fn over_ipv4(dialled: SocketAddr) -> io::Result<SocketAddr> {
    match dialled.ip() {
        IpAddr::V6(at) => Ok(SocketAddr::new(ports::over_ipv4(at).into(), dialled.port())),
        IpAddr::V4(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// A client, and the address of this host that it is answered from: what the rules rewrote the dialled one to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    client: SocketAddrV6,
    own: Ipv6Addr,
}

/// One client's socket towards the published port.
struct Client {
    onward: Arc<UdpSocket>,
    is_used: Arc<AtomicBool>,
    replies: Id,
}

async fn carry(socket: Arc<UdpSocket>) {
    let mut clients: HashMap<Flow, Client> = HashMap::new();
    let mut replies = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            received = receive(&socket, &mut buffer) => {
                // Errors of single datagrams; the socket itself has none.
                let Ok((length, flow)) = received else { continue };
                if !clients.contains_key(&flow) && clients.len() < MOST_CLIENTS {
                    match begin(&socket, flow, &mut replies).await {
                        Ok(client) => drop(clients.insert(flow, client)),
                        Err(error) => tracing::debug!(%error, from = %flow.client, "a datagram leads nowhere"),
                    }
                }
                if let Some(client) = clients.get(&flow) {
                    client.is_used.store(true, Ordering::Relaxed);
                    // Refused, or no room: datagrams may be lost.
                    let _ = client.onward.send(&buffer[..length]).await;
                }
            }
            Some(Ok((id, flow))) = replies.join_next_with_id() => {
                if clients.get(&flow).is_some_and(|client| client.replies == id) {
                    clients.remove(&flow);
                }
            }
        }
    }
}

async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Flow)> {
    let read = || -> io::Result<(usize, Flow)> {
        let (mut parts, mut space) = ([IoSliceMut::new(buffer)], cmsg_space!(libc::in6_pktinfo));
        let received =
            recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
        let own = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr)),
            _ => None,
        });
        let (client, own) = received.address.zip(own).ok_or(io::ErrorKind::InvalidData)?;
        Ok((received.bytes, Flow { client: client.into(), own }))
    };
    socket.async_io(Interest::READABLE, read).await
}

/// From the very address that the datagrams of the client came to. No room: datagrams may be lost.
fn send(socket: &UdpSocket, bytes: &[u8], flow: Flow) -> io::Result<()> {
    let own = libc::in6_addr { s6_addr: flow.own.octets() };
    // By way of the interface that the client's address names, if it has to name one.
    let info = libc::in6_pktinfo { ipi6_addr: own, ipi6_ifindex: flow.client.scope_id() };
    let control = [ControlMessage::Ipv6PacketInfo(&info)];
    let to = SockaddrIn6::from(flow.client);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
    Ok(())
}

async fn begin(socket: &Arc<UdpSocket>, flow: Flow, replies: &mut JoinSet<Flow>) -> io::Result<Client> {
    let own = SocketAddr::new(flow.own.into(), socket.local_addr()?.port());
    let [_, to] = begun(libc::IPPROTO_UDP, flow.client.into(), own)?;
    let onward = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    onward.connect(over_ipv4(to)?).await?;
    let is_used = Arc::new(AtomicBool::new(true));
    let answering = answer(Arc::clone(socket), Arc::clone(&onward), Arc::clone(&is_used), flow);
    let replies = replies.spawn(answering).id();
    Ok(Client { onward, is_used, replies })
}

/// Carries answers back until there was nothing to carry for a while, or the port refuses.
async fn answer(socket: Arc<UdpSocket>, onward: Arc<UdpSocket>, is_used: Arc<AtomicBool>, flow: Flow) -> Flow {
    let mut buffer = vec![0; LARGEST];
    loop {
        match timeout(IDLE, onward.recv(&mut buffer)).await {
            Ok(Ok(length)) => drop(send(&socket, &buffer[..length], flow)),
            Ok(Err(_)) => return flow,
            Err(_) if is_used.swap(false, Ordering::Relaxed) => {}
            Err(_) => return flow,
        }
    }
}
