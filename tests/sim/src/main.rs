//! `cargo run -p sim -- --seed 7 --nodes 200`: one seed, or many; a failing seed is printed with its story.
#![allow(clippy::print_stdout)]

use clap::Parser;
use sim::Settings;

#[derive(Parser)]
#[command(about = "Simulates a whole cluster from a seed and checks that it keeps its promises")]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// Measure the planner instead: this many tasks on --nodes nodes.
    #[arg(long)]
    bench_tasks: Option<usize>,
    /// Measure the planner on clusters of all sizes instead, as one JSON object.
    #[arg(long, conflicts_with = "bench_tasks")]
    bench_plan: bool,
}

/// Nodes of the measured clusters, and tasks that are placed on each of them.
const BENCH_NODES: [usize; 3] = [100, 1_000, 10_000];
const BENCH_TASKS: [usize; 3] = [10_000, 100_000, 1_000_000];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    anyhow::ensure!(arguments.nodes > 0, "a cluster needs at least one node: give --nodes 1 or more");
    if let Some(tasks) = arguments.bench_tasks {
        println!("{}", serde_json::to_string(&sim::bench_plan(arguments.nodes, tasks))?);
        return Ok(());
    }
    if arguments.bench_plan {
        println!("{}", serde_json::json!({ "plan": bench_all_sizes()? }));
        return Ok(());
    }
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        let report = sim::run(Settings::new(seed, arguments.nodes)).map_err(anyhow::Error::msg)?;
        println!("seed {seed}: {report:?}");
    }
    Ok(())
}

/// One process for each size: memory that another one gave back would hide what a task takes.
fn bench_all_sizes() -> anyhow::Result<Vec<serde_json::Value>> {
    let own = std::env::current_exe()?;
    let sizes = BENCH_NODES.into_iter().flat_map(|nodes| BENCH_TASKS.map(|tasks| (nodes, tasks)));
    let one = |(nodes, tasks): (usize, usize)| {
        let arguments = ["--nodes", &nodes.to_string(), "--bench-tasks", &tasks.to_string()];
        let output =
            std::process::Command::new(&own).args(arguments).stderr(std::process::Stdio::inherit()).output()?;
        anyhow::ensure!(output.status.success(), "{tasks} tasks on {nodes} nodes: {}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    sizes.map(one).collect()
}
