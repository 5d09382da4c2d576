//! The UDP socket of WireGuard: many datagrams with one call, both ways (UDP GSO and GRO).
//!
//! Owned by the data path's table; the UDP worker reads, all workers write.
#![allow(unsafe_code)]

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// Bytes of one call: the largest UDP payload of IPv4.
pub const LARGEST_SEND: usize = 65_507;
/// Segments of one call: the kernel's `UDP_MAX_SEGMENTS` of before 6.9.
pub const SEGMENTS: usize = 64;
/// Trains read with one call; together they should stay in the processor's cache.
const TRAINS: usize = 4;
const TRAIN: usize = 65_536;
/// A burst of a few full TCP windows waits in the kernel while this process is not scheduled.
const RECEIVE_BYTES: libc::c_int = 8 << 20;
const SEND_BYTES: libc::c_int = 4 << 20;
/// A worker looks this often whether it shall end.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    /// The kernel was asked to cut a train and would not.
    cuts_itself: AtomicBool,
}

impl Socket {
    /// Binds to the data path's address, with "don't fragment" on all it sends.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let fd = socket.as_raw_fd();
        match address.ip() {
            IpAddr::V4(_) => set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?,
            IpAddr::V6(_) => {
                set(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
                set(fd, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
            }
        }
        set(fd, libc::IPPROTO_UDP, libc::UDP_GRO, 1)?;
        // Beyond the system's limit only with a privilege; without it the buffers are smaller.
        let _ = set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BYTES);
        let _ = set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BYTES);
        socket.set_read_timeout(Some(LOOK))?;
        Ok(Self { socket, cuts_itself: AtomicBool::new(false) })
    }

    pub fn send_one(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.send_to(bytes, to).map(drop)
    }

    /// Sends datagrams that lie one after the other, each of `size` bytes, the last perhaps of fewer.
    pub fn send_train(&self, bytes: &mut [u8], size: usize, to: SocketAddr) -> io::Result<()> {
        if bytes.len() <= size {
            return self.send_one(bytes, to);
        }
        if !self.cuts_itself.load(Ordering::Relaxed) {
            match self.send_whole(bytes, size, to) {
                // Linux before 6.11, where the way out computes no checksums
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    self.cuts_itself.store(true, Ordering::Relaxed);
                }
                sent => return sent,
            }
        }
        self.send_cut(bytes, size, to)
    }

    /// One datagram after the other, with as few calls as there can be.
    fn send_cut(&self, bytes: &mut [u8], size: usize, to: SocketAddr) -> io::Result<()> {
        let to = SockaddrStorage::from(to);
        let piece = |part: &mut [u8]| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() };
        let mut pieces: Vec<libc::iovec> = bytes.chunks_mut(size).map(piece).collect();
        let message = |piece: &mut libc::iovec| {
            // SAFETY: all-zero bytes are a valid mmsghdr: null pointers with zero lengths.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
            message.msg_hdr.msg_namelen = to.len();
            message.msg_hdr.msg_iov = &raw mut *piece;
            message.msg_hdr.msg_iovlen = 1;
            message
        };
        let mut messages: Vec<libc::mmsghdr> = pieces.iter_mut().map(message).collect();
        let mut sent = 0;
        while let rest @ [_, ..] = &mut messages[sent..] {
            // SAFETY: each message points to the address and to its own piece of `bytes`, which all outlive the call.
            let count = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            if count < 0 {
                return Err(io::Error::last_os_error());
            }
            sent += count as usize;
        }
        Ok(())
    }

    /// All with one call; the kernel cuts (UDP GSO).
    fn send_whole(&self, bytes: &mut [u8], size: usize, to: SocketAddr) -> io::Result<()> {
        let to = SockaddrStorage::from(to);
        let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut control = Control([0; CONTROL]);
        // SAFETY: all-zero bytes are a valid msghdr: null pointers with zero lengths.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: pure arithmetic.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as _;
        // SAFETY: the control buffer is aligned for a cmsghdr (see Control) and CMSG_SPACE(2) <= CONTROL, so
        // the first header and its two bytes of data lie within it; nothing else refers to it.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::IPPROTO_UDP;
            (*header).cmsg_type = libc::UDP_SEGMENT;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
            libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size as u16);
        }
        // SAFETY: the message's address, piece and control buffer are locals or borrowed and live until it returns.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Room for one control message each; `cmsghdr` begins with a `usize`.
const CONTROL: usize = 64;
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// A train of datagrams from one sender.
#[derive(Debug, Clone, Copy)]
pub struct Train<'a> {
    pub bytes: &'a [u8],
    /// Of each datagram; the last may be shorter.
    pub size: usize,
    pub from: Option<SocketAddr>,
}

