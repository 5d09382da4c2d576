//! `create`, and making a container for `run`.

use std::path::Path;

use anyhow::{Context as _, ensure};
use clap::Args;
use hyper::StatusCode;
use serde_json::Value;

use super::flags::CreateFlags;
use crate::{
    client::{Client, Refused, escape},
    commands::{image, info::text, tasks::items},
    fail,
    output::terminal::{print, print_error},
    spec::single,
};

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    flags: CreateFlags,
}

pub(super) async fn create(client: &Client, arguments: CreateArgs) -> anyhow::Result<()> {
    let flags = arguments.flags;
    let body = single::body(&flags, true).or_else(|error| fail(125, &error))?;
    let id = make(client, &flags, &body).await?;
    print(&format!("{id}\n"))
}

/// Makes the container, after getting its image if that is wanted; gives its id.
pub(super) async fn make(client: &Client, flags: &CreateFlags, body: &Value) -> anyhow::Result<String> {
    let basics = &flags.basics;
    if let Some(file) = &basics.cidfile {
        let name = file.display();
        ensure!(
            !file.exists(),
            "container ID file found, make sure the other container isn't running or delete {name}"
        );
    }
    if basics.pull == "always" {
        pull(client, flags).await?;
    }
    let path = format!("/containers/create?name={}&platform={}", escape(&basics.name), escape(&basics.platform));
    let made = match client.post(&path, Some(body)).await {
        Err(error) if basics.pull == "missing" && is_image_absent(&error) => {
            if !basics.quiet {
                print_error(&format!("Unable to find image '{}' locally\n", image::tagged(&flags.image)))?;
            }
            pull(client, flags).await?;
            client.post(&path, Some(body)).await?
        }
        other => other?,
    };
    for warning in items(&made["Warnings"]) {
        print_error(&format!("WARNING: {}\n", text(warning)))?;
    }
    let id = text(&made["Id"]);
    if let Some(file) = &basics.cidfile {
        write_id(file, &id)?;
    }
    Ok(id)
}

fn write_id(file: &Path, id: &str) -> anyhow::Result<()> {
    std::fs::write(file, id).with_context(|| format!("write the container's id to {}", file.display()))
}

fn is_image_absent(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.status == StatusCode::NOT_FOUND && refused.message.contains("No such image"))
}

async fn pull(client: &Client, flags: &CreateFlags) -> anyhow::Result<()> {
    image::pull_aside(client, &flags.image, &flags.basics.platform, flags.basics.quiet).await
}
