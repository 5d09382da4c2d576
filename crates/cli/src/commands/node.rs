//! `node ls/inspect/ps/update/promote/demote/rm`.

mod drain;
mod pretty;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    info::text,
    inspect, parse_filter,
    tasks::{self, PsArgs, items, title},
};
use crate::{
    client::{Client, escape, filters_query},
    output::{
        list::{Layout, Row, Style, render},
        natural,
        terminal::print,
        units::parse_duration,
    },
    spec::edit::{change_map, set},
};

const LAYOUT: Layout = Layout {
    table: "{{.ID}}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}",
    titles: &[
        ("ID", "ID"),
        ("Self", "SELF"),
        ("Hostname", "HOSTNAME"),
        ("Status", "STATUS"),
        ("Availability", "AVAILABILITY"),
        ("ManagerStatus", "MANAGER STATUS"),
        ("EngineVersion", "ENGINE VERSION"),
        ("TLSStatus", "TLS STATUS"),
        ("Message", "MESSAGE"),
        ("Address", "ADDRESS"),
        ("Labels", "LABELS"),
    ],
    key: "NodeID",
};

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List nodes
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show all of one or more nodes
    Inspect(InspectArgs),
    /// List the tasks on one or more nodes (default: this one)
    #[command(after_help = "Example: rswarm node ps host2 --filter desired-state=running")]
    Ps(NodePsArgs),
    /// Change a node
    #[command(
        after_help = "Examples:\n  rswarm node update --availability drain --wait host2\n  rswarm node update --label-add zone=a host2"
    )]
    Update(UpdateArgs),
    /// Make nodes managers
    Promote(NodesArgs),
    /// Make managers workers
    Demote(NodesArgs),
    /// Forget nodes that are down
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only show those for which KEY=VALUE holds (id, name, role, label, node.label, membership)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Only show ids
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Nodes by id or hostname; self is this one
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// For people
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodePsArgs {
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    ps: PsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    node: String,
    /// Availability: active, pause (no new tasks) or drain (tasks leave)
    #[arg(long)]
    availability: Option<String>,
    /// Role: worker or manager
    #[arg(long)]
    role: Option<String>,
    /// Add or update a node label
    #[arg(long, value_name = "KEY=VALUE")]
    label_add: Vec<String>,
    /// Remove a node label
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// With --availability drain: come back when the node is empty, with an error if it cannot get so
    #[arg(long)]
    wait: bool,
    /// How long --wait waits
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Forget it although it is not down
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn run(client: &Client, command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::Ls(arguments) => list(client, arguments).await,
        NodeCommand::Inspect(arguments) => inspect_nodes(client, arguments).await,
        NodeCommand::Ps(arguments) => ps(client, arguments).await,
        NodeCommand::Update(arguments) => update(client, arguments).await,
        NodeCommand::Promote(arguments) => set_role(client, &arguments.nodes, "manager").await,
        NodeCommand::Demote(arguments) => set_role(client, &arguments.nodes, "worker").await,
        NodeCommand::Rm(arguments) => remove(client, arguments).await,
    }
}

async fn list(client: &Client, arguments: ListArgs) -> anyhow::Result<()> {
    let nodes = client.get(&format!("/nodes{}", filters_query(&arguments.filter))).await?;
    let swarm = client.get("/info").await?["Swarm"].take();
    let mut nodes: Vec<&Value> = items(&nodes).collect();
    let (hostname, id) = (|node: &Value| text(&node["Description"]["Hostname"]), |node: &Value| text(&node["ID"]));
    nodes.sort_by(|a, b| natural::compare(&hostname(a), &hostname(b)).then_with(|| id(a).cmp(&id(b))));
    let is_table = arguments.format.is_empty() || arguments.format.starts_with("table");
    let rows: Vec<Row> = nodes.iter().map(|node| row(node, &swarm, is_table)).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: arguments.quiet }, &rows)?)
}

