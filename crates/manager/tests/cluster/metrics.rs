//! What a manager tells a monitoring system (C-38, P38).

use std::time::Instant;

use types::{NodeRole, TaskState};

use crate::{
    agent::Agent,
    harness::{Host, drain, eventually, found, join_identity, quick_spec, three},
};

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
        let text = metrics().await;
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
    assert_eq!(metrics().await, "", "one that is gone says nothing");
}

/// Series of one name, and the labels of each.
fn series<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')).collect()
}

async fn worker(host: &Host, through: &Host) -> Agent {
    let identity = join_identity(host, NodeRole::Worker).await;
    Agent::start(&identity, &through.peer().address).await.unwrap()
}

/// P38: one scrape of a manager has each task of all nodes, whichever managers these are connected to; a node that
/// does not answer is told as such, and nothing old in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p38_a_thousand_tasks_of_nodes_of_all_managers_in_one_scrape() {
    let hosts = three(quick_spec()).await;
    for view in hosts[0].client().nodes().await {
        hosts[0].client().update_node(view.node.id, drain).await.unwrap();
    }
    let agents = [worker(&hosts[0], &hosts[1]).await, worker(&hosts[0], &hosts[2]).await];
    hosts[0].client().create("web", 1000).await.unwrap();
    eventually("a thousand tasks run", || async {
        let tasks = hosts[0].client().tasks().await;
        (tasks.iter().filter(|task| task.status.state == TaskState::Running).count() == 1000).then_some(())
    })
    .await;
    let began = Instant::now();
    let text = hosts[0].manager().metrics()().await;
    let took = began.elapsed();
    for name in [
        "rswarm_task_cpu_seconds_total",
        "rswarm_task_memory_rss_bytes",
        "rswarm_task_network_receive_bytes_total",
        "rswarm_task_network_transmit_bytes_total",
    ] {
        let all = series(&text, name);
        assert_eq!(all.len(), 1000, "{name}");
        assert!(all[0].starts_with("service=\"web\",slot=\""), "{}", all[0]);
    }
    assert!(series(&text, "rswarm_task_cpu_seconds_total")[0].ends_with("} 1.0"), "{text:.2000}");
    // managers without an agent have no session
    let answered: Vec<&str> = series(&text, "rswarm_node_usage_answered");
    let count = |answer: &str, all: &[&str]| all.iter().filter(|line| line.ends_with(answer)).count();
    assert_eq!((count("} 1", &answered), count("} 0", &answered)), (2, 3), "{answered:?}");
    // what P38 wants is a second; a machine with other work to do says nothing against it
    eprintln!("a scrape took {took:?}");

    agents[0].mute();
    let text = eventually("one of two is told", || async {
        let text = hosts[0].manager().metrics()().await;
        (count("} 1", &series(&text, "rswarm_node_usage_answered")) == 1).then_some(text)
    })
    .await;
    assert_eq!(series(&text, "rswarm_task_cpu_seconds_total").len(), agents[1].seen().set.tasks.len());
    assert!(number(&text, "rswarm_service_replicas_running{service=\"web\"}") == Some(1000.0));
}
