//! `stack rm`: all of a stack goes in one request; then it is waited for until nothing of it is left (P33).

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use hyper::StatusCode;
use serde_json::Value;

use super::{
    super::{info::text, tasks::items},
    check_name,
    outcome::Outcome,
};
use crate::{
    client::{Client, Refused, escape},
    output::terminal::{print, print_error},
};

/// Tasks stop within their grace period; who gives them hours can look himself.
const MAX_WAIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[arg(required = true, value_name = "STACK")]
    stacks: Vec<String>,
    /// Do not wait until the last task has ended and the networks are gone
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    detach: bool,
}

pub(super) async fn remove(client: &Client, arguments: &RemoveArgs) -> anyhow::Result<()> {
    arguments.stacks.iter().try_for_each(|stack| check_name(stack))?;
    let mut errors = Vec::new();
    let mut going = Vec::new();
    for stack in &arguments.stacks {
        match client.delete(&format!("/stacks/{}", escape(stack))).await {
            Ok(answer) => {
                for line in Outcome::of(&answer).lines() {
                    print(&format!("{line}\n"))?;
                }
                going.push(stack);
            }
            Err(error) if is_missing(&error) => print_error(&format!("Nothing found in stack: {stack}\n"))?,
            Err(error) => errors.push(format!("failed to remove stack {stack}: {error:#}")),
        }
    }
    for stack in going.into_iter().filter(|_| !arguments.detach) {
        wait_until_gone(client, stack).await?;
    }
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

pub(super) fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|no| no.status == StatusCode::NOT_FOUND)
}

/// Its services are there until their last task has ended, its networks until nobody is in them.
async fn wait_until_gone(client: &Client, stack: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let left = match client.get(&format!("/stacks/{}", escape(stack))).await {
            Ok(left) => left,
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        if begun.elapsed() > MAX_WAIT {
            let names = |kind: &str, list: &Value| -> Vec<String> {
                items(list).map(|name| format!("{kind} {}", text(name))).collect()
            };
            let left = [names("service", &left["Services"]), names("network", &left["Networks"])].concat().join(", ");
            bail!(
                "stack {stack} is being removed, and after {} seconds this is left of it: {left}; look at `rswarm node ps`",
                MAX_WAIT.as_secs()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}
