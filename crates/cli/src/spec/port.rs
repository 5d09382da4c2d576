//! `--publish`: `8080:80/tcp`, `127.0.0.1:8080:80`, `8000-8010:80-90`, `80`, or
//! `published=8080,target=80,protocol=tcp,mode=host,host_ip=192.0.2.1,interface=eth0,proxy_protocol=true`.

use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

/// One port or, for a range, several.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let read = if text.contains('=') { read_long(text) } else { read_short(text) };
    read.and_then(|option| option.ports()).with_context(|| format!("invalid publish option {text:?}"))
}

/// First and last port.
type Range = (u16, u16);

/// What one option says.
struct Published<'a> {
    target: Range,
    published: Option<Range>,
    protocol: &'a str,
    mode: &'a str,
    host_ip: Option<IpAddr>,
    interface: Option<&'a str>,
    proxy_protocol: bool,
}

fn read_long(text: &str) -> anyhow::Result<Published<'_>> {
    let mut target = None;
    let mut option = Published {
        target: (0, 0),
        published: None,
        protocol: "tcp",
        mode: "ingress",
        host_ip: None,
        interface: None,
        proxy_protocol: false,
    };
    for field in text.split(',') {
        let (key, value) = field.split_once('=').with_context(|| format!("{field:?} is not KEY=VALUE"))?;
        match key.trim().to_ascii_lowercase().replace('-', "_").as_str() {
            "target" => target = Some(range(value)?),
            "published" => option.published = Some(range(value)?),
            "protocol" => option.protocol = value,
            "mode" => option.mode = value,
            "host_ip" => option.host_ip = Some(address(value)?),
            "interface" => option.interface = Some(value),
            "proxy_protocol" => {
                option.proxy_protocol = match value {
                    "v2" | "true" => true,
                    "false" => false,
                    _ => bail!("proxy_protocol is v2 or true, or false, not {value:?}; version 1 is not written"),
                };
            }
            other => bail!(
                "unexpected key {other:?}; known are published, target, protocol, mode, host_ip, interface and \
                 proxy_protocol"
            ),
        }
    }
    option.target = target.context("target is missing: write target=PORT, the container's")?;
    Ok(option)
}

/// `[[ADDRESS:][PUBLISHED]:]TARGET[/PROTOCOL]`
fn read_short(text: &str) -> anyhow::Result<Published<'_>> {
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let (before, target) = match ports.rsplit_once(':') {
        Some((before, target)) => (Some(before), range(target)?),
        None => (None, range(ports)?),
    };
    let (host_ip, published) = match before {
        None => (None, None),
        Some(before) => split_address(before)?,
    };
    let (mode, interface, proxy_protocol) = ("ingress", None, false);
    Ok(Published { target, published, protocol, mode, host_ip, interface, proxy_protocol })
}

/// What stands before the target: `8080`, `127.0.0.1:8080`, `[::1]:8080`, `127.0.0.1:`.
fn split_address(text: &str) -> anyhow::Result<(Option<IpAddr>, Option<Range>)> {
    let Some((host, published)) = text.rsplit_once(':') else { return Ok((None, Some(range(text)?))) };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    ensure!(
        bracketed.is_some() || !host.contains(':'),
        "write an IPv6 address in brackets: [ADDRESS]:PUBLISHED:TARGET"
    );
    let published = if published.is_empty() { None } else { Some(range(published)?) };
    Ok((Some(address(bracketed.unwrap_or(host))?), published))
}

fn address(text: &str) -> anyhow::Result<IpAddr> {
    text.parse().with_context(|| format!("{text:?} is not an IP address of a host"))
}

fn range(text: &str) -> anyhow::Result<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let port = text.parse::<u16>().ok().filter(|port| *port != 0);
        port.with_context(|| format!("{text:?} is no port (1 to 65535)"))
    };
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "the range {text} runs backwards");
    Ok((first, last))
}

impl Published<'_> {
    fn ports(&self) -> anyhow::Result<Vec<Value>> {
        let length = self.target.1 - self.target.0;
        if let Some((first, last)) = self.published {
            ensure!(last - first == length, "the ranges of published and target ports differ in length");
        }
        let protocol = self.protocol.to_ascii_lowercase();
        ensure!(
            matches!(protocol.as_str(), "tcp" | "udp" | "sctp"),
            "{:?} is no protocol; use tcp, udp or sctp",
            self.protocol
        );
        let mode = self.mode.to_ascii_lowercase();
        ensure!(matches!(mode.as_str(), "ingress" | "host"), "{:?} is no mode; use ingress or host", self.mode);
        Ok((0..=length).map(|offset| self.port(offset, &protocol, &mode)).collect())
    }

    fn port(&self, offset: u16, protocol: &str, mode: &str) -> Value {
        let mut port = json!({ "Protocol": protocol, "TargetPort": self.target.0 + offset });
        if let Some((first, _)) = self.published {
            port["PublishedPort"] = Value::from(first + offset);
        }
        port["PublishMode"] = Value::from(mode);
        if let Some(address) = self.host_ip {
            port["HostIP"] = Value::from(address.to_string());
        }
        if let Some(interface) = self.interface {
            port["Interface"] = Value::from(interface);
        }
        if self.proxy_protocol {
            port["ProxyProtocol"] = Value::from(true);
        }
        port
    }
}
