//! Asks credential helpers for new credentials of registries, before the present ones have expired (P17).
//!
//! Runs on every manager and acts on the one that leads. Writes only what is new, and never about a registry that somebody
//! gave other credentials meanwhile.

use std::{collections::BTreeMap, time::Duration};

use control::{Tables, admission};
use futures::future::join_all;
use tokio::time::Instant;
use types::{CredentialHelper, RegistryRenewal, RegistryScope};

use crate::{Clock, CredentialSource, Error, raft::Consensus};

/// Between two looks what is due. Less than the shortest period.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure, where the period is longer.
const RETRY: Duration = Duration::from_secs(60);

/// When each registry's helper is to be asked again. A new leader asks all at once: it does not know when that was done last.
#[derive(Default)]
struct Due(BTreeMap<RegistryScope, (CredentialHelper, Instant)>);

impl Due {
    fn of(&mut self, tables: &Tables, now: Instant) -> Vec<(RegistryScope, RegistryRenewal)> {
        let registries = tables.cluster().map(|cluster| &cluster.registries);
        let renewed =
            registries.into_iter().flatten().filter_map(|(scope, login)| Some((scope, login.renewal.as_ref()?)));
        let waits = |(scope, renewal): &(&RegistryScope, &RegistryRenewal)| {
            self.0.get(*scope).is_some_and(|(helper, at)| *helper == renewal.helper && now < *at)
        };
        renewed.filter(|one| !waits(one)).map(|(scope, renewal)| (scope.clone(), renewal.clone())).collect()
    }
}

/// Runs as long as the manager.
pub(crate) async fn run(consensus: Consensus, clock: Clock, source: CredentialSource) -> Result<(), Error> {
    let tables = consensus.watch_tables();
    let mut due = Due::default();
    loop {
        tokio::time::sleep(LOOK).await;
        if !consensus.is_leader() {
            due.0.clear();
            continue;
        }
        let now = Instant::now();
        let asked = due.of(&tables.borrow(), now);
        let asking = asked.into_iter().map(|(scope, renewal)| async {
            let said = source(renewal.helper.clone(), scope.clone()).await;
            (scope, renewal, said)
        });
        for (scope, renewal, said) in join_all(asking).await {
            let pause = if said.is_ok() { renewal.every } else { renewal.every.min(RETRY) };
            due.0.insert(scope.clone(), (renewal.helper.clone(), now + pause));
            match &said {
                Ok(_) => tracing::debug!(registry = %scope, helper = %renewal.helper, "credentials are asked for"),
                Err(why) if *why == renewal.trouble => {}
                Err(why) => {
                    tracing::warn!(registry = %scope, helper = %renewal.helper, reason = why, "credentials are not renewed");
                }
            }
            let proposal = admission::renew_registry(&tables.borrow(), &scope, &renewal.helper, said, clock());
            let Some(proposal) = proposal else { continue };
            if let Err(error) = consensus.propose_here(proposal).await {
                // another change of the cluster came first, or another manager leads
                tracing::debug!(registry = %scope, %error, "renewed credentials were not taken");
                due.0.remove(&scope);
            }
        }
    }
}
