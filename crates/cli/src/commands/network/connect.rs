//! `network connect` and `network disconnect`: the places of a single container.

use clap::Args;
use serde_json::{Value, json};

use super::create::pairs;
use crate::{
    client::{Client, escape},
    spec::edit::set_some,
};

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    network: String,
    container: String,
    /// Further name of the container in this network
    #[arg(long, value_delimiter = ',')]
    alias: Vec<String>,
    /// IPv4 address of the container in this network (default: any free one)
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address, where the network has it (default: any free one)
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Further address that only neighbours in the network reach
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    link_local_ip: Vec<String>,
    /// Name of the container's own for another one
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Option of the network's driver for this place
    #[arg(long, value_name = "KEY[=VALUE]", value_delimiter = ',')]
    driver_opt: Vec<String>,
    /// The network with the highest number is the container's way out
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
    gw_priority: i64,
}

#[derive(Debug, Args)]
pub(crate) struct DisconnectArgs {
    network: String,
    container: String,
    /// As docker has it; a container that is there is disconnected in any case
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn connect(client: &Client, arguments: ConnectArgs) -> anyhow::Result<()> {
    let path = format!("/networks/{}/connect", escape(&arguments.network));
    client.post(&path, Some(&connection(&arguments))).await.map(drop)
}

/// The request that the flags say.
fn connection(arguments: &ConnectArgs) -> Value {
    let ConnectArgs { alias, ip, ip6, link_local_ip, link, driver_opt, gw_priority, .. } = arguments;
    let mut config = json!({ "Aliases": alias });
    let some = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
    set_some(&mut config, "IPAMConfig.IPv4Address", ip.clone());
    set_some(&mut config, "IPAMConfig.IPv6Address", ip6.clone());
    set_some(&mut config, "IPAMConfig.LinkLocalIPs", some(link_local_ip));
    set_some(&mut config, "Links", some(link));
    set_some(&mut config, "DriverOpts", (!driver_opt.is_empty()).then(|| pairs(driver_opt)));
    set_some(&mut config, "GwPriority", (*gw_priority != 0).then_some(*gw_priority));
    json!({ "Container": arguments.container, "EndpointConfig": config })
}

pub(super) async fn disconnect(client: &Client, arguments: DisconnectArgs) -> anyhow::Result<()> {
    let path = format!("/networks/{}/disconnect", escape(&arguments.network));
    let body = json!({ "Container": arguments.container, "Force": arguments.force });
    client.post(&path, Some(&body)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n21_flags_become_dockers_request() {
        let (network, container) = ("back".to_owned(), "c1".to_owned());
        let mut arguments = ConnectArgs {
            network,
            container,
            alias: vec!["db".to_owned()],
            ip: Some("10.1.0.9".to_owned()),
            ip6: None,
            link_local_ip: Vec::new(),
            link: Vec::new(),
            driver_opt: Vec::new(),
            gw_priority: 0,
        };
        assert_eq!(
            connection(&arguments).to_string(),
            r#"{"Container":"c1","EndpointConfig":{"Aliases":["db"],"IPAMConfig":{"IPv4Address":"10.1.0.9"}}}"#
        );
        let texts = |text: &str| vec![text.to_owned()];
        (arguments.alias, arguments.ip) = (Vec::new(), None);
        (arguments.ip6, arguments.link_local_ip) = (Some("fd00:1::9".to_owned()), texts("fe80::9"));
        (arguments.link, arguments.driver_opt, arguments.gw_priority) = (texts("db:d"), texts("a=b"), -7);
        assert_eq!(
            connection(&arguments).to_string(),
            r#"{"Container":"c1","EndpointConfig":{"Aliases":[],"IPAMConfig":{"IPv6Address":"fd00:1::9","LinkLocalIPs":["fe80::9"]},"Links":["db:d"],"DriverOpts":{"a":"b"},"GwPriority":-7}}"#
        );
    }
}
