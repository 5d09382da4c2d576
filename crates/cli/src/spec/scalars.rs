//! Flags with one value each, put where they belong in the spec.

use anyhow::Context as _;
use serde_json::{Value, json};
use types::{ON_MISSING_LABEL, PRIORITY_LABEL, PULL_LABEL, REBALANCE_LABEL, STABLE_IP_LABEL, STRATEGY_LABEL};

use super::{
    edit::{change_map, get, set, set_some},
    flags::{Scalars, SteeringFlags},
    job,
};

/// # Errors
/// When flags contradict each other or the service.
pub(crate) fn apply(spec: &mut Value, flags: &Scalars) -> anyhow::Result<()> {
    job::apply(spec, flags.replicas, &flags.job)?;
    check_mode(spec, flags)?;
    set_some(spec, "TaskTemplate.Placement.MaxReplicas", flags.replicas_max_per_node);
    set_some(spec, "EndpointSpec.Mode", flags.endpoint_mode.clone());
    set_some(spec, "EndpointSpec.Mesh.Policy", flags.mesh_policy.clone());
    set_some(spec, "EndpointSpec.Mesh.Affinity", flags.mesh_affinity.clone());
    set_some(spec, "Disconnect.LostAfter", flags.disconnect_lost_after);
    set_some(spec, "Disconnect.Reconcile", flags.disconnect_reconcile.clone());
    steering(spec, &flags.steering);
    resources(spec, flags);
    policies(spec, flags);
    container(spec, flags)?;
    health(spec, flags)?;
    set_some(spec, "TaskTemplate.LogDriver.Name", flags.log_driver.clone());
    change_map(spec, "TaskTemplate.LogDriver.Options", &[], &flags.log_opt);
    Ok(())
}

/// Docker's rules about what fits which mode.
fn check_mode(spec: &Value, flags: &Scalars) -> anyhow::Result<()> {
    let is = |mode: &str| get(spec, "Mode").is_some_and(|found| found[mode].is_object());
    let of_update =
        [flags.update_parallelism, flags.update_delay, flags.update_monitor, flags.update_progress_deadline];
    let of_rollback =
        [flags.rollback_parallelism, flags.rollback_delay, flags.rollback_monitor, flags.rollback_progress_deadline];
    let words =
        [&flags.update_failure_action, &flags.update_order, &flags.rollback_failure_action, &flags.rollback_order];
    let ratios = [flags.update_max_failure_ratio, flags.rollback_max_failure_ratio];
    let has_policy = of_update.iter().chain(&of_rollback).any(Option::is_some)
        || words.iter().any(|flag| flag.is_some())
        || ratios.iter().any(Option::is_some);
    anyhow::ensure!(
        !(has_policy && (is("ReplicatedJob") || is("GlobalJob"))),
        "update and rollback configuration is not supported for jobs: their tasks end by themselves; leave --update-* and \
         --rollback-* out"
    );
    anyhow::ensure!(
        flags.replicas_max_per_node.is_none_or(|most| most == 0) || !(is("Global") || is("GlobalJob")),
        "replicas-max-per-node can only be used with replicated or replicated-job mode"
    );
    Ok(())
}

fn steering(spec: &mut Value, flags: &SteeringFlags) {
    let pairs = [
        (STRATEGY_LABEL, flags.placement_strategy.clone()),
        (REBALANCE_LABEL, flags.rebalance.clone()),
        (ON_MISSING_LABEL, flags.on_missing.clone()),
        (PULL_LABEL, flags.pull.clone()),
        (STABLE_IP_LABEL, flags.stable_ip.map(|stable| stable.to_string())),
        (PRIORITY_LABEL, flags.priority.map(|number| number.to_string())),
        (types::REFRESH_LABEL, flags.refresh.clone()),
    ];
    let given = pairs.into_iter().filter_map(|(label, value)| Some(format!("{label}={}", value?)));
    change_map(spec, "Labels", &[], &given.collect::<Vec<_>>());
    let platform = |platform: &types::Platform| json!({ "OS": platform.os, "Architecture": platform.architecture, "Variant": platform.variant });
    let platforms: Vec<Value> = flags.platform.iter().map(platform).collect();
    set_some(spec, "TaskTemplate.Placement.Platforms", (!platforms.is_empty()).then_some(platforms));
}

fn resources(spec: &mut Value, flags: &Scalars) {
    set_some(spec, "TaskTemplate.Resources.Limits.NanoCPUs", flags.limit_cpu);
    set_some(spec, "TaskTemplate.Resources.Limits.MemoryBytes", flags.limit_memory);
    set_some(spec, "TaskTemplate.Resources.Limits.Pids", flags.limit_pids);
    set_some(spec, "TaskTemplate.Resources.SwapBytes", flags.memory_swap);
    set_some(spec, "TaskTemplate.Resources.MemorySwappiness", flags.memory_swappiness);
    set_some(spec, "TaskTemplate.Resources.Reservations.NanoCPUs", flags.reserve_cpu);
    set_some(spec, "TaskTemplate.Resources.Reservations.MemoryBytes", flags.reserve_memory);
}

