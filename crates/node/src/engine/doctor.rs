//! What the engine knows for `rswarm doctor` and `rswarm network doctor`: what the cluster says of this host's
//! overlays, where kernel and data plane process are, and what the probes found. The comparing of networks is
//! `overlay::doctor`'s.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use overlay::{
    FullSize, Kernel, NetworkPlan, PeerState, ProbePath, ProbeSettings, ProbeTable, Verdict, Way,
    doctor::{Difference, Findings, examine},
};
use types::{Check, NodeId, with_causes};

use super::{Engine, network::PortHolder};

/// A data plane process that is there answers within milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl Engine {
    /// Compares the overlays of this host, entry by entry, with what the data plane was told and with what
    /// the cluster says. Takes some milliseconds for each endpoint; changes nothing.
    ///
    /// # Errors
    /// A sentence when the kernel cannot be asked, or no plan is to be had.
    pub async fn network_findings(&self) -> Result<Findings, String> {
        let (network, run_dir) = (&self.inner.network, &self.inner.config.run_dir);
        let value = || network.overlays_of_cluster();
        let mut findings = examine(network.client(), &Kernel::new(run_dir), run_dir, value).await?;
        for holder in network.port_holders().borrow().iter() {
            let PortHolder { port, is_trouble, sentence } = holder;
            if !is_trouble {
                findings.notes.push(sentence.clone());
                continue;
            }
            findings.host.push(Difference {
                what: format!("published port {port}"),
                place: "sockets of this host".to_owned(),
                expected: "the routing mesh alone".to_owned(),
                found: sentence.clone(),
            });
        }
        Ok(findings)
    }

    /// One line for each way to each peer that the probes ask.
    pub async fn path_checks(&self) -> Vec<Check> {
        let client = self.inner.network.client();
        let asking = async {
            Ok::<_, overlay::netd::NetdError>((client.status().await?, client.held_plan().await?.unwrap_or_default()))
        };
        let failed = |why: String| vec![Check::fail("rswarm netd", format!("does not answer the daemon: {why}"))];
        match tokio::time::timeout(ANSWER_LIMIT, asking).await {
            Ok(Ok((status, plan))) => paths(&status.probes, &plan),
            Ok(Err(error)) => failed(with_causes(&error)),
            Err(_) => failed(format!("nothing within {} s", ANSWER_LIMIT.as_secs())),
        }
    }
}

/// What the probes know, in lines. Pure.
fn paths(table: &ProbeTable, plan: &NetworkPlan) -> Vec<Check> {
    let Some(settings) = &plan.probes else { return Vec::new() };
    let mut checks = Vec::new();
    if let Some(error) = &table.responder_error {
        checks.push(Check::fail("probes", format!("{error}: other nodes take this host for lost when it is silent")));
    }
    let hosts = hosts(settings);
    for state in table.all() {
        let Some(to) = hosts.get(&state.node).copied() else { continue };
        let port = match state.path {
            ProbePath::Host => Some(settings.port),
            ProbePath::Vxlan => plan.data_path.as_ref().map(|path| path.port),
            ProbePath::Wireguard => plan.data_path.as_ref().and_then(|p| p.encryption.as_ref()).map(|e| e.port),
        };
        checks.extend(port.map(|port| path(state, Way { from: settings.address, to, port })));
    }
    checks
}

/// The peers' addresses in the underlay.
fn hosts(settings: &ProbeSettings) -> BTreeMap<NodeId, IpAddr> {
    let all = [&settings.peers, &settings.through_vxlan, &settings.through_wireguard];
    all.into_iter().flatten().map(|peer| (peer.node, peer.address)).collect()
}

fn path(state: &PeerState, way: Way) -> Check {
    let Way { to, port, .. } = way;
    let subject = match state.path {
        ProbePath::Host => format!("probe port of {to}"),
        ProbePath::Vxlan => format!("data path port of {to}"),
        ProbePath::Wireguard => format!("encrypted data path port of {to}"),
    };
    if let Some(problem) = state.problem(way) {
        return Check::fail(subject, problem);
    }
    match (state.verdict, &state.full_size) {
        (Verdict::Unknown, _) => {
            Check::warn(subject, format!("UDP port {port}: not known yet, ask again in some seconds"))
        }
        (_, FullSize::Ok { bytes }) => {
            Check::pass(subject, format!("UDP port {port} answers, packets of {bytes} bytes pass both ways"))
        }
        _ => Check::pass(subject, format!("UDP port {port} answers")),
    }
}

#[cfg(test)]
mod tests {
    use overlay::{DataPath, ProbeKey};
    use types::{ProbePeer, Timestamp};

    use super::*;

    /// P03: each port of each peer has its line.
    #[test]
    fn p03_each_port_of_each_peer_has_a_line() {
        let peer = ProbePeer { node: NodeId::from_random(2), address: [192, 0, 2, 2].into() };
        let me = NodeId::from_random(1);
        let settings = ProbeSettings::new(me, [192, 0, 2, 1].into(), ProbeKey::from([1; 32]), vec![peer]);
        let probes = Some(ProbeSettings { through_vxlan: vec![peer], ..settings });
        let data_path =
            Some(DataPath { address: [192, 0, 2, 1].into(), port: 4789, encryption: None, least_mtu: None });
        let plan = NetworkPlan { probes, data_path, ..NetworkPlan::default() };
        let state = |path, verdict| PeerState {
            node: peer.node,
            path,
            address: [128, 0, 0, 2].into(),
            verdict,
            since: Timestamp::EPOCH,
            rtt_us: None,
            last_error: None,
            full_size: FullSize::Ok { bytes: 1500 },
            hears_us: Some(true),
            arrives: true,
            corrupted: false,
            pulse: overlay::Pulse::Unknown,
        };
        let table = ProbeTable {
            peers: [(peer.node, state(ProbePath::Host, Verdict::Answered))].into(),
            vxlan: [(peer.node, state(ProbePath::Vxlan, Verdict::Unanswered))].into(),
            ..ProbeTable::default()
        };
        let said: Vec<String> =
            paths(&table, &plan).iter().map(|c| format!("{} {}: {}", c.verdict, c.subject, c.text)).collect();
        assert_eq!(
            said[0],
            "PASS probe port of 192.0.2.2: UDP port 7946 answers, packets of 1500 bytes pass both ways"
        );
        assert!(
            said[1].starts_with("FAIL data path port of 192.0.2.2: 192.0.2.1 -> 192.0.2.2 UDP port 4789"),
            "{said:?}"
        );
    }
}
