//! Allocator: virtual addresses of services, and places in networks for tasks that get a node.
//!
//! Which addresses are free follows from what the tasks and services of the value hold, so a new leader gives
//! out what the old one would have. Called between rollout and scheduler, and by the scheduler for each task
//! it places: a task is born with its node and its addresses in one proposal. When a network is full the task
//! waits and says so.

use types::{Attachment, EndpointMode, Network, NetworkId, Service, TaskSpec, VirtualIp};

use super::{draft::Draft, work::Work};
use crate::{
    Change, Tables,
    tables::{
        overlay::networks_of,
        pool::{Exhausted, Pool},
    },
};

/// Gives a service an address in each network where it wants one and has none, and takes back the others.
pub(super) fn run(work: &mut Work<'_>, service: &Service) {
    if service.removing {
        return;
    }
    let draft = &work.draft;
    let mut virtual_ips = Vec::new();
    for network in wanted(draft, service) {
        let kept = service.virtual_ips.iter().find(|vip| vip.network == network.id).cloned();
        let fresh = || {
            let addresses = draft.pool(network.id)?.next().ok()?;
            Some(VirtualIp { network: network.id, addresses })
        };
        virtual_ips.extend(kept.or_else(fresh));
    }
    if virtual_ips != service.virtual_ips {
        work.draft.depends_on(service.id);
        work.draft.make(Change::ServiceAddresses { service: service.id, virtual_ips });
    }
}

/// Networks of removed stacks go with their last task.
pub(super) fn drop_leaving(work: &mut Work<'_>) {
    let is_empty = |id: &NetworkId| {
        let draft = &work.draft;
        draft.services_of_network(*id).next().is_none()
            && draft.tasks_of_network(*id).next().is_none()
            && draft.guests_of_network(*id).next().is_none()
    };
    let gone: Vec<NetworkId> = work.draft.leaving_networks().filter(is_empty).collect();
    for id in gone {
        work.draft.make(Change::RemoveNetwork(id));
    }
}

/// Networks in which the service has a virtual address (parity S-70, S-71).
fn wanted<'a>(tables: &'a Tables, service: &'a Service) -> impl Iterator<Item = &'a Network> {
    let vip = service.spec.endpoint.mode == EndpointMode::Vip;
    networks_of(&service.task_spec)
        .filter(move |_| vip)
        .filter_map(|(id, _)| tables.network(id))
        .map(|network| &**network)
        .filter(|network| network.vni != 0)
}

/// Why no task of the service can be reached as it should: it has no virtual address yet.
pub(super) fn lacks_address(draft: &Draft, service: &Service) -> Option<String> {
    let lacking = |network: &&Network| service.virtual_ips.iter().all(|vip| vip.network != network.id);
    let network = wanted(draft, service).find(lacking)?;
    let exhausted = draft.pool(network.id).map(Pool::next)?.err()?;
    Some(full(network, exhausted))
}

/// The places of one more task, or why there are none. One of a service that publishes through the routing mesh
/// has its last place in the ingress network, where the mesh needs no virtual address and no names. Of the addresses that
/// it had `before` those that are free are its own again.
pub(super) fn places(
    draft: &Draft,
    spec: &TaskSpec,
    publishes: bool,
    before: &[Attachment],
) -> Result<Vec<Attachment>, String> {
    let place = |(id, aliases): (NetworkId, Vec<String>)| {
        let (Some(network), Some(pool)) = (draft.network(id), draft.pool(id)) else {
            return Err(format!("network {id} is gone: update the service to use another"));
        };
        let again = before.iter().find(|place| place.network == id).and_then(|had| pool.choose(&had.addresses).ok());
        let addresses = again.map_or_else(|| pool.next(), Ok).map_err(|exhausted| full(network, exhausted))?;
        Ok(Attachment { network: id, addresses, aliases })
    };
    let ingress = match draft.ingress() {
        Some(network) => publishes.then(|| (network.id, Vec::new())),
        None if publishes => {
            return Err(
                "network ingress is gone: make one with `network create --driver overlay --ingress ingress`, or \
                        publish with mode=host"
                    .to_owned(),
            );
        }
        None => None,
    };
    networks_of(spec).map(|(id, wanted)| (id, wanted.aliases.clone())).chain(ingress).map(place).collect()
}

/// Why a network has no address left.
pub(crate) fn full(network: &Network, exhausted: Exhausted) -> String {
    let Exhausted { subnets, total } = exhausted;
    let name = &network.spec.name;
    let ranges = subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let used = format!(
        "network {name}: all {total} addresses of {ranges} are in use (gateway and virtual addresses included)"
    );
    match network.vni {
        0 => used,
        _ if network.spec.ingress => format!("{used}; while no service publishes, remove it and make a larger one"),
        _ => format!("{used}; give it more: rswarm network update --subnet-add SUBNET {name}"),
    }
}
