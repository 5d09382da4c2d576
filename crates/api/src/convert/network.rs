//! Networks: Docker's create request to `types::NetworkSpec`, and networks as `GET /networks` shows
//! them (parity N-05, N-06, N-22).
//!
//! Whether a subnet is free, a gateway fits or a network is in use is the managers' to decide; here
//! only the form of a request is judged.

use std::collections::BTreeMap;

use node::engine::{BridgeDefaults, predefined_network};
use serde_json::{Value, json};
use types::{Cidr, Labels, Name, NetworkDriver, NetworkSpec, SubnetSpec};

use super::reader::{FieldError, Object};

pub(crate) const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";
const MTU_OPTIONS: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];
const ENCRYPTED_OPTION: &str = "encrypted";
/// Smallest and largest packet of IPv4 (RFC 791, section 3.1).
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_535;
/// VXLAN network identifiers have 24 bits (RFC 7348, section 5); 0 means none.
const VNI_RANGE: std::ops::RangeInclusive<u32> = 1..=0x00FF_FFFF;

/// Networks every node has of its own: name and driver.
pub(crate) const PREDEFINED: [(&str, NetworkDriver); 3] =
    [("bridge", NetworkDriver::Bridge), ("host", NetworkDriver::Host), ("none", NetworkDriver::Null)];

/// Networks that every host has may be meant by their ids, which docker's clients look up.
pub(crate) fn named_network(text: String) -> String {
    predefined_network(&text).map_or(text, str::to_owned)
}

/// Whether users can make no network of this name; `default` is docker's other word for `bridge`.
pub(crate) fn is_predefined(name: &str) -> bool {
    name == "default" || PREDEFINED.iter().any(|(known, _)| *known == name)
}

/// What a create request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A network of the cluster.
    Cluster(Box<NetworkSpec>),
    /// A network of this host alone.
    HostOnly(Box<NetworkSpec>),
    /// One that every host has already.
    Predefined(String),
}

pub(crate) fn read(body: &Value) -> Result<Wanted, FieldError> {
    let mut from = Object::root(body)?;
    let name = from.string("Name")?;
    if is_predefined(&name) {
        return Ok(Wanted::Predefined(name));
    }
    if name.is_empty() {
        return Err(FieldError::Missing { path: from.path("Name"), hint: "give the name of the network" });
    }
    // Names are unique in a cluster: nothing to switch.
    let _ = from.boolean("CheckDuplicate")?;
    let driver = read_driver(&mut from)?;
    let scope = from.string("Scope")?;
    let config_only = from.boolean("ConfigOnly")?;
    let is_cluster = match scope.as_str() {
        // a configuration is each host's own as in docker, unless the cluster is named
        "" => driver == NetworkDriver::Overlay && !config_only,
        "swarm" => true,
        "local" if driver == NetworkDriver::Overlay && !config_only => {
            return Err(from.bad("Scope", "an overlay network spans the cluster; leave it out, or say swarm"));
        }
        "local" => false,
        other => return Err(from.bad("Scope", format!("{other:?} is no scope; use swarm or local"))),
    };
    let name = if is_cluster { name.parse::<Name>() } else { Name::of_host_network(&name) };
    let name = name.map_err(|why| from.bad("Name", why.to_string()))?;
    let spec = read_spec(&mut from, name, if config_only { NetworkDriver::Null } else { driver }, config_only)?;
    if is_cluster && !spec.ipv4 {
        // The first half in Docker's own words
        let reason = "IPv4 cannot be disabled in a Swarm scoped network; leave it out, or say true";
        return Err(from.bad("EnableIPv4", reason));
    }
    from.finish()?;
    Ok(if is_cluster { Wanted::Cluster(Box::new(spec)) } else { Wanted::HostOnly(Box::new(spec)) })
}

