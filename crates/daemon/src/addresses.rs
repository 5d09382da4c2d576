//! Which address this host listens on and is known by (parity C-02 to C-04).
//!
//! Called once per init or join. Pure but for [`interfaces`] and [`towards`], which ask the kernel.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
};

use types::DEFAULT_CONTROL_PORT;

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    pub interface: String,
    pub address: IpAddr,
}

/// Why no address could be chosen. The text names the flag that settles it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("{flag} {text:?} is neither an address, an address:port, nor an interface of this host ({interfaces})")]
    Unknown { flag: &'static str, text: String, interfaces: String },
    #[error("{flag} names the interface {interface}, which has several addresses ({addresses}); say which one")]
    Ambiguous { flag: &'static str, interface: String, addresses: String },
    #[error(
        "could not choose an address to advertise: this host has several ({addresses}); say which one with --advertise-addr"
    )]
    Several { addresses: String },
    #[error("could not choose an address to advertise: this host has none but loopback; say one with --advertise-addr")]
    NoAddress,
    #[error("{flag} must be an address that other hosts can reach, not {address}")]
    Unspecified { flag: &'static str, address: IpAddr },
}

/// All addresses of interfaces that are up, except loopback, link-local ones and those of container
/// bridges, which no other host can reach.
pub fn interfaces() -> std::io::Result<Vec<InterfaceAddress>> {
    let mut found = Vec::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let up = entry.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP);
        let Some(storage) = entry.address.filter(|_| up) else { continue };
        let address = if let Some(v4) = storage.as_sockaddr_in() {
            IpAddr::V4(v4.ip())
        } else if let Some(v6) = storage.as_sockaddr_in6() {
            IpAddr::V6(v6.ip())
        } else {
            continue;
        };
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let bridge =
            ["docker", "br-", "rswarm", "rs-", "veth", "cni"].iter().any(|p| entry.interface_name.starts_with(p));
        if !address.is_loopback() && !link_local && !bridge {
            found.push(InterfaceAddress { interface: entry.interface_name, address });
        }
    }
    Ok(found)
}

/// The address this host sends from when it speaks to `peer` (`host:port`). Sends nothing.
pub fn towards(peer: &str) -> std::io::Result<IpAddr> {
    let target = peer.to_socket_addrs()?.next();
    let target = target.ok_or_else(|| std::io::Error::other(format!("{peer} has no address")))?;
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

/// Where the manager listens: `--listen-addr`, default every address and port 2377.
pub fn listen_address(text: &str, interfaces: &[InterfaceAddress]) -> Result<SocketAddr, AddressError> {
    if text.is_empty() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_CONTROL_PORT));
    }
    let (address, port) = parse("--listen-addr", text, interfaces)?;
    Ok(SocketAddr::new(address, port.unwrap_or(DEFAULT_CONTROL_PORT)))
}

/// All addresses of IPv4 are none of IPv6: who is called by one of the latter listens at those too (P23).
pub fn within_reach(listen: SocketAddr, advertise: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(any) if any.is_unspecified() && advertise.is_ipv6() => {
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), listen.port())
        }
        _ => listen,
    }
}

/// What other hosts call this one: `--advertise-addr`, or the one address this host has, or the
/// one it reaches its manager from (`towards_manager`, on join).
pub fn advertise_address(
    text: &str,
    listen: SocketAddr,
    towards_manager: Option<IpAddr>,
    interfaces: &[InterfaceAddress],
) -> Result<SocketAddr, AddressError> {
    let flag = "--advertise-addr";
    if !text.is_empty() {
        let (address, port) = parse(flag, text, interfaces)?;
        if address.is_unspecified() {
            return Err(AddressError::Unspecified { flag, address });
        }
        return Ok(SocketAddr::new(address, port.unwrap_or(listen.port())));
    }
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    if let Some(address) = towards_manager {
        return Ok(SocketAddr::new(address, listen.port()));
    }
    let v4: Vec<_> = interfaces.iter().filter(|i| i.address.is_ipv4()).collect();
    let candidates = if v4.is_empty() { interfaces.iter().collect() } else { v4 };
    match candidates[..] {
        [] => Err(AddressError::NoAddress),
        [one] => Ok(SocketAddr::new(one.address, listen.port())),
        _ => Err(AddressError::Several { addresses: list(&candidates) }),
    }
}

