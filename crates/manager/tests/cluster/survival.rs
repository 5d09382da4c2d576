//! A manager goes on alone: others are lost for good, or the cluster comes from a backup (parity C-08, C-42).

use std::time::Duration;

use identity::{CertificateAuthority, KeyPair, NodeIdentity, Subject, Vault};
use manager::{BackedUp, Manager};
use types::{NodeId, NodeRole, ReadReply, ReadRequest, UnlockKey};

use crate::harness::{Host, Told, config, eventually, first_node, found, join_manager, leader, now, quick_spec, three};

/// What must be the same wherever the cluster lives: who it is, and what is wanted of it.
fn wanted(host: &Host) -> (types::Cluster, Vec<String>, Vec<NodeId>) {
    let tables = host.manager().watch().borrow().clone();
    let services = tables.services().map(|service| service.spec.name.to_string()).collect();
    let nodes = tables.nodes().map(|node| node.id).collect();
    ((**tables.cluster().unwrap()).clone(), services, nodes)
}

fn roles(host: &Host) -> Vec<(NodeId, NodeRole, bool)> {
    let tables = host.manager().watch().borrow().clone();
    tables.nodes().map(|node| (node.id, node.spec.role, node.raft.is_some())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_08_one_of_three_goes_on_alone_and_the_others_cannot_take_it_back() {
    let mut hosts = three(quick_spec()).await;
    hosts[0].client().create("before", 1).await.unwrap();
    let index = hosts[0].client().counts().await.index;
    let lead = leader(&hosts).await;
    let left = (lead + 1) % 3;
    eventually("the one that is left has all", || async {
        (hosts[left].client().counts().await.index >= index).then_some(())
    })
    .await;
    let before = wanted(&hosts[left]);
    for host in &mut hosts {
        host.kill().await;
    }
    let me = hosts[left].node();
    hosts[left].manager = Some(Manager::open_alone(hosts[left].config.clone()).await.unwrap());
    let status = hosts[left].manager().status();
    assert_eq!((status.voters, status.is_leader, status.members.len()), (1, true, 1));
    assert_eq!(wanted(&hosts[left]), before);
    for (id, role, in_group) in roles(&hosts[left]) {
        let expected = if id == me { (NodeRole::Manager, true) } else { (NodeRole::Worker, false) };
        assert_eq!((role, in_group), expected, "{id}");
    }
    hosts[left].client().create("after", 1).await.unwrap();
    // the two that were given up come back after all: together they are a majority of the group that was
    for other in [(left + 1) % 3, (left + 2) % 3] {
        hosts[other].restart().await;
    }
    eventually("they lead each other", || async {
        let other = [(left + 1) % 3, (left + 2) % 3].map(|at| hosts[at].manager().status().is_leader);
        other.contains(&true).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let status = hosts[left].manager().status();
    assert_eq!((status.voters, status.is_leader, status.leader), (1, true, Some(me)), "nobody leads it");
    hosts[left].client().create("later", 1).await.unwrap();
    assert_eq!(wanted(&hosts[left]).1.len(), 3);
    // and after a restart it is the same manager, and takes others in again
    for other in [(left + 1) % 3, (left + 2) % 3] {
        hosts[other].kill().await;
    }
    hosts[left].kill().await;
    hosts[left].restart().await;
    eventually("it leads again", || async { hosts[left].manager().status().is_leader.then_some(()) }).await;
    let second = join_manager(&hosts[left]).await;
    eventually("two voters", || async { (second.manager().status().voters == 2).then_some(()) }).await;
    assert_eq!(wanted(&second).1, wanted(&hosts[left]).1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_08_a_manager_without_a_value_has_nothing_to_go_on_from() {
    let host = found(quick_spec()).await;
    let directory = tempfile::tempdir().unwrap();
    let fresh = config(&directory, host.config.identity.clone(), &Told::default());
    let refused = Manager::open_alone(fresh).await.err().unwrap().to_string();
    assert!(refused.contains("not a manager yet"), "{refused}");
    // a port that is taken: the disk stays as it is
    let mut taken = host;
    let address = taken.manager().local_address();
    taken.kill().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let refused = Manager::open_alone(taken.config.clone()).await.err().unwrap().to_string();
    assert!(refused.contains("--listen-addr"), "{refused}");
    drop(listener);
    taken.restart().await;
    eventually("it leads as before", || async { taken.manager().status().is_leader.then_some(()) }).await;
}

async fn backup(host: &Host) -> (types::BackupWords, Vec<u8>) {
    match host.client().read(ReadRequest::Backup).await {
        ReadReply::Backup { words, content } => (*words, content.bytes().to_vec()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_42_p58_a_cluster_comes_back_from_a_backup_on_another_host() {
    let mut host = found(quick_spec()).await;
    let second = join_manager(&host).await;
    host.client().create("web", 3).await.unwrap();
    let (words, content) = backup(&host).await;
    assert_eq!((words.cluster, words.manager), (host.config.identity.cluster(), host.node()));
    assert_eq!((words.nodes, words.managers, words.services), (2, 2, 1));
    // what is written later is not in it
    host.client().create("late", 1).await.unwrap();
    let (cluster, _, _) = wanted(&host);
    second.manager.unwrap().abort().await;
    host.kill().await;

    let from = BackedUp::decode(&content).unwrap();
    let root = from.cluster().root_ca.clone();
    let key = KeyPair::generate().unwrap();
    let subject = Subject { node: NodeId::from_random(4711), role: NodeRole::Manager, cluster: from.cluster().id };
    let authority = CertificateAuthority::of_cluster(&root).unwrap();
    let chain = authority.sign(key.csr_pem(), &subject, now(), Duration::from_secs(3600)).unwrap();
    let identity = NodeIdentity::from_pem(key.pem(), &chain).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let told = Told::default();
    let config = config(&directory, identity, &told);
    let manager = Manager::restore(config.clone(), from, first_node(subject.node)).await.unwrap();
    let restored = Host { told, directory, config, manager: Some(manager) };
    let (same, services, nodes) = wanted(&restored);
    assert_eq!((same.id, &same.root_ca, &same.join), (cluster.id, &cluster.root_ca, &cluster.join));
    assert_eq!(services, ["web"]);
    assert_eq!(nodes.len(), 3, "the old ones, and this host");
    let managers: Vec<NodeId> =
        roles(&restored).into_iter().filter(|(_, role, _)| *role == NodeRole::Manager).map(|(id, _, _)| id).collect();
    assert_eq!(managers, [subject.node]);
    restored.client().create("new", 1).await.unwrap();
    // not over one that is there
    let again = BackedUp::decode(&content).unwrap();
    let refused = Manager::restore(restored.config.clone(), again, first_node(subject.node)).await;
    assert!(refused.is_err());
    assert!(restored.manager().status().is_leader);
    restored.manager.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_42_what_is_no_value_is_refused_before_anything_is_written() {
    assert!(BackedUp::decode(b"hello").err().unwrap().to_string().contains("is not understood"));
    let host = found(quick_spec()).await;
    let (_, content) = backup(&host).await;
    for length in [0, 1, content.len() / 2, content.len() - 1] {
        assert!(BackedUp::decode(&content[..length]).is_err(), "{length}");
    }
    // keys of a cluster that locks its managers are sealed from the first byte on
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::open(directory.path(), &[manager::DATA_KEY_FILE]).unwrap();
    vault.settle(Some(&UnlockKey([5; 32]))).unwrap();
    let config = manager::Config { vault, ..config(&directory, host.config.identity.clone(), &Told::default()) };
    let from = BackedUp::decode(&content).unwrap();
    let manager = Manager::restore(config, from, first_node(host.node())).await.unwrap();
    let key = std::fs::read(directory.path().join(manager::DATA_KEY_FILE)).unwrap();
    assert!(key.starts_with(b"RSWARM-SEALED"));
    manager.abort().await;
    host.manager.unwrap().shutdown().await;
}
