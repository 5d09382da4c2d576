//! `stats`: what containers use, once or again and again.

use clap::Args;
use serde_json::Value;

use super::{cluster_stats, list::short};
use crate::{
    client::{Client, escape},
    commands::{info::text, tasks::items},
    output::{
        list::{Layout, Row, Style, render},
        terminal::{print, stdout_is_terminal},
        units::{binary_size, decimal_size},
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    key: "ID",
};

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Also containers that do not run
    #[arg(short, long)]
    all: bool,
    /// The tasks of all nodes, or those of the services, tasks and nodes that are named; asked of a manager
    #[arg(long, conflicts_with = "all")]
    cluster: bool,
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Once, not again and again
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "NAME")]
    containers: Vec<String>,
}

pub(super) async fn stats(client: &Client, arguments: StatsArgs) -> anyhow::Result<()> {
    if arguments.cluster {
        let StatsArgs { format, no_stream: once, no_trunc: whole_ids, containers: names, .. } = arguments;
        return cluster_stats::stats(client, &cluster_stats::View { format, once, whole_ids, names }).await;
    }
    let style = Style { format: arguments.format.clone(), quiet: false };
    loop {
        let names = match arguments.containers.is_empty() {
            true => all_names(client, arguments.all).await?,
            false => arguments.containers.clone(),
        };
        // all at once: each takes the second between two readings
        let readings = futures::future::join_all(names.iter().map(|name| reading(client, name))).await;
        let mut rows = Vec::new();
        for (name, reading) in names.iter().zip(readings) {
            match reading {
                Ok(reading) => rows.push(row(name, &reading, arguments.no_trunc)),
                // one of all that went meanwhile is none
                Err(error) if !arguments.containers.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        if !arguments.no_stream && stdout_is_terminal() {
            print("\x1b[2J\x1b[H")?;
        }
        print(&render(&LAYOUT, &style, &rows)?)?;
        if arguments.no_stream {
            return Ok(());
        }
        if rows.is_empty() {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}

async fn all_names(client: &Client, all: bool) -> anyhow::Result<Vec<String>> {
    let found = client.get(&format!("/containers/json?all={all}")).await?;
    Ok(items(&found).map(|one| text(&one["Id"])).collect())
}

async fn reading(client: &Client, name: &str) -> anyhow::Result<Value> {
    client.get(&format!("/containers/{}/stats?stream=0", escape(name))).await
}

fn row(asked: &str, reading: &Value, whole: bool) -> Row {
    let number = |path: &str| reading.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let id = text(&reading["id"]);
    let runs = reading["pids_stats"]["current"].is_u64();
    let inactive = number("/memory_stats/stats/inactive_file");
    let memory = number("/memory_stats/usage").saturating_sub(inactive);
    let limit = number("/memory_stats/limit");
    let networks = reading["networks"].as_object();
    let net =
        |field: &str| networks.into_iter().flatten().map(|(_, one)| one[field].as_u64().unwrap_or(0)).sum::<u64>();
    let block = |operation: &str| {
        let all = items(&reading["blkio_stats"]["io_service_bytes_recursive"]);
        all.filter(|one| text(&one["op"]).eq_ignore_ascii_case(operation))
            .map(|one| one["value"].as_u64().unwrap_or(0))
            .sum::<u64>()
    };
    let shown = |text: String| if runs { text } else { "--".to_owned() };
    let pair = |one: String, other: String| if runs { format!("{one} / {other}") } else { "-- / --".to_owned() };
    let percent = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 };
    Row::from([
        ("ID", if whole { id } else { short(&id) }),
        ("Container", asked.to_owned()),
        ("Name", text(&reading["name"]).trim_start_matches('/').to_owned()),
        ("CPUPerc", shown(format!("{:.2}%", processor(&number)))),
        ("MemUsage", pair(binary_size(memory), binary_size(limit))),
        ("MemPerc", shown(format!("{:.2}%", percent(memory, limit)))),
        ("NetIO", pair(decimal_size(net("rx_bytes")), decimal_size(net("tx_bytes")))),
        ("BlockIO", pair(decimal_size(block("read")), decimal_size(block("write")))),
        ("PIDs", shown(number("/pids_stats/current").to_string())),
    ])
}

/// Percent of one processor, between two readings.
fn processor(number: &impl Fn(&str) -> u64) -> f64 {
    let used = number("/cpu_stats/cpu_usage/total_usage").saturating_sub(number("/precpu_stats/cpu_usage/total_usage"));
    let all = number("/cpu_stats/system_cpu_usage").saturating_sub(number("/precpu_stats/system_cpu_usage"));
    let processors = number("/cpu_stats/online_cpus");
    if all == 0 { 0.0 } else { used as f64 / all as f64 * processors as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_of_stats() {
        let cpu = |used: u64, all: u64| json!({ "cpu_usage": { "total_usage": used }, "system_cpu_usage": all, "online_cpus": 2 });
        let reading = json!({
            "id": "0123456789abcdef", "name": "/web", "pids_stats": { "current": 3 },
            "cpu_stats": cpu(200, 1100), "precpu_stats": cpu(100, 100),
            "memory_stats": { "usage": 3 << 20, "stats": { "inactive_file": 1 << 20 }, "limit": 4 << 20 },
            "networks": { "eth0": { "rx_bytes": 1000, "tx_bytes": 5 } },
            "blkio_stats": { "io_service_bytes_recursive": [{ "op": "read", "value": 7 }, { "op": "write", "value": 8 }] },
        });
        let row = row("web", &reading, false);
        let shown = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"]
            .map(|field| row[field].as_str());
        assert_eq!(shown, ["0123456789ab", "web", "20.00%", "2MiB / 4MiB", "50.00%", "1kB / 5B", "7B / 8B", "3"]);
    }
}
