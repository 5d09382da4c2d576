//! From the host's IPv6 addresses to published ports that cannot be reached as they were dialled, over TCP and UDP.
//!
//! Rules lead here what comes to a port that is there in IPv4 only; it is sent on from 127.0.0.1 to the same port at an address
//! in 127.64.0.0/10 that stands for the dialled one ([`ports::over_ipv4`]), where the same rules know which of several ports is
//! meant. The container sees its bridge's gateway as the client. What comes from ::1 to a port that is there in IPv6 only is
//! sent on to the same port at another address of this host, which replies find. What was dialled is asked of the connection
//! tracking, so there is nothing to configure.

use std::{
    collections::HashMap,
    fs,
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

/// Taken if nobody has them; else the kernel chooses.
const USUAL_PORT_OVER_IPV4: u16 = 7274;
const USUAL_PORT_PAST_LOOPBACK: u16 = 7275;
/// A client that has sent and heard nothing for so long begins anew. The connection tracking remembers a flow of
/// datagrams that went both ways for two minutes.
const IDLE: Duration = Duration::from_secs(120);
/// Clients at once, each with a socket; datagrams of others are dropped, as a full queue would.
const MOST_CLIENTS: usize = 4096;
/// The largest that UDP carries.
const LARGEST: usize = 65_535;

/// `IFA_F_DADFAILED` and `IFA_F_TENTATIVE` (linux/if_addr.h): nobody is reached at such an address.
const UNUSABLE: u32 = 0x08 | 0x40;

/// How what was dialled goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onward {
    /// To the published port that was dialled, behind a header.
    WithHeader,
    /// From IPv6 to the same port over IPv4, as it is.
    OverIpv4,
    /// From ::1 to the same port at another address of this host, as it is.
    PastLoopback,
}

impl Onward {
    /// Where the port is found again that was dialled.
    pub fn again(self, dialled: SocketAddr) -> io::Result<SocketAddr> {
        let at: IpAddr = match (self, dialled.ip()) {
            (Self::WithHeader, at) => at,
            (Self::OverIpv4, IpAddr::V6(at)) => ports::over_ipv4(at).into(),
            (Self::PastLoopback, IpAddr::V6(_)) => own_address()?.into(),
            (Self::OverIpv4 | Self::PastLoopback, IpAddr::V4(_)) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(SocketAddr::new(at, dialled.port()))
    }
}

/// Two sockets at one port of IPv6.
pub struct Relay {
    pub port: u16,
    pub streams: TcpListener,
    pub onward: Onward,
    datagrams: Arc<UdpSocket>,
}

impl Relay {
    /// None where the host has no IPv6, or no port left there.
    pub fn open(onward: Onward, before: Option<u16>) -> Option<Self> {
        let (at, usual) = match onward {
            // Nobody but programs of this host has any business there.
            Onward::PastLoopback => (Ipv6Addr::LOCALHOST, USUAL_PORT_PAST_LOOPBACK),
            Onward::OverIpv4 | Onward::WithHeader => (Ipv6Addr::UNSPECIFIED, USUAL_PORT_OVER_IPV4),
        };
        before.into_iter().chain([usual, 0, 0, 0]).find_map(|port| Self::at(onward, at, port).ok())
    }

    fn at(onward: Onward, at: Ipv6Addr, port: u16) -> io::Result<Self> {
        let streams = TcpSocket::new_v6()?;
        setsockopt(&streams, sockopt::Ipv6V6Only, &true)?;
        let streams = listen(streams, (at, port).into())?;
        let port = streams.local_addr()?.port();
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let datagrams = socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
        // Beside one of another version, until that has given up the port.
        setsockopt(&datagrams, sockopt::ReusePort, &true)?;
        setsockopt(&datagrams, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&datagrams, sockopt::Ipv6RecvPacketInfo, &true)?;
        bind(datagrams.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(at, port, 0, 0)))?;
        Ok(Self { port, streams, onward, datagrams: Arc::new(UdpSocket::from_std(datagrams.into())?) })
    }

    /// Carries datagrams for ever.
    pub fn datagrams(&self) -> impl Future<Output = ()> + Send + 'static {
        carry(self.onward, Arc::clone(&self.datagrams))
    }
}

/// Of this host, and neither its loopback's nor a link's own: who dials it has it himself, and replies find him there.
fn own_address() -> io::Result<Ipv6Addr> {
    let listed = fs::read_to_string("/proc/self/net/if_inet6")?;
    listed.lines().find_map(global_address).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Of `20010db8000000000000000000000001 02 40 00 80 eth0`: the address, if its scope is 0 and its flags let it be used.
fn global_address(line: &str) -> Option<Ipv6Addr> {
    let mut fields = line.split_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let (scope, flags) = (fields.nth(2)?, u32::from_str_radix(fields.next()?, 16).ok()?);
    (scope == "00" && flags & UNUSABLE == 0).then_some(Ipv6Addr::from(address))
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

async fn carry(way: Onward, socket: Arc<UdpSocket>) {
    let mut clients: HashMap<Flow, Client> = HashMap::new();
    let mut replies = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            received = receive(&socket, &mut buffer) => {
                // Errors of single datagrams; the socket itself has none.
                let Ok((length, flow)) = received else { continue };
                if !clients.contains_key(&flow) && clients.len() < MOST_CLIENTS {
                    match begin(way, &socket, flow, &mut replies).await {
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

async fn begin(way: Onward, socket: &Arc<UdpSocket>, flow: Flow, replies: &mut JoinSet<Flow>) -> io::Result<Client> {
    let own = SocketAddr::new(flow.own.into(), socket.local_addr()?.port());
    let [_, dialled] = begun(libc::IPPROTO_UDP, flow.client.into(), own)?;
    let to = way.again(dialled)?;
    let from: IpAddr = if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let onward = Arc::new(UdpSocket::bind((from, 0)).await?);
    onward.connect(to).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// E-14: neither the loopback, nor a link's own, nor one that another host may have.
    #[test]
    fn e_14_an_address_that_replies_find() {
        let given = |line: &str| global_address(line).map(|address| address.to_string());
        assert_eq!(given("fd000005000000000000000000000001 04 40 00 82      br2"), Some("fd00:5::1".to_owned()));
        for other in [
            "00000000000000000000000000000001 01 80 10 80       lo",
            "fe8000000000000068cf5efffef955b4 05 40 20 c0       v2",
            "fd000005000000000000000000000001 04 40 00 c0     eth0",
            "fd000005000000000000000000000001 04 40 00 08     eth0",
            "",
        ] {
            assert_eq!(given(other), None, "{other}");
        }
    }

    #[test]
    fn e_14_a_port_is_found_again_over_its_own_family() {
        let (four, six) = (SocketAddr::from(([192, 0, 2, 1], 80)), SocketAddr::from((Ipv6Addr::LOCALHOST, 80)));
        assert_eq!(Onward::WithHeader.again(four).expect("as it is"), four);
        let again = Onward::OverIpv4.again(six).expect("over IPv4");
        assert!(again.is_ipv4() && again.ip().is_loopback() && again.port() == 80, "{again}");
        assert!(Onward::OverIpv4.again(four).is_err() && Onward::PastLoopback.again(four).is_err());
    }
}
