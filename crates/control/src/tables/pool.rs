//! The free addresses of one network, as stretches, so that giving out and taking back cost a look-up.
//!
//! Kept by the index from what tasks and services hold; which address is free follows from them alone. The
//! place to go on from (an address given back is not the next to be given out) is part of the value, so that
//! a new leader goes on where the old one was.

use std::net::IpAddr;

use imbl::OrdMap;
use types::{Cidr, Network, Subnet, SubnetUsage};

/// One stretch list per subnet, in the order of the network's subnets: those of one family are neighbours, and who has a
/// place has one address of each family.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    subnets: Vec<SubnetPool>,
}

#[derive(Debug, Clone)]
struct SubnetPool {
    range: Cidr,
    /// First to last address of each free stretch.
    free: OrdMap<u128, u128>,
    usage: SubnetUsage,
    /// The address given out last, but for those that were asked for.
    cursor: u128,
}

/// No address of a family is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// All of the family.
    pub(crate) subnets: Vec<Cidr>,
    /// Of all together.
    pub(crate) total: u64,
}

/// Why addresses cannot be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unavailable {
    Exhausted(Exhausted),
    /// Somebody has it, or it is not to be given out.
    Taken(IpAddr),
    /// Of no subnet of the network.
    Outside(IpAddr),
}

impl Pool {
    pub(super) fn new(network: &Network) -> Self {
        Self { subnets: network.subnets.iter().map(SubnetPool::new).collect() }
    }

    /// One more, behind the others of its family as in [`Network::add_subnet`].
    pub(super) fn add(&mut self, subnet: &Subnet) {
        let new = SubnetPool::new(subnet);
        let behind = self.subnets.iter().rposition(|known| known.is_ipv4() == new.is_ipv4());
        self.subnets.insert(behind.map_or(self.subnets.len(), |at| at + 1), new);
    }

    fn families(&self) -> impl Iterator<Item = &[SubnetPool]> {
        self.subnets.chunk_by(|one, next| one.is_ipv4() == next.is_ipv4())
    }

    /// An address of each family that nobody has.
    pub(crate) fn next(&self) -> Result<Vec<IpAddr>, Exhausted> {
        self.families().map(first_free).collect()
    }

    /// The wanted addresses, and of families of which none is wanted one that nobody has.
    pub(crate) fn choose(&self, wanted: &[IpAddr]) -> Result<Vec<IpAddr>, Unavailable> {
        if let Some(stray) = wanted.iter().find(|address| !self.subnets.iter().any(|s| s.range.contains(**address))) {
            return Err(Unavailable::Outside(*stray));
        }
        let one = |family: &[SubnetPool]| {
            let of_family = |address: &&IpAddr| family.iter().any(|subnet| subnet.range.contains(**address));
            let mut asked = wanted.iter().filter(of_family);
            match (asked.next(), asked.next()) {
                (None, _) => first_free(family).map_err(Unavailable::Exhausted),
                (Some(_), Some(second)) => Err(Unavailable::Taken(*second)),
                (Some(address), None) if has_free(family, *address) => Ok(*address),
                (Some(address), None) => Err(Unavailable::Taken(*address)),
            }
        };
        self.families().map(one).collect()
    }

    /// Whether these are one address of each family, and all free.
    pub(super) fn are_free(&self, addresses: &[IpAddr]) -> bool {
        addresses.len() == self.families().count()
            && self.families().zip(addresses).all(|(family, address)| has_free(family, *address))
    }

    pub(super) fn claim(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            self.of_mut(*address).into_iter().for_each(|subnet| subnet.claim(*address));
        }
    }

    pub(super) fn release(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            self.of_mut(*address).into_iter().for_each(|subnet| subnet.release(*address));
        }
    }

    fn of_mut(&mut self, address: IpAddr) -> Option<&mut SubnetPool> {
        self.subnets.iter_mut().find(|subnet| subnet.range.contains(address))
    }

    /// Addresses in use, the gateway's and reserved ones included, and how many there are.
    pub(crate) fn usage(&self) -> Vec<SubnetUsage> {
        self.subnets.iter().map(|subnet| subnet.usage).collect()
    }

    /// Where the next search begins: for snapshots.
    pub(super) fn cursors(&self) -> Vec<IpAddr> {
        self.subnets.iter().map(|subnet| subnet.address(subnet.cursor)).collect()
    }

    pub(super) fn set_cursors(&mut self, cursors: &[IpAddr]) {
        for (subnet, cursor) in self.subnets.iter_mut().zip(cursors) {
            subnet.cursor = number(*cursor);
        }
    }
}

