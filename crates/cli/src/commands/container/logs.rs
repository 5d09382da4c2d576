//! `logs`.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use crate::{
    client::{Client, escape},
    commands::service::frames::{next, since, take_frame},
    output::terminal::{print_bytes, print_error, print_error_bytes},
};

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Show what the log driver was asked to keep besides
    #[arg(long)]
    details: bool,
    /// Go on with new lines
    #[arg(short, long)]
    follow: bool,
    /// Only lines since a time (2026-01-02T13:23:37Z) or for so long (42m)
    #[arg(long, default_value = "", value_name = "TIME|DURATION")]
    since: String,
    /// Only lines before a time or so long ago
    #[arg(long, default_value = "", value_name = "TIME|DURATION")]
    until: String,
    /// Lines from the end
    #[arg(short = 'n', long, default_value = "all", value_name = "N|all", allow_negative_numbers = true)]
    tail: String,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    container: String,
}

pub(super) async fn logs(client: &Client, arguments: &LogsArgs) -> anyhow::Result<()> {
    let shown = client.get(&format!("/containers/{}/json", escape(&arguments.container))).await?;
    let path = format!(
        "/containers/{}/logs?stdout=1&stderr=1&details={}&follow={}&tail={}&timestamps={}&since={}&until={}",
        escape(shown["Id"].as_str().unwrap_or(&arguments.container)),
        arguments.details,
        arguments.follow,
        escape(&arguments.tail),
        arguments.timestamps,
        escape(&since("--since", &arguments.since)?),
        escape(&since("--until", &arguments.until)?),
    );
    let mut answer = client.stream(Method::GET, &path).await?;
    if shown["Config"]["Tty"] == Value::Bool(true) {
        while let Some(data) = next(&mut answer).await? {
            print_bytes(&data)?;
        }
        return Ok(());
    }
    let mut buffer = bytes::BytesMut::new();
    while let Some(data) = next(&mut answer).await? {
        buffer.extend_from_slice(&data);
        while let Some((stream, bytes)) = take_frame(&mut buffer)? {
            match stream {
                2 => print_error_bytes(&bytes)?,
                3 => print_error(&format!("rswarm: {}\n", String::from_utf8_lossy(&bytes).trim_end()))?,
                _ => print_bytes(&bytes)?,
            }
        }
    }
    Ok(())
}
