//! `network create/connect/disconnect/update/ls/inspect/rm/prune`.

mod connect;
mod create;
mod doctor;
mod update;

#[cfg(test)]
pub(crate) use create::request;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{confirmed, info::text, inspect, parse_filter, tasks::items};
use crate::{
    client::{Client, Refused, escape, filters_query},
    output::{
        list::{Layout, Row, Style, render},
        terminal::print,
        units::go_time,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    titles: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    key: "ID",
};

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Create a network
    #[command(
        after_help = "Examples:\n  rswarm network create back\n  rswarm network create --subnet 10.7.0.0/16 --opt encrypted --attachable back\n  rswarm network create --opt com.docker.network.driver.mtu=1400 --internal back\n  rswarm network create -d bridge here\n  rswarm network create -d macvlan --subnet 192.0.2.0/24 --opt parent=eth0 lan"
    )]
    Create(Box<create::CreateArgs>),
    /// Give a container of this host a place in a network
    #[command(after_help = "Example: rswarm network connect --alias db back 4f6a0b1c2d3e")]
    Connect(connect::ConnectArgs),
    /// Take a container's place in a network away
    Disconnect(connect::DisconnectArgs),
    /// Give a network of the cluster more addresses; what is in it goes on
    #[command(after_help = "Example: rswarm network update --subnet-add 10.8.0.0/24 back")]
    Update(update::UpdateArgs),
    /// List networks
    #[command(visible_alias = "list", after_help = "Example: rswarm network ls --filter driver=overlay")]
    Ls(ListArgs),
    /// Show all of one or more networks, with used and free addresses
    #[command(after_help = "Example: rswarm network inspect --format '{{json .Status.IPAM.Subnets}}' back")]
    Inspect(InspectArgs),
    /// Compare this host's overlay networks (with --all every node's), entry by entry, with what the cluster says of them
    #[command(after_help = "Examples:\n  rswarm network doctor --format json back\n  rswarm network doctor --all")]
    Doctor(doctor::DoctorArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Remove all networks that nothing uses
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only show those for which KEY=VALUE holds (dangling, driver, id, label, name, scope, type)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Only show ids
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Also show the services, their tasks on all nodes, and the nodes in it
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// A network that does not exist is no error
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only remove those for which KEY=VALUE holds (label, label!, until)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn run(client: &Client, command: NetworkCommand) -> anyhow::Result<()> {
    match command {
        NetworkCommand::Create(arguments) => create::create(client, *arguments).await,
        NetworkCommand::Connect(arguments) => connect::connect(client, arguments).await,
        NetworkCommand::Disconnect(arguments) => connect::disconnect(client, arguments).await,
        NetworkCommand::Update(arguments) => update::update(client, arguments).await,
        NetworkCommand::Ls(arguments) => list(client, arguments).await,
        NetworkCommand::Inspect(arguments) => inspect_networks(client, arguments).await,
        NetworkCommand::Doctor(arguments) => doctor::doctor(client, arguments).await,
        NetworkCommand::Rm(arguments) => remove(client, arguments).await,
        NetworkCommand::Prune(arguments) => prune(client, arguments).await,
    }
}

async fn list(client: &Client, arguments: ListArgs) -> anyhow::Result<()> {
    let networks = client.get(&format!("/networks{}", filters_query(&arguments.filter))).await?;
    let mut networks: Vec<&Value> = items(&networks).collect();
    networks.sort_by_key(|network| text(&network["Name"]));
    let rows: Vec<Row> = networks.iter().map(|network| row(network, arguments.no_trunc)).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: arguments.quiet }, &rows)?)
}

fn row(network: &Value, no_trunc: bool) -> Row {
    let id = text(&network["Id"]);
    Row::from([
        ("ID", if no_trunc { id } else { id.chars().take(12).collect() }),
        ("Name", text(&network["Name"])),
        ("Driver", text(&network["Driver"])),
        ("Scope", text(&network["Scope"])),
        ("IPv4", text(&network["EnableIPv4"])),
        ("IPv6", text(&network["EnableIPv6"])),
        ("Internal", text(&network["Internal"])),
        ("CreatedAt", go_time(&text(&network["Created"]))),
    ])
    .with_labels(&network["Labels"])
}

async fn inspect_networks(client: &Client, arguments: InspectArgs) -> anyhow::Result<()> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &arguments.networks {
        match client.get(&format!("/networks/{}?verbose={}", escape(name), arguments.verbose)).await {
            Ok(network) => found.push(network),
            Err(error) => missing.push(error),
        }
    }
    inspect::show(&found, &missing, arguments.format.as_deref())
}

async fn remove(client: &Client, arguments: RemoveArgs) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    for name in &arguments.networks {
        match client.delete(&format!("/networks/{}", escape(name))).await {
            Ok(_) => print(&format!("{name}\n"))?,
            Err(error) if arguments.force && is_not_found(&error) => {}
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == hyper::StatusCode::NOT_FOUND)
}

async fn prune(client: &Client, arguments: PruneArgs) -> anyhow::Result<()> {
    const QUESTION: &str = "WARNING! This will remove all networks of this host and of the cluster that nothing uses.\nAre you sure you \
                            want to continue? [y/N] ";
    if !arguments.force && !confirmed(QUESTION)? {
        return Ok(());
    }
    let answer = client.post(&format!("/networks/prune{}", filters_query(&arguments.filter)), None).await?;
    let names: Vec<String> = items(&answer["NetworksDeleted"]).map(|name| format!("{}\n", text(name))).collect();
    match names.is_empty() {
        true => Ok(()),
        false => print(&format!("Deleted Networks:\n{}\n", names.concat())),
    }
}
