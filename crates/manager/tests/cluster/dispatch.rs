//! Sessions: whole sets, differences, reports, and the two witnesses end to end.

use std::time::Duration;

use proto::v1::{HoldersCall, MayFetchCall, image_directory_client::ImageDirectoryClient};
use types::{NodeRole, NodeState, TaskState, WriteRequest};

use crate::{
    agent::Agent,
    harness::{Host, drain, eventually, found, join_identity, quick_spec, three},
};

/// A worker with its agent.
async fn worker(host: &Host, through: &Host) -> Agent {
    let identity = join_identity(host, NodeRole::Worker).await;
    Agent::start(&identity, &through.peer().address).await.unwrap()
}

async fn wait_running(host: &Host, count: usize) {
    eventually(&format!("{count} tasks run"), || async {
        let tasks = host.client().tasks().await;
        let running = tasks.iter().filter(|t| t.status.state == TaskState::Running && t.desired == TaskState::Running);
        (running.count() == count).then_some(())
    })
    .await;
}

async fn wait_state(host: &Host, agent: &Agent, state: NodeState) {
    eventually(&format!("{} is {state:?}", agent.node), || async {
        let view = host.client().node(agent.node).await?;
        (view.node.status.state == state).then_some(())
    })
    .await;
}

async fn drain_managers(host: &Host) {
    for view in host.client().nodes().await {
        if view.node.role == NodeRole::Manager {
            host.client().update_node(view.node.id, drain).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_begins_whole_goes_on_by_differences_and_can_begin_anew() {
    let host = found(quick_spec()).await;
    drain_managers(&host).await;
    let agent = worker(&host, &host).await;
    wait_state(&host, &agent, NodeState::Ready).await;
    host.client().create("web", 5).await.unwrap();
    wait_running(&host, 5).await;
    let seen = agent.seen();
    assert_eq!((seen.whole, seen.set.tasks.len()), (1, 5));
    assert!(seen.differences >= 1);
    assert_eq!(seen.role, "worker");
    assert_eq!(seen.managers, 1);
    eventually("reports are committed", || async { (agent.seen().committed >= 5).then_some(()) }).await;

    agent.resync().await;
    eventually("a second whole set", || async { (agent.seen().whole == 2).then_some(()) }).await;
    assert_eq!(agent.seen().set.tasks.len(), 5);
    host.manager.unwrap().shutdown().await;
    eventually("goodbye", || async { agent.seen().goodbye.then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_session_replaces_the_first_and_a_removed_node_gets_none() {
    let host = found(quick_spec()).await;
    let identity = join_identity(&host, NodeRole::Worker).await;
    let first = Agent::start(&identity, &host.peer().address).await.unwrap();
    wait_state(&host, &first, NodeState::Ready).await;
    let second = Agent::start(&identity, &host.peer().address).await.unwrap();
    let ended = eventually("the first ends", || async { first.seen().ended }).await;
    assert!(ended.contains("newer session"), "{ended}");
    assert!(second.seen().ended.is_none());
    let remove = WriteRequest::RemoveNode { id: identity.node(), force: true };
    host.client().write(remove).await.unwrap();
    let ended = eventually("the second ends", || async { second.seen().ended }).await;
    assert!(ended.contains("removed"), "{ended}");
    host.manager.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_may_hold_their_session_with_any_manager() {
    let hosts = three(quick_spec()).await;
    drain_managers(&hosts[0]).await;
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(worker(&hosts[0], host).await);
    }
    for agent in &agents {
        wait_state(&hosts[0], agent, NodeState::Ready).await;
        eventually("all managers are known", || async { (agent.seen().managers == 3).then_some(()) }).await;
    }
    hosts[1].client().create("web", 9).await.unwrap();
    wait_running(&hosts[2], 9).await;
    for agent in &agents {
        assert_eq!(agent.seen().set.tasks.len(), 3, "spread evenly");
        let peers = agent.seen().set.network.probe_peers;
        assert_eq!(peers.len(), 5, "all other nodes: {peers:?}");
        assert!(peers.iter().all(|peer| peer.node != agent.node));
    }
    for host in hosts {
        host.manager.unwrap().abort().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p04_silence_alone_replaces_nothing_and_two_witnesses_do() {
    let host = found(quick_spec()).await;
    drain_managers(&host).await;
    let [stalled, dead, witness] = [worker(&host, &host).await, worker(&host, &host).await, worker(&host, &host).await];
    for agent in [&stalled, &dead, &witness] {
        wait_state(&host, agent, NodeState::Ready).await;
    }
    host.client().create("web", 6).await.unwrap();
    wait_running(&host, 6).await;
    let on_stalled: Vec<_> = stalled.seen().set.tasks.keys().copied().collect();
    assert_eq!(on_stalled.len(), 2);

    witness.probe(stalled.node, true).await;
    stalled.fall_silent();
    wait_state(&host, &stalled, NodeState::Unreachable).await;
    let tasks = host.client().tasks().await;
    for id in &on_stalled {
        let task = tasks.iter().find(|t| t.id == *id).expect("still there");
        assert_eq!(task.desired, TaskState::Running, "a stalled daemon loses no task");
    }

    dead.fall_silent();
    witness.probe(dead.node, false).await;
    wait_state(&host, &dead, NodeState::Down).await;
    eventually("replaced on the witness", || async {
        (witness.seen().set.tasks.values().filter(|t| t.desired == TaskState::Running).count() == 4).then_some(())
    })
    .await;
    let tasks = host.client().tasks().await;
    assert!(on_stalled.iter().all(|id| tasks.iter().any(|t| t.id == *id && t.desired == TaskState::Running)));
    host.manager.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p20_log_lines_that_cannot_be_had_are_a_warning() {
    use proto::v1::{LogOptions, LogsCall, logs_event::Event};
    let host = found(quick_spec()).await;
    drain_managers(&host).await;
    let agent = worker(&host, &host).await;
    wait_state(&host, &agent, NodeState::Ready).await;
    let service = host.client().create("web", 1).await.unwrap();
    wait_running(&host, 1).await;
    let node = agent.node;
    drop(agent);
    tokio::time::timeout(Duration::from_secs(10), async {
        let options = LogOptions { tail: -1, stdout: true, ..LogOptions::default() };
        let call = LogsCall { service: service.to_string(), options: Some(options), ..LogsCall::default() };
        let mut events = host.client().0.logs(call).await.unwrap().into_inner();
        let event = events.message().await.unwrap().expect("a warning");
        let Some(Event::Warning(text)) = event.event else { panic!("{event:?}") };
        assert!(text.contains(&node.to_string()), "{text}");
        assert!(events.message().await.unwrap().is_none(), "the stream ends");
    })
    .await
    .expect("in bounded time");
    host.manager.unwrap().shutdown().await;
}

/// P16: what a node has no task of it gets from nobody, and whoever is asked can find that out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_16_only_a_node_with_a_task_of_an_image_gets_it_from_others() {
    let host = found(quick_spec()).await;
    drain_managers(&host).await;
    let identity = join_identity(&host, NodeRole::Worker).await;
    let agent = Agent::start(&identity, &host.peer().address).await.unwrap();
    wait_state(&host, &agent, NodeState::Ready).await;
    let dial = |identity: &identity::NodeIdentity| {
        let identity = identity.clone();
        let connect = move |address| identity.clone().connect(address);
        ImageDirectoryClient::new(proto::transport::channel(&host.peer().address, connect))
    };
    let mut directory = dial(&identity);
    let holders = |image: &str| HoldersCall { image: image.to_owned() };
    let refused = directory.holders(holders("busybox:1")).await.expect_err("it has no task");
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    host.client().create("web", 1).await.unwrap();
    wait_running(&host, 1).await;

    let named = directory.holders(holders("docker.io/library/busybox:1")).await.unwrap().into_inner().holders;
    let manager = host.node().to_string();
    assert!(named.iter().all(|holder| holder.node == manager), "the others, and not itself: {named:?}");
    assert!(directory.holders(holders("busybox:2")).await.is_err(), "of another image it has no task");
    assert_eq!(directory.holders(holders("UPPER")).await.expect_err("no name").code(), tonic::Code::InvalidArgument);
    let mut may = async |node: String, image: &str| {
        let call = MayFetchCall { node, image: image.to_owned() };
        directory.may_fetch(call).await.unwrap().into_inner().allowed
    };
    assert!(may(agent.node.to_string(), "busybox:1").await);
    assert!(!may(agent.node.to_string(), "busybox:2").await && !may(manager, "busybox:1").await);
    host.manager.unwrap().shutdown().await;
}
