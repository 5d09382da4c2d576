//! `image ls`.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::super::{info::text, parse_filter, tasks::items};
use crate::{
    client::{Client, filters_query},
    output::{
        list::{Layout, Row, Style, render},
        terminal::print,
        units::{decimal_size, human_duration},
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    titles: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
    ],
    key: "ID",
};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only images with this name
    image: Option<String>,
    /// Only show those for which KEY=VALUE holds (reference, dangling, label)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Show all images (none are hidden here)
    #[arg(short, long, hide = true)]
    all: bool,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// Only show ids
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn list(client: &Client, arguments: ListArgs) -> anyhow::Result<()> {
    let mut filters = arguments.filter.clone();
    filters.extend(arguments.image.iter().map(|image| ("reference".to_owned(), image.clone())));
    let images = client.get(&format!("/images/json{}", filters_query(&filters))).await?;
    let now = jiff::Timestamp::now().as_second();
    let mut rows: Vec<Row> = Vec::new();
    for image in items(&images) {
        rows.extend(image_rows(image, now, arguments.no_trunc));
    }
    let mut format = arguments.format;
    if arguments.digests && format.is_empty() && !arguments.quiet {
        format = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}".to_owned();
    }
    print(&render(&LAYOUT, &Style { format, quiet: arguments.quiet }, &rows)?)
}

/// One row per name; one without names for an image that has none.
fn image_rows(image: &Value, now: i64, no_trunc: bool) -> Vec<Row> {
    let full = text(&image["Id"]);
    let id = match no_trunc {
        true => full.clone(),
        false => full.trim_start_matches("sha256:").chars().take(12).collect(),
    };
    let seconds = now - image["Created"].as_i64().unwrap_or(now);
    let created = human_duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))) + " ago";
    let digest_of = |repository: &str| {
        let digests = items(&image["RepoDigests"]).filter_map(Value::as_str);
        let mut digests = digests.filter_map(|digest| digest.split_once('@'));
        digests.find(|(name, _)| *name == repository).map_or("<none>", |(_, digest)| digest).to_owned()
    };
    let names: Vec<(String, String)> = items(&image["RepoTags"])
        .filter_map(Value::as_str)
        .filter_map(|name| name.rsplit_once(':'))
        .map(|(repository, tag)| (repository.to_owned(), tag.to_owned()))
        .collect();
    let nameless = || {
        let repository = items(&image["RepoDigests"]).find_map(|digest| digest.as_str()?.split_once('@'));
        vec![(repository.map_or("<none>", |(name, _)| name).to_owned(), "<none>".to_owned())]
    };
    let names = if names.is_empty() { nameless() } else { names };
    let row = |(repository, tag): (String, String)| {
        Row::from([
            ("Digest", digest_of(&repository)),
            ("Repository", repository),
            ("Tag", tag),
            ("ID", id.clone()),
            ("CreatedSince", created.clone()),
            ("Size", decimal_size(image["Size"].as_u64().unwrap_or(0))),
        ])
    };
    names.into_iter().map(row).collect()
}
