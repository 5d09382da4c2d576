//! `init`, `join`, `leave`, `join-token`, `swarm update`.

pub(crate) mod ca;
pub(crate) mod lock;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    backup::{self, PassphraseArgs},
    doctor,
};
use crate::{
    client::Client,
    output::{
        terminal::{print, print_error},
        units::parse_duration,
    },
    spec::edit::{change_map, set_some},
};

/// Port of managers that an address without one means.
const CONTROL_PORT: u16 = 2377;

fn nanoseconds(text: &str) -> Result<u64, String> {
    parse_duration(text).map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

#[derive(Debug, Args)]
pub(crate) struct AddressArgs {
    /// Listen address (format: <ip|interface>[:port])
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:2377")]
    listen_addr: String,
    /// Address that other nodes reach this one by (format: <ip|interface>[:port])
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    advertise_addr: String,
    /// Address or interface to use for the traffic of containers (format: <ip|interface>)
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    data_path_addr: String,
    /// Availability of the node: active, pause or drain
    #[arg(long, default_value = "active")]
    availability: String,
}

/// What `init` and `swarm update` can set.
#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Ended tasks kept per slot (default 5)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    task_history_limit: Option<i64>,
    /// Validity of node certificates (default 2160h)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    cert_expiry: Option<u64>,
    /// Period between heartbeats of nodes (default 1s)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds)]
    dispatcher_heartbeat: Option<u64>,
    /// Log entries between two snapshots of the managers' state (default 10000)
    #[arg(long, value_name = "N")]
    snapshot_interval: Option<u64>,
    /// Older snapshots that managers keep beside the newest, with the log from the oldest on (default 0)
    #[arg(long, value_name = "N")]
    max_snapshots: Option<u64>,
    /// Lock managers: one whose daemon was restarted waits for the unlock key
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    autolock: Option<bool>,
    /// When tasks of services that say nothing move to where their service is more even: off, on-join (to nodes that came or
    /// came back) or continuous (default off)
    #[arg(long, value_name = "POLICY")]
    rebalance: Option<String>,
    /// So many tasks of all services move at once; 0 for as many as their update settings allow (default 0)
    #[arg(long, value_name = "N")]
    rebalance_budget: Option<u32>,
    /// Whether services may be privileged, or have devices, namespaces or more capabilities of their hosts: allowed or denied
    /// (default allowed)
    #[arg(long, value_name = "POLICY")]
    privileged_services: Option<String>,
}

impl SpecArgs {
    fn apply(&self, spec: &mut Value) {
        set_some(spec, "Orchestration.TaskHistoryRetentionLimit", self.task_history_limit);
        set_some(spec, "CAConfig.NodeCertExpiry", self.cert_expiry);
        set_some(spec, "Dispatcher.HeartbeatPeriod", self.dispatcher_heartbeat);
        set_some(spec, "Raft.SnapshotInterval", self.snapshot_interval);
        set_some(spec, "Raft.KeepOldSnapshots", self.max_snapshots);
        set_some(spec, "EncryptionConfig.AutoLockManagers", self.autolock);
        let budget = self.rebalance_budget.map(|budget| budget.to_string());
        let labels = [
            (types::REBALANCE_LABEL, self.rebalance.clone()),
            (types::REBALANCE_BUDGET_LABEL, budget),
            (types::PRIVILEGED_LABEL, self.privileged_services.clone()),
        ];
        let given = labels.into_iter().filter_map(|(label, value)| Some(format!("{label}={}", value?)));
        change_map(spec, "Labels", &[], &given.collect::<Vec<_>>());
    }
}

/// Where subnets come from, at `init` and later: networks keep what they have.
#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// Address pool that the subnets of new networks come from, in CIDR format (default 10.0.0.0/8)
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    default_addr_pool: Vec<String>,
    /// Prefix length of the subnets cut from the pools (default 24)
    #[arg(long, value_name = "BITS")]
    default_addr_pool_mask_length: Option<u8>,
}

