//! `info` and `version`.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::{API_PREFIX, Client},
    output::{
        template::Template,
        terminal::{print, print_error},
        units::{binary_size, go_duration},
    },
};

#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

impl FormatArgs {
    /// Prints by format, if one was asked for.
    fn show(&self, value: &Value) -> anyhow::Result<bool> {
        match self.format.as_deref().filter(|format| !format.is_empty()) {
            None => return Ok(false),
            Some("json") => print(&format!("{value}\n"))?,
            Some(format) => print(&format!("{}\n", Template::parse(format)?.run(value)?))?,
        }
        Ok(true)
    }
}

pub(crate) async fn version(client: &Client, arguments: FormatArgs) -> anyhow::Result<()> {
    let own = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API_PREFIX.trim_start_matches("/v"),
        "Os": std::env::consts::OS,
        "Arch": std::env::consts::ARCH,
    });
    let server = client.get("/version").await;
    let both = json!({ "Client": own, "Server": server.as_ref().ok() });
    if !arguments.show(&both)? {
        print(&format!(
            "Client:\n Version:           {}\n API version:       {}\n OS/Arch:           {}/{}\n",
            text(&own["Version"]),
            text(&own["ApiVersion"]),
            text(&own["Os"]),
            text(&own["Arch"])
        ))?;
        if let Ok(server) = &server {
            let line = |name: &str, value: String| format!(" {:<18} {value}\n", format!("{name}:"));
            let api = format!("{} (minimum version {})", text(&server["ApiVersion"]), text(&server["MinAPIVersion"]));
            print(&format!(
                "\nServer:\n{}{}{}{}",
                line("Version", server_version(server)),
                line("API version", api),
                line("OS/Arch", format!("{}/{}", text(&server["Os"]), text(&server["Arch"]))),
                line("Kernel version", text(&server["KernelVersion"])),
            ))?;
        }
    }
    server.map(drop)
}

/// Of rswarm: the engine's own is one of Docker's, for clients that compare it. A daemon older than that has this one alone.
fn server_version(server: &Value) -> String {
    let mut components = server["Components"].as_array().into_iter().flatten();
    let own = components.find(|component| component["Name"] == "rswarm");
    text(own.map_or(&server["Version"], |own| &own["Version"]))
}

pub(crate) async fn info(client: &Client, arguments: FormatArgs) -> anyhow::Result<()> {
    let info = client.get("/info").await?;
    if arguments.show(&info)? {
        return Ok(());
    }
    print(&pretty(&info))?;
    let warnings = [&info["Warnings"], &info["Swarm"]["Warnings"]];
    for warning in warnings.into_iter().filter_map(Value::as_array).flatten() {
        print_error(&format!("WARNING: {}\n", text(warning)))?;
    }
    Ok(())
}

pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn pretty(info: &Value) -> String {
    let mut out = format!("Client:\n Version:    {}\n\nServer:\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, " {name}: {value}");
    };
    line("Containers", text(&info["Containers"]));
    line(" Running", text(&info["ContainersRunning"]));
    line(" Stopped", text(&info["ContainersStopped"]));
    line("Images", text(&info["Images"]));
    line("Server Version", text(info.get("RswarmVersion").unwrap_or(&info["ServerVersion"])));
    line("Storage Driver", text(&info["Driver"]));
    line("Logging Driver", text(&info["LoggingDriver"]));
    line("Cgroup Driver", text(&info["CgroupDriver"]));
    line("Cgroup Version", text(&info["CgroupVersion"]));
    line("Swarm", text(&info["Swarm"]["LocalNodeState"]));
    swarm(&info["Swarm"], &mut line);
    let runtimes = info["Runtimes"].as_object().map(|map| map.keys().cloned().collect::<Vec<_>>().join(" "));
    line("Runtimes", runtimes.unwrap_or_default());
    let default = text(&info["DefaultRuntime"]);
    line("Default Runtime", format!("{default} ({})", text(&info["Runtimes"][&default]["path"])));
    line("Overlay Encryption", text(&info["OverlayEncryption"]));
    line("Kernel Version", text(&info["KernelVersion"]));
    line("Operating System", text(&info["OperatingSystem"]));
    line("OSType", text(&info["OSType"]));
    line("Architecture", text(&info["Architecture"]));
    line("CPUs", text(&info["NCPU"]));
    line("Total Memory", binary_size(info["MemTotal"].as_u64().unwrap_or(0)));
    line("Name", text(&info["Name"]));
    line("ID", text(&info["ID"]));
    line("Root Dir", text(&info["DockerRootDir"]));
    for label in info["Labels"].as_array().into_iter().flatten() {
        line("Label", text(label));
    }
    out
}

fn swarm(swarm: &Value, line: &mut impl FnMut(&str, String)) {
    if !text(&swarm["Error"]).is_empty() {
        line(" Error", text(&swarm["Error"]));
    }
    if swarm["LocalNodeState"] != "active" {
        return;
    }
    line(" NodeID", text(&swarm["NodeID"]));
    line(" Is Manager", text(&swarm["ControlAvailable"]));
    let cluster = &swarm["Cluster"];
    if swarm["ControlAvailable"] == json!(true) && cluster.is_object() {
        let spec = &cluster["Spec"];
        line(" ClusterID", text(&cluster["ID"]));
        line(" Managers", text(&swarm["Managers"]));
        line(" Nodes", text(&swarm["Nodes"]));
        let pools: Vec<String> = cluster["DefaultAddrPool"].as_array().into_iter().flatten().map(text).collect();
        line(" Default Address Pool", pools.join("  "));
        line(" SubnetSize", text(&cluster["SubnetSize"]));
        line(" Data Path Port", text(&cluster["DataPathPort"]));
        line(" Orchestration", String::new());
        line("  Task History Retention Limit", text(&spec["Orchestration"]["TaskHistoryRetentionLimit"]));
        line(" Raft", String::new());
        line("  Snapshot Interval", text(&spec["Raft"]["SnapshotInterval"]));
        line(" Dispatcher", String::new());
        line("  Heartbeat Period", go_duration(spec["Dispatcher"]["HeartbeatPeriod"].as_u64().unwrap_or(0)));
        line(" CA Configuration", String::new());
        line("  Expiry Duration", go_duration(spec["CAConfig"]["NodeCertExpiry"].as_u64().unwrap_or(0)));
    }
    line(" Node Address", text(&swarm["NodeAddr"]));
    let managers = swarm["RemoteManagers"].as_array();
    if let Some(managers) = managers.filter(|managers| !managers.is_empty()) {
        line(" Manager Addresses", String::new());
        let mut addresses: Vec<String> = managers.iter().map(|manager| text(&manager["Addr"])).collect();
        addresses.sort();
        for address in addresses {
            line("  Manager", address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-42
    #[test]
    fn e_42_people_are_told_the_version_of_rswarm() {
        let engine = json!({ "Name": "Engine", "Version": "28.5.2" });
        let own = json!({ "Name": "rswarm", "Version": "0.1.0" });
        assert_eq!(server_version(&json!({ "Version": "28.5.2", "Components": [engine, own] })), "0.1.0");
        assert_eq!(server_version(&json!({ "Version": "0.0.9", "Components": [{ "Name": "Engine" }] })), "0.0.9");
        let shown = pretty(&json!({ "ServerVersion": "28.5.2", "RswarmVersion": "0.1.0" }));
        assert!(shown.contains("\n Server Version: 0.1.0\n"), "{shown}");
    }
}
