//! Networks of the host and single containers in them, through the engine; the kernel is asked (E-17, E-31, N-21).

use std::{path::Path, process::Output};

use anyhow::{Context, Result, ensure};
use node::{
    Engine,
    engine::{
        ContainerNetwork, ContainerPlace, NetworkErrorKind, PlaceIn, containers::spec::PlaceRequest, host_network_id,
    },
};
use types::{NetworkDriver, NetworkId, NetworkSpec};

/// Containers without a process: what matters here is their namespace.
const ONE: &str = "1111111111110000000000000000000000000000000000000000000000000001";
const TWO: &str = "2222222222220000000000000000000000000000000000000000000000000002";
const THREE: &str = "3333333333330000000000000000000000000000000000000000000000000003";

fn bridge(name: &str) -> Result<NetworkSpec> {
    Ok(NetworkSpec { driver: NetworkDriver::Bridge, ..NetworkSpec::overlay(name.parse()?) })
}

fn place(network: NetworkId, aliases: &[&str]) -> ContainerPlace {
    let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    ContainerPlace::new(PlaceIn::Network(network), PlaceRequest { aliases, ..PlaceRequest::default() })
}

async fn inside(namespace: &Path, command: &[&str]) -> Result<Output> {
    let net = format!("--net={}", namespace.display());
    Ok(tokio::process::Command::new("nsenter").arg(net).args(command).output().await?)
}

async fn says(namespace: &Path, command: &[&str]) -> Result<String> {
    let output = inside(namespace, command).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

pub async fn single_containers(engine: &Engine) -> Result<()> {
    let (first, second) =
        (engine.create_network(bridge("first")?).await?, engine.create_network(bridge("second")?).await?);
    let there = std::process::Command::new("ip").args(["-o", "link"]).output()?;
    let there = String::from_utf8_lossy(&there.stdout).into_owned();
    for network in [first, second] {
        let bridge = format!("br-{}", &host_network_id(network)[..12]);
        ensure!(there.contains(&bridge), "{bridge} is not there: {there}");
    }
    let done = with_networks(engine, first, second).await;
    for container in [ONE, TWO] {
        engine.detach_container(container).await?;
    }
    for network in [first, second] {
        engine.remove_network(network).await?;
    }
    done?;
    let left = std::process::Command::new("ip").args(["-o", "link"]).output()?;
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    ensure!(!left.contains("br-"), "bridges are left: {left}");
    ensure!(engine.local_networks().len() == 1, "only the host's bridge: {:?}", engine.local_networks());
    Ok(())
}

async fn with_networks(engine: &Engine, first: NetworkId, second: NetworkId) -> Result<()> {
    let one = ContainerNetwork::Places(vec![place(first, &["database"])]);
    let one = engine.attach_container(ONE, "one", one).await?.context("a namespace of its own")?;
    let two = engine.attach_container(TWO, "two", ContainerNetwork::None).await?.context("a namespace of its own")?;
    ensure!(says(&two, &["ip", "-o", "link"]).await?.lines().count() == 1, "a loopback alone");
    ensure!(engine.attach_container(THREE, "three", ContainerNetwork::Host).await?.is_none(), "the host's own");
    let joined = engine.attach_container(THREE, "three", ContainerNetwork::Container(ONE.into())).await?;
    ensure!(joined.as_ref() == Some(&one), "that of the other: {joined:?}");
    let nobody = engine.attach_container(THREE, "three", ContainerNetwork::Container("nobody".into())).await;
    ensure!(nobody.is_err_and(|error| error.kind == NetworkErrorKind::NotFound));

    engine.connect(TWO, place(first, &[])).await?;
    let found = says(&two, &["busybox", "nslookup", "-type=a", "database", "127.0.0.11"]).await?;
    let views = engine.local_networks();
    let view = views.iter().find(|view| view.network.as_ref().is_some_and(|n| n.id == first)).context("listed")?;
    let at = |container: &str| {
        let endpoint = view.endpoints.iter().find(|endpoint| endpoint.container == container);
        endpoint.and_then(|endpoint| endpoint.address).map(|a| a.address().to_string()).context("an endpoint")
    };
    ensure!(found.contains(&at(ONE)?), "by its alias: {found}");
    says(&two, &["busybox", "ping", "-c", "1", "-W", "1", &at(ONE)?]).await?;
    says(&one, &["busybox", "nslookup", "-type=a", "222222222222", "127.0.0.11"]).await?;

    let refused = engine.remove_network(first).await.expect_err("in use");
    ensure!(refused.message.starts_with("network first has active endpoints"), "{refused}");
    let twice = engine.connect(TWO, place(first, &[])).await.expect_err("there already");
    ensure!(twice.message.contains("is in network first already"), "{twice}");
    let mut taken = place(second, &[]);
    taken.asked.address = Some("172.255.0.9".parse()?);
    ensure!(engine.connect(ONE, taken).await.is_err(), "an address outside of the network");

    engine.connect(ONE, place(second, &[])).await?;
    engine.connect(ONE, ContainerPlace { network: PlaceIn::Bridge, ..place(second, &[]) }).await?;
    ensure!(says(&one, &["ip", "-o", "-4", "addr"]).await?.lines().count() == 4, "loopback and three");
    let before = says(&one, &["ip", "-o", "link", "show", "eth1"]).await?;
    engine.disconnect(ONE, PlaceIn::Network(first)).await?;
    ensure!(says(&one, &["ip", "-o", "link", "show", "eth1"]).await? == before, "the others stay as they were");
    ensure!(!inside(&one, &["ip", "link", "show", "eth0"]).await?.status.success(), "the first is gone");
    let again = engine.disconnect(ONE, PlaceIn::Network(first)).await.expect_err("it is out");
    ensure!(again.message.contains("is not connected to network first"), "{again}");
    let nobody = engine.connect("nobody", place(first, &[])).await.expect_err("unknown");
    ensure!(nobody.kind == NetworkErrorKind::NotFound && nobody.message == "No such container: nobody", "{nobody}");
    Ok(())
}
