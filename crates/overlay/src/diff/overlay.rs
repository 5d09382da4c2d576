//! The steps of the overlays: namespace, bridge, the port towards the other hosts, and who is where.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use types::NetworkId;

use crate::{
    DataPath, Link, MacAddress, NetworkPlan, Observed, OverlayInside, OverlayNamespace, OverlayPlan, OverlayStep,
    PortRole, Step, Vxlan,
    mesh::INGRESS,
    mtu::planned_mtu,
    plan::{OVERLAY_BRIDGE, OVERLAY_TAP, OVERLAY_VXLAN, VETH_PREFIX, veth_name},
    wireguard::tunnel_address,
};

use super::tunnel;

/// The kernel counts the neighbours of every container together and allows 1,024; more, and connections
/// fail here and there (P36). Each costs some 500 bytes, and only when it is there.
const NEIGHBOURS: u32 = 65_536;

/// Room for the neighbours of many endpoints, where there are overlays at all. Never less than there was.
pub fn neighbour_limit(plan: &NetworkPlan, observed: &Observed) -> Option<Step> {
    let is_short = observed.neighbour_limit.is_some_and(|limit| limit < NEIGHBOURS);
    (!plan.overlays.is_empty() && is_short).then_some(Step::RaiseNeighbourLimit(NEIGHBOURS))
}

/// Overlays that the plan does not name.
pub fn removals(plan: &NetworkPlan, observed: &Observed) -> Vec<Step> {
    let unwanted = observed.overlays.iter().filter(|(id, _)| !plan.overlays.contains_key(id));
    let steps = unwanted.map(|(id, overlay)| {
        let mut steps = Vec::new();
        // First the VXLAN interface: the kernel takes its time to empty a namespace, and until then the
        // network's identifier would be taken.
        if matches!(overlay, OverlayNamespace::Alive(inside) if inside.links.contains_key(OVERLAY_VXLAN)) {
            steps.push(OverlayStep::RemoveLink { name: OVERLAY_VXLAN.to_owned() });
        }
        steps.push(OverlayStep::RemoveNamespace);
        Step::Overlay { id: *id, steps }
    });
    steps.collect()
}

/// What must be there before the endpoints, and what goes after them.
pub fn steps(plan: &NetworkPlan, observed: &Observed) -> (Vec<Step>, Vec<Step>) {
    let (mut come, mut go) = (Vec::new(), Vec::new());
    let Some(path) = &plan.data_path else { return (come, go) };
    let veths = veths_of(plan);
    let none = BTreeSet::new();
    for (id, overlay) in &plan.overlays {
        let uplink = Uplink::of(overlay, plan);
        let hosts = uplink.hosts(hosts_of(plan, *id, overlay));
        let around = Around { path, uplink, veths: veths.get(id).unwrap_or(&none), hosts: &hosts };
        let (first, last) = overlay_steps(*id, overlay, &around, observed);
        come.extend((!first.is_empty()).then_some(Step::Overlay { id: *id, steps: first }));
        go.extend((!last.is_empty()).then_some(Step::Overlay { id: *id, steps: last }));
    }
    (come, go)
}

/// What an overlay's own plan does not say.
struct Around<'a> {
    path: &'a DataPath,
    uplink: Uplink,
    /// Outer ends of the pairs that lead into it.
    veths: &'a BTreeSet<String>,
    /// On which host each MAC address is.
    hosts: &'a BTreeMap<MacAddress, IpAddr>,
}

/// How an overlay's frames get to the other hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uplink {
    /// VXLAN from the host's own address.
    Vxlan,
    /// The same inside the tunnel, which the kernel seals.
    SealedVxlan,
    /// A TAP whose holder seals.
    Tap,
}

impl Uplink {
    fn of(overlay: &OverlayPlan, plan: &NetworkPlan) -> Self {
        match (overlay.encrypted, plan.is_sealed_by_kernel()) {
            (false, _) => Self::Vxlan,
            (true, true) => Self::SealedVxlan,
            (true, false) => Self::Tap,
        }
    }

    fn link(self) -> &'static str {
        if self == Self::Tap { OVERLAY_TAP } else { OVERLAY_VXLAN }
    }

    /// Where frames for each MAC address are sent.
    fn hosts(self, mut hosts: BTreeMap<MacAddress, IpAddr>) -> BTreeMap<MacAddress, IpAddr> {
        if self == Self::SealedVxlan {
            hosts.values_mut().for_each(|host| *host = tunnel_address(*host).into());
        }
        hosts
    }
}

