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
        units::{decimal_size, human_duration, local_time},
    },
};

pub(crate) const LAYOUT: Layout = Layout {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    titles: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
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
    /// Also images that only stand for layers of others
    #[arg(short, long)]
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
    let filters = filters_query(&filters).replace('?', "&");
    let images = client.get(&format!("/images/json?all={}{filters}", arguments.all)).await?;
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

/// By its first name.
pub(crate) fn row(image: &Value, now: i64, no_trunc: bool) -> Row {
    image_rows(image, now, no_trunc).swap_remove(0)
}

/// One row per name; one without names for an image that has none.
fn image_rows(image: &Value, now: i64, no_trunc: bool) -> Vec<Row> {
    let full = text(&image["Id"]);
    let id = match no_trunc {
        true => full.clone(),
        false => full.trim_start_matches("sha256:").chars().take(12).collect(),
    };
    let created = image["Created"].as_i64().unwrap_or(now);
    let ago = human_duration(Duration::from_secs(u64::try_from(now - created).unwrap_or(0))) + " ago";
    // what nobody measured or counted is below 0
    let known = |number: i64, shown: fn(u64) -> String| u64::try_from(number).map_or("N/A".to_owned(), shown);
    let number = |field: &str| image[field].as_i64().unwrap_or(-1);
    let shared = number("SharedSize");
    let unique = if shared < 0 { -1 } else { number("Size") - shared };
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
            ("CreatedSince", ago.clone()),
            ("CreatedAt", local_time(created)),
            ("Size", known(number("Size"), decimal_size)),
            ("VirtualSize", known(number("Size"), decimal_size)),
            ("SharedSize", known(shared, decimal_size)),
            ("UniqueSize", known(unique, decimal_size)),
            ("Containers", known(number("Containers"), |count| count.to_string())),
        ])
    };
    names.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn e_06_all_that_docker_shows_of_an_image() {
        let mut image = json!({ "Id": "sha256:0123456789abcdef", "Created": 1000, "Size": 4_190_000, "SharedSize": -1,
            "Containers": -1, "RepoTags": ["app:1"] });
        let shown = |image: &Value| {
            let row = &image_rows(image, 1060, false)[0];
            ["Repository", "Size", "SharedSize", "UniqueSize", "Containers"].map(|field| row[field].clone()).join(" ")
        };
        assert_eq!(shown(&image), "app 4.19MB N/A N/A N/A");
        (image["SharedSize"], image["Containers"]) = (json!(190_000), json!(2));
        assert_eq!(shown(&image), "app 4.19MB 190kB 4MB 2");
        let created = &image_rows(&image, 1060, false)[0]["CreatedAt"];
        assert!(created.starts_with("19") && created.split(' ').count() == 4, "{created}");
    }
}
