//! `TaskTemplate.ContainerSpec`, and the log driver beside it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Context, attach, devices, mounts, texts, topology::Topology};
use crate::{
    compose::{
        check::{Check, Field, Fields},
        env_file,
    },
    spec::edit::{set, set_some},
};

const AT: &str = "TaskTemplate.ContainerSpec";

pub(super) fn read(
    fields: &Fields<'_>,
    image: &str,
    context: &Context<'_>,
    topology: &Topology,
    check: &mut Check,
    spec: &mut Value,
) {
    let mut container = json!({ "Image": image });
    let labels = labels(fields, context, check);
    container["Labels"] = Value::Object(context.labels(labels));
    plain(fields, check, &mut container);
    host(fields, check, &mut container);
    lists(fields, check, &mut container);
    let env = environment(fields, context, check);
    put_list(&mut container, "Env", env.into_iter().map(|(name, value)| format!("{name}={value}").into()).collect());
    if let Some(field) = fields.get("healthcheck") {
        health(field, check, &mut container);
    }
    put_list(&mut container, "Mounts", mounts::read(fields, topology, check));
    put_list(&mut container, "Secrets", attach::files(fields.get("secrets"), true, topology, check));
    put_list(&mut container, "Configs", attach::files(fields.get("configs"), false, topology, check));
    if let Some(field) = fields.get("security_opt") {
        security(field, check, &mut container);
    }
    if let Some(field) = fields.get("isolation") {
        field.one_of(check, &["default"]);
    }
    set(spec, AT, container);
    if let Some(field) = fields.get("logging") {
        let inner = field.fields(check, &["driver", "options"]);
        set_some(spec, "TaskTemplate.LogDriver.Name", check.text(inner.get("driver")));
        let options = inner.get("options").map(|field| field.pairs(check)).unwrap_or_default();
        set(spec, "TaskTemplate.LogDriver.Options", texts(options));
    }
}

fn put_list(container: &mut Value, name: &str, list: Vec<Value>) {
    if !list.is_empty() {
        container[name] = Value::Array(list);
    }
}

/// One value each.
fn plain(fields: &Fields<'_>, check: &mut Check, container: &mut Value) {
    for (key, name) in
        [("hostname", "Hostname"), ("user", "User"), ("working_dir", "Dir"), ("stop_signal", "StopSignal")]
    {
        set_some(container, name, check.text(fields.get(key)));
    }
    for (key, name) in [
        ("tty", "TTY"),
        ("stdin_open", "OpenStdin"),
        ("read_only", "ReadOnly"),
        ("init", "Init"),
        ("privileged", "Privileged"),
    ] {
        set_some(container, name, fields.get(key).and_then(|field| field.boolean(check)));
    }
    set_some(container, "StopGracePeriod", fields.get("stop_grace_period").and_then(|field| field.nanoseconds(check)));
    if let Some(field) = fields.get("oom_score_adj") {
        match field.integer(check) {
            Some(value) if !(-1000..=1000).contains(&value) => {
                field.wrong(check, format!("{value} is not between -1000 and 1000"));
            }
            value => set_some(container, "OomScoreAdj", value),
        }
    }
    for (key, name) in [("entrypoint", "Command"), ("command", "Args")] {
        if let Some(field) = fields.get(key) {
            let words = field.words(check);
            put_list(container, name, words.into_iter().map(Value::from).collect());
        }
    }
}

/// What it has of its host (P13).
fn host(fields: &Fields<'_>, check: &mut Check, container: &mut Value) {
    set_some(container, "CpusetCpus", check.text(fields.get("cpuset")));
    set_some(container, "ShmSize", fields.get("shm_size").and_then(|field| field.bytes(check)));
    for (key, name) in [("pid", "PidMode"), ("ipc", "IpcMode")] {
        let Some(field) = fields.get(key) else { continue };
        match check.text(Some(field)) {
            Some(mode) if !matches!(mode.as_str(), "host" | "private" | "") => {
                field.wrong(check, format!("{mode:?} is not there for services of a cluster; use host or private"));
            }
            mode => set_some(container, name, mode),
        }
    }
    let (paths, claims) = devices::read(fields, check);
    put_list(container, "Devices", paths);
    put_list(container, "DeviceRequests", claims);
}

