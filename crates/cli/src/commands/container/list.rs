//! `ps`.

use clap::Args;
use serde_json::Value;

use crate::{
    client::{Client, escape, filters_query},
    commands::{info::text, parse_filter, tasks::items},
    output::{
        list::{Layout, Row, Style, render},
        terminal::{print, print_error},
        units::{decimal_size, human_duration, local_time},
    },
};

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_WITH_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";
pub(crate) const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];
/// What docker shows of a command, and of each mount, unless all is asked for.
const COMMAND_WIDTH: usize = 20;
const MOUNT_WIDTH: usize = 15;

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Only show those for which KEY=VALUE holds (id, name, label, status, exited, ancestor, before, since, volume, network, publish, expose, health)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// The newest N, running or not
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, default_value_t = -1)]
    last: i64,
    /// The newest, running or not
    #[arg(short, long)]
    latest: bool,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// Only show ids
    #[arg(short, long)]
    quiet: bool,
    /// Show what they take on the disk
    #[arg(short, long)]
    size: bool,
}

pub(super) async fn list(client: &Client, arguments: ListArgs) -> anyhow::Result<()> {
    let with_size = arguments.size || arguments.format.contains(".Size");
    let limit = if arguments.latest { 1 } else { arguments.last };
    let mut query = filters_query(&arguments.filter);
    query.push(if query.is_empty() { '?' } else { '&' });
    query += &format!("all={}&size={with_size}", arguments.all);
    if limit > 0 {
        query += &format!("&limit={}", escape(&limit.to_string()));
    }
    let found = client.get(&format!("/containers/json{query}")).await?;
    let now = jiff::Timestamp::now().as_second();
    let rows: Vec<Row> = items(&found).map(|one| row(one, arguments.no_trunc, now)).collect();
    let layout = Layout { table: if arguments.size { TABLE_WITH_SIZE } else { TABLE }, titles: TITLES, key: "ID" };
    let ids_alone = arguments.quiet && !arguments.format.is_empty();
    if ids_alone {
        print_error("WARNING: Ignoring custom format, because both --format and --quiet are set.\n")?;
    }
    let format = if ids_alone { String::new() } else { arguments.format };
    print(&render(&layout, &Style { format, quiet: arguments.quiet }, &rows)?)
}

pub(crate) fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// With `whole`, nothing is shortened.
pub(crate) fn row(one: &Value, whole: bool, now: i64) -> Row {
    let id = text(&one["Id"]);
    let command = text(&one["Command"]);
    let created = one["Created"].as_i64().unwrap_or(0);
    let ago = std::time::Duration::from_secs(u64::try_from(now - created).unwrap_or(0));
    let names: Vec<String> = items(&one["Names"]).map(|name| text(name).trim_start_matches('/').to_owned()).collect();
    let networks = one["NetworkSettings"]["Networks"].as_object();
    let networks: Vec<String> = networks.into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let mounts: Vec<String> = items(&one["Mounts"]).map(|mount| mount_name(mount, whole)).collect();
    let local = items(&one["Mounts"]).filter(|mount| mount["Driver"] == "local").count();
    let image = text(&one["Image"]);
    let image = match (whole, image.strip_prefix("sha256:")) {
        (false, Some(_)) => short(&image),
        _ => image,
    };
    Row::from([
        ("ID", if whole { id } else { short(&id) }),
        ("Image", image),
        ("Command", format!("\"{}\"", if whole { command } else { cut(&command, COMMAND_WIDTH) })),
        ("CreatedAt", local_time(created)),
        ("RunningFor", human_duration(ago) + " ago"),
        ("Status", text(&one["Status"])),
        ("State", text(&one["State"])),
        ("Ports", ports(&one["Ports"])),
        ("Names", names.join(",")),
        ("Size", size(one)),
        ("Mounts", mounts.join(",")),
        ("LocalVolumes", local.to_string()),
        ("Networks", networks.join(",")),
        ("Platform", String::new()),
    ])
    .with_labels(&one["Labels"])
}

fn mount_name(mount: &Value, whole: bool) -> String {
    let name = text(&mount["Name"]);
    let name = if name.is_empty() { text(&mount["Source"]) } else { name };
    if whole { name } else { cut(&name, MOUNT_WIDTH) }
}

/// `0B (virtual 1.2MB)`.
pub(crate) fn size(one: &Value) -> String {
    let bytes = |field: &str| decimal_size(one[field].as_u64().unwrap_or(0));
    match one["SizeRootFs"].as_u64() {
        Some(whole) if whole > 0 => format!("{} (virtual {})", bytes("SizeRw"), bytes("SizeRootFs")),
        _ => bytes("SizeRw"),
    }
}

/// `0.0.0.0:8080-8081->80-81/tcp, 99/udp`: one after the other as a range.
fn ports(ports: &Value) -> String {
    let mut found: Vec<(String, String, u64, u64)> = items(ports)
        .map(|port| {
            let number = |field: &str| port[field].as_u64().unwrap_or(0);
            (text(&port["Type"]), text(&port["IP"]), number("PublicPort"), number("PrivatePort"))
        })
        .collect();
    found.sort_by(|a, b| (a.3, a.2, &a.1, &a.0).cmp(&(b.3, b.2, &b.1, &b.0)));
    let mut runs: Vec<((String, String, u64, u64), u64)> = Vec::new();
    for port in found {
        let goes_on = runs.iter_mut().find(|((kind, address, public, private), length)| {
            let next =
                private + *length == port.3 && (if *public == 0 { port.2 == 0 } else { public + *length == port.2 });
            *kind == port.0 && *address == port.1 && next
        });
        match goes_on {
            Some((_, length)) => *length += 1,
            None => runs.push((port, 1)),
        }
    }
    let shown = runs.iter().map(|((kind, address, public, private), length)| {
        let range =
            |first: u64| if *length == 1 { first.to_string() } else { format!("{first}-{}", first + length - 1) };
        let address = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        match public {
            0 => format!("{}/{kind}", range(*private)),
            public => format!("{address}:{}->{}/{kind}", range(*public), range(*private)),
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_of_ps() {
        let port = |public: u64, private: u64| json!({ "IP": "0.0.0.0", "PublicPort": public, "PrivatePort": private, "Type": "tcp" });
        let one = json!({
            "Id": "0123456789abcdef0123", "Image": "app:1", "Command": "sh -c while true; do :; done", "Created": 1000,
            "Status": "Up 2 seconds", "State": "running", "Names": ["/web"],
            "Ports": [port(8081, 81), port(8080, 80), { "PrivatePort": 99, "Type": "udp" }],
        });
        let layout = Layout { table: TABLE, titles: TITLES, key: "ID" };
        expect![[r#"
            CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS                                  NAMES
            0123456789ab   app:1     "sh -c while true; d…"   5 seconds ago   Up 2 seconds   0.0.0.0:8080-8081->80-81/tcp, 99/udp   web
        "#]]
        .assert_eq(&render(&layout, &Style::default(), &[row(&one, false, 1005)]).expect("layout"));
    }
}