fn policies(spec: &mut Value, flags: &Scalars) {
    set_some(spec, "TaskTemplate.RestartPolicy.Condition", flags.restart_condition.clone());
    set_some(spec, "TaskTemplate.RestartPolicy.Delay", flags.restart_delay);
    set_some(spec, "TaskTemplate.RestartPolicy.MaxAttempts", flags.restart_max_attempts);
    set_some(spec, "TaskTemplate.RestartPolicy.Window", flags.restart_window);
    set_some(spec, "UpdateConfig.Parallelism", flags.update_parallelism);
    set_some(spec, "UpdateConfig.Delay", flags.update_delay);
    set_some(spec, "UpdateConfig.FailureAction", flags.update_failure_action.clone());
    set_some(spec, "UpdateConfig.Monitor", flags.update_monitor);
    set_some(spec, "UpdateConfig.MaxFailureRatio", flags.update_max_failure_ratio);
    set_some(spec, "UpdateConfig.Order", flags.update_order.clone());
    set_some(spec, "RollbackConfig.Parallelism", flags.rollback_parallelism);
    set_some(spec, "RollbackConfig.Delay", flags.rollback_delay);
    set_some(spec, "RollbackConfig.FailureAction", flags.rollback_failure_action.clone());
    set_some(spec, "RollbackConfig.Monitor", flags.rollback_monitor);
    set_some(spec, "RollbackConfig.MaxFailureRatio", flags.rollback_max_failure_ratio);
    set_some(spec, "RollbackConfig.Order", flags.rollback_order.clone());
    set_some(spec, "UpdateConfig.ProgressDeadline", flags.update_progress_deadline);
    set_some(spec, "RollbackConfig.ProgressDeadline", flags.rollback_progress_deadline);
    // An object with some fields means 0, "all at once", where the number is absent.
    for config in ["UpdateConfig", "RollbackConfig"] {
        let number = format!("{config}.Parallelism");
        if get(spec, config).is_some() && get(spec, &number).is_none() {
            set(spec, &number, 1);
        }
    }
}

fn container(spec: &mut Value, flags: &Scalars) -> anyhow::Result<()> {
    const AT: &str = "TaskTemplate.ContainerSpec";
    set_some(spec, &format!("{AT}.Hostname"), flags.hostname.clone());
    set_some(spec, &format!("{AT}.User"), flags.user.clone());
    set_some(spec, &format!("{AT}.Dir"), flags.workdir.clone());
    set_some(spec, &format!("{AT}.StopSignal"), flags.stop_signal.clone());
    set_some(spec, &format!("{AT}.StopGracePeriod"), flags.stop_grace_period);
    set_some(spec, &format!("{AT}.Init"), flags.init);
    set_some(spec, &format!("{AT}.ReadOnly"), flags.read_only);
    set_some(spec, &format!("{AT}.TTY"), flags.tty);
    set_some(spec, &format!("{AT}.OomScoreAdj"), flags.oom_score_adj);
    set_some(spec, &format!("{AT}.Privileged"), flags.host.privileged);
    set_some(spec, &format!("{AT}.ShmSize"), flags.host.shm_size);
    set_some(spec, &format!("{AT}.PidMode"), flags.host.pid.clone());
    set_some(spec, &format!("{AT}.IpcMode"), flags.host.ipc.clone());
    set_some(spec, &format!("{AT}.CpusetCpus"), flags.host.cpuset_cpus.clone());
    set_some(spec, &format!("{AT}.CpusetMems"), flags.host.cpuset_mems.clone());
    if let Some(text) = &flags.entrypoint {
        let words = split_words(text).with_context(|| format!("bad --entrypoint {text:?}"))?;
        set(spec, &format!("{AT}.Command"), words);
    }
    Ok(())
}

fn health(spec: &mut Value, flags: &Scalars) -> anyhow::Result<()> {
    const AT: &str = "TaskTemplate.ContainerSpec.Healthcheck";
    let times = [
        ("Interval", flags.health_interval),
        ("Timeout", flags.health_timeout),
        ("StartPeriod", flags.health_start_period),
        ("StartInterval", flags.health_start_interval),
        ("Retries", flags.health_retries),
    ];
    if flags.no_healthcheck {
        let other = flags.health_cmd.is_some() || times.iter().any(|(_, value)| value.is_some());
        anyhow::ensure!(!other, "--no-healthcheck conflicts with --health-* options");
        set(spec, AT, json!({ "Test": ["NONE"] }));
        return Ok(());
    }
    if let Some(command) = &flags.health_cmd {
        set(spec, &format!("{AT}.Test"), json!(["CMD-SHELL", command]));
    }
    for (name, value) in times {
        set_some(spec, &format!("{AT}.{name}"), value);
    }
    Ok(())
}

/// Words as a shell sees them: blanks separate, quotes and backslashes keep together.
pub(crate) fn split_words(text: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = chars.next().context("it ends in a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    anyhow::ensure!(quote.is_none(), "a quote is not closed");
    words.extend(word);
    Ok(words)
}
