//! Probes between the data planes of hosts: the second witness of a host's life.
//!
//! Every host's `netd` answers small authenticated UDP messages and sends them to its peers. A daemon
//! that is stopped, stalled or upgrading does not matter to them: they are answered by another
//! process. Nothing here decides that a host is lost; it reports what was answered and what was not.

mod message;
mod peer;
mod prober;
mod socket;

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use types::{NodeId, ProbePeer, ProbeReport, Timestamp};

pub(crate) use peer::is_news;
pub(crate) use prober::run;

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
        Self { node, address, port, key, peers, interval_ms, misses }
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
}

impl PeerState {
    /// What is told to the managers; `port` is the one probes go to. None while nothing is known.
    pub fn report(&self, port: u16) -> Option<ProbeReport> {
        let Self { node, address, .. } = self;
        let answered = match self.verdict {
            Verdict::Unknown => return None,
            Verdict::Answered => true,
            Verdict::Unanswered => false,
        };
        let detail = match (answered, &self.full_size, self.hears_us) {
            (false, ..) => {
                let why = self.last_error.as_deref().unwrap_or("no answer");
                format!("{address} does not answer on UDP port {port}: {why}")
            }
            (true, FullSize::Failed { reason, .. }, _) => {
                format!("{address} answers on UDP port {port}, but not at full size: {reason}")
            }
            (true, _, Some(false)) => {
                format!("{address} answers, but its own probes to this host's UDP port {port} stay unanswered")
            }
            (true, FullSize::Ok { bytes }, _) => format!("{address} answers, packets of {bytes} bytes pass"),
            (true, FullSize::Unknown, _) => format!("{address} answers"),
        };
        Some(ProbeReport { peer: *node, answered, detail })
    }
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
    pub peers: BTreeMap<NodeId, PeerState>,
    pub counters: Counters,
    /// Why probes are not answered here: the address or port cannot be bound. None: they are, or nobody asked for it.
    pub responder_error: Option<String>,
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
    fn a_report_says_direction_port_and_size() {
        let state = PeerState {
            node: NodeId::from_random(2),
            address: [10, 0, 0, 2].into(),
            verdict: Verdict::Answered,
            since: Timestamp::EPOCH,
            rtt_us: None,
            last_error: None,
            full_size: FullSize::Ok { bytes: 1500 },
            hears_us: Some(true),
        };
        let detail = |state: PeerState| state.report(7946).map(|report| (report.answered, report.detail));
        let said = |answered, text: &str| Some((answered, text.to_owned()));
        assert_eq!(detail(state.clone()), said(true, "10.0.0.2 answers, packets of 1500 bytes pass"));
        assert_eq!(detail(PeerState { verdict: Verdict::Unknown, ..state.clone() }), None);
        assert_eq!(
            detail(PeerState { verdict: Verdict::Unanswered, ..state.clone() }),
            said(false, "10.0.0.2 does not answer on UDP port 7946: no answer")
        );
        assert_eq!(
            detail(PeerState { hears_us: Some(false), ..state.clone() }),
            said(true, "10.0.0.2 answers, but its own probes to this host's UDP port 7946 stay unanswered")
        );
        let full_size = FullSize::Failed { bytes: 1500, reason: "small packets pass".to_owned() };
        assert_eq!(
            detail(PeerState { full_size, ..state }),
            said(true, "10.0.0.2 answers on UDP port 7946, but not at full size: small packets pass")
        );
    }

    #[test]
    fn the_key_is_never_printed() {
        let key = ProbeKey::from([0xab; 32]);
        assert_eq!(format!("{key:?}"), "ProbeKey(..)");
        let text = serde_json::to_string(&key).expect("encode");
        assert_eq!(serde_json::from_str::<ProbeKey>(&text).expect("decode"), key);
        assert!(serde_json::from_str::<ProbeKey>("\"abc\"").is_err());
    }
}
