//! What all tasks of the cluster use now, through whichever managers hold the sessions of their nodes (P38).

use std::{collections::BTreeMap, time::Duration};

use futures::future;
use proto::v1::HeldUsageCall;
use tonic::Request;
use types::{ClusterUsage, HeldUsage, ManagerPeer, MissingUsage, NodeId, NodeState};

use crate::{
    dispatch::usage::UsageBroker,
    raft::{Consensus, peers},
};

/// For another manager to ask its nodes; longer than it waits for them.
const MANAGER_PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(crate) struct UsageReader {
    pub(crate) consensus: Consensus,
    pub(crate) broker: UsageBroker,
}

impl UsageReader {
    /// Of each node its tasks, or why they are not known.
    pub(crate) async fn read(&self) -> ClusterUsage {
        let managers = peers::managers(&self.consensus.tables());
        let others = managers.into_iter().filter(|peer| peer.node != self.consensus.node());
        let asked = future::join_all(others.map(|peer| self.remote(peer)));
        let (own, answers) = tokio::join!(self.broker.held(), asked);
        let (mut nodes, mut silent, mut quiet) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for answer in answers.into_iter().chain([Ok(own)]) {
            match answer {
                Ok(held) => {
                    nodes.extend(held.nodes.into_iter().map(|usage| (usage.node, usage)));
                    silent.extend(held.silent.into_iter().map(|node| (node, ())));
                }
                Err(address) => quiet.push(address),
            }
        }
        let tables = self.consensus.tables();
        let mut missing = Vec::new();
        for node in tables.nodes().filter(|node| !nodes.contains_key(&node.id)) {
            let why = why(node.status.state, silent.contains_key(&node.id), &quiet);
            missing.push(MissingUsage { node: node.id, why });
        }
        nodes.retain(|id: &NodeId, _| tables.node(*id).is_some());
        ClusterUsage { nodes: nodes.into_values().collect(), missing }
    }

    /// Or the address of one that did not answer.
    async fn remote(&self, peer: ManagerPeer) -> Result<HeldUsage, String> {
        let mut client = self.consensus.client(&peer.address);
        let mut call = Request::new(HeldUsageCall {});
        call.set_timeout(MANAGER_PATIENCE);
        let answer = tokio::time::timeout(MANAGER_PATIENCE, client.held_usage(call)).await;
        let held = answer.ok().and_then(Result::ok).and_then(|held| proto::decode(&held.into_inner().held_usage).ok());
        held.ok_or(peer.address)
    }
}

fn why(state: NodeState, was_asked: bool, quiet: &[String]) -> String {
    match (was_asked, quiet) {
        (true, _) => "it holds its session with a manager and did not answer in time: look at the load of that host \
                      and the version of its daemon"
            .to_owned(),
        (false, _) if state == NodeState::Down => "it is down".to_owned(),
        (false, []) => "it is not connected to any manager: see `rswarm node ls`".to_owned(),
        (false, quiet) => {
            format!("it is not connected to a manager that answers; managers that do not: {}", quiet.join(", "))
        }
    }
}
