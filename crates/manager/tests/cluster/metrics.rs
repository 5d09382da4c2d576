//! What a manager tells a monitoring system (C-38, P38).

use crate::harness::{eventually, found, quick_spec};

/// The number of one series.
fn number(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_38_p38_a_manager_says_what_is_wanted_and_what_is() {
    let mut host = found(quick_spec()).await;
    host.client().create("web", 3).await.unwrap();
    let metrics = host.manager().metrics();
    // nobody runs them, but each has its task
    let text = eventually("three tasks", || async {
        let text = metrics();
        let tasks = text.lines().filter(|line| line.starts_with("swarm_manager_tasks_total{"));
        let count: f64 = tasks.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        (count == 3.0).then_some(text)
    })
    .await;
    for (series, wanted) in [
        ("swarm_manager_leader", 1.0),
        ("rswarm_manager_has_quorum", 1.0),
        ("rswarm_raft_voters", 1.0),
        ("swarm_manager_services_total", 1.0),
        ("rswarm_service_replicas_desired{service=\"web\"}", 3.0),
        ("rswarm_service_replicas_running{service=\"web\"}", 0.0),
        ("rswarm_service_tasks_waiting{service=\"web\"}", 3.0),
        ("rswarm_dispatcher_sessions", 0.0),
    ] {
        assert_eq!(number(&text, series), Some(wanted), "{series} in\n{text}");
    }
    assert!(number(&text, "swarm_raft_transaction_latency_seconds_count").is_some_and(|count| count >= 2.0), "{text}");
    let index = host.manager().watch().borrow().index();
    assert!(number(&text, "rswarm_value_index").is_some_and(|told| told > 0.0 && told <= index as f64));
    host.manager.take().unwrap().abort().await;
    assert_eq!(metrics(), "", "one that is gone says nothing");
}
