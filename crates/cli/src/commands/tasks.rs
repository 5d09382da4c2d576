//! Tasks as `service ps` and `node ps` list them.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::Value;

use super::{info::text, parse_filter};
use crate::{
    client::{Client, filters_query},
    output::{
        list::{Layout, Row, Style, render},
        natural, ports, terminal,
        units::age,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}",
    titles: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Image", "IMAGE"),
        ("Node", "NODE"),
        ("DesiredState", "DESIRED STATE"),
        ("CurrentState", "CURRENT STATE"),
        ("Error", "ERROR"),
        ("Ports", "PORTS"),
        ("Addresses", "ADDRESSES"),
    ],
    key: "ID",
};

/// On a terminal, longer reasons are cut; into a pipe or file they go whole.
const ERROR_WIDTH: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Only show those for which KEY=VALUE holds (id, name, node, desired-state)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    pub(crate) filter: Vec<(String, String)>,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    pub(crate) format: String,
    /// Do not shorten anything
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Do not replace ids by names
    #[arg(long)]
    pub(crate) no_resolve: bool,
    /// Only show task ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Names of services and nodes by id.
pub(crate) struct Names {
    services: BTreeMap<String, String>,
    /// Replicated jobs, whose slots begin with 0.
    jobs: BTreeSet<String>,
    nodes: BTreeMap<String, String>,
}

impl Names {
    /// With `resolve` off, ids stand for themselves.
    pub(crate) async fn fetch(client: &Client, resolve: bool) -> anyhow::Result<Self> {
        if !resolve {
            return Ok(Self::none());
        }
        let (services, nodes) = (client.get("/services").await?, client.get("/nodes").await?);
        let entry = |object: &Value, name: &Value| (text(&object["ID"]), text(name));
        let is_job = |service: &&Value| service["Spec"]["Mode"]["ReplicatedJob"].is_object();
        Ok(Self {
            jobs: items(&services).filter(is_job).map(|service| text(&service["ID"])).collect(),
            services: items(&services).map(|service| entry(service, &service["Spec"]["Name"])).collect(),
            nodes: items(&nodes).map(|node| entry(node, &node["Description"]["Hostname"])).collect(),
        })
    }

    /// Ids stand for themselves.
    pub(crate) fn none() -> Self {
        Self { services: BTreeMap::new(), jobs: BTreeSet::new(), nodes: BTreeMap::new() }
    }

    pub(crate) fn node(&self, id: &str) -> String {
        self.nodes.get(id).filter(|name| !name.is_empty()).map_or_else(|| id.to_owned(), Clone::clone)
    }

    /// `web.1`, or `web.NODE` for a global service or job.
    pub(crate) fn task(&self, task: &Value) -> String {
        let id = text(&task["ServiceID"]);
        let is_job = self.jobs.contains(&id);
        let service = self.services.get(&id).cloned().unwrap_or(id);
        match task["Slot"].as_u64().filter(|slot| *slot != 0) {
            Some(slot) => format!("{service}.{slot}"),
            None if is_job => format!("{service}.0"),
            None => format!("{service}.{}", text(&task["NodeID"])),
        }
    }
}

pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Fetches, sorts and prints tasks; `filters` are added to the user's.
pub(crate) async fn show(client: &Client, arguments: &PsArgs, filters: Vec<(String, String)>) -> anyhow::Result<()> {
    let filters: Vec<_> = arguments.filter.iter().cloned().chain(filters).collect();
    let tasks = client.get(&format!("/tasks{}", filters_query(&filters))).await?;
    let names = Names::fetch(client, !arguments.no_resolve).await?;
    let now = jiff::Timestamp::now();
    let rows = rows(&tasks, &names, arguments, now, terminal::stdout_is_terminal());
    terminal::print(&render(&LAYOUT, &Style { format: arguments.format.clone(), quiet: arguments.quiet }, &rows)?)
}

