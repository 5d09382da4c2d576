//! UDP sockets whose packets are never cut into fragments on the way, and the one for echoes.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, RawFd},
    path::Path,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage},
};
use tokio::net::UdpSocket;

/// Largest IP packet a probe makes: jumbo frames, not the 64 KiB of the loopback device.
const LARGEST_PACKET: u32 = 9000;

/// A socket on this address with "don't fragment" on every packet; in another network namespace if one is given.
pub async fn bind(address: SocketAddr, namespace: Option<&Path>) -> io::Result<UdpSocket> {
    let socket = match namespace {
        None => UdpSocket::bind(address).await?,
        Some(path) => {
            let socket = inside(path, || std::net::UdpSocket::bind(address))??;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)?
        }
    };
    let fd = socket.as_raw_fd();
    match address {
        SocketAddr::V4(_) => set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?,
        SocketAddr::V6(_) => {
            set(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
            set(fd, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
        }
    }
    Ok(socket)
}

/// For ICMP packets over IPv4; in another network namespace if one is given. It is no socket of UDP, but is read and written
/// in the same way.
pub fn raw(namespace: Option<&Path>) -> io::Result<UdpSocket> {
    let open = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        nix::sys::socket::socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)
    };
    let socket = match namespace {
        None => open()?,
        Some(path) => inside(path, open)??,
    };
    UdpSocket::from_std(socket.into())
}

/// Runs `work` in the namespace and comes back: nothing else runs on this thread meanwhile.
pub fn inside<T>(namespace: &Path, work: impl FnOnce() -> T) -> io::Result<T> {
    let home = File::open("/proc/thread-self/ns/net")?;
    setns(File::open(namespace)?.as_fd(), CloneFlags::CLONE_NEWNET)?;
    let result = work();
    setns(home.as_fd(), CloneFlags::CLONE_NEWNET).expect("a thread may return to the namespace it came from");
    Ok(result)
}

/// The MTU of a connected socket's path as the kernel knows it, in bytes of the IP packet.
pub fn path_mtu(socket: &UdpSocket, peer: IpAddr) -> io::Result<u32> {
    let (level, option) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mtu = get(socket.as_raw_fd(), level, option)?;
    Ok(u32::try_from(mtu).unwrap_or(0).min(LARGEST_PACKET))
}

/// Sends on a connected socket without ever waiting: a probe that cannot leave now is a lost probe.
pub fn send(socket: &UdpSocket, bytes: &[u8]) -> io::Result<()> {
    nix::sys::socket::send(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT)?;
    Ok(())
}

/// The same to an address.
pub fn send_to(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    let to = SockaddrStorage::from(to);
    nix::sys::socket::sendto(socket.as_raw_fd(), bytes, &to, MsgFlags::MSG_DONTWAIT)?;
    Ok(())
}

/// Bytes of an IP packet that are not UDP payload: IP header without options, and UDP header.
pub const fn overhead(peer: IpAddr) -> u32 {
    match peer {
        IpAddr::V4(_) => 20 + 8,
        IpAddr::V6(_) => 40 + 8,
    }
}

fn set(fd: RawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes from the address of `value`, which lives until the call returns.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get(fd: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`, and the new length; both live until it returns.
    let result = unsafe { libc::getsockopt(fd, level, option, (&raw mut value).cast(), &raw mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