/// In the order of the subnets: the second gives when the first has none left.
fn first_free(family: &[SubnetPool]) -> Result<IpAddr, Exhausted> {
    family.iter().find_map(SubnetPool::next).ok_or_else(|| Exhausted {
        subnets: family.iter().map(|subnet| subnet.range).collect(),
        total: family.iter().fold(0, |sum, subnet| sum.saturating_add(subnet.usage.total)),
    })
}

fn has_free(family: &[SubnetPool], address: IpAddr) -> bool {
    family.iter().any(|subnet| subnet.is_free(address))
}

impl SubnetPool {
    fn is_ipv4(&self) -> bool {
        self.range.address().is_ipv4()
    }

    fn new(subnet: &Subnet) -> Self {
        let (first, last) = hosts(subnet);
        let free = if first <= last { OrdMap::unit(first, last) } else { OrdMap::new() };
        let total = last.checked_sub(first).map_or(0, |more| more.saturating_add(1));
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        let usage = SubnetUsage { used: 0, total };
        let mut pool = Self { range: subnet.range.network(), free, usage, cursor: 0 };
        for address in subnet.reserved.iter().chain([&subnet.gateway]) {
            pool.claim(*address);
        }
        pool.cursor = 0;
        pool
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.range.address() {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
            IpAddr::V6(_) => IpAddr::V6(number.into()),
        }
    }

    /// The stretch that `number` is in.
    fn stretch(&self, number: u128) -> Option<(u128, u128)> {
        self.free.get_prev(&number).map(|(first, last)| (*first, *last)).filter(|(_, last)| *last >= number)
    }

    fn is_free(&self, address: IpAddr) -> bool {
        self.range.contains(address) && self.stretch(number(address)).is_some()
    }

    fn next(&self) -> Option<IpAddr> {
        let after = self.cursor.saturating_add(1);
        let here = self.stretch(after).map(|_| after);
        let found = here
            .or_else(|| self.free.get_next(&after).map(|(first, _)| *first))
            .or_else(|| self.free.get_min().map(|(first, _)| *first));
        found.map(|number| self.address(number))
    }

    fn claim(&mut self, address: IpAddr) {
        if !self.is_free(address) {
            return;
        }
        let number = number(address);
        // one that somebody asked for does not turn the round back
        let is_next = self.next() == Some(address);
        let Some((first, last)) = self.stretch(number) else { return };
        self.free.remove(&first);
        if first < number {
            self.free.insert(first, number - 1);
        }
        if number < last {
            self.free.insert(number + 1, last);
        }
        self.usage.used += 1;
        if is_next {
            self.cursor = number;
        }
    }

    fn release(&mut self, address: IpAddr) {
        let number = number(address);
        if !self.range.contains(address) || self.stretch(number).is_some() {
            return;
        }
        let (mut first, mut last) = (number, number);
        if let Some((before, _)) = number.checked_sub(1).and_then(|below| self.stretch(below)) {
            first = before;
        }
        if let Some((after, end)) = number.checked_add(1).and_then(|above| self.stretch(above)) {
            self.free.remove(&after);
            last = end;
        }
        self.free.insert(first, last);
        self.usage.used = self.usage.used.saturating_sub(1);
    }
}

/// First and last address that may be given out. The first address of a subnet is the network's own name,
/// the last one of IPv4 its broadcast address (RFC 919), the first of IPv6 the routers' (RFC 4291, 2.6.1).
fn hosts(subnet: &Subnet) -> (u128, u128) {
    let range = subnet.range.network();
    let first = number(range.address()) + 1;
    let last = number(range.last());
    let last = if range.address().is_ipv4() { last.saturating_sub(1) } else { last };
    match subnet.ip_range {
        None => (first, last),
        Some(part) => (first.max(number(part.network().address())), last.min(number(part.last()))),
    }
}

