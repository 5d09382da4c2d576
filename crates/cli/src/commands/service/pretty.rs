//! `service inspect --pretty`.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use super::super::{info::text, tasks::items};
use crate::output::{
    ports,
    units::{age, binary_size, go_duration},
};

type Lines<'a> = &'a mut dyn FnMut(usize, &str, String);

/// `names` of networks by id.
pub(super) fn service(service: &Value, names: &BTreeMap<String, String>) -> String {
    let mut out = String::from("\n");
    let mut line = |indent: usize, name: &str, value: String| {
        let label = format!("{:indent$}{name}:", "");
        let gap = if label.len() < 16 { 16 - label.len() } else { 1 };
        let _ = writeln!(out, "{}", format!("{label}{:gap$}{value}", "").trim_end());
    };
    let spec = &service["Spec"];
    line(0, "ID", text(&service["ID"]));
    line(0, "Name", text(&spec["Name"]));
    map(&mut line, "Labels", &spec["Labels"]);
    mode(&mut line, service);
    update_status(&mut line, &service["UpdateStatus"]);
    let needs =
        items(&spec["DependsOn"]).map(|need| format!("{} ({})", text(&need["Service"]), text(&need["Condition"])));
    let needs = needs.collect::<Vec<_>>().join(", ");
    if !needs.is_empty() {
        line(0, "Depends On", needs);
    }
    placement(&mut line, &spec["TaskTemplate"]["Placement"]);
    policy(&mut line, "UpdateConfig", &spec["UpdateConfig"]);
    policy(&mut line, "RollbackConfig", &spec["RollbackConfig"]);
    container(&mut line, &spec["TaskTemplate"]["ContainerSpec"]);
    resources(&mut line, &spec["TaskTemplate"]["Resources"]);
    networks(&mut line, service, names);
    let ports = ports::join(items(&service["Endpoint"]["Ports"]), ", ", true);
    line(0, "Endpoint Mode", text(&spec["EndpointSpec"]["Mode"]));
    if !ports.is_empty() {
        line(0, "Ports", ports);
    }
    let mesh = &service["Endpoint"]["Mesh"];
    if mesh.is_object() {
        line(0, "Mesh", format!("{}, affinity {}", text(&mesh["Policy"]), text(&mesh["Affinity"])));
    }
    out.push('\n');
    out
}

fn mode(line: Lines<'_>, service: &Value) {
    let mode = &service["Spec"]["Mode"];
    let (replicated, job) = (&mode["Replicated"], &mode["ReplicatedJob"]);
    if mode["Global"].is_object() {
        line(0, "Service Mode", "Global".to_owned());
    } else if mode["GlobalJob"].is_object() {
        line(0, "Service Mode", "GlobalJob".to_owned());
    } else if job.is_object() {
        line(0, "Service Mode", "ReplicatedJob".to_owned());
        line(1, "Completions", text(&job["TotalCompletions"]));
        line(1, "Max Concurrent", text(&job["MaxConcurrent"]));
    } else {
        line(0, "Service Mode", "Replicated".to_owned());
        line(1, "Replicas", text(&replicated["Replicas"]));
    }
    job_status(line, service);
}

fn job_status(line: Lines<'_>, service: &Value) {
    let (status, schedule) = (&service["JobStatus"], &service["Spec"]["Schedule"]);
    if !status.is_object() {
        return;
    }
    let now = jiff::Timestamp::now();
    let never = text(&status["LastExecution"]).starts_with("0001-");
    line(0, "Job Status", String::new());
    line(1, "Iteration", status["JobIteration"]["Index"].as_u64().unwrap_or(0).to_string());
    let last = if never { "never".to_owned() } else { age(&text(&status["LastExecution"]), now) };
    line(1, "Last Run", last);
    for (name, field) in [("Next Run", "NextRun"), ("Skipped Run", "SkippedRun")] {
        if status[field].is_string() {
            line(1, name, text(&status[field]));
        }
    }
    if schedule.is_object() {
        let zone = schedule["Timezone"].as_str().unwrap_or("UTC");
        line(0, "Schedule", format!("{} ({zone}), {}", text(&schedule["Cron"]), text(&schedule["Concurrency"])));
    }
}

fn map(line: Lines<'_>, name: &str, values: &Value) {
    let Some(values) = values.as_object().filter(|values| !values.is_empty()) else { return };
    let pairs: Vec<String> = values.iter().map(|(key, value)| format!("{key}={}", text(value))).collect();
    line(0, name, pairs.join(", "));
}