/// By name, newest first; in a table the older ones of a slot are indented.
fn rows(tasks: &Value, names: &Names, arguments: &PsArgs, now: jiff::Timestamp, cut_errors: bool) -> Vec<Row> {
    let mut tasks: Vec<(String, &Value)> = items(tasks).map(|task| (names.task(task), task)).collect();
    tasks.sort_by(|(a_name, a), (b_name, b)| {
        natural::compare(a_name, b_name).then_with(|| newest(a, b)).then_with(|| text(&a["ID"]).cmp(&text(&b["ID"])))
    });
    let is_table = arguments.format.is_empty() || arguments.format.starts_with("table");
    let mut rows = Vec::new();
    let mut previous = String::new();
    for (name, task) in tasks {
        let repeated = name == previous;
        let shown = if repeated && is_table { format!(" \\_ {name}") } else { name.clone() };
        rows.push(row(task, shown, names, arguments, now, cut_errors));
        previous = name;
    }
    rows
}

/// The latest creation first.
fn newest(a: &Value, b: &Value) -> std::cmp::Ordering {
    let created = |task: &Value| text(&task["CreatedAt"]).parse::<jiff::Timestamp>().ok();
    created(b).cmp(&created(a))
}

fn row(task: &Value, name: String, names: &Names, arguments: &PsArgs, now: jiff::Timestamp, cut: bool) -> Row {
    let id = text(&task["ID"]);
    let status = &task["Status"];
    let state = title(&text(&status["State"]));
    let mut error = text(&status["Err"]);
    if cut && !arguments.no_trunc && error.chars().count() > ERROR_WIDTH {
        error = error.chars().take(ERROR_WIDTH - 1).chain(['…']).collect();
    }
    let image = text(&task["Spec"]["ContainerSpec"]["Image"]);
    let image = match (arguments.no_trunc, image.split_once('@')) {
        (false, Some((short, _))) => short.to_owned(),
        _ => image,
    };
    let places = items(&task["NetworksAttachments"]);
    let addresses: Vec<String> = places.flat_map(|place| items(&place["Addresses"])).map(text).collect();
    Row::from([
        ("ID", if arguments.no_trunc { id } else { id.chars().take(12).collect() }),
        ("Name", name),
        ("Image", image),
        ("Node", names.node(&text(&task["NodeID"]))),
        ("DesiredState", title(&text(&task["DesiredState"]))),
        ("CurrentState", format!("{state} {}", age(&text(&status["Timestamp"]), now))),
        ("Error", if error.is_empty() { error } else { format!("\"{error}\"") }),
        ("Ports", ports::join(items(&status["PortStatus"]["Ports"]), ",", false)),
        ("Addresses", addresses.join(",")),
    ])
}

pub(crate) fn title(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_of_service_ps() {
        let task = |id: &str, slot: u64, created: &str, state: &str, error: &str| {
            json!({
                "ID": id, "ServiceID": "s", "Slot": slot, "NodeID": "n", "CreatedAt": created,
                "Spec": { "ContainerSpec": { "Image": "busybox:1@sha256:abc" } },
                "Status": { "State": state, "Timestamp": "2026-01-01T00:00:00Z", "Err": error, "PortStatus": {} },
                "DesiredState": if error.is_empty() { "running" } else { "shutdown" },
            })
        };
        let tasks = json!([
            task("aaaaaaaaaaaaaaaa", 2, "2026-01-01T00:00:00Z", "running", ""),
            task("bbbbbbbbbbbbbbbb", 1, "2026-01-01T00:00:00Z", "failed", "task: non-zero exit (1)"),
            task("cccccccccccccccc", 1, "2026-01-01T00:00:05Z", "running", ""),
        ]);
        let names = Names {
            services: BTreeMap::from([("s".to_owned(), "web".to_owned())]),
            jobs: BTreeSet::new(),
            nodes: BTreeMap::from([("n".to_owned(), "host1".to_owned())]),
        };
        let arguments =
            PsArgs { filter: Vec::new(), format: String::new(), no_trunc: false, no_resolve: false, quiet: false };
        let now = "2026-01-01T00:00:30Z".parse().expect("time");
        let rows = rows(&tasks, &names, &arguments, now, true);
        expect![[r#"
            ID             NAME        IMAGE       NODE      DESIRED STATE   CURRENT STATE            ERROR                       PORTS
            cccccccccccc   web.1       busybox:1   host1     Running         Running 30 seconds ago                               
            bbbbbbbbbbbb    \_ web.1   busybox:1   host1     Shutdown        Failed 30 seconds ago    "task: non-zero exit (1)"   
            aaaaaaaaaaaa   web.2       busybox:1   host1     Running         Running 30 seconds ago                               
        "#]]
        .assert_eq(&render(&LAYOUT, &Style::default(), &rows).expect("layout"));
    }
}
