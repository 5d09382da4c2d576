//! What a step would mend, said as a difference. Pure; the steps are those of [`crate::diff`].

use types::NetworkId;

use super::Difference;
use crate::{
    EndpointId, EndpointStep, InsideLink, InsideStep, Link, MeshStep, Namespace, NetworkPlan, Observed, OverlayInside,
    OverlayNamespace, OverlayPlan, OverlayStep, Place, Stacked, Step, diff,
    plan::{OVERLAY_BRIDGE, OVERLAY_TAP, OVERLAY_VXLAN},
};

/// All that [`diff`] finds, and the TAPs of encrypted overlays, which are made by somebody else. A
/// difference of an overlay bears its id.
pub fn differences(plan: &NetworkPlan, observed: &Observed) -> Vec<(Option<NetworkId>, Difference)> {
    let problems = plan.problems();
    let possible = plan.without(&problems);
    let host = problems.host.iter().map(|why| (None, impossible("plan", why)));
    let overlays = problems.overlays.iter().map(|(id, why)| match plan.locals.get(id) {
        Some(local) => (None, impossible(&format!("network {}", local.name), why)),
        None => (Some(*id), impossible("overlay network", why)),
    });
    let endpoints = problems.endpoints.iter().map(|(id, why)| {
        let network = plan.endpoints.get(id).and_then(|endpoint| endpoint.overlays.first());
        (network.map(|port| port.network), impossible(&format!("endpoint {id}"), why))
    });
    let mut found: Vec<_> = host.chain(overlays).chain(endpoints).collect();
    for step in diff(&possible, observed) {
        match step {
            Step::Overlay { id, steps } => {
                let inside = match observed.overlays.get(&id) {
                    Some(OverlayNamespace::Alive(inside)) => Some(inside),
                    _ => None,
                };
                found.extend(steps.iter().map(|step| (Some(id), of_overlay(step, inside))));
            }
            Step::Endpoint { id, steps } => {
                let first = possible.endpoints.get(&id).and_then(|endpoint| endpoint.overlays.first());
                let first = first.map(|port| port.network);
                let differences = steps.iter().flat_map(|step| {
                    let network = step.overlay().or(first);
                    of_endpoint(&id, step, observed).into_iter().map(move |difference| (network, difference))
                });
                found.extend(differences);
            }
            Step::Local { steps, .. } => found.extend(steps.iter().map(|step| (None, of_host(step, observed)))),
            Step::Tunnel { steps } => {
                found.extend(steps.iter().map(|step| (None, super::tunnel::difference(step, observed))));
            }
            step => found.push((None, of_host(&step, observed))),
        }
    }
    let needs_tap = |overlay: &OverlayPlan| overlay.encrypted && !possible.is_sealed_by_kernel();
    for (id, overlay) in possible.overlays.iter().filter(|(_, overlay)| needs_tap(overlay)) {
        let has_tap = matches!(observed.overlays.get(id),
            Some(OverlayNamespace::Alive(inside)) if inside.links.contains_key(OVERLAY_TAP));
        if !has_tap {
            let place = format!("overlay {}", overlay.name);
            found.push((
                Some(*id),
                Difference::new(OVERLAY_TAP, place, "a port of the bridge".to_owned(), String::new()),
            ));
        }
    }
    found
}

fn impossible(what: &str, why: &str) -> Difference {
    Difference::new(what, "plan of rswarm netd", "a plan that can be done".to_owned(), why.to_owned())
}

fn of_host(step: &Step, observed: &Observed) -> Difference {
    let link = |name: &str| observed.links.get(name).map(describe).unwrap_or_default();
    let differs = |what: &str, expected: String, found: String| Difference::new(what, "host", expected, found);
    match step {
        Step::LoadNft { .. } => differs("nft table", "the rules of the plan".to_owned(), format!("{:?}", observed.nft)),
        Step::RemoveNft => differs("nft table", String::new(), format!("{:?}", observed.nft)),
        Step::EnableForwarding => differs("net.ipv4.ip_forward", "1".to_owned(), "0".to_owned()),
        Step::RaiseNeighbourLimit(limit) => {
            let found = observed.neighbour_limit.map(|limit| limit.to_string()).unwrap_or_default();
            differs("net.ipv4.neigh.default.gc_thresh3", format!("{limit} or more"), found)
        }
        Step::CreateBridge { name, mtu, .. } | Step::SetBridge { name, mtu } => {
            differs(name, format!("a bridge, up, MTU {mtu}"), link(name))
        }
        Step::DisableIpv6 { link } => differs(link, "no IPv6".to_owned(), "IPv6".to_owned()),
        Step::EnableIpv6 { link } => differs(link, "IPv6".to_owned(), "no IPv6".to_owned()),
        Step::AddAddress { link, address } => differs(link, address.to_string(), String::new()),
        Step::RemoveAddress { link, address } => differs(link, String::new(), address.to_string()),
        Step::RemoveLink { name } => differs(name, String::new(), link(name)),
        Step::Mesh(MeshStep::LoadPorts { .. }) => {
            differs("published ports", "the rules of the plan".to_owned(), "other rules, or none".to_owned())
        }
        Step::Mesh(step) => differs("the host's port in the ingress network", format!("{step:?}"), String::new()),
        Step::CreateVlan { name, parent, tag } => {
            differs(name, format!("an interface for VLAN tag {tag} of {parent}, up"), link(name))
        }
        // These are told step by step.
        Step::Local { .. } | Step::Tunnel { .. } | Step::Overlay { .. } | Step::Endpoint { .. } => {
            differs("host network", "as planned".to_owned(), "otherwise".to_owned())
        }
    }
}

