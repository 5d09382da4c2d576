//! Promotion, demotion, leaving, removal, a new address (parity C-21, P07).

use tonic::Code;
use types::{NodeRole, WriteRequest};

use crate::{
    agent::Agent,
    harness::{
        Host, eventually, found, found_called, join_identity, leader, quick_spec, start_manager, three, wait_for_voters,
    },
};

async fn wait_voters_at(host: &Host, count: usize) {
    eventually(&format!("{count} voters"), || async { (host.manager().status().voters == count).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_21_a_worker_is_promoted_and_demoted() {
    let host = found(quick_spec()).await;
    let identity = join_identity(&host, NodeRole::Worker).await;
    let id = identity.node();
    host.client().update_node(id, |spec| spec.role = NodeRole::Manager).await.unwrap();
    eventually("the value says manager", || async {
        (host.client().node(id).await?.node.role == NodeRole::Manager).then_some(())
    })
    .await;
    // the node renews, which gives it a manager's certificate, and asks to be let in
    let key = identity::KeyPair::generate().unwrap();
    let dialled = identity.clone();
    let channel = proto::transport::channel(&host.peer().address, move |a| dialled.clone().connect(a));
    let call = proto::v1::RenewCall { csr_pem: key.csr_pem().to_owned() };
    let answer = proto::v1::ca_client::CaClient::new(channel).renew(call).await.unwrap().into_inner();
    identity.replace(key.pem(), &answer.chain_pem).unwrap();
    assert_eq!(identity.role(), NodeRole::Manager);
    let mut second = start_manager(&host, identity).await;
    wait_voters_at(&host, 2).await;
    second.client().create("web", 0).await.unwrap();

    host.client().update_node(id, |spec| spec.role = NodeRole::Worker).await.unwrap();
    wait_voters_at(&host, 1).await;
    eventually("the value says worker", || async {
        let node = host.client().node(id).await?.node;
        (node.role == NodeRole::Worker && node.raft.is_none()).then_some(())
    })
    .await;
    second.manager.take().unwrap().abort().await;
    host.client().create("alone", 0).await.unwrap();
    let last = host.client().update_node(host.node(), |spec| spec.role = NodeRole::Worker).await.unwrap_err();
    assert_eq!(last.code(), Code::FailedPrecondition, "{last}");
    host.manager.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_21_a_demoted_leader_hands_over_first() {
    let hosts = three(quick_spec()).await;
    let lead = leader(&hosts).await;
    let other = &hosts[(lead + 1) % 3];
    other.client().update_node(hosts[lead].node(), |spec| spec.role = NodeRole::Worker).await.unwrap();
    wait_voters_at(other, 2).await;
    eventually("the value says worker", || async {
        (other.client().node(hosts[lead].node()).await?.node.role == NodeRole::Worker).then_some(())
    })
    .await;
    other.client().create("web", 0).await.unwrap();
    for host in hosts {
        host.manager.unwrap().abort().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_12_a_manager_that_leaves_is_out_of_the_group_first() {
    let hosts = three(quick_spec()).await;
    let lead = leader(&hosts).await;
    let leaving = &hosts[lead];
    leaving.client().write(WriteRequest::Leave { id: leaving.node(), force: false }).await.unwrap();
    let other = &hosts[(lead + 1) % 3];
    wait_voters_at(other, 2).await;
    let node = other.client().node(leaving.node()).await.unwrap().node;
    assert!(node.raft.is_none());
    for host in hosts {
        host.manager.unwrap().abort().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_manager_is_removed_by_force_and_the_last_majority_is_kept() {
    let mut hosts = three(quick_spec()).await;
    let lead = leader(&hosts).await;
    let (dead, other) = ((lead + 1) % 3, (lead + 2) % 3);
    let id = hosts[dead].node();
    hosts[dead].kill().await;
    let plain = hosts[other].client().write(WriteRequest::RemoveNode { id, force: false }).await.unwrap_err();
    assert_eq!(plain.code(), Code::FailedPrecondition, "{plain}");
    // with one of three dead, one that lives cannot be spared
    let spare = WriteRequest::RemoveNode { id: hosts[other].node(), force: true };
    tokio::time::sleep(std::time::Duration::from_millis(2200)).await;
    let refused = hosts[lead].client().write(spare).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("majority"), "{refused}");
    hosts[other].client().write(WriteRequest::RemoveNode { id, force: true }).await.unwrap();
    wait_voters_at(&hosts[lead], 2).await;
    assert!(hosts[lead].client().node(id).await.is_none());
    for host in hosts {
        if let Some(manager) = host.manager {
            manager.abort().await;
        }
    }
}

/// C-03: behind NAT, or with a floating address, what others call a manager is no address of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_03_the_agent_of_a_manager_reaches_it_whatever_others_call_it() {
    let called = "198.51.100.7:2377";
    let host = found_called(quick_spec(), called).await;
    assert_eq!(host.manager().status().members[0].address, called);
    let agent = Agent::start(&host.config.identity, called).await.unwrap();
    eventually("it is welcomed", || async { (agent.seen().managers == 1).then_some(()) }).await;
    host.manager.unwrap().abort().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p07_a_manager_that_moved_announces_its_address() {
    let mut hosts = three(quick_spec()).await;
    let lead = leader(&hosts).await;
    let moving = (lead + 1) % 3;
    hosts[moving].kill().await;
    hosts[moving].config.listen = "127.0.0.1:0".parse().unwrap();
    hosts[moving].config.advertise = "127.0.0.1:0".to_owned();
    hosts[moving].restart().await;
    let address = hosts[moving].manager().local_address().to_string();
    eventually("the new address is in the value", || async {
        let members = hosts[lead].manager().status().members;
        members.iter().any(|m| m.node == hosts[moving].node() && m.address == address).then_some(())
    })
    .await;
    wait_for_voters(&hosts, 3).await;
    hosts[lead].client().create("web", 0).await.unwrap();
    eventually("it follows", || async { (hosts[moving].client().counts().await.services == 1).then_some(()) }).await;
    for host in hosts {
        host.manager.unwrap().abort().await;
    }
}