fn update_status(line: Lines<'_>, status: &Value) {
    if !status.is_object() {
        return;
    }
    line(0, "UpdateStatus", String::new());
    line(1, "State", text(&status["State"]));
    line(1, "Started", age(&text(&status["StartedAt"]), jiff::Timestamp::now()));
    if !text(&status["CompletedAt"]).is_empty() {
        line(1, "Completed", age(&text(&status["CompletedAt"]), jiff::Timestamp::now()));
    }
    line(1, "Message", text(&status["Message"]));
}

fn placement(line: Lines<'_>, placement: &Value) {
    let constraints: Vec<String> = items(&placement["Constraints"]).map(text).collect();
    let most = placement["MaxReplicas"].as_u64().unwrap_or(0);
    if constraints.is_empty() && most == 0 {
        return;
    }
    line(0, "Placement", String::new());
    if !constraints.is_empty() {
        line(1, "Constraints", constraints.join(", "));
    }
    if most != 0 {
        line(1, "Max Replicas Per Node", most.to_string());
    }
}

fn policy(line: Lines<'_>, name: &str, config: &Value) {
    if !config.is_object() {
        return;
    }
    line(0, name, String::new());
    line(1, "Parallelism", text(&config["Parallelism"]));
    if let Some(delay) = config["Delay"].as_u64() {
        line(1, "Delay", go_duration(delay));
    }
    line(1, "On failure", text(&config["FailureAction"]));
    line(1, "Monitoring Period", go_duration(config["Monitor"].as_u64().unwrap_or(0)));
    line(1, "Max failure ratio", text(&config["MaxFailureRatio"]));
    line(1, "Update order", text(&config["Order"]));
}

fn container(line: Lines<'_>, spec: &Value) {
    line(0, "ContainerSpec", String::new());
    line(1, "Image", text(&spec["Image"]));
    for (name, field) in [("Command", "Command"), ("Args", "Args"), ("Env", "Env")] {
        let words: Vec<String> = items(&spec[field]).map(text).collect();
        if !words.is_empty() {
            line(1, name, words.join(" "));
        }
    }
    for (name, field) in [("Dir", "Dir"), ("User", "User"), ("Hostname", "Hostname"), ("Init", "Init")] {
        if !text(&spec[field]).is_empty() {
            line(1, name, text(&spec[field]));
        }
    }
    for mount in items(&spec["Mounts"]) {
        let mode = if mount["ReadOnly"] == Value::Bool(true) { "read only" } else { "read and write" };
        let description =
            format!("{} {} {} ({mode})", text(&mount["Target"]), text(&mount["Type"]), text(&mount["Source"]));
        line(1, "Mount", description);
    }
    for (kind, list) in [("Secret", "Secrets"), ("Config", "Configs")] {
        for file in items(&spec[list]) {
            let name = text(&file[format!("{kind}Name")]);
            line(1, kind, format!("{name} at {}", text(&file["File"]["Name"])));
        }
    }
}

/// Names of the networks, then the virtual address in each (parity S-70).
fn networks(line: Lines<'_>, service: &Value, names: &BTreeMap<String, String>) {
    let name = |id: &Value| {
        let id = text(id);
        names.get(&id).cloned().unwrap_or(id)
    };
    let joined: Vec<String> =
        items(&service["Spec"]["TaskTemplate"]["Networks"]).map(|network| name(&network["Target"])).collect();
    if !joined.is_empty() {
        line(0, "Networks", joined.join(" "));
    }
    let addresses = items(&service["Endpoint"]["VirtualIPs"]);
    let addresses: Vec<String> =
        addresses.map(|vip| format!("{} ({})", text(&vip["Addr"]), name(&vip["NetworkID"]))).collect();
    if !addresses.is_empty() {
        line(0, "Virtual IPs", addresses.join(", "));
    }
}

fn resources(line: Lines<'_>, resources: &Value) {
    let (limits, reservations) = (&resources["Limits"], &resources["Reservations"]);
    for (title, amounts) in [("Reservations", reservations), ("Limits", limits)] {
        if amounts.as_object().is_none_or(serde_json::Map::is_empty) {
            continue;
        }
        line(0, title, String::new());
        if let Some(cpus) = amounts["NanoCPUs"].as_u64() {
            line(1, "CPU", format!("{}", cpus as f64 / 1e9));
        }
        if let Some(bytes) = amounts["MemoryBytes"].as_u64() {
            line(1, "Memory", binary_size(bytes));
        }
        if let Some(pids) = amounts["Pids"].as_u64() {
            line(1, "PIDs", pids.to_string());
        }
    }
    if let Some(bytes) = resources["SwapBytes"].as_i64() {
        line(0, "Swap", u64::try_from(bytes).map_or("unlimited".to_owned(), binary_size));
    }
    if let Some(swappiness) = resources["MemorySwappiness"].as_i64() {
        line(0, "Swappiness", swappiness.to_string());
    }
}