/// What the host's configuration says of bridge networks, where the request is for one of its own and does not say it.
pub(crate) fn add_defaults(body: &mut Value, defaults: &BridgeDefaults) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (driver, scope, source) = (text(&body["Driver"]), text(&body["Scope"]), text(&body["ConfigFrom"]["Network"]));
    let is_bridge = matches!(driver.as_str(), "" | "bridge" | "default") && scope != "swarm";
    if defaults.0.is_empty() || !is_bridge || !source.is_empty() || body["ConfigOnly"] == true {
        return;
    }
    let options = &body["Options"];
    let own = if options.is_null() { Ok(Labels::new()) } else { serde_json::from_value::<Labels>(options.clone()) };
    // what is no such list is refused when it is read
    if let (Ok(mut options), true) = (own, body.is_object()) {
        defaults.fill(&mut options);
        body["Options"] = json!(options);
    }
}

fn read_spec(
    from: &mut Object<'_>,
    name: Name,
    driver: NetworkDriver,
    config_only: bool,
) -> Result<NetworkSpec, FieldError> {
    let mut config_from = from.object("ConfigFrom")?;
    let source = config_from.parsed("Network", |text| text.parse::<Name>().map_err(|why| why.to_string()))?;
    config_from.finish()?;
    let mut ipam = from.object("IPAM")?;
    let ipam_driver = ipam.string("Driver")?;
    if !matches!(ipam_driver.as_str(), "" | "default") {
        let (path, hint) = (ipam.path("Driver"), "rswarm's own is called default");
        return Err(FieldError::NoPlugin { path, name: ipam_driver, hint });
    }
    let mut subnets = Vec::new();
    for config in ipam.objects("Config")? {
        subnets.extend(read_subnet(config)?);
    }
    let ipam_options = if ipam.has("Options") { Some(ipam.labels("Options")?) } else { None };
    ipam.finish()?;
    let options = from.labels("Options")?;
    let known = read_options(from, driver, &options)?;
    let ipv4 = enabled(from, "EnableIPv4", &options)?.unwrap_or(true);
    let ipv6 = enabled(from, "EnableIPv6", &options)?.unwrap_or_default();
    Ok(NetworkSpec {
        name,
        labels: from.labels("Labels")?,
        driver,
        ipam_options,
        attachable: from.boolean("Attachable")?,
        internal: from.boolean("Internal")?,
        ingress: from.boolean("Ingress")?,
        ipv4,
        ipv6,
        encrypted: known.encrypted,
        mtu: known.mtu,
        options,
        subnets,
        config_only,
        config_from: source,
    })
}

/// The field, else docker's option of the same meaning; `None` if neither says anything.
fn enabled(from: &mut Object<'_>, field: &'static str, options: &Labels) -> Result<Option<bool>, FieldError> {
    if from.has(field) {
        return from.boolean(field).map(Some);
    }
    let option = format!("com.docker.network.{}", field.to_ascii_lowercase().replace("enable", "enable_"));
    let value = options.get(&option);
    let parsed = |text: &String| match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err(from.bad(&format!("Options.{option}"), format!("driver-opt {option:?} is not a valid bool"))),
    };
    value.map(parsed).transpose()
}

fn read_driver(from: &mut Object<'_>) -> Result<NetworkDriver, FieldError> {
    let name = from.string("Driver")?;
    Ok(match name.as_str() {
        "overlay" => NetworkDriver::Overlay,
        // What clients send that mean the daemon's own choice.
        "" | "bridge" | "default" => NetworkDriver::Bridge,
        "macvlan" => NetworkDriver::Macvlan,
        "ipvlan" => NetworkDriver::Ipvlan,
        "host" => NetworkDriver::Host,
        "null" => NetworkDriver::Null,
        _ => {
            let (path, hint) = (from.path("Driver"), "use overlay, bridge, macvlan or ipvlan");
            return Err(FieldError::NoPlugin { path, name, hint });
        }
    })
}

pub(crate) fn driver_name(driver: NetworkDriver) -> &'static str {
    match driver {
        NetworkDriver::Overlay => "overlay",
        NetworkDriver::Bridge => "bridge",
        NetworkDriver::Macvlan => "macvlan",
        NetworkDriver::Ipvlan => "ipvlan",
        NetworkDriver::Host => "host",
        NetworkDriver::Null => "null",
    }
}

