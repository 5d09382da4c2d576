//! `service logs`: the daemon's multiplexed stream, told apart by task.

use std::collections::BTreeMap;

use bytes::BytesMut;
use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{
    super::{info::text, tasks::Names},
    frames::{next, since, take_frame},
};
use crate::{
    client::{Client, Refused, escape},
    output::terminal::{print_bytes, print_error},
};

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Service or task
    #[arg(value_name = "SERVICE|TASK")]
    target: String,
    /// Go on with new lines
    #[arg(short, long)]
    follow: bool,
    /// Lines per task from the end
    #[arg(short = 'n', long, default_value = "all", value_name = "N|all")]
    tail: String,
    /// Only lines since a time (2026-01-02T13:23:37Z) or for so long (42m)
    #[arg(long, default_value = "", value_name = "TIME|DURATION")]
    since: String,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Show what else is known of each line, before it
    #[arg(long)]
    details: bool,
    /// Only the lines, without where they come from
    #[arg(long)]
    raw: bool,
    /// Do not replace ids by names
    #[arg(long)]
    no_resolve: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Do not show task ids
    #[arg(long)]
    no_task_ids: bool,
}

pub(super) async fn logs(client: &Client, arguments: LogsArgs) -> anyhow::Result<()> {
    let (kind, object) = find(client, &arguments.target).await?;
    let template = if kind == "services" { &object["Spec"]["TaskTemplate"] } else { &object["Spec"] };
    let is_tty = template["ContainerSpec"]["TTY"] == Value::Bool(true);
    let since = since("--since", &arguments.since)?;
    let path = path(kind, &text(&object["ID"]), &arguments, &since, is_tty);
    let mut answer = client.stream(Method::GET, &path).await?;
    if is_tty {
        while let Some(data) = next(&mut answer).await? {
            print_bytes(&data)?;
        }
        return Ok(());
    }
    let width = digits(&object["Spec"]["Mode"]["Replicated"]["Replicas"]);
    let mut labels = Labels { client, arguments: &arguments, width, names: None, tasks: BTreeMap::new() };
    let mut buffer = BytesMut::new();
    while let Some(data) = next(&mut answer).await? {
        buffer.extend_from_slice(&data);
        while let Some((stream, line)) = take_frame(&mut buffer)? {
            show(stream, &line, &mut labels).await?;
        }
    }
    Ok(())
}

/// Details say which task a line is of. What is written on a terminal has no lines to put them before: it is shown as it is,
/// without asking for --raw as docker does.
fn path(kind: &str, id: &str, arguments: &LogsArgs, since: &str, is_tty: bool) -> String {
    format!(
        "/{kind}/{}/logs?stdout=true&stderr=true&details={}&follow={}&tail={}&timestamps={}&since={}",
        escape(id),
        arguments.details || !is_tty,
        arguments.follow,
        escape(&arguments.tail),
        arguments.timestamps,
        escape(since),
    )
}

/// A service, or else a task.
async fn find(client: &Client, name: &str) -> anyhow::Result<(&'static str, Value)> {
    let is_absent = |error: &anyhow::Error| {
        error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == StatusCode::NOT_FOUND)
    };
    match super::fetch(client, name).await {
        Ok(service) => return Ok(("services", service)),
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(error),
    }
    match client.get(&format!("/tasks/{}", escape(name))).await {
        Ok(task) => Ok(("tasks", task)),
        Err(error) if is_absent(&error) => {
            anyhow::bail!("no such task or service: {name}; see `rswarm service ls` and `rswarm service ps SERVICE`")
        }
        Err(error) => Err(error),
    }
}

async fn show(stream: u8, line: &[u8], labels: &mut Labels<'_>) -> anyhow::Result<()> {
    if stream == 3 {
        return print_error(&format!("rswarm: {}\n", String::from_utf8_lossy(line).trim_end()));
    }
    let with_time = labels.arguments.timestamps;
    let details = parts(line, with_time).1;
    let label = if labels.arguments.raw { None } else { Some(labels.of(&String::from_utf8_lossy(details)).await?) };
    let out = composed(line, with_time, label.as_deref(), labels.arguments.details);
    match stream {
        2 => print_error(&String::from_utf8_lossy(&out)),
        _ => print_bytes(&out),
    }
}