/// The remote endpoints, and in the mesh's network the ports of the other hosts.
pub(crate) fn hosts_of(plan: &NetworkPlan, id: NetworkId, overlay: &OverlayPlan) -> BTreeMap<MacAddress, IpAddr> {
    let remotes = overlay.remotes.iter().map(|(mac, remote)| (*mac, remote.host));
    let mesh = plan.mesh.iter().filter(|mesh| mesh.network == id);
    remotes.chain(mesh.flat_map(|mesh| &mesh.entries).map(|(mac, entry)| (*mac, entry.host))).collect()
}

/// Of each overlay the outer ends of the endpoints that are in it, and of this host's port in the mesh.
fn veths_of(plan: &NetworkPlan) -> BTreeMap<NetworkId, BTreeSet<String>> {
    let mut veths: BTreeMap<NetworkId, BTreeSet<String>> = BTreeMap::new();
    for (id, endpoint) in plan.endpoints.iter().filter(|(_, endpoint)| !endpoint.overlays.is_empty()) {
        let name = veth_name(id);
        for port in &endpoint.overlays {
            veths.entry(port.network).or_default().insert(name.clone());
        }
    }
    if let Some(mesh) = &plan.mesh {
        veths.entry(mesh.network).or_default().insert(INGRESS.to_owned());
    }
    veths
}

/// The overlay's bridge. Anything else under its name is replaced.
pub fn bridge_of(inside: Option<&OverlayInside>) -> Option<&Link> {
    inside?.links.get(OVERLAY_BRIDGE).filter(|link| link.kind == "bridge")
}

fn overlay_steps(
    id: NetworkId,
    overlay: &OverlayPlan,
    around: &Around<'_>,
    observed: &Observed,
) -> (Vec<OverlayStep>, Vec<OverlayStep>) {
    let Around { path, uplink, veths, hosts } = around;
    let mut steps = Vec::new();
    let empty = OverlayInside::default();
    let inside = match observed.overlays.get(&id) {
        Some(OverlayNamespace::Alive(inside)) => inside,
        stale => {
            steps.extend(stale.map(|_| OverlayStep::RemoveNamespace));
            steps.push(OverlayStep::CreateNamespace);
            &empty
        }
    };
    let bridge = bridge_of(Some(inside));
    let mtu = planned_mtu(overlay, path, observed, bridge.map(|link| link.mtu));
    steps.extend(left_over_links(*uplink, veths, inside));
    if bridge.is_none() {
        if inside.links.contains_key(OVERLAY_BRIDGE) {
            steps.push(OverlayStep::RemoveLink { name: OVERLAY_BRIDGE.to_owned() });
        }
        steps.push(OverlayStep::CreateBridge { mac: bridge_mac(overlay.vni), mtu });
    } else if bridge.is_some_and(|link| !link.up || link.mtu != mtu) {
        steps.push(OverlayStep::SetBridge { mtu });
    }
    let is_cut_off = *uplink == Uplink::SealedVxlan && !tunnel::stands(observed);
    let way = Way { uplink: *uplink, is_cut_off, vni: overlay.vni, path, mtu };
    let plugged = uplink_steps(&way, inside, &mut steps);
    let mut last = Vec::new();
    if let Some((name, is_new)) = plugged {
        if *uplink != Uplink::Tap {
            host_steps(hosts, if is_new { &empty } else { inside }, &mut steps, &mut last);
        }
        port_steps(hosts, name, if is_new || bridge.is_none() { &empty } else { inside }, &mut steps, &mut last);
    }
    neighbour_steps(overlay, if bridge.is_some() { inside } else { &empty }, &mut steps, &mut last);
    (steps, last)
}

/// A fixed address of its own: else the bridge takes the least of its ports'.
fn bridge_mac(vni: u32) -> MacAddress {
    let [_, a, b, c] = vni.to_be_bytes();
    MacAddress::from_bytes([0x02, b'r', b's', a, b, c])
}

/// Outer ends of endpoints that have no place here, and the port of another way to the hosts.
fn left_over_links(uplink: Uplink, veths: &BTreeSet<String>, inside: &OverlayInside) -> Vec<OverlayStep> {
    let names = inside.links.keys().filter(|name| {
        let strays = name.starts_with(VETH_PREFIX) && !veths.contains(*name);
        strays || ([OVERLAY_VXLAN, OVERLAY_TAP].contains(&name.as_str()) && *name != uplink.link())
    });
    names.map(|name| OverlayStep::RemoveLink { name: name.clone() }).collect()
}

/// One overlay's way to the other hosts.
struct Way<'a> {
    uplink: Uplink,
    /// The namespace that its VXLAN interface was made in is gone, and that with it.
    is_cut_off: bool,
    vni: u32,
    path: &'a DataPath,
    mtu: u32,
}

