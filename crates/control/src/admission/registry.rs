//! Credentials of the cluster for registries (P17).

use types::{
    Cluster, CredentialHelper, MAX_REGISTRIES, Payload, RENEWAL_EVERY, RegistryLogin, RegistryRenewal, RegistryScope,
    Timestamp,
};

use crate::{Change, ObjectRef, Proposal, Rejection, Tables};

/// New ones take the place of those there were; what runs does not notice.
pub(super) fn put(
    tables: &Tables,
    scope: &RegistryScope,
    login: &RegistryLogin,
    now: Timestamp,
) -> Result<Proposal, Rejection> {
    if let Some(every) = login.renewal.as_ref().map(|renewal| renewal.every)
        && !RENEWAL_EVERY.contains(&every)
    {
        return Err(Rejection::Invalid(format!(
            "credentials for registry {scope} cannot be renewed every {} s: give {} s to {} s, less than they last",
            every.as_secs_f64(),
            RENEWAL_EVERY.start().as_secs(),
            RENEWAL_EVERY.end().as_secs()
        )));
    }
    let mut login = login.clone();
    if let Some(renewal) = &mut login.renewal {
        renewal.renewed_at = now;
    }
    insert(tables, scope, login, now)
}

fn insert(tables: &Tables, scope: &RegistryScope, login: RegistryLogin, now: Timestamp) -> Result<Proposal, Rejection> {
    change(tables, now, |cluster| {
        cluster.registries.insert(scope.clone(), login);
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

/// What a helper said when it was asked for new credentials: a name with them, or why there are none. `None` if nothing is
/// new, or the registry is not the helper's any more.
pub fn renew(
    tables: &Tables,
    scope: &RegistryScope,
    helper: &CredentialHelper,
    said: Result<(String, Payload), String>,
    now: Timestamp,
) -> Option<Proposal> {
    let login = tables.cluster()?.registries.get(scope)?;
    let renewal = login.renewal.as_ref().filter(|renewal| renewal.helper == *helper)?;
    let next = match said {
        Ok((_, auth)) if auth == login.auth => RegistryLogin {
            renewal: Some(RegistryRenewal { trouble: String::new(), ..renewal.clone() }),
            ..login.clone()
        },
        Ok((username, auth)) => {
            let renewal = RegistryRenewal { trouble: String::new(), renewed_at: now, ..renewal.clone() };
            RegistryLogin { username, auth, renewal: Some(renewal) }
        }
        Err(why) => RegistryLogin { renewal: Some(renewal.failed(&why)), ..login.clone() },
    };
    if next == *login {
        return None;
    }
    insert(tables, scope, next, now).ok()
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