/// Where the data plane is reached: `--data-path-addr`, default the advertised address.
pub fn data_address(text: &str, advertise: IpAddr, interfaces: &[InterfaceAddress]) -> Result<IpAddr, AddressError> {
    let flag = "--data-path-addr";
    if text.is_empty() {
        return Ok(advertise);
    }
    let (address, _) = parse(flag, text, interfaces)?;
    if address.is_unspecified() {
        return Err(AddressError::Unspecified { flag, address });
    }
    Ok(address)
}

fn parse(
    flag: &'static str,
    text: &str,
    interfaces: &[InterfaceAddress],
) -> Result<(IpAddr, Option<u16>), AddressError> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok((address, None));
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok((socket.ip(), Some(socket.port())));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse::<u16>().ok()),
        None => (text, None),
    };
    let of_interface: Vec<_> = interfaces.iter().filter(|i| i.interface == name).collect();
    let v4: Vec<_> = of_interface.iter().copied().filter(|i| i.address.is_ipv4()).collect();
    let bad_port = text.contains(':') && port.is_none();
    match (v4.as_slice(), of_interface.as_slice()) {
        _ if bad_port => Err(unknown(flag, text, interfaces)),
        ([one], _) | ([], [one]) => Ok((one.address, port)),
        ([], []) => Err(unknown(flag, text, interfaces)),
        _ => Err(AddressError::Ambiguous { flag, interface: name.to_owned(), addresses: list(&of_interface) }),
    }
}

fn unknown(flag: &'static str, text: &str, interfaces: &[InterfaceAddress]) -> AddressError {
    let interfaces = list(&interfaces.iter().collect::<Vec<_>>());
    AddressError::Unknown { flag, text: text.to_owned(), interfaces }
}

fn list(interfaces: &[&InterfaceAddress]) -> String {
    let mut text = String::new();
    for (number, entry) in interfaces.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{} on {}", entry.address, entry.interface);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(addresses: &[(&str, &str)]) -> Vec<InterfaceAddress> {
        let parse = |(interface, address): &(&str, &str)| InterfaceAddress {
            interface: (*interface).to_owned(),
            address: address.parse().expect("test address"),
        };
        addresses.iter().map(parse).collect()
    }

    const ANY: &str = "0.0.0.0:2377";

    fn advertise(text: &str, listen: &str, host: &[InterfaceAddress]) -> String {
        let listen = listen.parse().expect("test address");
        advertise_address(text, listen, None, host).map_or_else(|e| e.to_string(), |a| a.to_string())
    }

    #[test]
    fn c_03_one_address_is_taken_several_are_asked_about() {
        let one = host(&[("eth0", "10.0.0.5"), ("eth0", "fd00::5")]);
        let two = host(&[("eth0", "10.0.0.5"), ("eth1", "192.168.1.5")]);
        assert_eq!(advertise("", ANY, &one), "10.0.0.5:2377");
        assert!(advertise("", ANY, &two).contains("10.0.0.5 on eth0, 192.168.1.5 on eth1"));
        assert!(advertise("", ANY, &[]).contains("--advertise-addr"));
        assert_eq!(advertise("eth1", ANY, &two), "192.168.1.5:2377");
        assert_eq!(advertise("eth1:4000", ANY, &two), "192.168.1.5:4000");
        assert_eq!(advertise("", "10.0.0.5:99", &two), "10.0.0.5:99");
        assert_eq!(advertise("[fd00::5]:1", ANY, &two), "[fd00::5]:1");
    }

    #[test]
    fn p23_who_is_called_by_ipv6_listens_there() {
        let listens = |listen: &str, advertise: &str| {
            let parse = |text: &str| text.parse().expect("test address");
            within_reach(parse(listen), parse(advertise)).to_string()
        };
        assert_eq!(listens(ANY, "[fd00::5]:2377"), "[::]:2377");
        assert_eq!(listens(ANY, "10.0.0.5:2377"), ANY);
        assert_eq!(listens("10.0.0.5:99", "[fd00::5]:99"), "10.0.0.5:99", "as it was asked for");
    }

    /// C-02, C-04: every place that can be named at init and join.
    #[test]
    fn bad_addresses_name_the_flag() {
        let one = host(&[("eth0", "10.0.0.5")]);
        for bad in ["nonsense", "eth0:x", "0.0.0.0", "1.2.3"] {
            assert!(advertise(bad, ANY, &one).contains("--advertise-addr"), "{bad}");
        }
        assert!(listen_address("eth7", &one).expect_err("no such interface").to_string().contains("--listen-addr"));
        let data = data_address("::", "10.0.0.5".parse().expect("address"), &one);
        assert!(data.expect_err("unspecified").to_string().contains("--data-path-addr"));
    }
}