impl PoolArgs {
    fn apply(&self, target: &mut Value) {
        let pools = (!self.default_addr_pool.is_empty()).then(|| self.default_addr_pool.clone());
        set_some(target, "DefaultAddrPool", pools);
        set_some(target, "SubnetSize", self.default_addr_pool_mask_length);
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rswarm init\n  rswarm init --advertise-addr eth1\n  rswarm init --default-addr-pool 10.20.0.0/16 --default-addr-pool-mask-length 26"
)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    addresses: AddressArgs,
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    pools: PoolArgs,
    /// UDP port of the traffic of containers between hosts, 1024 to 49151 (default 4789)
    #[arg(long, value_name = "PORT")]
    data_path_port: Option<u16>,
    /// Go on from this node's state as the only manager, after the others were lost
    #[arg(long)]
    force_new_cluster: bool,
    /// Make this host the first manager of the cluster in a backup (`rswarm backup create`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["force_new_cluster", "default_addr_pool", "data_path_port", "autolock"])]
    from_backup: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: rswarm join --token SWMTKN-1-… 192.0.2.1:2377")]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    addresses: AddressArgs,
    /// Token for entry into the cluster (`rswarm join-token` on a manager shows it)
    #[arg(long)]
    token: String,
    /// Do not wait for the first probes to say which ports work
    #[arg(short, long)]
    detach: bool,
    /// Address of a manager
    #[arg(value_name = "HOST:PORT", required = true)]
    remotes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    /// Leave although this is a manager
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Worker,
    Manager,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rswarm join-token worker\n  rswarm join-token --rotate manager")]
pub(crate) struct JoinTokenArgs {
    role: Role,
    /// Only show the token
    #[arg(short, long)]
    quiet: bool,
    /// Replace the token: the old one is no longer accepted
    #[arg(long)]
    rotate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    pools: PoolArgs,
}

impl AddressArgs {
    /// As requests have them.
    fn places(&self) -> Value {
        json!({
            "ListenAddr": self.listen_addr,
            "AdvertiseAddr": self.advertise_addr,
            "DataPathAddr": self.data_path_addr,
            "Availability": self.availability,
        })
    }
}

/// The request that the flags of `init` say.
pub(crate) fn init_request(arguments: &InitArgs) -> Value {
    let mut body = arguments.addresses.places();
    body["ForceNewCluster"] = json!(arguments.force_new_cluster);
    body["Spec"] = json!({});
    arguments.pools.apply(&mut body);
    set_some(&mut body, "DataPathPort", arguments.data_path_port);
    arguments.spec.apply(&mut body["Spec"]);
    body
}

pub(crate) async fn init(client: &Client, arguments: InitArgs) -> anyhow::Result<()> {
    if let Some(file) = &arguments.from_backup {
        let node = backup::restore(client, file, &arguments.passphrase, arguments.addresses.places()).await?;
        print(&format!("Swarm restored: current node ({node}) is now its only manager.\n\n"))?;
        print(&follow_instructions(client).await?)?;
        return print(&join_instructions(client, Role::Worker).await?);
    }
    let body = init_request(&arguments);
    let node = client.post("/swarm/init", Some(&body)).await?;
    let node = node.as_str().unwrap_or_default();
    print(&format!("Swarm initialized: current node ({node}) is now a manager.\n\n"))?;
    print(&join_instructions(client, Role::Worker).await?)?;
    print("To add a manager to this swarm, run 'rswarm join-token manager' and follow the instructions.\n\n")?;
    if arguments.spec.autolock == Some(true) { lock::tell(client).await } else { Ok(()) }
}

pub(crate) async fn join(client: &Client, arguments: JoinArgs) -> anyhow::Result<()> {
    let mut body = arguments.addresses.places();
    body["JoinToken"] = json!(arguments.token);
    body["RemoteAddrs"] = arguments.remotes.iter().map(|remote| with_port(remote)).collect();
    client.post("/swarm/join", Some(&body)).await?;
    let info = client.get("/info").await?;
    let is_manager = info["Swarm"]["ControlAvailable"] == json!(true);
    print(&format!("This node joined a swarm as a {}.\n", if is_manager { "manager" } else { "worker" }))?;
    if arguments.detach {
        return Ok(());
    }
    // It has joined, whatever is found now.
    match doctor::after_join(client).await {
        Err(error) if error.downcast_ref::<crate::Quit>().is_none() => {
            print_error(&format!("WARNING: the ports could not be checked: {error:#}; try rswarm doctor\n"))
        }
        other => other,
    }
}

pub(crate) async fn leave(client: &Client, arguments: LeaveArgs) -> anyhow::Result<()> {
    client.post(&format!("/swarm/leave?force={}", arguments.force), None).await?;
    print("Node left the swarm.\n")
}

pub(crate) async fn join_token(client: &Client, arguments: JoinTokenArgs) -> anyhow::Result<()> {
    if arguments.rotate {
        let swarm = client.get("/swarm").await?;
        let which = if arguments.role == Role::Worker { "rotateWorkerToken" } else { "rotateManagerToken" };
        let path = format!("/swarm/update?version={}&{which}=true", swarm["Version"]["Index"]);
        client.post(&path, Some(&swarm["Spec"])).await?;
        if !arguments.quiet {
            print(&format!("Successfully rotated {} join token.\n\n", arguments.role.name()))?;
        }
    }
    if arguments.quiet {
        let swarm = client.get("/swarm").await?;
        return print(&format!("{}\n", arguments.role.token(&swarm)?));
    }
    print(&join_instructions(client, arguments.role).await?)
}

pub(crate) async fn update(client: &Client, arguments: UpdateArgs) -> anyhow::Result<()> {
    let mut swarm = client.get("/swarm").await?;
    let was_locked = lock::is_locked(&swarm);
    arguments.spec.apply(&mut swarm["Spec"]);
    arguments.pools.apply(&mut swarm["Spec"]);
    let path = format!("/swarm/update?version={}", swarm["Version"]["Index"]);
    client.post(&path, Some(&swarm["Spec"])).await?;
    print("Swarm updated.\n")?;
    if !was_locked && lock::is_locked(&swarm) { lock::tell(client).await } else { Ok(()) }
}

impl Role {
    fn name(self) -> &'static str {
        if self == Self::Worker { "worker" } else { "manager" }
    }

