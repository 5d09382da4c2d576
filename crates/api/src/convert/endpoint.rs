//! Ports and how a service is reached.
//!
//! Beside Docker's fields a port may have `HostIP`, `Interface` and `ProxyProtocol`, and the endpoint `Mesh`. Clients
//! that do not know these drop them when they send a spec back, so on update what is not said at all stays.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

use serde_json::{Value, json};
use types::{EndpointMode, EndpointSpec, MeshSpec, PortBind, PortConfig, PortProtocol, PublishMode, Service, Stated};

use super::{
    reader::{FieldError, Object},
    writer::Fields,
};

/// `before` is the endpoint that an update replaces.
pub(crate) fn read(mut from: Object<'_>, before: Option<&EndpointSpec>) -> Result<EndpointSpec, FieldError> {
    let mode = from.parsed("Mode", |text| match text {
        "vip" => Ok(EndpointMode::Vip),
        "dnsrr" => Ok(EndpointMode::DnsRoundRobin),
        other => Err(format!("{other:?} is no endpoint mode; use vip or dnsrr")),
    })?;
    let mode = mode.unwrap_or_default();
    let mut kept = Kept::of(before);
    let mut ports = Vec::new();
    for mut port in from.objects("Ports")? {
        ports.push(read_port(&mut port, &mut kept)?);
        port.finish()?;
    }
    let mesh = match from.has("Mesh") {
        true => read_mesh(from.object("Mesh")?)?,
        false => before.map(|spec| spec.mesh).unwrap_or_default(),
    };
    from.finish()?;
    Ok(EndpointSpec { mode, ports, mesh })
}

fn read_mesh(mut from: Object<'_>) -> Result<MeshSpec, FieldError> {
    let policy = from.parsed("Policy", |text| text.parse().map_err(|why: types::MeshError| why.to_string()))?;
    let affinity = from.parsed("Affinity", |text| text.parse().map_err(|why: types::MeshError| why.to_string()))?;
    from.finish()?;
    Ok(MeshSpec { policy: policy.unwrap_or_default(), affinity: affinity.unwrap_or_default() })
}

/// What ports had before that clients do not send back, by what they do.
#[derive(Default)]
struct Kept<'a>(BTreeMap<PortKey, VecDeque<&'a PortConfig>>);

type PortKey = (PortProtocol, u16, Option<u16>, bool);

fn key(port: &PortConfig) -> PortKey {
    (port.protocol, port.target, port.published, port.mode == PublishMode::Host)
}

impl<'a> Kept<'a> {
    fn of(before: Option<&'a EndpointSpec>) -> Self {
        let mut kept = Self::default();
        for port in before.iter().flat_map(|spec| &spec.ports) {
            kept.0.entry(key(port)).or_default().push_back(port);
        }
        kept
    }

    /// The first port alike that was not taken yet.
    fn take(&mut self, port: &PortConfig) -> Option<&'a PortConfig> {
        self.0.get_mut(&key(port))?.pop_front()
    }
}

fn read_port(from: &mut Object<'_>, kept: &mut Kept<'_>) -> Result<PortConfig, FieldError> {
    let protocol = from.parsed("Protocol", |text| match text {
        "tcp" => Ok(PortProtocol::Tcp),
        "udp" => Ok(PortProtocol::Udp),
        "sctp" => Ok(PortProtocol::Sctp),
        other => Err(format!("{other:?} is no protocol; use tcp, udp or sctp")),
    })?;
    let mode = from.parsed("PublishMode", |text| match text {
        "ingress" => Ok(PublishMode::Ingress),
        "host" => Ok(PublishMode::Host),
        other => Err(format!("{other:?} is no publish mode; use ingress or host")),
    })?;
    let target = number("TargetPort", from)?
        .ok_or(FieldError::Missing { path: from.path("TargetPort"), hint: "give the port the container listens on" })?;
    let published = number("PublishedPort", from)?;
    let port =
        PortConfig::new(protocol.unwrap_or(PortProtocol::Tcp), target, published, mode.unwrap_or(PublishMode::Ingress));
    let port = PortConfig { name: from.string("Name")?, ..port };
    let said = ["HostIP", "Interface", "ProxyProtocol"].map(|field| from.has(field)).contains(&true);
    // of several alike each stands for its own, also beside one that says where it is
    if let (Some(before), false) = (kept.take(&port), said) {
        return Ok(PortConfig { bind: before.bind.clone(), proxy_protocol: before.proxy_protocol, ..port });
    }
    Ok(PortConfig { bind: read_bind(from)?, proxy_protocol: from.boolean("ProxyProtocol")?, ..port })
}

