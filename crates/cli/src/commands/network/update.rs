//! `network update`: more subnets for a network that is there.

use clap::Args;

use crate::{
    client::{Client, escape},
    output::terminal::print,
    spec::ipam,
};

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    network: String,
    /// One more subnet in CIDR format, of a family that the network has: used when the others are full
    #[arg(long, value_name = "SUBNET", value_delimiter = ',', required = true)]
    subnet_add: Vec<String>,
    /// Gateway of a subnet that is added (default: its first address)
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Give out addresses from this part of a subnet that is added only
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// Address of a subnet that is added that is never given out
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
}

/// One after the other: what was added before one that is refused stays.
pub(super) async fn update(client: &Client, arguments: UpdateArgs) -> anyhow::Result<()> {
    let path = format!("/networks/{}/subnets", escape(&arguments.network));
    let parts = ipam::Parts {
        subnets: &arguments.subnet_add,
        ranges: &arguments.ip_range,
        gateways: &arguments.gateway,
        auxiliary: &arguments.aux_address,
    };
    for subnet in ipam::config(&parts)? {
        client.post(&path, Some(&subnet)).await?;
    }
    print(&format!("{}\n", arguments.network))
}
