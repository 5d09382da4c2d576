//! From the flags of `run` and `create` to the body of `/containers/create`. Pure but for files that flags name
//! (`--env-file`, `--label-file`, a seccomp profile) and `-e NAME`.

mod endpoints;
mod limits;
mod ports;
mod volumes;

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

pub(crate) use limits::update;

use super::{
    devices,
    edit::{set, set_some},
    lists::{ulimit, variables},
    mount,
};
use crate::commands::container::flags::{Basics, CreateFlags, HealthFlags, Places, Rights};

/// The body. `is_attached` is what `run` in the foreground asks for, and `create`.
pub(crate) fn body(flags: &CreateFlags, is_attached: bool) -> anyhow::Result<Value> {
    let mut body = json!({ "Image": flags.image, "HostConfig": {} });
    if !flags.command.is_empty() {
        set(&mut body, "Cmd", flags.command.clone());
    }
    basics(&mut body, &flags.basics)?;
    streams(&mut body, &flags.basics, is_attached);
    places(&mut body, &flags.places)?;
    rights(&mut body, &flags.rights)?;
    health(&mut body, &flags.health)?;
    limits::put(&mut body, &flags.limits)?;
    Ok(body)
}

fn basics(body: &mut Value, flags: &Basics) -> anyhow::Result<()> {
    let mut labels = Vec::new();
    for file in &flags.label_file {
        labels.extend(read_label_file(file)?);
    }
    labels.extend(flags.label.iter().cloned());
    set_list(body, "Env", variables(&flags.env_file, &flags.env)?);
    set_map(body, "Labels", &labels);
    set_map(body, "HostConfig.Annotations", &flags.annotation);
    if let Some(entrypoint) = &flags.entrypoint {
        set(body, "Entrypoint", vec![entrypoint.as_str()]);
    }
    set_text(body, "User", &flags.user);
    set_texts(body, "HostConfig.GroupAdd", &flags.group_add);
    set_text(body, "WorkingDir", &flags.workdir);
    set_text(body, "StopSignal", &flags.stop_signal);
    set_some(body, "StopTimeout", flags.stop_timeout);
    set_some(body, "HostConfig.Init", flags.init);
    set_some(body, "HostConfig.AutoRemove", flags.rm);
    let restart = restart_policy(&flags.restart)?;
    ensure!(
        !(flags.rm == Some(true) && restart["Name"] != "no"),
        "conflicting options: cannot specify both --restart and --rm"
    );
    set(body, "HostConfig.RestartPolicy", restart);
    let known = matches!(flags.pull.as_str(), "always" | "missing" | "never");
    ensure!(known, "invalid pull option: '{}': must be one of \"always\", \"missing\" or \"never\"", flags.pull);
    set_text(body, "HostConfig.LogConfig.Type", &flags.log_driver);
    set_map(body, "HostConfig.LogConfig.Config", &flags.log_opt);
    set_text(body, "HostConfig.Runtime", &flags.runtime);
    set_text(body, "HostConfig.Isolation", &flags.isolation);
    Ok(())
}

/// `on-failure:3`.
pub(crate) fn restart_policy(text: &str) -> anyhow::Result<Value> {
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    ensure!(!(name.is_empty() && count.is_some()), "invalid restart policy format: no policy provided before colon");
    let name = if name.is_empty() { "no" } else { name };
    let count = match count {
        None => 0,
        Some(count) => count.parse::<i64>().map_err(|_| {
            anyhow::anyhow!("invalid restart policy format: maximum retry count must be an integer: {count:?}")
        })?,
    };
    Ok(json!({ "Name": name, "MaximumRetryCount": count }))
}

fn streams(body: &mut Value, flags: &Basics, is_attached: bool) {
    let wanted = |name: &str| flags.attach.iter().any(|stream| stream.eq_ignore_ascii_case(name));
    let interactive = flags.interactive == Some(true);
    let all = flags.attach.is_empty();
    let stdin = is_attached && if all { interactive } else { wanted("stdin") };
    set(body, "Tty", flags.tty == Some(true));
    set(body, "OpenStdin", interactive);
    set(body, "StdinOnce", interactive && stdin);
    set(body, "AttachStdin", stdin);
    set(body, "AttachStdout", is_attached && (all || wanted("stdout")));
    set(body, "AttachStderr", is_attached && (all || wanted("stderr")));
}

