//! One module per noun. Each turns arguments into requests, and answers into text.

pub(crate) mod backup;
pub(crate) mod container;
pub(crate) mod dependency;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod login;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod rebalance;
pub(crate) mod registry;
pub(crate) mod service;
pub(crate) mod stack;
pub(crate) mod swarm;
pub(crate) mod system;
pub(crate) mod tasks;
pub(crate) mod volume;

use anyhow::Context as _;
use clap::CommandFactory as _;

use dependency::Kind;

pub(crate) use service::verdict::NotConverged;

use crate::{
    HostChecks, Quit,
    arguments::{Command, Root, SwarmCommand},
    client::Client,
    commands::{container::ContainerCommand, system::SystemCommand},
    host::{DEFAULT_HOST, Host},
};

pub(crate) fn run(root: Root, host_checks: HostChecks) -> anyhow::Result<()> {
    if let Command::Completion(arguments) = &root.command {
        let mut script = Vec::new();
        clap_complete::generate(arguments.shell, &mut Root::command(), "rswarm", &mut script);
        return crate::output::terminal::print_bytes(&script);
    }
    if let Command::Lab(arguments) = &root.command {
        let own = std::env::current_exe().context("find this program's own path")?;
        return match lab::cli::run(arguments, &own)? {
            0 => Ok(()),
            code => Err(Quit(code).into()),
        };
    }
    let client = Client::new(Host::parse(&host(root.daemon), &root.tls)?);
    // Before there is a runtime here: it brings its own.
    let checks = if matches!(root.command, Command::Doctor(_)) { host_checks() } else { Vec::new() };
    // One thread is enough for one request after another.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(dispatch(&client, root.command, checks));
    // A read of standard input may hang in the pool; nobody waits for it.
    runtime.shutdown_background();
    result
}

fn host(flag: Option<String>) -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    flag.or_else(|| variable("RSWARM_HOST"))
        .or_else(|| variable("DOCKER_HOST"))
        .unwrap_or_else(|| DEFAULT_HOST.to_owned())
}

async fn dispatch(client: &Client, command: Command, checks: Vec<types::Check>) -> anyhow::Result<()> {
    match command {
        Command::Init(arguments) | Command::Swarm(SwarmCommand::Init(arguments)) => {
            swarm::init(client, arguments).await
        }
        Command::Join(arguments) | Command::Swarm(SwarmCommand::Join(arguments)) => {
            swarm::join(client, arguments).await
        }
        Command::Leave(arguments) | Command::Swarm(SwarmCommand::Leave(arguments)) => {
            swarm::leave(client, arguments).await
        }
        Command::JoinToken(arguments) | Command::Swarm(SwarmCommand::JoinToken(arguments)) => {
            swarm::join_token(client, arguments).await
        }
        Command::Swarm(SwarmCommand::Update(arguments)) => swarm::update(client, arguments).await,
        Command::Swarm(SwarmCommand::Ca(arguments)) => swarm::ca::ca(client, arguments).await,
        Command::Swarm(SwarmCommand::Managers(arguments)) => swarm::managers(client, arguments).await,
        Command::Backup(command) => backup::run(client, command).await,
        Command::Swarm(SwarmCommand::Unlock) => swarm::lock::unlock(client).await,
        Command::Swarm(SwarmCommand::UnlockKey(arguments)) => swarm::lock::unlock_key(client, arguments).await,
        Command::Doctor(arguments) => doctor::doctor(client, arguments, checks).await,
        Command::Info(arguments) => info::info(client, arguments).await,
        Command::Version(arguments) => info::version(client, arguments).await,
        Command::Node(command) => node::run(client, command).await,
        Command::Network(command) => network::run(client, command).await,
        Command::Secret(command) => dependency::run(client, Kind::SECRET, command).await,
        Command::Config(command) => dependency::run(client, Kind::CONFIG, command).await,
        Command::Service(command) => service::run(client, command).await,
        Command::Rebalance(arguments) => rebalance::run(client, arguments).await,
        Command::Stack(command) => stack::run(client, command).await,
        Command::Volume(command) => volume::run(client, command).await,
        Command::Image(command) => image::run(client, command).await,
        Command::Search(arguments) => image::search(client, arguments).await,
        Command::Container(command) => container::run(client, command).await,
        Command::Single(command) => container::run_single(client, command).await,
        Command::Ps(arguments) => container::run(client, ContainerCommand::Ls(arguments)).await,
        Command::Inspect(arguments) => container::inspect_any(client, &arguments).await,
        Command::System(command) => system::run(client, command).await,
        Command::Events(arguments) => system::run(client, SystemCommand::Events(arguments)).await,
        Command::Login(arguments) => login::login(client, arguments).await,
        Command::Logout(arguments) => login::logout(&arguments),
        Command::Registry(command) => registry::run(client, command).await,
        Command::Images(arguments) => image::run(client, image::ImageCommand::Ls(arguments)).await,
        Command::Pull(arguments) => image::run(client, image::ImageCommand::Pull(arguments)).await,
        Command::Load(arguments) => image::run(client, image::ImageCommand::Load(arguments)).await,
        Command::Rmi(arguments) => image::run(client, image::ImageCommand::Rm(arguments)).await,
        Command::Push(arguments) => image::run(client, image::ImageCommand::Push(arguments)).await,
        Command::Save(arguments) => image::run(client, image::ImageCommand::Save(arguments)).await,
        Command::Tag(arguments) => image::run(client, image::ImageCommand::Tag(arguments)).await,
        Command::History(arguments) => image::run(client, image::ImageCommand::History(arguments)).await,
        Command::Import(arguments) => image::run(client, image::ImageCommand::Import(arguments)).await,
        Command::Completion(_) | Command::Lab(_) => Ok(()),
    }
}

/// `KEY=VALUE` of `--filter`.
pub(crate) fn parse_filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_lowercase(), value.trim().to_owned())),
        _ => Err(format!("bad filter {text:?}: write KEY=VALUE")),
    }
}

/// No answer is a no.
pub(crate) fn confirmed(question: &str) -> anyhow::Result<bool> {
    crate::output::terminal::print(question)?;
    std::io::Write::flush(&mut std::io::stdout())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
