//! Published ports of the mesh that processes of this host listen on (bad input, P32). Pure, but for the words.
//!
//! As between two sockets, an address is more special than all addresses: who listens at one of the host's addresses
//! keeps that one, and the mesh has the others. Who listens at all of them keeps the port if he was there first; who
//! comes when the mesh has the port already gets nothing through it, which is for `network doctor` to tell.

use std::{collections::BTreeSet, net::IpAddr};

use overlay::{MeshPlan, PublishedPorts};
use types::{PortBind, PortProtocol};

use super::{
    host_ports::meets,
    sockets::{self, HostSocket},
};

/// Ports that clients' sockets take for a while (`net.ipv4.ip_local_port_range`): one of a whole range that happens to be
/// such a client's is nobody's service.
const PASSING: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// Who listens where the mesh would.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    pub protocol: PortProtocol,
    pub port: u16,
    pub address: IpAddr,
    pub inode: u64,
    pub keeps: Keeps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keeps {
    /// The port: the mesh is not open there on this host.
    Port,
    /// His address only.
    Address,
    /// Nothing: the mesh was there first.
    Nothing,
}

/// Takes out of `mesh` what processes of this host have. `before` is what it was.
pub(super) fn yield_to(mesh: &mut MeshPlan, before: Option<&MeshPlan>, sockets: &[HostSocket]) -> BTreeSet<Holder> {
    mesh.spared.clear();
    let mut holders = BTreeSet::new();
    let mut left = Vec::new();
    for ports in std::mem::take(&mut mesh.ports) {
        let mut taken = BTreeSet::new();
        for socket in sockets.iter().filter(|socket| listens_at(socket, &ports)) {
            let HostSocket { protocol, port, address, inode, .. } = *socket;
            let is_whole = address.is_unspecified() || ports.bind == PortBind::Address(address);
            let keeps = if !is_whole {
                mesh.spared.insert((address, protocol, port));
                Keeps::Address
            } else if before.is_some_and(|before| serves(before, &ports, port)) {
                Keeps::Nothing
            } else {
                taken.insert(port);
                Keeps::Port
            };
            holders.insert(Holder { protocol, port, address, inode, keeps });
        }
        left.extend(without(ports, &taken));
    }
    mesh.ports = left;
    holders
}

fn listens_at(socket: &HostSocket, ports: &PublishedPorts) -> bool {
    let (first, last) = ports.published;
    let is_passing = socket.protocol == PortProtocol::Udp && first != last && PASSING.contains(&socket.port);
    socket.is_listening
        && !is_passing
        && socket.protocol == ports.protocol
        && (first..=last).contains(&socket.port)
        && meets(&ports.bind, socket)
}

fn serves(mesh: &MeshPlan, wanted: &PublishedPorts, number: u16) -> bool {
    mesh.ports.iter().any(|ports| {
        let (first, last) = ports.published;
        ports.bind == wanted.bind && ports.protocol == wanted.protocol && (first..=last).contains(&number)
    })
}

/// What is left of successive ports.
fn without(ports: PublishedPorts, taken: &BTreeSet<u16>) -> Vec<PublishedPorts> {
    let (mut first, last) = ports.published;
    if taken.is_empty() {
        return vec![ports];
    }
    let part = |from: u16, to: u16| PublishedPorts {
        published: (from, to),
        target: ports.target + (from - ports.published.0),
        ..ports.clone()
    };
    let mut parts = Vec::new();
    for number in taken {
        if first < *number {
            parts.push(part(first, number - 1));
        }
        let Some(next) = number.checked_add(1) else { return parts };
        first = next;
    }
    if first <= last {
        parts.push(part(first, last));
    }
    parts
}

