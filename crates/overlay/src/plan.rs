//! The complete wanted state of one host's network, as plain data. Pure.
//!
//! The node crate builds a [`NetworkPlan`] from its assignments and hands it to `netd`, which makes
//! the kernel match it. A plan is always whole: what it does not name is removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use types::{MeshAffinity, NetworkId, NodeId, PortBind, PortProtocol};

mod bridge;
mod change;
mod encryption;
mod interface;
mod local;
mod problems;
mod ways;

pub(crate) use bridge::BridgeLink;
pub use bridge::{BridgeGateway, LocalBridge, bridge_name, bridge_name_problem};
pub use change::{OtherPlan, PlanChange};
pub use encryption::{
    Encryption, EncryptionBackend, EncryptionChoice, EncryptionChoiceError, EncryptionPeer, PrivateKey,
};
pub use interface::{InterfacePlan, InterfaceSetting, interface_name_problem};
pub(crate) use local::link_local;
pub use local::{
    Ipv4Range, Ipv6Range, LocalDriver, LocalNetworkPlan, LocalPort, ParentLink, is_link_local, local_veth_name,
};
pub use problems::Problems;
pub use ways::WayIn;

use crate::{Cidr, Ipam, MacAddress, mesh::ports, probe::ProbeSettings};

/// The bridge's usual name. Every link whose name starts with [`BRIDGE_PREFIX`] or [`VETH_PREFIX`] is ours, and so are
/// bridges of other names, which are of a group of ours.
pub const BRIDGE_NAME: &str = "rswarm0";
/// Of a bridge where nobody says otherwise, in bytes: Ethernet's.
pub const BRIDGE_MTU: u32 = 1500;
/// Bridges of ours start with this.
pub const BRIDGE_PREFIX: &str = "rswarm";
/// The host's ends of our veth pairs start with this.
pub const VETH_PREFIX: &str = "rs-";
/// Names of an endpoint's interfaces inside its namespace: this and a number, in the order of its places, unless its plan
/// says another.
pub const INSIDE_PREFIX: &str = "eth";
/// Inside an overlay's namespace: the bridge that its endpoints are ports of.
pub const OVERLAY_BRIDGE: &str = "br0";
/// Inside an overlay's namespace: the bridge's port towards the other hosts, of an encrypted one where the kernel seals.
pub const OVERLAY_VXLAN: &str = "vxlan0";
/// The same of an encrypted overlay in user space. Whoever holds the TAP makes it; the plane plugs it into the bridge.
pub const OVERLAY_TAP: &str = "tap0";
/// The kernel's limit for interface names: `IFNAMSIZ` less the final zero.
const LINK_NAME_MAX: usize = 15;
/// IPv4's least MTU (RFC 791) and the largest the kernel lets a veth have.
pub const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;

/// What this host's network shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkPlan {
    /// None: no bridge, no rules, and no endpoint can be attached.
    pub bridge: Option<BridgePlan>,
    pub endpoints: BTreeMap<EndpointId, EndpointPlan>,
    /// None: this host neither answers nor sends probes.
    pub probes: Option<ProbeSettings>,
    /// None: no overlay can be made.
    pub data_path: Option<DataPath>,
    /// The overlay networks that have an endpoint on this host.
    pub overlays: BTreeMap<NetworkId, OverlayPlan>,
    /// The user's networks of this host alone.
    pub locals: BTreeMap<NetworkId, LocalNetworkPlan>,
    /// None: no port of the routing mesh is open on this host.
    pub mesh: Option<MeshPlan>,
    /// Published ports of what is there in IPv4 only are closed over IPv6.
    pub without_relay: bool,
}

/// The ingress routing mesh on this host: what arrives at a published port goes to a backend in the ingress
/// network, on whatever host, with the client's own address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshPlan {
    /// The ingress network; one of [`NetworkPlan::overlays`].
    pub network: NetworkId,
    /// Of this host's own port in it: by this address a backend knows the host through which a connection came.
    pub mac: MacAddress,
    /// Of the same port, IPv4 before IPv6: the network's gateways, the same on every host.
    pub addresses: Vec<IpAddr>,
    /// The same ports of the other hosts.
    pub entries: BTreeMap<MacAddress, EntryHost>,
    pub ports: Vec<PublishedPorts>,
    /// What is dialled here is a process's of this host, although its port is published at all addresses.
    #[serde(default)]
    pub spared: BTreeSet<(IpAddr, PortProtocol, u16)>,
}

