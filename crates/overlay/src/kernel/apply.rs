//! Performs steps, one after the other, on the calling thread.

use std::collections::BTreeMap;

use super::{
    Files, KernelError, StepFailure, endpoint, mesh, nft, overlay,
    session::{NamespaceFile, Session},
    sysctl, tunnel,
};
use crate::{EndpointStep, Place, Step};

pub(super) async fn apply(session: &Session, files: &Files, steps: &[Step]) -> Vec<StepFailure> {
    let mut failures = Vec::new();
    for (place, doomed) in doomed_links(steps) {
        // What this does not achieve, the steps themselves do one by one, and report.
        let _ = remove_at_once(session, files, place, &doomed).await;
    }
    for step in steps {
        if let Err(error) = perform(session, files, step).await {
            failures.push(StepFailure { subject: step.subject(), error });
        }
    }
    failures
}

/// Links that steps remove, by namespace, where they are several. None of them is made by an earlier step
/// of the same list.
fn doomed_links(steps: &[Step]) -> BTreeMap<Place, Vec<&str>> {
    let mut doomed: BTreeMap<Place, Vec<&str>> = BTreeMap::new();
    for step in steps {
        match step {
            Step::RemoveLink { name } => doomed.entry(Place::Host).or_default().push(name),
            Step::Endpoint { steps, .. } => {
                for step in steps {
                    if let EndpointStep::RemoveVeth { at, name } = step {
                        doomed.entry(*at).or_default().push(name);
                    }
                }
            }
            _ => {}
        }
    }
    doomed.retain(|_, names| names.len() > 1);
    doomed
}

async fn remove_at_once(session: &Session, files: &Files, place: Place, names: &[&str]) -> Result<(), KernelError> {
    match place {
        Place::Host => session.host.remove_links_at_once(names).await,
        Place::Overlay(id) => {
            let path = files.overlays.join(id.to_string());
            let namespace = NamespaceFile::open(&path);
            let namespace =
                namespace.map_err(|source| KernelError::Namespace { doing: "open", path: path.clone(), source })?;
            session.netlink_in(&namespace, &path)?.remove_links_at_once(names).await
        }
    }
}

async fn perform(session: &Session, files: &Files, step: &Step) -> Result<(), KernelError> {
    let host = &session.host;
    match step {
        Step::LoadNft { ruleset, digest } => nft::load(ruleset, digest, &files.nft_record).await,
        Step::RemoveNft => nft::remove(&files.nft_record).await,
        Step::EnableForwarding => sysctl::turn_on(sysctl::IP_FORWARD),
        Step::RaiseNeighbourLimit(limit) => sysctl::raise_neighbour_limit(*limit),
        Step::CreateBridge { name, mac, mtu } => host.create_bridge(name, *mac, *mtu).await,
        Step::SetBridge { name, mtu } => host.set_link(name, "bring up the bridge", |l| l.up().mtu(*mtu)).await,
        Step::DisableIpv6 { link } => sysctl::turn_on(&sysctl::disable_ipv6_path(link)),
        Step::EnableIpv6 { link } => sysctl::enable_ipv6(link),
        Step::AddAddress { link, address } => host.add_address(link, *address).await,
        Step::RemoveAddress { link, address } => host.remove_address(link, *address).await,
        Step::RemoveLink { name } => host.remove_link(name).await,
        Step::Mesh(step) => mesh::perform(session, files, step).await,
        Step::CreateVlan { name, parent, tag } => host.create_vlan(name, parent, *tag).await,
        Step::Local { steps, .. } => {
            for step in steps {
                Box::pin(perform(session, files, step)).await?;
            }
            Ok(())
        }
        Step::Tunnel { steps } => tunnel::apply(session, files, steps).await,
        Step::Overlay { id, steps } => overlay::apply(session, files, *id, steps).await,
        Step::Endpoint { id, steps } => endpoint::apply(session, files, id, steps).await,
    }
}
