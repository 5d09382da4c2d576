//! The same for IPv6: which subnet, and which address for whom. Pure.
//!
//! As in [`crate::Ipam`], nothing here remembers anything: the same question always has the same answer.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    Cidr,
    ipam::{hash, overlap},
};

/// Subnets of their own choice that are tried: two of them are alike with a probability of one in 2^56, so more help
/// nobody whose routes lead all of fd00::/8 elsewhere.
const TRIES: u8 = 16;
/// What is chosen has this prefix, as every IPv6 link has.
const PREFIX: u8 = 64;
/// Addresses are looked for from a place among so many, so that they stay short where the subnet allows it.
const SPREAD: u128 = 1 << 32;

/// Why no IPv6 subnet or address could be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ipam6Error {
    #[error("{0} is not an IPv6 subnet with room for a gateway and an endpoint (prefix 1 to 126)")]
    Subnet(Cidr),
    #[error(
        "{0} holds addresses that are each link's own, or no host's: take one of fd00::/8, or one that you were given"
    )]
    Scope(Cidr),
    #[error("the gateway {gateway} is not a host address of the subnet {subnet}")]
    Gateway { gateway: Ipv6Addr, subnet: Cidr },
    #[error("no free address in {subnet}: all are taken; remove a container or choose a larger subnet")]
    Exhausted { subnet: Cidr },
    #[error(
        "every IPv6 subnet of fd00::/8 that was tried overlaps a route or an address of this host ({with}): name a free one"
    )]
    NoSubnet { with: Cidr },
}

/// A unique local /64 (RFC 4193) that depends on `seed` alone, unless that overlaps something that is taken.
///
/// # Errors
/// [`Ipam6Error::NoSubnet`] names the last overlap when all that were tried are in use.
pub fn choose_ipv6_subnet(seed: &str, taken: &[Cidr]) -> Result<Cidr, Ipam6Error> {
    let mut overlapped = None;
    for attempt in 0..TRIES {
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("{seed} {attempt}").as_bytes());
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..8].copy_from_slice(&digest.as_ref()[..7]);
        let subnet = Cidr::new(IpAddr::from(octets), PREFIX).expect("64 bits fit an IPv6 address");
        match overlap(subnet, taken) {
            None => return Ok(subnet),
            with => overlapped = with,
        }
    }
    Err(Ipam6Error::NoSubnet { with: overlapped.expect("every try had an overlap") })
}

/// Hands out the addresses of one IPv6 subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipam6 {
    /// All but the first address of the subnet, which is every router's there (RFC 4291, section 2.6.1).
    first: u128,
    last: u128,
    gateway: Ipv6Addr,
    subnet: Cidr,
}

impl Ipam6 {
    /// Addresses of `subnet`, of which the first host address is the gateway.
    ///
    /// # Errors
    /// When it is not IPv6, has no room, or its addresses cannot be an endpoint's.
    pub fn new(subnet: Cidr) -> Result<Self, Ipam6Error> {
        let subnet = subnet.network();
        let (IpAddr::V6(network), IpAddr::V6(last)) = (subnet.address(), subnet.last()) else {
            return Err(Ipam6Error::Subnet(subnet));
        };
        if !(1..=126).contains(&subnet.prefix()) {
            return Err(Ipam6Error::Subnet(subnet));
        }
        let special = ["fe80::/10", "ff00::/8", "::/127", "::ffff:0:0/96"];
        if special.iter().any(|range| range.parse::<Cidr>().is_ok_and(|range| range.overlaps(subnet))) {
            return Err(Ipam6Error::Scope(subnet));
        }
        let first = u128::from(network) + 1;
        Ok(Self { first, last: last.into(), gateway: first.into(), subnet })
    }

    /// The same with a gateway of the caller's choice.
    ///
    /// # Errors
    /// As [`Ipam6::new`]; [`Ipam6Error::Gateway`] when it is not a host address of the subnet.
    pub fn with_gateway(subnet: Cidr, gateway: Ipv6Addr) -> Result<Self, Ipam6Error> {
        let ipam = Self { gateway, ..Self::new(subnet)? };
        if !ipam.is_host_address(gateway) {
            return Err(Ipam6Error::Gateway { gateway, subnet: ipam.subnet });
        }
        Ok(ipam)
    }

    pub const fn gateway(&self) -> Ipv6Addr {
        self.gateway
    }