impl MeshPlan {
    /// Whether backends can be reached over IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }
}

impl NetworkPlan {
    /// Whether a published port asks for headers of the PROXY protocol.
    pub fn needs_headers(&self) -> bool {
        self.mesh.iter().flat_map(|mesh| &mesh.ports).any(|ports| ports.proxy_protocol)
    }

    /// Whether the process has to run that does for published ports what the kernel cannot ([`crate::proxy`]): for
    /// such headers, and to lead from IPv6 to what is there in IPv4 only, from ::1 to what is there in IPv6 only.
    pub fn needs_port_proxy(&self) -> bool {
        let mut of_mesh = self.mesh.iter().filter(|mesh| !mesh.has_ipv6()).flat_map(|mesh| &mesh.ports);
        let leads_to = |endpoint: &EndpointPlan| {
            let is_led = match self.published4(endpoint) {
                Some(_) => ports::is_relayed,
                None if self.published6(endpoint).is_some() => ports::is_past_loopback,
                None => return false,
            };
            endpoint.ports.iter().any(|ports| is_led(&ports.bind, ports.protocol))
        };
        let leads = self.endpoints.values().any(leads_to)
            || of_mesh.any(|ports| ports::is_relayed(&ports.bind, ports.protocol));
        self.needs_headers() || (!self.without_relay && leads)
    }
}

/// Another host through which connections come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryHost {
    pub node: NodeId,
    /// The host's address in the underlay.
    pub host: IpAddr,
}

/// Successive ports that go to the same backends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPorts {
    pub bind: PortBind,
    pub protocol: PortProtocol,
    /// First and last published port.
    pub published: (u16, u16),
    /// First of as many target ports.
    pub target: u16,
    /// Addresses in the ingress network of those that take new connections, with their weights (not 0).
    /// Empty: connections are refused.
    /// Shared, because plans with a thousand of them are copied.
    pub backends: Arc<BTreeMap<IpAddr, u16>>,
    pub affinity: MeshAffinity,
    pub proxy_protocol: bool,
}

/// Successive ports of this host that go to one endpoint on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPorts {
    pub bind: PortBind,
    pub protocol: PortProtocol,
    /// First and last published port.
    pub published: (u16, u16),
    /// First of as many target ports.
    pub target: u16,
}

/// Successive ports of an endpoint that whoever has a route to it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpenPorts {
    pub protocol: PortProtocol,
    /// First and last.
    pub ports: (u16, u16),
}

/// How this host speaks to the others' overlays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPath {
    /// This host's address in the underlay.
    pub address: IpAddr,
    /// UDP port of VXLAN, the same on every host.
    pub port: u16,
    /// None: no encrypted overlay can be made.
    #[serde(default)]
    pub encryption: Option<Encryption>,
    /// The smallest MTU that another host's underlay has, in bytes; None: not known.
    #[serde(default)]
    pub least_mtu: Option<u32>,
}

/// An overlay network as this host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayPlan {
    /// For messages.
    pub name: String,
    /// VXLAN network identifier (RFC 7348).
    pub vni: u32,
    /// IPv4 before IPv6.
    pub subnets: Vec<Cidr>,
    /// Of its endpoints, in bytes; None: as much as the underlay carries.
    #[serde(default)]
    pub mtu: Option<u32>,
    #[serde(default)]
    pub encrypted: bool,
    /// The endpoints on other hosts, by MAC address.
    #[serde(default)]
    pub remotes: BTreeMap<MacAddress, Remote>,
    /// Virtual addresses of services and the addresses of the backends that take new connections.
    #[serde(default)]
    pub services: BTreeMap<IpAddr, BTreeSet<IpAddr>>,
    /// What the DNS answers in this network, by lower-case name: service, alias, container name and so on.
    #[serde(default)]
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// The other way round, for PTR questions.
    #[serde(default)]
    pub reverse: BTreeMap<IpAddr, String>,
}