impl Way<'_> {
    /// As it shall be; None of a TAP.
    fn vxlan(&self) -> Option<Vxlan> {
        let Self { uplink, vni, path, .. } = *self;
        let local = match uplink {
            Uplink::Vxlan => path.address,
            Uplink::SealedVxlan => tunnel_address(path.address).into(),
            Uplink::Tap => return None,
        };
        Some(Vxlan { vni, local: Some(local), port: path.port, learns: false })
    }

    /// Whoever holds a TAP makes it.
    fn create(&self) -> Option<OverlayStep> {
        let Self { uplink, vni, path, mtu, .. } = *self;
        let port = path.port;
        match uplink {
            Uplink::Vxlan => Some(OverlayStep::CreateVxlan { vni, local: path.address, port, mtu }),
            Uplink::SealedVxlan => {
                Some(OverlayStep::CreateSealedVxlan { vni, local: tunnel_address(path.address), port, mtu })
            }
            Uplink::Tap => None,
        }
    }
}

/// Makes and plugs the port towards the other hosts. Returns its name and whether it is made anew; None
/// while nobody has made the TAP of an encrypted overlay: nothing leaves the host then.
fn uplink_steps(way: &Way<'_>, inside: &OverlayInside, steps: &mut Vec<OverlayStep>) -> Option<(&'static str, bool)> {
    let (name, mtu) = (way.uplink.link(), way.mtu);
    let found = inside.links.get(name);
    let vxlan = way.vxlan();
    let kept = found.filter(|link| vxlan.is_none() || (link.vxlan == vxlan && !way.is_cut_off));
    if kept.is_none() {
        let create = way.create()?;
        steps.extend(found.map(|_| OverlayStep::RemoveLink { name: name.to_owned() }));
        steps.push(create);
    }
    let bridge = bridge_of(Some(inside)).map(|link| link.index);
    let is_plugged = kept.is_some_and(|link| {
        let in_bridge = bridge.is_some() && link.controller == bridge;
        link.up && link.mtu == mtu && in_bridge && link.port == Some(PortRole::Uplink)
    });
    if !is_plugged {
        let udp_port = vxlan.map(|vxlan| vxlan.port);
        steps.push(OverlayStep::PlugUplink { name: name.to_owned(), udp_port, mtu });
    }
    Some((name, kept.is_none()))
}

/// On which host each MAC address is.
fn host_steps(
    hosts: &BTreeMap<MacAddress, IpAddr>,
    inside: &OverlayInside,
    come: &mut Vec<OverlayStep>,
    go: &mut Vec<OverlayStep>,
) {
    for (mac, host) in hosts.iter().filter(|(mac, host)| inside.hosts.get(mac) != Some(host)) {
        come.push(OverlayStep::AddHost { mac: *mac, host: *host });
    }
    let gone = inside.hosts.keys().filter(|mac| !hosts.contains_key(mac));
    go.extend(gone.map(|mac| OverlayStep::RemoveHost { mac: *mac }));
}

/// Which MAC addresses are behind the uplink. Those of endpoints here go with their links.
fn port_steps(
    hosts: &BTreeMap<MacAddress, IpAddr>,
    uplink: &str,
    inside: &OverlayInside,
    come: &mut Vec<OverlayStep>,
    go: &mut Vec<OverlayStep>,
) {
    let behind = |mac: &MacAddress| inside.ports.get(mac).is_some_and(|link| link == uplink);
    for mac in hosts.keys().filter(|mac| !behind(mac)) {
        come.push(OverlayStep::AddPort { mac: *mac, link: uplink.to_owned() });
    }
    for mac in inside.ports.keys().filter(|mac| behind(mac) && !hosts.contains_key(mac)) {
        go.push(OverlayStep::RemovePort { mac: *mac, link: uplink.to_owned() });
    }
}

/// With which MAC address the bridge answers for each remote endpoint.
fn neighbour_steps(
    overlay: &OverlayPlan,
    inside: &OverlayInside,
    come: &mut Vec<OverlayStep>,
    go: &mut Vec<OverlayStep>,
) {
    let wanted = overlay.remotes.iter().flat_map(|(mac, remote)| remote.addresses.iter().map(move |a| (*a, *mac)));
    let wanted: BTreeMap<_, _> = wanted.collect();
    for (address, mac) in wanted.iter().filter(|(address, mac)| inside.neighbours.get(address) != Some(mac)) {
        come.push(OverlayStep::AddNeighbour { address: *address, mac: *mac });
    }
    let gone = inside.neighbours.keys().filter(|address| !wanted.contains_key(address));
    go.extend(gone.map(|address| OverlayStep::RemoveNeighbour { address: *address }));
}
