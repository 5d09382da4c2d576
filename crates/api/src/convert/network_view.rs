//! Networks as Docker's API shows them: in lists, inspected, and as parts of tasks and services.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use node::engine::{LocalEndpoint, LocalNetworkView, endpoint_id, host_network_id, predefined_network_id};
use serde::Serialize;
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use types::{Attachment, Network, NetworkDriver, NetworkId, Task, Timestamp, VirtualIp};

use super::{
    ipam,
    network::{PREDEFINED, VNI_OPTION, driver_name},
    time::rfc3339,
    writer::Fields,
};

/// The networks that services and tasks refer to.
pub(crate) type Networks = BTreeMap<NetworkId, Network>;

/// A network as a list shows it.
pub(crate) fn write(network: &Network) -> Fields {
    let spec = &network.spec;
    let mut options = spec.options.clone();
    if network.vni != 0 {
        options.insert(VNI_OPTION.to_owned(), network.vni.to_string());
    }
    let source = spec.config_from.as_ref().map_or("", types::Name::as_str);
    Fields::new()
        .set("Name", &spec.name)
        .set("Id", network.id)
        .set("Created", rfc3339(network.meta.created_at))
        .set("Scope", "swarm")
        .set("Driver", driver_name(spec.driver))
        .set("EnableIPv4", spec.ipv4)
        .set("EnableIPv6", spec.ipv6 || network.subnets.iter().any(|subnet| subnet.range.address().is_ipv6()))
        .set("IPAM", ipam::of_cluster(network))
        .set("Internal", spec.internal)
        .set("Attachable", spec.attachable)
        .set("Ingress", spec.ingress)
        .set("ConfigFrom", json!({ "Network": source }))
        .set("ConfigOnly", spec.config_only)
        .set("Containers", json!({}))
        .set("Options", options)
        .set("Labels", &spec.labels)
}

/// A network of this host alone (parity E-31).
pub(crate) fn write_local(view: &LocalNetworkView) -> Option<Fields> {
    let network = view.network.as_ref()?;
    let shown = write(network).set("Id", host_network_id(network.id));
    Some(shown.set("Scope", "local").set("IPAM", ipam::of_host(view)))
}

/// With the containers in it.
pub(crate) fn write_local_inspected(view: &LocalNetworkView) -> Option<Fields> {
    Some(write_local(view)?.set("Containers", write_local_containers(view)))
}

/// The host's own bridge as a list shows it.
pub(crate) fn write_bridge(view: &LocalNetworkView, scope: &str, created: Timestamp) -> Value {
    let mut shown = write_predefined("bridge", NetworkDriver::Bridge, scope, created);
    shown["IPAM"] = ipam::of_host(view);
    shown["Options"] = json!(view.bridge_options);
    shown
}

/// With the containers on it.
pub(crate) fn write_bridge_inspected(view: &LocalNetworkView, scope: &str, created: Timestamp) -> Value {
    let mut shown = write_bridge(view, scope, created);
    shown["Containers"] = Value::Object(write_local_containers(view));
    shown
}

fn write_local_containers(view: &LocalNetworkView) -> Map<String, Value> {
    let network = view.network.as_ref();
    let network = network.map_or_else(|| predefined_network_id("bridge"), |network| host_network_id(network.id));
    let container = |endpoint: &LocalEndpoint| {
        let shown = json!({
            "Name": endpoint.name,
            "EndpointID": endpoint_id(&network, &endpoint.container),
            "MacAddress": endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            "IPv4Address": endpoint.address.map(|address| address.to_string()).unwrap_or_default(),
            "IPv6Address": endpoint.address6.map(|address| address.to_string()).unwrap_or_default(),
        });
        (endpoint.container.clone(), shown)
    };
    view.endpoints.iter().map(container).collect()
}

/// One of the networks that every node has, since its daemon started; `scope` as it was asked for.
pub(crate) fn write_predefined(name: &str, driver: NetworkDriver, scope: &str, created: Timestamp) -> Value {
    Fields::new()
        .set("Name", name)
        .set("Id", predefined_network_id(name))
        .set("Created", rfc3339(created))
        .set("Scope", if scope == "swarm" { "swarm" } else { "local" })
        .set("Driver", driver_name(driver))
        .set("EnableIPv4", true)
        .set("EnableIPv6", false)
        .set("IPAM", json!({ "Driver": "default", "Options": null, "Config": [] }))
        .set("Internal", false)
        .set("Attachable", false)
        .set("Ingress", false)
        .set("ConfigFrom", json!({ "Network": "" }))
        .set("ConfigOnly", false)
        .set("Containers", json!({}))
        .set("Options", json!({}))
        .set("Labels", json!({}))
        .done()
}

