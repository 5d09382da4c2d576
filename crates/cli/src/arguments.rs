//! The tree of commands.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;

use crate::{
    commands::{
        backup::BackupCommand,
        container::{ContainerCommand, InspectAnyArgs, ListArgs as ContainerListArgs, SingleCommand},
        dependency::DependencyCommand,
        doctor::DoctorArgs,
        image::{
            HistoryArgs, ImageCommand, ImportArgs, ListArgs as ImageListArgs, LoadArgs, PullArgs, PushArgs, RemoveArgs,
            SaveArgs, SearchArgs, TagArgs,
        },
        info::FormatArgs,
        login::{LoginArgs, LogoutArgs},
        network::NetworkCommand,
        node::NodeCommand,
        rebalance::RebalanceArgs,
        registry::RegistryCommand,
        service::ServiceCommand,
        stack::StackCommand,
        swarm::{
            InitArgs, JoinArgs, JoinTokenArgs, LeaveArgs, ManagersArgs, UpdateArgs, ca::CaArgs, lock::UnlockKeyArgs,
        },
        system::{EventsArgs, SystemCommand},
        volume::VolumeCommand,
    },
    host::TlsArgs,
};

/// Containers on many hosts as one cluster
#[derive(Debug, Parser)]
#[command(
    name = "rswarm",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    after_help = "Examples:\n  rswarm init                                      make this host the first of a cluster\n  rswarm join --token SWMTKN-1-… 192.0.2.1:2377    add this host to a cluster\n  rswarm service create --name web --replicas 3 nginx\n  rswarm service ps web\n  rswarm daemon                                    run the daemon in the foreground"
)]
pub(crate) struct Root {
    /// Print version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// Daemon to speak to [env: RSWARM_HOST, then DOCKER_HOST] [default: unix:///run/rswarm/rswarm.sock]
    #[arg(id = "daemon", short = 'H', long = "host", value_name = "unix:///PATH|tcp://…|ssh://…")]
    pub(crate) daemon: Option<String>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Root {
    /// Reads a command line. One that cannot be read is read again as docker does it: a switch may have a value
    /// (`--force=false`), and of what comes twice the last counts.
    ///
    /// # Errors
    /// Says what is wrong with it; help and version, too.
    pub(crate) fn read(words: &[OsString]) -> Result<Self, clap::Error> {
        let error = match Self::try_parse_from(words) {
            Ok(root) => return Ok(root),
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                return Err(error);
            }
            Err(error) => error,
        };
        match loosened(Self::command()).args_override_self(true).try_get_matches_from(words) {
            Ok(matches) => Self::from_arg_matches(&matches),
            // in the words for the command line as it stands in the help
            Err(same) if same.kind() == error.kind() => Err(error),
            Err(other) => Err(other),
        }
    }
}

fn loosened(command: clap::Command) -> clap::Command {
    let with_value = |arg: Arg| match matches!(arg.get_action(), ArgAction::SetTrue) {
        true => arg.num_args(0..=1).require_equals(true).value_parser(truth),
        false => arg,
    };
    command.mut_args(with_value).mut_subcommands(loosened)
}

