//! Probes between the data planes of hosts: the second witness of a host's life.
//!
//! Every host's `netd` answers small authenticated UDP messages and sends them to its peers. A daemon
//! that is stopped, stalled or upgrading does not matter to them: they are answered by another
//! process. Where hosts share overlays they also ask each other through the data path ([`ProbePath`]):
//! whether containers' packets pass is another question than whether the host lives. And they listen to each other's
//! kernels there ([`Pulse`]). Nothing here decides that a host is lost; it reports what was answered and what was not.

mod drain;
mod echo;
mod heart;
mod line;
mod message;
mod path;
mod peer;
mod place;
mod prober;
mod socket;
mod words;

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use types::{NodeId, ProbePeer, Timestamp};

pub use drain::{Draining, Led};
pub use path::ProbePath;
pub(crate) use peer::is_news;
pub(crate) use place::Place;
pub(crate) use prober::run;
pub use words::Way;

/// What a host needs to answer and to send probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSettings {
    /// This host.
    pub node: NodeId,
    /// Where it answers, and from where it asks: its data path address.
    pub address: IpAddr,
    /// UDP, the same on every host.
    #[serde(default = "default_port")]
    pub port: u16,
    pub key: ProbeKey,
    /// Whom to ask. In a large cluster a part of it; who asks this host is not bound by this list.
    pub peers: Vec<ProbePeer>,
    /// Between two probes to one peer, in milliseconds.
    #[serde(default = "default_interval_ms")]
    pub interval_ms: u32,
    /// So many unanswered probes in a row make a peer [`Verdict::Unanswered`].
    #[serde(default = "default_misses")]
    pub misses: u32,
    /// Whom to ask through the data path of plain overlays too: the nodes that this host shares one with.
    #[serde(default)]
    pub through_vxlan: Vec<ProbePeer>,
    /// The same for encrypted overlays.
    #[serde(default)]
    pub through_wireguard: Vec<ProbePeer>,
    /// What is on its way out here.
    #[serde(default)]
    pub draining: Draining,
}

fn default_port() -> u16 {
    types::DEFAULT_PROBE_PORT
}

fn default_interval_ms() -> u32 {
    200
}

fn default_misses() -> u32 {
    4
}

impl ProbeSettings {
    /// The usual port, interval and number of misses.
    pub fn new(node: NodeId, address: IpAddr, key: ProbeKey, peers: Vec<ProbePeer>) -> Self {
        let (port, interval_ms, misses) = (default_port(), default_interval_ms(), default_misses());
        let (through_vxlan, through_wireguard) = (Vec::new(), Vec::new());
        let draining = Draining::default();
        Self { node, address, port, key, peers, interval_ms, misses, through_vxlan, through_wireguard, draining }
    }
}

/// The cluster's secret that authenticates probes. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ProbeKey([u8; 32]);

impl From<[u8; 32]> for ProbeKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey(..)")
    }
}

impl Serialize for ProbeKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&hex)
    }
}

impl<'de> Deserialize<'de> for ProbeKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bad = || D::Error::custom("a probe key is 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut key = [0; 32];
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(key))
    }
}

/// What this host knows of one peer: the way there and back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    pub node: NodeId,
    #[serde(default)]
    pub path: ProbePath,
    /// Where it is asked: by the data path, its address in the overlay of the probes.
    pub address: IpAddr,
    pub verdict: Verdict,
    /// Since when the verdict stands.
    pub since: Timestamp,
    /// Of the newest answer, in microseconds.
    pub rtt_us: Option<u32>,
    /// Why the last probe got no answer, as far as anybody said so. None while the peer answers.
    pub last_error: Option<String>,
    pub full_size: FullSize,
    /// Whether the peer's own probes are answered by this host, as the peer last said.
    pub hears_us: Option<bool>,
    /// Whether probes of the peer have come lately.
    #[serde(default)]
    pub arrives: bool,
    /// Whether packets that are spoilt inside (wrong checksum, not authentic) come by this way, while the peer does
    /// not answer.
    #[serde(default)]
    pub corrupted: bool,
    /// Of its kernel, by this data path. Where packets are sealed in user space, silence may be that of a process.
    #[serde(default)]
    pub pulse: Pulse,
}

/// Whether a host's kernel answers through the data path, whatever the processes there do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pulse {
    /// It never did, or was not asked: says nothing for or against the peer.
    #[default]
    Unknown,
    Beats,
    /// It did, and does so no more: nothing gets there, and nothing comes from there.
    Gone,
}

/// Whether a peer answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not asked often enough yet: says nothing for or against the peer.
    Unknown,
    Answered,
    Unanswered,
}

/// Whether a message as large as the path's MTU gets there and back in one piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FullSize {
    /// Not tried, or the peer does not even answer small ones.
    Unknown,
    /// Size of the IP packet in bytes.
    Ok {
        bytes: u32,
    },
    Failed {
        bytes: u32,
        reason: String,
    },
}

/// All that the probes know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProbeTable {
    /// From host to host.
    pub peers: BTreeMap<NodeId, PeerState>,
    /// Through the data path of plain overlays.
    #[serde(default)]
    pub vxlan: BTreeMap<NodeId, PeerState>,
    /// Through that of encrypted ones.
    #[serde(default)]
    pub wireguard: BTreeMap<NodeId, PeerState>,
    /// Who still leads new connections to what is on its way out here, as far as it has not said otherwise.
    #[serde(default)]
    pub led: Led,
    pub counters: Counters,
    /// Why probes are not answered here: the address or port cannot be bound. None: they are, or nobody asked for it.
    pub responder_error: Option<String>,
}

impl ProbeTable {
    /// The peers by this way.
    pub fn by(&self, path: ProbePath) -> &BTreeMap<NodeId, PeerState> {
        match path {
            ProbePath::Host => &self.peers,
            ProbePath::Vxlan => &self.vxlan,
            ProbePath::Wireguard => &self.wireguard,
        }
    }

    fn by_mut(&mut self, path: ProbePath) -> &mut BTreeMap<NodeId, PeerState> {
        match path {
            ProbePath::Host => &mut self.peers,
            ProbePath::Vxlan => &mut self.vxlan,
            ProbePath::Wireguard => &mut self.wireguard,
        }
    }

    /// The peers by all ways.
    pub fn all(&self) -> impl Iterator<Item = &PeerState> {
        self.peers.values().chain(self.vxlan.values()).chain(self.wireguard.values())
    }
}

/// What passed by since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Probes of others answered.
    pub answered: u64,
    /// Messages that carried no valid authentication; they got no answer.
    pub bad_mac: u64,
    /// Messages that are no probes at all.
    pub malformed: u64,
    /// Valid probes meant for another node: this host has an address that was somebody else's.
    pub wrong_target: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_never_printed() {
        let key = ProbeKey::from([0xab; 32]);
        assert_eq!(format!("{key:?}"), "ProbeKey(..)");
        let text = serde_json::to_string(&key).expect("encode");
        assert_eq!(serde_json::from_str::<ProbeKey>(&text).expect("decode"), key);
        assert!(serde_json::from_str::<ProbeKey>("\"abc\"").is_err());
    }
}
