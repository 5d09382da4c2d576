//! Address management of one host's bridge: which subnet, and which address for whom. Pure.
//!
//! The node crate calls it with what it knows (the host's routes, the addresses taken) and keeps the
//! answers; nothing here remembers anything, so the same question always has the same answer.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use crate::Cidr;

/// Why no subnet or no address could be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    #[error(
        "all {pools} subnets of the address pools overlap a route or an address of this host \
         (the last one tried, {last}, overlaps {with}): name a free subnet in the configuration"
    )]
    NoSubnet { pools: usize, last: Cidr, with: Cidr },
    #[error("the list of address pools is empty: name at least one subnet in the configuration")]
    NoPools,
    #[error("{0} is not an IPv4 subnet with room for a gateway and an endpoint (prefix 1 to 30)")]
    Subnet(Cidr),
    #[error("the gateway {gateway} is not a host address of the subnet {subnet}")]
    Gateway { gateway: Ipv4Addr, subnet: Cidr },
    #[error("no free address in {subnet}: all {usable} are taken; remove a container or choose a larger subnet")]
    Exhausted { subnet: Cidr, usable: u32 },
}

/// The subnets Docker tries for a bridge, in its order: 172.17-31.0.0/16, then the sixteen /20 of 192.168.0.0/16
/// (documented defaults of dockerd's `default-address-pools`).
pub fn default_pools() -> Vec<Cidr> {
    let wide = (17..=31).map(|second| v4(172, second, 0, 16));
    let narrow = (0..=240).step_by(16).map(|third| v4(192, 168, third, 20));
    wide.chain(narrow).collect()
}

fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Cidr {
    Cidr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, 0)), prefix).expect("a prefix of at most 32 fits an IPv4 address")
}

/// The first pool that overlaps nothing the host already routes to or has an address in.
///
/// `host_routes` are the destinations of the host's routes and the networks of its addresses; a
/// default route (prefix 0) says nothing about what is in use and is ignored.
///
/// # Errors
/// [`IpamError::NoSubnet`] names the last overlap when every pool is in use.
pub fn choose_subnet(pools: &[Cidr], host_routes: &[Cidr]) -> Result<Cidr, IpamError> {
    let mut last = None;
    for pool in pools {
        match overlap(*pool, host_routes) {
            None => return Ok(pool.network()),
            Some(with) => last = Some((*pool, with)),
        }
    }
    let (last, with) = last.ok_or(IpamError::NoPools)?;
    Err(IpamError::NoSubnet { pools: pools.len(), last, with })
}

/// The route or address of the host that `subnet` would overlap, if any.
pub fn overlap(subnet: Cidr, host_routes: &[Cidr]) -> Option<Cidr> {
    host_routes.iter().copied().find(|route| route.prefix() > 0 && route.overlaps(subnet))
}

/// Hands out the addresses of one IPv4 subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipam {
    first: u32,
    /// Addresses between the network address and the broadcast address, both excluded.
    usable: u32,
    gateway: Ipv4Addr,
    subnet: Cidr,
}

impl Ipam {
    /// Addresses of `subnet`, of which the first host address is the gateway.
    ///
    /// # Errors
    /// [`IpamError::Subnet`] when it is not IPv4 or has no room.
    pub fn new(subnet: Cidr) -> Result<Self, IpamError> {
        let (network, usable) = host_range(subnet)?;
        Ok(Self { first: network + 1, usable, gateway: Ipv4Addr::from(network + 1), subnet: subnet.network() })
    }

    /// The same with a gateway of the caller's choice.
    ///
    /// # Errors
    /// As [`Ipam::new`]; [`IpamError::Gateway`] when it is not a host address of the subnet.
    pub fn with_gateway(subnet: Cidr, gateway: Ipv4Addr) -> Result<Self, IpamError> {
        let ipam = Self { gateway, ..Self::new(subnet)? };
        if !ipam.is_host_address(gateway) {
            return Err(IpamError::Gateway { gateway, subnet: ipam.subnet });
        }
        Ok(ipam)
    }

    /// A free address as [`Ipam::allocate`] gives it, of this part of the subnet only.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`] when every address in it is taken.
    pub fn allocate_in(&self, part: Cidr, taken: &BTreeSet<Ipv4Addr>, id: &str) -> Result<Ipv4Addr, IpamError> {
        let (IpAddr::V4(first), IpAddr::V4(last)) = (part.network().address(), part.last()) else {
            return Err(IpamError::Subnet(part));
        };
        let end = u64::from(self.first) + u64::from(self.usable);
        let first = u32::from(first).max(self.first);
        let usable = (u64::from(u32::from(last)) + 1).min(end).saturating_sub(first.into()) as u32;
        match usable {
            0 => Err(IpamError::Exhausted { subnet: part, usable: 0 }),
            usable => Self { first, usable, ..*self }
                .allocate(taken, id)
                .map_err(|_| IpamError::Exhausted { subnet: part, usable }),
        }
    }

    pub const fn subnet(&self) -> Cidr {
        self.subnet
    }

    pub const fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Whether an endpoint or a gateway may have this address.
    pub fn is_host_address(&self, address: Ipv4Addr) -> bool {
        u32::from(address).checked_sub(self.first).is_some_and(|offset| offset < self.usable)
    }