/// Time (empty where it was not asked for), details and text of a line as the daemon sends it.
fn parts(line: &[u8], with_time: bool) -> (&[u8], &[u8], &[u8]) {
    let mut parts = line.splitn(if with_time { 3 } else { 2 }, |byte| *byte == b' ');
    let time = if with_time { parts.next() } else { None };
    (time.unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// A line as docker prints it.
fn composed(line: &[u8], with_time: bool, label: Option<&str>, with_details: bool) -> Vec<u8> {
    let (time, details, text) = parts(line, with_time);
    let mut out = Vec::new();
    if with_time {
        out.extend_from_slice(time);
        out.push(b' ');
    }
    if let Some(label) = label {
        out.extend_from_slice(format!("{label}    | ").as_bytes());
    }
    if with_details {
        out.extend_from_slice(details);
        out.push(b' ');
    }
    out.extend_from_slice(text);
    out
}

/// How wide a number is; one that is not said has one digit.
fn digits(number: &Value) -> usize {
    number.as_u64().map_or(1, |number| number.to_string().len())
}

/// `web.1.abcdefghijkl@host1`, looked up once per task.
struct Labels<'a> {
    client: &'a Client,
    arguments: &'a LogsArgs,
    /// Of the highest number of a slot: what stands before the lines gets the same width.
    width: usize,
    names: Option<Names>,
    tasks: BTreeMap<String, String>,
}

impl Labels<'_> {
    async fn of(&mut self, details: &str) -> anyhow::Result<String> {
        if let Some(known) = self.tasks.get(details) {
            return Ok(known.clone());
        }
        let value = |key: &str| {
            let pair = details.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            pair.unwrap_or_default().to_owned()
        };
        let (task_id, node_id) = (value("com.docker.swarm.task.id"), value("com.docker.swarm.node.id"));
        if self.names.is_none() {
            self.names = Some(Names::fetch(self.client, !self.arguments.no_resolve).await?);
        }
        let names = self.names.as_ref().expect("filled above");
        let task = self.client.get(&format!("/tasks/{}", escape(&task_id))).await.unwrap_or_default();
        let mut label = if task.is_object() { names.task(&task) } else { value("com.docker.swarm.service.id") };
        if !self.arguments.no_task_ids {
            let shown: String = task_id.chars().take(if self.arguments.no_trunc { 64 } else { 12 }).collect();
            label = format!("{label}.{shown}");
        }
        let gap = self.width.saturating_sub(digits(&task["Slot"]));
        label = format!("{label}@{}{:gap$}", names.node(&node_id), "");
        self.tasks.insert(details.to_owned(), label.clone());
        Ok(label)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{super::ServiceCommand, *};

    #[test]
    fn s_19_lines_are_composed_as_docker_does() {
        let shown = |line: &str, with_time, label, with_details| {
            String::from_utf8(composed(line.as_bytes(), with_time, label, with_details)).expect("text")
        };
        assert_eq!(shown("a=1,b=2 two words\n", false, Some("web.1@h"), false), "web.1@h    | two words\n");
        assert_eq!(shown("a=1,b=2 two words\n", false, Some("web.1@h"), true), "web.1@h    | a=1,b=2 two words\n");
        assert_eq!(shown("T a=1 x\n", true, None, true), "T a=1 x\n");
        assert_eq!(shown("T a=1 x\n", true, Some("l"), false), "T l    | x\n");
        assert_eq!((digits(&Value::Null), digits(&9.into()), digits(&10.into())), (1, 1, 2));
    }

    /// S-19
    #[test]
    fn s_19_details_of_a_terminal_are_shown_to_who_asks_for_them() {
        let details = |more: &[&str], is_tty| {
            let words = [&["rswarm", "service", "logs", "web"], more].concat();
            let root = crate::arguments::Root::try_parse_from(words).expect("known flags");
            let crate::arguments::Command::Service(ServiceCommand::Logs(arguments)) = root.command else {
                panic!("no service logs")
            };
            let path = path("services", "s1", &arguments, "", is_tty);
            assert!(path.starts_with("/services/s1/logs?stdout=true&stderr=true&"), "{path}");
            path.contains("&details=true&")
        };
        assert!(details(&[], false) && details(&["--raw"], false) && details(&["--details"], true));
        assert!(!details(&[], true) && !details(&["--raw"], true));
    }

    #[test]
    fn frames_are_cut_where_they_end() {
        let mut buffer = BytesMut::from(&b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01"[..]);
        let (stream, line) = take_frame(&mut buffer).expect("frame").expect("whole");
        assert_eq!((stream, &line[..]), (1, &b"hi"[..]));
        assert_eq!(take_frame(&mut buffer).expect("frame"), None);
        assert!(take_frame(&mut BytesMut::from(&b"{\"message\":"[..])).is_err());
    }
}
