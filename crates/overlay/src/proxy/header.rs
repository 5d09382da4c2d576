//! What a connection begins with: version 2 of the PROXY protocol (haproxy's `doc/proxy-protocol.txt`, section 2.2). Pure.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the command: on behalf of somebody else.
const VERSION_AND_COMMAND: u8 = 0x21;
/// Address family in the upper half, stream in the lower.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a client and the address that it dialled, which are of one family.
pub fn header(client: SocketAddr, dialled: SocketAddr) -> Vec<u8> {
    let (family, addresses) = match (client.ip(), dialled.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (TCP4, [from.octets(), to.octets()].concat()),
        (from, to) => (TCP6, [six(from), six(to)].concat()),
    };
    let ports = [client.port(), dialled.port()].map(u16::to_be_bytes).concat();
    let length =
        u16::try_from(addresses.len() + ports.len()).expect("two addresses and two ports are at most 36 bytes");
    [&SIGNATURE[..], &[VERSION_AND_COMMAND, family], &length.to_be_bytes(), &addresses, &ports].concat()
}

/// One of IPv4 as IPv6 writes it.
fn six(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
        IpAddr::V6(six) => six.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes by the specification, written out by hand.
    #[test]
    fn p01_the_header_of_both_families() {
        let four = header("198.51.100.7:50000".parse().expect("client"), "192.0.2.1:8080".parse().expect("dialled"));
        let wanted = [
            0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12, 198, 51, 100, 7,
            192, 0, 2, 1, 0xc3, 0x50, 0x1f, 0x90,
        ];
        assert_eq!(four, wanted);
        let six = header("[2001:db8::7]:1".parse().expect("client"), "[2001:db8::1]:2".parse().expect("dialled"));
        assert_eq!((six.len(), &six[12..16]), (16 + 36, &[0x21, 0x21, 0, 36][..]));
        assert_eq!((&six[16..18], six[31], six[47], &six[48..]), (&[0x20, 0x01][..], 7, 1, &[0, 1, 0, 2][..]));
    }
}
