//! `--subnet`, `--ip-range`, `--gateway`, `--aux-address`: put together by what lies in what. Pure.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// The flags as they were typed.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) subnets: &'a [String],
    pub(crate) ranges: &'a [String],
    pub(crate) gateways: &'a [String],
    /// `NAME=ADDRESS`.
    pub(crate) auxiliary: &'a [String],
}

/// `IPAM.Config` of the request.
///
/// # Errors
/// A text is no subnet or address, or lies in none of the subnets.
pub(crate) fn config(parts: &Parts<'_>) -> anyhow::Result<Vec<Value>> {
    let subnets: Vec<(IpAddr, u8)> =
        parts.subnets.iter().map(|text| subnet("--subnet", text)).collect::<anyhow::Result<_>>()?;
    let mut entries: Vec<Value> = parts.subnets.iter().map(|text| json!({ "Subnet": text })).collect();
    for text in parts.ranges {
        let (first, _) = subnet("--ip-range", text)?;
        put(&mut entries[place("--ip-range", text, first, &subnets)?], "IPRange", text)?;
    }
    for text in parts.gateways {
        let gateway = address("--gateway", text)?;
        put(&mut entries[place("--gateway", text, gateway, &subnets)?], "Gateway", text)?;
    }
    for text in parts.auxiliary {
        let (name, value) =
            text.split_once('=').with_context(|| format!("--aux-address {text:?} is not NAME=ADDRESS"))?;
        let at = place("--aux-address", text, address("--aux-address", value)?, &subnets)?;
        entries[at]["AuxiliaryAddresses"][name] = Value::from(value);
    }
    Ok(entries)
}

fn put(entry: &mut Value, field: &str, text: &str) -> anyhow::Result<()> {
    match entry.get(field) {
        Some(other) => {
            let (other, subnet) = (text_of(other), text_of(&entry["Subnet"]));
            bail!("{other} and {text} are both in subnet {subnet}: give one of them")
        }
        None => entry[field] = Value::from(text),
    }
    Ok(())
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn place(flag: &str, text: &str, address: IpAddr, subnets: &[(IpAddr, u8)]) -> anyhow::Result<usize> {
    let found = subnets.iter().position(|(network, prefix)| contains(*network, *prefix, address));
    found.with_context(|| format!("{flag} {text} lies in none of the subnets: give the one it is of"))
}

fn contains(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            u32::from(network) & mask == u32::from(address) & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            u128::from(network) & mask == u128::from(address) & mask
        }
        _ => false,
    }
}

fn address(flag: &str, text: &str) -> anyhow::Result<IpAddr> {
    text.parse().with_context(|| format!("{flag} {text:?} is not an IP address"))
}

fn subnet(flag: &str, text: &str) -> anyhow::Result<(IpAddr, u8)> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, prefix))
    });
    parsed.with_context(|| format!("{flag} {text:?} is not a subnet such as 10.7.0.0/16"))
}
