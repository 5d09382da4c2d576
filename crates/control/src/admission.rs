//! What users and nodes ask for, turned into proposals, or refused in words.
//!
//! Called by the leader with the value as it is. A proposal names the versions it was decided on, so that
//! what was true here still is when it is applied; if it is refused then, ask again.

mod attachments;
mod cluster;
mod dependency;
mod guest;
mod job;
mod migration;
mod needs;
mod network;
mod node;
mod ports;
mod privileges;
mod rebalance;
mod registry;
mod report;
mod service;
mod stack;
mod subnets;
mod survival;
mod validate;

use types::{Cluster, Node, Timestamp, WriteReply, WriteRequest};

pub use cluster::check_new as check_new_cluster;
pub use node::{LEFT_MESSAGE, describe_node, join_node, set_raft_member, set_role};
pub(crate) use ports::host_ports;
pub use registry::renew as renew_registry;
pub use report::report_tasks;
pub(crate) use service::{replaces_tasks, undone};
pub use subnets::route_conflicts;
pub use survival::sole_manager;

use crate::{Change, Ids, Proposal, Rejection, Tables};

/// The first proposal of a new cluster: the cluster, its first manager and the ingress network, which is missing
/// if the address pools or the manager's own routes leave no place for it.
pub fn bootstrap(cluster: Cluster, first: Node, now: Timestamp, ids: Ids<'_>) -> Proposal {
    let changes = vec![Change::PutCluster(Box::new(cluster)), Change::PutNode(Box::new(first))];
    let mut proposal = Proposal { at: now, expects: Vec::new(), changes };
    let mut tables = Tables::default();
    if tables.apply(1, &proposal).is_ok()
        && let Ok((ingress, _)) = network::create(&tables, &network::first_ingress(), now, ids)
    {
        proposal.changes.extend(ingress.changes);
    }
    proposal
}

/// Checks a request against the value and says what it changes.
///
/// # Errors
/// A [`Rejection`] whose text tells the user what is wrong and where.
pub fn admit(
    tables: &Tables,
    request: &WriteRequest,
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<(Proposal, WriteReply), Rejection> {
    let done = |proposal| (proposal, WriteReply::Done);
    match request {
        WriteRequest::CreateService(spec) => {
            service::create(tables, spec, now, ids).map(|(proposal, id)| (proposal, WriteReply::Created(id)))
        }
        WriteRequest::UpdateService { id, version, change } => {
            service::update(tables, *id, *version, change, now).map(done)
        }
        WriteRequest::CreateNetwork(spec) => {
            network::create(tables, spec, now, ids).map(|(proposal, id)| (proposal, WriteReply::CreatedNetwork(id)))
        }
        WriteRequest::CreateDependency(spec) => dependency::create(tables, spec, now, ids)
            .map(|(proposal, id)| (proposal, WriteReply::CreatedDependency(id))),
        WriteRequest::UpdateDependency { id, version, labels, data } => {
            dependency::update(tables, *id, *version, (labels, data.as_ref()), now, ids).map(done)
        }
        WriteRequest::RemoveDependency(id) => dependency::remove(tables, *id, now).map(done),
        WriteRequest::RemoveNetwork(id) => network::remove(tables, *id, now).map(done),
        WriteRequest::AddSubnet { network, subnet } => network::add_subnet(tables, *network, subnet, now).map(done),
        WriteRequest::RemoveService(id) => service::remove(tables, *id, now).map(done),
        WriteRequest::UpdateNode { id, version, spec } => node::update(tables, *id, *version, spec, now).map(done),
        WriteRequest::RemoveNode { id, force } => node::remove(tables, *id, *force, now).map(done),
        WriteRequest::UpdateCluster {
            version,
            spec,
            rotate_worker_token: worker,
            rotate_manager_token: manager,
            rotate_unlock_key: unlock_key,
            root,
        } => {
            let rotate = cluster::Rotate { worker: *worker, manager: *manager, unlock_key: *unlock_key };
            let wanted = cluster::Wanted { spec, rotate, root: root.as_deref() };
            cluster::update(tables, *version, &wanted, now, ids).map(done)
        }
        WriteRequest::PutRegistry { scope, login } => registry::put(tables, scope, login, now).map(done),
        WriteRequest::RemoveRegistry(scope) => registry::remove(tables, scope, now).map(done),
        WriteRequest::Leave { id, force } => node::leave(tables, *id, *force, now).map(done),
        WriteRequest::Attach(wanted) => {
            guest::attach(tables, wanted, now).map(|(proposal, addresses)| (proposal, WriteReply::Attached(addresses)))
        }
        WriteRequest::DeployStack(wanted) => stack::deploy(tables, wanted, now, ids),
        WriteRequest::RollbackStack { name, to, by } => stack::roll_back(tables, name, (*to, by), now, ids),
        WriteRequest::RemoveStack(name) => stack::remove(tables, name, now, ids),
        WriteRequest::Rebalance { services, budget, dry_run } => {
            rebalance::begin(tables, services, *budget, *dry_run, now)
                .map(|(proposal, view)| (proposal, WriteReply::Rebalancing(Box::new(view))))
        }
        WriteRequest::Migrate(step) => migration::step(tables, step, now).map(|(proposal, migration)| {
            let reply = migration.map_or(WriteReply::Done, |migration| WriteReply::Migrating(Box::new(migration)));
            (proposal, reply)
        }),
        WriteRequest::Detach { node, network, container } => {
            guest::detach(tables, *node, *network, container, now).map(done)
        }
    }
}
