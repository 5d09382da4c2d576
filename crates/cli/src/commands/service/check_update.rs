//! `service check-update`: which services run an older image than their tag means at the registry by now (P48).

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt as _, stream};
use serde_json::Value;
use types::ImageReference;

use super::{
    super::{info::text, login, tasks::items},
    fetch,
};
use crate::{
    client::Client,
    output::{
        list::{Layout, Row, Style, render},
        natural,
        terminal::print,
    },
};

/// What a registry may take for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Services asked about at once: registries count what one client asks.
const AT_ONCE: usize = 4;
/// Of a digest, as in lists of images.
const SHOWN_DIGITS: usize = 12;

const LAYOUT: Layout = Layout {
    table: "{{.Name}}\t{{.Image}}\t{{.Status}}",
    titles: &[("Name", "NAME"), ("Image", "IMAGE"), ("Current", "CURRENT"), ("Newest", "NEWEST"), ("Status", "STATUS")],
    key: "Name",
};

#[derive(Debug, Args)]
pub(crate) struct CheckUpdateArgs {
    /// Services to look at (default: all)
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Only the names of services for which there is a newer image
    #[arg(short, long)]
    quiet: bool,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
}

/// # Errors
/// A service is not there, or what its tag means could not be found out; told when all others are shown.
pub(super) async fn check_update(client: &Client, arguments: CheckUpdateArgs) -> anyhow::Result<()> {
    let mut services = Vec::new();
    if arguments.services.is_empty() {
        services.extend(items(&client.get("/services").await?).cloned());
        services.sort_by(|a, b| natural::compare(&text(&a["Spec"]["Name"]), &text(&b["Spec"]["Name"])));
    }
    for name in &arguments.services {
        services.push(fetch(client, name).await?);
    }
    let asked = stream::iter(&services).map(|service| look_at(client, service));
    let found: Vec<Found> = asked.buffered(AT_ONCE).collect().await;
    let unknown: Vec<String> = found.iter().filter_map(|found| found.unknown.clone()).collect();
    let shown = found.into_iter().filter(|found| !arguments.quiet || found.is_newer);
    let rows: Vec<Row> = shown.map(|found| found.row).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: arguments.quiet }, &rows)?)?;
    anyhow::ensure!(unknown.is_empty(), "{}", unknown.join("\n"));
    Ok(())
}

/// What was found out about one service.
struct Found {
    row: Row,
    is_newer: bool,
    /// Why nothing was.
    unknown: Option<String>,
}

async fn look_at(client: &Client, service: &Value) -> Found {
    let image = text(&service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]);
    let name = text(&service["Spec"]["Name"]);
    let (mut newest, mut unknown) = (String::new(), None);
    let status = match Pinned::of(&image) {
        Err(why) => why.to_owned(),
        Ok(pinned) => match look_up(client, &pinned.tagged).await {
            Ok(digest) => {
                newest.clone_from(&digest);
                status(&pinned.digest, &digest)
            }
            Err(error) => {
                unknown = Some(format!("service {name}: image {} was not looked up: {error:#}", pinned.tagged));
                "unknown".to_owned()
            }
        },
    };
    let (shown, current) = image.split_once('@').unwrap_or((&image, ""));
    let is_newer = !newest.is_empty() && newest != current;
    let row = Row::from([
        ("Name", name),
        ("Image", shown.to_owned()),
        ("Current", current.to_owned()),
        ("Newest", newest),
        ("Status", status),
    ]);
    Found { row, is_newer, unknown }
}

fn status(current: &str, newest: &str) -> String {
    if current == newest {
        return "up to date".to_owned();
    }
    let digits = newest.split_once(':').map_or(newest, |(_, digits)| digits);
    format!("newer image {}", digits.chars().take(SHOWN_DIGITS).collect::<String>())
}

/// A tag and what it meant when the service got it.
struct Pinned {
    tagged: String,
    digest: String,
}

impl Pinned {
    fn of(image: &str) -> Result<Self, &'static str> {
        let Ok(reference) = image.parse::<ImageReference>() else { return Err("its image has no name to look up") };
        match (&reference.tag, reference.digest.clone()) {
            (_, None) => Err("not pinned: each node looks for the tag by itself"),
            (None, Some(_)) => Err("pinned without a tag: it stays what it is"),
            (Some(_), Some(digest)) => {
                Ok(Self { tagged: ImageReference { digest: None, ..reference }.familiar(), digest })
            }
        }
    }
}

/// The digest that a registry has under this name, asked with the credentials of `login`.
///
/// # Errors
/// The registry did not answer in time, or has no such image.
pub(crate) async fn look_up(client: &Client, image: &str) -> anyhow::Result<String> {
    let credentials = login::credentials(image)?;
    let path = format!("/distribution/{image}/json");
    let asked = client.get_as(&path, credentials.as_deref());
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let answer = answer.with_context(|| format!("its registry did not answer within {} s", PATIENCE.as_secs()))??;
    let digest = answer["Descriptor"]["digest"].as_str().context("the daemon's answer has no digest")?;
    Ok(digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p48_only_a_tag_with_a_digest_can_have_become_older() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned = Pinned::of(&format!("reg:5000/web:1@{digest}")).expect("pinned");
        assert_eq!((pinned.tagged.as_str(), &pinned.digest), ("reg:5000/web:1", &digest));
        assert!(Pinned::of("web:1").is_err_and(|why| why.starts_with("not pinned")));
        assert!(Pinned::of(&format!("web@{digest}")).is_err_and(|why| why.starts_with("pinned without a tag")));
        assert_eq!(status(&digest, &digest), "up to date");
        assert_eq!(status(&digest, &format!("sha256:{}", "cd".repeat(32))), "newer image cdcdcdcdcdcd");
    }
}
