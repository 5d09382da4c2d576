//! The subnets of networks as Docker's API shows them: `IPAM` (parity N-06, E-31).

use std::{collections::BTreeMap, net::IpAddr};

use node::engine::LocalNetworkView;
use serde_json::{Value, json};
use types::{Cidr, Labels, Network, Subnet, SubnetSpec};

use super::writer::Fields;

/// Of a network of the cluster, whose options come to nothing in Docker where there are none.
pub(crate) fn of_cluster(network: &Network) -> Value {
    let options = network.spec.ipam_options.as_ref().filter(|options| !options.is_empty());
    write(options, &subnets(network))
}

/// Of a network of one host, the host's own bridge included.
pub(crate) fn of_host(view: &LocalNetworkView) -> Value {
    let network = view.network.as_deref();
    let mut config = network.map(own_subnets).unwrap_or_default();
    if let ([], Some(subnet)) = (&config[..], view.subnet) {
        config.push(Fields::new().set("Subnet", subnet).some("Gateway", view.gateway).done());
    }
    write(network.and_then(|network| network.spec.ipam_options.as_ref()), &config)
}

fn write(options: Option<&Labels>, config: &[Value]) -> Value {
    json!({ "Driver": "default", "Options": options, "Config": config })
}

/// As allocated; before that, as asked for.
pub(crate) fn subnets(network: &Network) -> Vec<Value> {
    if network.subnets.is_empty() {
        return network.spec.subnets.iter().map(given).collect();
    }
    let asked = |range: Cidr| network.spec.subnets.iter().find(|asked| asked.subnet == range);
    let one = |subnet: &Subnet| {
        let asked = asked(subnet.range);
        let is_asked = asked.is_some_and(|asked| asked.gateway.is_some());
        let gateway = Some(subnet.gateway).filter(|_| is_asked || has_gateway(network, subnet));
        entry(subnet.range, gateway, subnet.ip_range, asked.map(|asked| &asked.auxiliary))
    };
    network.subnets.iter().map(one).collect()
}

/// As its user gave them, and so a gateway only if he named it: programs compare this with what they asked for. Then
/// what was chosen for a family of which he said nothing.
fn own_subnets(network: &Network) -> Vec<Value> {
    let is_ipv4 = |range: Cidr| range.address().is_ipv4();
    let asked = &network.spec.subnets;
    let of_family = |ipv4: bool| asked.iter().filter(move |asked| is_ipv4(asked.subnet) == ipv4).map(given);
    let is_chosen = |chosen: &&Subnet| !asked.iter().any(|asked| is_ipv4(asked.subnet) == is_ipv4(chosen.range));
    let chosen = network.subnets.iter().filter(is_chosen).map(|chosen| {
        let gateway = Some(chosen.gateway).filter(|_| has_gateway(network, chosen));
        entry(chosen.range, gateway, chosen.ip_range, None)
    });
    of_family(true).chain(of_family(false)).chain(chosen).collect()
}

fn has_gateway(network: &Network, subnet: &Subnet) -> bool {
    network.spec.has_gateway(subnet.gateway.is_ipv4())
}

fn given(asked: &SubnetSpec) -> Value {
    entry(asked.subnet, asked.gateway, asked.ip_range, Some(&asked.auxiliary))
}

fn entry(
    range: Cidr,
    gateway: Option<IpAddr>,
    ip_range: Option<Cidr>,
    auxiliary: Option<&BTreeMap<String, IpAddr>>,
) -> Value {
    Fields::new()
        .set("Subnet", range)
        .some("IPRange", ip_range)
        .some("Gateway", gateway)
        .unless_empty("AuxiliaryAddresses", auxiliary)
        .done()
}
