//! What managers tell of the cluster: all the same, each step once and in order (C-36, C-39, P39).

use types::{ClusterEvents, ObjectEvent};

use crate::harness::{Host, eventually, leader, quick_spec, three};

/// Steps of the value in which something happened.
fn steps(host: &Host) -> Vec<(u64, Vec<ObjectEvent>)> {
    let of_value = |step: ClusterEvents| step.index.map(|index| (index, step.events));
    host.told.steps().into_iter().filter_map(of_value).filter(|(_, events)| !events.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p39_every_manager_tells_each_step_once_and_in_order() {
    let mut hosts = three(quick_spec()).await;
    let client = hosts[leader(&hosts).await].client();
    let all: Vec<_> = (0..40)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.create(&format!("web-{number}"), 5).await.unwrap() })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    let tasks = |host: &Host| {
        let events = steps(host).into_iter().flat_map(|(_, events)| events);
        events.filter(|event| event.attributes.contains_key("slot")).count()
    };
    eventually("all managers tell the same", || async {
        let first = steps(&hosts[0]);
        (tasks(&hosts[0]) >= 200 && hosts.iter().all(|host| steps(host) == first)).then_some(())
    })
    .await;
    assert!(steps(&hosts[0]).is_sorted_by(|one, other| one.0 < other.0), "in order, and no step twice");
    assert!(hosts.iter().all(|host| host.told.steps().iter().skip(1).all(|step| step.is_gapless)));

    // one that is started again tells what it has on its disk as the past
    let follower = (leader(&hosts).await + 1) % 3;
    let before = steps(&hosts[follower]);
    hosts[follower].kill().await;
    hosts[follower].told.forget();
    hosts[follower].restart().await;
    let again = hosts[follower].told.steps();
    assert!(!again[0].is_gapless && again[0].events.is_empty(), "where it begins: {:?}", again[0]);
    assert!(again.iter().all(|step| step.is_past), "nothing happened since");
    eventually("it tells all again", || async {
        let now = steps(&hosts[follower]);
        (now.len() >= before.len()).then_some(())
    })
    .await;
    assert_eq!(
        steps(&hosts[follower])[..before.len()],
        before,
        "the log is not compacted yet, so it goes to the start"
    );

    // the next leader is told of by those who stay
    let lead = leader(&hosts).await;
    let stays = (lead + 1) % 3;
    hosts[lead].kill().await;
    eventually("a leader is told of", || async {
        let steps = hosts[stays].told.steps();
        let mut events = steps.iter().filter(|step| step.index.is_none()).flat_map(|step| &step.events);
        events.any(|event| event.attributes.get("leader.new").is_some_and(|new| new == "true")).then_some(())
    })
    .await;
    for host in hosts {
        if let Some(manager) = host.manager {
            manager.abort().await;
        }
    }
}
