//! An Ethernet address, and the rule that derives it from an IPv4 address. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An Ethernet (MAC) address, written `02:42:ac:11:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

/// Why a text is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address, which looks like 02:42:ac:11:00:02")]
pub struct MacError(String);

impl MacAddress {
    /// The address Docker gives to an interface with this IPv4 address: `02:42` and its four bytes.
    ///
    /// The same address keeps the same MAC when it moves to another container, so neighbours never
    /// hold a wrong entry.
    pub const fn for_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// The same of an IPv6 address, whose bits do not all fit: of two in one network it is the same with a probability of
    /// one in four thousand million.
    pub const fn for_ipv6(address: Ipv6Addr) -> Self {
        let [a, b, c, d, ..] = mixed(address).to_be_bytes();
        Self([0x02, 0x42, a, b, c, d])
    }

    pub const fn for_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::for_ipv4(address),
            IpAddr::V6(address) => Self::for_ipv6(address),
        }
    }

    /// The address of a node's own port in the ingress network: `02:d2` and 31 bits of its id, which are random.
    /// The bit that is set in all of them tells the mark of a connection through the mesh from no mark.
    ///
    /// Two nodes of one cluster share it with a probability of nodes² / 2³²: one in 4,300 with a thousand nodes.
    #[allow(clippy::cast_possible_truncation)] // the low bits of the id are what is wanted
    pub const fn for_node(node: types::NodeId) -> Self {
        let [a, b, c, d] = (node.as_u128() as u32).to_be_bytes();
        Self([0x02, 0xd2, a, b, c, d | 0x80])
    }

    /// Whether it is of the kind that [`MacAddress::for_node`] gives.
    pub const fn is_of_node(self) -> bool {
        matches!(self.0, [0x02, 0xd2, _, _, _, last] if last & 0x80 != 0)
    }

    pub const fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

/// The golden ratio in 128 bits, and of the product the upper half: all bits of the address count.
pub(crate) const fn mixed(address: Ipv6Addr) -> u128 {
    let bits = address.to_bits();
    (bits ^ (bits >> 64)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let bad = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_address_is_known_as_such() {
        for id in [0, 1, 0x1234_5678, u128::MAX] {
            assert!(MacAddress::for_node(types::NodeId::from_random(id)).is_of_node(), "{id}");
        }
        assert!(!MacAddress::for_ipv4(Ipv4Addr::new(172, 17, 0, 200)).is_of_node());
        assert!(!MacAddress::from_bytes([0x02, 0xd2, 0, 0, 0, 0]).is_of_node());
    }

    /// E-31: where there is no IPv4 address it is made of the other, and so the same whenever it is asked for.
    #[test]
    fn e31_one_is_made_of_an_ipv6_address() {
        let of = |text: &str| MacAddress::for_address(text.parse().expect("address"));
        assert_eq!(of("fd00:1::2"), of("fd00:1::2"));
        assert!(of("fd00:1::2") != of("fd00:1::3") && of("fd00:1::2") != of("fd00:2::2"));
        assert_eq!(of("fd00:1::2").bytes()[..2], of("10.0.0.1").bytes()[..2]);
    }

    #[test]
    fn text_round_trips() {
        let mac = MacAddress::for_ipv4(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:0:2", "zz:42:ac:11:00:02"] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
