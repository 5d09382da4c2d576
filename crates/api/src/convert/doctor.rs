//! What `doctor` and `network doctor` found, as JSON. Docker has nothing like it; the spelling is Docker's all the same.

use std::net::IpAddr;

use node::doctor::{Difference, Findings, NetworkFindings};
use serde_json::{Value, json};
use types::{Check, NodeId};

use super::writer::Fields;

pub(crate) fn write_check(check: &Check) -> Value {
    json!({ "Verdict": check.verdict.to_string(), "Subject": check.subject, "Text": check.text })
}

pub(crate) fn write_findings(findings: &Findings) -> Value {
    Fields::new()
        .set("Equal", findings.is_equal())
        .set("Networks", findings.networks.iter().map(write_network).collect::<Vec<_>>())
        .set("Host", write_differences(&findings.host))
        .set("Notes", &findings.notes)
        .done()
}

/// One of several nodes: what it found, or why it did not say.
pub(crate) fn write_node(
    id: NodeId,
    hostname: &str,
    address: Option<IpAddr>,
    said: &Result<Findings, String>,
) -> Value {
    Fields::new()
        .set("ID", id)
        .set("Hostname", hostname)
        .set("Address", address)
        .set("Error", said.as_ref().err())
        .set("Findings", said.as_ref().ok().map(write_findings))
        .done()
}

fn write_network(network: &NetworkFindings) -> Value {
    let (here, elsewhere) = network.endpoints;
    Fields::new()
        .set("ID", network.id)
        .set("Name", &network.name)
        .set("Endpoints", json!({ "Here": here, "Elsewhere": elsewhere }))
        .set("VirtualAddresses", network.virtual_addresses)
        .set("Questions", network.questions)
        .set("Differences", write_differences(&network.differences))
        .done()
}

fn write_differences(differences: &[Difference]) -> Vec<Value> {
    let one = |difference: &Difference| {
        let Difference { what, place, expected, found } = difference;
        json!({ "What": what, "Where": place, "Expected": expected, "Found": found })
    };
    differences.iter().map(one).collect()
}
