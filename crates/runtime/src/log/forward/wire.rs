//! Connections to log servers. Once one is there nothing on it waits, and beginning one does not either, but for the
//! look-up of a name.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect, socket},
};

use super::socket::{addresses, at, send_udp, udp};

/// For the first connection, which the start of the container waits for; fluent-logger has the same.
const FIRST_WITHIN: Duration = Duration::from_secs(3);

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `host:port`; pieces of at most so many bytes.
    Udp(String, usize),
    Tcp(String),
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address, _) => write!(f, "udp://{address}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Target {
    /// Waits until somebody answers there.
    pub(super) fn reach(&self) -> io::Result<Wire> {
        let Self::Tcp(address) = self else { return self.begin(0) };
        let mut failure = io::ErrorKind::NotFound.into();
        for candidate in addresses(address)? {
            match TcpStream::connect_timeout(&candidate, FIRST_WITHIN) {
                Ok(stream) => {
                    stream.set_nonblocking(true)?;
                    return Ok(Wire::Tcp(stream));
                }
                Err(error) => failure = error,
            }
        }
        Err(at(address)(failure))
    }

    /// Waits for nobody: whether somebody answers, the first write or read says. Of several addresses of a name each
    /// attempt takes another.
    pub(super) fn begin(&self, attempt: u32) -> io::Result<Wire> {
        match self {
            Self::Udp(address, most) => Ok(Wire::Udp(udp(address)?, *most)),
            Self::Tcp(address) => {
                let all = addresses(address)?;
                let to = all[attempt as usize % all.len()];
                begin_tcp(to).map(Wire::Tcp).map_err(at(address))
            }
            Self::Unix(path) => {
                let begin = || begin_unix(&UnixAddr::new(path)?);
                begin().map(Wire::Unix).map_err(|errno: Errno| at(path.display())(errno.into()))
            }
        }
    }
}

fn begin_tcp(to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = stream_socket(family)?;
    begin_connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(fd))
}

fn begin_unix(to: &UnixAddr) -> nix::Result<UnixStream> {
    let fd = stream_socket(AddressFamily::Unix)?;
    begin_connect(fd.as_raw_fd(), to)?;
    Ok(UnixStream::from(fd))
}

fn stream_socket(family: AddressFamily) -> nix::Result<std::os::fd::OwnedFd> {
    socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)
}

fn begin_connect(fd: std::os::fd::RawFd, to: &dyn SockaddrLike) -> nix::Result<()> {
    match connect(fd, to) {
        Err(Errno::EINPROGRESS) => Ok(()),
        done => done,
    }
}

pub(super) enum Wire {
    /// And the size of the largest datagram.
    Udp(UdpSocket, usize),
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Wire {
    pub(super) fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(..))
    }

    /// As much as is taken now; of datagrams one.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket, most) => send_udp(socket, &bytes[..bytes.len().min(*most)]),
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    /// What a server that talks over a stream has said.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(..) => Err(io::ErrorKind::WouldBlock.into()),
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket, _) => socket.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
