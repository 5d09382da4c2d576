//! Health checks on the host: what the managers hear of them (parity S-58).

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use node::{Agent, Engine};
use types::{Assignment, ContainerHealth, HealthCheck, HealthTest, TaskState};

use crate::scene::{Host, IMAGE, is, last, passed, pid, set, task};

/// A task whose check is a line of shell, every 100 ms.
fn checked(n: u128, line: &str, retries: u32) -> Assignment {
    let mut task = task(n, IMAGE, &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]);
    Arc::make_mut(&mut task.spec).container.health_check = Some(HealthCheck {
        test: HealthTest::Shell(line.to_owned()),
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(10),
        start_period: Duration::ZERO,
        start_interval: Duration::ZERO,
        retries,
    });
    task
}

fn touch(pid: u32, path: &str) -> Result<()> {
    std::fs::write(Path::new(&format!("/proc/{pid}/root")).join(path), "").context("make a file in the container")
}

pub async fn all(host: &Host, engine: Engine, agent: Agent) -> Result<(Engine, Agent)> {
    let began = Instant::now();
    let slow = checked(20, "test -e /tmp/well || { echo not yet; exit 1; }", 100_000);
    let never = checked(21, "echo no way; exit 3", 2);
    let hangs = {
        let mut hangs = checked(22, "echo begun; sleep 1000", 1);
        let spec = Arc::make_mut(&mut hangs.spec);
        spec.container.health_check.as_mut().context("a check")?.timeout = Duration::from_millis(200);
        hangs
    };
    host.manager.assign(set([slow.clone(), never.clone(), hangs.clone()])).await;
    let waits = |h: &crate::manager::Heard| last(h, slow.id).is_some_and(|s| s.error.contains("exit code 1: not yet"));
    let heard = host.manager.wait("what the check says", waits).await?;
    let status = last(&heard, slow.id).context("a status")?;
    let health = status.container.as_ref().and_then(|c| c.health);
    ensure!((status.state, health) == (TaskState::Starting, Some(ContainerHealth::Starting)), "{status:#?}");
    let process = pid(&heard, slow.id)?;
    touch(process, "tmp/well")?;
    let heard = host.manager.wait("RUNNING", |h| is(h, slow.id, TaskState::Running)).await?;
    let health = last(&heard, slow.id).and_then(|s| s.container.as_ref()?.health);
    ensure!(health == Some(ContainerHealth::Healthy), "{health:?}");
    let failed = |h: &crate::manager::Heard| is(h, never.id, TaskState::Failed) && is(h, hangs.id, TaskState::Failed);
    let heard = host.manager.wait("two failures", failed).await?;
    let error = |t| last(&heard, t).map(|s| s.error.clone()).unwrap_or_default();
    let why = "task: non-zero exit (0): unhealthy container: health check failed";
    let text = error(never.id);
    ensure!(text == format!("{why} 2 times in a row, last: exit code 3: no way"), "{text}");
    let text = error(hangs.id);
    ensure!(text == format!("{why} once, last: it took longer than 200ms and was killed: begun"), "{text}");
    ensure!(heard[&never.id].iter().all(|s| s.state != TaskState::Running), "it was never healthy");
    passed("a task runs when its check succeeds, and fails when it does not", began);

    let began = Instant::now();
    let mut known = checked(20, "test ! -e /tmp/sick", 2);
    (known.spec, known.state) = (slow.spec.clone(), TaskState::Running);
    agent.shutdown().await;
    engine.shutdown().await;
    drop(engine);
    host.manager.forget();
    host.manager.assign(set([known.clone()])).await;
    let engine = host.engine().await?;
    let agent = host.agent(&engine).await?;
    let heard = host.manager.wait("RUNNING again", |h| is(h, known.id, TaskState::Running)).await?;
    ensure!(heard[&known.id].iter().all(|s| s.state == TaskState::Running), "it was healthy: {:#?}", heard[&known.id]);
    ensure!(pid(&heard, known.id)? == process, "the same process");
    // The check of before goes on: without its file the container is not well any more. It takes as many failures as
    // the check says, so another one is looked at for its end.
    let sick = checked(23, "test ! -e /tmp/sick", 2);
    host.manager.assign(set([known.clone(), sick.clone()])).await;
    let heard = host.manager.wait("RUNNING", |h| is(h, sick.id, TaskState::Running)).await?;
    let process = pid(&heard, sick.id)?;
    agent.shutdown().await;
    let agent = host.agent(&engine).await?;
    touch(process, "tmp/sick")?;
    let heard = host.manager.wait("FAILED", |h| is(h, sick.id, TaskState::Failed)).await?;
    let text = last(&heard, sick.id).map(|s| s.error.clone()).unwrap_or_default();
    ensure!(text == format!("{why} 2 times in a row, last: exit code 1"), "{text}");
    host.manager.assign(set([])).await;
    passed("a restarted agent goes on with the checks of its containers", began);
    Ok((engine, agent))
}
