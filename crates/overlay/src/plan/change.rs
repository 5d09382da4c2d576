//! What differs between two plans of the same host, so that a host with a thousand endpoints and published ports is not
//! told all of them for each change of one. Pure.
//!
//! [`crate::Client`] computes it, `netd` applies it to the plan it holds. Between the two it says what it applies to;
//! whoever holds another plan asks for the whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::NetworkId;

use super::{EndpointId, EndpointPlan, LocalNetworkPlan, NetworkPlan, OverlayPlan, PublishedPorts};

/// From one plan to another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanChange {
    /// The new plan without what the other fields are about; None: all that is as before.
    pub rest: Option<Box<NetworkPlan>>,
    pub endpoints: EntriesChange<EndpointId, EndpointPlan>,
    pub overlays: EntriesChange<NetworkId, OverlayPlan>,
    pub locals: EntriesChange<NetworkId, LocalNetworkPlan>,
    /// None: as before, or there is no mesh any more.
    pub ports: Option<Splice>,
}

/// Entries of a map that came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesChange<K: Ord, V> {
    pub set: BTreeMap<K, V>,
    pub removed: BTreeSet<K>,
}

impl<K: Ord, V> Default for EntriesChange<K, V> {
    fn default() -> Self {
        Self { set: BTreeMap::new(), removed: BTreeSet::new() }
    }
}

/// A stretch of the published ports that others take the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splice {
    pub at: usize,
    pub removed: usize,
    pub with: Vec<PublishedPorts>,
}

/// The change was made from another plan than this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the change is from another plan: it takes published ports away that this one does not have")]
pub struct OtherPlan;

impl NetworkPlan {
    /// What turns `before` into this plan.
    pub fn change_from(&self, before: &Self) -> PlanChange {
        let rest = self.rest();
        let ports = self.ports_of_mesh();
        PlanChange {
            rest: (rest != before.rest()).then(|| Box::new(rest)),
            endpoints: entries_change(&before.endpoints, &self.endpoints),
            overlays: entries_change(&before.overlays, &self.overlays),
            locals: entries_change(&before.locals, &self.locals),
            ports: self.mesh.as_ref().and_then(|_| splice(before.ports_of_mesh(), ports)),
        }
    }

    /// Does the change to this plan.
    ///
    /// # Errors
    /// [`OtherPlan`] when it cannot be from this one; nothing is changed then.
    pub fn change(&mut self, change: PlanChange) -> Result<(), OtherPlan> {
        let PlanChange { rest, endpoints, overlays, locals, ports } = change;
        let had = self.ports_of_mesh().len();
        if ports.as_ref().is_some_and(|splice| splice.at > had || splice.removed > had - splice.at) {
            return Err(OtherPlan);
        }
        if let Some(rest) = rest {
            let kept = self.mesh.as_mut().map(|mesh| std::mem::take(&mut mesh.ports));
            let kept_maps = (
                std::mem::take(&mut self.endpoints),
                std::mem::take(&mut self.overlays),
                std::mem::take(&mut self.locals),
            );
            *self = *rest;
            (self.endpoints, self.overlays, self.locals) = kept_maps;
            if let Some(mesh) = &mut self.mesh {
                mesh.ports = kept.unwrap_or_default();
            }
        }
        endpoints.apply(&mut self.endpoints);
        overlays.apply(&mut self.overlays);
        locals.apply(&mut self.locals);
        if let (Some(splice), Some(mesh)) = (ports, &mut self.mesh) {
            mesh.ports.splice(splice.at..splice.at + splice.removed, splice.with);
        }
        Ok(())
    }

    fn ports_of_mesh(&self) -> &[PublishedPorts] {
        self.mesh.as_ref().map_or(&[], |mesh| &mesh.ports)
    }

    /// Without what grows with the cluster.
    fn rest(&self) -> Self {
        let mesh = self.mesh.as_ref().map(|mesh| super::MeshPlan {
            network: mesh.network,
            mac: mesh.mac,
            addresses: mesh.addresses.clone(),
            entries: mesh.entries.clone(),
            ports: Vec::new(),
            spared: mesh.spared.clone(),
        });
        let (bridge, probes, data_path) = (self.bridge.clone(), self.probes.clone(), self.data_path.clone());
        Self { bridge, probes, data_path, mesh, without_relay: self.without_relay, ..Self::default() }
    }
}

impl<K: Ord, V> EntriesChange<K, V> {
    fn apply(self, map: &mut BTreeMap<K, V>) {
        for key in &self.removed {
            map.remove(key);
        }
        map.extend(self.set);
    }
}

