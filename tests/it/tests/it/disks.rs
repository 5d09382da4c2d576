//! What takes the disks of all nodes, and what nothing uses goes from them, through one manager (P27).

use anyhow::{Context as _, Result, bail, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE};
use lab::ExecOptions;
use nix::sys::signal::Signal;

use crate::can_make_hosts;

const FORMAT: &str = "{{.Node}} {{.Images}} {{.ImagesSize}} {{.ImagesReclaimable}} {{.Containers}} {{.ContainersSize}} \
                      {{.ContainersReclaimable}} {{.Volumes}} {{.VolumesSize}} {{.VolumesReclaimable}}";

/// Of images, containers or volumes: how many, bytes, and bytes that are not in use.
type Kind = (u64, f64, f64);

/// An image of this host alone, a container that has ended, its anonymous volume, and a network that nothing is in.
fn fill(t: &ClusterUnderTest, host: &str, kilobytes: u32) -> Result<()> {
    let work = format!("dd if=/dev/urandom of=/blob bs=1k count={kilobytes} 2>/dev/null && cp /blob /data/");
    t.cli(host, &["run", "--name", "left", "--volume", "/data", IMAGE, "sh", "-c", &work])?;
    t.cli(host, &["commit", "left", &format!("only-{host}:1")])?;
    t.cli(host, &["network", "create", "--driver", "bridge", &format!("spare-{host}")])?;
    Ok(())
}

/// `4.2MB`, whoever rounded it.
fn bytes(text: &str) -> Result<f64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).with_context(|| format!("{text:?} has no unit"))?;
    let factor = match &text[at..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        unit => bail!("{text:?} is in {unit}"),
    };
    Ok(text[..at].parse::<f64>()? * factor)
}

fn numbers(words: &[&str]) -> Result<Vec<Kind>> {
    let three = |words: &[&str]| Ok::<_, anyhow::Error>((words[0].parse::<u64>()?, bytes(words[1])?, bytes(words[2])?));
    words.chunks_exact(3).map(three).collect()
}

/// As docker's own client counts on the host.
fn of_docker(t: &ClusterUnderTest, host: &str) -> Result<Vec<Kind>> {
    let text = Docker::new(t, host).ok("system df --format {{.TotalCount}}/{{.Size}}/{{.Reclaimable}}")?;
    // `1.2MB (30%)`; the fourth line is of builds
    let words: Vec<&str> = text
        .lines()
        .take(3)
        .flat_map(|line| line.split('/'))
        .map(|part| part.split(' ').next().unwrap_or_default())
        .collect();
    numbers(&words)
}

/// The same but for what both clients rounded away.
fn same(what: &str, told: &[Kind], is: &[Kind]) -> Result<()> {
    let near = |a: f64, b: f64| (a - b).abs() <= b * 0.01;
    ensure!(told.len() == 3 && is.len() == 3, "{what}: {told:?} {is:?}");
    for (told, is) in told.iter().zip(is) {
        let is_same = told.0 == is.0 && near(told.1, is.1) && near(told.2, is.2);
        ensure!(is_same, "{what}: {told:?} is told, {is:?} is there");
    }
    Ok(())
}

fn sums(t: &ClusterUnderTest) -> Result<()> {
    let shown = t.cli("h1", &["system", "df", "--cluster", "--format", FORMAT])?;
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    ensure!(lines.iter().map(|line| line[0]).eq(["h1", "h2", "TOTAL"]), "{shown}");
    let mut total = vec![(0, 0.0, 0.0); 3];
    for (host, line) in ["h1", "h2"].iter().zip(&lines) {
        let is = of_docker(t, host)?;
        // the volume is in use as long as its container is there
        let has_spare = [is[0].2 > 0.0, is[1].2 > 0.0, is[2].2 > 0.0];
        ensure!((is[0].0, is[1].0, is[2].0) == (2, 2, 1) && has_spare == [true, true, false], "{host}: {is:?}");
        same(host, &numbers(&line[1..])?, &is)?;
        for (sum, more) in total.iter_mut().zip(&is) {
            *sum = (sum.0 + more.0, sum.1 + more.1, sum.2 + more.2);
        }
    }
    same("all", &numbers(&lines[2][1..])?, &total)?;
    let table = t.cli("h1", &["system", "df", "--cluster"])?;
    ensure!(table.starts_with("NODE      IMAGES    SIZE") && table.lines().count() == 4, "{table}");
    Ok(())
}

