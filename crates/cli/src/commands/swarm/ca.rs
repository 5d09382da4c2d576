//! `swarm ca`: the root that the cluster's hosts trust, and another one in its place (parity C-18).

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::nanoseconds;
use crate::{
    client::Client,
    output::terminal::{print, print_error},
    spec::edit::{get, set, set_some},
};

/// Between two looks at the nodes: each is one read for each of them.
const PAUSE: Duration = Duration::from_millis(500);
/// Nodes that are named while they are waited for.
const MAX_NAMED: usize = 5;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rswarm swarm ca | openssl x509 -noout -dates\n  rswarm swarm ca --rotate\n  rswarm swarm ca --rotate --ca-cert root.pem --ca-key root.key"
)]
pub(crate) struct CaArgs {
    /// Put another root in the present one's place: a fresh one, or the one that is given
    #[arg(long)]
    rotate: bool,
    /// Certificate of the new root, a PEM file
    #[arg(long, value_name = "FILE", requires_all = ["rotate", "ca_key"])]
    ca_cert: Option<PathBuf>,
    /// Key of the new root, a PEM file (PKCS #8)
    #[arg(long, value_name = "FILE", requires_all = ["rotate", "ca_cert"])]
    ca_key: Option<PathBuf>,
    /// Validity of node certificates from now on (default 2160h)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds, requires = "rotate")]
    cert_expiry: Option<u64>,
    /// Not supported: rswarm signs the certificates of its nodes itself
    #[arg(long, value_name = "SPEC", hide = true)]
    external_ca: Option<String>,
    /// Do not wait until all nodes have new certificates
    #[arg(short, long, requires = "rotate")]
    detach: bool,
    /// Do not tell which nodes are waited for
    #[arg(short, long, requires = "rotate")]
    quiet: bool,
}

pub(crate) async fn ca(client: &Client, arguments: CaArgs) -> anyhow::Result<()> {
    ensure!(
        arguments.external_ca.is_none(),
        "external CAs are not supported: rswarm signs the certificates of its nodes itself; give the root's certificate \
         and key with --ca-cert and --ca-key"
    );
    let mut swarm = client.get("/swarm").await?;
    if !arguments.rotate {
        return show(&swarm);
    }
    ask(&mut swarm["Spec"], &arguments)?;
    let path = format!("/swarm/update?version={}", swarm["Version"]["Index"]);
    client.post(&path, Some(&swarm["Spec"])).await?;
    if arguments.detach {
        return Ok(());
    }
    wait(client, arguments.quiet).await
}

/// The root's certificate, in PEM.
fn show(swarm: &Value) -> anyhow::Result<()> {
    let root = get(swarm, "TLSInfo.TrustRoot").and_then(Value::as_str).filter(|root| !root.is_empty());
    print(&format!("{}\n", root.context("the daemon does not say which root the cluster trusts")?.trim_end()))
}

fn ask(spec: &mut Value, arguments: &CaArgs) -> anyhow::Result<()> {
    set_some(spec, "CAConfig.NodeCertExpiry", arguments.cert_expiry);
    let (Some(certificate), Some(key)) = (&arguments.ca_cert, &arguments.ca_key) else {
        let forced = get(spec, "CAConfig.ForceRotate").and_then(Value::as_u64).unwrap_or(0);
        set(spec, "CAConfig.ForceRotate", forced + 1);
        return Ok(());
    };
    for (field, path) in [("CAConfig.SigningCACert", certificate), ("CAConfig.SigningCAKey", key)] {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        set(spec, field, text);
    }
    Ok(())
}

/// Tells who has no new certificate yet until all have, and shows the new root. What was begun goes on without us.
async fn wait(client: &Client, quiet: bool) -> anyhow::Result<()> {
    let mut told = String::new();
    loop {
        let swarm = client.get("/swarm").await.context(UNKNOWN)?;
        if swarm["RootRotationInProgress"] != json!(true) {
            return show(&swarm);
        }
        let nodes = client.get("/nodes").await.context(UNKNOWN)?;
        let line = progress(&swarm["TLSInfo"], nodes.as_array().map_or(&[], Vec::as_slice));
        if line != told && !quiet {
            print_error(&line)?;
        }
        told = line;
        tokio::time::sleep(PAUSE).await;
    }
}

