//! Taking a difference in: what a node does with each [`AssignmentDiff`] that fits its number.
//!
//! Called by the agent. The other half, making differences, is `control::assignments`; the two are tested
//! against each other there.

use std::collections::BTreeMap;

use crate::{AssignmentDiff, AssignmentSet, NetworkId, OverlayDiff, OverlayState};

impl AssignmentSet {
    /// Moves the set on by a difference that was made from it.
    pub fn apply(&mut self, difference: AssignmentDiff) {
        for task in &difference.remove {
            self.tasks.remove(task);
        }
        self.tasks.extend(difference.upsert.into_iter().map(|a| (a.id, a)));
        if let Some(network) = difference.network {
            self.network = network;
        }
        for id in &difference.remove_peers {
            self.network.data_path_peers.remove(id);
        }
        self.network.data_path_peers.extend(difference.upsert_peers);
        for id in &difference.remove_dependencies {
            self.dependencies.remove(id);
        }
        self.dependencies.extend(difference.upsert_dependencies);
        for id in &difference.remove_overlays {
            self.overlays.remove(id);
        }
        for overlay in difference.overlays {
            apply_overlay(&mut self.overlays, overlay);
        }
    }
}

/// A difference of a network that is not here holds all of it; one that does not belongs to another set, and
/// there is nothing it could apply to.
fn apply_overlay(overlays: &mut BTreeMap<NetworkId, OverlayState>, difference: OverlayDiff) {
    let state = match (overlays.get_mut(&difference.id), difference.network) {
        (Some(state), network) => {
            if let Some(network) = network {
                state.network = network;
            }
            state
        }
        (None, Some(network)) => overlays.entry(difference.id).or_insert(OverlayState {
            network,
            endpoints: BTreeMap::new(),
            services: BTreeMap::new(),
            containers: BTreeMap::new(),
        }),
        (None, None) => return,
    };
    for id in &difference.remove_endpoints {
        state.endpoints.remove(id);
    }
    for id in &difference.remove_services {
        state.services.remove(id);
    }
    for id in &difference.remove_containers {
        state.containers.remove(id);
    }
    state.endpoints.extend(difference.upsert_endpoints);
    state.services.extend(difference.upsert_services);
    state.containers.extend(difference.upsert_containers);
}
