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
    /// Format the output: json
    #[arg(short, long, value_parser = ["json"])]
    format: Option<String>,
}

/// Exit code 1 when anything differs.
pub(super) async fn doctor(client: &Client, arguments: DoctorArgs) -> anyhow::Result<()> {
    let mut found = client.get("/doctor/networks").await?;
    if !arguments.networks.is_empty() {
        narrow(&mut found, &arguments.networks)?;
    }
    match arguments.format {
        Some(_) => print(&format!("{found}\n"))?,
        None => print(&said(&found))?,
    }
    let is_equal = items(&found["Host"]).next().is_none()
        && items(&found["Networks"]).all(|network| items(&network["Differences"]).next().is_none());
    if is_equal { Ok(()) } else { Err(Quit(1).into()) }
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
    fn a_network_that_is_not_here_is_said() {
        let mut all = found();
        narrow(&mut all, &["idfront".to_owned()]).expect("by id");
        assert_eq!(items(&all["Networks"]).count(), 1);
        let error = narrow(&mut found(), &["nope".to_owned()]).expect_err("unknown").to_string();
        assert!(error.contains("network nope") && error.contains("back, front"), "{error}");
    }
}
