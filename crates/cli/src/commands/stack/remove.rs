//! `stack rm`, and the part of `stack deploy --prune` that is the same.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use hyper::StatusCode;
use serde_json::Value;

use super::{
    super::{info::text, tasks::items},
    check_name, of_stack,
};
use crate::{
    client::{Client, Refused, escape, filters_query},
    output::terminal::{print, print_error},
};

/// Tasks stop within their grace period; who gives them hours can look himself.
const MAX_WAIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[arg(required = true, value_name = "STACK")]
    stacks: Vec<String>,
    /// Do not wait until the last task has ended
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    detach: bool,
}

/// Kinds of objects in the order in which they can go: path, where the name is, where the id is.
const KINDS: [(&str, &str, &str, &str); 4] = [
    ("service", "/services", "/Spec/Name", "ID"),
    ("secret", "/secrets", "/Spec/Name", "ID"),
    ("config", "/configs", "/Spec/Name", "ID"),
    ("network", "/networks", "/Name", "Id"),
];

pub(super) async fn remove(client: &Client, arguments: &RemoveArgs) -> anyhow::Result<()> {
    arguments.stacks.iter().try_for_each(|stack| check_name(stack))?;
    let mut errors = Vec::new();
    for stack in &arguments.stacks {
        let before = tasks_of(client, stack).await?;
        let gone = sweep(client, stack, &|_, _| true, &mut errors).await?;
        if gone == 0 && errors.is_empty() {
            print_error(&format!("Nothing found in stack: {stack}\n"))?;
        } else if !arguments.detach {
            wait_until_gone(client, stack, &before).await?;
        }
    }
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

/// Removes what of the stack is in question; gives how many objects that were.
pub(super) async fn sweep(
    client: &Client,
    stack: &str,
    is_in_question: &dyn Fn(&str, &str) -> bool,
    errors: &mut Vec<String>,
) -> anyhow::Result<usize> {
    let mut gone = 0;
    let filter = filters_query(&[of_stack(stack)]);
    for (kind, path, name_at, id_at) in KINDS {
        let all = client.get(&format!("{path}{filter}")).await?;
        for one in items(&all) {
            let name = one.pointer(name_at).map(text).unwrap_or_default();
            if !is_in_question(kind, &name) {
                continue;
            }
            gone += 1;
            print(&format!("Removing {kind} {name}\n"))?;
            if let Err(error) = client.delete(&format!("{path}/{}", escape(&text(&one[id_at])))).await {
                let is_gone = error.downcast_ref::<Refused>().is_some_and(|no| no.status == StatusCode::NOT_FOUND);
                if !is_gone {
                    errors.push(format!("failed to remove {kind} {name}: {error:#}"));
                }
            }
        }
    }
    Ok(gone)
}

async fn tasks_of(client: &Client, stack: &str) -> anyhow::Result<Vec<String>> {
    let tasks = client.get(&format!("/tasks{}", filters_query(&[of_stack(stack)]))).await?;
    Ok(items(&tasks).map(|task| text(&task["ID"])).collect())
}

async fn wait_until_gone(client: &Client, stack: &str, before: &[String]) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let tasks = client.get("/tasks").await?;
        let is_alive = |task: &&Value| {
            let state = task["Status"]["State"].as_str().unwrap_or_default();
            let is_over = matches!(state, "complete" | "shutdown" | "failed" | "rejected" | "remove" | "orphaned");
            before.contains(&text(&task["ID"])) && !is_over
        };
        let left = items(&tasks).filter(is_alive).count();
        if left == 0 {
            return Ok(());
        }
        if begun.elapsed() > MAX_WAIT {
            bail!("stack {stack} is removed, but {left} of its tasks have not ended in {} seconds", MAX_WAIT.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}