/// The predefined network of this name.
pub(crate) fn predefined(name: &str, scope: &str, created: Timestamp) -> Option<Value> {
    let found = PREDEFINED.iter().find(|(known, _)| *known == name);
    found.map(|(name, driver)| write_predefined(name, *driver, scope, created))
}

/// `10.0.1.3/24`; without the prefix while the network is not known.
pub(super) fn with_prefix(network: Option<&Network>, address: IpAddr) -> String {
    let subnets = network.map(|network| network.subnets.as_slice()).unwrap_or_default();
    match subnets.iter().find(|subnet| subnet.range.contains(address)) {
        Some(subnet) => format!("{address}/{}", subnet.range.prefix()),
        None => address.to_string(),
    }
}

/// A service's `VirtualIPs`, one entry for each address (parity S-70).
pub(crate) fn write_virtual_ips(vips: &[VirtualIp], networks: &Networks) -> Vec<Value> {
    let entries = vips.iter().flat_map(|vip| {
        let network = networks.get(&vip.network);
        vip.addresses
            .iter()
            .map(move |address| json!({ "NetworkID": vip.network, "Addr": with_prefix(network, *address) }))
    });
    entries.collect()
}

/// One of a task's `NetworksAttachments`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownPlace<'s> {
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<&'s RawValue>,
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    aliases: &'s [String],
}

/// Networks as tasks carry them, each as text once for all tasks that are in it.
pub(crate) struct Places<'n> {
    networks: &'n Networks,
    texts: HashMap<NetworkId, Box<RawValue>>,
}

impl<'n> Places<'n> {
    pub(crate) fn of<'t>(tasks: impl IntoIterator<Item = &'t Task>, networks: &'n Networks) -> Self {
        let mut texts = HashMap::new();
        for id in tasks.into_iter().flat_map(|task| &task.attachments).map(|place| place.network) {
            let text = || {
                let shown = networks.get(&id).map_or_else(|| json!({ "ID": id }), write_object);
                to_raw_value(&shown).expect("a value is JSON")
            };
            texts.entry(id).or_insert_with(text);
        }
        Self { networks, texts }
    }

    pub(crate) fn show<'s>(&'s self, task: &'s Task) -> Vec<ShownPlace<'s>> {
        let one = |place: &'s Attachment| {
            let network = self.networks.get(&place.network);
            ShownPlace {
                network: self.texts.get(&place.network).map(|text| &**text),
                addresses: place.addresses.iter().map(|address| with_prefix(network, *address)).collect(),
                aliases: &place.aliases,
            }
        };
        task.attachments.iter().map(one).collect()
    }
}

/// A network as a cluster object, the form tasks carry.
fn write_object(network: &Network) -> Value {
    let spec = &network.spec;
    let driver = driver_name(spec.driver);
    let ipam = json!({ "Driver": { "Name": "default" }, "Configs": ipam::subnets(network) });
    let shown = Fields::new()
        .set("Name", &spec.name)
        .set("Labels", &spec.labels)
        .set("DriverConfiguration", Fields::new().set("Name", driver).unless_empty("Options", &spec.options).done())
        .unless_empty("IPv6Enabled", spec.ipv6)
        .unless_empty("Internal", spec.internal)
        .unless_empty("Attachable", spec.attachable)
        .unless_empty("Ingress", spec.ingress)
        .set("Scope", "swarm")
        .done();
    let state = json!({ "Name": driver, "Options": { VNI_OPTION: network.vni.to_string() } });
    Fields::new()
        .set("ID", network.id)
        .set("Version", json!({ "Index": network.meta.version }))
        .set("CreatedAt", rfc3339(network.meta.created_at))
        .set("UpdatedAt", rfc3339(network.meta.updated_at))
        .set("Spec", shown)
        .some("DriverState", (network.vni != 0).then_some(state))
        .set("IPAMOptions", ipam)
        .done()
}
