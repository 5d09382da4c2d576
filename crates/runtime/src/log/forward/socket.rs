//! The ways to a syslog or journal: datagrams that never wait, and streams that wait a little.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::at_once::PATIENCE;
use crate::config::SyslogAddress;

/// Where the local syslog listens, by its several customs (srslog).
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

pub(super) enum Socket {
    Datagram(UnixDatagram),
    Udp(UdpSocket),
    Stream(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(super) fn of_syslog(to: &SyslogAddress) -> io::Result<Self> {
        match to {
            SyslogAddress::Local => Self::local(),
            SyslogAddress::Unixgram(path) => Self::datagram(path),
            SyslogAddress::Unix(path) => Self::stream(path),
            SyslogAddress::Udp(address) => udp(address).map(Self::Udp),
            SyslogAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(&first(address)?, PATIENCE).map_err(at(address))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    fn local() -> io::Result<Self> {
        let try_both = |path: &str| Self::datagram(path.as_ref()).or_else(|_| Self::stream(path.as_ref()));
        let found = LOCAL.iter().find_map(|path| try_both(path).ok());
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("nobody listens at {}", LOCAL.join(", "))))
    }

    pub(super) fn datagram(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(path).map_err(at(path.display()))?;
        Ok(Self::Datagram(socket))
    }

    fn stream(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::from(socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?);
        // also for the connection: whoever accepts none would hold the container up for ever
        stream.set_write_timeout(Some(PATIENCE))?;
        let connected = UnixAddr::new(path).and_then(|to| connect(stream.as_raw_fd(), &to));
        connected.map_err(|errno| at(path.display())(errno.into()))?;
        Ok(Self::Stream(stream))
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Tcp(_))
    }

    /// All of it, or an error; a stream is of no more use after one.
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagram(socket) => socket.send(message).map(drop),
            Self::Udp(socket) => send_udp(socket, message).map(drop),
            Self::Stream(stream) => stream.write_all(message),
            Self::Tcp(stream) => stream.write_all(message),
        }
    }
}

/// One that never waits.
pub(super) fn udp(address: &str) -> io::Result<UdpSocket> {
    let to = first(address)?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(to).map_err(at(address))?;
    Ok(socket)
}

pub(super) fn send_udp(socket: &UdpSocket, message: &[u8]) -> io::Result<usize> {
    match socket.send(message) {
        // The answer to an earlier one: nobody listens just now, which UDP need not know.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(message),
        sent => sent,
    }
}

fn first(address: &str) -> io::Result<SocketAddr> {
    addresses(address).map(|all| all[0])
}

/// One at least.
pub(super) fn addresses(address: &str) -> io::Result<Vec<SocketAddr>> {
    let all: Vec<SocketAddr> = address.to_socket_addrs().map_err(at(address))?.collect();
    match all.is_empty() {
        false => Ok(all),
        true => Err(io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"))),
    }
}

pub(super) fn at(place: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{place}: {error}"))
}
