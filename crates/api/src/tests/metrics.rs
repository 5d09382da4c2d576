//! Metrics over HTTP (C-38).

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