/// The subnet that a network shall get beside those it has.
pub(crate) fn read_added(body: &Value) -> Result<SubnetSpec, FieldError> {
    let missing = FieldError::Missing { path: "Subnet".to_owned(), hint: "give the subnet that the network shall get" };
    read_subnet(Object::root(body)?)?.ok_or(missing)
}

/// `None` for an entry that says nothing, as docker sends it for networks without a subnet.
fn read_subnet(mut from: Object<'_>) -> Result<Option<SubnetSpec>, FieldError> {
    let subnet = from.parsed("Subnet", range)?;
    let ip_range = from.parsed("IPRange", range)?;
    let gateway = from.parsed("Gateway", |text| text.parse().map_err(|_| format!("{text:?} is not an IP address")))?;
    let mut auxiliary = BTreeMap::new();
    for (name, text) in from.labels("AuxiliaryAddresses")? {
        let address = text.parse().map_err(|_| {
            from.bad("AuxiliaryAddresses", format!("{text:?}, the address of {name:?}, is not an IP address"))
        })?;
        auxiliary.insert(name, address);
    }
    let missing = from.path("Subnet");
    from.finish()?;
    match subnet {
        Some(subnet) => Ok(Some(SubnetSpec { subnet, gateway, ip_range, auxiliary })),
        None if gateway.is_none() && ip_range.is_none() && auxiliary.is_empty() => Ok(None),
        None => Err(FieldError::Missing {
            path: missing,
            hint: "a gateway, a range or auxiliary addresses need the subnet they are of",
        }),
    }
}

/// A subnet without host bits: with them it is unclear whether an address or a network was meant.
pub(crate) fn range(text: &str) -> Result<Cidr, String> {
    let range: Cidr = text.parse().map_err(|why: types::CidrError| why.to_string())?;
    match range == range.network() {
        true => Ok(range),
        false => Err(format!("{range} is an address in a subnet; write the subnet, {}", range.network())),
    }
}

#[derive(Debug, Default)]
struct KnownOptions {
    encrypted: bool,
    mtu: Option<u32>,
}

/// The options of an overlay that rswarm understands. Others would be silently without effect; those of other
/// drivers are judged by the host that makes the network, and those of a configuration by what is made of it.
fn read_options(from: &Object<'_>, driver: NetworkDriver, options: &Labels) -> Result<KnownOptions, FieldError> {
    let mut known = KnownOptions::default();
    let may_be_overlay = matches!(driver, NetworkDriver::Overlay | NetworkDriver::Null);
    for (name, value) in options {
        let bad = |reason: String| Err(from.bad(&format!("Options.{name}"), reason));
        match name.as_str() {
            ENCRYPTED_OPTION if may_be_overlay => match value.as_str() {
                "" | "true" | "1" => known.encrypted = true,
                "false" | "0" => {}
                other => return bad(format!("{other:?} is neither true nor false")),
            },
            mtu if MTU_OPTIONS.contains(&mtu) => match value.parse().ok().filter(|mtu| MTU_RANGE.contains(mtu)) {
                Some(mtu) => known.mtu = Some(mtu),
                None => return bad(format!("{value:?} is no MTU in bytes (68 to 65535)")),
            },
            VNI_OPTION if may_be_overlay => {
                let is_vni = |text: &str| text.trim().parse().is_ok_and(|vni| VNI_RANGE.contains(&vni));
                if !value.split(',').all(is_vni) {
                    return bad(format!("{value:?} is no VXLAN network identifier (1 to 16777215)"));
                }
            }
            "com.docker.network.enable_ipv4" | "com.docker.network.enable_ipv6" => {}
            _ if driver == NetworkDriver::Overlay => {
                return bad(format!(
                    "overlay networks know no such option; known are encrypted, mtu, {} and {VNI_OPTION}",
                    MTU_OPTIONS[0]
                ));
            }
            _ => {}
        }
    }
    Ok(known)
}
