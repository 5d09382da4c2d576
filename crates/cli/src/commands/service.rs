//! `service create/ls/ps/inspect/update/scale/rm/logs/rollback`.

mod change;
pub(crate) mod check_update;
pub(crate) mod frames;
mod history;
pub(crate) mod list;
mod logs;
mod pretty;
pub(crate) mod verdict;
pub(crate) mod watch;
mod watch_job;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    info::text,
    inspect,
    tasks::{self, PsArgs},
};
use crate::{
    client::{Client, escape},
    output::terminal::print,
};
pub(crate) use change::say_what_docker_says;
use change::{CreateArgs, RollbackArgs, ScaleArgs, UpdateArgs};
#[cfg(test)]
pub(crate) use change::{change_spec, new_spec};

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Create a service
    #[command(
        after_help = "Examples:\n  rswarm service create --name web --replicas 3 nginx\n  rswarm service create --name web --publish published=8080,target=80,mode=host nginx\n  rswarm service create --mode global --constraint node.role==worker --name agent agent:1 --verbose\n  rswarm service create --mode replicated-job --replicas 5 --max-concurrent 2 --name batch job:1\n  rswarm service create --mode replicated-job --schedule '0 3 * * *' --schedule-timezone Europe/Berlin --name nightly backup:1"
    )]
    Create(Box<CreateArgs>),
    /// List services
    #[command(visible_alias = "list")]
    Ls(list::ListArgs),
    /// List the tasks of one or more services
    Ps(ServicePsArgs),
    /// Show all of one or more services
    Inspect(InspectArgs),
    /// Change a service
    #[command(
        after_help = "Examples:\n  rswarm service update --image nginx:1.27 web\n  rswarm service update --env-add A=1 --limit-memory 64m web\n  rswarm service update --force web"
    )]
    Update(Box<UpdateArgs>),
    /// Set the number of tasks of services
    #[command(after_help = "Example: rswarm service scale web=5 db=2")]
    Scale(ScaleArgs),
    /// Remove services
    #[command(visible_alias = "remove")]
    Rm(NamesArgs),
    /// Show what the tasks of a service, or one task, wrote
    #[command(after_help = "Example: rswarm service logs --follow --tail 10 web")]
    Logs(logs::LogsArgs),
    /// Go back to the spec before the present one, or to an earlier revision
    #[command(after_help = "Examples:\n  rswarm service rollback web\n  rswarm service rollback --to 3 web")]
    Rollback(RollbackArgs),
    /// Ask the registries whether there are newer images than those that services run
    #[command(
        after_help = "Examples:\n  rswarm service check-update\n  rswarm service check-update -q | xargs -rn1 rswarm service update --pull always"
    )]
    CheckUpdate(check_update::CheckUpdateArgs),
    /// List the revisions of a service and what each changed
    History(history::HistoryArgs),
    /// Stop an update, or a rollback, where it is
    Pause(OneServiceArgs),
    /// Let a paused update, or rollback, go on
    Resume(OneServiceArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OneServiceArgs {
    service: String,
}

#[derive(Debug, Args)]
pub(crate) struct ServicePsArgs {
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    ps: PsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// For people
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

pub(crate) async fn run(client: &Client, command: ServiceCommand) -> anyhow::Result<()> {
    match command {
        ServiceCommand::Create(arguments) => change::create(client, *arguments).await,
        ServiceCommand::Ls(arguments) => list::list(client, arguments).await,
        ServiceCommand::Ps(arguments) => ps(client, arguments).await,
        ServiceCommand::Inspect(arguments) => inspect_services(client, arguments).await,
        ServiceCommand::Update(arguments) => change::update(client, *arguments).await,
        ServiceCommand::Scale(arguments) => change::scale(client, arguments).await,
        ServiceCommand::Rm(arguments) => remove(client, arguments).await,
        ServiceCommand::Logs(arguments) => logs::logs(client, arguments).await,
        ServiceCommand::Rollback(arguments) => change::rollback(client, arguments).await,
        ServiceCommand::CheckUpdate(arguments) => check_update::check_update(client, arguments).await,
        ServiceCommand::History(arguments) => history::history(client, arguments).await,
        ServiceCommand::Pause(arguments) => change::steer_update(client, &arguments.service, "pause").await,
        ServiceCommand::Resume(arguments) => change::steer_update(client, &arguments.service, "resume").await,
    }
}

/// By id, name or the beginning of an id.
pub(crate) async fn fetch(client: &Client, name: &str) -> anyhow::Result<Value> {
    client.get(&format!("/services/{}", escape(name))).await
}

/// With the defaults of what its spec does not say.
async fn fetch_whole(client: &Client, name: &str) -> anyhow::Result<Value> {
    client.get(&format!("/services/{}?insertDefaults=true", escape(name))).await
}

async fn ps(client: &Client, arguments: ServicePsArgs) -> anyhow::Result<()> {
    let (mut filters, mut missing) = (Vec::new(), Vec::new());
    for name in &arguments.services {
        match fetch(client, name).await {
            Ok(service) => filters.push(("service".to_owned(), text(&service["ID"]))),
            Err(error) => missing.push(format!("{error:#}")),
        }
    }
    if !filters.is_empty() {
        tasks::show(client, &arguments.ps, filters).await?;
    }
    anyhow::ensure!(missing.is_empty(), "{}", missing.join("\n"));
    Ok(())
}

async fn inspect_services(client: &Client, arguments: InspectArgs) -> anyhow::Result<()> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &arguments.services {
        match fetch_whole(client, name).await {
            Ok(service) => found.push(service),
            Err(error) => missing.push(error),
        }
    }
    if arguments.pretty {
        let networks = network_names(client).await?;
        for service in &found {
            print(&pretty::service(service, &networks))?;
        }
        return missing.into_iter().next().map_or(Ok(()), Err);
    }
    inspect::show(&found, &missing, arguments.format.as_deref())
}

async fn network_names(client: &Client) -> anyhow::Result<BTreeMap<String, String>> {
    let networks = client.get("/networks").await?;
    Ok(tasks::items(&networks).map(|network| (text(&network["Id"]), text(&network["Name"]))).collect())
}

async fn remove(client: &Client, arguments: NamesArgs) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    for name in &arguments.services {
        match client.delete(&format!("/services/{}", escape(name))).await {
            Ok(_) => print(&format!("{name}\n"))?,
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}
