//! Ends the flows of an endpoint that lead to addresses which are gone: connections fail at once instead of
//! hanging, datagrams find another backend. Works in the namespace the calling thread is in.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
};

use super::netfilter::{NLM_F_ACK, NLM_F_DUMP, address, ask, attribute, generic_header, nested, plain};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET` and `..._DELETE` (linux/netfilter/nfnetlink_conntrack.h).
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
/// Beside the tuples: the state of the protocol, and what tells an entry from a later one with the same tuples.
const CTA_PROTOINFO: u16 = 4;
const CTA_ID: u16 = 12;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
/// `TCP_CONNTRACK_TIME_WAIT` and `TCP_CONNTRACK_CLOSE` (linux/netfilter/nf_conntrack_tcp.h).
const FINISHED: [u8; 2] = [7, 8];
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

/// Where those are whose connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// In this namespace.
    Here,
    /// Beyond it as well: they are told over the network.
    Anywhere,
}

/// Ends what was rewritten to one of these addresses, and returns how many flows that were.
///
/// A busy client soon takes the same port again for its next connection, to another backend. So what is finished is
/// let be, and an entry is meant only as long as it is that very one.
pub fn end(to: &BTreeSet<IpAddr>, clients: Clients) -> io::Result<usize> {
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
        if is_finished(flow) || !forget(&original, begun, attribute(flow, CTA_ID))? {
            continue;
        }
        // The client hears of it now; deleting the entry alone would leave a silent reader waiting.
        let is_tcp = i32::from(original.protocol) == libc::IPPROTO_TCP;
        let is_told = is_tcp && destroy_socket(&original)?;
        if is_tcp && !is_told && clients == Clients::Anywhere {
            let end = |address, port: [u8; 2]| SocketAddr::new(address, u16::from_be_bytes(port));
            let [from, to] = original.ports;
            // One to whom no route leads any more has no connection either.
            let _ = super::reset::ask_client(end(original.destination, to), end(original.source, from));
        }
        ended += 1;
    }
    Ok(ended)
}

/// Forgets the flows of datagrams to these ports, first and last, that are not translated at all: the next datagram of
/// each begins anew, under the rules of then. Without such flows it costs a look at the table.
pub fn forget_untranslated(ports: &BTreeSet<(u16, u16)>) -> io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let flows = ask(libc::NETLINK_NETFILTER as isize, GET, NLM_F_DUMP, &generic_header(libc::AF_UNSPEC))?;
    for flow in flows.iter().filter_map(|flow| flow.get(4..)) {
        let Some(begun) = attribute(flow, CTA_TUPLE_ORIG) else { continue };
        let Some((original, reply)) = tuple(begun).zip(attribute(flow, CTA_TUPLE_REPLY).and_then(tuple)) else {
            continue;
        };
        let port = u16::from_be_bytes(original.ports[1]);
        let is_meant = ports.iter().any(|(first, last)| (*first..=*last).contains(&port));
        let is_plain = original.destination == reply.source && original.source == reply.destination;
        if i32::from(original.protocol) == libc::IPPROTO_UDP && is_meant && is_plain {
            forget(&original, begun, attribute(flow, CTA_ID))?;
        }
    }
    Ok(())
}

/// What a client of this host sent a datagram to that came to `own` instead, by a rule; None if none led it there.
pub fn dialled(client: SocketAddr, own: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let (families, of) = (usize::from(own.is_ipv6()), |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    });
    let addresses =
        [plain(CTA_IP_SRC[families], &of(own.ip()))?, plain(CTA_IP_DST[families], &of(client.ip()))?].concat();
    let protocol = [
        plain(CTA_PROTO_NUM, &[u8::try_from(libc::IPPROTO_UDP).unwrap_or(0)])?,
        plain(CTA_PROTO_SRC_PORT, &own.port().to_be_bytes())?,
        plain(CTA_PROTO_DST_PORT, &client.port().to_be_bytes())?,
    ]
    .concat();
    let reply = [nested(CTA_TUPLE_IP, &addresses)?, nested(CTA_TUPLE_PROTO, &protocol)?].concat();
    let mut body = generic_header(family(own.ip())).to_vec();
    body.extend(nested(CTA_TUPLE_REPLY, &reply)?);
    let flows = match ask(libc::NETLINK_NETFILTER as isize, GET, 0, &body) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        flows => flows?,
    };
    let begun = flows.first().and_then(|flow| flow.get(4..)).and_then(|flow| attribute(flow, CTA_TUPLE_ORIG));
    let to = begun.and_then(tuple).map(|to| SocketAddr::new(to.destination, u16::from_be_bytes(to.ports[1])));
    Ok(to.filter(|to| *to != own))
}

fn is_finished(flow: &[u8]) -> bool {
    let tcp = attribute(flow, CTA_PROTOINFO).and_then(|info| attribute(info, CTA_PROTOINFO_TCP));
    let state = tcp.and_then(|tcp| attribute(tcp, CTA_PROTOINFO_TCP_STATE)).and_then(<[u8]>::first);
    state.is_some_and(|state| FINISHED.contains(state))
}

/// Whether the entry was still there.
fn forget(flow: &Tuple, begun: &[u8], id: Option<&[u8]>) -> io::Result<bool> {
    let mut body = generic_header(family(flow.source)).to_vec();
    body.extend(nested(CTA_TUPLE_ORIG, begun)?);
    if let Some(id) = id {
        body.extend(plain(CTA_ID, id)?);
    }
    match ask(libc::NETLINK_NETFILTER as isize, DELETE, NLM_F_ACK, &body) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
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

/// The client's TCP socket, if it is here, fails with "connection aborted".
fn destroy_socket(flow: &Tuple) -> io::Result<bool> {
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
    match asked {
        Ok(_) => Ok(true),
        // EOPNOTSUPP: a kernel without CONFIG_INET_DIAG_DESTROY, the client hears of it when it sends next.
        Err(error) if [libc::ENOENT, libc::EOPNOTSUPP].contains(&error.raw_os_error().unwrap_or_default()) => Ok(false),
        Err(error) => Err(error),
    }
}

fn family(address: IpAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}