fn number(name: &'static str, from: &mut Object<'_>) -> Result<Option<u16>, FieldError> {
    let number = from.natural(name)?.unwrap_or(0);
    let number = u16::try_from(number).map_err(|_| from.bad(name, format!("{number} is not a port (1 to 65535)")))?;
    Ok((number != 0).then_some(number))
}

/// Parity: none, Docker publishes services at all addresses (P32).
fn read_bind(from: &mut Object<'_>) -> Result<PortBind, FieldError> {
    let address = from.parsed("HostIP", |text| {
        text.parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address of a host"))
    })?;
    let interface = from.string("Interface")?;
    match (address, interface.as_str()) {
        (None, "") => Ok(PortBind::All),
        (Some(address), "") => Ok(PortBind::Address(address)),
        (None, _) => Ok(PortBind::Interface(interface)),
        (Some(_), _) => Err(from.bad("Interface", "a port is published at an address or at an interface, not at both")),
    }
}

pub(crate) fn write_spec(spec: &EndpointSpec) -> Value {
    let mode = match spec.mode {
        EndpointMode::Vip => "vip",
        EndpointMode::DnsRoundRobin => "dnsrr",
    };
    Fields::new()
        .set("Mode", mode)
        .unless_empty("Ports", write_ports(&spec.ports))
        .some("Mesh", write_mesh(spec.mesh))
        .done()
}

/// `None` for what it is when nothing is said.
fn write_mesh(mesh: MeshSpec) -> Option<Value> {
    let shown = || json!({ "Policy": mesh.policy.as_str(), "Affinity": mesh.affinity.as_str() });
    (mesh != MeshSpec::default()).then(shown)
}

/// The service's `Endpoint`: what the spec came to, with the numbers of all ports and the mesh as its labels have it.
pub(crate) fn write(service: &Service, virtual_ips: Vec<Value>) -> Value {
    let spec = &service.spec.endpoint;
    let is_said = service.spec.stated.contains(&Stated::Endpoint) || *spec != EndpointSpec::default();
    Fields::new()
        .set("Spec", if is_said { write_spec(spec) } else { json!({}) })
        .unless_empty("Ports", write_ports(service.ports()))
        .unless_empty("VirtualIPs", virtual_ips)
        .some("Mesh", write_mesh(service.spec.mesh().unwrap_or(spec.mesh)))
        .done()
}

pub(crate) fn write_ports<'a>(ports: impl IntoIterator<Item = &'a PortConfig>) -> Vec<Value> {
    ports.into_iter().map(write_port).collect()
}

fn write_port(port: &PortConfig) -> Value {
    let (address, interface) = match &port.bind {
        PortBind::All => (None, None),
        PortBind::Address(address) => (Some(address), None),
        PortBind::Interface(name) => (None, Some(name)),
    };
    let mode = match port.mode {
        PublishMode::Ingress => "ingress",
        PublishMode::Host => "host",
    };
    Fields::new()
        .unless_empty("Name", &port.name)
        .set("Protocol", port.protocol.as_str())
        .set("TargetPort", port.target)
        .unless_empty("PublishedPort", port.published.unwrap_or(0))
        .set("PublishMode", mode)
        .some("HostIP", address)
        .some("Interface", interface)
        .unless_empty("ProxyProtocol", port.proxy_protocol)
        .done()
}

/// `8080:80/tcp`.
pub(crate) fn port_text(port: &PortConfig) -> String {
    let published = port.published.map(|published| format!("{published}:")).unwrap_or_default();
    format!("{published}{}/{}", port.target, port.protocol)
}