fn entries_change<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
) -> EntriesChange<K, V> {
    let set = now.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let removed = before.keys().filter(|key| !now.contains_key(*key));
    EntriesChange {
        set: set.map(|(key, value)| (key.clone(), value.clone())).collect(),
        removed: removed.cloned().collect(),
    }
}

/// From the first difference to the last.
fn splice(before: &[PublishedPorts], now: &[PublishedPorts]) -> Option<Splice> {
    let at = before.iter().zip(now).take_while(|(had, has)| had == has).count();
    let (before, now) = (&before[at..], &now[at..]);
    let same_end = before.iter().rev().zip(now.iter().rev()).take_while(|(had, has)| had == has).count();
    let (removed, with) = (before.len() - same_end, now[..now.len() - same_end].to_vec());
    (removed > 0 || !with.is_empty()).then_some(Splice { at, removed, with })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{MeshAffinity, NetworkId, PortBind, PortProtocol};

    use super::*;
    use crate::{BridgePlan, MacAddress, plan::MeshPlan};

    fn ports(numbers: &[u16]) -> Vec<PublishedPorts> {
        let port = |number: &u16| PublishedPorts {
            bind: PortBind::All,
            protocol: PortProtocol::Tcp,
            published: (number >> 4, number >> 4),
            target: number & 15,
            backends: Default::default(),
            affinity: MeshAffinity::None,
            proxy_protocol: false,
        };
        numbers.iter().map(port).collect()
    }

    /// Of the numbers: whether there is a bridge and a mesh, endpoints with a hostname each, published ports.
    fn plan(bridge: bool, mesh: bool, endpoints: &BTreeMap<u8, u8>, numbers: &[u16]) -> NetworkPlan {
        let endpoint = |(id, name): (&u8, &u8)| {
            let id = format!("e{id}").parse().expect("an id");
            (id, EndpointPlan { hostname: format!("host{name}"), ..EndpointPlan::default() })
        };
        let mesh = mesh.then(|| MeshPlan {
            network: NetworkId::from_random(1),
            mac: MacAddress::for_node(types::NodeId::from_random(7)),
            addresses: Vec::new(),
            entries: BTreeMap::new(),
            ports: ports(numbers),
            spared: BTreeSet::new(),
        });
        let bridge = bridge.then(|| BridgePlan::new("172.17.0.0/16".parse().expect("subnet")).expect("bridge"));
        NetworkPlan { bridge, endpoints: endpoints.iter().map(endpoint).collect(), mesh, ..NetworkPlan::default() }
    }

    fn plans() -> impl Strategy<Value = NetworkPlan> {
        let endpoints = prop::collection::btree_map(0..6_u8, 0..3_u8, 0..5);
        let numbers = prop::collection::vec(0..64_u16, 0..6);
        (any::<bool>(), any::<bool>(), endpoints, numbers)
            .prop_map(|(bridge, mesh, endpoints, numbers)| plan(bridge, mesh, &endpoints, &numbers))
    }

    proptest! {
        /// P36: whatever two plans are, the change leads from one to the other, through the form that is sent.
        #[test]
        fn p36_a_change_leads_from_plan_to_plan((before, now) in (plans(), plans())) {
            let sent = serde_json::to_string(&now.change_from(&before)).expect("JSON");
            let mut changed = before;
            prop_assert_eq!(changed.change(serde_json::from_str(&sent).expect("a change")), Ok(()));
            prop_assert_eq!(changed, now);
        }
    }

    /// P36: what is sent for one service among a thousand is that service.
    #[test]
    fn p36_a_change_of_one_port_is_one_port() {
        let numbers: Vec<u16> = (0..1000).map(|number| number << 4).collect();
        let before = plan(true, true, &BTreeMap::new(), &numbers);
        let mut after = before.clone();
        after.mesh.as_mut().expect("a mesh").ports[500].target = 9;
        let ports = Some(Splice { at: 500, removed: 1, with: ports(&[500 << 4 | 9]) });
        assert_eq!(after.change_from(&before), PlanChange { ports, ..PlanChange::default() });
        assert_eq!(before.change_from(&before), PlanChange::default());
    }

    #[test]
    fn a_change_of_another_plan_changes_nothing() {
        let mut few = plan(true, true, &BTreeMap::new(), &[1, 2]);
        let (many, none) = (plan(true, true, &BTreeMap::new(), &[1, 2, 3]), plan(true, true, &BTreeMap::new(), &[]));
        let untouched = few.clone();
        assert_eq!(few.change(none.change_from(&many)), Err(OtherPlan));
        assert_eq!(few, untouched);
    }
}
