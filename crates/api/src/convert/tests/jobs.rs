//! S-04 to S-06, P26: jobs as Docker's clients write and read them.

use bollard_stubs::models;
use expect_test::expect;
use serde_json::json;
use types::{JobStatus, ScheduleConcurrency, ServiceMode, Slot, Timestamp};

use super::{Given, Networks, check_schema, read, refused, service, task, task_of, with, write, write_spec};

#[test]
fn s04_modes_of_jobs_have_dockers_defaults() {
    let mode = |body| read(&with("/Mode/ReplicatedJob", body), Given::default()).expect("a job").mode;
    let job = |max_concurrent, total_completions| ServiceMode::ReplicatedJob { max_concurrent, total_completions };
    assert_eq!(mode(json!({})), job(1, 1));
    assert_eq!(mode(json!({ "MaxConcurrent": 3 })), job(3, 3));
    assert_eq!(mode(json!({ "TotalCompletions": 5 })), job(1, 5));
    assert_eq!(mode(json!({ "MaxConcurrent": 2, "TotalCompletions": 5 })), job(2, 5));
    let global = read(&with("/Mode/GlobalJob", json!({})), Given::default()).expect("a job");
    assert_eq!(global.mode, ServiceMode::GlobalJob);
}

#[test]
fn a_job_comes_back_as_it_went_in_without_an_update_config() {
    let mut body = with("/Mode/ReplicatedJob", json!({ "MaxConcurrent": 2, "TotalCompletions": 5 }));
    body["Schedule"] = json!({ "Cron": "0 3 * * *", "Timezone": "Europe/Berlin", "Concurrency": "queue" });
    let spec = read(&body, Given::default()).expect("a job");
    let written = write_spec(&spec);
    assert_eq!(written["Mode"], body["Mode"]);
    assert_eq!(written["Schedule"], body["Schedule"]);
    assert!(written.get("UpdateConfig").is_none() && written.get("RollbackConfig").is_none());
    assert_eq!(read(&written, Given::default()).expect("own output"), spec);
    check_schema::<models::ServiceSpec>(&written, &["Schedule"]);
}

#[test]
fn mistakes_in_jobs_are_named() {
    let mut body = with("/Mode/GlobalJob", json!({}));
    body["UpdateConfig"] = json!({ "Parallelism": 1 });
    refused(body, expect!["UpdateConfig: jobs may not have an update config"]);
    let mut body = with("/Mode/GlobalJob", json!({}));
    body["Mode"]["Replicated"] = json!({});
    refused(body, expect!["Mode.GlobalJob: a service has one mode, and Replicated is given too: leave one out"]);
    refused(
        with("/Schedule/Concurrency", json!("allow")),
        expect![[r#"Schedule.Concurrency: "allow" is no schedule concurrency; use skip, replace or queue"#]],
    );
    refused(
        with("/Schedule/Timezone", json!("UTC")),
        expect![[r#"Schedule.Cron is missing: give the times, such as "0 3 * * *""#]],
    );
}

#[test]
fn p26_an_update_by_a_client_that_does_not_know_schedules_keeps_it() {
    let body = with("/Schedule", json!({ "Cron": "@daily" }));
    let before = read(&body, Given::default()).expect("a schedule");
    assert_eq!(before.schedule.as_ref().map(|schedule| schedule.concurrency), Some(ScheduleConcurrency::Skip));
    let given = || Given { name: None, previous: Some(&before) };
    let plain = with("/Labels", json!({}));
    assert_eq!(read(&plain, given()).expect("an update").schedule, before.schedule);
    let gone = with("/Schedule", json!({ "Cron": "" }));
    assert_eq!(read(&gone, given()).expect("an update").schedule, None);
}

#[test]
fn s06_the_status_of_a_job_is_dockers_and_tells_the_next_run() {
    let mut view = service();
    let mut spec = (*view.service.spec).clone();
    spec.mode = ServiceMode::ReplicatedJob { max_concurrent: 2, total_completions: 5 };
    view.service.spec = std::sync::Arc::new(spec);
    let at = Timestamp::from_unix_ms(1_700_000_000_000);
    view.service.job = Some(JobStatus { iteration: 3, last_execution: Some(at), next_run: Some(at), skipped: None });
    (view.running, view.desired, view.completed) = (0, 0, 5);
    let written = write(&view, true, &Networks::new());
    expect![[r#"
        {"JobIteration":{"Index":3},"LastExecution":"2023-11-14T22:13:20Z","NextRun":"2023-11-14T22:13:20Z"}
        {"RunningTasks":0,"DesiredTasks":2,"CompletedTasks":5}"#]]
    .assert_eq(&format!("{}\n{}", written["JobStatus"], written["ServiceStatus"]));
    view.service.job = Some(JobStatus::waiting());
    let written = write(&view, false, &Networks::new());
    expect![[r#"{"JobIteration":{},"LastExecution":"0001-01-01T00:00:00Z"}"#]]
        .assert_eq(&written["JobStatus"].to_string());
}

#[test]
fn tasks_of_jobs_tell_their_iteration_and_count_slots_from_0() {
    let mut found = task_of(&service());
    (found.slot, found.iteration) = (Slot::Replica(0), Some(3));
    let written = task::write(&found, &Networks::new());
    assert_eq!((&written["JobIteration"], written.get("Slot")), (&json!({ "Index": 3 }), None));
    check_schema::<models::Task>(
        &written,
        &["NetworksAttachments", "Spec.ContainerSpec.Healthcheck", "Spec.ContainerSpec.Mounts.Type"],
    );
}