const UNKNOWN: &str = "the rotation goes on, but how far it has come cannot be seen; look again with `rswarm swarm ca`";

fn progress(wanted: &Value, nodes: &[Value]) -> String {
    let has = |node: &&Value| {
        let told = &node["Description"]["TLSInfo"];
        ["CertIssuerSubject", "CertIssuerPublicKey"].iter().all(|field| told[field] == wanted[field])
    };
    let late: Vec<String> = nodes.iter().filter(|node| !has(node)).map(name).collect();
    let done = nodes.len() - late.len();
    let mut line = format!("{done} of {} nodes have a certificate of the new root", nodes.len());
    if !late.is_empty() {
        line += &format!("; waiting for {}", late[..late.len().min(MAX_NAMED)].join(", "));
    }
    if late.len() > MAX_NAMED {
        line += &format!(" and {} more", late.len() - MAX_NAMED);
    }
    line + "\n"
}

/// A node that is down is waited for too: who will not see it again must say so.
fn name(node: &Value) -> String {
    let shown = node["Spec"]["Name"].as_str().or(node["Description"]["Hostname"].as_str());
    let shown = shown.or(node["ID"].as_str()).unwrap_or_default();
    match node["Status"]["State"].as_str() {
        Some("down") => format!("{shown} (down: start it, or remove it with `rswarm node rm {shown}`)"),
        _ => shown.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, key: &str, state: &str) -> Value {
        json!({ "ID": name, "Description": { "TLSInfo": { "CertIssuerSubject": "s", "CertIssuerPublicKey": key } },
                "Status": { "State": state } })
    }

    #[test]
    fn c_18_who_is_waited_for_is_named_and_what_to_do_about_the_dead() {
        let wanted = json!({ "CertIssuerSubject": "s", "CertIssuerPublicKey": "new" });
        let nodes = [node("a", "new", "ready"), node("b", "old", "ready"), node("c", "old", "down")];
        assert_eq!(
            progress(&wanted, &nodes),
            "1 of 3 nodes have a certificate of the new root; waiting for b, c (down: start it, or remove it with \
             `rswarm node rm c`)\n"
        );
        assert_eq!(progress(&wanted, &nodes[..1]), "1 of 1 nodes have a certificate of the new root\n");
        let many: Vec<Value> = (0..8).map(|number| node(&number.to_string(), "old", "ready")).collect();
        assert!(progress(&wanted, &many).ends_with("waiting for 0, 1, 2, 3, 4 and 3 more\n"));
    }

    #[test]
    fn c_18_a_fresh_root_is_asked_for_by_number_and_a_given_one_by_its_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        std::fs::write(file("cert"), "CERT").expect("a file");
        let mut arguments = CaArgs {
            rotate: true,
            ca_cert: None,
            ca_key: None,
            cert_expiry: Some(7_200_000_000_000),
            external_ca: None,
            detach: false,
            quiet: false,
        };
        let mut spec = json!({ "CAConfig": { "ForceRotate": 2 } });
        ask(&mut spec, &arguments).expect("asked");
        assert_eq!(spec, json!({ "CAConfig": { "ForceRotate": 3, "NodeCertExpiry": 7_200_000_000_000_u64 } }));
        (arguments.ca_cert, arguments.ca_key) = (Some(file("cert")), Some(file("key")));
        let missing = ask(&mut spec, &arguments).expect_err("no such file").to_string();
        assert!(missing.contains("key"), "{missing}");
        std::fs::write(file("key"), "KEY").expect("a file");
        ask(&mut spec, &arguments).expect("asked");
        assert_eq!(
            (&spec["CAConfig"]["SigningCACert"], &spec["CAConfig"]["SigningCAKey"]),
            (&json!("CERT"), &json!("KEY"))
        );
        assert_eq!(spec["CAConfig"]["ForceRotate"], 3, "what is given is enough");
    }
}
