//! What the last proposals touched, so that work can follow the change. Not part of the value: it is
//! neither in snapshots nor compared.

use std::{collections::BTreeSet, sync::Arc};

use imbl::OrdMap;
use types::{NetworkId, NodeId, ServiceId};

/// How many proposals are remembered. A reader further behind looks at everything, which is always
/// right; 4096 is some seconds of a busy cluster.
const REMEMBERED: usize = 4096;

/// Objects touched by proposals. A service counts as touched when one of its tasks is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    pub cluster: bool,
    pub services: BTreeSet<ServiceId>,
    /// Whose own object changed (state, labels, availability, description), or that came or went.
    pub nodes: BTreeSet<NodeId>,
    /// Whose tasks changed.
    pub node_tasks: BTreeSet<NodeId>,
    /// That came, went or got another subnet.
    pub networks: BTreeSet<NetworkId>,
    /// In which a task, a service or a node came, went or changed what others see of it.
    pub overlays: BTreeSet<NetworkId>,
    /// A task that had a node ended or went, or a service gave an address back: there is more room.
    pub freed: bool,
    /// A task got a node: there is less room.
    pub taken: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    entries: OrdMap<u64, Arc<Touched>>,
}

impl Journal {
    pub(super) fn record(&mut self, index: u64, touched: Touched) {
        self.entries.insert(index, Arc::new(touched));
        while self.entries.len() > REMEMBERED {
            let Some((oldest, _)) = self.entries.get_min().cloned() else { break };
            self.entries.remove(&oldest);
        }
    }

    /// Forgets everything, so that a reader of the tables looks at all of them.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn since(&self, index: u64, now: u64) -> Option<Touched> {
        if index == now {
            return Some(Touched::default());
        }
        let (oldest, _) = self.entries.get_min()?;
        // entry `index` itself must be known, else something between may have been forgotten
        if index > now || *oldest > index {
            return None;
        }
        let mut all = Touched::default();
        for (_, touched) in self.entries.range(index + 1..) {
            all.cluster |= touched.cluster;
            all.services.extend(&touched.services);
            all.nodes.extend(&touched.nodes);
            all.node_tasks.extend(&touched.node_tasks);
            all.networks.extend(&touched.networks);
            all.overlays.extend(&touched.overlays);
            all.freed |= touched.freed;
            all.taken |= touched.taken;
        }
        Some(all)
    }
}
