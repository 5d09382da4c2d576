//! Ends the flows of an endpoint that lead to addresses which are gone: connections fail at once instead of
//! hanging, datagrams find another backend. Works in the namespace the calling thread is in.

use std::{collections::BTreeSet, io, net::IpAddr};

use super::netfilter::{NLM_F_ACK, NLM_F_DUMP, address, ask, attribute, generic_header, nested};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET` and `..._DELETE` (linux/netfilter/nfnetlink_conntrack.h).
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
/// Inside a tuple.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
/// Inside its addresses: source and destination, IPv4 and IPv6.
const CTA_IP_SRC: [u16; 2] = [1, 3];
const CTA_IP_DST: [u16; 2] = [2, 4];
/// Inside its protocol.
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// linux/sock_diag.h
const SOCK_DESTROY: u16 = 21;

/// One direction of a flow.
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Source and destination, in network byte order; zero where the protocol has none.
    ports: [[u8; 2]; 2],
}

/// Ends what was rewritten to one of these addresses, and returns how many flows that were.
pub fn end(to: &BTreeSet<IpAddr>) -> io::Result<usize> {
    let mut ended = 0;
    let flows = ask(libc::NETLINK_NETFILTER as isize, GET, NLM_F_DUMP, &generic_header(libc::AF_UNSPEC))?;
    for flow in flows.iter().filter_map(|flow| flow.get(4..)) {
        let Some(begun) = attribute(flow, CTA_TUPLE_ORIG) else { continue };
        let Some((original, reply)) = tuple(begun).zip(attribute(flow, CTA_TUPLE_REPLY).and_then(tuple)) else {
            continue;
        };
        if original.destination == reply.source || !to.contains(&reply.source) {
            continue;
        }
        // The client's socket hears of it now; deleting the entry alone would leave a silent reader waiting.
        if i32::from(original.protocol) == libc::IPPROTO_TCP {
            destroy_socket(&original)?;
        }
        let mut body = generic_header(family(original.source)).to_vec();
        body.extend(nested(CTA_TUPLE_ORIG, begun)?);
        missing_is_fine(ask(libc::NETLINK_NETFILTER as isize, DELETE, NLM_F_ACK, &body))?;
        ended += 1;
    }
    Ok(ended)
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (addresses, protocol) = (attribute(bytes, CTA_TUPLE_IP)?, attribute(bytes, CTA_TUPLE_PROTO)?);
    let one_of = |kinds: [u16; 2]| kinds.into_iter().find_map(|kind| attribute(addresses, kind)).and_then(address);
    let port = |kind| attribute(protocol, kind).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    Some(Tuple {
        source: one_of(CTA_IP_SRC)?,
        destination: one_of(CTA_IP_DST)?,
        protocol: *attribute(protocol, CTA_PROTO_NUM)?.first()?,
        ports: [port(CTA_PROTO_SRC_PORT), port(CTA_PROTO_DST_PORT)],
    })
}

/// The client's TCP socket fails with "connection aborted".
fn destroy_socket(flow: &Tuple) -> io::Result<()> {
    // struct inet_diag_req_v2 (linux/inet_diag.h)
    let mut body = vec![u8::try_from(family(flow.source)).unwrap_or(0), flow.protocol, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(flow.ports.concat());
    for address in [flow.source, flow.destination] {
        let mut bytes = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        bytes.resize(16, 0);
        body.extend(bytes);
    }
    // Any interface; no cookie.
    body.extend(0u32.to_ne_bytes());
    body.extend([0xff; 8]);
    let asked = ask(libc::NETLINK_SOCK_DIAG as isize, SOCK_DESTROY, NLM_F_ACK, &body);
    match missing_is_fine(asked) {
        // A kernel without CONFIG_INET_DIAG_DESTROY: the client hears of it when it sends next.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        other => other,
    }
}

fn missing_is_fine(asked: io::Result<Vec<Vec<u8>>>) -> io::Result<()> {
    match asked {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

fn family(address: IpAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}