/// Go's words.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make this host the first manager of a new cluster
    Init(InitArgs),
    /// Add this host to a cluster
    Join(JoinArgs),
    /// Take this host out of its cluster
    Leave(LeaveArgs),
    /// Show, or replace, what a host needs to join
    JoinToken(JoinTokenArgs),
    /// Check this host: kernel, firewall, ports and the way to every peer; exit code 1 when something fails
    #[command(after_help = "Example: rswarm doctor --quiet")]
    Doctor(DoctorArgs),
    /// Show this host and its cluster
    Info(FormatArgs),
    /// Show the version of client and daemon
    Version(FormatArgs),
    /// Hosts of the cluster
    #[command(subcommand)]
    Node(NodeCommand),
    /// Networks of the cluster
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Services: containers kept running
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Move running tasks to where their services are more even, such as a node that came back
    #[command(
        after_help = "Examples:\n  rswarm rebalance --dry-run\n  rswarm rebalance --budget 2 --wait\n  rswarm rebalance --service web"
    )]
    Rebalance(RebalanceArgs),
    /// Stacks: what a Compose file says, as services, networks, secrets and configs
    #[command(subcommand)]
    Stack(StackCommand),
    /// Secrets: data that the tasks of services get as files in memory
    #[command(subcommand)]
    Secret(DependencyCommand),
    /// Configs: files for the tasks of services
    #[command(subcommand)]
    Config(DependencyCommand),
    #[command(flatten)]
    Single(SingleCommand),
    /// List the containers of this host
    #[command(after_help = "Example: rswarm ps -a --filter status=exited")]
    Ps(ContainerListArgs),
    /// Show all of whatever has that name: a container, an image, a network, a volume, a service, …
    Inspect(InspectAnyArgs),
    /// Containers of this host, in docker's other spelling
    #[command(subcommand)]
    Container(ContainerCommand),
    /// Images of this host
    #[command(subcommand)]
    Image(ImageCommand),
    /// Look for images on Docker Hub
    #[command(after_help = "Example: rswarm search --filter is-official=true nginx")]
    Search(SearchArgs),
    /// Volumes of this host
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Backups of the cluster's state
    #[command(subcommand)]
    Backup(BackupCommand),
    /// The cluster itself, in docker's spelling
    #[command(subcommand)]
    Swarm(SwarmCommand),
    /// List images (image ls)
    #[command(hide = true)]
    Images(ImageListArgs),
    /// Get an image from a registry (image pull)
    #[command(hide = true)]
    Pull(PullArgs),
    /// Get images from a tar (image load)
    #[command(hide = true)]
    Load(LoadArgs),
    /// Remove images (image rm)
    #[command(hide = true)]
    Rmi(RemoveArgs),
    /// Make an image from a root filesystem (image import)
    #[command(hide = true)]
    Import(ImportArgs),
    /// Send an image to a registry (image push)
    #[command(hide = true)]
    Push(PushArgs),
    /// Write images to a tar (image save)
    #[command(hide = true)]
    Save(SaveArgs),
    /// Give an image another name (image tag)
    #[command(hide = true)]
    Tag(TagArgs),
    /// Show the steps an image was made in (image history)
    #[command(hide = true)]
    History(HistoryArgs),
    /// What this host keeps, and what of it may go
    #[command(subcommand)]
    System(SystemCommand),
    /// Show what happens on this host and, on managers, in the cluster
    #[command(after_help = "Example: rswarm events --since 10m --filter type=container --filter event=die")]
    Events(EventsArgs),
    /// Keep the credentials of a registry
    #[command(after_help = "Example: rswarm login --username me --password-stdin registry.example < password")]
    Login(LoginArgs),
    /// Forget the credentials of a registry
    Logout(LogoutArgs),
    /// Credentials for registries that all nodes of the cluster use
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Hosts on this machine, to try things on
    Lab(lab::cli::LabArgs),
    /// Print a shell's completion script
    #[command(after_help = "Example: rswarm completion bash > /etc/bash_completion.d/rswarm")]
    Completion(CompletionArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SwarmCommand {
    /// Make this host the first manager of a new cluster
    Init(InitArgs),
    /// Add this host to a cluster
    Join(JoinArgs),
    /// Take this host out of its cluster
    Leave(LeaveArgs),
    /// Show, or replace, what a host needs to join
    JoinToken(JoinTokenArgs),
    /// Change the cluster's settings
    Update(UpdateArgs),
    /// Show, or replace, the root certificate that the cluster's hosts trust
    Ca(CaArgs),
    /// Tell this node where managers of its cluster are now, when those that it knows are gone
    Managers(ManagersArgs),
    /// Let a locked manager take its place again
    #[command(after_help = "Examples:\n  rswarm swarm unlock\n  rswarm swarm unlock < key.txt")]
    Unlock,
    /// Show, or replace, the key that unlocks managers
    UnlockKey(UnlockKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    pub(crate) shell: Shell,
}
