//! Ends the flows of an endpoint that lead to addresses which are gone: connections fail at once instead of
//! hanging, datagrams find another backend. Works in the namespace the calling thread is in.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
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
/// `TCP_CONNTRACK_SYN_SENT` (linux/netfilter/nf_conntrack_tcp.h): nobody has answered yet.
const ATTEMPT: u8 = 1;
/// `TCP_CONNTRACK_TIME_WAIT` and `TCP_CONNTRACK_CLOSE`.
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
/// Between two looks at whether clients have answered: 5 ms, then twice as long each time.
const ANSWERED_AFTER: Duration = Duration::from_millis(5);
/// So many looks, over 1.3 s: clients a world away have answered by then.
const LOOKS: u32 = 8;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
/// let be, and an entry is meant only as long as it is that very one. Who has had no answer yet is not told: his next attempt
/// begins anew, and gets one from another backend.
pub fn end(to: &BTreeSet<IpAddr>, clients: Clients) -> io::Result<usize> {
    let mut ended = 0;
    let mut questions = Vec::new();
    let flows = ask(libc::NETLINK_NETFILTER as isize, GET, NLM_F_DUMP, &generic_header(libc::AF_UNSPEC))?;
    for flow in flows.iter().filter_map(|flow| flow.get(4..)) {
        let Some(begun) = attribute(flow, CTA_TUPLE_ORIG) else { continue };
        let Some((original, reply)) = tuple(begun).zip(attribute(flow, CTA_TUPLE_REPLY).and_then(tuple)) else {
            continue;
        };
        if original.destination == reply.source || !to.contains(&reply.source) {
            continue;
        }
        let state = tcp_state(flow);
        if is_finished(state) || !forget(&original, begun, attribute(flow, CTA_ID))? {
            continue;
        }
        ended += 1;
        if state.is_none_or(|state| state == ATTEMPT) {
            continue;
        }
        // The client hears of it now; deleting the entry alone would leave a silent reader waiting.
        if !destroy_socket(&original)? && clients == Clients::Anywhere {
            let question = original.reversed();
            // One to whom no route leads any more has no connection either.
            if super::reset::ask_client(question.from(), question.to()).is_ok() {
                questions.push(question);
            }
        }
    }
    if !questions.is_empty() {
        // In this thread's namespace. Nobody waits for it: where it cannot be, entries live ten seconds longer.
        let _ = std::thread::Builder::new().name("ended-flows".to_owned()).spawn(move || forget_questions(questions));
    }
    Ok(ended)
}

/// A question to a client is a flow of its own, from this host and untranslated, which the kernel would remember for
/// ten seconds and more. A new connection from that very port would belong to it, and find nobody here.
fn forget_questions(mut questions: Vec<Tuple>) {
    for look in 0..LOOKS {
        std::thread::sleep(ANSWERED_AFTER * 2u32.pow(look));
        // What the kernel does not tell now, it may tell the next time.
        questions.retain(|question| !forget_question(question, look + 1 == LOOKS).unwrap_or(false));
        if questions.is_empty() {
            return;
        }
    }
}

/// Forgets it if it was answered, or `anyway`. True: there is nothing left of it.
fn forget_question(question: &Tuple, anyway: bool) -> io::Result<bool> {
    let mut body = generic_header(family(question.source)).to_vec();
    body.extend(nested(CTA_TUPLE_ORIG, &encoded(question)?)?);
    let flows = match ask(libc::NETLINK_NETFILTER as isize, GET, 0, &body) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(true),
        flows => flows?,
    };
    let Some(flow) = flows.first().and_then(|flow| flow.get(4..)) else { return Ok(true) };
    // The kernel looks for both directions of a flow, and this may be the other one of another.
    let Some(begun) = attribute(flow, CTA_TUPLE_ORIG).filter(|begun| tuple(begun) == Some(*question)) else {
        return Ok(true);
    };
    if !anyway && !is_finished(tcp_state(flow)) {
        return Ok(false);
    }
    forget(question, begun, attribute(flow, CTA_ID)).map(|_| true)
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

/// How a flow began that rules led to `own` and that comes from `client` there: from where, and to where. The client's port
/// may be another one than it seems, where two flows would have been one. `protocol` is `IPPROTO_TCP` or `IPPROTO_UDP`.
///
/// # Errors
/// `PermissionDenied` if no rule led it.
pub fn begun(protocol: libc::c_int, client: SocketAddr, own: SocketAddr) -> io::Result<[SocketAddr; 2]> {
    let reply = Tuple {
        source: own.ip(),
        destination: client.ip(),
        protocol: u8::try_from(protocol).unwrap_or(0),
        ports: [own.port().to_be_bytes(), client.port().to_be_bytes()],
    };
    let mut body = generic_header(family(own.ip())).to_vec();
    body.extend(nested(CTA_TUPLE_REPLY, &encoded(&reply)?)?);
    let flows = match ask(libc::NETLINK_NETFILTER as isize, GET, 0, &body) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Vec::new(),
        flows => flows?,
    };
    let begun = flows.first().and_then(|flow| flow.get(4..)).and_then(|flow| attribute(flow, CTA_TUPLE_ORIG));
    let flow = begun.and_then(tuple).filter(|flow| flow.to() != own);
    let flow =
        flow.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "it came past the published ports"))?;
    Ok([flow.from(), flow.to()])
}

/// None where it is no TCP.
fn tcp_state(flow: &[u8]) -> Option<u8> {
    let tcp = attribute(flow, CTA_PROTOINFO).and_then(|info| attribute(info, CTA_PROTOINFO_TCP));
    tcp.and_then(|tcp| attribute(tcp, CTA_PROTOINFO_TCP_STATE)).and_then(<[u8]>::first).copied()
}

fn is_finished(state: Option<u8>) -> bool {
    state.is_some_and(|state| FINISHED.contains(&state))
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

/// The other way round: what [`tuple`] reads.
fn encoded(tuple: &Tuple) -> io::Result<Vec<u8>> {
    let families = usize::from(tuple.source.is_ipv6());
    let [source, destination] = [tuple.source, tuple.destination].map(octets);
    let addresses = [plain(CTA_IP_SRC[families], &source)?, plain(CTA_IP_DST[families], &destination)?].concat();
    let [from, to] = tuple.ports;
    let protocol =
        [plain(CTA_PROTO_NUM, &[tuple.protocol])?, plain(CTA_PROTO_SRC_PORT, &from)?, plain(CTA_PROTO_DST_PORT, &to)?]
            .concat();
    Ok([nested(CTA_TUPLE_IP, &addresses)?, nested(CTA_TUPLE_PROTO, &protocol)?].concat())
}

impl Tuple {
    fn reversed(&self) -> Self {
        let [from, to] = self.ports;
        Self { source: self.destination, destination: self.source, ports: [to, from], ..*self }
    }

    fn from(&self) -> SocketAddr {
        SocketAddr::new(self.source, u16::from_be_bytes(self.ports[0]))
    }

    fn to(&self) -> SocketAddr {
        SocketAddr::new(self.destination, u16::from_be_bytes(self.ports[1]))
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The client's TCP socket, if it is here, fails with "connection aborted".
fn destroy_socket(flow: &Tuple) -> io::Result<bool> {
    // struct inet_diag_req_v2 (linux/inet_diag.h)
    let mut body = vec![u8::try_from(family(flow.source)).unwrap_or(0), flow.protocol, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(flow.ports.concat());
    for address in [flow.source, flow.destination] {
        let mut bytes = octets(address);
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
