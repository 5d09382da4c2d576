//! `-p [[ADDRESS:]PORT:]TARGET[/PROTOCOL]` and `--expose`, ranges too, as docker reads them.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};

use crate::spec::edit::set;

pub(super) fn put(body: &mut Value, publish: &[String], expose: &[String]) -> anyhow::Result<()> {
    let (mut exposed, mut bindings) = (Map::new(), Map::new());
    for text in publish {
        for (target, binding) in read(text)? {
            exposed.insert(target.clone(), json!({}));
            let list = bindings.entry(target).or_insert_with(|| json!([]));
            list.as_array_mut().expect("made a list above").push(binding);
        }
    }
    for text in expose {
        ensure!(!text.contains(':'), "invalid port format for --expose: {text}");
        let (range, protocol) = with_protocol(text)?;
        let (first, last) = numbers(range).with_context(|| format!("invalid range format for --expose: {text}"))?;
        for port in first..=last {
            exposed.insert(format!("{port}/{protocol}"), json!({}));
        }
    }
    if !exposed.is_empty() {
        set(body, "ExposedPorts", exposed);
    }
    if !bindings.is_empty() {
        set(body, "HostConfig.PortBindings", bindings);
    }
    Ok(())
}

/// Pairs of `80/tcp` and where it is published.
fn read(text: &str) -> anyhow::Result<Vec<(String, Value)>> {
    if text.contains('=') {
        return read_long(text);
    }
    let (rest, protocol) = with_protocol(text)?;
    let (address, host, target) = split(rest).with_context(|| format!("invalid publish opts format: {text}"))?;
    pairs(&address, host, target, &protocol).with_context(|| format!("invalid publish opts format: {text}"))
}

/// `target=80,published=8080,protocol=tcp`.
fn read_long(text: &str) -> anyhow::Result<Vec<(String, Value)>> {
    let (mut target, mut published, mut protocol, mut address) = ("", "", "tcp", "");
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .with_context(|| format!("invalid publish opts format (should be name=value but got '{field}')"))?;
        match key.to_ascii_lowercase().as_str() {
            "target" => target = value,
            "published" => published = value,
            "protocol" => protocol = value,
            "host_ip" => address = value,
            "mode" => {} // there is one way to publish a single container
            other => {
                bail!("unknown publish field '{other}' in {text:?}; known are target, published, protocol and host_ip")
            }
        }
    }
    ensure!(!target.is_empty(), "target is missing in {text:?}: write target=PORT, the container's");
    pairs(address, published, target, &protocol.to_ascii_lowercase()).with_context(|| format!("invalid port {text:?}"))
}

fn with_protocol(text: &str) -> anyhow::Result<(&str, String)> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    ensure!(matches!(protocol.as_str(), "tcp" | "udp" | "sctp"), "invalid proto: {protocol}; use tcp, udp or sctp");
    Ok((rest, protocol))
}

/// Address, host's ports and container's ports.
fn split(text: &str) -> anyhow::Result<(String, &str, &str)> {
    let (rest, target) = match text.rsplit_once(':') {
        None => return Ok((String::new(), "", text)),
        Some(parts) => parts,
    };
    let Some((address, host)) = rest.rsplit_once(':') else { return Ok((String::new(), rest, target)) };
    let bare = address.strip_prefix('[').map_or(address, |inner| inner.trim_end_matches(']'));
    if !bare.is_empty() {
        bare.parse::<std::net::IpAddr>().map_err(|_| anyhow::anyhow!("invalid IP address: {bare}"))?;
    }
    Ok((bare.to_owned(), host, target))
}

fn pairs(address: &str, host: &str, target: &str, protocol: &str) -> anyhow::Result<Vec<(String, Value)>> {
    ensure!(!target.is_empty(), "no port specified: write a container port");
    let (first, last) = numbers(target).with_context(|| format!("invalid containerPort: {target}"))?;
    let binding = |port: String| json!({ "HostIp": address, "HostPort": port });
    let name = |port: u16| format!("{port}/{protocol}");
    if host.is_empty() {
        return Ok((first..=last).map(|port| (name(port), binding(String::new()))).collect());
    }
    let (host_first, host_last) = numbers(host).with_context(|| format!("invalid hostPort: {host}"))?;
    // one port of the container on any of a range
    if first == last && host_first != host_last {
        return Ok(vec![(name(first), binding(host.to_owned()))]);
    }
    ensure!(
        last - first == host_last - host_first,
        "invalid ranges specified for container and host Ports: {target} and {host}"
    );
    Ok((first..=last).zip(host_first..=host_last).map(|(port, host)| (name(port), binding(host.to_string()))).collect())
}

fn numbers(text: &str) -> anyhow::Result<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        text.parse::<u16>().map_err(|_| anyhow::anyhow!("{text:?} is no port: write a number up to 65535"))
    };
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "the range {text} runs backwards");
    Ok((first, last))
}
