//! S-04, P26: flags of jobs.

use expect_test::expect;
use serde_json::{Value, json};

use super::{check_update, created};

fn mode(line: &str) -> String {
    match created(line) {
        Ok(spec) => match spec.get("Schedule") {
            Some(schedule) => format!("{} {schedule}", spec["Mode"]),
            None => spec["Mode"].to_string(),
        },
        Err(error) => format!("error: {error:#}"),
    }
}

#[test]
fn as_many_at_once_as_are_to_complete_unless_said_otherwise() {
    let lines = [
        "create --mode replicated-job a",
        "create --mode replicated-job --replicas 5 a",
        "create --mode replicated-job --replicas 5 --max-concurrent 2 a",
        "create --mode global-job a",
        "create --mode global-job --schedule '0 3 * * *' a",
        "create --mode replicated-job --schedule @daily --schedule-timezone Asia/Kolkata --schedule-concurrency queue a",
        "create --mode global-job --replicas 2 a",
        "create --max-concurrent 2 a",
        "create --schedule @daily a",
        "create --mode cron a",
    ];
    let all: String = lines.map(|line| format!("{line}: {}\n", mode(line))).concat();
    expect![[r#"
        create --mode replicated-job a: {"ReplicatedJob":{}}
        create --mode replicated-job --replicas 5 a: {"ReplicatedJob":{"TotalCompletions":5,"MaxConcurrent":5}}
        create --mode replicated-job --replicas 5 --max-concurrent 2 a: {"ReplicatedJob":{"TotalCompletions":5,"MaxConcurrent":2}}
        create --mode global-job a: {"GlobalJob":{}}
        create --mode global-job --schedule '0 3 * * *' a: {"GlobalJob":{}} {"Cron":"0 3 * * *"}
        create --mode replicated-job --schedule @daily --schedule-timezone Asia/Kolkata --schedule-concurrency queue a: {"ReplicatedJob":{}} {"Cron":"@daily","Timezone":"Asia/Kolkata","Concurrency":"queue"}
        create --mode global-job --replicas 2 a: error: replicas can only be used with replicated or replicated-job mode
        create --max-concurrent 2 a: error: max-concurrent can only be used with replicated-job mode
        create --schedule @daily a: error: schedules can only be used with replicated-job or global-job mode
        create --mode cron a: error: unknown mode: cron, only replicated, global, replicated-job and global-job supported
    "#]].assert_eq(&all);
}

/// S-04, S-32: what does not fit the mode is refused in docker's words, before the daemon is asked.
#[test]
fn s_04_flags_that_do_not_fit_the_mode_are_named() {
    let lines = [
        "create --mode global --replicas-max-per-node 2 a",
        "create --mode global --replicas-max-per-node 0 a",
        "create --mode replicated-job --replicas-max-per-node 2 a",
    ];
    let all: String = lines.map(|line| format!("{line}: {}\n", mode(line))).concat();
    expect![[r#"
        create --mode global --replicas-max-per-node 2 a: error: replicas-max-per-node can only be used with replicated or replicated-job mode
        create --mode global --replicas-max-per-node 0 a: {"Global":{}}
        create --mode replicated-job --replicas-max-per-node 2 a: {"ReplicatedJob":{}}
    "#]].assert_eq(&all);
    for flag in [
        "--update-delay 1s",
        "--update-order start-first",
        "--rollback-parallelism 2",
        "--rollback-max-failure-ratio 0.5",
    ] {
        let said = mode(&format!("create --mode global-job {flag} a"));
        assert!(
            said.starts_with("error: update and rollback configuration is not supported for jobs"),
            "{flag}: {said}"
        );
        assert!(!mode(&format!("create --mode global {flag} a")).starts_with("error"), "{flag}");
    }
}

#[test]
fn an_update_changes_what_it_names_and_takes_a_schedule_away() {
    let job = || -> Value {
        json!({ "Mode": { "ReplicatedJob": { "MaxConcurrent": 2, "TotalCompletions": 5 } },
                "Schedule": { "Cron": "@daily", "Timezone": "Asia/Kolkata" } })
    };
    check_update(
        job(),
        "update --replicas 7 --schedule @hourly a",
        expect![[
            r#"{"Mode":{"ReplicatedJob":{"MaxConcurrent":2,"TotalCompletions":7}},"Schedule":{"Cron":"@hourly","Timezone":"Asia/Kolkata"}}"#
        ]],
    );
    check_update(
        job(),
        "update --schedule '' a",
        expect![[r#"{"Mode":{"ReplicatedJob":{"MaxConcurrent":2,"TotalCompletions":5}},"Schedule":{"Cron":""}}"#]],
    );
}
