//! What the benchmarks share: figures of a series, and memory as the kernel counts it.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// `{"n","median","p99","max"}` of a series, in seconds.
pub fn summary(series: &mut [Duration]) -> Value {
    series.sort_unstable();
    let at = |share_permille: usize| {
        let last = series.len().saturating_sub(1);
        series.get((last * share_permille).div_ceil(1000)).map_or(0.0, Duration::as_secs_f64)
    };
    json!({ "n": series.len(), "median": round(at(500)), "p99": round(at(990)), "max": round(at(1000)) })
}

/// Three digits after the point: more would be noise.
pub fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// Resident memory of a process, MiB.
pub fn rss_mib(pid: i32) -> Result<f64> {
    kib_line(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| round(kib / 1024.0))
}

/// Proportional share of memory of a process, MiB.
pub fn pss_mib(pid: i32) -> Result<f64> {
    kib_line(&format!("/proc/{pid}/smaps_rollup"), "Pss:").map(|kib| round(kib / 1024.0))
}

/// Process ids of all programs with this name.
pub fn processes(name: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let pid: Option<i32> = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
        let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
        found.extend(pid.filter(|_| comm.trim_end() == name));
    }
    Ok(found)
}

fn kib_line(path: &str, key: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find(|l| l.starts_with(key)).with_context(|| format!("{path} has no {key}"))?;
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).with_context(|| format!("{path}: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_take_the_right_members() {
        let mut series: Vec<_> = (1..=100).rev().map(Duration::from_secs).collect();
        assert_eq!(summary(&mut series), json!({"n": 100, "median": 51.0, "p99": 100.0, "max": 100.0}));
        assert_eq!(summary(&mut [Duration::from_secs(2)])["p99"], 2.0);
    }
}
