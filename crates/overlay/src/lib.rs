//! The network data plane of one host.
//!
//! The node crate says what the host's network shall be ([`NetworkPlan`]); a process of its own
//! ([`netd`]) makes it so: it observes the kernel ([`Observed`]), compares ([`diff`]) and does the
//! difference ([`Kernel::apply`]). The first three are plain data and pure functions, the last is all
//! the I/O.
//!
//! An overlay network is a network namespace with a bridge whose ports are the endpoints here and one
//! VXLAN interface towards the other hosts. Nothing in it is learnt: which MAC address is on which
//! host, and what to answer to who asks for an address, is set from the plan. Services' virtual
//! addresses are resolved in each endpoint's own namespace.
//!
//! This crate knows nothing of managers or the cluster's value.

pub mod capabilities;
mod client;
mod diff;
mod dns;
pub mod doctor;
mod ipam;
mod ipam6;
mod kernel;
mod mac;
mod mesh;
mod mtu;
pub mod netd;
pub mod nft;
mod observed;
pub mod plan;
pub mod probe;
pub mod proxy;
mod step;
pub mod tunnel;
mod vip;
pub mod wireguard;

pub use capabilities::{Capability, capabilities, kernel_wireguard};
pub use client::{Client, ProbeStream};
pub use diff::diff;
pub use dns::{DnsCounters, SERVER_ADDRESS as DNS_SERVER};
pub use ipam::{Ipam, IpamError, choose_subnet, default_pools, overlap};
pub use ipam6::{Ipam6, Ipam6Error, choose_ipv6_subnet};
pub use kernel::{Kernel, KernelError, StepFailure, explain, underlay_mtu};
pub use mac::{MacAddress, MacError};
pub use mesh::{HostMesh, PortTable, ProxyPorts, backend::Backend};
pub use mtu::overlay_mtu;
pub use netd::protocol::{Applied, EndpointResult, ProbeUpdate, Status};
pub use observed::{
    Inside, InsideLink, Link, LoadedVips, Namespace, NftTable, Observed, OverlayInside, OverlayNamespace, Parent,
    PortRole, Stacked, Vxlan, WayOut,
};
pub use plan::{
    BRIDGE_MTU, BRIDGE_NAME, BridgeGateway, BridgePlan, BridgePort, DataPath, Encryption, EncryptionBackend,
    EncryptionChoice, EncryptionChoiceError, EncryptionPeer, EndpointDns, EndpointId, EndpointIdError, EndpointPlan,
    EntryHost, HostPorts, InterfacePlan, InterfaceSetting, Ipv4Range, Ipv6Range, LocalBridge, LocalDriver,
    LocalNetworkPlan, LocalPort, MTU_RANGE, MeshPlan, NetworkPlan, OpenPorts, OtherPlan, OverlayPlan, OverlayPort,
    ParentLink, PlanChange, PrivateKey, PublishedPorts, Remote, WayIn, bridge_name_problem, interface_name_problem,
};
pub use probe::{
    Draining, FullSize, Led, PeerState, ProbeKey, ProbePath, ProbeSettings, ProbeTable, Pulse, Verdict, Way,
};
pub use step::{EndpointStep, InsideStep, MeshStep, OverlayStep, Place, Step, Subject};
pub use tunnel::{TunnelDevice, TunnelInside, TunnelNamespace, TunnelPeer, TunnelStep};
pub use types::{Cidr, CidrError};
