//! What of the routing mesh and of published ports cannot be done. Pure.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use types::{PortBind, PortProtocol};

use super::super::{
    EndpointPlan, HostPorts, LINK_NAME_MAX, MeshPlan, NetworkPlan, OpenPorts, OverlayPlan, PublishedPorts,
};
use crate::mesh::ports::span;

/// Who has which ports; two may share a port where one is bound to an address or an interface and the other is not.
#[derive(Default)]
pub struct Taken<'a>(BTreeMap<(PortProtocol, PortBind), Spans<'a>>);

/// The last port of each stretch, by its first, and whose they are.
type Spans<'a> = BTreeMap<u16, (u16, Cow<'a, str>)>;

impl<'a> Taken<'a> {
    /// Takes the ports, or says who has one of them already.
    fn take(
        &mut self,
        bind: &PortBind,
        protocol: PortProtocol,
        (first, last): (u16, u16),
        who: Cow<'a, str>,
    ) -> Option<String> {
        for bind in rivals(bind) {
            let Some(ports) = self.0.get(&(protocol, bind)) else { continue };
            if let Some((other_first, (other_last, other))) = ports.range(..=last).next_back()
                && *other_last >= first
            {
                let clash = (first.max(*other_first), last.min(*other_last));
                return Some(format!("port {}/{} is {other} already", span(clash), protocol));
            }
        }
        self.0.entry((protocol, bind.clone())).or_default().insert(first, (last, who));
        None
    }

    /// Of what was taken before.
    fn give_back(&mut self, bind: &PortBind, protocol: PortProtocol, first: u16) {
        if let Some(ports) = self.0.get_mut(&(protocol, bind.clone())) {
            ports.remove(&first);
        }
    }
}

/// What a number cannot be bound to twice: at all addresses is at those of both families.
fn rivals(bind: &PortBind) -> Vec<PortBind> {
    let [four, six] = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()].map(PortBind::Address);
    match bind {
        PortBind::All => vec![PortBind::All, four, six],
        PortBind::Address(at) if at.is_unspecified() => vec![PortBind::All, bind.clone()],
        _ => vec![bind.clone()],
    }
}

/// Of the mesh as a whole, but for its ports.
pub fn mesh_problem(
    mesh: &MeshPlan,
    plan: &NetworkPlan,
    overlays: &BTreeMap<types::NetworkId, String>,
) -> Option<String> {
    let MeshPlan { network, mac, addresses, entries, .. } = mesh;
    let Some(overlay) = plan.overlays.get(network) else {
        return Some(format!("the plan does not name its network {network}"));
    };
    let name = &overlay.name;
    let strange = std::iter::once(mac).chain(entries.keys()).find(|mac| !mac.is_of_node());
    let families = [addresses.iter().filter(|a| a.is_ipv4()).count(), addresses.iter().filter(|a| a.is_ipv6()).count()];
    if let Some(problem) = overlays.get(network) {
        Some(format!("overlay network {name}: {problem}"))
    } else if let Some(mac) = strange {
        Some(format!("MAC address {mac} is not one of a node's port in the ingress network"))
    } else if let Some(entry) = entries.get(mac) {
        Some(format!(
            "node {} has the same MAC address {mac} in the ingress network as this one: remove one of the two from \
             the cluster and let it join again, under a new id",
            entry.node
        ))
    } else if families[0] > 1 || families[1] > 1 || addresses.is_empty() {
        Some(format!(
            "it has {} IPv4 and {} IPv6 addresses in the network {name}, not one of a family",
            families[0], families[1]
        ))
    } else {
        let outside = addresses.iter().find(|address| !overlay.subnets.iter().any(|subnet| subnet.contains(**address)));
        outside.map(|address| format!("address {address} is in no subnet of the network {name}"))
    }
}

