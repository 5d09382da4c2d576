//! Lets a client elsewhere know that its connection through this host is at an end.
//!
//! A forged RST would need the client's own sequence numbers, which nobody here knows. A SYN for a connection that
//! stands makes the client say them: it answers with an acknowledgement (RFC 5961, section 4), which
//! belongs to nobody any more, and this host's own TCP replies with the RST that fits. Older clients end the
//! connection at the SYN itself (RFC 793).

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const HOPS: u8 = 64;
const SYN: u8 = 2;
const TCP: u8 = 6;

/// Sends the SYN to `client`, as from `server`: both ends as the client knows them.
pub fn ask_client(server: SocketAddr, client: SocketAddr) -> io::Result<()> {
    let packet = syn(server, client);
    let family = if client.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    // The kernel wants no port in a raw socket's address.
    let sent = match client {
        SocketAddr::V4(to) => {
            let to = SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0));
            sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty())
        }
        SocketAddr::V6(to) => {
            let to = SockaddrIn6::from(SocketAddrV6::new(*to.ip(), 0, 0, 0));
            sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty())
        }
    };
    sent.map(drop).map_err(io::Error::from)
}

/// An IP packet with a TCP header (RFC 9293) and nothing else.
fn syn(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut tcp = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    // Sequence and acknowledgement number: any will do.
    tcp.extend([0; 8]);
    // Length of the header in words, flags, window; checksum and urgent pointer.
    tcp.extend([0x50, SYN, 0x04, 0, 0, 0, 0, 0]);
    let addresses = [octets(from.ip()), octets(to.ip())].concat();
    let length = u8::try_from(TCP_HEADER).expect("20 is a byte");
    let checksum = checksum(&[&addresses[..], &[0, TCP, 0, length], &tcp].concat());
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    let total = u8::try_from(IPV4_HEADER + TCP_HEADER).expect("40 is a byte");
    let header: Vec<u8> = if from.is_ipv4() {
        // The kernel fills in identification and checksum.
        [&[0x45, 0, 0, total, 0, 0, 0, 0, HOPS, TCP, 0, 0][..], &addresses].concat()
    } else {
        [&[0x60, 0, 0, 0, 0, length, TCP, HOPS][..], &addresses].concat()
    };
    debug_assert!(header.len() == if from.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER });
    [header, tcp].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// RFC 1071, over a text of even length.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("it was folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A right checksum makes the sum of everything zero.
    #[test]
    fn the_packet_is_well_formed() {
        for (from, to) in [("192.0.2.1:8080", "192.0.2.9:40000"), ("[2001:db8::1]:8080", "[2001:db8::9]:40000")] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().expect("address"), to.parse().expect("address"));
            let packet = syn(from, to);
            let tcp = &packet[packet.len() - TCP_HEADER..];
            let pseudo = [octets(from.ip()), octets(to.ip()), vec![0, TCP, 0, 20]].concat();
            assert_eq!(checksum(&[&pseudo[..], tcp].concat()), 0);
            assert_eq!(tcp[13], SYN);
        }
    }
}
