//! `--publish`: `8080:80/tcp`, `8000-8010:80-90`, `published=8080,target=80,protocol=tcp,mode=host`.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

/// One port or, for a range, several.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let read = if text.contains('=') { read_long(text) } else { read_short(text) };
    read.with_context(|| format!("invalid publish option {text:?}"))
}

fn read_long(text: &str) -> anyhow::Result<Vec<Value>> {
    let (mut target, mut published, mut protocol, mut mode) = (None, None, "tcp", "ingress");
    for field in text.split(',') {
        let (key, value) = field.split_once('=').with_context(|| format!("{field:?} is not KEY=VALUE"))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "target" => target = Some(range(value)?),
            "published" => published = Some(range(value)?),
            "protocol" => protocol = value,
            "mode" => mode = value,
            other => bail!("unexpected key {other:?}; known are published, target, protocol and mode"),
        }
    }
    ports(target.context("target is missing")?, published, protocol, mode)
}

fn read_short(text: &str) -> anyhow::Result<Vec<Value>> {
    let (ports_text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (published, target) = match ports_text.rsplit_once(':') {
        Some((published, target)) => {
            ensure!(!published.contains(':'), "an address of the host is not supported: write PUBLISHED:TARGET");
            (Some(range(published)?), range(target)?)
        }
        None => (None, range(ports_text)?),
    };
    ports(target, published, protocol, "ingress")
}

fn ports(target: (u16, u16), published: Option<(u16, u16)>, protocol: &str, mode: &str) -> anyhow::Result<Vec<Value>> {
    let length = target.1 - target.0;
    if let Some((first, last)) = published {
        ensure!(last - first == length, "the ranges of published and target ports differ in length");
    }
    let port = |offset: u16| {
        let mut port = json!({ "Protocol": protocol, "TargetPort": target.0 + offset });
        if let Some((first, _)) = published {
            port["PublishedPort"] = Value::from(first + offset);
        }
        port["PublishMode"] = Value::from(mode);
        port
    };
    Ok((0..=length).map(port).collect())
}

fn range(text: &str) -> anyhow::Result<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let port = text.parse::<u16>().ok().filter(|port| *port != 0);
        port.with_context(|| format!("{text:?} is no port (1 to 65535)"))
    };
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "the range {text} runs backwards");
    Ok((first, last))
}