fn lists(fields: &Fields<'_>, check: &mut Check, container: &mut Value) {
    for (key, name) in [
        ("dns", "DNSConfig.Nameservers"),
        ("dns_search", "DNSConfig.Search"),
        ("dns_opt", "DNSConfig.Options"),
        ("group_add", "Groups"),
    ] {
        if let Some(field) = fields.get(key) {
            let texts = field.one_or_more(check);
            if key == "dns" {
                for text in texts.iter().filter(|text| text.parse::<std::net::IpAddr>().is_err()) {
                    field.wrong(check, format!("{text:?} is not an IP address"));
                }
            }
            set(container, name, texts);
        }
    }
    for (key, name) in [("cap_add", "CapabilityAdd"), ("cap_drop", "CapabilityDrop")] {
        if let Some(field) = fields.get(key) {
            let upper = field.texts(check).into_iter().map(|cap| cap.to_ascii_uppercase());
            let full =
                upper.map(|cap| if cap == "ALL" || cap.starts_with("CAP_") { cap } else { format!("CAP_{cap}") });
            container[name] = full.map(Value::from).collect();
        }
    }
    if let Some(field) = fields.get("sysctls") {
        container["Sysctls"] = Value::Object(texts(field.pairs(check)));
    }
    if let Some(field) = fields.get("extra_hosts") {
        put_list(container, "Hosts", hosts(field, check));
    }
    if let Some(field) = fields.get("ulimits") {
        put_list(container, "Ulimits", ulimits(field, check));
    }
}

/// As /etc/hosts has them.
fn hosts(field: &Field<'_>, check: &mut Check) -> Vec<Value> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if field.is_map() {
        for (name, entry) in field.entries(check) {
            pairs.extend(entry.one_or_more(check).into_iter().map(|address| (name.to_owned(), address)));
        }
    } else {
        for text in field.texts(check) {
            match text.split_once(['=', ':']) {
                Some((name, address)) => pairs.push((name.to_owned(), address.to_owned())),
                None => field.wrong(check, format!("{text:?} is not HOST:ADDRESS")),
            }
        }
    }
    let mut lines = Vec::new();
    for (name, address) in pairs {
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<std::net::IpAddr>() {
            Ok(_) => lines.push(format!("{bare} {name}").into()),
            Err(_) => field.wrong(check, format!("{address:?}, the address of {name}, is not an IP address")),
        }
    }
    lines
}

fn ulimits(field: &Field<'_>, check: &mut Check) -> Vec<Value> {
    let mut limits = Vec::new();
    for (name, entry) in field.entries(check) {
        let (soft, hard) = if entry.is_map() {
            let inner = entry.fields(check, &["soft", "hard"]);
            let mut number = |key: &str| inner.get(key).and_then(|field| field.integer(check));
            (number("soft"), number("hard"))
        } else {
            let both = entry.integer(check);
            (both, both)
        };
        match (soft, hard) {
            (Some(soft), Some(hard)) if hard >= 0 && (soft > hard || soft < 0) => {
                entry.wrong(check, format!("the soft limit {soft} is above the hard limit {hard}"));
            }
            (Some(soft), Some(hard)) => limits.push(json!({ "Name": name, "Soft": soft, "Hard": hard })),
            _ => entry.wrong(check, "give one number, or soft and hard"),
        }
    }
    limits.sort_by_key(|limit| limit["Name"].as_str().unwrap_or_default().to_owned());
    limits
}

/// Files first, then what is said itself; sorted, as docker sends it.
fn environment(fields: &Fields<'_>, context: &Context<'_>, check: &mut Check) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let own = |name: &str| context.environment.get(name).cloned();
    for (name, value) in from_files(fields.get("env_file"), context, check) {
        if let Some(value) = value.or_else(|| own(&name)) {
            found.insert(name, value);
        }
    }
    for (name, value) in fields.get("environment").map(|field| field.pairs(check)).unwrap_or_default() {
        // a name alone takes the value of the caller's environment, and is left out if there is none
        match value.or_else(|| own(&name)) {
            Some(value) => drop(found.insert(name, value)),
            None => drop(found.remove(&name)),
        }
    }
    found
}

