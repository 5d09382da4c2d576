//! `image ls/pull/push/load/save/import/rm/prune/inspect/history/tag`.

mod history;
mod list;
mod search;
mod send;
mod stream;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{info::text, inspect, login, tasks::items};
use crate::{
    client::{Client, escape},
    output::terminal::print,
};
pub(crate) use history::HistoryArgs;
pub(crate) use list::{LAYOUT, ListArgs, row};
pub(crate) use search::{SearchArgs, search};
pub(crate) use send::{PushArgs, SaveArgs, pruned_images};

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Get an image from a registry
    #[command(after_help = "Example: rswarm image pull nginx:1.27")]
    Pull(PullArgs),
    /// Get images from a tar (docker-archive or OCI layout)
    #[command(after_help = "Example: rswarm image load -i image.tar")]
    Load(LoadArgs),
    /// Make an image from the tar of a root filesystem
    #[command(after_help = "Example: rswarm image import --change 'CMD [\"/bin/sh\"]' rootfs.tar mine:1")]
    Import(ImportArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Show all of one or more images
    Inspect(InspectArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Send an image to a registry
    #[command(after_help = "Example: rswarm image push registry.example:5000/team/app:1")]
    Push(send::PushArgs),
    /// Show the steps an image was made in
    History(history::HistoryArgs),
    /// Write images to a tar (docker-archive and OCI layout)
    #[command(after_help = "Example: rswarm image save -o images.tar app:1 db:2")]
    Save(send::SaveArgs),
    /// Remove images that nothing uses
    #[command(after_help = "Example: rswarm image prune --all --filter until=240h")]
    Prune(send::PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Image, with an optional tag or digest
    image: String,
    /// All tags that the registry has of it
    #[arg(short, long)]
    all_tags: bool,
    /// Platform, if the image has several (os/architecture)
    #[arg(long, default_value = "")]
    platform: String,
    /// Only print the name at the end
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Read from this file instead of standard input
    #[arg(short, long)]
    input: Option<PathBuf>,
    /// Suppress the progress output
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// File, or - for standard input
    file: PathBuf,
    /// Name of the image
    #[arg(default_value = "")]
    image: String,
    /// Dockerfile instruction for the image (CMD, ENTRYPOINT, ENV, WORKDIR, USER, LABEL, …)
    #[arg(short, long)]
    change: Vec<String>,
    /// Comment in the image's history
    #[arg(short, long, default_value = "")]
    message: String,
    /// Platform that it is for (os/architecture)
    #[arg(long, default_value = "")]
    platform: String,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove it although it has other names or is in use by stopped containers
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Image by name or id
    source: String,
    /// New name
    target: String,
}

pub(crate) async fn run(client: &Client, command: ImageCommand) -> anyhow::Result<()> {
    match command {
        ImageCommand::Ls(arguments) => list::list(client, arguments).await,
        ImageCommand::Pull(arguments) => pull(client, arguments).await,
        ImageCommand::Load(arguments) => load(client, arguments).await,
        ImageCommand::Import(arguments) => import(client, arguments).await,
        ImageCommand::Rm(arguments) => remove(client, arguments).await,
        ImageCommand::Inspect(arguments) => inspect_images(client, arguments).await,
        ImageCommand::Tag(arguments) => tag(client, arguments).await,
        ImageCommand::Push(arguments) => send::push(client, arguments).await,
        ImageCommand::History(arguments) => history::history(client, arguments).await,
        ImageCommand::Save(arguments) => send::save(client, arguments).await,
        ImageCommand::Prune(arguments) => send::prune(client, arguments).await,
    }
}

/// Name and tag of a reference, as the API wants them apart: `localhost:5000/a:1` has the tag `1`.
pub(crate) fn split_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !image.contains('@') => (name, tag),
        _ => (image, ""),
    }
}

/// With the tag that is meant where nobody says one.
pub(crate) fn tagged(image: &str) -> String {
    match split_tag(image) {
        (name, "") if !name.contains('@') => format!("{name}:latest"),
        _ => image.to_owned(),
    }
}

/// Asks for an image, or, without tag or digest, for all of the name, with the credentials for its registry.
async fn start_pull(client: &Client, image: &str, platform: &str) -> anyhow::Result<hyper::body::Incoming> {
    let (name, tag) = split_tag(image);
    let path = format!("/images/create?fromImage={}&tag={}&platform={}", escape(name), escape(tag), escape(platform));
    client.stream_as(&path, login::credentials(image)?.as_deref()).await
}

async fn pull(client: &Client, arguments: PullArgs) -> anyhow::Result<()> {
    let image = arguments.image()?;
    let answer = start_pull(client, &image, &arguments.platform).await?;
    stream::show(answer, arguments.quiet).await?;
    print(&format!("{image}\n"))
}