/// `swarm` is what the daemon spoken to says of itself.
fn row(node: &Value, swarm: &Value, is_table: bool) -> Row {
    let id = text(&node["ID"]);
    let is_self = id == text(&swarm["NodeID"]);
    // The mark keeps its place in every line, so that the ids stay aligned.
    let shown = match (is_table, is_self) {
        (true, true) => format!("{id} *"),
        (true, false) => format!("{id}  "),
        _ => id.clone(),
    };
    let manager = &node["ManagerStatus"];
    let manager = match (manager["Leader"] == json!(true), &manager["Reachability"]) {
        (true, _) => "Leader".to_owned(),
        (false, reachability) => title(&text(reachability)),
    };
    Row::from([
        ("NodeID", id),
        ("ID", shown),
        ("Self", is_self.to_string()),
        ("Hostname", text(&node["Description"]["Hostname"])),
        ("Status", status(node).to_owned()),
        ("Availability", title(&text(&node["Spec"]["Availability"]))),
        ("ManagerStatus", manager),
        ("EngineVersion", version(node)),
        ("TLSStatus", tls_status(&node["Description"]["TLSInfo"], &swarm["Cluster"]["TLSInfo"]).to_owned()),
        ("Message", text(&node["Status"]["Message"])),
        ("Address", text(&node["Status"]["Addr"])),
    ])
    .with_labels(&node["Spec"]["Labels"])
}

/// Of rswarm: the other one is for clients of Docker, and the same everywhere. A daemon older than that has this one alone.
fn version(node: &Value) -> String {
    let engine = &node["Description"]["Engine"];
    text(engine.get("RswarmVersion").unwrap_or(&engine["EngineVersion"]))
}

/// Whether the node trusts, and was signed by, what the cluster is signed by now.
fn tls_status(of_node: &Value, of_cluster: &Value) -> &'static str {
    let roots = |info: &Value| text(&info["TrustRoot"]).split_whitespace().collect::<String>();
    match (roots(of_node), roots(of_cluster)) {
        (node, cluster) if node.is_empty() || cluster.is_empty() => "Unknown",
        (node, cluster) if node == cluster && of_node["CertIssuerPublicKey"] == of_cluster["CertIssuerPublicKey"] => {
            "Ready"
        }
        _ => "Needs Rotation",
    }
}

/// A node that works but is not reached by some of its peers is DEGRADED.
pub(super) fn status(node: &Value) -> &'static str {
    let degraded = items(&node["Status"]["UnreachablePeers"]).next().is_some();
    match node["Status"]["State"].as_str().unwrap_or_default() {
        "ready" if degraded => "Degraded",
        "ready" => "Ready",
        "disconnected" => "Unreachable",
        "down" => "Down",
        _ => "Unknown",
    }
}

/// `self` is the node spoken to.
async fn fetch(client: &Client, name: &str) -> anyhow::Result<Value> {
    let id = match name {
        "self" => text(&client.get("/info").await?["Swarm"]["NodeID"]),
        name => name.to_owned(),
    };
    client.get(&format!("/nodes/{}", escape(&id))).await
}

async fn inspect_nodes(client: &Client, arguments: InspectArgs) -> anyhow::Result<()> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &arguments.nodes {
        match fetch(client, name).await {
            Ok(node) => found.push(node),
            Err(error) => missing.push(error),
        }
    }
    if arguments.pretty {
        for node in &found {
            print(&pretty::node(node))?;
        }
        return missing.into_iter().next().map_or(Ok(()), Err);
    }
    inspect::show(&found, &missing, arguments.format.as_deref())
}

async fn ps(client: &Client, arguments: NodePsArgs) -> anyhow::Result<()> {
    let names = if arguments.nodes.is_empty() { vec!["self".to_owned()] } else { arguments.nodes };
    let mut filters = Vec::new();
    for name in &names {
        filters.push(("node".to_owned(), text(&fetch(client, name).await?["ID"])));
    }
    tasks::show(client, &arguments.ps, filters).await
}

