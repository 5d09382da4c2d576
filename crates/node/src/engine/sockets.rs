//! The sockets of this host's own network namespace and whose they are, as the kernel lists them in /proc.
//! Read when a task publishes ports on the host. Blocking, milliseconds.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use types::PortProtocol;

/// One socket that has a local port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostSocket {
    pub protocol: PortProtocol,
    pub address: IpAddr,
    pub port: u16,
    pub inode: u64,
    /// TCP: it listens; UDP: it takes from anybody.
    pub is_listening: bool,
}

/// States of `/proc/net/tcp` and `udp` (the kernel's `net/tcp_states.h`).
const TCP_LISTEN: &str = "0A";
const UDP_UNCONNECTED: &str = "07";

/// All TCP and UDP sockets. A list that the kernel does not have is empty: IPv6 may be switched off.
pub(super) fn of_host() -> Vec<HostSocket> {
    let lists = [
        ("tcp", PortProtocol::Tcp),
        ("tcp6", PortProtocol::Tcp),
        ("udp", PortProtocol::Udp),
        ("udp6", PortProtocol::Udp),
    ];
    let read = |(name, protocol)| {
        let text = fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
        text.lines().filter_map(|line| parse(line, protocol)).collect::<Vec<_>>()
    };
    lists.into_iter().flat_map(read).collect()
}

/// The process that has a socket open, in words; nothing if it is none that this one can see.
pub(super) fn owner(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let mut open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        if open.any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// A line such as `0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 12345 …`.
fn parse(line: &str, protocol: PortProtocol) -> Option<HostSocket> {
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let listening = if protocol == PortProtocol::Tcp { TCP_LISTEN } else { UDP_UNCONNECTED };
    Some(HostSocket {
        protocol,
        address: parse_address(address)?,
        port: u16::from_str_radix(port, 16).ok().filter(|port| *port > 0)?,
        inode: fields.nth(5)?.parse().ok()?,
        is_listening: state == listening,
    })
}

/// Words of 32 bits in the kernel's own byte order, printed as numbers in this host's.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(8 * index)?);
            }
            // A socket of both families shows an IPv4 address inside an IPv6 one.
            Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    /// The kernel is the witness: what this process opens is listed, with its owner.
    #[test]
    fn s_34_the_kernels_list_names_sockets_and_their_owner() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let client = TcpStream::connect(tcp.local_addr().expect("bound")).expect("connected");
        let sockets = of_host();
        let find = |protocol, port: u16| sockets.iter().find(move |s| s.protocol == protocol && s.port == port);
        let listener = find(PortProtocol::Tcp, tcp.local_addr().expect("bound").port()).expect("listed");
        assert!(listener.is_listening && listener.address == IpAddr::V4(Ipv4Addr::LOCALHOST), "{listener:?}");
        assert!(owner(listener.inode).is_some_and(|o| o.ends_with(&format!("(pid {})", std::process::id()))));
        let unconnected = find(PortProtocol::Udp, udp.local_addr().expect("bound").port()).expect("listed");
        assert!(unconnected.is_listening, "{unconnected:?}");
        let connected = find(PortProtocol::Tcp, client.local_addr().expect("bound").port()).expect("listed");
        assert!(!connected.is_listening, "{connected:?}");
        assert_eq!(owner(u64::MAX), None);
    }

    #[test]
    fn lines_that_are_none_say_nothing() {
        let heading =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(parse(heading, PortProtocol::Tcp), None);
        let both = "1: 00000000000000000000000000000000:0050 0000:0000 0A 0:0 00:0 0 0 0 77 1";
        let socket = parse(both, PortProtocol::Tcp).expect("a socket");
        assert_eq!((socket.address.is_unspecified(), socket.port, socket.inode), (true, 80, 77));
    }
}