/// What is in use, and nothing else.
fn only_the_task_is_left(t: &ClusterUnderTest, host: &str) -> Result<()> {
    for (command, count) in
        [(&["images", "--quiet"][..], 1), (&["ps", "--all", "--quiet"], 1), (&["volume", "ls", "--quiet"], 0)]
    {
        let left = t.cli(host, command)?;
        ensure!(left.lines().count() == count, "{host}: {command:?}: {left}");
    }
    let networks = t.cli(host, &["network", "ls", "--format", "{{.Name}}"])?;
    ensure!(!networks.contains("spare"), "{host}: {networks}");
    Ok(())
}

/// P27: what one manager tells of all disks is what docker tells on each host, and the sum of it; one command removes from all of them what
/// nothing uses and leaves what is in use; a node that is silent is named, and is in the way of no other.
#[test]
fn p27_df_and_prune_of_all_nodes() -> Result<()> {
    if !can_make_hosts("p27_df_and_prune_of_all_nodes") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("alldisks", 1, 1)?;
    let make = ["service", "create", "--detach", "--quiet", "--name", "web", "--mode", "global"];
    t.cli("h1", &[&make[..], &[IMAGE, "sleep", "100000"]].concat())?;
    t.running("web", 2)?;
    fill(&t, "h1", 300)?;
    fill(&t, "h2", 500)?;
    sums(&t)?;
    ensure!(t.cli_fails("h1", &["system", "df", "--cluster", "-v"])?.contains("one host"));
    for command in [&["system", "df", "--cluster"][..], &["system", "prune", "--cluster", "--force"]] {
        ensure!(t.cli_fails("h2", command)?.contains("not a swarm manager"), "{command:?}");
    }

    let options = ExecOptions { timeout: Some(DEADLINE), stdin: b"n\n".to_vec(), ..ExecOptions::default() };
    let asked = t.lab().exec("h1", &["rswarm", "system", "prune", "--cluster", "--all", "--volumes"], &options)?;
    ensure!(asked.success() && asked.stdout.starts_with("WARNING! This will remove on all 2 nodes:\n"), "{asked:?}");
    sums(&t).context("no was the answer")?;
    let said = t.cli("h1", &["system", "prune", "--cluster", "--all", "--volumes", "--force"])?;
    for host in ["h1", "h2"] {
        for part in [format!("Node {host}: "), format!("only-{host}:1\n"), format!("spare-{host}\n")] {
            ensure!(said.contains(&part), "no {part:?} in {said}");
        }
        only_the_task_is_left(&t, host)?;
    }
    let reclaimed = said.rsplit("Total reclaimed space: ").next().unwrap_or_default().trim();
    ensure!(bytes(reclaimed)? > 800_000.0, "{said}");
    t.running("web", 2)?;
    let log: String = t.lab().logs("h2")?.into_iter().map(|(_, text)| text).collect();
    let noted =
        |line: &str| line.contains("a manager asks about the whole host") && line.contains("POST /images/prune");
    ensure!(log.lines().any(noted), "the node did not write down who pruned it:\n{log}");
    silent(&t)
}

/// A daemon that hangs, and one that has ended.
fn silent(t: &ClusterUnderTest) -> Result<()> {
    let daemon = t.cluster.daemon("h2")?.context("a daemon")?;
    t.lab().signal("h2", daemon, Signal::SIGSTOP)?;
    let hangs = t.cluster.cli("h1", &["system", "df", "--cluster"]);
    t.lab().signal("h2", daemon, Signal::SIGCONT)?;
    let hangs = hangs?;
    let warning = "WARNING: not counted: node h2 does not answer at ";
    ensure!(hangs.success() && hangs.stdout.lines().count() == 3 && hangs.stderr.starts_with(warning), "{hangs:?}");
    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    let ended = t.cluster.cli("h1", &["system", "prune", "--cluster", "--force"])?;
    ensure!(ended.code == 1 && ended.stderr.contains("\nnode h2 "), "{ended:?}");
    ensure!(ended.stdout.contains("Node h1: ") && !ended.stdout.contains("Node h2: "), "{ended:?}");
    Ok(())
}
