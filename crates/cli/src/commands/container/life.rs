//! What happens to containers that are there: `stop`, `restart`, `kill`, `pause`, `unpause`, `wait`, `rename`, `update`,
//! `rm`, `prune`. Each prints what it did; one that fails keeps no other from its turn.

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{limits::SharedLimits, session::end};
use crate::{
    client::{Client, Refused, escape, filters_query},
    commands::{confirmed, info::text, parse_filter, tasks::items},
    output::{
        terminal::{print, print_error},
        units::decimal_size,
    },
    spec::single,
};

#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Signal to send
    #[arg(short, long, default_value = "")]
    signal: String,
    /// Seconds to wait before it is killed; -1 for ever
    #[arg(short = 't', long, alias = "time", value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Signal to send
    #[arg(short, long, default_value = "")]
    signal: String,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    container: String,
    new_name: String,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// When it ends: no, on-failure[:MAX], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[command(flatten)]
    limits: SharedLimits,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Kill it if it runs
    #[arg(short, long)]
    force: bool,
    /// Remove the link, not the container
    #[arg(short, long)]
    link: bool,
    /// Remove its anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only remove those for which KEY=VALUE holds (until, label, label!)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Prints the line, if there is one, for each that went well; all reasons of the others at the end.
pub(super) async fn each_of(names: &[String], one: impl AsyncFn(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
    let mut reasons = Vec::new();
    for name in names {
        match one(name).await {
            Ok(line) if line.is_empty() => {}
            Ok(line) => print(&format!("{line}\n"))?,
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(reasons.is_empty(), "{}", reasons.join("\n"));
    Ok(())
}

/// `pause` and `unpause`.
pub(super) async fn each(client: &Client, what: &str, arguments: &NamesArgs) -> anyhow::Result<()> {
    each_of(&arguments.containers, async |name| {
        client.post(&format!("/containers/{}/{what}", escape(name)), None).await.map(|_| name.to_owned())
    })
    .await
}

/// `stop` and `restart`.
pub(super) async fn stop(client: &Client, what: &str, arguments: &StopArgs) -> anyhow::Result<()> {
    let seconds = arguments.timeout.map(|seconds| format!("&t={seconds}")).unwrap_or_default();
    let query = format!("signal={}{seconds}", escape(&arguments.signal));
    each_of(&arguments.containers, async |name| {
        client.post(&format!("/containers/{}/{what}?{query}", escape(name)), None).await.map(|_| name.to_owned())
    })
    .await
}

pub(super) async fn kill(client: &Client, arguments: &KillArgs) -> anyhow::Result<()> {
    let signal = if arguments.signal.is_empty() { "KILL" } else { &arguments.signal };
    each_of(&arguments.containers, async |name| {
        let path = format!("/containers/{}/kill?signal={}", escape(name), escape(signal));
        client.post(&path, None).await.map(|_| name.to_owned())
    })
    .await
}

pub(super) async fn wait(client: &Client, arguments: &NamesArgs) -> anyhow::Result<()> {
    each_of(&arguments.containers, async |name| {
        let waiting = client.stream(Method::POST, &format!("/containers/{}/wait", escape(name))).await?;
        end(waiting).await.map(|code| code.to_string())
    })
    .await
}

pub(super) async fn rename(client: &Client, arguments: &RenameArgs) -> anyhow::Result<()> {
    let (old, new) = (escape(&arguments.container), escape(&arguments.new_name));
    anyhow::ensure!(!old.is_empty() && !new.is_empty(), "neither old nor new names may be empty");
    client.post(&format!("/containers/{old}/rename?name={new}"), None).await.map(drop)
}

pub(super) async fn update(client: &Client, arguments: &UpdateArgs) -> anyhow::Result<()> {
    let body = single::update(&arguments.limits, arguments.restart.as_deref())?;
    let is_empty = body.as_object().is_some_and(serde_json::Map::is_empty);
    anyhow::ensure!(!is_empty, "you must provide one or more flags when using this command");
    each_of(&arguments.containers, async |name| {
        let answer = client.post(&format!("/containers/{}/update", escape(name)), Some(&body)).await?;
        for warning in items(&answer["Warnings"]) {
            print_error(&format!("{}\n", text(warning)))?;
        }
        Ok(name.to_owned())
    })
    .await
}

pub(super) async fn remove(client: &Client, arguments: &RemoveArgs) -> anyhow::Result<()> {
    let query = format!("force={}&v={}&link={}", arguments.force, arguments.volumes, arguments.link);
    each_of(&arguments.containers, async |name| {
        let name = name.trim_matches('/');
        anyhow::ensure!(!name.is_empty(), "container name cannot be empty");
        match client.delete(&format!("/containers/{}?{query}", escape(name))).await {
            // with --force, gone is gone
            Err(error) if arguments.force && is_absent(&error) => {
                print_error(&format!("rswarm: {error:#}\n"))?;
                Ok(String::new())
            }
            other => other.map(|_| name.to_owned()),
        }
    })
    .await
}

fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == StatusCode::NOT_FOUND)
}

pub(super) async fn prune(client: &Client, arguments: PruneArgs) -> anyhow::Result<()> {
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";
    if !arguments.force && !confirmed(question)? {
        return Ok(());
    }
    let answer = client.post(&format!("/containers/prune{}", filters_query(&arguments.filter)), None).await?;
    print(&deleted("Containers", &answer["ContainersDeleted"]))?;
    print(&format!("Total reclaimed space: {}\n", decimal_size(answer["SpaceReclaimed"].as_u64().unwrap_or(0))))
}

/// As docker tells of what went; nothing if nothing did.
pub(crate) fn deleted(what: &str, removed: &Value) -> String {
    let names: String = items(removed).map(|name| format!("{}\n", text(name))).collect();
    if names.is_empty() { names } else { format!("Deleted {what}:\n{names}\n") }
}