async fn change(
    client: &Client,
    name: &str,
    change: impl FnOnce(&mut Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let node = fetch(client, name).await?;
    let mut spec = node["Spec"].clone();
    change(&mut spec)?;
    let path = format!("/nodes/{}/update?version={}", escape(&text(&node["ID"])), node["Version"]["Index"]);
    client.post(&path, Some(&spec)).await.map(drop)
}

async fn update(client: &Client, arguments: UpdateArgs) -> anyhow::Result<()> {
    let apply = |spec: &mut Value| {
        if let Some(availability) = &arguments.availability {
            set(spec, "Availability", availability.as_str());
        }
        if let Some(role) = &arguments.role {
            set(spec, "Role", role.as_str());
        }
        // docker's rule: a label that is not there is a mistake
        let absent = arguments.label_rm.iter().find(|key| spec["Labels"].get(key.as_str()).is_none());
        if let Some(key) = absent {
            anyhow::bail!("key {key} doesn't exist in node's labels: `node inspect {}` shows them", arguments.node);
        }
        change_map(spec, "Labels", &arguments.label_rm, &arguments.label_add);
        Ok(())
    };
    let drains = arguments.availability.as_deref() == Some("drain");
    anyhow::ensure!(drains || !arguments.wait, "--wait is for --availability drain: it waits until the node is empty");
    change(client, &arguments.node, apply).await?;
    print(&format!("{}\n", arguments.node))?;
    match arguments.wait {
        true => drain::wait(client, &fetch(client, &arguments.node).await?, arguments.timeout).await,
        false => Ok(()),
    }
}

async fn set_role(client: &Client, nodes: &[String], role: &str) -> anyhow::Result<()> {
    for name in nodes {
        let node = fetch(client, name).await?;
        if node["Spec"]["Role"] == role {
            print(&format!("Node {name} is already a {role}.\n"))?;
            continue;
        }
        let set_role = |spec: &mut Value| {
            set(spec, "Role", role);
            Ok(())
        };
        change(client, name, set_role).await?;
        print(&match role {
            "manager" => format!("Node {name} promoted to a manager in the swarm.\n"),
            _ => format!("Manager {name} demoted in the swarm.\n"),
        })?;
    }
    Ok(())
}

async fn remove(client: &Client, arguments: RemoveArgs) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    for name in &arguments.nodes {
        match client.delete(&format!("/nodes/{}?force={}", escape(name), arguments.force)).await {
            Ok(_) => print(&format!("{name}\n"))?,
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_24_a_row_of_node_ls() {
        let info = |roots: &str| json!({ "TrustRoot": roots, "CertIssuerPublicKey": "K" });
        let spec = json!({ "Labels": { "zone": "a" } });
        let engine = json!({ "EngineVersion": "28.5.2", "RswarmVersion": "0.1.0" });
        let description = json!({ "Hostname": "h", "TLSInfo": info("A"), "Engine": engine });
        let node = json!({ "ID": "n1", "Description": description, "Spec": spec });
        let status = |cluster: Value| row(&node, &json!({ "NodeID": "n1", "Cluster": { "TLSInfo": cluster } }), true);
        assert_eq!(status(info("A\n"))["TLSStatus"], "Ready");
        assert_eq!(status(info("B"))["TLSStatus"], "Needs Rotation");
        assert_eq!(status(Value::Null)["TLSStatus"], "Unknown");
        let other = json!({ "NodeID": "n2" });
        let render = |format: &str, swarm: &Value| {
            let style = Style { format: format.to_owned(), quiet: false };
            render(&LAYOUT, &style, &[row(&node, swarm, false)]).expect("a good template")
        };
        // a text would always be true
        assert_eq!(render("{{.ID}}{{if .Self}}*{{end}}", &other), "n1\n");
        assert_eq!(render("{{.ID}}{{if .Self}}*{{end}}", &json!({ "NodeID": "n1" })), "n1*\n");
        assert!(render("json", &other).contains(r#""Self":false"#));
        assert_eq!(render("{{.Label \"zone\"}} {{.EngineVersion}}", &other), "a 0.1.0\n");
    }
}
