//! `stats --cluster`: what tasks use on all nodes, as a manager gathers it from them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use serde_json::Value;

use super::list::short;
use crate::{
    client::Client,
    commands::{info::text, tasks::items},
    output::{
        list::{Layout, Row, Style, render},
        terminal::{print, print_error, stdout_is_terminal},
        units::{binary_size, decimal_size},
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Name}}\t{{.Node}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    titles: &[
        ("ID", "TASK ID"),
        ("Name", "NAME"),
        ("Service", "SERVICE"),
        ("Node", "NODE"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    key: "ID",
};

/// Between two looks, from which the use of processors follows.
const EVERY: Duration = Duration::from_secs(1);

/// How to show it.
pub(super) struct View {
    pub(super) format: String,
    pub(super) once: bool,
    pub(super) whole_ids: bool,
    /// Services, tasks and nodes; none means all.
    pub(super) names: Vec<String>,
}

/// Processor time and when it was measured, by task.
type Before = BTreeMap<String, (u64, jiff::Timestamp)>;

pub(super) async fn stats(client: &Client, view: &View) -> anyhow::Result<()> {
    let style = Style { format: view.format.clone(), quiet: false };
    let is_live = !view.once && stdout_is_terminal();
    let mut before = readings(&client.get("/tasks/usage").await?);
    let mut said = String::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let usage = client.get("/tasks/usage").await?;
        let rows = rows(&usage, &before, view)?;
        let missing = missing(&usage);
        let table = render(&LAYOUT, &style, &rows)?;
        if is_live {
            print(&format!("\x1b[2J\x1b[H{table}{missing}"))?;
        } else {
            if said != missing {
                print_error(&missing)?;
                said = missing;
            }
            print(&table)?;
        }
        if view.once {
            return Ok(());
        }
        before = readings(&usage);
    }
}

fn readings(usage: &Value) -> Before {
    let one = |task: &Value| {
        let read = text(&task["Read"]).parse().ok()?;
        Some((text(&task["ID"]), (task["CPUNanoseconds"].as_u64()?, read)))
    };
    items(&usage["Tasks"]).filter_map(one).collect()
}

/// By service and slot.
fn rows(usage: &Value, before: &Before, view: &View) -> anyhow::Result<Vec<Row>> {
    let wanted = |task: &&Value| view.names.is_empty() || view.names.iter().any(|name| is_meant(task, name));
    let known = |name: &&String| items(&usage["Tasks"]).any(|task| is_meant(task, name));
    if let Some(name) = view.names.iter().find(|name| !known(name)) {
        bail!(
            "no running task is called {name}, nor is its service or node: see `rswarm service ls` and `rswarm service ps`"
        );
    }
    let mut tasks: Vec<&Value> = items(&usage["Tasks"]).filter(wanted).collect();
    tasks.sort_by_key(|task| {
        let name = text(&task["Name"]);
        let slot = name.rsplit('.').next().and_then(|slot| slot.parse::<u64>().ok());
        (text(&task["Service"]), slot, name)
    });
    Ok(tasks.into_iter().map(|task| row(task, before, view.whole_ids)).collect())
}

fn is_meant(task: &Value, name: &str) -> bool {
    // as elsewhere: a few characters of an id are no id
    let begins = |id: &Value| name.len() >= 4 && text(id).starts_with(name);
    ["Name", "Service", "Node"].iter().any(|field| task[*field] == name) || begins(&task["ID"])
}

fn row(task: &Value, before: &Before, whole: bool) -> Row {
    let number = |pointer: &str| task.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let id = text(&task["ID"]);
    let (memory, limit) = (number("/Memory"), number("/MemoryLimit"));
    let share = if limit == 0 { 0.0 } else { memory as f64 / limit as f64 * 100.0 };
    let net = |pointer: &str| match task["Network"].is_object() {
        true => decimal_size(number(pointer)),
        false => "--".to_owned(),
    };
    let processor = processor(task, before.get(&id));
    Row::from([
        ("ID", if whole { id } else { short(&id) }),
        ("Name", text(&task["Name"])),
        ("Service", text(&task["Service"])),
        ("Node", text(&task["Node"])),
        ("CPUPerc", processor.map_or("--".to_owned(), |share| format!("{share:.2}%"))),
        ("MemUsage", format!("{} / {}", binary_size(memory), binary_size(limit))),
        ("MemPerc", format!("{share:.2}%")),
        ("NetIO", format!("{} / {}", net("/Network/Received"), net("/Network/Sent"))),
        ("BlockIO", format!("{} / {}", decimal_size(number("/Disk/Read")), decimal_size(number("/Disk/Written")))),
        ("PIDs", number("/Processes").to_string()),
    ])
}

/// Percent of one processor since the look before; not known of a task that was not there then.
fn processor(task: &Value, before: Option<&(u64, jiff::Timestamp)>) -> Option<f64> {
    let (used, at) = before?;
    let now: jiff::Timestamp = text(&task["Read"]).parse().ok()?;
    let passed = (now.as_nanosecond() - at.as_nanosecond()) as f64;
    let more = task["CPUNanoseconds"].as_u64()?.saturating_sub(*used) as f64;
    (passed > 0.0).then(|| more / passed * 100.0)
}

/// A line for each node of whose tasks nothing is known.
fn missing(usage: &Value) -> String {
    let line =
        |one: &Value| format!("node {}: nothing is known of its tasks: {}\n", text(&one["Node"]), text(&one["Reason"]));
    items(&usage["Missing"]).map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// P38: services, tasks and nodes can be asked for; what is not known is not made up.
    #[test]
    fn p38_lines_of_tasks_of_all_nodes() {
        let task = |name: &str, id: &str, cpu: u64| {
            json!({ "ID": id, "Name": name, "Service": name.split('.').next(), "Node": "w1",
                "Read": "2026-01-01T00:00:02Z", "CPUNanoseconds": cpu, "Memory": 1 << 20, "MemoryLimit": 4 << 20,
                "Processes": 3, "Network": { "Received": 1000, "Sent": 5 }, "Disk": { "Read": 7, "Written": 8 } })
        };
        let mut host = task("db.1", "cccccccccccccccc", 9);
        host["Network"] = Value::Null;
        let tasks = [task("web.10", "aaaaaaaaaaaaaaaa", 300), task("web.2", "bbbbbbbbbbbbbbbb", 600_000_000), host];
        let usage = json!({ "Tasks": tasks, "Missing": [{ "Node": "w2", "Reason": "it is down" }] });
        let earlier = "2026-01-01T00:00:00Z".parse().expect("a time");
        let before = Before::from([("bbbbbbbbbbbbbbbb".to_owned(), (100_000_000, earlier))]);
        let view = |names: &[&str]| View {
            format: String::new(),
            once: true,
            whole_ids: false,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let shown = |names: &[&str]| -> Vec<String> {
            let rows = rows(&usage, &before, &view(names)).expect("known names");
            let line = |row: &Row| ["Name", "CPUPerc", "MemUsage", "NetIO"].map(|field| row[field].as_str()).join(" ");
            rows.iter().map(line).collect()
        };
        assert_eq!(
            shown(&[]),
            ["db.1 -- 1MiB / 4MiB -- / --", "web.2 25.00% 1MiB / 4MiB 1kB / 5B", "web.10 -- 1MiB / 4MiB 1kB / 5B",]
        );
        assert_eq!(
            (shown(&["web"]).len(), shown(&["bbbb"]).len(), shown(&["w1"]).len(), shown(&["db.1"]).len()),
            (2, 1, 3, 1)
        );
        let refused = rows(&usage, &before, &view(&["nobody"])).expect_err("unknown").to_string();
        assert!(refused.contains("no running task is called nobody"), "{refused}");
        assert_eq!(missing(&usage), "node w2: nothing is known of its tasks: it is down\n");
    }
}