impl PullArgs {
    fn image(&self) -> anyhow::Result<String> {
        let with_latest = tagged(&self.image);
        anyhow::ensure!(
            !self.all_tags || with_latest != self.image,
            "tag can't be used with --all-tags/-a: leave one of them out"
        );
        Ok(if self.all_tags { self.image.clone() } else { with_latest })
    }
}

/// A pull that is not what the command is about: its progress goes to standard error.
pub(crate) async fn pull_aside(client: &Client, image: &str, platform: &str, quiet: bool) -> anyhow::Result<()> {
    stream::show_on_stderr(start_pull(client, &tagged(image), platform).await?, quiet).await
}

async fn load(client: &Client, arguments: LoadArgs) -> anyhow::Result<()> {
    let quiet = arguments.quiet || !crate::output::terminal::stdout_is_terminal();
    let path = format!("/images/load?quiet={quiet}");
    let answer = match &arguments.input {
        Some(file) => client.upload(&path, open(file).await?).await?,
        None => client.upload(&path, tokio::io::stdin()).await?,
    };
    stream::show(answer, false).await
}

async fn import(client: &Client, arguments: ImportArgs) -> anyhow::Result<()> {
    let (name, tag) = split_tag(&arguments.image);
    let mut path = format!(
        "/images/create?fromSrc=-&repo={}&tag={}&message={}&platform={}",
        escape(name),
        escape(tag),
        escape(&arguments.message),
        escape(&arguments.platform)
    );
    for change in &arguments.change {
        path.push_str(&format!("&changes={}", escape(change)));
    }
    let answer = match arguments.file.as_os_str() == "-" {
        true => client.upload(&path, tokio::io::stdin()).await?,
        false => client.upload(&path, open(&arguments.file).await?).await?,
    };
    stream::show(answer, false).await
}

async fn open(file: &std::path::Path) -> anyhow::Result<tokio::fs::File> {
    tokio::fs::File::open(file).await.with_context(|| format!("open {}", file.display()))
}

async fn remove(client: &Client, arguments: RemoveArgs) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    for image in &arguments.images {
        match client.delete(&format!("/images/{}?force={}", escape(image), arguments.force)).await {
            Ok(answer) => {
                for item in items(&answer) {
                    let (kind, name) = match item["Untagged"].as_str() {
                        Some(name) => ("Untagged", name.to_owned()),
                        None => ("Deleted", text(&item["Deleted"])),
                    };
                    print(&format!("{kind}: {name}\n"))?;
                }
            }
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

async fn inspect_images(client: &Client, arguments: InspectArgs) -> anyhow::Result<()> {
    let (mut found, mut missing): (Vec<Value>, _) = (Vec::new(), Vec::new());
    for image in &arguments.images {
        match client.get(&format!("/images/{}/json", escape(image))).await {
            Ok(image) => found.push(image),
            Err(error) => missing.push(error),
        }
    }
    inspect::show(&found, &missing, arguments.format.as_deref())
}

async fn tag(client: &Client, arguments: TagArgs) -> anyhow::Result<()> {
    let (name, tag) = split_tag(&arguments.target);
    let path = format!("/images/{}/tag?repo={}&tag={}", escape(&arguments.source), escape(name), escape(tag));
    client.post(&path, None).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_03_what_is_pulled() {
        let pulled = |image: &str, all_tags: bool| {
            let arguments = PullArgs { image: image.to_owned(), all_tags, platform: String::new(), quiet: false };
            arguments.image().map_err(|error| error.to_string())
        };
        for (image, wanted) in
            [("a", "a:latest"), ("h:5000/a", "h:5000/a:latest"), ("a:1", "a:1"), ("a@sha256:0", "a@sha256:0")]
        {
            assert_eq!(pulled(image, false).as_deref(), Ok(wanted));
        }
        assert_eq!(pulled("h:5000/a", true).as_deref(), Ok("h:5000/a"));
        for image in ["a:1", "a@sha256:0"] {
            assert!(pulled(image, true).expect_err(image).starts_with("tag can't be used with --all-tags"));
        }
    }

    #[test]
    fn ports_are_no_tags() {
        for (image, wanted) in [
            ("a", ("a", "")),
            ("a:1", ("a", "1")),
            ("localhost:5000/a", ("localhost:5000/a", "")),
            ("localhost:5000/a:1", ("localhost:5000/a", "1")),
            ("a@sha256:00", ("a@sha256:00", "")),
        ] {
            assert_eq!(split_tag(image), wanted);
        }
    }
}
