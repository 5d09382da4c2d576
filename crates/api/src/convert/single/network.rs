//! Networks, links and ports of a single container.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use types::{Labels, PortProtocol};

use super::spec::{NetworkRequest, PlaceRequest, PortRequest};
use crate::convert::{
    network::named_network,
    reader::{Entry, FieldError, Object},
};

/// What is exposed and what is published.
pub(super) struct Ports {
    pub(super) exposed: BTreeSet<(u16, PortProtocol)>,
    pub(super) published: Vec<PortRequest>,
}

type Links = Vec<(String, String)>;

/// `NetworkMode` and the settings of its places, with the links named there.
pub(super) fn read(from: &mut Object<'_>, host: &mut Object<'_>) -> Result<(NetworkRequest, Links), FieldError> {
    let mode = named_network(host.string("NetworkMode")?);
    let mac = from.parsed("MacAddress", mac_address)?.unwrap_or_default();
    let is_off = from.boolean("NetworkDisabled")?;
    let mut config = from.object("NetworkingConfig")?;
    let (mut places, mut links) = (Vec::new(), Vec::new());
    for entry in config.entries("EndpointsConfig")? {
        let network = named_network(entry.key.to_owned());
        let (place, own_links) = read_place(Object::at(entry.path.clone(), entry.value)?, &network)?;
        places.push(place);
        links.extend(own_links);
    }
    config.finish()?;
    let whole = match mode.as_str() {
        _ if is_off => Some(NetworkRequest::None),
        "none" => Some(NetworkRequest::None),
        "host" => Some(NetworkRequest::Host),
        other => other.strip_prefix("container:").map(|name| NetworkRequest::Container(name.to_owned())),
    };
    if let Some(whole) = whole {
        if matches!(&whole, NetworkRequest::Container(name) if name.is_empty()) {
            return Err(host.bad("NetworkMode", "Invalid network mode: missing container name or ID"));
        }
        if places.iter().any(|place| place.network != mode) {
            let text = "conflicting options: cannot attach both user-defined and non-user-defined network-modes";
            return Err(host.bad("NetworkMode", text));
        }
        if !mac.is_empty() {
            return Err(from.bad("MacAddress", "conflicting options: mac-address and the network mode"));
        }
        return Ok((whole, links));
    }
    let first = match mode.as_str() {
        "" | "default" => match places.first() {
            Some(place) if !places.iter().any(|place| is_default(&place.network)) => place.network.clone(),
            _ => "bridge".to_owned(),
        },
        other => other.to_owned(),
    };
    let places = in_order(places, &first, mac).map_err(|reason| from.bad("MacAddress", reason))?;
    Ok((NetworkRequest::Places(places), links))
}

fn is_default(network: &str) -> bool {
    matches!(network, "bridge" | "default")
}

/// The mode's place is the first; an address given for the container is that of its first place.
fn in_order(mut places: Vec<PlaceRequest>, first: &str, mac: String) -> Result<Vec<PlaceRequest>, &'static str> {
    let same = |place: &PlaceRequest| place.network == first || (is_default(first) && is_default(&place.network));
    let mut head = match places.iter().position(same) {
        Some(at) => places.remove(at),
        None => PlaceRequest::of(first),
    };
    first.clone_into(&mut head.network);
    if head.mac.is_empty() {
        head.mac = mac;
    } else if !mac.is_empty() && head.mac != mac {
        return Err(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be \
                    left empty",
        );
    }
    places.insert(0, head);
    Ok(places)
}

/// A place in this network, as an `EndpointSettings` describes it, and the links named there.
pub(crate) fn read_place(mut from: Object<'_>, network: &str) -> Result<(PlaceRequest, Links), FieldError> {
    let mut ipam = from.object("IPAMConfig")?;
    let address = ipam
        .parsed("IPv4Address", |text| text.parse::<Ipv4Addr>().map_err(|_| format!("invalid IPv4 address: {text}")))?;
    let address6 = ipam
        .parsed("IPv6Address", |text| text.parse::<Ipv6Addr>().map_err(|_| format!("invalid IPv6 address: {text}")))?;
    let link_local = ipam.strings("LinkLocalIPs")?;
    let link_local = link_local.iter().map(|text| link_local_address(text));
    let link_local = link_local.collect::<Result<_, _>>().map_err(|reason| ipam.bad("LinkLocalIPs", reason))?;
    ipam.finish()?;
    let links = from.strings("Links")?;
    let links = links.iter().map(|text| link(text)).collect::<Result<_, _>>();
    let links = links.map_err(|reason| from.bad("Links", reason))?;
    let mac = from.parsed("MacAddress", mac_address)?.unwrap_or_default();
    let place = PlaceRequest {
        network: network.to_owned(),
        aliases: from.strings("Aliases")?,
        address,
        address6,
        link_local,
        priority: from.integer("GwPriority")?.unwrap_or_default(),
        links: Vec::new(),
        mac,
        options: read_options(&mut from)?,
    };
    // what clients copy from an answer of ours: it says where the container was, not where it shall be
    for field in ["NetworkID", "EndpointID", "Gateway", "IPAddress", "IPv6Gateway", "GlobalIPv6Address"] {
        from.string(field)?;
    }
    for field in ["IPPrefixLen", "GlobalIPv6PrefixLen"] {
        from.integer(field)?;
    }
    from.strings("DNSNames")?;
    from.finish()?;
    Ok((place, links))
}