/// Addresses of one family in their order.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(range: &str, ip_range: Option<&str>) -> Subnet {
        let range: Cidr = range.parse().expect("a subnet");
        let first = range.network().address();
        let pool = SubnetPool { range, free: OrdMap::new(), usage: SubnetUsage::default(), cursor: 0 };
        let gateway = pool.address(number(first) + 1);
        Subnet { range, gateway, ip_range: ip_range.map(|r| r.parse().expect("a range")), reserved: Vec::new() }
    }

    #[test]
    fn goes_round_before_an_address_is_given_again_and_counts_honestly() {
        let mut pool = SubnetPool::new(&subnet("10.1.0.0/29", None));
        assert_eq!(pool.usage, SubnetUsage { used: 1, total: 6 });
        let mut given = Vec::new();
        for _ in 0..3 {
            let address = pool.next().expect("free");
            pool.claim(address);
            given.push(address.to_string());
        }
        assert_eq!(given, ["10.1.0.2", "10.1.0.3", "10.1.0.4"]);
        pool.release("10.1.0.2".parse().expect("address"));
        pool.release("10.1.0.2".parse().expect("address"));
        let mut rest = Vec::new();
        while let Some(address) = pool.next() {
            pool.claim(address);
            rest.push(address.to_string());
        }
        assert_eq!(rest, ["10.1.0.5", "10.1.0.6", "10.1.0.2"]);
        assert_eq!(pool.usage, SubnetUsage { used: 6, total: 6 });
        for last in [3, 5, 4] {
            pool.release(format!("10.1.0.{last}").parse().expect("address"));
        }
        assert_eq!(pool.free.len(), 1, "stretches that touch are one");
    }

    /// P09: the second subnet gives when the first is full, and the first again as soon as it can.
    #[test]
    fn p09_a_second_subnet_of_a_family() {
        let ipv4 = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut pool = Pool { subnets: vec![SubnetPool::new(&subnet("10.1.0.0/30", None))] };
        pool.subnets.push(SubnetPool::new(&subnet("fd00::/64", None)));
        pool.claim(&[ipv4("10.1.0.2"), ipv4("fd00::2")]);
        let full = pool.next().expect_err("full");
        assert_eq!((full.subnets.len(), full.total), (1, 2));
        pool.add(&subnet("10.2.0.0/30", None));
        assert_eq!(pool.usage().len(), 3);
        let next = pool.next().expect("of the second");
        assert_eq!(next, [ipv4("10.2.0.2"), ipv4("fd00::3")]);
        assert!(pool.are_free(&next) && !pool.are_free(&next[..1]));
        pool.claim(&next);
        assert!(!pool.are_free(&next));
        assert_eq!(pool.next().expect_err("both are full").total, 4);
        assert_eq!(pool.choose(&[ipv4("10.2.0.2")]), Err(Unavailable::Taken(ipv4("10.2.0.2"))));
        pool.release(&[ipv4("10.1.0.2"), ipv4("fd00::2")]);
        assert_eq!(pool.next().expect("of the first")[0], ipv4("10.1.0.2"));
        assert_eq!(pool.cursors().len(), 3);
    }

    #[test]
    fn an_ip_range_bounds_what_is_given() {
        let mut pool = SubnetPool::new(&subnet("10.1.0.0/24", Some("10.1.0.128/30")));
        assert_eq!(pool.usage, SubnetUsage { used: 0, total: 4 });
        assert_eq!(pool.next().map(|a| a.to_string()), Some("10.1.0.128".to_owned()));
        pool.claim("10.1.0.5".parse().expect("address"));
        assert_eq!(pool.usage.used, 0, "outside of what is given out");
        let wide = SubnetPool::new(&subnet("fd00::/64", None));
        assert_eq!(wide.next().map(|a| a.to_string()), Some("fd00::2".to_owned()));
    }
}
