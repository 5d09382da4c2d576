//! Whether other hosts still lead new connections to endpoints of this host that are on their way out (P05). Pure.
//!
//! A host that answers that it does not has done what a newer plan asks of it. So nobody has to guess how long the slowest
//! of them takes, and nothing goes through a manager.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use types::{NodeId, ProbePeer};

use super::message::MOST_ADDRESSES;
use crate::NetworkPlan;

/// What is on its way out here, and who may lead something to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Draining {
    /// Of endpoints of this host, in overlays.
    pub addresses: BTreeSet<IpAddr>,
    /// This host is one of them.
    pub hosts: Vec<ProbePeer>,
}

/// Of each address that is on its way out the nodes that have not said that they lead nothing new there.
pub type Led = BTreeMap<IpAddr, BTreeSet<NodeId>>;

/// What was asked and answered.
#[derive(Debug, Default)]
pub struct Drain {
    draining: Draining,
    released: BTreeMap<NodeId, BTreeSet<IpAddr>>,
    /// Number of the newest question.
    asked: u64,
    /// Answers to older questions are of a time when an address may have been another endpoint's.
    newer_than: u64,
}

impl Drain {
    pub fn set(&mut self, wanted: &Draining) {
        if !wanted.addresses.is_subset(&self.draining.addresses) {
            self.newer_than = self.asked;
        }
        self.draining.clone_from(wanted);
        let hosts: BTreeSet<NodeId> = wanted.hosts.iter().map(|host| host.node).collect();
        self.released.retain(|node, _| hosts.contains(node));
        self.released.values_mut().for_each(|known| known.retain(|address| wanted.addresses.contains(address)));
    }

    /// Whom to ask about what, and the number of the questions.
    pub fn questions(&mut self) -> (u64, Vec<(ProbePeer, Vec<IpAddr>)>) {
        let mut questions = Vec::new();
        for host in &self.draining.hosts {
            let known = self.released.get(&host.node);
            let open =
                self.draining.addresses.iter().filter(|address| known.is_none_or(|known| !known.contains(address)));
            let open: Vec<IpAddr> = open.take(MOST_ADDRESSES).copied().collect();
            if !open.is_empty() {
                questions.push((*host, open));
            }
        }
        self.asked += u64::from(!questions.is_empty());
        (self.asked, questions)
    }

    /// The node said so in answer to question `number`.
    pub fn released(&mut self, node: NodeId, number: u64, addresses: Vec<IpAddr>) {
        let is_asked = self.draining.hosts.iter().any(|host| host.node == node);
        if is_asked && number > self.newer_than && number <= self.asked {
            let draining = &self.draining.addresses;
            let meant = addresses.into_iter().filter(|address| draining.contains(address));
            self.released.entry(node).or_default().extend(meant);
        }
    }

    pub fn led(&self) -> Led {
        let by_whom = |address: &IpAddr| {
            let hosts = self.draining.hosts.iter().map(|host| host.node);
            let has_released = |node: &NodeId| self.released.get(node).is_some_and(|known| known.contains(address));
            hosts.filter(|node| !has_released(node)).collect()
        };
        self.draining.addresses.iter().map(|address| (*address, by_whom(address))).collect()
    }
}

impl NetworkPlan {
    /// Whether new connections are led to this address in an overlay, through a virtual address or a published port.
    pub fn leads_to(&self, address: &IpAddr) -> bool {
        let balanced = |backends: &BTreeSet<IpAddr>| backends.contains(address);
        self.overlays.values().any(|overlay| overlay.services.values().any(balanced))
            || self.mesh.iter().flat_map(|mesh| &mesh.ports).any(|port| port.backends.contains_key(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u128) -> NodeId {
        NodeId::from_random(number)
    }

    fn draining(addresses: &[u8], hosts: &[u128]) -> Draining {
        let host = |number: &u128| ProbePeer { node: node(*number), address: [192, 0, 2, 1].into() };
        let addresses = addresses.iter().map(|last| [10, 0, 0, *last].into()).collect();
        Draining { addresses, hosts: hosts.iter().map(host).collect() }
    }

    fn led(drain: &Drain) -> String {
        let of = |(address, nodes): (&IpAddr, &BTreeSet<NodeId>)| {
            let nodes: Vec<String> = nodes.iter().map(|node| node.as_u128().to_string()).collect();
            format!("{address} by {}", nodes.join(","))
        };
        drain.led().iter().map(of).collect::<Vec<_>>().join("; ")
    }

    /// P05: an endpoint is let go once every host has said so, each for each address.
    #[test]
    fn p05_each_host_is_asked_until_it_leads_nothing_there() {
        let mut drain = Drain::default();
        assert_eq!(drain.questions().1, []);
        drain.set(&draining(&[7, 8], &[1, 2]));
        let (first, questions) = drain.questions();
        assert_eq!(
            questions.iter().map(|(host, open)| (host.node, open.len())).collect::<Vec<_>>(),
            [(node(1), 2), (node(2), 2)]
        );
        drain.released(node(1), first, vec![[10, 0, 0, 7].into(), [10, 0, 0, 99].into()]);
        drain.released(node(3), first, vec![[10, 0, 0, 7].into()]);
        assert_eq!(led(&drain), "10.0.0.7 by 2; 10.0.0.8 by 1,2");
        let (second, questions) = drain.questions();
        assert_eq!(questions[0].1, [IpAddr::from([10, 0, 0, 8])]);
        drain.released(node(1), second, questions[0].1.clone());
        drain.released(node(2), second, questions[1].1.clone());
        assert_eq!(led(&drain), "10.0.0.7 by ; 10.0.0.8 by ");
        assert_eq!(drain.questions().1, []);
    }

    #[test]
    fn an_answer_of_before_counts_for_nothing_that_came_since() {
        let mut drain = Drain::default();
        drain.set(&draining(&[7], &[1]));
        let (old, _) = drain.questions();
        drain.set(&draining(&[], &[]));
        drain.set(&draining(&[7], &[1]));
        drain.released(node(1), old, vec![[10, 0, 0, 7].into()]);
        assert_eq!(led(&drain), "10.0.0.7 by 1");
        let (new, _) = drain.questions();
        drain.released(node(1), new, vec![[10, 0, 0, 7].into()]);
        drain.set(&draining(&[7, 8], &[1]));
        assert_eq!(led(&drain), "10.0.0.7 by ; 10.0.0.8 by 1", "what was answered stays answered");
    }
}
