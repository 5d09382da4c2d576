//! Metrics over HTTP (C-38).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http;
use crate::testing::Fake;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_38_metrics_of_a_host_and_of_a_manager() {
    let fake = Fake::alone().await;
    let (head, body) = http(&fake.socket, "GET /metrics", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    assert_eq!(body, "engine_metric 1\n");
    let fake = Fake::manager().await;
    assert_eq!(http(&fake.socket, "GET /metrics", "").await.1, "engine_metric 1\nswarm_metric 1\n");
    let (head, _) = http(&fake.socket, "POST /metrics", "").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
}

/// P38: what all tasks use, with the names that people know, and of which nodes nothing is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p38_what_tasks_of_all_nodes_use() {
    let alone = Fake::alone().await;
    let (head, body) = http(&alone.socket, "GET /tasks/usage", "").await;
    assert!(head.starts_with("http/1.1 503") && body.contains("not a swarm manager"), "{head} {body}");

    let fake = Fake::manager().await;
    let spec =
        json!({ "Name": "web", "Mode": { "Global": {} }, "TaskTemplate": { "ContainerSpec": { "Image": "app" } } });
    let (head, body) = http(&fake.socket, "POST /services/create", &spec.to_string()).await;
    assert!(head.starts_with("http/1.1 201"), "{head} {body}");
    let deadline = Instant::now() + Duration::from_secs(20);
    let usage: Value = loop {
        let (_, body) = http(&fake.socket, "GET /tasks/usage", "").await;
        let usage: Value = serde_json::from_str(&body).expect("JSON");
        if usage["Tasks"].as_array().is_some_and(|tasks| tasks.len() == 2) {
            break usage;
        }
        assert!(Instant::now() < deadline, "two of three nodes tell of a task: {usage}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let task = &usage["Tasks"][0];
    let name = format!("web.{}", task["NodeID"].as_str().expect("an id"));
    assert_eq!((task["Name"].as_str(), task["Service"].as_str()), (Some(name.as_str()), Some("web")));
    assert_eq!(
        [&task["CPUNanoseconds"], &task["Memory"], &task["MemoryRSS"], &task["MemoryLimit"], &task["Processes"]],
        [&json!(1_500_000_000), &json!(3 << 20), &json!(2 << 20), &json!(1 << 30), &json!(2)]
    );
    assert_eq!(task["Network"], json!({ "Received": 10, "Sent": 20 }));
    assert_eq!(usage["Missing"][0]["Reason"], "it is down");
}
