//! `events`: what happens on this host and, on managers, in the cluster, one line each, until the end that was asked for.

use anyhow::Context as _;
use bytes::BytesMut;
use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::super::{info::text, parse_filter, service::frames::next};
use crate::{
    client::{Client, escape, filters_query},
    output::{template::Template, terminal::print},
};

/// Longer than any event.
const MAX_LINE_BYTES: usize = 1 << 20;

/// The daemon passes over others, as Docker's does: a word that is mistyped would show all events.
const FILTERS: [&str; 17] = [
    "action",
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "label!",
    "network",
    "node",
    "scope",
    "secret",
    "service",
    "stack",
    "task",
    "type",
    "volume",
];

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only show those for which KEY=VALUE holds (type, event, scope, label, stack, service, task, node, container, image, …)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    /// Format the output: json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// What was since a time or for so long, too
    #[arg(long, default_value = "", value_name = "TIME|DURATION")]
    since: String,
    /// On managers: each event of the cluster after this index, which is an attribute of each
    #[arg(long, value_name = "INDEX")]
    from_index: Option<u64>,
    /// Up to this time
    #[arg(long, default_value = "", value_name = "TIME|DURATION")]
    until: String,
}

pub(super) async fn events(client: &Client, arguments: EventsArgs) -> anyhow::Result<()> {
    let template = match arguments.format.as_str() {
        "" | "json" => None,
        format => Some(Template::parse(format)?),
    };
    if let Some((key, _)) = arguments.filter.iter().find(|(key, _)| !FILTERS.contains(&key.as_str())) {
        anyhow::bail!("invalid filter '{key}' for events: known are {}", FILTERS.join(", "));
    }
    let filters = filters_query(&arguments.filter).replace('?', "&");
    let from = arguments.from_index.map(|index| format!("&fromIndex={index}")).unwrap_or_default();
    let path = format!("/events?since={}&until={}{from}{filters}", escape(&arguments.since), escape(&arguments.until));
    let mut answer = client.stream(Method::GET, &path).await?;
    let mut buffer = BytesMut::new();
    while let Some(data) = next(&mut answer).await? {
        buffer.extend_from_slice(&data);
        anyhow::ensure!(buffer.len() <= MAX_LINE_BYTES, "the daemon's answer is not a stream of events");
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(end + 1);
            let event: Value = serde_json::from_slice(&line).context("the daemon's event is not JSON")?;
            let shown = match (&template, arguments.format.as_str()) {
                (Some(template), _) => template.run(&event)?,
                (None, "json") => event.to_string(),
                (None, _) => sentence(&event),
            };
            print(&format!("{shown}\n"))?;
        }
    }
    Ok(())
}

/// `2026-01-02T13:23:37.123456789+00:00 container start 0123… (image=app:1, name=web)`.
fn sentence(event: &Value) -> String {
    let ns = event["timeNano"].as_i64().unwrap_or(0);
    let zone = jiff::tz::TimeZone::system();
    let time = jiff::Timestamp::from_nanosecond(i128::from(ns))
        .map_or_else(|_| String::new(), |time| time.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string());
    let mut attributes: Vec<String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    attributes.sort();
    let attributes = if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    let id = text(&event["Actor"]["ID"]);
    format!("{time} {} {} {id}{attributes}", text(&event["Type"]), text(&event["Action"]))
}