fn of_overlay(step: &OverlayStep, inside: Option<&OverlayInside>) -> Difference {
    let link = |name: &str| inside.and_then(|inside| inside.links.get(name)).map(describe).unwrap_or_default();
    let host = |mac| inside.and_then(|i| i.hosts.get(mac)).map(ToString::to_string).unwrap_or_default();
    let port = |mac| inside.and_then(|i| i.ports.get(mac)).cloned().unwrap_or_default();
    let neighbour =
        |address| inside.and_then(|i| i.neighbours.get(address)).map(ToString::to_string).unwrap_or_default();
    let differs = |what: String, at: &str, expected: String, found: String| {
        Difference::new(what, format!("overlay namespace, {at}"), expected, found)
    };
    match step {
        OverlayStep::RemoveNamespace => differs("namespace".to_owned(), "itself", String::new(), "one".to_owned()),
        OverlayStep::CreateNamespace => differs("namespace".to_owned(), "itself", "one".to_owned(), String::new()),
        OverlayStep::RemoveLink { name } => differs(name.clone(), "links", String::new(), link(name)),
        OverlayStep::CreateBridge { mtu, .. } | OverlayStep::SetBridge { mtu } => {
            differs(OVERLAY_BRIDGE.to_owned(), "links", format!("a bridge, up, MTU {mtu}"), link(OVERLAY_BRIDGE))
        }
        OverlayStep::CreateVxlan { vni, local, port, mtu } => {
            let expected = format!("VXLAN {vni} from {local} to port {port}, MTU {mtu}");
            differs(OVERLAY_VXLAN.to_owned(), "links", expected, link(OVERLAY_VXLAN))
        }
        OverlayStep::CreateSealedVxlan { vni, local, port, mtu } => {
            let expected = format!("VXLAN {vni} from {local} in the tunnel to port {port}, MTU {mtu}");
            differs(OVERLAY_VXLAN.to_owned(), "links", expected, link(OVERLAY_VXLAN))
        }
        OverlayStep::PlugUplink { name, mtu, .. } => {
            differs(name.clone(), "links", format!("up, MTU {mtu}, a port of {OVERLAY_BRIDGE}"), link(name))
        }
        OverlayStep::AddHost { mac, host: to } => {
            differs(format!("fdb {mac}"), OVERLAY_VXLAN, to.to_string(), host(mac))
        }
        OverlayStep::RemoveHost { mac } => differs(format!("fdb {mac}"), OVERLAY_VXLAN, String::new(), host(mac)),
        OverlayStep::AddPort { mac, link } => differs(format!("fdb {mac}"), OVERLAY_BRIDGE, link.clone(), port(mac)),
        OverlayStep::RemovePort { mac, .. } => differs(format!("fdb {mac}"), OVERLAY_BRIDGE, String::new(), port(mac)),
        OverlayStep::AddNeighbour { address, mac } => {
            differs(format!("neighbour {address}"), OVERLAY_BRIDGE, mac.to_string(), neighbour(address))
        }
        OverlayStep::RemoveNeighbour { address } => {
            differs(format!("neighbour {address}"), OVERLAY_BRIDGE, String::new(), neighbour(address))
        }
    }
}