/// For people: who it is, what he keeps, and what to do. Blocking: looks through all processes.
pub(super) fn sentence(holder: &Holder) -> String {
    let Holder { protocol, port, address, inode, keeps } = holder;
    let owner = match inode {
        0 => "the kernel".to_owned(),
        _ => sockets::owner(*inode).unwrap_or_else(|| "a process that cannot be seen from here".to_owned()),
    };
    let name = format!("{port}/{protocol}");
    let at = std::net::SocketAddr::new(*address, *port);
    match keeps {
        Keeps::Port => format!(
            "published port {name} is not open on this host: {owner} listens at {at} and was there first; stop it, or \
             publish another number; all other hosts serve the port"
        ),
        Keeps::Address => {
            format!(
                "{at} over {protocol} stays with {owner}; published port {name} is open at this host's other addresses"
            )
        }
        Keeps::Nothing => format!(
            "{owner} listens at {at} and hears nothing there: port {name} was published before; let it listen at one \
             address or on another port, or publish another number"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::expect;
    use overlay::MacAddress;
    use types::{MeshAffinity, NetworkId, NodeId};

    use super::*;

    fn ports(bind: PortBind, protocol: PortProtocol, published: (u16, u16)) -> PublishedPorts {
        PublishedPorts {
            bind,
            protocol,
            published,
            target: 80,
            backends: BTreeMap::new().into(),
            affinity: MeshAffinity::None,
            proxy_protocol: false,
        }
    }

    fn mesh(ports: Vec<PublishedPorts>) -> MeshPlan {
        MeshPlan {
            network: NetworkId::from_random(1),
            mac: MacAddress::for_node(NodeId::from_random(1)),
            addresses: Vec::new(),
            entries: BTreeMap::new(),
            ports,
            spared: BTreeSet::new(),
        }
    }

    fn listener(protocol: PortProtocol, at: &str) -> HostSocket {
        let at: std::net::SocketAddr = at.parse().expect(at);
        HostSocket { protocol, address: at.ip(), port: at.port(), inode: 0, is_listening: true }
    }

    fn told(mut plan: MeshPlan, before: Option<&MeshPlan>, sockets: &[HostSocket]) -> String {
        let holders = yield_to(&mut plan, before, sockets);
        let ports = plan.ports.iter().map(|p| format!("{}-{}>{}", p.published.0, p.published.1, p.target));
        let words = holders.iter().map(sentence);
        let spared = plan.spared.iter().map(|(at, protocol, port)| format!("spared {at} {protocol} {port}"));
        ports.chain(spared).chain(words).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn p32_who_was_first_keeps_the_port() {
        use PortProtocol::{Tcp, Udp};
        let plan = || mesh(vec![ports(PortBind::All, Tcp, (8080, 8080)), ports(PortBind::All, Udp, (50, 60))]);
        let nginx = listener(Tcp, "0.0.0.0:8080");
        let first = told(plan(), None, &[nginx.clone(), listener(Udp, "[::]:53"), listener(Tcp, "0.0.0.0:55")]);
        expect![[r"
            50-52>80
            54-60>84
            published port 8080/tcp is not open on this host: the kernel listens at 0.0.0.0:8080 and was there first; stop it, or publish another number; all other hosts serve the port
            published port 53/udp is not open on this host: the kernel listens at [::]:53 and was there first; stop it, or publish another number; all other hosts serve the port"]]
        .assert_eq(&first);
        let later = told(plan(), Some(&plan()), &[nginx]);
        expect![[r"
            8080-8080>80
            50-60>80
            the kernel listens at 0.0.0.0:8080 and hears nothing there: port 8080/tcp was published before; let it listen at one address or on another port, or publish another number"]]
        .assert_eq(&later);
    }

    #[test]
    fn p32_who_listens_at_one_address_keeps_that_one() {
        use PortProtocol::Udp;
        let plan = || mesh(vec![ports(PortBind::All, Udp, (53, 53)), ports(PortBind::All, Udp, (40_000, 50_000))]);
        let sockets = [listener(Udp, "127.0.0.53:53"), listener(Udp, "0.0.0.0:41000")];
        let wanted = expect![[r"
            53-53>80
            40000-50000>80
            spared 127.0.0.53 udp 53
            127.0.0.53:53 over udp stays with the kernel; published port 53/udp is open at this host's other addresses"]];
        wanted.assert_eq(&told(plan(), None, &sockets));
        wanted.assert_eq(&told(plan(), Some(&plan()), &sockets));
        let bound = mesh(vec![ports(PortBind::Address([192, 0, 2, 1].into()), Udp, (53, 53))]);
        assert_eq!(told(bound.clone(), None, &[listener(Udp, "127.0.0.53:53")]), "53-53>80", "another address");
        assert!(told(bound, None, &[listener(Udp, "192.0.2.1:53")]).starts_with("published port 53/udp is not open"));
    }
}
