//! `doctor`: the state of this host, one line for each thing that was looked at.
//!
//! What needs no daemon is found by the program itself and handed in; the rest the daemon knows.

use std::{fmt::Write as _, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use types::{Check, CheckVerdict};

use super::{info::text, tasks::items};
use crate::{Quit, client::Client, output::terminal::print};

/// The first probes come within a second or two; whoever joined waits this long for them.
const FIRST_PROBES: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Only show what is not well
    #[arg(short, long)]
    quiet: bool,
    /// Format the output: json
    #[arg(short, long, value_parser = ["json"])]
    format: Option<String>,
}

/// Exit code 1 when anything fails.
pub(crate) async fn doctor(client: &Client, arguments: DoctorArgs, mut checks: Vec<Check>) -> anyhow::Result<()> {
    match cluster_checks(client).await {
        Ok(found) => checks.extend(found),
        Err(error) => checks.push(Check::fail("rswarm daemon", format!("{error:#}"))),
    }
    if arguments.format.is_some() {
        print(&format!("{}\n", Value::from(checks.iter().map(write).collect::<Vec<_>>())))?;
    } else {
        let shown = checks.iter().filter(|check| !arguments.quiet || check.verdict != CheckVerdict::Pass);
        print(&lines(shown))?;
    }
    if checks.iter().any(|check| check.verdict == CheckVerdict::Fail) { Err(Quit(1).into()) } else { Ok(()) }
}

/// After joining: each port, as soon as something is known of it. A port that fails undoes nothing.
pub(crate) async fn after_join(client: &Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + FIRST_PROBES;
    loop {
        let checks = cluster_checks(client).await?;
        let ports: Vec<&Check> = checks.iter().filter(|check| check.subject.contains(" port of ")).collect();
        let is_known = ports.len() > 1 && ports.iter().all(|check| check.verdict != CheckVerdict::Warn);
        if is_known || Instant::now() >= deadline {
            return print(&lines(ports.into_iter()));
        }
        sleep(PAUSE).await;
    }
}

async fn cluster_checks(client: &Client) -> anyhow::Result<Vec<Check>> {
    let found = client.get("/doctor").await?;
    Ok(items(&found).map(read).collect())
}

fn read(check: &Value) -> Check {
    let (subject, said) = (text(&check["Subject"]), text(&check["Text"]));
    match check["Verdict"].as_str() {
        Some("PASS") => Check::pass(subject, said),
        Some("WARN") => Check::warn(subject, said),
        _ => Check::fail(subject, said),
    }
}

fn write(check: &Check) -> Value {
    json!({ "Verdict": check.verdict.to_string(), "Subject": check.subject, "Text": check.text })
}

fn lines<'a>(checks: impl Iterator<Item = &'a Check>) -> String {
    let mut out = String::new();
    for check in checks {
        let _ = writeln!(out, "{}  {}: {}", check.verdict, check.subject, check.text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_that_begins_with_its_verdict() {
        let checks = [Check::pass("kernel: vxlan", "yes"), Check::fail("disk", "full: empty it")];
        assert_eq!(lines(checks.iter()), "PASS  kernel: vxlan: yes\nFAIL  disk: full: empty it\n");
        assert_eq!(checks.iter().map(|check| read(&write(check))).collect::<Vec<_>>(), checks);
    }
}