/// An endpoint on another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Inside the overlay.
    pub addresses: Vec<IpAddr>,
    pub node: NodeId,
    /// The host's address in the underlay.
    pub host: IpAddr,
}

/// The host's local bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePlan {
    /// Starts with [`BRIDGE_PREFIX`], at most 15 bytes.
    pub name: String,
    pub subnet: Cidr,
    /// The bridge's own address and the endpoints' default route.
    pub gateway: Ipv4Addr,
    /// Of the bridge and of every endpoint on it, in bytes.
    pub mtu: u32,
    /// Whether endpoints reach the world under the host's own address.
    pub masquerade: bool,
    /// Its endpoints do not reach each other but by published ports.
    #[serde(default)]
    pub apart: bool,
}

/// One container's or task's network namespace and its places in networks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointPlan {
    /// Its way to the world; None for one that has only internal networks.
    pub bridge: Option<BridgePort>,
    /// In the user's order.
    pub overlays: Vec<OverlayPort>,
    /// In the user's order, after the overlays.
    pub locals: Vec<LocalPort>,
    /// Numbers of the interfaces of places that are not named by their position: one that was there keeps its
    /// name when others go.
    pub interfaces: BTreeMap<NetworkId, u32>,
    /// Number of the interface on the bridge.
    pub bridge_interface: u32,
    /// What is special about the interfaces of places in networks.
    pub special: BTreeMap<NetworkId, InterfacePlan>,
    /// The same of the interface on the bridge.
    pub bridge_special: InterfacePlan,
    /// Further addresses there that only its neighbours reach, of IPv4: the bridge has no IPv6.
    pub bridge_link_local: Vec<IpAddr>,
    /// What is not 0 of them: of networks that lead out, that with the highest is its default route; of several of those the
    /// one of more families, and of these the first by name.
    pub priorities: BTreeMap<NetworkId, i64>,
    /// The same of the bridge.
    pub bridge_priority: i64,
    /// The name its container bears.
    pub hostname: String,
    pub dns: EndpointDns,
    /// Over IPv4 they lead over the bridge, over IPv6 to the network of its default route.
    pub ports: Vec<HostPorts>,
    /// At its address in the network of its IPv4 default route, if that is routed.
    pub open4: Vec<OpenPorts>,
    /// The same of IPv6.
    pub open6: Vec<OpenPorts>,
}

/// A place on the host's bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePort {
    pub address: Ipv4Addr,
    pub mac: MacAddress,
}

/// A place in an overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayPort {
    pub network: NetworkId,
    /// IPv4 before IPv6; one of each family that the network has.
    pub addresses: Vec<IpAddr>,
    pub mac: MacAddress,
}

/// How the endpoint's resolver at 127.0.0.11 answers what no network of its own knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointDns {
    /// Empty: the host's.
    pub nameservers: Vec<IpAddr>,
    /// Names of this endpoint's own for names of its networks, in lower case. They need not be known yet.
    pub links: BTreeMap<String, String>,
}

/// The id of a task or container, safe as a file name: 1 to 128 of `A-Z a-z 0-9 _ . -`, not starting with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EndpointId(String);

/// Why a text is not an [`EndpointId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an endpoint id: 1 to 128 letters, digits, '_', '.' or '-', not starting with a dot")]
pub struct EndpointIdError(String);

impl BridgePlan {
    /// The bridge of `subnet` with the usual name, the first host address as gateway, MTU 1500, masqueraded.
    ///
    /// # Errors
    /// When the subnet is not IPv4 or has no room for an endpoint.
    pub fn new(subnet: Cidr) -> Result<Self, crate::IpamError> {
        let ipam = Ipam::new(subnet)?;
        let (name, subnet, gateway) = (BRIDGE_NAME.to_owned(), ipam.subnet(), ipam.gateway());
        Ok(Self { name, subnet, gateway, mtu: BRIDGE_MTU, masquerade: true, apart: false })
    }

    /// An address of this subnet, as an interface bears it.
    pub fn with_prefix(&self, address: Ipv4Addr) -> Cidr {
        Cidr::new(IpAddr::V4(address), self.subnet.prefix().min(32)).expect("a prefix of at most 32 fits IPv4")
    }

