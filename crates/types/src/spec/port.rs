//! What published ports have in common, and how they are written.

use std::{fmt, net::IpAddr};

use crate::{PortBind, PortConfig, PortProtocol};

impl PortProtocol {
    /// The word of API and command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl PortBind {
    /// Whether a node may have an address that is in both, so that one number cannot be published at both. An
    /// interface may have any address; two interfaces share none. `0.0.0.0` and `::` are all addresses of their family.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(two)) => {
                let is_one_all = one.is_unspecified() || two.is_unspecified();
                one == two || (is_one_all && one.is_ipv4() == two.is_ipv4())
            }
            (Self::Interface(one), Self::Interface(two)) => one == two,
            _ => true,
        }
    }
}

impl PortConfig {
    /// Where it is published, or for a port without a number what: `8080/tcp`, `127.0.0.1:8080/tcp`, `eth0:8080/udp`.
    pub fn place(&self) -> String {
        let number = self.published.unwrap_or(self.target);
        let bind = match &self.bind {
            PortBind::All => String::new(),
            PortBind::Address(IpAddr::V6(address)) => format!("[{address}]:"),
            PortBind::Address(address) => format!("{address}:"),
            PortBind::Interface(name) => format!("{name}:"),
        };
        format!("{bind}{number}/{}", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublishMode;

    #[test]
    fn p32_two_addresses_and_two_interfaces_are_apart_and_nothing_else() {
        let address = |text: &str| PortBind::Address(text.parse().expect("address"));
        let interface = |name: &str| PortBind::Interface(name.to_owned());
        assert!(!address("192.0.2.1").overlaps(&address("192.0.2.2")));
        assert!(!address("192.0.2.1").overlaps(&address("::1")));
        assert!(!address("0.0.0.0").overlaps(&address("::")));
        assert!(!address("0.0.0.0").overlaps(&address("::1")));
        assert!(!interface("eth0").overlaps(&interface("eth1")));
        let overlapping = [
            (PortBind::All, PortBind::All),
            (PortBind::All, address("::1")),
            (interface("eth0"), PortBind::All),
            (interface("eth0"), address("192.0.2.1")),
            (address("::1"), address("::1")),
            (address("::1"), address("::")),
            (address("0.0.0.0"), PortBind::All),
            (interface("eth0"), interface("eth0")),
        ];
        for (one, two) in overlapping {
            assert!(one.overlaps(&two) && two.overlaps(&one), "{one:?} {two:?}");
        }
    }

    #[test]
    fn places_read_as_users_write_them() {
        let port =
            |bind| PortConfig { bind, ..PortConfig::new(PortProtocol::Tcp, 80, Some(8080), PublishMode::Ingress) };
        assert_eq!(port(PortBind::All).place(), "8080/tcp");
        assert_eq!(port(PortBind::Address([127, 0, 0, 1].into())).place(), "127.0.0.1:8080/tcp");
        assert_eq!(port(PortBind::Address("::1".parse().expect("address"))).place(), "[::1]:8080/tcp");
        assert_eq!(port(PortBind::Interface("eth0".to_owned())).place(), "eth0:8080/tcp");
        assert_eq!(PortConfig { published: None, ..port(PortBind::All) }.place(), "80/tcp");
    }
}
