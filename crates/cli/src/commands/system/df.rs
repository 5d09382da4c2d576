//! `system df`.

use clap::Args;
use serde_json::Value;

use super::super::{container::list::short, info::text, tasks::items};
use crate::{
    client::Client,
    output::{
        list::{Layout, Row, Style, render},
        terminal::print,
        units::decimal_size,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    titles: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    key: "Type",
};
const IMAGES: Layout = Layout {
    table: "{{.Repository}}\t{{.ID}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    titles: &[
        ("Repository", "IMAGE"),
        ("ID", "IMAGE ID"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    key: "ID",
};
const CONTAINERS: Layout = Layout {
    table: "{{.ID}}\t{{.Image}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.Status}}\t{{.Names}}",
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    key: "ID",
};
const VOLUMES: Layout = Layout {
    table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
    titles: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    key: "Name",
};

#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Each object
    #[arg(short, long)]
    verbose: bool,
}

pub(super) async fn df(client: &Client, arguments: DfArgs) -> anyhow::Result<()> {
    let found = client.get("/system/df").await?;
    if !arguments.verbose {
        return print(&render(&LAYOUT, &Style { format: arguments.format, quiet: false }, &summary(&found))?);
    }
    let style = Style::default();
    let part = |title: &str, layout: &Layout, rows: Vec<Row>| {
        render(layout, &style, &rows).map(|table| format!("{title} space usage:\n\n{table}\n"))
    };
    let text = part("Images", &IMAGES, items(&found["Images"]).map(image).collect())?
        + &part("Containers", &CONTAINERS, items(&found["Containers"]).map(container).collect())?
        + &part("Local Volumes", &VOLUMES, items(&found["Volumes"]).map(volume).collect())?;
    print(&text)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// One line for each kind: how many, how many in use, bytes, and bytes of those that are not in use.
fn summary(found: &Value) -> Vec<Row> {
    let line = |kind: &str, total: usize, active: usize, size: u64, free: u64| {
        let percent = (free * 100).checked_div(size).map_or_else(String::new, |percent| format!(" ({percent}%)"));
        Row::from([
            ("Type", kind.to_owned()),
            ("TotalCount", total.to_string()),
            ("Active", active.to_string()),
            ("Size", decimal_size(size)),
            ("Reclaimable", format!("{}{percent}", decimal_size(free))),
        ])
    };
    let count = |field: &str| items(&found[field]).count();
    let used_images: Vec<&Value> = items(&found["Images"]).filter(|image| number(&image["Containers"]) > 0).collect();
    let layers = number(&found["LayersSize"]);
    let used_bytes: u64 =
        used_images.iter().map(|image| number(&image["Size"]).saturating_sub(number(&image["SharedSize"]))).sum();
    let is_up = |one: &&Value| matches!(one["State"].as_str(), Some("running" | "paused" | "restarting"));
    let own = |one: &Value| number(&one["SizeRw"]);
    let down = items(&found["Containers"]).filter(|one| !is_up(one));
    let is_used = |one: &&Value| number(&one["UsageData"]["RefCount"]) > 0;
    let bytes = |one: &Value| number(&one["UsageData"]["Size"]);
    let unused = items(&found["Volumes"]).filter(|one| !is_used(one));
    vec![
        line("Images", count("Images"), used_images.len(), layers, layers.saturating_sub(used_bytes)),
        line(
            "Containers",
            count("Containers"),
            items(&found["Containers"]).filter(is_up).count(),
            items(&found["Containers"]).map(own).sum(),
            down.map(own).sum(),
        ),
        line(
            "Local Volumes",
            count("Volumes"),
            items(&found["Volumes"]).filter(is_used).count(),
            items(&found["Volumes"]).map(bytes).sum(),
            unused.map(bytes).sum(),
        ),
        line("Build Cache", 0, 0, 0, 0),
    ]
}

fn image(one: &Value) -> Row {
    let (size, shared) = (number(&one["Size"]), number(&one["SharedSize"]));
    Row::from([
        ("Repository", items(&one["RepoTags"]).map(text).next().unwrap_or_else(|| "<none>".to_owned())),
        ("ID", short(&text(&one["Id"]))),
        ("Size", decimal_size(size)),
        ("SharedSize", decimal_size(shared)),
        ("UniqueSize", decimal_size(size.saturating_sub(shared))),
        ("Containers", number(&one["Containers"]).to_string()),
    ])
}

fn container(one: &Value) -> Row {
    Row::from([
        ("ID", short(&text(&one["Id"]))),
        ("Image", text(&one["Image"])),
        ("LocalVolumes", items(&one["Mounts"]).filter(|mount| mount["Driver"] == "local").count().to_string()),
        ("Size", decimal_size(number(&one["SizeRw"]))),
        ("Status", text(&one["Status"])),
        (
            "Names",
            items(&one["Names"])
                .map(|name| text(name).trim_start_matches('/').to_owned())
                .collect::<Vec<_>>()
                .join(","),
        ),
    ])
}

fn volume(one: &Value) -> Row {
    Row::from([
        ("Name", text(&one["Name"])),
        ("Links", number(&one["UsageData"]["RefCount"]).to_string()),
        ("Size", decimal_size(number(&one["UsageData"]["Size"]))),
    ])
}