    fn token(self, swarm: &Value) -> anyhow::Result<&str> {
        let field = if self == Self::Worker { "Worker" } else { "Manager" };
        swarm["JoinTokens"][field].as_str().context("the daemon's answer has no join token")
    }
}

async fn join_instructions(client: &Client, role: Role) -> anyhow::Result<String> {
    let swarm = client.get("/swarm").await?;
    let info = client.get("/info").await?;
    let address = manager_address(&info["Swarm"])?;
    let token = role.token(&swarm)?;
    let name = role.name();
    Ok(format!(
        "To add a {name} to this swarm, run the following command:\n\n    rswarm join --token {token} {address}\n\n"
    ))
}

/// For nodes whose managers are not where they were.
async fn follow_instructions(client: &Client) -> anyhow::Result<String> {
    let address = manager_address(&client.get("/info").await?["Swarm"])?;
    Ok(format!(
        "Nodes that know this address follow by themselves. On others run:\n\n    rswarm swarm managers {address}\n\n"
    ))
}

#[derive(Debug, Args)]
#[command(after_help = "Example: rswarm swarm managers 192.0.2.1:2377")]
pub(crate) struct ManagersArgs {
    /// Address of a manager of this node's cluster
    #[arg(value_name = "HOST:PORT", required = true)]
    remotes: Vec<String>,
}

/// Tells this node where managers are now.
pub(crate) async fn managers(client: &Client, arguments: ManagersArgs) -> anyhow::Result<()> {
    let remotes: Vec<String> = arguments.remotes.iter().map(|remote| with_port(remote)).collect();
    let found = client.post("/swarm/managers", Some(&json!({ "RemoteAddrs": remotes }))).await?;
    let line = |peer: &Value| {
        format!("{} {}\n", peer["NodeID"].as_str().unwrap_or_default(), peer["Addr"].as_str().unwrap_or_default())
    };
    print("This node turns to:\n")?;
    print(&found.as_array().into_iter().flatten().map(line).collect::<String>())
}

/// Where this manager is reached.
fn manager_address(swarm: &Value) -> anyhow::Result<String> {
    let own = swarm["RemoteManagers"].as_array().into_iter().flatten();
    let own = own.filter(|peer| peer["NodeID"] == swarm["NodeID"]).find_map(|peer| peer["Addr"].as_str());
    let address = own.or(swarm["NodeAddr"].as_str()).unwrap_or_default();
    ensure!(!address.is_empty(), "the daemon does not know the address that other nodes reach it by");
    Ok(with_port(address))
}

/// `address:2377` for an address without a port.
fn with_port(address: &str) -> String {
    let is_ipv6 = address.parse::<std::net::Ipv6Addr>().is_ok();
    match address {
        address if is_ipv6 => format!("[{address}]:{CONTROL_PORT}"),
        address if address.contains(':') && !address.ends_with(']') => address.to_owned(),
        address => format!("{address}:{CONTROL_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_filled_in() {
        for (given, wanted) in [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:9", "10.0.0.1:9"),
            ("fd00::1", "[fd00::1]:2377"),
            ("[fd00::1]", "[fd00::1]:2377"),
            ("[fd00::1]:9", "[fd00::1]:9"),
            ("host", "host:2377"),
        ] {
            assert_eq!(with_port(given), wanted);
        }
    }
}
