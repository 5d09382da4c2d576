//! `image push`, `save` and `prune`: what leaves the store.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Method;
use tokio::io::AsyncWriteExt as _;

use super::{
    super::{confirmed, info::text, login, parse_filter, tasks::items},
    split_tag, stream,
};
use crate::{
    client::{Client, escape, filters_query},
    output::{
        terminal::{self, print},
        units::decimal_size,
    },
};

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Image, with an optional tag
    image: String,
    /// All tags of the repository that this host has
    #[arg(short, long)]
    all_tags: bool,
    /// Only print the name at the end
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Write to this file instead of standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// All images that no container was made from, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Only remove those for which KEY=VALUE holds (label, label!, until)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn push(client: &Client, arguments: PushArgs) -> anyhow::Result<()> {
    let (name, tag) = split_tag(&arguments.image);
    anyhow::ensure!(
        !arguments.all_tags || tag.is_empty(),
        "tag can't be used with --all-tags/-a: leave one of them out"
    );
    let tag = if tag.is_empty() && !arguments.all_tags { "latest" } else { tag };
    // slashes are part of the path here
    let path = format!("/images/{}/push?tag={}", escape(name), escape(tag));
    let answer = client.stream_as(&path, login::credentials(&arguments.image)?.as_deref()).await?;
    stream::show(answer, arguments.quiet).await?;
    match arguments.quiet {
        true => print(&format!("{}\n", arguments.image)),
        false => Ok(()),
    }
}

pub(super) async fn save(client: &Client, arguments: SaveArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        arguments.output.is_some() || !terminal::stdout_is_terminal(),
        "refusing to write an archive to a terminal: use -o FILE or redirect the output"
    );
    let names: Vec<String> = arguments.images.iter().map(|image| format!("names={}", escape(image))).collect();
    let mut answer = client.stream(Method::GET, &format!("/images/get?{}", names.join("&"))).await?;
    let Some(file) = arguments.output else {
        while let Some(frame) = answer.frame().await {
            let Ok(data) = frame.context("the daemon broke off")?.into_data() else { continue };
            terminal::print_bytes(&data)?;
        }
        return Ok(());
    };
    // A name of its own until it is whole: half an archive must not look like one.
    let partial = file.with_extension("partial");
    let written = write(&mut answer, &partial).await;
    match written {
        Ok(()) => std::fs::rename(&partial, &file).with_context(|| format!("write {}", file.display())),
        Err(error) => {
            let _ = std::fs::remove_file(&partial);
            Err(error)
        }
    }
}

async fn write(answer: &mut hyper::body::Incoming, path: &std::path::Path) -> anyhow::Result<()> {
    let failed = || format!("write {}", path.display());
    let mut out = tokio::fs::File::create(path).await.with_context(failed)?;
    while let Some(frame) = answer.frame().await {
        let Ok(data) = frame.context("the daemon broke off")?.into_data() else { continue };
        out.write_all(&data).await.with_context(failed)?;
    }
    out.flush().await.with_context(failed)
}

pub(super) async fn prune(client: &Client, arguments: PruneArgs) -> anyhow::Result<()> {
    let kind = if arguments.all { "images without at least one container" } else { "dangling images" };
    let question = format!("WARNING! This will remove all {kind}.\nAre you sure you want to continue? [y/N] ");
    if !arguments.force && !confirmed(&question)? {
        return Ok(());
    }
    let mut filters = arguments.filter;
    filters.push(("dangling".to_owned(), (!arguments.all).to_string()));
    let answer = client.post(&format!("/images/prune{}", filters_query(&filters)), None).await?;
    let gone = pruned_images(&answer);
    if !gone.is_empty() {
        print(&format!("Deleted Images:\n{gone}\n"))?;
    }
    print(&format!("Total reclaimed space: {}\n", decimal_size(answer["SpaceReclaimed"].as_u64().unwrap_or(0))))
}

/// A line for each name and each image that went.
pub(crate) fn pruned_images(answer: &serde_json::Value) -> String {
    let line = |item: &serde_json::Value| match item["Untagged"].as_str() {
        Some(name) => format!("untagged: {name}\n"),
        None => format!("deleted: {}\n", text(&item["Deleted"])),
    };
    items(&answer["ImagesDeleted"]).map(line).collect()
}
