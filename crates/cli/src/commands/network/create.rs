//! `network create`: flags to Docker's request.

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::info::text;
use crate::{
    client::Client,
    output::terminal::{print, print_error},
    spec::ipam,
};

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    name: String,
    /// Driver of the network: overlay, bridge, macvlan or ipvlan; unlike docker's, the default spans the cluster
    #[arg(short, long, default_value = "overlay")]
    driver: String,
    /// Subnet in CIDR format (default: chosen from the address pools of the cluster)
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    subnet: Vec<String>,
    /// Gateway of a subnet (default: its first address)
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Give out addresses from this part of a subnet only
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// Address that is never given out
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// Who gives out addresses; there is no other than default
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    ipam_driver: String,
    /// Option for who gives out addresses
    #[arg(long, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,
    /// Single containers may join, not only services
    #[arg(long)]
    attachable: bool,
    /// No way out of the network
    #[arg(long)]
    internal: bool,
    /// An IPv6 subnet beside the IPv4 one
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    ipv6: bool,
    /// IPv4 addresses, which every network has
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    ipv4: bool,
    /// Make it the network of the routing mesh
    #[arg(long)]
    ingress: bool,
    /// Driver option: encrypted, parent=INTERFACE[.VLAN], ipvlan_mode=l2|l3|l3s, com.docker.network.driver.mtu=BYTES, …
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    opt: Vec<String>,
    /// Label of the network
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Only keep the configuration, for other networks: on this host, or with --scope swarm in the cluster
    #[arg(long)]
    config_only: bool,
    /// Take the configuration of this network
    #[arg(long, value_name = "NETWORK")]
    config_from: Option<String>,
    /// Scope: swarm (each host that needs it has its own, for bridge, macvlan and ipvlan) or local
    #[arg(long, default_value = "")]
    scope: String,
}

pub(super) async fn create(client: &Client, arguments: CreateArgs) -> anyhow::Result<()> {
    let answer = client.post("/networks/create", Some(&request(&arguments)?)).await?;
    let warning = text(&answer["Warning"]);
    if !warning.is_empty() {
        print_error(&format!("WARNING: {warning}\n"))?;
    }
    print(&format!("{}\n", text(&answer["Id"])))
}

/// The request that the flags say.
pub(crate) fn request(arguments: &CreateArgs) -> anyhow::Result<Value> {
    let parts = ipam::Parts {
        subnets: &arguments.subnet,
        ranges: &arguments.ip_range,
        gateways: &arguments.gateway,
        auxiliary: &arguments.aux_address,
    };
    let mut body = json!({
        "Name": arguments.name,
        "Driver": arguments.driver,
        "Scope": arguments.scope,
        "Internal": arguments.internal,
        "Attachable": arguments.attachable,
        "Ingress": arguments.ingress,
        "EnableIPv6": arguments.ipv6,
        "ConfigOnly": arguments.config_only,
        "IPAM": { "Driver": arguments.ipam_driver, "Config": ipam::config(&parts)? },
        "Options": pairs(&arguments.opt),
        "Labels": pairs(&arguments.label),
    });
    if !arguments.ipam_opt.is_empty() {
        body["IPAM"]["Options"] = Value::Object(pairs(&arguments.ipam_opt));
    }
    if !arguments.ipv4 {
        body["EnableIPv4"] = json!(false);
    }
    if let Some(source) = &arguments.config_from {
        body["ConfigFrom"] = json!({ "Network": source });
    }
    Ok(body)
}

pub(super) fn pairs(entries: &[String]) -> Map<String, Value> {
    let pair = |entry: &String| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        (name.to_owned(), Value::from(value))
    };
    entries.iter().map(pair).collect()
}
