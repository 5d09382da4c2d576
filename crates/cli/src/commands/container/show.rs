//! `top`, `port` and `diff`.

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::{
    client::{Client, escape},
    commands::{info::text, tasks::items},
    output::{table, terminal::print},
};

/// docker's columns of `top` are as wide as this, at least.
const TOP_WIDTH: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    container: String,
    /// Options of ps
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    container: String,
    /// Only this port: NUMBER[/PROTOCOL]
    port: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    container: String,
}

pub(super) async fn top(client: &Client, arguments: &TopArgs) -> anyhow::Result<()> {
    let options = escape(&arguments.options.join(" "));
    let path = format!("/containers/{}/top?ps_args={options}", escape(&arguments.container));
    let answer = client.get(&path).await?;
    let line = |cells: &Value| items(cells).map(text).collect::<Vec<_>>().join("\t");
    let mut lines = vec![line(&answer["Titles"])];
    lines.extend(items(&answer["Processes"]).map(line));
    print(&table::align_to(&lines, TOP_WIDTH))
}

pub(super) async fn port(client: &Client, arguments: &PortArgs) -> anyhow::Result<()> {
    let shown = client.get(&format!("/containers/{}/json", escape(&arguments.container))).await?;
    let ports = &shown["NetworkSettings"]["Ports"];
    let place = |binding: &Value| {
        let address = text(&binding["HostIp"]);
        let address = if address.contains(':') { format!("[{address}]") } else { address };
        format!("{address}:{}", text(&binding["HostPort"]))
    };
    let Some(wanted) = &arguments.port else {
        let all = ports.as_object().into_iter().flatten();
        let mut lines: Vec<(u64, String)> = all
            .flat_map(|(port, bindings)| {
                let number = port.split('/').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
                items(bindings).map(move |binding| (number, format!("{port} -> {}\n", place(binding))))
            })
            .collect();
        lines.sort();
        return print(&lines.into_iter().map(|(_, line)| line).collect::<String>());
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    number.parse::<u16>().with_context(|| format!("invalid port ({number}): give a number, as in 80/tcp"))?;
    let bindings: Vec<String> = items(&ports[format!("{number}/{protocol}")]).map(place).collect();
    anyhow::ensure!(
        !bindings.is_empty(),
        "no public port '{number}/{protocol}' published for {0}; `rswarm port {0}` shows all there are",
        arguments.container
    );
    print(&(bindings.join("\n") + "\n"))
}

pub(super) async fn diff(client: &Client, arguments: &DiffArgs) -> anyhow::Result<()> {
    anyhow::ensure!(!arguments.container.is_empty(), "container name cannot be empty");
    let answer = client.get(&format!("/containers/{}/changes", escape(&arguments.container))).await?;
    let line = |change: &Value| {
        let kind = match change["Kind"].as_u64() {
            Some(0) => 'C',
            Some(1) => 'A',
            _ => 'D',
        };
        format!("{kind} {}\n", text(&change["Path"]))
    };
    print(&items(&answer).map(line).collect::<String>())
}
