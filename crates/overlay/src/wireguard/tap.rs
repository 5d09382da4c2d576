//! The TAP in an encrypted overlay's bridge: where whole frames leave the kernel and come back.
//!
//! It is made in the overlay's namespace and ends with this process: then the bridge has no way out,
//! and nothing leaves the host in clear. The control makes it, one worker reads, the UDP worker writes.
#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
};

use super::WireguardError;
use crate::plan::{OVERLAY_BRIDGE, OVERLAY_TAP};

const DEVICE: &str = "/dev/net/tun";
/// A worker looks this often whether it shall end.
const LOOK: Duration = Duration::from_millis(200);

/// linux/sockios.h
const SIOCBRADDIF: libc::Ioctl = 0x89a2;
/// linux/if_tun.h
const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_TSO_ECN: u32 = 0x08;
const TUN_F_USO4: u32 = 0x20;
const TUN_F_USO6: u32 = 0x40;
const TCP_OFFLOADS: u32 = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
/// Since Linux 6.2.
const UDP_OFFLOADS: u32 = TUN_F_USO4 | TUN_F_USO6;

#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Makes the TAP in the namespace at `path`, plugs it into the bridge there and sets it up.
    ///
    /// # Errors
    /// Says what is missing: the device, the namespace or the bridge.
    pub fn open(namespace: &Path, mtu: u32) -> Result<Self, WireguardError> {
        std::thread::scope(|scope| {
            // A namespace belongs to a thread: this one ends in there, no other ever leaves its own.
            let thread = std::thread::Builder::new().name("wg-tap-make".to_owned());
            let work = || {
                let target = File::open(namespace).map_err(|e| failed("open its network namespace", e))?;
                let entered = setns(target.as_fd(), CloneFlags::CLONE_NEWNET);
                entered.map_err(|e| failed("enter its network namespace", e.into()))?;
                // A TAP belongs to the namespace in which the device was opened.
                let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE);
                let file = opened.map_err(WireguardError::NoTun)?;
                make(&file, mtu).map(|()| Self { file })
            };
            let running = thread.spawn_scoped(scope, work).map_err(|e| failed("start a thread", e))?;
            running.join().unwrap_or_else(|_| Err(failed("make the TAP", io::Error::other("its thread panicked"))))
        })
    }

    /// Waits until a frame is there, or for a while.
    pub fn wait(&self) -> io::Result<()> {
        let mut wanted = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        poll(&mut wanted, PollTimeout::from(LOOK.as_millis() as u8))?;
        Ok(())
    }

    /// The next frame with its header, or `WouldBlock`.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    pub fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(slices).map(drop)
    }
}

fn failed(doing: &'static str, source: io::Error) -> WireguardError {
    WireguardError::Tap { doing, source }
}

/// In the calling thread's namespace.
fn make(file: &File, mtu: u32) -> Result<(), WireguardError> {
    let mut request = named(OVERLAY_TAP);
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    control(file.as_raw_fd(), libc::TUNSETIFF, &mut request).map_err(|e| failed("make the TAP", e))?;
    set_offloads(file.as_raw_fd()).map_err(|e| failed("turn on offloads of the TAP", e))?;
    let made = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    );
    let socket = made.map_err(|e| failed("open a socket", e.into()))?;
    let fd = socket.as_raw_fd();
    let mut request = named(OVERLAY_TAP);
    request.ifr_ifru.ifru_mtu = mtu as libc::c_int;
    control(fd, libc::SIOCSIFMTU, &mut request).map_err(|e| failed("set the MTU of the TAP", e))?;
    control(fd, libc::SIOCGIFINDEX, &mut request).map_err(|e| failed("look up the TAP", e))?;
    // SAFETY: SIOCGIFINDEX has just written this member of the union.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    let mut bridge = named(OVERLAY_BRIDGE);
    bridge.ifr_ifru.ifru_ifindex = index;
    match control(fd, SIOCBRADDIF, &mut bridge) {
        // A bridge port already.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        added => added.map_err(|e| failed("plug the TAP into the bridge br0", e))?,
    }
    let mut request = named(OVERLAY_TAP);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    control(fd, libc::SIOCSIFFLAGS, &mut request).map_err(|e| failed("set the TAP up", e))
}

fn set_offloads(fd: RawFd) -> io::Result<()> {
    let set = |offloads: u32| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
        let result = unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD as _, libc::c_ulong::from(offloads)) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    set(TCP_OFFLOADS | UDP_OFFLOADS).or_else(|_| set(TCP_OFFLOADS))
}

fn named(name: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq: an empty name and numbers that are zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *place = byte as libc::c_char;
    }
    request
}

fn control(fd: RawFd, operation: impl TryInto<libc::Ioctl>, request: &mut libc::ifreq) -> io::Result<()> {
    let operation = operation.try_into().map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: all operations used here read or write one ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(fd, operation, &raw mut *request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
