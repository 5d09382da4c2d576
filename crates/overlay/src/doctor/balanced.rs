//! The virtual addresses that are really in an endpoint's namespace: nft's listing, read back. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_json::Value;
use types::NetworkId;

use super::Difference;
use crate::{EndpointId, EndpointPlan, NetworkPlan, vip::Services};

/// Reads `nft -j list table`: each virtual address with the addresses it is rewritten to.
pub fn read(listing: &str) -> Result<Services, String> {
    let listing: Value = serde_json::from_str(listing).map_err(|error| format!("nft's listing: {error}"))?;
    let objects = listing["nftables"].as_array().ok_or("nft's listing has no objects")?;
    let mut chains: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    for rule in objects.iter().map(|object| &object["rule"]).filter(|rule| rule.is_object()) {
        let chain = rule["chain"].as_str().unwrap_or_default();
        for expression in rule["expr"].as_array().into_iter().flatten() {
            chains.entry(chain).or_default().extend(targets(&expression["dnat"]["addr"]));
        }
    }
    let mut services = Services::new();
    let maps = objects.iter().map(|object| &object["map"]);
    for map in maps.filter(|map| map["name"].as_str().is_some_and(|name| name.starts_with("vip"))) {
        for element in map["elem"].as_array().into_iter().flatten() {
            let chain = element[1]["goto"]["target"].as_str().unwrap_or_default();
            let Some(vip) = address(&element[0]) else { continue };
            services.insert(vip, chains.get(chain).cloned().unwrap_or_default());
        }
    }
    Ok(services)
}

/// One address, or those of a map from turns to addresses.
fn targets(to: &Value) -> Vec<IpAddr> {
    let turns = to["map"]["data"]["set"].as_array().into_iter().flatten();
    address(to).into_iter().chain(turns.filter_map(|turn| address(&turn[1]))).collect()
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

/// Where the table and the plan say different things.
pub fn differences(
    id: &EndpointId,
    endpoint: &EndpointPlan,
    plan: &NetworkPlan,
    found: &Result<Services, String>,
) -> Vec<(NetworkId, Difference)> {
    let place = format!("namespace of {id}");
    let Some(first) = endpoint.overlays.first().map(|port| port.network) else { return Vec::new() };
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            let unread = Difference::new("virtual addresses", place, "a table".to_owned(), why.clone());
            return vec![(first, unread)];
        }
    };
    let mut wanted: BTreeMap<IpAddr, (NetworkId, &BTreeSet<IpAddr>)> = BTreeMap::new();
    for port in endpoint.overlays.iter().rev() {
        let services = plan.overlays.get(&port.network).into_iter().flat_map(|overlay| &overlay.services);
        wanted.extend(services.map(|(vip, backends)| (*vip, (port.network, backends))));
    }
    let none = BTreeSet::new();
    let said = |vip: &IpAddr, backends: Option<&BTreeSet<IpAddr>>| match backends {
        None => String::new(),
        Some(backends) if backends.iter().all(|b| b.is_ipv4() != vip.is_ipv4()) => "no backend".to_owned(),
        Some(backends) => backends.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let all: BTreeSet<IpAddr> = wanted.keys().chain(found.keys()).copied().collect();
    let differs = |vip: &IpAddr| {
        let (network, backends) = wanted.get(vip).map_or((first, None), |(network, b)| (*network, Some(*b)));
        let there = found.get(vip);
        let same = backends.is_some() == there.is_some()
            && family(vip, backends.unwrap_or(&none)) == family(vip, there.unwrap_or(&none));
        let what = format!("virtual address {vip}");
        (!same).then(|| (network, Difference::new(what, place.clone(), said(vip, backends), said(vip, there))))
    };
    all.iter().filter_map(differs).collect()
}

/// Backends of the virtual address's own family: others cannot be rewritten to.
fn family<'a>(vip: &IpAddr, backends: &'a BTreeSet<IpAddr>) -> BTreeSet<&'a IpAddr> {
    backends.iter().filter(|backend| backend.is_ipv4() == vip.is_ipv4()).collect()
}

#[cfg(test)]
mod tests {
    use super::read;

    /// As nft 1.0.6 prints it, without what is not looked at.
    const LISTING: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
        {"map": {"name": "vip4", "elem": [["10.0.0.100", {"goto": {"target": "vip-a"}}],
                                          ["10.0.0.102", {"goto": {"target": "vip-c"}}]]}},
        {"map": {"name": "vip6"}},
        {"rule": {"chain": "balance", "expr": [{"vmap": {"data": "@vip4"}}]}},
        {"rule": {"chain": "vip-a", "expr": [{"dnat": {"family": "ip", "addr": {"map": {
            "key": {"numgen": {"mode": "inc", "mod": 2, "offset": 0}},
            "data": {"set": [[0, "10.0.0.2"], [1, "10.0.0.3"]]}}}}}]}},
        {"rule": {"chain": "vip-c", "expr": [{"reject": {"type": "tcp reset"}}]}}]}"#;

    #[test]
    fn the_listing_is_read_back() {
        let services = read(LISTING).expect("readable");
        let text: Vec<String> = services.iter().map(|(vip, backends)| format!("{vip} {backends:?}")).collect();
        assert_eq!(text, ["10.0.0.100 {10.0.0.2, 10.0.0.3}", "10.0.0.102 {}"]);
        assert!(read("nonsense").is_err() && read("{}").is_err());
    }
}