fn labels(fields: &Fields<'_>, context: &Context<'_>, check: &mut Check) -> Vec<(String, Option<String>)> {
    let mut labels = from_files(fields.get("label_file"), context, check);
    for (name, value) in fields.get("labels").map(|field| field.pairs(check)).unwrap_or_default() {
        labels.retain(|(known, _)| *known != name);
        labels.push((name, value));
    }
    labels
}

/// The lines of one file or several; `required: false` lets one be missing.
fn from_files(field: Option<&Field<'_>>, context: &Context<'_>, check: &mut Check) -> Vec<(String, Option<String>)> {
    let Some(field) = field else { return Vec::new() };
    let items = if field.node.as_text().is_some() { vec![field.clone()] } else { field.items(check) };
    let mut lines = Vec::new();
    for item in items {
        let (mut required, mut is_raw) = (true, false);
        let path = if item.is_map() {
            let inner = item.fields(check, &["path", "required", "format"]);
            required = inner.get("required").and_then(|field| field.boolean(check)).unwrap_or(true);
            is_raw = inner.get("format").and_then(|field| field.one_of(check, &["raw"])).is_some();
            check.text(inner.get("path"))
        } else {
            item.text(check)
        };
        let Some(path) = path else { continue };
        let path = std::path::Path::new(&path);
        let text = match super::super::files::read_text(context.read, path) {
            Ok(text) => text,
            Err(_) if !required => continue,
            Err(why) => {
                item.wrong(check, why);
                continue;
            }
        };
        if is_raw {
            let pairs = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
            lines.extend(pairs.map(|line| match line.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (line.to_owned(), None),
            }));
            continue;
        }
        match env_file::parse(&text, &|name| context.environment.get(name).cloned()) {
            Ok(pairs) => lines.extend(pairs),
            Err((line, why)) => item.wrong(check, format!("{}:{line}: {why}", path.display())),
        }
    }
    lines
}

fn health(field: &Field<'_>, check: &mut Check, container: &mut Value) {
    let known = &["test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"];
    let inner = field.fields(check, known);
    let mut health = json!({});
    if inner.get("disable").and_then(|field| field.boolean(check)) == Some(true) {
        if inner.get("test").is_some() {
            field.wrong(check, "disable and test exclude each other");
        }
        health["Test"] = json!(["NONE"]);
    } else if let Some(test) = inner.get("test") {
        match test.node.as_text() {
            Some(script) => health["Test"] = json!(["CMD-SHELL", script]),
            None => {
                let words = test.texts(check);
                if !matches!(words.first().map(String::as_str), Some("NONE" | "CMD" | "CMD-SHELL")) {
                    test.wrong(check, "a list begins with NONE, CMD or CMD-SHELL");
                }
                health["Test"] = words.into();
            }
        }
    }
    for (key, name) in [
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ] {
        set_some(&mut health, name, inner.get(key).and_then(|field| field.nanoseconds(check)));
    }
    set_some(&mut health, "Retries", inner.get("retries").and_then(|field| field.natural(check)));
    container["Healthcheck"] = health;
}

fn security(field: &Field<'_>, check: &mut Check, container: &mut Value) {
    for item in field.items(check) {
        let text = item.text(check).unwrap_or_default();
        match text.replacen('=', ":", 1).as_str() {
            "no-new-privileges" | "no-new-privileges:true" => set(container, "Privileges.NoNewPrivileges", true),
            "no-new-privileges:false" => {}
            "seccomp:unconfined" => set(container, "Privileges.Seccomp.Mode", "unconfined"),
            _ => {
                check.unsupported.push("security_opt".to_owned());
                item.warn(check, "ignored: services know no-new-privileges and seccomp:unconfined");
            }
        }
    }
}
