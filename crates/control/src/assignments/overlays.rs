//! The networks of one node: all that is in them, and what changed, found without looking at what did not.

use std::{collections::BTreeMap, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};
use types::{NetworkId, NodeId, OverlayDiff, OverlayState};

use crate::{Tables, tables::overlay::Overlay};

/// Networks in which the node has a task that has not ended or a single container, with all that is in them; the ingress network, which is
/// every node's; and those that any container may join, whose contents are told when one does.
pub(super) fn of_node(tables: &Tables, node: NodeId) -> BTreeMap<NetworkId, Overlay> {
    let told = |id| Some((id, told(tables.overlay(id)?, node)));
    tables.networks_of_node(node).into_iter().filter_map(told).collect()
}

fn told(overlay: &Overlay, node: NodeId) -> Overlay {
    let takes_part = overlay.network.spec.ingress || overlay.nodes.contains(&node);
    if takes_part { overlay.clone() } else { Overlay::new(Arc::clone(&overlay.network)) }
}

/// The same networks as they are now: only for a node whose tasks did not change.
pub(super) fn again(tables: &Tables, old: &BTreeMap<NetworkId, Overlay>) -> BTreeMap<NetworkId, Overlay> {
    let now = |(id, old): (&NetworkId, &Overlay)| {
        let now = tables.overlay(*id)?;
        // what was told without its contents stays so
        let is_bare = old.nodes.is_empty() && !old.network.spec.ingress;
        Some((*id, if is_bare { old.clone() } else { now.clone() }))
    };
    old.iter().filter_map(now).collect()
}

pub(super) fn have_the_same_nodes(old: &BTreeMap<NetworkId, Overlay>, new: &BTreeMap<NetworkId, Overlay>) -> bool {
    let same = |(a, b): ((&NetworkId, &Overlay), (&NetworkId, &Overlay))| a.0 == b.0 && a.1.nodes.ptr_eq(&b.1.nodes);
    old.len() == new.len() && old.iter().zip(new).all(same)
}

pub(super) fn whole(overlay: &Overlay) -> OverlayState {
    OverlayState {
        network: Arc::clone(&overlay.network),
        endpoints: overlay.endpoints.iter().map(|(id, endpoint)| (*id, (**endpoint).clone())).collect(),
        services: overlay.services.iter().map(|(id, service)| (*id, (**service).clone())).collect(),
        containers: overlay.containers.iter().map(|(id, container)| (id.clone(), (**container).clone())).collect(),
    }
}

/// Differences of the networks that differ, and those that are no longer this node's.
pub(super) fn diff(
    old: &BTreeMap<NetworkId, Overlay>,
    new: &BTreeMap<NetworkId, Overlay>,
) -> (Vec<OverlayDiff>, Vec<NetworkId>) {
    let changed = new.iter().filter_map(|(id, now)| match old.get(id) {
        Some(before) if before == now => None,
        Some(before) => some(diff_overlay(*id, before, now)),
        None => {
            let network = Some(Arc::clone(&now.network));
            Some(OverlayDiff { network, ..diff_overlay(*id, &Overlay::new(Arc::clone(&now.network)), now) })
        }
    });
    let gone = old.keys().filter(|id| !new.contains_key(id)).copied().collect();
    (changed.collect(), gone)
}

/// `None` if it says nothing.
fn some(difference: OverlayDiff) -> Option<OverlayDiff> {
    let empty = OverlayDiff::of(difference.id);
    (difference != empty).then_some(difference)
}

fn diff_overlay(id: NetworkId, old: &Overlay, new: &Overlay) -> OverlayDiff {
    let same = Arc::ptr_eq(&old.network, &new.network) || old.network == new.network;
    let (upsert_endpoints, remove_endpoints) = diff_maps(&old.endpoints, &new.endpoints);
    let (upsert_services, remove_services) = diff_maps(&old.services, &new.services);
    let (upsert_containers, remove_containers) = diff_maps(&old.containers, &new.containers);
    OverlayDiff {
        id,
        network: (!same).then(|| Arc::clone(&new.network)),
        upsert_endpoints,
        remove_endpoints,
        upsert_services,
        remove_services,
        upsert_containers,
        remove_containers,
    }
}

/// Walks only what the two maps do not share.
pub(super) fn diff_maps<K: Ord + Clone, V: Clone + PartialEq>(
    old: &OrdMap<K, Arc<V>>,
    new: &OrdMap<K, Arc<V>>,
) -> (BTreeMap<K, V>, Vec<K>) {
    let (mut upsert, mut remove) = (BTreeMap::new(), Vec::new());
    for item in old.diff(new) {
        match item {
            DiffItem::Add(key, value) | DiffItem::Update { new: (key, value), .. } => {
                upsert.insert(key.clone(), (**value).clone());
            }
            DiffItem::Remove(key, _) => remove.push(key.clone()),
        }
    }
    (upsert, remove)
}

/// The same of two states without anything shared.
pub(super) fn diff_states(old: Option<&OverlayState>, new: &OverlayState) -> Option<OverlayDiff> {
    let id = new.network.id;
    let Some(old) = old else {
        return Some(OverlayDiff {
            network: Some(Arc::clone(&new.network)),
            upsert_endpoints: new.endpoints.clone(),
            upsert_services: new.services.clone(),
            upsert_containers: new.containers.clone(),
            ..OverlayDiff::of(id)
        });
    };
    let (upsert_endpoints, remove_endpoints) = differ(&old.endpoints, &new.endpoints);
    let (upsert_services, remove_services) = differ(&old.services, &new.services);
    let (upsert_containers, remove_containers) = differ(&old.containers, &new.containers);
    some(OverlayDiff {
        network: (old.network != new.network).then(|| Arc::clone(&new.network)),
        upsert_endpoints,
        remove_endpoints,
        upsert_services,
        remove_services,
        upsert_containers,
        remove_containers,
        ..OverlayDiff::of(id)
    })
}

/// What is new or changed, and what is gone, found by looking at everything.
pub(super) fn differ<K: Ord + Clone, V: Clone + PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> (BTreeMap<K, V>, Vec<K>) {
    let news = new.iter().filter(|(key, value)| old.get(key) != Some(value));
    let gone = old.keys().filter(|key| !new.contains_key(key));
    (news.map(|(key, value)| (key.clone(), value.clone())).collect(), gone.cloned().collect())
}
