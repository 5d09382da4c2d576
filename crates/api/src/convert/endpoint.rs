//! Ports and how a service is reached.

use serde_json::{Value, json};
use types::{EndpointMode, EndpointSpec, PortConfig, PortProtocol, PublishMode};

use super::{
    reader::{FieldError, Object},
    writer::Fields,
};

pub(crate) fn read(mut from: Object<'_>) -> Result<EndpointSpec, FieldError> {
    let mode = from.parsed("Mode", |text| match text {
        "vip" => Ok(EndpointMode::Vip),
        "dnsrr" => Ok(EndpointMode::DnsRoundRobin),
        other => Err(format!("{other:?} is no endpoint mode; use vip or dnsrr")),
    })?;
    let mode = mode.unwrap_or_default();
    let mut ports = Vec::new();
    for mut port in from.objects("Ports")? {
        ports.push(read_port(&mut port)?);
        port.finish()?;
    }
    from.finish()?;
    Ok(EndpointSpec { mode, ports, ..EndpointSpec::default() })
}

fn read_port(from: &mut Object<'_>) -> Result<PortConfig, FieldError> {
    let protocol = from.parsed("Protocol", |text| match text {
        "tcp" => Ok(PortProtocol::Tcp),
        "udp" => Ok(PortProtocol::Udp),
        "sctp" => Ok(PortProtocol::Sctp),
        other => Err(format!("{other:?} is no protocol; use tcp, udp or sctp")),
    })?;
    let mode = from.string("PublishMode")?;
    if mode != "host" {
        let reason = match mode.as_str() {
            "" | "ingress" => {
                "publishing through the routing mesh (ingress) is not supported yet; publish on the hosts that run \
                 the tasks with mode host"
                    .to_owned()
            }
            other => format!("{other:?} is no publish mode; use host"),
        };
        return Err(from.bad("PublishMode", reason));
    }
    let port = |name: &'static str, from: &mut Object<'_>| -> Result<Option<u16>, FieldError> {
        let number = from.natural(name)?.unwrap_or(0);
        let number =
            u16::try_from(number).map_err(|_| from.bad(name, format!("{number} is not a port (1 to 65535)")))?;
        Ok((number != 0).then_some(number))
    };
    let target = port("TargetPort", from)?
        .ok_or(FieldError::Missing { path: from.path("TargetPort"), hint: "give the port the container listens on" })?;
    let published = port("PublishedPort", from)?;
    let port = PortConfig::new(protocol.unwrap_or(PortProtocol::Tcp), target, published, PublishMode::Host);
    Ok(PortConfig { name: from.string("Name")?, ..port })
}

pub(crate) fn write_spec(spec: &EndpointSpec) -> Value {
    let mode = match spec.mode {
        EndpointMode::Vip => "vip",
        EndpointMode::DnsRoundRobin => "dnsrr",
    };
    Fields::new().set("Mode", mode).unless_empty("Ports", write_ports(&spec.ports)).done()
}

/// The service's `Endpoint`: what the spec came to.
pub(crate) fn write(spec: &EndpointSpec, virtual_ips: Vec<Value>) -> Value {
    Fields::new()
        .set("Spec", write_spec(spec))
        .unless_empty("Ports", write_ports(&spec.ports))
        .unless_empty("VirtualIPs", virtual_ips)
        .done()
}

pub(crate) fn write_ports(ports: &[PortConfig]) -> Vec<Value> {
    ports.iter().map(write_port).collect()
}

fn write_port(port: &PortConfig) -> Value {
    Fields::new()
        .unless_empty("Name", &port.name)
        .set("Protocol", protocol_name(port.protocol))
        .set("TargetPort", port.target)
        .unless_empty("PublishedPort", port.published.unwrap_or(0))
        .set(
            "PublishMode",
            match port.mode {
                PublishMode::Ingress => "ingress",
                PublishMode::Host => "host",
            },
        )
        .done()
}

/// A bound port as `GET /containers/json` shows it.
pub(crate) fn write_container_port(port: &PortConfig) -> Value {
    json!({
        "PrivatePort": port.target,
        "PublicPort": port.published.unwrap_or(0),
        "Type": protocol_name(port.protocol),
    })
}

/// `8080:80/tcp`.
pub(crate) fn port_text(port: &PortConfig) -> String {
    let published = port.published.map(|published| format!("{published}:")).unwrap_or_default();
    format!("{published}{}/{}", port.target, protocol_name(port.protocol))
}

fn protocol_name(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
    }
}
