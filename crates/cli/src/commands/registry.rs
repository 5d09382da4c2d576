//! `registry login/ls/logout`: credentials that all nodes of the cluster use (P17).

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

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
        units::{go_duration, parse_duration},
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Registry}}\t{{.Username}}\t{{.Renewal}}",
    titles: &[("Registry", "REGISTRY"), ("Username", "USERNAME"), ("Renewal", "RENEWAL")],
    key: "Registry",
};

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Give all nodes credentials for a registry, or new ones; what runs does not notice
    #[command(
        after_help = "Examples:\n  rswarm registry login --username me --password-stdin registry.example < password\n  rswarm registry \
                      login --username ci --password-stdin registry.example/team < token\n  rswarm registry login --helper ecr-login \
                      123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    )]
    Login(GiveArgs),
    /// List the registries with credentials
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Take the credentials for a registry away
    Logout(LogoutArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GiveArgs {
    #[command(flatten)]
    login: LoginArgs,
    /// Credentials that expire: the managers ask the program docker-credential-NAME for new ones
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, conflicts_with_all = ["username", "password", "password_stdin"])]
    helper: String,
    /// How often, less than they last (default 10m)
    #[arg(long, value_name = "DURATION", requires = "helper", value_parser = parse_duration)]
    every: Option<Duration>,
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

async fn login(client: &Client, arguments: GiveArgs) -> anyhow::Result<()> {
    let GiveArgs { login, helper, every } = arguments;
    let registry = if login.server.is_empty() { "docker.io".to_owned() } else { login.server.clone() };
    if !helper.is_empty() {
        let mut body = json!({ "Registry": registry, "Helper": helper });
        if let Some(every) = every {
            body["Every"] = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).into();
        }
        client.post("/registries", Some(&body)).await?;
        return print(&format!(
            "All nodes log in to {registry} with what docker-credential-{helper} gives from now on\n"
        ));
    }
    let (username, password) = ask(login)?;
    let body = json!({ "Registry": registry, "Username": username, "Password": password });
    client.post("/registries", Some(&body)).await?;
    print(&format!("All nodes log in to {registry} as {username} from now on\n"))
}

/// `ecr-login every 10m0s`, or why the last try gave nothing.
fn renewal(said: &Value) -> String {
    match (text(&said["Helper"]), text(&said["Error"])) {
        (helper, _) if helper.is_empty() => String::new(),
        (helper, trouble) if trouble.is_empty() => {
            format!("{helper} every {}", go_duration(said["Every"].as_u64().unwrap_or_default()))
        }
        (_, trouble) => format!("failed: {trouble}"),
    }
}

async fn list(client: &Client, arguments: ListArgs) -> anyhow::Result<()> {
    let all = client.get("/registries").await?;
    let row = |one: &Value| {
        let renewal = renewal(&one["Renewal"]);
        Row::from([("Registry", text(&one["Registry"])), ("Username", text(&one["Username"])), ("Renewal", renewal)])
    };
    let rows: Vec<Row> = items(&all).map(row).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: arguments.quiet }, &rows)?)
}
