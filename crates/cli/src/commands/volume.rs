//! `volume create/ls/inspect/rm/prune`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{confirmed, info::text, inspect, parse_filter, tasks::items};
use crate::{
    client::{Client, escape, filters_query},
    output::{
        list::{Layout, Row, Style, render},
        terminal::{print, print_error},
        units::decimal_size,
    },
};

pub(crate) const LAYOUT: Layout = Layout {
    table: "{{.Driver}}\t{{.Name}}",
    titles: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    key: "Name",
};

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Create a volume on this host
    #[command(
        after_help = "Examples:\n  rswarm volume create db\n  rswarm volume create -o type=nfs -o device=:/srv/db -o o=addr=192.0.2.9,vers=4 db\n  rswarm volume create -o type=none -o device=/srv/db -o o=bind db"
    )]
    Create(CreateArgs),
    /// List the volumes of this host
    #[command(visible_alias = "list", after_help = "Example: rswarm volume ls --filter dangling=true")]
    Ls(ListArgs),
    /// Show all of one or more volumes
    Inspect(InspectArgs),
    /// Remove volumes and their data
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Move the data of a volume to another node, with the tasks of services that have it there
    #[command(
        after_help = "The tasks stop, the data is copied and compared, and the tasks start on the other node. The old data stays, \
                      unless --remove-source says otherwise. If anything goes wrong the tasks start again where they were.\n\n\
                      Example: rswarm volume migrate data host2 host3"
    )]
    Migrate(MigrateArgs),
    /// Remove the anonymous volumes that no container has
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name; a random one if left out
    #[arg(default_value = "")]
    name: String,
    /// The name, as docker had it before
    #[arg(long = "name", value_name = "NAME", hide = true, conflicts_with = "name")]
    old_name: Option<String>,
    /// Driver of the volume
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Driver option: type, device, o
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Label of the volume
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only show those for which KEY=VALUE holds (dangling, driver, label, name)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Only show names
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
    /// A volume that does not exist is no error
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also volumes with a name
    #[arg(short, long)]
    all: bool,
    /// Only remove those for which KEY=VALUE holds (label, label!)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    volume: String,
    /// The node with the data
    from: String,
    /// The node that gets it
    to: String,
    /// Replace what is in a volume of this name there
    #[arg(long)]
    overwrite: bool,
    /// Remove the old data when the new is in place
    #[arg(long)]
    remove_source: bool,
}

pub(crate) async fn run(client: &Client, command: VolumeCommand) -> anyhow::Result<()> {
    match command {
        VolumeCommand::Create(arguments) => create(client, arguments).await,
        VolumeCommand::Ls(arguments) => list(client, arguments).await,
        VolumeCommand::Inspect(arguments) => inspect_volumes(client, arguments).await,
        VolumeCommand::Rm(arguments) => remove(client, arguments).await,
        VolumeCommand::Migrate(arguments) => migrate(client, arguments).await,
        VolumeCommand::Prune(arguments) => prune(client, arguments).await,
    }
}

async fn create(client: &Client, arguments: CreateArgs) -> anyhow::Result<()> {
    let body = json!({
        "Name": arguments.old_name.unwrap_or(arguments.name),
        "Driver": arguments.driver,
        "DriverOpts": pairs(&arguments.opt),
        "Labels": pairs(&arguments.label),
    });
    let answer = client.post("/volumes/create", Some(&body)).await?;
    print(&format!("{}\n", text(&answer["Name"])))
}

fn pairs(entries: &[String]) -> Map<String, Value> {
    let pair = |entry: &String| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        (name.to_owned(), Value::from(value))
    };
    entries.iter().map(pair).collect()
}

async fn list(client: &Client, arguments: ListArgs) -> anyhow::Result<()> {
    let answer = client.get(&format!("/volumes{}", filters_query(&arguments.filter))).await?;
    let rows: Vec<Row> = items(&answer["Volumes"]).map(row).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: arguments.quiet }, &rows)?)
}

pub(crate) fn row(volume: &Value) -> Row {
    let none = || "N/A".to_owned();
    let usage = |field: &str| volume["UsageData"][field].as_u64();
    Row::from([
        ("Driver", text(&volume["Driver"])),
        ("Name", text(&volume["Name"])),
        ("Scope", text(&volume["Scope"])),
        ("Mountpoint", text(&volume["Mountpoint"])),
        // measured only for `system df`, as in docker
        ("Links", usage("RefCount").map_or_else(none, |links| links.to_string())),
        ("Size", usage("Size").map_or_else(none, decimal_size)),
        // of the cluster's volumes in docker, which are not here
        ("Availability", none()),
        ("Group", none()),
        ("Status", none()),
    ])
    .with_labels(&volume["Labels"])
}

async fn inspect_volumes(client: &Client, arguments: InspectArgs) -> anyhow::Result<()> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &arguments.volumes {
        match client.get(&format!("/volumes/{}", escape(name))).await {
            Ok(volume) => found.push(volume),
            Err(error) => missing.push(error),
        }
    }
    inspect::show(&found, &missing, arguments.format.as_deref())
}

async fn remove(client: &Client, arguments: RemoveArgs) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    for name in &arguments.volumes {
        match client.delete(&format!("/volumes/{}?force={}", escape(name), arguments.force)).await {
            Ok(_) => print(&format!("{name}\n"))?,
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

async fn migrate(client: &Client, arguments: MigrateArgs) -> anyhow::Result<()> {
    let MigrateArgs { volume, from, to, overwrite, remove_source } = arguments;
    let body = json!({ "From": from, "To": to, "Overwrite": overwrite, "RemoveSource": remove_source });
    let moved = client.post(&format!("/volumes/{}/migrate", escape(&volume)), Some(&body)).await?;
    let (from, to) = (text(&moved["From"]), text(&moved["To"]));
    for one in items(&moved["Volumes"]) {
        print(&format!("Moved volume {} from {from} to {to} ({})\n", text(&one["Name"]), text(&one["Digest"])))?;
    }
    let tasks: Vec<String> = items(&moved["Tasks"]).map(text).collect();
    let old = match moved["SourceRemoved"] == true {
        true => "the old data is removed".to_owned(),
        false => format!("the old data stays on {from}"),
    };
    print(&format!("{} now at home on {to}; {old}.\n", tasks.join(", ")))?;
    items(&moved["Warnings"]).try_for_each(|warning| print_error(&format!("WARNING: {}\n", text(warning))))
}

async fn prune(client: &Client, arguments: PruneArgs) -> anyhow::Result<()> {
    let kind = if arguments.all { "all" } else { "anonymous" };
    let question = format!(
        "WARNING! This will remove {kind} local volumes not used by at least one container.\nAre you sure you want to continue? [y/N] "
    );
    if !arguments.force && !confirmed(&question)? {
        return Ok(());
    }
    let mut filters = arguments.filter;
    filters.extend(arguments.all.then(|| ("all".to_owned(), "true".to_owned())));
    let answer = client.post(&format!("/volumes/prune{}", filters_query(&filters)), None).await?;
    let names: String = items(&answer["VolumesDeleted"]).map(|name| format!("{}\n", text(name))).collect();
    if !names.is_empty() {
        print(&format!("Deleted Volumes:\n{names}\n"))?;
    }
    print(&format!("Total reclaimed space: {}\n", decimal_size(answer["SpaceReclaimed"].as_u64().unwrap_or(0))))
}
