//! What a container costs: the shim's memory, and the time above the OCI runtime's own. Prints
//! figures; fails only far outside the budget, because machines differ.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what failed by failing, and what it skips")]

mod bench;

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use bench::{Bench, can_run, runc};

fn pss_kib(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[tokio::test]
async fn memory_of_the_shim() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut pids = Vec::new();
    for number in 0..10 {
        let id = format!("c{number}");
        bench.start(&bench.shell(&id, "seq 1 1000; exec sleep 1000")).await;
        bench.until_output(&id, "1000").await;
        pids.push(bench.runtime.state(&id).await.unwrap().shim_pid.unwrap());
        if number == 0 {
            eprintln!("shim PSS, alone: {} KiB", pss_kib(pids[0]));
        }
    }
    let total: u64 = pids.iter().map(|pid| pss_kib(*pid)).sum();
    eprintln!("shim PSS, each of 10: {} KiB", total / 10);
    let mut config = bench.command("init", &["sleep", "1000"]);
    config.init = true;
    let pid = bench.start(&config).await;
    bench::until("init has forked", async || bench.runtime.stats("init").unwrap().pids == 2).await;
    eprintln!("init PSS: {} KiB", pss_kib(pid));
    assert!(total / 10 < 4096, "a shim has {} KiB", total / 10);
    for container in bench.runtime.list().await.unwrap() {
        bench.runtime.delete(&container.id).await.unwrap();
    }
}

#[tokio::test]
async fn time_above_the_runtime() {
    let (true, Some(external)) = (can_run(), runc()) else { return };
    let (ours, over_runc) = (Bench::embedded(), Bench::new(external));
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let bundle = over_runc.path("bundle");
    fs::create_dir(&bundle).unwrap();
    for round in 0..15 {
        times[0].push(measure(&ours).await);
        times[1].push(measure(&over_runc).await);
        if round == 0 {
            // The very bundle that the library makes, run by runc alone.
            let config = over_runc.command("bare", &["true"]);
            over_runc.runtime.create(&config).await.unwrap();
            fs::copy(over_runc.config.run_dir.join("bare/config.json"), bundle.join("config.json")).unwrap();
            over_runc.runtime.delete("bare").await.unwrap();
        }
        let begun = Instant::now();
        let status = Command::new("runc")
            .args(["--root".as_ref(), over_runc.path("runc").as_os_str()])
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(format!("bare{}", std::process::id()))
            .status()
            .unwrap();
        times[2].push(begun.elapsed());
        assert!(status.success());
    }
    for (name, times) in ["embedded", "through runc", "runc run alone"].iter().zip(&mut times) {
        times.sort_unstable();
        eprintln!("create, start, exit of `true`, {name}: median {:?}, best {:?}", times[times.len() / 2], times[0]);
    }
}

async fn measure(bench: &Bench) -> Duration {
    let config = bench.command("timed", &["true"]);
    let begun = Instant::now();
    bench.start(&config).await;
    assert_eq!(bench.runtime.wait("timed").await.unwrap().code, 0);
    let elapsed = begun.elapsed();
    bench.runtime.delete("timed").await.unwrap();
    elapsed
}
