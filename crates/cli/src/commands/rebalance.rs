//! `rebalance`: what would even services out, or has it done and tells what was moved (P19).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::{
    info::text,
    tasks::{Names, items},
};
use crate::{
    client::{Client, escape},
    output::{
        table::align,
        terminal::print,
        units::{human_duration, parse_duration},
    },
};

/// Between two looks.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct RebalanceArgs {
    /// Only show what would move
    #[arg(long)]
    dry_run: bool,
    /// Only this service (default: all that take part)
    #[arg(long, value_name = "NAME")]
    service: Vec<String>,
    /// So many tasks of all services move at once (default: as many as their update settings allow)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "dry_run")]
    budget: Option<u32>,
    /// Come back when the services are even, and tell what was moved
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// How long --wait waits
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    timeout: Duration,
}

pub(crate) async fn run(client: &Client, arguments: RebalanceArgs) -> anyhow::Result<()> {
    if arguments.dry_run {
        let names: Vec<String> = arguments.service.iter().map(|name| format!("service={}", escape(name))).collect();
        return print(&planned(&client.get(&format!("/rebalance?{}", names.join("&"))).await?));
    }
    let before = places(&client.get("/tasks").await?);
    let body = json!({ "Services": arguments.service, "Budget": arguments.budget.unwrap_or(0) });
    let begun = client.post("/rebalance", Some(&body)).await?;
    print(&planned(&begun))?;
    if arguments.wait {
        return wait(client, &begun, &before, arguments.timeout).await;
    }
    match items(&begun["Moves"]).count() {
        0 => Ok(()),
        _ => print("The moves have begun; the same with --wait waits for them.\n"),
    }
}

/// What moves as a table, and what does not, with the reason.
fn planned(view: &Value) -> String {
    let mut lines: Vec<String> = items(&view["Moves"])
        .map(|one| {
            let task = format!("{}.{}", text(&one["Service"]), one["Slot"]);
            format!("{task}\t{}\t{}\t{}", text(&one["From"]["Name"]), text(&one["To"]["Name"]), text(&one["Why"]))
        })
        .collect();
    let mut out = match lines.is_empty() {
        true => "Nothing to move.\n".to_owned(),
        false => {
            lines.insert(0, "TASK\tFROM\tTO\tWHY".to_owned());
            align(&lines)
        }
    };
    for one in items(&view["Stays"]) {
        out.push_str(&format!("{} stays: {}\n", text(&one["Service"]), text(&one["Why"])));
    }
    out
}

/// The node of each slot's task that shall run and does.
fn places(tasks: &Value) -> BTreeMap<(String, u64), String> {
    let runs = |task: &&Value| task["DesiredState"] == "running" && task["Status"]["State"] == "running";
    let place = |task: &Value| Some(((text(&task["ServiceID"]), task["Slot"].as_u64()?), text(&task["NodeID"])));
    items(tasks).filter(runs).filter_map(place).collect()
}

async fn wait(
    client: &Client,
    begun: &Value,
    before: &BTreeMap<(String, u64), String>,
    limit: Duration,
) -> anyhow::Result<()> {
    let services: BTreeSet<String> = items(&begun["Moves"]).map(|one| text(&one["ServiceID"])).collect();
    let since = Instant::now();
    let mut stopped = Vec::new();
    for id in &services {
        loop {
            let service = client.get(&format!("/services/{}", escape(id))).await?;
            let (name, status) = (text(&service["Spec"]["Name"]), &service["Rebalance"]);
            match text(&status["State"]).as_str() {
                "moving" => {}
                "stopped" => {
                    stopped.push(format!("{name}: {}", text(&status["Message"])));
                    break;
                }
                _ => break,
            }
            if since.elapsed() >= limit {
                let shown = human_duration(limit).to_lowercase();
                bail!(
                    "service {name} is not even after {shown}; it goes on, `rswarm service ps {name}` shows how far it is"
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
    let names = Names::fetch(client, true).await?;
    let tasks = client.get("/tasks").await?;
    print(&moved(before, &places(&tasks), &services, &names))?;
    anyhow::ensure!(
        stopped.is_empty(),
        "the moves stopped, {}; look at `rswarm service ps`, then repeat",
        stopped.join("; ")
    );
    Ok(())
}

fn moved(
    before: &BTreeMap<(String, u64), String>,
    after: &BTreeMap<(String, u64), String>,
    services: &BTreeSet<String>,
    names: &Names,
) -> String {
    let mut lines = Vec::new();
    for ((service, slot), to) in after.iter().filter(|((service, _), _)| services.contains(service)) {
        let Some(from) = before.get(&(service.clone(), *slot)).filter(|from| *from != to) else { continue };
        let task = names.task(&json!({ "ServiceID": service, "Slot": slot }));
        lines.push(format!("{task} moved from {} to {}\n", names.node(from), names.node(to)));
    }
    let count = lines.len();
    lines.push(format!("{count} task{} moved.\n", if count == 1 { "" } else { "s" }));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn p19_what_would_move_and_what_was_moved() {
        let node = |name: &str| json!({ "ID": name, "Name": name });
        let view = json!({
            "Moves": [{ "Service": "web", "ServiceID": "w", "Slot": 3, "From": node("h1"), "To": node("h3"), "Why": "h1 has 3 of its tasks, h3 0" }],
            "Stays": [{ "Service": "db", "Why": "it takes no part (label rswarm.rebalance=off)" }],
        });
        expect![[r#"
            TASK      FROM      TO        WHY
            web.3     h1        h3        h1 has 3 of its tasks, h3 0
            db stays: it takes no part (label rswarm.rebalance=off)
        "#]]
        .assert_eq(&planned(&view));
        assert_eq!(planned(&json!({ "Moves": [], "Stays": [] })), "Nothing to move.\n");
        let task = |slot: u64, node: &str| json!({ "ServiceID": "w", "Slot": slot, "NodeID": node, "DesiredState": "running", "Status": { "State": "running" } });
        let (before, after) =
            (places(&json!([task(1, "h1"), task(3, "h1")])), places(&json!([task(1, "h1"), task(3, "h3")])));
        let text = moved(&before, &after, &BTreeSet::from(["w".to_owned()]), &Names::none());
        assert_eq!(text, "w.3 moved from h1 to h3\n1 task moved.\n");
    }
}