fn places(body: &mut Value, flags: &Places) -> anyhow::Result<()> {
    volumes::put(body, flags)?;
    let mounts = flags.mount.iter().map(|text| mount::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    if !mounts.is_empty() {
        set(body, "HostConfig.Mounts", mounts);
    }
    set_texts(body, "HostConfig.VolumesFrom", &flags.volumes_from);
    set_text(body, "HostConfig.VolumeDriver", &flags.volume_driver);
    set_map(body, "HostConfig.StorageOpt", &flags.storage_opt);
    set_some(body, "HostConfig.ReadonlyRootfs", flags.read_only);
    ports::put(body, &flags.publish, &flags.expose)?;
    set_some(body, "HostConfig.PublishAllPorts", flags.publish_all);
    endpoints::put(body, flags)?;
    set_text(body, "Hostname", &flags.hostname);
    set_text(body, "Domainname", &flags.domainname);
    let hosts = flags.add_host.iter().map(|text| host(text)).collect::<anyhow::Result<Vec<_>>>()?;
    set_list(body, "HostConfig.ExtraHosts", hosts.into_iter().map(Value::from).collect());
    set_texts(body, "HostConfig.Dns", &flags.dns);
    set_texts(body, "HostConfig.DnsSearch", &flags.dns_search);
    set_texts(body, "HostConfig.DnsOptions", &flags.dns_option);
    Ok(())
}

/// `name:address` or `name=address`, as the API wants it.
fn host(text: &str) -> anyhow::Result<String> {
    let at = text.find(['=', ':']).filter(|at| *at > 0);
    let at = at.with_context(|| format!("bad format for add-host: {text:?}; write NAME:ADDRESS"))?;
    Ok(format!("{}:{}", &text[..at], &text[at + 1..]))
}

fn rights(body: &mut Value, flags: &Rights) -> anyhow::Result<()> {
    set_texts(body, "HostConfig.CapAdd", &flags.cap_add);
    set_texts(body, "HostConfig.CapDrop", &flags.cap_drop);
    set_some(body, "HostConfig.Privileged", flags.privileged);
    let mut options = Vec::new();
    for option in &flags.security_opt {
        match option.split_once('=') {
            Some(("systempaths", "unconfined")) => {
                set(body, "HostConfig.MaskedPaths", Vec::<Value>::new());
                set(body, "HostConfig.ReadonlyPaths", Vec::<Value>::new());
            }
            Some(("seccomp", profile)) if !matches!(profile, "unconfined" | "builtin") => {
                let text = std::fs::read_to_string(profile)
                    .with_context(|| format!("opening seccomp profile ({profile}) failed"))?;
                options.push(format!("seccomp={text}"));
            }
            _ => options.push(option.clone()),
        }
    }
    set_texts(body, "HostConfig.SecurityOpt", &options);
    let (paths, mut claims) = devices::sort(&flags.device)?;
    set_list(body, "HostConfig.Devices", paths);
    set_texts(body, "HostConfig.DeviceCgroupRules", &flags.device_cgroup_rule);
    claims.extend(flags.gpus.iter().map(|text| devices::gpus(text)).collect::<anyhow::Result<Vec<_>>>()?);
    set_list(body, "HostConfig.DeviceRequests", claims);
    set_map(body, "HostConfig.Sysctls", &flags.sysctl);
    for (field, mode) in [
        ("PidMode", &flags.pid),
        ("IpcMode", &flags.ipc),
        ("UTSMode", &flags.uts),
        ("UsernsMode", &flags.userns),
        ("CgroupnsMode", &flags.cgroupns),
    ] {
        set_text(body, &format!("HostConfig.{field}"), mode);
    }
    Ok(())
}

fn health(body: &mut Value, flags: &HealthFlags) -> anyhow::Result<()> {
    let times = [
        ("Interval", flags.health_interval),
        ("Timeout", flags.health_timeout),
        ("StartPeriod", flags.health_start_period),
        ("StartInterval", flags.health_start_interval),
        ("Retries", flags.health_retries),
    ];
    if flags.no_healthcheck == Some(true) {
        let other = flags.health_cmd.is_some() || times.iter().any(|(_, value)| value.is_some());
        ensure!(!other, "--no-healthcheck conflicts with --health-* options");
        set(body, "Healthcheck.Test", json!(["NONE"]));
        return Ok(());
    }
    if let Some(command) = &flags.health_cmd {
        set(body, "Healthcheck.Test", json!(["CMD-SHELL", command]));
    }
    for (name, value) in times {
        set_some(body, &format!("Healthcheck.{name}"), value);
    }
    Ok(())
}

fn read_label_file(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read --label-file {}", path.display()))?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim_start);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

fn set_text(body: &mut Value, path: &str, text: &str) {
    if !text.is_empty() {
        set(body, path, text);
    }
}

fn set_list(body: &mut Value, path: &str, items: Vec<Value>) {
    if !items.is_empty() {
        set(body, path, items);
    }
}

fn set_texts(body: &mut Value, path: &str, texts: &[String]) {
    set_list(body, path, texts.iter().map(|text| Value::from(text.as_str())).collect());
}

/// `KEY=VALUE`, the last of a key.
fn set_map(body: &mut Value, path: &str, entries: &[String]) {
    if entries.is_empty() {
        return;
    }
    let pair = |entry: &String| {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        (key.to_owned(), Value::from(value))
    };
    set(body, path, entries.iter().map(pair).collect::<Map<_, _>>());
}

fn ulimits(texts: &[String]) -> anyhow::Result<Vec<Value>> {
    texts.iter().map(|text| ulimit(text)).collect()
}