fn link_local_address(text: &str) -> Result<IpAddr, String> {
    let address = text.parse::<IpAddr>().map_err(|_| format!("invalid link-local IP address: {text}"))?;
    let is_one = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let reason = || format!("invalid link-local IP address: {text} is not of 169.254.0.0/16 or fe80::/10");
    is_one.then_some(address).ok_or_else(reason)
}

/// Those of Docker's own options of a place that the engine knows.
const KNOWN_OPTIONS: [&str; 2] = ["com.docker.network.endpoint.sysctls", "com.docker.network.endpoint.ifname"];

/// Options for drivers, of which only Docker's own mean something to somebody here; the engine judges these.
pub(crate) fn read_options(from: &mut Object<'_>) -> Result<Labels, FieldError> {
    let options = from.labels("DriverOpts")?;
    let is_strange = |key: &&String| key.starts_with("com.docker.network.") && !KNOWN_OPTIONS.contains(&key.as_str());
    match options.keys().find(is_strange) {
        Some(key) => Err(from.bad("DriverOpts", format!("{key} is not supported: leave it out"))),
        None => Ok(options),
    }
}

/// Of an interface, in one of the three ways in which Go's `net.ParseMAC` reads its six bytes; kept with colons and in
/// small letters.
fn mac_address(text: &str) -> Result<String, String> {
    let bad = || format!("invalid MAC address {text}: write six bytes, such as 02:42:ac:11:00:09");
    let (separator, length) = match text.chars().find(|c| !c.is_ascii_hexdigit()) {
        Some(separator @ (':' | '-')) => (separator, 2),
        Some('.') => ('.', 4),
        _ => return Err(bad()),
    };
    let parts: Vec<&str> = text.split(separator).collect();
    let is_part = |part: &&str| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.len() * length != 12 || !parts.iter().all(is_part) {
        return Err(bad());
    }
    let digits = parts.concat().to_ascii_lowercase();
    let bytes: Vec<&str> = (0..6).map(|at| &digits[2 * at..2 * at + 2]).collect();
    Ok(bytes.join(":"))
}

pub(super) fn read_links(host: &mut Object<'_>) -> Result<Links, FieldError> {
    let texts = host.strings("Links")?;
    texts.iter().map(|text| link(text).map_err(|reason| host.bad("Links", reason))).collect()
}

/// `container[:alias]`; clients copy `/container:/own/alias` from an answer.
fn link(text: &str) -> Result<(String, String), String> {
    let bad = || format!("bad format for links: {text}");
    let (container, alias) = match text.split_once(':') {
        Some((container, alias)) => (container, alias.rsplit('/').next().unwrap_or(alias)),
        None => (text, text),
    };
    let container = container.trim_start_matches('/');
    if container.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(bad());
    }
    Ok((container.to_owned(), alias.trim_start_matches('/').to_owned()))
}

pub(super) fn read_ports(from: &mut Object<'_>, host: &mut Object<'_>) -> Result<Ports, FieldError> {
    let mut ports = Ports { exposed: BTreeSet::new(), published: Vec::new() };
    for entry in from.entries("ExposedPorts")? {
        ports.exposed.insert(port(&entry)?);
    }
    for entry in host.entries("PortBindings")? {
        let (target, protocol) = port(&entry)?;
        ports.exposed.insert((target, protocol));
        let bindings = match entry.value {
            serde_json::Value::Null => continue,
            serde_json::Value::Array(bindings) => bindings,
            _ => return Err(entry.bad("must be a list of bindings")),
        };
        for (at, binding) in bindings.iter().enumerate() {
            let binding = Object::at(format!("{}[{at}]", entry.path), binding)?;
            ports.published.push(published(binding, target, protocol)?);
        }
    }
    Ok(ports)
}

fn published(mut from: Object<'_>, target: u16, protocol: PortProtocol) -> Result<PortRequest, FieldError> {
    let address =
        from.parsed("HostIp", |text| text.parse::<IpAddr>().map_err(|_| format!("invalid host IP address {text:?}")))?;
    let host = from.parsed("HostPort", |text| {
        range(text).ok_or_else(|| format!("invalid port specification: \"{text}\": write 8080 or 8080-8090"))
    })?;
    from.finish()?;
    // 0 is any, as with sockets
    let host = host.filter(|(first, _)| *first != 0);
    Ok(PortRequest { target, protocol, address, host })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// `80/tcp`, or `80`.
fn port(entry: &Entry<'_>) -> Result<(u16, PortProtocol), FieldError> {
    let (number, protocol) = entry.key.split_once('/').unwrap_or((entry.key, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => PortProtocol::Tcp,
        "udp" => PortProtocol::Udp,
        "sctp" => PortProtocol::Sctp,
        other => return Err(entry.bad(format!("invalid proto: {other}; use tcp, udp or sctp"))),
    };
    let number = number.parse::<u16>().ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| entry.bad(format!("invalid containerPort: {}", entry.key)))?;
    Ok((number, protocol))
}