    /// A free address for `id`: always the same one for the same id and the same `taken`.
    ///
    /// The search starts at a place that depends on the id alone, so that an address just given back
    /// is rarely given to the next one and a packet meant for the old owner rarely reaches a new one.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`] when every address is taken.
    pub fn allocate(&self, taken: &BTreeSet<Ipv4Addr>, id: &str) -> Result<Ipv4Addr, IpamError> {
        let start = hash(id) % self.usable;
        (0..self.usable)
            .map(|step| {
                let offset = (u64::from(start) + u64::from(step)) % u64::from(self.usable);
                Ipv4Addr::from(self.first + offset as u32)
            })
            .find(|address| *address != self.gateway && !taken.contains(address))
            .ok_or(IpamError::Exhausted { subnet: self.subnet, usable: self.usable - 1 })
    }
}

/// The network address as a number, and how many host addresses follow it.
fn host_range(subnet: Cidr) -> Result<(u32, u32), IpamError> {
    match subnet.network().address() {
        IpAddr::V4(network) if (1..=30).contains(&subnet.prefix()) => {
            Ok((u32::from(network), (1u32 << (32 - u32::from(subnet.prefix()))) - 2))
        }
        _ => Err(IpamError::Subnet(subnet)),
    }
}

/// FNV-1a, 32 bits: stable over versions and machines, which `std`'s hasher does not promise.
pub(crate) fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|t| t.parse().expect(t)).collect()
    }

    #[test]
    fn a_pool_that_overlaps_the_host_is_skipped() {
        let pools = default_pools();
        assert_eq!(pools.len(), 31);
        let choose = |routes: &[&str]| choose_subnet(&pools, &cidrs(routes)).map(|s| s.to_string());
        assert_eq!(choose(&["0.0.0.0/0", "192.0.2.0/24"]), Ok("172.17.0.0/16".to_owned()));
        assert_eq!(choose(&["172.17.5.0/24"]), Ok("172.18.0.0/16".to_owned()));
        assert_eq!(choose(&["10.0.0.0/16", "172.16.0.0/12", "192.168.1.7/32"]), Ok("192.168.16.0/20".to_owned()));
    }

    #[test]
    fn no_pool_left_names_the_overlap() {
        let error = choose_subnet(&cidrs(&["172.17.0.0/16"]), &cidrs(&["172.16.0.0/12"])).expect_err("overlap");
        assert!(error.to_string().contains("172.17.0.0/16, overlaps 172.16.0.0/12"), "{error}");
        assert_eq!(choose_subnet(&[], &[]), Err(IpamError::NoPools));
    }

    #[test]
    fn every_address_is_given_once_and_never_the_gateway() {
        let ipam = Ipam::new("10.9.8.0/28".parse().expect("subnet")).expect("ipam");
        let mut taken = BTreeSet::new();
        for n in 0..13 {
            let id = format!("task{n}");
            let address = ipam.allocate(&taken, &id).expect("free");
            assert_eq!(ipam.allocate(&taken, &id), Ok(address), "the same question has the same answer");
            assert!(ipam.is_host_address(address) && address != ipam.gateway());
            assert!(taken.insert(address));
        }
        let error = ipam.allocate(&taken, "one more").expect_err("full");
        assert!(error.to_string().starts_with("no free address in 10.9.8.0/28: all 13 are taken"), "{error}");
    }

    #[test]
    fn e31_a_range_bounds_what_is_given_out() {
        let ipam = Ipam::new("10.9.8.0/24".parse().expect("subnet")).expect("room");
        let part = "10.9.8.0/30".parse().expect("range");
        let mut taken = BTreeSet::new();
        while let Ok(address) = ipam.allocate_in(part, &taken, "x") {
            taken.insert(address);
        }
        assert_eq!(
            taken,
            [[10, 9, 8, 2], [10, 9, 8, 3]].map(Ipv4Addr::from).into(),
            "not the gateway, not the network"
        );
        let error = ipam.allocate_in(part, &taken, "x").expect_err("full");
        assert_eq!(
            error.to_string(),
            "no free address in 10.9.8.0/30: all 3 are taken; remove a container or choose a larger subnet"
        );
        assert!(ipam.allocate_in("10.9.9.0/24".parse().expect("range"), &taken, "x").is_err(), "elsewhere");
    }

    #[test]
    fn bad_subnets_and_gateways_are_refused() {
        for bad in ["10.0.0.0/31", "10.0.0.0/32", "0.0.0.0/0", "fd00::/64"] {
            assert!(matches!(Ipam::new(bad.parse().expect(bad)), Err(IpamError::Subnet(_))), "{bad}");
        }
        let subnet = "10.9.8.0/24".parse().expect("subnet");
        assert!(Ipam::with_gateway(subnet, Ipv4Addr::new(10, 9, 8, 254)).is_ok());
        for bad in [[10, 9, 8, 0], [10, 9, 8, 255], [10, 9, 9, 1]] {
            assert!(matches!(Ipam::with_gateway(subnet, bad.into()), Err(IpamError::Gateway { .. })));
        }
    }
}