    fn checked(&self) -> Result<Ipam, String> {
        let Self { name, mtu, .. } = self;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !name.starts_with(BRIDGE_PREFIX) || name.len() > LINK_NAME_MAX || !plain {
            return Err(format!(
                "bridge name {name:?}: must start with {BRIDGE_PREFIX:?}, be made of letters, digits, '-' or '_' \
                 and have at most {LINK_NAME_MAX} characters"
            ));
        }
        if !MTU_RANGE.contains(mtu) {
            return Err(format!("bridge {name}: MTU {mtu} is outside {}-{}", MTU_RANGE.start(), MTU_RANGE.end()));
        }
        Ipam::with_gateway(self.subnet, self.gateway).map_err(|e| format!("bridge {name}: {e}"))
    }
}

/// The host's end of an endpoint's veth pair: `rs-` and 12 hexadecimal digits that depend on the id alone.
pub fn veth_name(id: &EndpointId) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, id.0.as_bytes());
    let hash: String = digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{VETH_PREFIX}{hash}")
}

impl EndpointId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointId {
    type Err = EndpointIdError;

    fn from_str(text: &str) -> Result<Self, EndpointIdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if text.is_empty() || text.len() > 128 || text.starts_with('.') || !text.bytes().all(allowed) {
            return Err(EndpointIdError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl From<types::TaskId> for EndpointId {
    fn from(id: types::TaskId) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EndpointId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(endpoints: &[(&str, [u8; 4])]) -> NetworkPlan {
        let subnet = "172.17.0.0/24".parse().expect("subnet");
        let endpoints = endpoints.iter().map(|(id, address)| {
            let address = Ipv4Addr::from(*address);
            let bridge = Some(BridgePort { address, mac: MacAddress::for_ipv4(address) });
            let endpoint = EndpointPlan { bridge, hostname: (*id).to_owned(), ..EndpointPlan::default() };
            (id.parse().expect("id"), endpoint)
        });
        let bridge = Some(BridgePlan::new(subnet).expect("bridge"));
        NetworkPlan { bridge, endpoints: endpoints.collect(), ..NetworkPlan::default() }
    }

    #[test]
    fn a_bad_endpoint_is_named_and_the_others_stand() {
        let bad = plan(&[
            ("a", [172, 17, 0, 5]),
            ("b", [172, 17, 0, 5]),
            ("c", [172, 17, 0, 1]),
            ("d", [172, 17, 1, 1]),
            ("e", [172, 17, 0, 6]),
        ]);
        let said: Vec<String> = bad.problems().endpoints.iter().map(|(id, why)| format!("{id}: {why}")).collect();
        assert_eq!(
            said,
            [
                "b: address 172.17.0.5 is another endpoint's",
                "c: address 172.17.0.1 is the gateway's",
                "d: address 172.17.1.1 is not a host address of 172.17.0.0/24"
            ]
        );
    }

    #[test]
    fn a_bad_bridge_refuses_the_plan() {
        let mut bad = plan(&[]);
        let bridge = bad.bridge.as_mut().expect("bridge");
        bridge.name = "docker0".to_owned();
        assert!(bad.problems().host[0].starts_with("bridge name \"docker0\": must start with"));
        let bridge = bad.bridge.as_mut().expect("bridge");
        bridge.name = "rswarm0\"; flush ruleset".to_owned();
        assert!(!bad.problems().host.is_empty());
    }

    #[test]
    fn ids_cannot_leave_their_directory() {
        for bad in ["", ".", "..", "a/b", "../x", "a b", "é"] {
            assert!(bad.parse::<EndpointId>().is_err(), "{bad:?}");
            assert!(serde_json::from_value::<EndpointId>(bad.into()).is_err(), "{bad:?}");
        }
        let id: EndpointId = "web.1-x_y".parse().expect("id");
        assert_eq!(veth_name(&id).len(), 15);
    }

    #[test]
    fn a_plan_round_trips_through_json() {
        let plan = plan(&[("a", [172, 17, 0, 5])]);
        let text = serde_json::to_string(&plan).expect("encode");
        assert!(text.contains(r#""bridge":{"address":"172.17.0.5","mac":"02:42:ac:11:00:05"}"#), "{text}");
        assert_eq!(serde_json::from_str::<NetworkPlan>(&text).expect("decode"), plan);
    }
}
