//! What is wrong between two hosts, in words that say which way, by which port, and what to do. Pure.

use std::net::IpAddr;

use super::{FullSize, PeerState, ProbePath, Verdict};

/// A way between two hosts, for its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// This host's address in the underlay.
    pub from: IpAddr,
    /// The peer's.
    pub to: IpAddr,
    /// The UDP port that this way uses on both.
    pub port: u16,
}

impl PeerState {
    /// Whether the way there and back is known not to carry everything.
    pub fn is_impaired(&self) -> bool {
        self.verdict == Verdict::Unanswered
            || matches!(self.full_size, FullSize::Failed { .. })
            || self.hears_us == Some(false)
    }

    /// One sentence on what is wrong; None while nothing is known to be.
    pub fn problem(&self, way: Way) -> Option<String> {
        let Way { from, to, port } = way;
        let path = match self.path {
            ProbePath::Host => String::new(),
            path => format!(" ({path})"),
        };
        if self.verdict == Verdict::Unanswered {
            if self.corrupted {
                return Some(format!(
                    "{from} <-> {to} UDP port {port}{path}: packets arrive, but spoilt inside (wrong inner \
                     checksums): a network card or hypervisor on the way does that; turn its offload off: ethtool -K DEVICE \
                     tx-checksum-ip-generic off"
                ));
            }
            if self.arrives {
                return Some(format!(
                    "{from} -> {to} UDP port {port}{path}: nothing gets through, while packets from {to} arrive: open \
                     UDP port {port} towards {to}"
                ));
            }
            let why = self.last_error.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            return Some(format!(
                "{from} <-> {to} UDP port {port}{path}: no answer, and nothing arrives from {to}{why}: open UDP port \
                 {port} between the two, both ways"
            ));
        }
        if let FullSize::Failed { bytes, .. } = self.full_size {
            return Some(format!(
                "{from} <-> {to} UDP port {port}{path}: small packets pass, those of {bytes} bytes do not: lower the MTU \
                 of the interface with {from}, or let packets of full size through"
            ));
        }
        (self.hears_us == Some(false)).then(|| {
            format!(
                "{to} -> {from} UDP port {port}{path}: {to} gets no answers to its probes, while packets from {from} pass: \
                 open UDP port {port} towards {from}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use types::{NodeId, Timestamp};

    use super::*;

    fn state() -> PeerState {
        PeerState {
            node: NodeId::from_random(2),
            path: ProbePath::Vxlan,
            address: [128, 0, 0, 2].into(),
            verdict: Verdict::Answered,
            since: Timestamp::EPOCH,
            rtt_us: None,
            last_error: None,
            full_size: FullSize::Ok { bytes: 1450 },
            hears_us: Some(true),
            arrives: true,
            corrupted: false,
            pulse: crate::Pulse::Beats,
        }
    }

    /// P03, P52: direction, port, size and kind of the fault are told apart.
    #[test]
    fn each_fault_has_its_sentence() {
        let way = Way { from: [10, 0, 0, 1].into(), to: [10, 0, 0, 2].into(), port: 4789 };
        let said = |state: PeerState| (state.is_impaired(), state.problem(way).unwrap_or_default());
        assert_eq!(said(state()), (false, String::new()));
        assert_eq!(said(PeerState { verdict: Verdict::Unknown, ..state() }), (false, String::new()));
        let silent = PeerState { verdict: Verdict::Unanswered, full_size: FullSize::Unknown, ..state() };
        for (state, start, part) in [
            (silent.clone(), "10.0.0.1 -> 10.0.0.2 UDP port 4789 (VXLAN): nothing gets through", "towards 10.0.0.2"),
            (PeerState { arrives: false, ..silent.clone() }, "10.0.0.1 <-> 10.0.0.2 UDP port 4789", "both ways"),
            (PeerState { corrupted: true, ..silent }, "10.0.0.1 <-> 10.0.0.2 UDP port 4789", "ethtool -K"),
            (
                PeerState { full_size: FullSize::Failed { bytes: 1450, reason: String::new() }, ..state() },
                "10.0.0.1 <-> 10.0.0.2 UDP port 4789",
                "those of 1450 bytes do not",
            ),
            (PeerState { hears_us: Some(false), ..state() }, "10.0.0.2 -> 10.0.0.1 UDP port 4789", "no answers"),
        ] {
            let (impaired, text) = said(state);
            assert!(impaired && text.starts_with(start) && text.contains(part), "{text}");
        }
    }
}
