//! `network doctor`: what the daemon found, one line for each network that is well, one for each difference.

use std::fmt::Write as _;

use anyhow::ensure;
use clap::Args;
use serde_json::Value;

use super::super::{info::text, tasks::items};
use crate::{Quit, client::Client, output::terminal::print};

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Networks by name or id (default: all that have an endpoint on this host)
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
    /// Ask every node, through this manager
    #[arg(long)]
    all: bool,
    /// Format the output: json
    #[arg(short, long, value_parser = ["json"])]
    format: Option<String>,
}

/// Exit code 1 when anything differs.
pub(super) async fn doctor(client: &Client, arguments: DoctorArgs) -> anyhow::Result<()> {
    if arguments.all {
        return every_node(client, &arguments).await;
    }
    let mut found = client.get("/doctor/networks").await?;
    if !arguments.networks.is_empty() {
        narrow(&mut found, &arguments.networks)?;
    }
    match arguments.format {
        Some(_) => print(&format!("{found}\n"))?,
        None => print(&said(&found))?,
    }
    if is_equal(&found) { Ok(()) } else { Err(Quit(1).into()) }
}

fn is_equal(found: &Value) -> bool {
    items(&found["Host"]).next().is_none()
        && items(&found["Networks"]).all(|network| items(&network["Differences"]).next().is_none())
}

/// Exit code 1 when anything differs anywhere, or a node did not say.
async fn every_node(client: &Client, arguments: &DoctorArgs) -> anyhow::Result<()> {
    let mut nodes = client.get("/doctor/networks/all").await?;
    if !arguments.networks.is_empty() {
        narrow_nodes(&mut nodes, &arguments.networks)?;
    }
    match arguments.format {
        Some(_) => print(&format!("{nodes}\n"))?,
        None => print(&said_by_nodes(&nodes))?,
    }
    let is_well = items(&nodes).all(|node| node["Error"].is_null() && is_equal(&node["Findings"]));
    if is_well { Ok(()) } else { Err(Quit(1).into()) }
}

/// Leaves the named networks only; each must be on some node.
fn narrow_nodes(nodes: &mut Value, names: &[String]) -> anyhow::Result<()> {
    let is = |network: &Value, name: &str| text(&network["Name"]) == name || text(&network["ID"]) == name;
    for name in names {
        let mut everywhere = items(nodes).flat_map(|node| items(&node["Findings"]["Networks"]));
        ensure!(
            everywhere.any(|network| is(network, name)),
            "network {name} has no endpoint on any node that answered, so there is nothing to check: rswarm network ls \
             lists what there is"
        );
    }
    for node in nodes.as_array_mut().into_iter().flatten().filter(|node| !node["Findings"].is_null()) {
        let findings = &mut node["Findings"];
        let kept = items(&findings["Networks"]).filter(|network| names.iter().any(|name| is(network, name)));
        findings["Networks"] = kept.cloned().collect();
        findings["Host"] = Value::Array(Vec::new());
    }
    Ok(())
}

fn said_by_nodes(nodes: &Value) -> String {
    let mut out = String::new();
    for node in items(nodes) {
        let name = match text(&node["Hostname"]) {
            name if name.is_empty() => text(&node["ID"]),
            name => name,
        };
        match &node["Error"] {
            Value::Null => {
                for line in said(&node["Findings"]).lines() {
                    let _ = writeln!(out, "{name}: {line}");
                }
            }
            error => {
                let address = text(&node["Address"]);
                let at = if address.is_empty() { String::new() } else { format!(" at {address}") };
                let _ = writeln!(out, "{name}: does not say what it finds{at}: {}", text(error));
            }
        }
    }
    out
}

/// Leaves the named ones only.
fn narrow(found: &mut Value, names: &[String]) -> anyhow::Result<()> {
    let is = |network: &Value, name: &str| text(&network["Name"]) == name || text(&network["ID"]) == name;
    let all: Vec<Value> = items(&found["Networks"]).cloned().collect();
    for name in names {
        let here = all.iter().map(|network| text(&network["Name"])).collect::<Vec<_>>().join(", ");
        let here = if here.is_empty() { "none".to_owned() } else { here };
        ensure!(
            all.iter().any(|network| is(network, name)),
            "network {name} has no endpoint on this host, so there is nothing to check here (overlay networks with \
             endpoints here: {here})"
        );
    }
    let kept = all.into_iter().filter(|network| names.iter().any(|name| is(network, name))).collect();
    found["Networks"] = Value::Array(kept);
    // What belongs to no overlay was not asked about.
    found["Host"] = Value::Array(Vec::new());
    Ok(())
}

