//! `system df/prune/events/info`: what this host keeps, what happens on it, and what of it may go.

mod cluster_df;
mod df;
mod events;
mod prune;

use clap::Subcommand;

use super::info::FormatArgs;
use crate::client::Client;
pub(crate) use events::EventsArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Show what images, containers and volumes take on the disk
    #[command(after_help = "Examples:\n  rswarm system df\n  rswarm system df --cluster")]
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
    #[command(
        after_help = "Examples:\n  rswarm system prune\n  rswarm system prune --cluster --all --filter until=240h"
    )]
    Prune(prune::PruneArgs),
}

pub(crate) async fn run(client: &Client, command: SystemCommand) -> anyhow::Result<()> {
    match command {
        SystemCommand::Df(arguments) => df::df(client, arguments).await,
        SystemCommand::Events(arguments) => events::events(client, arguments).await,
        SystemCommand::DialStdio => crate::wire::dial_stdio(client).await,
        SystemCommand::Info(arguments) => super::info::info(client, arguments).await,
        SystemCommand::Prune(arguments) => prune::prune(client, &arguments).await,
    }
}
