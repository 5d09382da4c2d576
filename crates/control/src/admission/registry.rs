//! Credentials of the cluster for registries (P17).

use types::{Cluster, MAX_REGISTRIES, RegistryLogin, RegistryScope, Timestamp};

use crate::{Change, ObjectRef, Proposal, Rejection, Tables};

/// New ones take the place of those there were; what runs does not notice.
pub(super) fn put(
    tables: &Tables,
    scope: &RegistryScope,
    login: &RegistryLogin,
    now: Timestamp,
) -> Result<Proposal, Rejection> {
    change(tables, now, |cluster| {
        cluster.registries.insert(scope.clone(), login.clone());
        match cluster.registries.len() <= MAX_REGISTRIES {
            true => Ok(()),
            false => Err(Rejection::Invalid(format!(
                "the cluster has credentials for {MAX_REGISTRIES} registries, as many as it may: remove some with `rswarm registry logout`"
            ))),
        }
    })
}

pub(super) fn remove(tables: &Tables, scope: &RegistryScope, now: Timestamp) -> Result<Proposal, Rejection> {
    change(tables, now, |cluster| match cluster.registries.remove(scope) {
        Some(_) => Ok(()),
        None => Err(Rejection::not_found("registry", scope)),
    })
}

fn change(
    tables: &Tables,
    now: Timestamp,
    change: impl FnOnce(&mut Cluster) -> Result<(), Rejection>,
) -> Result<Proposal, Rejection> {
    let cluster = tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
    let mut next = (**cluster).clone();
    change(&mut next)?;
    let expects = vec![(ObjectRef::Cluster, cluster.meta.version)];
    Ok(Proposal { at: now, expects, changes: vec![Change::PutCluster(Box::new(next))] })
}