/// `1 endpoint`, `2 endpoints`
fn counted(number: &Value, one: &str, more: &str) -> String {
    format!("{number} {}", if number.as_u64() == Some(1) { one } else { more })
}

fn said(found: &Value) -> String {
    let mut out = String::new();
    for network in items(&found["Networks"]) {
        let name = text(&network["Name"]);
        let differences: Vec<&Value> = items(&network["Differences"]).collect();
        if differences.is_empty() {
            let _ = writeln!(
                out,
                "{name}: ok ({} here, {} on other hosts, {}, {} asked)",
                counted(&network["Endpoints"]["Here"], "endpoint", "endpoints"),
                network["Endpoints"]["Elsewhere"],
                counted(&network["VirtualAddresses"], "virtual address", "virtual addresses"),
                counted(&network["Questions"], "name", "names")
            );
        }
        lines(&mut out, &name, &differences);
    }
    let host: Vec<&Value> = items(&found["Host"]).collect();
    if host.is_empty() && items(&found["Networks"]).next().is_none() {
        out.push_str("ok: no overlay network has an endpoint on this host\n");
    }
    lines(&mut out, "host", &host);
    for note in items(&found["Notes"]) {
        let _ = writeln!(out, "note: {}", text(note));
    }
    out
}

fn lines(out: &mut String, subject: &str, differences: &[&Value]) {
    for difference in differences {
        let part = |name: &str| text(&difference[name]);
        let (what, place) = (part("What"), part("Where"));
        let _ = writeln!(out, "{subject}: {what} ({place}): expected {}, found {}", part("Expected"), part("Found"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn found() -> Value {
        let difference = json!({ "What": "fdb 02:42:0a:00:00:05", "Where": "overlay namespace, vxlan0",
            "Expected": "192.0.2.3", "Found": "nothing" });
        let network = |name: &str, differences: Vec<Value>| {
            json!({ "Name": name, "ID": format!("id{name}"), "Endpoints": { "Here": 1, "Elsewhere": 2 },
                "VirtualAddresses": 3, "Questions": 4, "Differences": differences })
        };
        json!({ "Networks": [network("back", vec![]), network("front", vec![difference])], "Host": [],
            "Notes": ["something was left out"] })
    }

    #[test]
    fn each_difference_is_one_line() {
        expect![[r#"
            back: ok (1 endpoint here, 2 on other hosts, 3 virtual addresses, 4 names asked)
            front: fdb 02:42:0a:00:00:05 (overlay namespace, vxlan0): expected 192.0.2.3, found nothing
            note: something was left out
        "#]]
        .assert_eq(&said(&found()));
    }

    #[test]
    fn each_node_has_lines_of_its_own_and_a_silent_one_its_reason() {
        let mut nodes = json!([
            { "ID": "id1", "Hostname": "n1", "Address": "192.0.2.1", "Error": null, "Findings": found() },
            { "ID": "id2", "Hostname": "n2", "Address": "192.0.2.2", "Error": "no answer within 45 s", "Findings": null },
            { "ID": "id3", "Hostname": "", "Address": null, "Error": "the node is down: lost", "Findings": null },
        ]);
        expect![[r#"
            n1: back: ok (1 endpoint here, 2 on other hosts, 3 virtual addresses, 4 names asked)
            n1: front: fdb 02:42:0a:00:00:05 (overlay namespace, vxlan0): expected 192.0.2.3, found nothing
            n1: note: something was left out
            n2: does not say what it finds at 192.0.2.2: no answer within 45 s
            id3: does not say what it finds: the node is down: lost
        "#]]
        .assert_eq(&said_by_nodes(&nodes));
        let error = narrow_nodes(&mut nodes, &["nope".to_owned()]).expect_err("unknown").to_string();
        assert!(error.contains("network nope"), "{error}");
        narrow_nodes(&mut nodes, &["back".to_owned()]).expect("by name");
        assert!(is_equal(&nodes[0]["Findings"]));
        assert_eq!(items(&nodes[0]["Findings"]["Networks"]).count(), 1);
    }

    #[test]
    fn a_network_that_is_not_here_is_said() {
        let mut all = found();
        narrow(&mut all, &["idfront".to_owned()]).expect("by id");
        assert_eq!(items(&all["Networks"]).count(), 1);
        let error = narrow(&mut found(), &["nope".to_owned()]).expect_err("unknown").to_string();
        assert!(error.contains("network nope") && error.contains("back, front"), "{error}");
    }
}
