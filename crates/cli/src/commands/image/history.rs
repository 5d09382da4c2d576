//! `image history`.

use clap::Args;
use serde_json::Value;

use super::super::{info::text, tasks::items};
use crate::{
    client::{Client, escape},
    output::{
        list::{Layout, Row, Style, render},
        terminal::print,
        units::{decimal_size, human_duration},
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    titles: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    key: "ID",
};

/// What docker shows of a command unless all is asked for.
const COMMAND_WIDTH: usize = 45;

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    image: String,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Sizes and times for people
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    human: bool,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// Only show ids
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn history(client: &Client, arguments: HistoryArgs) -> anyhow::Result<()> {
    let lines = client.get(&format!("/images/{}/history", escape(&arguments.image))).await?;
    let now = jiff::Timestamp::now().as_second();
    let rows: Vec<Row> = items(&lines).map(|line| row(line, &arguments, now)).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: arguments.quiet }, &rows)?)
}

fn row(line: &Value, arguments: &HistoryArgs, now: i64) -> Row {
    let created = line["Created"].as_i64().unwrap_or(0);
    let at = jiff::Timestamp::from_second(created).map_or_else(|_| String::new(), |time| time.to_string());
    let ago = std::time::Duration::from_secs(u64::try_from(now - created).unwrap_or(0));
    let (mut id, mut by) = (text(&line["Id"]), text(&line["CreatedBy"]).replace('\t', " "));
    if !arguments.no_trunc {
        id = id.trim_start_matches("sha256:").chars().take(12).collect();
        if by.chars().count() > COMMAND_WIDTH {
            by = by.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect();
        }
    }
    let size = line["Size"].as_u64().unwrap_or(0);
    Row::from([
        ("ID", id),
        ("CreatedSince", if arguments.human { human_duration(ago) + " ago" } else { at.clone() }),
        ("CreatedAt", at),
        ("CreatedBy", by),
        ("Size", if arguments.human { decimal_size(size) } else { size.to_string() }),
        ("Comment", text(&line["Comment"])),
    ])
}