/// Of successive ports of the mesh; those without a problem are taken.
pub fn port_problem(ports: &PublishedPorts, overlay: &OverlayPlan, taken: &mut Taken<'_>) -> Option<String> {
    let PublishedPorts { bind, protocol, published, target, backends, .. } = ports;
    let stray = backends.keys().find(|backend| !overlay.subnets.iter().any(|subnet| subnet.contains(**backend)));
    let idle = backends.iter().find(|(_, weight)| **weight == 0);
    let unlike = match bind {
        PortBind::Address(at) => !backends.is_empty() && !backends.keys().any(|to| to.is_ipv4() == at.is_ipv4()),
        _ => false,
    };
    let nowhere = match bind {
        PortBind::Address(at) if at.is_unspecified() => Some(format!("{at} is no address: bind it to none instead")),
        _ => None,
    };
    let problem = span_problem(bind, *published, *target).or(nowhere).or_else(|| {
        if let Some(backend) = stray {
            Some(format!("backend {backend} is in no subnet of the network {}", overlay.name))
        } else if let Some((backend, _)) = idle {
            Some(format!("backend {backend} has the weight 0: leave it out instead"))
        } else if unlike {
            Some("it has no backend of the address family that it is bound to".to_owned())
        } else if ports.proxy_protocol && *protocol != PortProtocol::Tcp {
            Some("only a connection over tcp can begin with a PROXY protocol header".to_owned())
        } else if ports.proxy_protocol && matches!(bind, PortBind::Interface(_)) {
            Some("with a PROXY protocol header it cannot be bound to an interface: bind it to an address".to_owned())
        } else {
            taken.take(bind, *protocol, *published, Cow::Borrowed("published by another service"))
        }
    });
    problem.map(|problem| format!("published port {}: {problem}", title(bind, *protocol, *published)))
}

/// Of the ports of one endpoint, which may be reached over IPv6; all of them are taken, or none.
pub fn endpoint_problem(id: &str, endpoint: &EndpointPlan, has_ipv6: bool, taken: &mut Taken<'_>) -> Option<String> {
    let open = endpoint.open4.iter().chain(&endpoint.open6).find_map(|OpenPorts { protocol, ports }| {
        let problem = span_problem(&PortBind::All, *ports, ports.0)?;
        Some(format!("open port {}/{protocol}: {problem}", span(*ports)))
    });
    if open.is_some() || endpoint.ports.is_empty() {
        return open;
    }
    let who = format!("published by {id}");
    for (at, HostPorts { bind, protocol, published, target }) in endpoint.ports.iter().enumerate() {
        let problem = match bind {
            PortBind::Address(IpAddr::V6(_)) if *protocol == PortProtocol::Sctp && !has_ipv6 => {
                Some("its network here has no IPv6, over which sctp would have to come".to_owned())
            }
            _ => span_problem(bind, *published, *target),
        };
        let problem = problem.or_else(|| taken.take(bind, *protocol, *published, Cow::Owned(who.clone())));
        if let Some(problem) = problem {
            for ports in &endpoint.ports[..at] {
                taken.give_back(&ports.bind, ports.protocol, ports.published.0);
            }
            return Some(format!("published port {}: {problem}", title(bind, *protocol, *published)));
        }
    }
    None
}

fn span_problem(bind: &PortBind, (first, last): (u16, u16), target: u16) -> Option<String> {
    if first == 0 || target == 0 {
        Some("0 is no port".to_owned())
    } else if last < first {
        Some("its last port is before its first".to_owned())
    } else if target.checked_add(last - first).is_none() {
        Some(format!("its target ports, from {target}, would go beyond 65535"))
    } else {
        bind_problem(bind)
    }
}

fn bind_problem(bind: &PortBind) -> Option<String> {
    match bind {
        PortBind::Interface(name) => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            let is_name = !name.is_empty() && name.len() <= LINK_NAME_MAX && name.bytes().all(plain);
            (!is_name)
                .then(|| format!("{name:?} is no interface: 1 to {LINK_NAME_MAX} letters, digits, '_', '.' or '-'"))
        }
        _ => None,
    }
}

/// `8000-8010/tcp at 192.0.2.1`
fn title(bind: &PortBind, protocol: PortProtocol, published: (u16, u16)) -> String {
    let at = match bind {
        PortBind::All => String::new(),
        PortBind::Address(at) => format!(" at {at}"),
        PortBind::Interface(name) => format!(" on {name}"),
    };
    format!("{}/{}{at}", span(published), protocol)
}

