//! `system df/prune/events/info`: what this host keeps, what happens on it, and what of it may go.

mod df;
mod events;

use clap::{Args, Subcommand};

use super::{confirmed, container::life::pruned, image::pruned_images, info::FormatArgs, parse_filter, tasks::items};
use crate::{
    client::{Client, filters_query},
    output::{terminal::print, units::decimal_size},
};
pub(crate) use events::EventsArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Show what images, containers and volumes take on the disk
    Df(df::DfArgs),
    /// Show what happens on this host and, on managers, in the cluster
    #[command(after_help = "Example: rswarm events --since 10m --filter type=container --filter event=die")]
    Events(EventsArgs),
    /// Show this host and its cluster
    Info(FormatArgs),
    /// Carry standard input and output to the daemon: the far end of a host given as ssh://
    #[command(hide = true)]
    DialStdio,
    /// Remove what nothing uses: containers that do not run, networks, images
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also images with a name that no container has
    #[arg(short, long)]
    all: bool,
    /// Only remove those for which KEY=VALUE holds (until, label, label!)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Also anonymous volumes
    #[arg(long)]
    volumes: bool,
}

pub(crate) async fn run(client: &Client, command: SystemCommand) -> anyhow::Result<()> {
    match command {
        SystemCommand::Df(arguments) => df::df(client, arguments).await,
        SystemCommand::Events(arguments) => events::events(client, arguments).await,
        SystemCommand::DialStdio => crate::wire::dial_stdio(client).await,
        SystemCommand::Info(arguments) => super::info::info(client, arguments).await,
        SystemCommand::Prune(arguments) => prune(client, arguments).await,
    }
}

async fn prune(client: &Client, arguments: PruneArgs) -> anyhow::Result<()> {
    let until = arguments.filter.iter().any(|(key, _)| key == "until");
    anyhow::ensure!(!(arguments.volumes && until), "the \"until\" filter is not supported with \"--volumes\"");
    let mut what = vec!["  - all stopped containers", "  - all networks not used by at least one container"];
    if arguments.volumes {
        what.push("  - all anonymous volumes not used by at least one container");
    }
    what.push(match arguments.all {
        true => "  - all images without at least one container associated to them",
        false => "  - all dangling images",
    });
    let question =
        format!("WARNING! This will remove:\n{}\n\nAre you sure you want to continue? [y/N] ", what.join("\n"));
    if !arguments.force && !confirmed(&question)? {
        return Ok(());
    }
    let filters = filters_query(&arguments.filter);
    let mut bytes = 0;
    let mut tell = |what: &str, removed: &serde_json::Value, freed: u64| {
        bytes += freed;
        let told = pruned(what, removed, &serde_json::Value::Null);
        let (list, _) = told.rsplit_once("Total reclaimed").unwrap_or((&told, ""));
        print(list)
    };
    let answer = client.post(&format!("/containers/prune{filters}"), None).await?;
    tell("Containers", &answer["ContainersDeleted"], answer["SpaceReclaimed"].as_u64().unwrap_or(0))?;
    let answer = client.post(&format!("/networks/prune{filters}"), None).await?;
    tell("Networks", &answer["NetworksDeleted"], 0)?;
    if arguments.volumes {
        let answer = client.post(&format!("/volumes/prune{filters}"), None).await?;
        tell("Volumes", &answer["VolumesDeleted"], answer["SpaceReclaimed"].as_u64().unwrap_or(0))?;
    }
    let mut of_images = arguments.filter.clone();
    of_images.push(("dangling".to_owned(), (!arguments.all).to_string()));
    let answer = client.post(&format!("/images/prune{}", filters_query(&of_images)), None).await?;
    bytes += answer["SpaceReclaimed"].as_u64().unwrap_or(0);
    if items(&answer["ImagesDeleted"]).next().is_some() {
        print(&format!("Deleted Images:\n{}\n", pruned_images(&answer)))?;
    }
    print(&format!("Total reclaimed space: {}\n", decimal_size(bytes)))
}
