//! `container …`, and the same commands without the word: `run`, `ps`, `logs` and the others.

mod attach;
mod cluster_stats;
mod commit;
mod copy;
mod copy_place;
mod create;
pub(crate) mod flags;
mod inspect;
pub(crate) mod life;
pub(crate) mod limits;
pub(crate) mod list;
mod logs;
mod run;
mod session;
mod show;
mod start;
mod stats;

use clap::Subcommand;

use super::{
    exec::{self, ExecArgs},
    forward::{self, ForwardArgs},
};
use crate::client::Client;
pub(crate) use inspect::InspectAnyArgs;
pub(crate) use list::ListArgs;

/// With and without the word `container` before it.
#[derive(Debug, Subcommand)]
pub(crate) enum SingleCommand {
    /// Make a container and start it
    #[command(
        args_override_self = true,
        after_help = "Examples:\n  rswarm run --rm -it alpine sh\n  rswarm run -d --name web -p 8080:80 -v data:/srv nginx"
    )]
    Run(Box<run::RunArgs>),
    /// Make a container
    #[command(args_override_self = true)]
    Create(Box<create::CreateArgs>),
    /// Start containers
    Start(start::StartArgs),
    /// Stop containers
    Stop(life::StopArgs),
    /// Stop containers and start them
    Restart(life::StopArgs),
    /// Send containers a signal
    Kill(life::KillArgs),
    /// Freeze containers
    Pause(life::NamesArgs),
    /// Let frozen containers go on
    Unpause(life::NamesArgs),
    /// Wait until containers end, and show their exit codes
    Wait(life::NamesArgs),
    /// Give a container another name
    Rename(life::RenameArgs),
    /// Change the limits of containers
    Update(life::UpdateArgs),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(life::RemoveArgs),
    /// Show what a container wrote
    Logs(logs::LogsArgs),
    /// Show the processes of a container
    Top(show::TopArgs),
    /// Show what containers use; with --cluster, what tasks use on all nodes
    #[command(
        after_help = "Examples:\n  rswarm stats --no-stream\n  rswarm stats --cluster\n  rswarm stats --cluster --no-stream --format json web"
    )]
    Stats(stats::StatsArgs),
    /// Show where ports of a container are published
    Port(show::PortArgs),
    /// Show what a container changed of its image
    Diff(show::DiffArgs),
    /// Copy files into a container or out of it
    #[command(
        after_help = "Examples:\n  rswarm cp web:/etc/nginx .\n  rswarm cp index.html web:/srv/\n  tar c . | rswarm cp - web:/srv"
    )]
    Cp(copy::CopyArgs),
    /// Write the files of a container to a tar
    Export(commit::ExportArgs),
    /// Make an image from a container
    Commit(commit::CommitArgs),
    /// Run a command in a container
    Exec(ExecArgs),
    /// Join the streams of a container
    Attach(attach::AttachArgs),
    /// Carry TCP connections from this machine into a container, wherever in the cluster it runs
    #[command(
        after_help = "Examples:\n  rswarm port-forward web.1 8080:80\n  rswarm -H ssh://root@192.0.2.1 port-forward db.1 5432"
    )]
    PortForward(ForwardArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    #[command(flatten)]
    Single(Box<SingleCommand>),
    /// List containers
    #[command(visible_aliases = ["ps", "list"], after_help = "Example: rswarm ps -a --filter status=exited")]
    Ls(list::ListArgs),
    /// Show all of one or more containers
    Inspect(inspect::InspectArgs),
    /// Remove the containers that do not run
    Prune(life::PruneArgs),
}

pub(crate) async fn run(client: &Client, command: ContainerCommand) -> anyhow::Result<()> {
    match command {
        ContainerCommand::Single(command) => run_single(client, *command).await,
        ContainerCommand::Ls(arguments) => list::list(client, arguments).await,
        ContainerCommand::Inspect(arguments) => inspect::containers(client, &arguments).await,
        ContainerCommand::Prune(arguments) => life::prune(client, arguments).await,
    }
}

pub(crate) async fn run_single(client: &Client, command: SingleCommand) -> anyhow::Result<()> {
    use SingleCommand as C;
    match command {
        C::Run(arguments) => run::run(client, *arguments).await,
        C::Create(arguments) => create::create(client, *arguments).await,
        C::Start(arguments) => start::start(client, arguments).await,
        C::Stop(arguments) => life::stop(client, "stop", &arguments).await,
        C::Restart(arguments) => life::stop(client, "restart", &arguments).await,
        C::Kill(arguments) => life::kill(client, &arguments).await,
        C::Pause(arguments) => life::each(client, "pause", &arguments).await,
        C::Unpause(arguments) => life::each(client, "unpause", &arguments).await,
        C::Wait(arguments) => life::wait(client, &arguments).await,
        C::Rename(arguments) => life::rename(client, &arguments).await,
        C::Update(arguments) => life::update(client, &arguments).await,
        C::Rm(arguments) => life::remove(client, &arguments).await,
        C::Logs(arguments) => logs::logs(client, &arguments).await,
        C::Top(arguments) => show::top(client, &arguments).await,
        C::Stats(arguments) => stats::stats(client, arguments).await,
        C::Port(arguments) => show::port(client, &arguments).await,
        C::Diff(arguments) => show::diff(client, &arguments).await,
        C::Cp(arguments) => copy::copy(client, &arguments).await,
        C::Export(arguments) => commit::export(client, &arguments).await,
        C::Commit(arguments) => commit::commit(client, &arguments).await,
        C::Exec(arguments) => exec::exec(client, arguments).await,
        C::Attach(arguments) => attach::attach(client, &arguments).await,
        C::PortForward(arguments) => forward::forward(client, arguments).await,
    }
}

/// `rswarm inspect`: whatever has that name.
pub(crate) async fn inspect_any(client: &Client, arguments: &InspectAnyArgs) -> anyhow::Result<()> {
    inspect::any(client, arguments).await
}
