//! `network connect` and `network disconnect`: the places of a single container.

use clap::Args;
use serde_json::{Value, json};

use crate::client::{Client, escape};

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    network: String,
    container: String,
    /// Further name of the container in this network
    #[arg(long)]
    alias: Vec<String>,
    /// IPv4 address of the container in this network (default: any free one)
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
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
    let mut body = json!({ "Container": arguments.container, "EndpointConfig": { "Aliases": arguments.alias } });
    if let Some(address) = &arguments.ip {
        body["EndpointConfig"]["IPAMConfig"] = json!({ "IPv4Address": address });
    }
    body
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
        let arguments =
            ConnectArgs { network, container, alias: vec!["db".to_owned()], ip: Some("10.1.0.9".to_owned()) };
        assert_eq!(
            connection(&arguments).to_string(),
            r#"{"Container":"c1","EndpointConfig":{"Aliases":["db"],"IPAMConfig":{"IPv4Address":"10.1.0.9"}}}"#
        );
    }
}