    /// Whether an endpoint or a gateway may have this address.
    pub fn is_host_address(&self, address: Ipv6Addr) -> bool {
        (self.first..=self.last).contains(&address.into())
    }

    /// A free address for `id`, as [`crate::Ipam::allocate`] gives it; of this part of the subnet only.
    ///
    /// # Errors
    /// [`Ipam6Error::Exhausted`] when every address is taken.
    pub fn allocate(&self, part: Option<Cidr>, taken: &BTreeSet<Ipv6Addr>, id: &str) -> Result<Ipv6Addr, Ipam6Error> {
        let subnet = part.unwrap_or(self.subnet);
        let (IpAddr::V6(first), IpAddr::V6(last)) = (subnet.network().address(), subnet.last()) else {
            return Err(Ipam6Error::Subnet(subnet));
        };
        let (first, last) = (u128::from(first).max(self.first), u128::from(last).min(self.last));
        let exhausted = Ipam6Error::Exhausted { subnet };
        let Some(usable) = last.checked_sub(first).map(|more| more.saturating_add(1)) else { return Err(exhausted) };
        let start = u128::from(hash(id)) % usable.min(SPREAD);
        // One more than can be taken, the gateway included: more cannot be needed.
        let tries = usable.min(taken.len() as u128 + 2);
        let address = |step: u128| Ipv6Addr::from(first + (start + step) % usable);
        let is_free = |address: &Ipv6Addr| *address != self.gateway && !taken.contains(address);
        (0..tries).map(address).find(is_free).ok_or(exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect(text)
    }

    /// E-31: stable, of fd00::/8, and never where the host has something.
    #[test]
    fn e31_a_subnet_of_its_own_is_chosen() {
        let one = choose_ipv6_subnet("a", &[]).expect("free");
        assert_eq!(choose_ipv6_subnet("a", &[]), Ok(one));
        assert!(one.prefix() == 64 && cidr("fd00::/8").contains(one.address()), "{one}");
        assert_ne!(choose_ipv6_subnet("b", &[]).expect("free"), one);
        let other = choose_ipv6_subnet("a", &[cidr("10.0.0.0/8"), one]).expect("another");
        assert!(!other.overlaps(one));
        let error = choose_ipv6_subnet("a", &[cidr("fd00::/8")]).expect_err("all elsewhere").to_string();
        assert!(error.contains("(fd00::/8)"), "{error}");
    }

    #[test]
    fn e31_every_address_is_given_once_and_never_the_gateway() {
        let ipam = Ipam6::new(cidr("fd00:1::/124")).expect("room");
        let mut taken = BTreeSet::new();
        while let Ok(address) = ipam.allocate(None, &taken, "x") {
            assert_eq!(ipam.allocate(None, &taken, "x"), Ok(address), "the same question has the same answer");
            assert!(ipam.is_host_address(address) && taken.insert(address));
        }
        assert_eq!(taken.len(), 14, "all but the router's and the gateway's");
        let ipam = Ipam6::with_gateway(cidr("fd00:1::/64"), "fd00:1::a".parse().expect("address")).expect("room");
        let mut taken = BTreeSet::new();
        while let Ok(address) = ipam.allocate(Some(cidr("fd00:1::8/126")), &taken, "x") {
            taken.insert(address);
        }
        let texts: Vec<String> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["fd00:1::8", "fd00:1::9", "fd00:1::b"], "of the range, and not the gateway");
        let wide =
            Ipam6::new(cidr("fd00:1::/64")).expect("room").allocate(None, &BTreeSet::new(), "web").expect("free");
        assert!(cidr("fd00:1::/96").contains(wide.into()), "short: {wide}");
    }

    #[test]
    fn e31_bad_subnets_and_gateways_are_refused() {
        for bad in ["10.0.0.0/24", "fd00::/127", "fd00::/128", "::/0"] {
            assert!(matches!(Ipam6::new(cidr(bad)), Err(Ipam6Error::Subnet(_))), "{bad}");
        }
        for bad in ["fe80::/64", "ff05::/16", "::/64", "::ffff:10.0.0.0/104"] {
            assert!(matches!(Ipam6::new(cidr(bad)), Err(Ipam6Error::Scope(_))), "{bad}");
        }
        for bad in ["fd00:1::", "fd00:2::1"] {
            let gateway = bad.parse().expect("address");
            let refused = Ipam6::with_gateway(cidr("fd00:1::/64"), gateway);
            assert!(matches!(refused, Err(Ipam6Error::Gateway { .. })), "{bad}");
        }
    }
}