#[cfg(test)]
mod tests {
    use types::{MeshAffinity, NetworkId, NodeId};

    use super::*;
    use crate::{BridgePlan, BridgePort, DataPath, EntryHost, MacAddress};

    fn ports(published: (u16, u16), target: u16) -> PublishedPorts {
        PublishedPorts {
            bind: PortBind::All,
            protocol: PortProtocol::Tcp,
            published,
            target,
            backends: BTreeMap::from([([10, 255, 0, 2].into(), 1)]).into(),
            affinity: MeshAffinity::None,
            proxy_protocol: false,
        }
    }

    fn plan(ports: Vec<PublishedPorts>) -> NetworkPlan {
        let network = NetworkId::from_random(7);
        let overlay = OverlayPlan {
            name: "ingress".to_owned(),
            vni: 4096,
            subnets: vec!["10.255.0.0/16".parse().expect("subnet"), "fd00::/64".parse().expect("subnet")],
            mtu: None,
            encrypted: false,
            remotes: BTreeMap::new(),
            services: BTreeMap::new(),
            names: BTreeMap::new(),
            reverse: BTreeMap::new(),
        };
        let mesh = MeshPlan {
            spared: std::collections::BTreeSet::new(),
            network,
            mac: MacAddress::for_node(NodeId::from_random(1)),
            addresses: vec![[10, 255, 0, 1].into()],
            entries: BTreeMap::new(),
            ports,
        };
        NetworkPlan {
            data_path: Some(DataPath { address: [192, 0, 2, 1].into(), port: 4789, encryption: None, least_mtu: None }),
            overlays: [(network, overlay)].into(),
            mesh: Some(mesh),
            ..NetworkPlan::default()
        }
    }

    /// What is said, and that the rest of the plan has none.
    fn said(plan: &NetworkPlan) -> Vec<String> {
        let problems = plan.problems();
        let rest = plan.without(&problems).problems();
        assert_eq!(rest, crate::plan::Problems::default());
        problems.mesh.into_iter().chain(problems.ports.into_values()).chain(problems.endpoints.into_values()).collect()
    }

    #[test]
    fn a_good_mesh_has_none() {
        assert_eq!(said(&plan(vec![ports((80, 80), 80), ports((8000, 65535), 1)])), Vec::<String>::new());
    }

    #[test]
    fn a_bad_port_is_named_and_the_others_stand() {
        let with = |change: &dyn Fn(&mut PublishedPorts)| {
            let mut port = ports((80, 80), 80);
            change(&mut port);
            port
        };
        let bad = plan(vec![
            ports((443, 443), 443),
            ports((0, 0), 80),
            ports((90, 89), 80),
            ports((8000, 8010), 65530),
            with(&|port| port.bind = PortBind::Interface("eth0\" drop".to_owned())),
            with(&|port| port.bind = PortBind::Address([0, 0, 0, 0].into())),
            with(&|port| port.bind = PortBind::Address("2001:db8::1".parse().expect("address"))),
            with(&|port| port.backends = BTreeMap::from([([10, 0, 0, 1].into(), 1)]).into()),
            with(&|port| port.backends = BTreeMap::from([([10, 255, 0, 3].into(), 0)]).into()),
            with(&|port| (port.proxy_protocol, port.protocol) = (true, PortProtocol::Udp)),
            with(&|port| (port.proxy_protocol, port.bind) = (true, PortBind::Interface("eth0".to_owned()))),
            ports((400, 500), 400),
            with(&|port| port.bind = PortBind::Address([192, 0, 2, 1].into())),
        ]);
        assert_eq!(
            said(&bad),
            [
                "published port 0/tcp: 0 is no port",
                "published port 90-89/tcp: its last port is before its first",
                "published port 8000-8010/tcp: its target ports, from 65530, would go beyond 65535",
                "published port 80/tcp on eth0\" drop: \"eth0\\\" drop\" is no interface: 1 to 15 letters, digits, '_', '.' or '-'",
                "published port 80/tcp at 0.0.0.0: 0.0.0.0 is no address: bind it to none instead",
                "published port 80/tcp at 2001:db8::1: it has no backend of the address family that it is bound to",
                "published port 80/tcp: backend 10.0.0.1 is in no subnet of the network ingress",
                "published port 80/tcp: backend 10.255.0.3 has the weight 0: leave it out instead",
                "published port 80/udp: only a connection over tcp can begin with a PROXY protocol header",
                "published port 80/tcp on eth0: with a PROXY protocol header it cannot be bound to an interface: bind it to an address",
                "published port 400-500/tcp: port 443/tcp is published by another service already",
            ]
        );
    }

