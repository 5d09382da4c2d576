//! An address with a prefix length, such as `172.17.0.1/16`. Pure.
//!
//! Used for subnets (host bits ignored by every comparison) and for interface addresses (host bits
//! matter). Written and read as text, in JSON too, so that a plan on disk can be read by a person.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An IP address and the length of its network prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not `address/prefix`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("{0:?} is not of the form ADDRESS/PREFIX, for example 172.17.0.0/16")]
    Form(String),
    #[error("prefix length {0} is longer than an address of this family ({1} bits)")]
    Prefix(u8, u8),
}

impl Cidr {
    /// An address in a network of `prefix` bits.
    ///
    /// # Errors
    /// [`CidrError::Prefix`] when the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let bits = bits_of(address);
        if prefix > bits {
            return Err(CidrError::Prefix(prefix, bits));
        }
        Ok(Self { address, prefix })
    }

    /// The address as given, host bits included.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Length of the network part, in bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The same network with all host bits zero.
    pub fn network(self) -> Self {
        Self { address: masked(self.address, self.prefix), prefix: self.prefix }
    }

    /// The last address of the network: all host bits one.
    pub fn last(self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4((u32::from(v4) | host).into())
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((u128::from(v6) | host).into())
            }
        }
    }

    /// Whether `address` is in this network. Addresses of the other family never are.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == masked(self.address, self.prefix)
    }

    /// Whether the two networks share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let (wide, narrow) = if self.prefix <= other.prefix { (self, other) } else { (other, self) };
        wide.contains(narrow.address)
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let form = || CidrError::Form(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        Self::new(address.parse().map_err(|_| form())?, prefix.parse().map_err(|_| form())?)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect(text)
    }

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        assert_eq!(cidr("172.17.0.1/16").to_string(), "172.17.0.1/16");
        assert_eq!(cidr("172.17.3.1/16").network().to_string(), "172.17.0.0/16");
        assert_eq!(cidr("fd00::1/8").network().to_string(), "fd00::/8");
        assert_eq!(cidr("10.0.1.7/24").last().to_string(), "10.0.1.255");
        assert_eq!(cidr("10.0.1.7/32").last().to_string(), "10.0.1.7");
        assert_eq!(cidr("0.0.0.0/0").last().to_string(), "255.255.255.255");
        assert!(matches!("172.17.0.1".parse::<Cidr>(), Err(CidrError::Form(_))));
        assert!(matches!("172.17.0.1/33".parse::<Cidr>(), Err(CidrError::Prefix(33, 32))));
        assert!(matches!("1.2.3/8".parse::<Cidr>(), Err(CidrError::Form(_))));
    }

    #[test]
    fn overlap_is_symmetric_and_by_family() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.200.1.0/24")));
        assert!(cidr("10.200.1.0/24").overlaps(cidr("10.0.0.0/8")));
        assert!(!cidr("10.0.0.0/16").overlaps(cidr("10.1.0.0/16")));
        assert!(!cidr("0.0.0.0/0").overlaps(cidr("fd00::/8")));
        assert!(cidr("0.0.0.0/0").overlaps(cidr("192.0.2.0/24")));
    }
}
