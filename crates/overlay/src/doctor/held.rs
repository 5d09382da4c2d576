//! What the data plane process was told of an overlay, against what the cluster says of it now. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::IpAddr,
};

use super::Difference;
use crate::OverlayPlan;

const PLACE: &str = "plan of rswarm netd";

/// `value` is None for a network that the cluster does not name any more.
pub fn differences(value: Option<&OverlayPlan>, held: &OverlayPlan) -> Vec<Difference> {
    let Some(value) = value else {
        let found = format!("a plan with {} endpoints elsewhere", held.remotes.len());
        return vec![Difference::new("network", PLACE, "nothing, the cluster does not name it".to_owned(), found)];
    };
    let mut differences = Vec::new();
    let whole = |overlay: &OverlayPlan| {
        let OverlayPlan { name, vni, subnets, mtu, encrypted, .. } = overlay;
        format!("{name}, VXLAN {vni}, {subnets:?}, MTU {mtu:?}, encrypted: {encrypted}")
    };
    if whole(value) != whole(held) {
        differences.push(Difference::new("network", PLACE, whole(value), whole(held)));
    }
    compare(&mut differences, "endpoint", &value.remotes, &held.remotes, |remote| {
        format!("{} at {}", list(&remote.addresses), remote.host)
    });
    let backends = |backends: &BTreeSet<IpAddr>| format!("backends [{}]", list(backends));
    compare(&mut differences, "virtual address", &value.services, &held.services, backends);
    compare(&mut differences, "name", &value.names, &held.names, |addresses| format!("[{}]", list(addresses)));
    compare(&mut differences, "reverse name of", &value.reverse, &held.reverse, Clone::clone);
    differences
}

fn list<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> String {
    addresses.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn compare<K: Ord + ToString, V: PartialEq + Debug>(
    differences: &mut Vec<Difference>,
    what: &str,
    value: &BTreeMap<K, V>,
    held: &BTreeMap<K, V>,
    say: impl Fn(&V) -> String,
) {
    let keys: BTreeSet<&K> = value.keys().chain(held.keys()).collect();
    for key in keys.into_iter().filter(|key| value.get(key) != held.get(key)) {
        let (expected, found) = (value.get(key).map(&say), held.get(key).map(&say));
        let what = format!("{what} {}", key.to_string());
        differences.push(Difference::new(what, PLACE, expected.unwrap_or_default(), found.unwrap_or_default()));
    }
}
