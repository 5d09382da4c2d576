//! Flags that may be given several times: lists and maps of the spec.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{
    dependency, devices,
    edit::{change_list, change_map, get, set},
    flags::{CreateLists, UpdateLists},
    mount,
    network::{self, Ids},
    publish,
};

const CONTAINER: &str = "TaskTemplate.ContainerSpec";

/// Puts the lists of a new service in.
pub(crate) fn create(spec: &mut Value, lists: &CreateLists, ids: &Ids) -> anyhow::Result<()> {
    let mut env = Vec::new();
    for file in &lists.env_file {
        env.extend(read_env_file(file)?);
    }
    env.extend(lists.env.iter().cloned());
    let as_update = UpdateLists {
        env_add: env,
        label_add: lists.label.clone(),
        container_label_add: lists.container_label.clone(),
        constraint_add: lists.constraint.clone(),
        placement_pref_add: lists.placement_pref.clone(),
        mount_add: lists.mount.clone(),
        secret_add: lists.secret.clone(),
        config_add: lists.config.clone(),
        network_add: lists.network.clone(),
        publish_add: lists.publish.clone(),
        cap_add: lists.cap_add.clone(),
        cap_drop: lists.cap_drop.clone(),
        sysctl_add: lists.sysctl.clone(),
        ulimit_add: lists.ulimit.clone(),
        group_add: lists.group.clone(),
        host_add: lists.host.clone(),
        dns_add: lists.dns.clone(),
        dns_search_add: lists.dns_search.clone(),
        dns_option_add: lists.dns_option.clone(),
        generic_resource_add: lists.generic_resource.clone(),
        device_add: lists.device.clone(),
        gpus: lists.gpus.clone(),
        ..UpdateLists::default()
    };
    update(spec, &as_update, ids)
}

/// Removes, then adds.
pub(crate) fn update(spec: &mut Value, lists: &UpdateLists, ids: &Ids) -> anyhow::Result<()> {
    let env = lists.env_add.iter().filter_map(|entry| with_own_value(entry)).collect();
    change_list(spec, &format!("{CONTAINER}.Env"), name_before_equals, &lists.env_rm, env);
    change_map(spec, "Labels", &lists.label_rm, &lists.label_add);
    change_map(spec, &format!("{CONTAINER}.Labels"), &lists.container_label_rm, &lists.container_label_add);
    let (paths, mut claims) = devices::sort(&lists.device_add)?;
    change_list(spec, &format!("{CONTAINER}.Devices"), path_on_host, &lists.device_rm, paths);
    let mut unclaimed = lists.device_rm.clone();
    match lists.gpus.as_deref() {
        Some("none") => unclaimed.push(devices::GPUS.to_owned()),
        Some(text) => claims.push(devices::gpus(text)?),
        None => {}
    }
    change_list(spec, &format!("{CONTAINER}.DeviceRequests"), devices::claim_key, &unclaimed, claims);
    change_map(spec, &format!("{CONTAINER}.Sysctls"), &lists.sysctl_rm, &lists.sysctl_add);
    let plain: [(&str, &[String], &[String]); 5] = [
        ("TaskTemplate.Placement.Constraints", &lists.constraint_rm, &lists.constraint_add),
        ("TaskTemplate.ContainerSpec.Groups", &lists.group_rm, &lists.group_add),
        ("TaskTemplate.ContainerSpec.DNSConfig.Nameservers", &lists.dns_rm, &lists.dns_add),
        ("TaskTemplate.ContainerSpec.DNSConfig.Search", &lists.dns_search_rm, &lists.dns_search_add),
        ("TaskTemplate.ContainerSpec.DNSConfig.Options", &lists.dns_option_rm, &lists.dns_option_add),
    ];
    for (path, remove, add) in plain {
        change_list(spec, path, whole, remove, add.iter().map(|text| Value::from(text.as_str())).collect());
    }
    let hosts = |entries: &[String]| entries.iter().map(|entry| host_line(entry)).collect::<anyhow::Result<Vec<_>>>();
    let (add, remove) = (hosts(&lists.host_add)?, hosts(&lists.host_rm)?);
    change_list(spec, &format!("{CONTAINER}.Hosts"), whole, &remove, add.into_iter().map(Value::from).collect());
    capabilities(spec, lists);
    let mounts = lists.mount_add.iter().map(|text| mount::parse(text)).collect::<anyhow::Result<_>>()?;
    change_list(spec, &format!("{CONTAINER}.Mounts"), |mount| text_of(mount, "Target"), &lists.mount_rm, mounts);
    dependency::change_secrets(spec, &lists.secret_add, &lists.secret_rm)?;
    dependency::change_configs(spec, &lists.config_add, &lists.config_rm)?;
    let ulimits = lists.ulimit_add.iter().map(|text| ulimit(text)).collect::<anyhow::Result<_>>()?;
    change_list(spec, &format!("{CONTAINER}.Ulimits"), |ulimit| text_of(ulimit, "Name"), &lists.ulimit_rm, ulimits);
    network::change(spec, &lists.network_add, &lists.network_rm, ids)?;
    preferences(spec, lists)?;
    publish::change(spec, &lists.publish_add, &lists.publish_rm)?;
    generic_resources(spec, lists)
}

