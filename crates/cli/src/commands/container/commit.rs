//! `export` and `commit`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use hyper::Method;
use tokio::io::AsyncWriteExt as _;

use crate::{
    client::{Client, escape},
    commands::{image::split_tag, info::text, service::frames::next},
    output::terminal::{print, print_bytes, stdout_is_terminal},
};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
    container: String,
}

#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Author
    #[arg(short, long, default_value = "")]
    author: String,
    /// Dockerfile instruction for the image (CMD, ENTRYPOINT, ENV, WORKDIR, USER, LABEL, …)
    #[arg(short, long)]
    change: Vec<String>,
    /// Comment in the image's history
    #[arg(short, long, default_value = "")]
    message: String,
    /// Freeze the container meanwhile
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    pause: bool,
    container: String,
    /// Name of the image
    #[arg(default_value = "")]
    image: String,
}

pub(super) async fn export(client: &Client, arguments: &ExportArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        arguments.output.is_some() || !stdout_is_terminal(),
        "cowardly refusing to save to a terminal. Use the -o flag or redirect"
    );
    let mut answer =
        client.stream(Method::GET, &format!("/containers/{}/export", escape(&arguments.container))).await?;
    let Some(path) = &arguments.output else {
        while let Some(data) = next(&mut answer).await? {
            print_bytes(&data)?;
        }
        return Ok(());
    };
    let context = || format!("write {}", path.display());
    let mut file = tokio::fs::File::create(path).await.with_context(context)?;
    while let Some(data) = next(&mut answer).await? {
        file.write_all(&data).await.with_context(context)?;
    }
    file.flush().await.with_context(context)
}

pub(super) async fn commit(client: &Client, arguments: &CommitArgs) -> anyhow::Result<()> {
    let (name, tag) = split_tag(&arguments.image);
    let mut path = format!(
        "/commit?container={}&repo={}&tag={}&comment={}&author={}&pause={}",
        escape(&arguments.container),
        escape(name),
        escape(tag),
        escape(&arguments.message),
        escape(&arguments.author),
        arguments.pause
    );
    for change in &arguments.change {
        path.push_str(&format!("&changes={}", escape(change)));
    }
    let made = client.post(&path, None).await?;
    print(&format!("{}\n", text(&made["Id"])))
}
