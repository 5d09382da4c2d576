//! What is on a wire: counts packets by kind until asked, with an `AF_PACKET` socket.
#![allow(dead_code)]

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use nix::sys::{
    socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, setsockopt,
        socket,
        sockopt::{RcvBufForce, ReceiveTimeout},
    },
    time::{TimeVal, TimeValLike},
};

use crate::mesh::{WIREGUARD_PORT, inside_namespace};

#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub wireguard: u64,
    /// Neither WireGuard nor the questions of the underlay itself (ARP, neighbours, multicast groups).
    pub other: u64,
    pub first_other: Option<Vec<u8>>,
    /// Packets that hold the marker.
    pub markers: u64,
}

pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Capture {
    pub fn start(link: &str, marker: &'static [u8]) -> Self {
        Self::on(open(link), marker)
    }

    pub fn in_namespace(path: &Path, link: &'static str, marker: &[u8]) -> Self {
        Self::on(inside_namespace(path, move || open(link)).join().expect("socket"), marker)
    }

    fn on(socket: OwnedFd, marker: &[u8]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, marker) = (stop.clone(), marker.to_vec());
        let thread = std::thread::spawn(move || watch(&socket, &marker, &told));
        Self { stop, thread }
    }

    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("capture")
    }
}

fn open(link: &str) -> OwnedFd {
    let all = SockProtocol::EthAll;
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all).expect("the tests need root");
    setsockopt(&socket, RcvBufForce, &(64 << 20)).expect("buffer");
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(50)).expect("timeout");
    let index = nix::net::if_::if_nametoindex(link).expect("link");
    let mut address: libc::sockaddr_ll = unsafe_zeroed();
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as i32;
    bind(socket.as_raw_fd(), &link_address(&address)).expect("bind");
    socket
}

#[allow(unsafe_code)]
fn unsafe_zeroed() -> libc::sockaddr_ll {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    unsafe { std::mem::zeroed() }
}

#[allow(unsafe_code)]
fn link_address(address: &libc::sockaddr_ll) -> LinkAddr {
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the pointer is to a whole sockaddr_ll of the AF_PACKET family, as long as said.
    unsafe { LinkAddr::from_raw((&raw const *address).cast(), Some(length)) }.expect("address")
}

fn watch(socket: &OwnedFd, marker: &[u8], stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut buffer = vec![0; 70_000];
    while !stop.load(Ordering::Acquire) {
        let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { continue };
        let packet = &buffer[..length];
        if packet.windows(marker.len()).any(|window| window == marker) {
            seen.markers += 1;
        }
        match kind(packet) {
            Kind::Wireguard => seen.wireguard += 1,
            Kind::Housekeeping => {}
            Kind::Other => {
                seen.other += 1;
                seen.first_other.get_or_insert_with(|| packet[..packet.len().min(64)].to_vec());
            }
        }
    }
    seen
}

enum Kind {
    Wireguard,
    Housekeeping,
    Other,
}

fn kind(packet: &[u8]) -> Kind {
    let port = WIREGUARD_PORT.to_be_bytes();
    match packet.get(12..14) {
        Some([0x08, 0x06]) => Kind::Housekeeping,
        Some([0x08, 0x00]) if packet.get(23) == Some(&2) => Kind::Housekeeping,
        // A host whose WireGuard is not up yet says so, and quotes what it got. Pings are another type.
        Some([0x08, 0x00]) if packet.get(23) == Some(&1) && packet.get(34) == Some(&3) => Kind::Housekeeping,
        Some([0x86, 0xdd]) if packet.get(20).is_some_and(|next| matches!(next, 58 | 0)) => Kind::Housekeeping,
        Some([0x08, 0x00]) if packet.get(23) == Some(&17) && packet.get(34..38) == Some(&[port, port].concat()) => {
            Kind::Wireguard
        }
        _ => Kind::Other,
    }
}
