//! `registry login/ls/logout`: credentials that all nodes of the cluster use (P17).

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    info::text,
    login::{LoginArgs, ask},
    tasks::items,
};
use crate::{
    client::{Client, escape},
    output::{
        list::{Layout, Row, Style, render},
        terminal::print,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Registry}}\t{{.Username}}",
    titles: &[("Registry", "REGISTRY"), ("Username", "USERNAME")],
    key: "Registry",
};

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Give all nodes credentials for a registry, or new ones; what runs does not notice
    #[command(
        after_help = "Examples:\n  rswarm registry login --username me --password-stdin registry.example < password\n  rswarm registry \
                      login --username ci --password-stdin registry.example/team < token"
    )]
    Login(LoginArgs),
    /// List the registries with credentials
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Take the credentials for a registry away
    Logout(LogoutArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Only show the registries
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// HOST[:PORT][/PATH], as `registry ls` shows it
    registry: String,
}

pub(crate) async fn run(client: &Client, command: RegistryCommand) -> anyhow::Result<()> {
    match command {
        RegistryCommand::Login(arguments) => login(client, arguments).await,
        RegistryCommand::Ls(arguments) => list(client, arguments).await,
        RegistryCommand::Logout(LogoutArgs { registry }) => {
            client.delete(&format!("/registries?registry={}", escape(&registry))).await?;
            print(&format!("Removed the cluster's credentials for {registry}\n"))
        }
    }
}

async fn login(client: &Client, arguments: LoginArgs) -> anyhow::Result<()> {
    let registry = if arguments.server.is_empty() { "docker.io".to_owned() } else { arguments.server.clone() };
    let (username, password) = ask(arguments)?;
    let body = json!({ "Registry": registry, "Username": username, "Password": password });
    client.post("/registries", Some(&body)).await?;
    print(&format!("All nodes log in to {registry} as {username} from now on\n"))
}

async fn list(client: &Client, arguments: ListArgs) -> anyhow::Result<()> {
    let all = client.get("/registries").await?;
    let row = |one: &serde_json::Value| {
        Row::from([("Registry", text(&one["Registry"])), ("Username", text(&one["Username"]))])
    };
    let rows: Vec<Row> = items(&all).map(row).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: arguments.quiet }, &rows)?)
}
