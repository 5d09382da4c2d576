//! Every metric is documented, and nothing is documented that is none: the table of docs/runbook.md against the code (P38).

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};

const TABLE: &str = "docs/runbook.md";
/// How the names of our metrics begin; texts like that in code about metrics are names.
const PREFIXES: [&str; 3] = ["swarm_", "rswarm_", "engine_daemon_"];
/// What the exposition format adds to the names of counters.
const SUFFIX: &str = "_total";

pub fn check(root: &Path, files: &[String], breaches: &mut Vec<String>) -> Result<()> {
    let is_about_metrics = |path: &&String| {
        let module = path.ends_with("/src/metrics.rs") || path.contains("/src/metrics/");
        path.starts_with("crates/") && module
    };
    let mut made = BTreeSet::new();
    for path in files.iter().filter(is_about_metrics) {
        let text = fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))?;
        // their tests speak of series, which are no names
        made.extend(quoted(text.split("#[cfg(test)]").next().unwrap_or_default(), '"'));
    }
    let text = fs::read_to_string(root.join(TABLE)).with_context(|| format!("read {TABLE}"))?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    compare(&made, &rows.flat_map(|row| quoted(row, '`')).collect(), breaches);
    Ok(())
}

/// Names between two of these marks, without labels.
fn quoted(text: &str, mark: char) -> BTreeSet<String> {
    let pieces = text.split(mark).map(|piece| piece.split('{').next().unwrap_or_default());
    let is_name = |piece: &&str| {
        PREFIXES.iter().any(|prefix| piece.starts_with(prefix))
            && piece.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    pieces.filter(is_name).map(str::to_owned).collect()
}

fn compare(made: &BTreeSet<String>, documented: &BTreeSet<String>, breaches: &mut Vec<String>) {
    let plain: BTreeSet<&str> = documented.iter().map(|name| name.strip_suffix(SUFFIX).unwrap_or(name)).collect();
    for name in made {
        if !plain.contains(name.strip_suffix(SUFFIX).unwrap_or(name)) {
            breaches.push(format!("{TABLE}: metric {name} is not in the table"));
        }
    }
    for name in documented {
        if !made.contains(name) && !made.contains(name.strip_suffix(SUFFIX).unwrap_or(name)) {
            breaches.push(format!("{TABLE}: the table has {name}, and no code makes such a metric"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P38: every metric is documented.
    #[test]
    fn p38_the_table_of_metrics_and_the_code_agree() {
        let made = quoted("gauge(\"rswarm_a\", \"swarm help\"); counter(\"engine_daemon_b\"); \"rswarm_c\"", '"');
        let documented = quoted("`rswarm_a{state}`, `engine_daemon_b_total`, `rswarm_d`", '`');
        let mut breaches = Vec::new();
        compare(&made, &documented, &mut breaches);
        assert_eq!(
            breaches,
            [
                "docs/runbook.md: metric rswarm_c is not in the table",
                "docs/runbook.md: the table has rswarm_d, and no code makes such a metric"
            ]
        );
    }
}
