//! `container inspect`, and `inspect` of whatever has that name.

use clap::Args;
use hyper::StatusCode;
use serde_json::Value;

use crate::{
    client::{Client, Refused, escape},
    commands::inspect::show,
};

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Show what it takes on the disk
    #[arg(short, long)]
    size: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectAnyArgs {
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Show what a container takes on the disk
    #[arg(short, long)]
    size: bool,
    /// Only objects of this kind
    #[arg(long, value_name = "KIND")]
    r#type: Option<String>,
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// In the order in which they are looked for; what stands around the name in the path.
const KINDS: [(&str, &str, &str); 9] = [
    ("container", "/containers/", "/json"),
    ("image", "/images/", "/json"),
    ("network", "/networks/", ""),
    ("volume", "/volumes/", ""),
    ("service", "/services/", "?insertDefaults=true"),
    ("task", "/tasks/", ""),
    ("node", "/nodes/", ""),
    ("secret", "/secrets/", ""),
    ("config", "/configs/", ""),
];

pub(super) async fn containers(client: &Client, arguments: &InspectArgs) -> anyhow::Result<()> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &arguments.containers {
        match client.get(&format!("/containers/{}/json?size={}", escape(name), arguments.size)).await {
            Ok(container) => found.push(container),
            Err(error) => missing.push(error),
        }
    }
    show(&found, &missing, arguments.format.as_deref())
}

pub(super) async fn any(client: &Client, arguments: &InspectAnyArgs) -> anyhow::Result<()> {
    let kinds: Vec<_> = match &arguments.r#type {
        None => KINDS.to_vec(),
        Some(wanted) => KINDS.iter().filter(|(kind, ..)| kind == wanted).copied().collect(),
    };
    if let (true, Some(wanted)) = (kinds.is_empty(), &arguments.r#type) {
        let known: Vec<&str> = KINDS.iter().map(|(kind, ..)| *kind).collect();
        anyhow::bail!("\"{wanted}\" is not a valid value for --type: use {}", known.join(", "));
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        match one(client, &kinds, name, arguments.size).await {
            Ok(Some(object)) => found.push(object),
            Ok(None) => {
                missing.push(anyhow::anyhow!("no such {}: {name}", arguments.r#type.as_deref().unwrap_or("object")));
            }
            Err(error) => missing.push(error),
        }
    }
    show(&found, &missing, arguments.format.as_deref())
}

async fn one(client: &Client, kinds: &[(&str, &str, &str)], name: &str, size: bool) -> anyhow::Result<Option<Value>> {
    for (kind, before, after) in kinds {
        let query = if *kind == "container" && size { "?size=1" } else { "" };
        match client.get(&format!("{before}{}{after}{query}", escape(name))).await {
            Ok(object) => return Ok(Some(object)),
            Err(error) if is_elsewhere(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// There is none of this kind, or this host has no word on this kind (a worker on services).
fn is_elsewhere(error: &anyhow::Error) -> bool {
    let statuses = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE];
    error.downcast_ref::<Refused>().is_some_and(|refused| statuses.contains(&refused.status))
}
