//! Networks of a single container: `--network`, several times, and what belongs to the first of them.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};

use super::{set_text, set_texts};
use crate::{
    commands::container::flags::Places,
    spec::{
        edit::{set, set_some},
        fields,
    },
};

pub(super) fn put(body: &mut Value, flags: &Places) -> anyhow::Result<()> {
    let mut networks = flags.network.iter().map(|text| read(text)).collect::<anyhow::Result<Vec<_>>>()?;
    if networks.is_empty() {
        networks.push(("default".to_owned(), json!({})));
    }
    let (first, endpoint) = &mut networks[0];
    own_flags(first, endpoint, flags)?;
    set(body, "HostConfig.NetworkMode", first.as_str());
    // between containers of the default network, links are the host's
    let by_place = is_of_user(first);
    if !by_place {
        set_texts(body, "HostConfig.Links", &flags.link);
    }
    let mut places = Map::new();
    let several = networks.len() > 1;
    for (name, endpoint) in networks {
        ensure!(
            !(several && is_whole(&name)),
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        );
        ensure!(!places.contains_key(&name), "network \"{name}\" is specified multiple times");
        if several || endpoint.as_object().is_some_and(|fields| !fields.is_empty()) || is_of_user(&name) {
            places.insert(name, endpoint);
        }
    }
    if !places.is_empty() {
        set(body, "NetworkingConfig.EndpointsConfig", places);
    }
    Ok(())
}

fn own_flags(name: &str, endpoint: &mut Value, flags: &Places) -> anyhow::Result<()> {
    let twice = |field: &str, flag: &str, given: bool| {
        let is_there = endpoint.pointer(&format!("/{}", field.replace('.', "/"))).is_some();
        ensure!(!(given && is_there), "conflicting options: cannot specify both --{flag} and per-network settings");
        Ok(())
    };
    twice("Aliases", "network-alias", !flags.network_alias.is_empty())?;
    twice("IPAMConfig.IPv4Address", "ip", !flags.ip.is_empty())?;
    twice("IPAMConfig.IPv6Address", "ip6", !flags.ip6.is_empty())?;
    twice("IPAMConfig.LinkLocalIPs", "link-local-ip", !flags.link_local_ip.is_empty())?;
    twice("MacAddress", "mac-address", !flags.mac_address.is_empty())?;
    ensure!(
        is_of_user(name) || flags.network_alias.is_empty(),
        "network-scoped aliases are only supported for user-defined networks"
    );
    set_texts(endpoint, "Aliases", &flags.network_alias);
    set_text(endpoint, "IPAMConfig.IPv4Address", &flags.ip);
    set_text(endpoint, "IPAMConfig.IPv6Address", &flags.ip6);
    set_texts(endpoint, "IPAMConfig.LinkLocalIPs", &flags.link_local_ip);
    set_text(endpoint, "MacAddress", &flags.mac_address);
    if is_of_user(name) {
        set_texts(endpoint, "Links", &flags.link);
    }
    Ok(())
}

fn is_whole(name: &str) -> bool {
    matches!(name, "host" | "none") || name.starts_with("container:")
}

fn is_of_user(name: &str) -> bool {
    !is_whole(name) && !matches!(name, "default" | "bridge")
}

/// `NAME`, or `name=NAME,alias=ALIAS,…`.
fn read(text: &str) -> anyhow::Result<(String, Value)> {
    if !text.contains('=') {
        ensure!(text != "container:", "invalid container format container:<name|id>");
        return Ok((if text.is_empty() { "default" } else { text }.to_owned(), json!({})));
    }
    let fields = fields::split(text);
    let (mut name, mut aliases, mut options, mut endpoint) = ("", Vec::new(), Map::new(), json!({}));
    let mut link_local = Vec::new();
    for field in &fields {
        let (key, value) = field.split_once('=').with_context(|| format!("invalid field {field} in {text:?}"))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => name = value,
            "alias" => aliases.push(Value::from(value)),
            "ip" => set(&mut endpoint, "IPAMConfig.IPv4Address", value),
            "ip6" => set(&mut endpoint, "IPAMConfig.IPv6Address", value),
            "link-local-ip" => link_local.push(Value::from(value)),
            "mac-address" => set(&mut endpoint, "MacAddress", value),
            "gw-priority" => {
                let priority = value.parse::<i64>().with_context(|| format!("invalid gw-priority ({value})"))?;
                set(&mut endpoint, "GwPriority", priority);
            }
            "driver-opt" => {
                let (key, value) = value.split_once('=').context("invalid key value pair format in driver options")?;
                options.insert(key.to_owned(), value.into());
            }
            other => bail!(
                "invalid field key {other} in {text:?}; known are name, alias, ip, ip6, link-local-ip, mac-address, gw-priority \
                 and driver-opt"
            ),
        }
    }
    ensure!(!name.is_empty(), "network name/id is not specified in {text:?}");
    set_some(&mut endpoint, "Aliases", (!aliases.is_empty()).then_some(aliases));
    set_some(&mut endpoint, "IPAMConfig.LinkLocalIPs", (!link_local.is_empty()).then_some(link_local));
    set_some(&mut endpoint, "DriverOpts", (!options.is_empty()).then_some(options));
    Ok((name.to_owned(), endpoint))
}
