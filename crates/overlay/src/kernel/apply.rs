//! Performs steps, one after the other, on the calling thread.

use super::{Files, KernelError, StepFailure, endpoint, nft, session::Session, sysctl};
use crate::{EndpointStep, Step};

pub(super) async fn apply(session: &Session, files: &Files, steps: &[Step]) -> Vec<StepFailure> {
    let mut failures = Vec::new();
    let doomed: Vec<&str> = steps.iter().flat_map(removed_links).collect();
    if doomed.len() > 1 {
        // What this does not achieve, the steps themselves do one by one, and report.
        let _ = session.host.remove_links_at_once(&doomed).await;
    }
    for step in steps {
        if let Err(error) = perform(session, files, step).await {
            failures.push(StepFailure { subject: step.subject(), error });
        }
    }
    failures
}

/// Host links that a step removes. None of them is made by an earlier step of the same list.
fn removed_links(step: &Step) -> Vec<&str> {
    match step {
        Step::RemoveLink { name } => vec![name],
        Step::Endpoint { steps, .. } => steps.iter().filter_map(removed_veth).collect(),
        _ => Vec::new(),
    }
}

fn removed_veth(step: &EndpointStep) -> Option<&str> {
    match step {
        EndpointStep::RemoveVeth { name } => Some(name),
        _ => None,
    }
}

async fn perform(session: &Session, files: &Files, step: &Step) -> Result<(), KernelError> {
    let host = &session.host;
    match step {
        Step::LoadNft { ruleset, digest } => nft::load(ruleset, digest, &files.nft_record).await,
        Step::RemoveNft => nft::remove(&files.nft_record).await,
        Step::EnableForwarding => sysctl::turn_on(sysctl::IP_FORWARD),
        Step::CreateBridge { name, mac, mtu } => host.create_bridge(name, *mac, *mtu).await,
        Step::SetBridge { name, mtu } => host.set_link(name, "bring up the bridge", |l| l.up().mtu(*mtu)).await,
        Step::DisableIpv6 { link } => sysctl::turn_on(&sysctl::disable_ipv6_path(link)),
        Step::AddAddress { link, address } => host.add_address(link, *address).await,
        Step::RemoveAddress { link, address } => host.remove_address(link, *address).await,
        Step::RemoveLink { name } => host.remove_link(name).await,
        Step::Endpoint { id, steps } => endpoint::apply(session, &files.namespaces.join(id.as_str()), steps).await,
    }
}
