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
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    anyhow::ensure!(arguments.nodes > 0, "a cluster needs at least one node: give --nodes 1 or more");
    if let Some(tasks) = arguments.bench_tasks {
        println!("{:?}", sim::bench_plan(arguments.nodes, tasks));
        return Ok(());
    }
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        let report = sim::run(Settings::new(seed, arguments.nodes)).map_err(anyhow::Error::msg)?;
        println!("seed {seed}: {report:?}");
    }
    Ok(())
}
