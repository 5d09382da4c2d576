//! `service ls`.

use clap::Args;
use serde_json::Value;

use super::super::{info::text, parse_filter, tasks::items};
use crate::{
    client::{Client, filters_query},
    output::{
        list::{Layout, Row, Style, render},
        natural, ports,
        terminal::print,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}",
    titles: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Mode", "MODE"),
        ("Replicas", "REPLICAS"),
        ("Image", "IMAGE"),
        ("Ports", "PORTS"),
        ("Labels", "LABELS"),
    ],
    key: "ID",
};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only show those for which KEY=VALUE holds (id, name, label, mode)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    pub(crate) filter: Vec<(String, String)>,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    pub(crate) format: String,
    /// Only show ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

pub(crate) async fn list(client: &Client, arguments: ListArgs) -> anyhow::Result<()> {
    let query = filters_query(&arguments.filter);
    let separator = if query.is_empty() { '?' } else { '&' };
    let services = client.get(&format!("/services{query}{separator}status=true")).await?;
    let mut services: Vec<&Value> = items(&services).collect();
    let name = |service: &Value| text(&service["Spec"]["Name"]);
    services.sort_by(|a, b| natural::compare(&name(a), &name(b)));
    let rows: Vec<Row> = services.into_iter().map(row).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: arguments.quiet }, &rows)?)
}

fn row(service: &Value) -> Row {
    let spec = &service["Spec"];
    let image = text(&spec["TaskTemplate"]["ContainerSpec"]["Image"]);
    let image = image.split_once('@').map_or(image.as_str(), |(name, _)| name);
    // as in Docker: what is reached at every node
    let published = items(&service["Endpoint"]["Ports"]).filter(|port| port["PublishMode"] == "ingress");
    Row::from([
        ("ID", text(&service["ID"]).chars().take(12).collect()),
        ("Name", text(&spec["Name"])),
        ("Mode", mode(&spec["Mode"]).to_owned()),
        ("Replicas", replicas(service)),
        ("Image", image.to_owned()),
        ("Ports", ports::join(published, ", ", false)),
    ])
    .with_labels(&spec["Labels"])
}

fn replicas(service: &Value) -> String {
    let status = &service["ServiceStatus"];
    let count = |field: &str| status[field].as_u64().unwrap_or(0);
    let (desired, completed) = (count("DesiredTasks"), count("CompletedTasks"));
    let counts = format!("{}/{desired}", count("RunningTasks"));
    let mode = &service["Spec"]["Mode"];
    // how far a job is tells more than how many may run on a node
    if mode["GlobalJob"].is_object() {
        return format!("{counts} ({completed}/{} completed)", desired + completed);
    }
    if let Some(total) = mode["ReplicatedJob"]["TotalCompletions"].as_u64() {
        return format!("{counts} ({completed}/{total} completed)");
    }
    match service["Spec"]["TaskTemplate"]["Placement"]["MaxReplicas"].as_u64().unwrap_or(0) {
        0 => counts,
        most => format!("{counts} (max {most} per node)"),
    }
}

/// In Docker's words.
pub(super) fn mode(mode: &Value) -> &'static str {
    let known = [("Global", "global"), ("ReplicatedJob", "replicated job"), ("GlobalJob", "global job")];
    known.into_iter().find(|(field, _)| mode[field].is_object()).map_or("replicated", |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn s06_jobs_show_how_far_they_are() {
        let shown = |mode: Value| {
            let service = json!({ "Spec": { "Mode": mode }, "ServiceStatus":
                { "RunningTasks": 1, "DesiredTasks": 2, "CompletedTasks": 3 } });
            let row = row(&service);
            format!("{} {}", row["Mode"], row["Replicas"])
        };
        assert_eq!(shown(json!({ "ReplicatedJob": { "TotalCompletions": 5 } })), "replicated job 1/2 (3/5 completed)");
        assert_eq!(shown(json!({ "GlobalJob": {} })), "global job 1/2 (3/5 completed)");
        assert_eq!(shown(json!({ "Replicated": { "Replicas": 2 } })), "replicated 1/2");
    }
}
