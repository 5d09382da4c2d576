//! `service history`: the specs that a service had, and what each changed.

use clap::Args;
use serde_json::Value;

use super::super::{
    info::text,
    stack::diff::{differences, in_column},
    tasks::items,
};
use crate::{
    client::{Client, escape},
    output::{
        list::{Layout, Row, Style, render},
        terminal::print,
        units::age,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Revision}}\t{{.CreatedAt}}\t{{.Image}}\t{{.Changes}}",
    titles: &[("Revision", "REVISION"), ("CreatedAt", "CREATED"), ("Image", "IMAGE"), ("Changes", "CHANGES")],
    key: "Revision",
};

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Do not shorten what changed
    #[arg(long)]
    no_trunc: bool,
    service: String,
}

pub(super) async fn history(client: &Client, arguments: HistoryArgs) -> anyhow::Result<()> {
    let found = client.get(&format!("/services/{}/revisions", escape(&arguments.service))).await?;
    let all: Vec<&Value> = items(&found).collect();
    let before = all.iter().skip(1).map(Some).chain([None]);
    let rows: Vec<Row> =
        all.iter().zip(before).map(|(one, before)| row(one, before.copied(), arguments.no_trunc)).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format, quiet: false }, &rows)?)
}

fn row(revision: &Value, before: Option<&Value>, whole: bool) -> Row {
    let spec = &revision["Spec"];
    let image = text(&spec["TaskTemplate"]["ContainerSpec"]["Image"]);
    let image = image.split_once('@').map_or(image.as_str(), |(name, _)| name);
    let changes = before.map_or_else(Vec::new, |before| differences(spec, &before["Spec"]));
    let changes = changes.iter().map(|line| line.trim()).collect::<Vec<_>>().join("; ");
    let present = if revision["Present"] == true { " (present)" } else { "" };
    Row::from([
        ("Revision", format!("{}{present}", revision["Revision"])),
        ("CreatedAt", age(&text(&revision["CreatedAt"]), jiff::Timestamp::now())),
        ("Image", image.to_owned()),
        ("Changes", in_column(changes, whole)),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn s_13_each_revision_says_what_it_changed() {
        let spec = |image: &str, replicas: u64| json!({ "TaskTemplate": { "ContainerSpec": { "Image": image } }, "Mode": { "Replicated": { "Replicas": replicas } } });
        let one = json!({ "Revision": 1, "Spec": spec("web:1@sha256:aa", 1) });
        let two = json!({ "Revision": 2, "Present": true, "Spec": spec("web:2", 3) });
        let shown = row(&two, Some(&one), false);
        assert_eq!((shown["Revision"].as_str(), shown["Image"].as_str()), ("2 (present)", "web:2"));
        let changes = &shown["Changes"];
        assert!(changes.contains("Image") && changes.contains("Replicas: 1 -> 3"), "{changes}");
        let first = row(&one, None, false);
        assert_eq!(
            (first["Revision"].as_str(), first["Image"].as_str(), first["Changes"].as_str()),
            ("1", "web:1", "")
        );
    }
}