fn of_endpoint(id: &EndpointId, step: &EndpointStep, observed: &Observed) -> Vec<Difference> {
    let inside = match observed.namespaces.get(id) {
        Some(Namespace::Alive(inside)) => Some(inside),
        _ => None,
    };
    let differs = |what: &str, expected: &str, found: &str| {
        Difference::new(what, format!("namespace of {id}"), expected.to_owned(), found.to_owned())
    };
    let outside = |at: &Place, name: &str| match at {
        Place::Host => observed.links.get(name).map(describe),
        Place::Overlay(network) => match observed.overlays.get(network) {
            Some(OverlayNamespace::Alive(inside)) => inside.links.get(name).map(describe),
            _ => None,
        },
    };
    let one = match step {
        EndpointStep::RemoveNamespace => differs("namespace", "", "one that nothing wants"),
        EndpointStep::CreateNamespace => differs("namespace", "one", ""),
        EndpointStep::LoopbackUp => differs("lo", "up", "down"),
        EndpointStep::RemoveVeth { at, name } => differs(name, "", &outside(at, name).unwrap_or_default()),
        EndpointStep::RemoveInterface { name } => differs(name, "", "an interface without its other end"),
        EndpointStep::CreateVeth { at, name, inside, mac, mtu } => {
            let expected = format!("{mac}, MTU {mtu}, the inner end of {name}");
            differs(inside, &expected, &outside(at, name).unwrap_or_default())
        }
        EndpointStep::CreateStacked { network, parent, inside: name, kind, mtu } => {
            let kind = match kind {
                Stacked::Macvlan { mac } => format!("macvlan interface {mac}"),
                Stacked::Ipvlan { mode } => format!("ipvlan interface of mode {}", mode.text()),
            };
            let expected = format!("MTU {mtu}, a {kind} on {parent} for network {network}");
            let link = inside.and_then(|inside| inside.interfaces.get(name));
            differs(name, &expected, &link.map(|link| format!("MTU {}, up: {}", link.mtu, link.up)).unwrap_or_default())
        }
        EndpointStep::Attach { name, bridge, mtu } => {
            let expected = format!("up, MTU {mtu}, a port of {bridge}");
            differs(name, &expected, &outside(&Place::Host, name).unwrap_or_default())
        }
        EndpointStep::Hairpin { name } => {
            differs(name, "sends back to where it came from", &outside(&Place::Host, name).unwrap_or_default())
        }
        EndpointStep::Isolate { name, apart } => {
            let expected = if *apart { "apart from its neighbours" } else { "within reach of its neighbours" };
            differs(name, expected, &outside(&Place::Host, name).unwrap_or_default())
        }
        EndpointStep::JoinMesh { interface, .. } => {
            differs("replies to the mesh", &format!("by {interface}, as they came"), "other rules, or none")
        }
        EndpointStep::LeaveMesh => differs("replies to the mesh", "", "rules and routes of the mesh"),
        EndpointStep::Plug { network, name, mac, mtu } => {
            let expected = format!("up, MTU {mtu}, the port of {OVERLAY_BRIDGE} that leads to {mac}");
            differs(name, &expected, &outside(&Place::Overlay(*network), name).unwrap_or_default())
        }
        EndpointStep::Inside { interface, steps } => {
            let link = inside.and_then(|inside| inside.interfaces.get(interface));
            let found = link.map(describe_inside).unwrap_or_default();
            return steps.iter().map(|step| differs(interface, &of_interface(interface, step), &found)).collect();
        }
        // What the table holds is compared address by address; a record that does not fit is loaded again.
        EndpointStep::SetVips { .. } | EndpointStep::EndFlows { .. } => return Vec::new(),
    };
    vec![one]
}

fn of_interface(interface: &str, step: &InsideStep) -> String {
    match step {
        InsideStep::DisableIpv6 => "no IPv6".to_owned(),
        InsideStep::EnableIpv6 => "IPv6".to_owned(),
        InsideStep::SetMtu(mtu) => format!("MTU {mtu}"),
        InsideStep::Set(setting) => format!("{}={}", setting.name(interface), setting.value),
        InsideStep::AddAddress(address) => format!("address {address}"),
        InsideStep::RemoveAddress(address) => format!("no address {address}"),
        InsideStep::InterfaceUp => "up".to_owned(),
        InsideStep::AddRoute(range) => format!("a route to {range}"),
        InsideStep::RemoveRoute(range) => format!("no route to {range}"),
        InsideStep::DefaultRoute(way) => format!("a default route {way}"),
        InsideStep::DefaultRoute6(way) => format!("a default route of IPv6 {way}"),
    }
}

fn describe_inside(link: &InsideLink) -> String {
    let InsideLink { up, mtu, addresses, routes, .. } = link;
    let texts = addresses.iter().map(ToString::to_string);
    let texts: Vec<String> = texts.chain(routes.iter().map(|range| format!("a route to {range}"))).collect();
    format!("{}, MTU {mtu}, {}", texts.join(", "), if *up { "up" } else { "down" })
}

fn describe(link: &Link) -> String {
    let Link { kind, up, mtu, controller, vxlan, .. } = link;
    let state = if *up { "up" } else { "down" };
    let port = controller.map(|index| format!(", a port of interface {index}")).unwrap_or_default();
    let vxlan = vxlan.as_ref().map(|v| format!(", VXLAN {} from {:?} to port {}", v.vni, v.local, v.port));
    format!("{kind} {state}, MTU {mtu}{port}{}", vxlan.unwrap_or_default())
}
