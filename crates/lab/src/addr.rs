//! Addresses of a lab, computed from its number and the host's place. Pure; used by `net` and the tests.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Most hosts in one lab: .254 is the switch, .0 and .255 are not host addresses.
pub const MOST_HOSTS: usize = 253;

/// IPv4 address of host `index` (1-based) in lab `number`: `10.98.<number>.<index>`, prefix /24.
#[must_use]
pub fn ipv4(number: u8, index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, number, index)
}

/// IPv6 address of host `index`: `fd98:<number>::<index>`, prefix /64, the digits written as in IPv4.
#[must_use]
pub fn ipv6(number: u8, index: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd98, digits(number), 0, 0, 0, 0, 0, digits(index))
}

/// The switch's own IPv4 address, the hosts' default gateway.
#[must_use]
pub fn gateway4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, number, 254)
}

/// The switch's own IPv6 address.
#[must_use]
pub fn gateway6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd98, digits(number), 0, 0, 0, 0, 0, 0xfe)
}

/// Decimal digits read as hexadecimal ones: 12 becomes 0x12, so that both addresses read alike.
fn digits(n: u8) -> u16 {
    let n = u16::from(n);
    (n / 100) << 8 | (n / 10 % 10) << 4 | (n % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_show_the_same_digits() {
        assert_eq!(ipv4(12, 203).to_string(), "10.98.12.203");
        assert_eq!(ipv6(12, 203).to_string(), "fd98:12::203");
        assert_eq!(gateway6(0).to_string(), "fd98::fe");
    }
}