fn whole(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn text_of(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn path_on_host(device: &Value) -> String {
    device["PathOnHost"].as_str().unwrap_or_default().to_owned()
}

fn name_before_equals(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.split_once('=').map_or(text, |(name, _)| name).to_owned()
}

/// `NAME` alone takes the value of the caller's environment, and is left out if there is none.
fn with_own_value(entry: &str) -> Option<Value> {
    if entry.contains('=') {
        return Some(Value::from(entry));
    }
    std::env::var(entry).ok().map(|value| Value::from(format!("{entry}={value}")))
}

/// Those of files, then those that are said: of a name the last counts.
pub(crate) fn variables(files: &[PathBuf], said: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut entries = Vec::new();
    for file in files {
        entries.extend(read_env_file(file)?);
    }
    entries.extend(said.iter().cloned());
    Ok(entries.iter().filter_map(|entry| with_own_value(entry)).collect())
}

fn read_env_file(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read --env-file {}", path.display()))?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim_start);
    let lines: Vec<String> =
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    for line in &lines {
        let name = line.split_once('=').map_or(line.as_str(), |(name, _)| name);
        if name.is_empty() || name.contains(char::is_whitespace) {
            bail!("--env-file {}: {name:?} is no name of a variable", path.display());
        }
    }
    Ok(lines)
}

/// `name:address` as /etc/hosts has it.
fn host_line(entry: &str) -> anyhow::Result<String> {
    let (name, address) = entry.split_once(':').with_context(|| format!("{entry:?} is not HOST:IP"))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    address.parse::<std::net::IpAddr>().with_context(|| format!("{address:?} in {entry:?} is not an IP address"))?;
    Ok(format!("{address} {name}"))
}

fn capabilities(spec: &mut Value, lists: &UpdateLists) {
    let normal = |caps: &[String]| -> Vec<String> {
        let upper = caps.iter().map(|cap| cap.to_ascii_uppercase());
        upper.map(|cap| if cap == "ALL" || cap.starts_with("CAP_") { cap } else { format!("CAP_{cap}") }).collect()
    };
    let (add, drop) = (normal(&lists.cap_add), normal(&lists.cap_drop));
    let values = |caps: &[String]| caps.iter().map(|cap| Value::from(cap.as_str())).collect();
    // A capability asked for is no longer dropped, and the other way round.
    change_list(spec, &format!("{CONTAINER}.CapabilityAdd"), whole, &drop, values(&add));
    change_list(spec, &format!("{CONTAINER}.CapabilityDrop"), whole, &add, values(&drop));
}

pub(super) fn ulimit(text: &str) -> anyhow::Result<Value> {
    let (name, limits) = text.split_once('=').with_context(|| format!("{text:?} is not NAME=SOFT[:HARD]"))?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "unlimited" => Ok(-1),
        text => text.parse::<i64>().with_context(|| format!("{text:?} is no limit")),
    };
    Ok(json!({ "Name": name, "Hard": number(hard)?, "Soft": number(soft)? }))
}

fn preferences(spec: &mut Value, lists: &UpdateLists) -> anyhow::Result<()> {
    let descriptor = |text: &String| match text.split_once('=') {
        Some(("spread", over)) => Ok(over.to_owned()),
        _ => bail!("invalid placement preference {text:?}: write spread=node.labels.NAME"),
    };
    let remove = lists.placement_pref_rm.iter().map(descriptor).collect::<anyhow::Result<Vec<_>>>()?;
    let add = lists.placement_pref_add.iter().map(descriptor).collect::<anyhow::Result<Vec<_>>>()?;
    let add = add.into_iter().map(|over| json!({ "Spread": { "SpreadDescriptor": over } })).collect();
    let key = |preference: &Value| text_of(&preference["Spread"], "SpreadDescriptor");
    change_list(spec, "TaskTemplate.Placement.Preferences", key, &remove, add);
    Ok(())
}

fn generic_resources(spec: &mut Value, lists: &UpdateLists) -> anyhow::Result<()> {
    const AT: &str = "TaskTemplate.Resources.Reservations.GenericResources";
    let kind = |item: &Value| {
        let spec = item.get("DiscreteResourceSpec").or_else(|| item.get("NamedResourceSpec"));
        spec.map(|spec| text_of(spec, "Kind")).unwrap_or_default()
    };
    let mut items = get(spec, AT).and_then(Value::as_array).cloned().unwrap_or_default();
    if lists.generic_resource_add.is_empty() && lists.generic_resource_rm.is_empty() {
        return Ok(());
    }
    items.retain(|item| !lists.generic_resource_rm.contains(&kind(item)));
    for text in &lists.generic_resource_add {
        let (name, value) = text.split_once('=').with_context(|| format!("{text:?} is not KIND=VALUE"))?;
        items.push(match value.parse::<u64>() {
            Ok(count) => json!({ "DiscreteResourceSpec": { "Kind": name, "Value": count } }),
            Err(_) => json!({ "NamedResourceSpec": { "Kind": name, "Value": value } }),
        });
    }
    set(spec, AT, items);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-13, E-28: those of files come first, so that what is said counts; a name alone is this shell's, or is left out.
    #[test]
    fn e_13_variables_of_files_and_those_that_are_said() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "A=1\n# B=2\n\n  PATH\nRSWARM_UNSET_HERE\n").expect("write");
        let all = variables(&[file.path().to_owned()], &["A=3".to_owned()]).expect("a good file");
        let texts: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
        assert!(matches!(texts[..], ["A=1", path, "A=3"] if path.starts_with("PATH=")), "{texts:?}");
        let error = variables(&["/none".into()], &[]).expect_err("there is no such file");
        assert!(format!("{error:#}").starts_with("read --env-file /none: "), "{error:#}");
    }
}
