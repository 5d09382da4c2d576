//! `stack deploy/diff/ls/ps/services/config/inspect/history/rollback/rm`: what a Compose file says, as services, networks, secrets and configs
//! of the cluster. Names and labels are those of `docker stack`, so that either program manages what the other has deployed.

mod deploy;
pub(crate) mod diff;
mod history;
mod live;
mod load;
mod outcome;
mod remove;

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    info::text,
    parse_filter,
    service::{self, list::ListArgs},
    tasks::{self, PsArgs, items},
};
use crate::{
    client::{Client, filters_query},
    compose,
    output::{
        list::{Layout, Row, Style, render},
        natural,
        terminal::{print, print_error},
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Name}}\t{{.Services}}",
    titles: &[("Name", "NAME"), ("Services", "SERVICES"), ("Revision", "REVISION")],
    key: "Name",
};

#[derive(Debug, Subcommand)]
pub(crate) enum StackCommand {
    /// Deploy a new stack, or bring one to what its Compose file says
    #[command(
        visible_alias = "up",
        after_help = "Examples:\n  rswarm stack deploy -c compose.yaml shop\n  rswarm stack deploy -c compose.yaml -c production.yaml --prune --detach=false shop\n  docker compose config | rswarm stack deploy -c - shop"
    )]
    Deploy(deploy::DeployArgs),
    /// Show what a deploy would change; exit code 0: nothing, 1: something, 2: it could not be found out
    #[command(after_help = "Example: rswarm stack diff -c compose.yaml shop && echo nothing to do")]
    Diff(diff::DiffArgs),
    /// List stacks
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// List the tasks of a stack
    Ps(StackPsArgs),
    /// List the services of a stack
    Services(ServicesArgs),
    /// Show what the Compose files come to, merged and with their variables filled in
    Config(ConfigArgs),
    /// Show what stacks have: services, networks, secrets, configs and the present revision
    Inspect(history::InspectArgs),
    /// List the revisions of a stack and what each changed
    History(history::HistoryArgs),
    /// Take a stack back, as a whole, to what an earlier revision was
    #[command(after_help = "Examples:\n  rswarm stack rollback shop\n  rswarm stack rollback --to 3 shop")]
    Rollback(history::RollbackArgs),
    /// Remove stacks: services, secrets, configs and networks; wait until all is gone
    #[command(visible_alias = "remove", visible_alias = "down")]
    Rm(remove::RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
}

#[derive(Debug, Args)]
pub(crate) struct StackPsArgs {
    #[command(flatten)]
    ps: PsArgs,
    stack: String,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesArgs {
    /// Only show those for which KEY=VALUE holds (id, name, label, mode)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Only show ids
    #[arg(short, long)]
    quiet: bool,
    stack: String,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    files: load::FileArgs,
    /// Leave variables as they are written
    #[arg(long)]
    skip_interpolation: bool,
}

pub(crate) async fn run(client: &Client, command: StackCommand) -> anyhow::Result<()> {
    match command {
        StackCommand::Deploy(arguments) => deploy::deploy(client, &arguments).await,
        StackCommand::Diff(arguments) => diff::diff(client, &arguments).await,
        StackCommand::Ls(arguments) => list(client, arguments).await,
        StackCommand::Ps(arguments) => ps(client, &arguments).await,
        StackCommand::Services(arguments) => services(client, arguments).await,
        StackCommand::Config(arguments) => config(&arguments),
        StackCommand::Inspect(arguments) => history::inspect_stacks(client, &arguments).await,
        StackCommand::History(arguments) => history::history(client, &arguments).await,
        StackCommand::Rollback(arguments) => history::rollback(client, &arguments).await,
        StackCommand::Rm(arguments) => remove::remove(client, &arguments).await,
    }
}

/// Docker's words, and where to look.
fn nothing_in(stack: &str) -> String {
    format!("nothing found in stack: {stack}; `rswarm stack ls` shows the stacks there are")
}

/// The filter for what is of a stack.
fn of_stack(stack: &str) -> (String, String) {
    ("label".to_owned(), format!("{}={stack}", compose::NAMESPACE))
}

/// Docker's rule, and a reason.
fn check_name(stack: &str) -> anyhow::Result<()> {
    ensure!(!stack.trim().is_empty(), "invalid stack name: {stack:?}: give a name that is not blank");
    if let Err(why) = stack.parse::<types::Name>() {
        anyhow::bail!("invalid stack name: {why}");
    }
    Ok(())
}

async fn services_of(client: &Client, stack: &str) -> anyhow::Result<Vec<Value>> {
    let all = client.get(&format!("/services{}", filters_query(&[of_stack(stack)]))).await?;
    Ok(items(&all).cloned().collect())
}

async fn list(client: &Client, arguments: LsArgs) -> anyhow::Result<()> {
    let all = client.get("/stacks").await?;
    let row = |stack: &Value| {
        let services = items(&stack["Services"]).count().to_string();
        Row::from([
            ("Name", text(&stack["Name"])),
            ("Services", services),
            ("Revision", stack["Revision"].as_u64().unwrap_or(0).to_string()),
        ])
    };
    // as docker has it: what has no services is none
    let mut all: Vec<&Value> = items(&all).filter(|stack| items(&stack["Services"]).next().is_some()).collect();
    all.sort_by(|a, b| natural::compare(&text(&a["Name"]), &text(&b["Name"])));
    let rows: Vec<Row> = all.into_iter().map(row).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: false }, &rows)?)
}

async fn ps(client: &Client, arguments: &StackPsArgs) -> anyhow::Result<()> {
    check_name(&arguments.stack)?;
    let filter = of_stack(&arguments.stack);
    ensure!(!services_of(client, &arguments.stack).await?.is_empty(), "{}", nothing_in(&arguments.stack));
    tasks::show(client, &arguments.ps, vec![filter]).await
}

async fn services(client: &Client, arguments: ServicesArgs) -> anyhow::Result<()> {
    check_name(&arguments.stack)?;
    if services_of(client, &arguments.stack).await?.is_empty() {
        // docker says it and goes on
        return print_error(&format!("Nothing found in stack: {}\n", arguments.stack));
    }
    let filter = arguments.filter.into_iter().chain([of_stack(&arguments.stack)]).collect();
    let arguments = ListArgs { filter, format: arguments.format, quiet: arguments.quiet };
    service::list::list(client, arguments).await
}

fn config(arguments: &ConfigArgs) -> anyhow::Result<()> {
    let loaded = load::load(&arguments.files, "stack", !arguments.skip_interpolation)?;
    print(&loaded.text)
}
