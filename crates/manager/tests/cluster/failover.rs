//! Managers that stop, crash and come back: nothing that was acknowledged is lost.

use std::time::{Duration, Instant};

use types::{ClusterSpec, ReadRequest};

use crate::harness::{Host, eventually, found, leader, quick_spec, three, wait_for_voters};

async fn stop_all(hosts: Vec<Host>) {
    for host in hosts {
        if let Some(manager) = host.manager {
            manager.abort().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_comes_back_from_its_disk() {
    let mut host = found(quick_spec()).await;
    let id = host.client().create("web", 0).await.unwrap();
    host.kill().await;
    host.restart().await;
    eventually("the service is back", || async {
        host.client().try_read(ReadRequest::Service(id.to_string()), false).await.ok()
    })
    .await;
    host.client().create("web2", 0).await.unwrap();
    let reopened = manager::Manager::open(host.config.clone()).await.err().expect("the directory is in use");
    assert!(reopened.to_string().contains("open the replicated state"), "{reopened}");
    host.manager.take().unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_on_a_follower_reach_the_leader_in_one_hop() {
    let hosts = three(quick_spec()).await;
    let lead = leader(&hosts).await;
    let follower = &hosts[(lead + 1) % 3];
    let id = follower.client().create("web", 0).await.unwrap();
    // a linearizable read anywhere sees it at once
    for host in &hosts {
        host.client().try_read(ReadRequest::Service(id.to_string()), true).await.unwrap();
    }
    let duplicate = follower.client().create("web", 0).await.unwrap_err();
    assert_eq!(duplicate.code(), tonic::Code::AlreadyExists, "{duplicate}");
    let views = follower.client().nodes().await;
    assert_eq!(views.iter().filter(|view| view.leader).count(), 1);
    stop_all(hosts).await;
}

/// Writes until it is told to stop; returns what was acknowledged and the longest pause. None may fail: a
/// write whose leader is lost is made once at the next, so it is neither refused nor found there already.
async fn write_all_along(
    host_a: crate::harness::Client,
    prefix: &str,
    until: tokio::sync::watch::Receiver<bool>,
) -> (Vec<String>, Duration) {
    let mut acknowledged = Vec::new();
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    for number in 0.. {
        if *until.borrow() {
            break;
        }
        let name = format!("{prefix}-{number}");
        host_a.create(&name, 0).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        longest = longest.max(last.elapsed());
        last = Instant::now();
        acknowledged.push(name);
    }
    (acknowledged, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_costs_no_write() {
    let mut hosts = three(quick_spec()).await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let lead = leader(&hosts).await;
        let survivor = (lead + 1) % 3;
        let (stop, until) = tokio::sync::watch::channel(false);
        let writers: Vec<_> = (0..4)
            .map(|number| (hosts[survivor].client(), format!("r{round}-{number}"), until.clone()))
            .map(|(client, prefix, until)| tokio::spawn(async move { write_all_along(client, &prefix, until).await }))
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        hosts[lead].kill().await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        stop.send(true).unwrap();
        for writer in writers {
            let (names, longest) = writer.await.unwrap();
            println!("round {round}: {} writes, longest pause {longest:?}", names.len());
            assert!(longest < Duration::from_secs(3), "{longest:?}");
            acknowledged.extend(names);
        }
        hosts[lead].restart().await;
        wait_for_voters(&hosts, 3).await;
    }
    for host in &hosts {
        host.client().try_read(ReadRequest::Counts, true).await.expect("a leader");
        assert_eq!(host.client().counts().await.services, acknowledged.len() as u64);
    }
    for name in &acknowledged {
        hosts[0].client().try_read(ReadRequest::Service(name.clone()), false).await.expect(name);
    }
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_stop_hands_leadership_over() {
    let mut hosts = three(quick_spec()).await;
    let lead = leader(&hosts).await;
    let term = hosts[lead].manager().status().term;
    let client = hosts[(lead + 1) % 3].client();
    let begun = Instant::now();
    hosts[lead].manager.take().unwrap().shutdown().await;
    let next = leader(&hosts).await;
    assert!(hosts[next].manager().status().term > term);
    client.create("web", 0).await.unwrap();
    println!("stop, hand-over and next write: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(6));
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_writes_say_why_and_reads_go_on() {
    let mut hosts = three(quick_spec()).await;
    hosts[0].client().create("web", 0).await.unwrap();
    let lead = leader(&hosts).await;
    for other in [(lead + 1) % 3, (lead + 2) % 3] {
        hosts[other].kill().await;
    }
    let status = hosts[lead].client().create("late", 0).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert!(status.message().contains("majority"), "{status}");
    assert_eq!(hosts[lead].client().counts().await.services, 1);
    let stale = hosts[lead].client().try_read(ReadRequest::Counts, true).await.unwrap_err();
    assert_eq!(stale.code(), tonic::Code::Unavailable, "{stale}");
    for other in [(lead + 1) % 3, (lead + 2) % 3] {
        hosts[other].restart().await;
    }
    eventually("writes go on", || async { hosts[lead].client().create("after", 0).await.ok() }).await;
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_was_away_catches_up_by_snapshot() {
    let mut spec: ClusterSpec = quick_spec();
    spec.raft.snapshot_interval = 20;
    spec.raft.log_entries_for_slow_followers = 2;
    let mut hosts = three(spec).await;
    let lead = leader(&hosts).await;
    let away = (lead + 1) % 3;
    hosts[away].kill().await;
    for number in 0..60 {
        hosts[lead].client().create(&format!("web-{number}"), 0).await.unwrap();
    }
    // compaction looks once a second
    tokio::time::sleep(Duration::from_millis(2500)).await;
    hosts[away].restart().await;
    eventually("all services are there", || async {
        (hosts[away].client().counts().await.services == 60).then_some(())
    })
    .await;
    hosts[away].client().create("after", 0).await.unwrap();
    stop_all(hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returning_manager_does_not_disturb_the_leader() {
    let mut hosts = three(quick_spec()).await;
    let lead = leader(&hosts).await;
    let term = hosts[lead].manager().status().term;
    let flapping = (lead + 2) % 3;
    for round in 0..3 {
        hosts[flapping].kill().await;
        hosts[lead].client().create(&format!("web-{round}"), 0).await.unwrap();
        hosts[flapping].restart().await;
        eventually("it is back", || async {
            (hosts[flapping].client().counts().await.services == round + 1).then_some(())
        })
        .await;
    }
    let status = hosts[lead].manager().status();
    assert_eq!((status.is_leader, status.term), (true, term));
    stop_all(hosts).await;
}
