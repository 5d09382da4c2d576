//! The routing mesh and published ports in the host's namespace: looks at them, and performs their steps.

mod backend;
mod chains;
mod egress;
mod loopback;
mod rules;
mod words;

use std::collections::BTreeMap;

use rtnetlink::packet_route::AddressFamily;
use types::NetworkId;

use super::{
    Files, KernelError,
    facts::permanent_neighbour,
    flows,
    netfilter::ruleset_generation,
    nft,
    session::{NamespaceFile, Netlink, Session},
    sysctl,
};
use crate::{
    HostMesh, Link, MeshStep, PortRole,
    mesh::{INGRESS, TABLE, USER_CHAINS, USER_TABLE, load::PortLoad, trial_ruleset, user_table},
    plan::OVERLAY_BRIDGE,
};

pub(super) use backend::{join, leave, observe as observe_backend};
pub(super) use rules::forward_drops;

/// Asks the rules themselves, whole, whoever loaded them: milliseconds for a thousand ports. With `seen`, an earlier look,
/// not even that, while the ruleset's number says that nobody has changed a rule since.
pub(super) async fn observe(
    session: &Session,
    files: &Files,
    links: &BTreeMap<String, Link>,
    seen: Option<&HostMesh>,
) -> Result<HostMesh, KernelError> {
    let failed = |source| KernelError::Netlink { doing: "list the rules of published ports".to_owned(), source };
    let mut mesh = HostMesh {
        ipv6_forward: sysctl::is_on(sysctl::IPV6_FORWARD, true)?,
        port_proxy: crate::proxy::standing(&files.state_dir).map(|standing| standing.ports()),
        ..HostMesh::default()
    };
    for (name, _) in links.iter().filter(|(name, link)| link.kind == "bridge" || *name == INGRESS) {
        if sysctl::is_on(&sysctl::localnet_path(name), false)? {
            mesh.localnet.insert(name.clone());
        }
    }
    // Before the rules: who changes them meanwhile raises it once more.
    mesh.generation = Some(ruleset_generation().map_err(failed)?);
    match seen.filter(|seen| seen.generation == mesh.generation) {
        Some(seen) => {
            (mesh.ports, mesh.loaded) = (seen.ports.clone(), seen.loaded.clone());
            mesh.user_chains.clone_from(&seen.user_chains);
            mesh.user_is_empty = seen.user_is_empty;
        }
        None => look_at_rules(&mut mesh).map_err(failed)?,
    }
    if let Some(ingress) = links.get(INGRESS) {
        mesh.ipv6_off = sysctl::is_on(&sysctl::disable_ipv6_path(INGRESS), true)?;
        mesh.leads_loopback = !mesh.ipv6_off && loopback::is_led(&session.host.ipv6_routes().await?, ingress.index);
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let entries = session.host.neighbours(family).await?;
            let ours = entries.iter().filter(|entry| entry.header.ifindex == ingress.index);
            mesh.neighbours.extend(ours.filter_map(permanent_neighbour));
        }
    }
    Ok(mesh)
}

fn look_at_rules(mesh: &mut HostMesh) -> std::io::Result<()> {
    let tables = rules::tables()?;
    if tables.contains(TABLE) {
        mesh.ports = Some(rules::port_table()?);
    }
    if tables.contains(USER_TABLE) {
        let (chains, is_bare) = rules::user_table()?;
        mesh.user_is_empty = is_bare && chains.iter().all(|chain| USER_CHAINS.contains(&chain.as_str()));
        mesh.user_chains = Some(chains);
    }
    Ok(())
}

pub(super) async fn perform(session: &Session, files: &Files, step: &MeshStep) -> Result<(), KernelError> {
    let host = &session.host;
    match step {
        MeshStep::CreateUserTable => nft::run(&["-f", "-"], &user_table(), "make the operator's table").await.map(drop),
        MeshStep::RemoveUserTable => {
            let text = format!("table inet {USER_TABLE}\ndelete table inet {USER_TABLE}\n");
            nft::run(&["-f", "-"], &text, "remove the operator's table, which is empty").await.map(drop)
        }
        MeshStep::LoadPorts { load, .. } => {
            load_ports(load).await?;
            ended(flows::forget_untranslated(&load.fresh), "end older flows to a published port")
        }
        MeshStep::RemovePorts => {
            let text = format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
            nft::run(&["-f", "-"], &text, "remove the rules of published ports").await.map(drop)
        }
        MeshStep::EnableIpv6Forwarding => sysctl::forward_ipv6(),
        MeshStep::CreateIngress { network, mac, mtu } => {
            overlay(session, files, *network)?.create_veth(INGRESS, (INGRESS, session.home()), *mac, *mtu).await
        }
        MeshStep::PlugIngress { network, mac, mtu } => {
            let overlay = overlay(session, files, *network)?;
            let bridge = overlay.index(OVERLAY_BRIDGE).await?;
            overlay.plug(INGRESS, bridge, PortRole::Endpoint, *mtu).await?;
            overlay.set_port(overlay.index(INGRESS).await?, *mac).await
        }
        MeshStep::RemoveOuterIngress { network } => overlay(session, files, *network)?.remove_link(INGRESS).await,
        MeshStep::SetIngress { mtu } => host.set_link(INGRESS, "bring up", |l| l.mtu(*mtu).up()).await,
        MeshStep::EnableIngressIpv6 => sysctl::enable_ipv6(INGRESS),
        MeshStep::LeadLoopback => host.lead_loopback(host.index(INGRESS).await?).await,
        MeshStep::SetLocalnet { link, on } => sysctl::set_switch(&sysctl::localnet_path(link), *on),
        MeshStep::AddNeighbour { address, mac } => host.set_neighbour(host.index(INGRESS).await?, *address, *mac).await,
        MeshStep::RemoveNeighbour { address } => host.remove_neighbour(host.index(INGRESS).await?, *address).await,
        MeshStep::EndFlows { to } => {
            ended(flows::end(to, flows::Clients::Anywhere).map(drop), "end the connections to backends that are gone")
        }
    }
}

/// A few chains go straight to the kernel, which takes a tenth of the time that the program needs to start and to read what
/// tables there are. What it does not take like that, it takes from the program, or that says why not.
async fn load_ports(load: &PortLoad) -> Result<(), KernelError> {
    if !load.changes.is_empty() {
        match chains::load(&load.changes) {
            Ok(()) => return Ok(()),
            Err(error) => tracing::debug!(%error, "the kernel takes no single chain of published ports; nft is asked"),
        }
    }
    nft::run(&["-f", "-"], &load.ruleset, "load the rules of published ports").await.map(drop)
}

/// Loads rules with every word that ours have, in the calling thread's namespace, for an interface there.
pub(crate) async fn try_mesh(interface: &str) -> Result<(), KernelError> {
    nft::run(&["-f", "-"], &trial_ruleset(interface), "load the rules of a routing mesh").await?;
    ended(egress::load(interface), "load a rule on the way out of an interface")
}

fn ended(result: std::io::Result<()>, doing: &str) -> Result<(), KernelError> {
    result.map_err(|source| KernelError::Netlink { doing: doing.to_owned(), source })
}

fn overlay(session: &Session, files: &Files, network: NetworkId) -> Result<Netlink, KernelError> {
    let path = files.overlays.join(network.to_string());
    let opened = NamespaceFile::open(&path);
    let namespace = opened.map_err(|source| KernelError::Namespace { doing: "open", path: path.clone(), source })?;
    session.netlink_in(&namespace, &path)
}
