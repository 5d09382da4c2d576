//! A host of the cluster.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{Cidr, Labels, Meta, NodeId, NodeRole, NodeSpec, Platform, Resources, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    #[serde(default)]
    pub meta: Meta,
    pub spec: NodeSpec,
    /// The role of the certificate the node holds; follows `spec.role`.
    pub role: NodeRole,
    pub status: NodeStatus,
    /// `None` until the node's first session.
    pub description: Option<NodeDescription>,
    /// Set while the node is a member (voter or learner) of the managers' Raft group.
    pub raft: Option<RaftMember>,
}

impl Node {
    /// What people call it: the name it was given, else its host's; empty while neither is known.
    pub fn shown_name(&self) -> &str {
        let hostname = self.description.as_ref().map_or("", |told| told.hostname.as_str());
        if self.spec.name.is_empty() { hostname } else { &self.spec.name }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub state: NodeState,
    /// Why the state is what it is, in words; empty when ready.
    #[serde(default)]
    pub message: String,
    /// When `state` was entered: deadlines such as `lost_after` count from here.
    pub since: Timestamp,
    /// Where the node's data plane is reached.
    pub address: Option<IpAddr>,
    /// Peers that do not reach it, or not with everything, although the control stream works: `node ls` shows
    /// DEGRADED. At most [`MAX_PEER_PROBLEMS`].
    #[serde(default, rename = "peer_problems")]
    pub unreachable_peers: Vec<PeerProblem>,
}

/// Peers that are named of one node: enough to see what is wrong, few enough that a node which lost all others does
/// not fill the value with their words.
pub const MAX_PEER_PROBLEMS: usize = 16;

/// What a peer says of its way to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerProblem {
    /// Who says it.
    pub by: NodeId,
    /// Direction, port, size and what to do, in one sentence.
    #[serde(default)]
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeState {
    /// Joined, no session yet.
    Unknown,
    Ready,
    /// The control stream is silent; its tasks are left alone until `lost_after`.
    Unreachable,
    /// Lost: both witnesses silent, or left, or unreachable for too long.
    Down,
}

/// What a node says of itself, sent on each session and when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDescription {
    pub hostname: String,
    pub platform: Platform,
    /// What else runs there: what the processor or an interpreter that the kernel knows makes run. At most
    /// [`MAX_PLATFORMS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also_runs: Vec<Platform>,
    pub resources: Resources,
    pub engine_version: String,
    pub engine_labels: Labels,
    /// The certificate's issuer, for `node inspect` and CA rotation.
    pub tls_issuer_pem: String,
    /// The roots the node trusts, its issuer last, while they are several; empty if its issuer is the only one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tls_roots_pem: String,
    /// Public half of the key the node's data plane encrypts with (X25519, RFC 7748).
    pub wireguard_key: Option<[u8; 32]>,
    /// MTU in bytes of the interface with the node's data path address; told again when it changes.
    pub underlay_mtu: Option<u32>,
    /// Networks this host has addresses in or routes to, besides rswarm's own: no overlay may overlap them (P25).
    pub routes: Vec<Cidr>,
    /// Processes of this host that listen where the routing mesh would, one sentence each. At most [`MAX_PORT_TROUBLES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port_troubles: Vec<String>,
    /// Devices as vendors name them (`acme.com/gpu=0`), for services that claim some. At most [`MAX_DEVICES`].
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<String>,
    /// Nodes of versions that did not say it have none here.
    #[serde(skip_serializing_if = "Drivers::is_empty")]
    pub drivers: Drivers,
}

/// What a node can make networks, volumes and logs with, by name and in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Drivers {
    pub logs: Vec<String>,
    pub networks: Vec<String>,
    pub volumes: Vec<String>,
}

impl Drivers {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Platforms that are told of one node: all architectures there are emulators for are fewer.
pub const MAX_PLATFORMS: usize = 64;

/// Devices that are told of one node: a host with sixteen GPUs, each with its parts and several names, has fewer.
pub const MAX_DEVICES: usize = 512;

/// Ports that are named of one node: who published a range over a busy host sees what is wrong by fewer.
pub const MAX_PORT_TROUBLES: usize = 16;

/// A node's place in the managers' Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMember {
    pub raft_id: u64,
    /// `host:port` where the other managers reach it.
    pub address: String,
}