    #[test]
    fn a_bad_mesh_is_left_out_as_a_whole() {
        let check = |change: &dyn Fn(&mut NetworkPlan), wanted: &str| {
            let mut bad = plan(vec![ports((80, 80), 80)]);
            change(&mut bad);
            assert_eq!(said(&bad), [wanted]);
        };
        let mesh = |plan: &mut NetworkPlan, change: &dyn Fn(&mut MeshPlan)| change(plan.mesh.as_mut().expect("mesh"));
        check(&|plan| plan.overlays.clear(), "the plan does not name its network 0000000000000000000000007");
        check(
            &|plan| mesh(plan, &|mesh| mesh.mac = MacAddress::for_ipv4([10, 0, 0, 1].into())),
            "MAC address 02:42:0a:00:00:01 is not one of a node's port in the ingress network",
        );
        check(
            &|plan| mesh(plan, &|mesh| mesh.addresses.push([10, 0, 0, 1].into())),
            "it has 2 IPv4 and 0 IPv6 addresses in the network ingress, not one of a family",
        );
        check(
            &|plan| mesh(plan, &|mesh| mesh.addresses = vec![[10, 0, 0, 1].into()]),
            "address 10.0.0.1 is in no subnet of the network ingress",
        );
        let same = |mesh: &mut MeshPlan| {
            let entry = EntryHost { node: NodeId::from_random(2), host: [192, 0, 2, 2].into() };
            mesh.entries.insert(mesh.mac, entry);
        };
        check(
            &|plan| mesh(plan, &same),
            "node 0000000000000000000000002 has the same MAC address 02:d2:00:00:00:81 in the ingress network as this \
             one: remove one of the two from the cluster and let it join again, under a new id",
        );
    }

    /// S-34, P31: a clash of host ports is said for the endpoint that came later, with who has the port. Two may have one number
    /// in a family each.
    #[test]
    fn p31_a_clash_of_host_ports_is_named() {
        let mut bad = plan(vec![ports((80, 80), 80)]);
        bad.bridge = Some(BridgePlan::new("172.17.0.0/16".parse().expect("subnet")).expect("bridge"));
        let publish = |plan: &mut NetworkPlan, id: &str, last: u8, bind: PortBind, published| {
            let address = [172, 17, 0, last].into();
            let bridge = Some(BridgePort { address, mac: MacAddress::for_ipv4(address) });
            let ports = vec![HostPorts { bind, protocol: PortProtocol::Tcp, published, target: 80 }];
            plan.endpoints.insert(id.parse().expect("id"), EndpointPlan { bridge, ports, ..EndpointPlan::default() });
        };
        publish(&mut bad, "a", 2, PortBind::All, (8080, 8090));
        publish(&mut bad, "b", 3, PortBind::All, (8085, 8085));
        publish(&mut bad, "c", 4, PortBind::All, (80, 80));
        publish(&mut bad, "d", 5, PortBind::Address([192, 0, 2, 1].into()), (80, 80));
        publish(&mut bad, "e", 6, PortBind::Address(Ipv4Addr::UNSPECIFIED.into()), (9000, 9000));
        publish(&mut bad, "f", 7, PortBind::Address(Ipv6Addr::UNSPECIFIED.into()), (9000, 9000));
        publish(&mut bad, "g", 8, PortBind::All, (9000, 9000));
        assert_eq!(
            said(&bad),
            [
                "published port 8085/tcp: port 8085/tcp is published by a already",
                "published port 80/tcp: port 80/tcp is published by another service already",
                "published port 9000/tcp: port 9000/tcp is published by e already",
            ]
        );
    }
}