/// Memory for what one call reads.
pub struct Inbox {
    buffers: Vec<u8>,
    controls: [Control; TRAINS],
    names: [MaybeUninit<libc::sockaddr_storage>; TRAINS],
    got: [(usize, usize); TRAINS],
    count: usize,
}

impl Inbox {
    pub const BYTES: usize = TRAINS * TRAIN;

    pub fn new() -> Self {
        Self {
            buffers: vec![0; Self::BYTES],
            controls: [Control([0; CONTROL]); TRAINS],
            names: [MaybeUninit::zeroed(); TRAINS],
            got: [(0, 0); TRAINS],
            count: 0,
        }
    }

    /// Waits for the first train (not for ever) and takes those that are there besides.
    pub fn receive(&mut self, socket: &Socket) -> io::Result<()> {
        self.count = 0;
        let mut pieces: [libc::iovec; TRAINS] = std::array::from_fn(|at| {
            let buffer = &mut self.buffers[at * TRAIN..(at + 1) * TRAIN];
            libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: TRAIN }
        });
        let mut messages: [libc::mmsghdr; TRAINS] = std::array::from_fn(|at| {
            // SAFETY: all-zero bytes are a valid mmsghdr: null pointers with zero lengths.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = self.names[at].as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
            message.msg_hdr.msg_iov = &raw mut pieces[at];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = self.controls[at].0.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL as _;
            message
        });
        let fd = socket.socket.as_raw_fd();
        let (flags, no_limit) = (libc::MSG_WAITFORONE, std::ptr::null_mut());
        // SAFETY: each message points to its own buffers in `self` and `pieces`, which outlive the call, with true lengths.
        let count = unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), TRAINS as u32, flags, no_limit) };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        self.count = count as usize;
        for (got, message) in self.got.iter_mut().zip(&messages[..self.count]) {
            let length = message.msg_len as usize;
            *got = (length, gro_size(&message.msg_hdr).unwrap_or(length));
        }
        Ok(())
    }

    pub fn trains(&self) -> impl Iterator<Item = Train<'_>> {
        (0..self.count).map(|at| {
            let (length, size) = self.got[at];
            let bytes = &self.buffers[at * TRAIN..at * TRAIN + length];
            Train { bytes, size: size.max(1), from: self.sender(at) }
        })
    }

    fn sender(&self, at: usize) -> Option<SocketAddr> {
        // SAFETY: zeroed at first and written by the kernel since: initialised bytes, valid for any sockaddr_storage.
        let name = unsafe { self.names[at].assume_init_ref() };
        let length = Some(size_of::<libc::sockaddr_storage>() as libc::socklen_t);
        // SAFETY: the pointer is to a whole sockaddr_storage, which is as long as said.
        let address = unsafe { SockaddrStorage::from_raw((&raw const *name).cast(), length) }?;
        let v4 = address.as_sockaddr_in().map(|a| SocketAddr::from((a.ip(), a.port())));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddr::from((a.ip(), a.port()))))
    }
}

/// The size of the datagrams that the kernel put together, if it did.
fn gro_size(message: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel filled the control buffer and its length, which CMSG_FIRSTHDR looks at before all else.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const *message).as_ref() }?;
    let is_size = header.cmsg_level == libc::IPPROTO_UDP && header.cmsg_type == libc::UDP_GRO;
    // SAFETY: a UDP_GRO message carries a C int after its header, within the control buffer.
    is_size.then(|| unsafe { libc::CMSG_DATA(&raw const *header).cast::<libc::c_int>().read_unaligned() } as usize)
}

fn set(fd: RawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes from the address of `value`, which lives until the call returns.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N-04: where the kernel cuts no trains, all their datagrams arrive too, in order. Linux before 6.11 refuses it on links
    /// that compute no checksums, and everything but single packets was lost; the machines' test has such links.
    #[test]
    fn n04_a_train_is_cut_where_the_kernel_does_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let local = address.parse().expect("address");
            let (from, to) = (Socket::bind(local).expect("socket"), UdpSocket::bind(local).expect("socket"));
            to.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            from.cuts_itself.store(true, Ordering::Relaxed);
            let mut train: Vec<u8> = (0..SEGMENTS * 100 - 50).map(|at| (at / 100) as u8).collect();
            from.send_train(&mut train, 100, to.local_addr().expect("address")).expect("sent");
            let mut buffer = [0; 200];
            for number in 0..SEGMENTS {
                let length = to.recv(&mut buffer).expect("a datagram");
                let wanted = if number == SEGMENTS - 1 { 50 } else { 100 };
                assert_eq!(buffer[..length], vec![number as u8; wanted]);
            }
        }
    }
}
