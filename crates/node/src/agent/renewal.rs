//! Keeps the node's certificate fresh, and of the role the cluster wants.
//!
//! A task of its own, owned by the agent. Renews at a time spread by chance within the certificate's
//! validity, and at once when the desired role differs from the certificate's. The key is new each time.

use std::time::Duration;

use identity::{KeyPair, NodeIdentity, Vault};
use proto::v1::{RenewCall, ca_client::CaClient};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use types::{ManagerPeer, NodeRole};

use super::{AgentEvent, session::says_removed};
use crate::clock::{Backoff, now, random};

const CALL_LIMIT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Certificates are renewed weeks ahead, a role change within seconds: both can wait this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Looked at the clock at least this often: it may be set while we wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub(super) struct Renewal {
    pub identity: NodeIdentity,
    /// Where the identity is kept.
    pub vault: Vault,
    pub managers: watch::Receiver<Vec<ManagerPeer>>,
    pub desired_role: watch::Receiver<Option<NodeRole>>,
    pub events: mpsc::Sender<AgentEvent>,
}

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("no manager is known")]
    NoManager,
    #[error("manager {manager}: {}", status.message())]
    Refused { manager: String, status: tonic::Status },
    #[error("manager {manager} did not answer within {} s", CALL_LIMIT.as_secs())]
    NoAnswer { manager: String },
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

impl Renewal {
    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = self.keep_fresh() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn keep_fresh(&mut self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut chance = random();
        loop {
            self.until_due(chance).await;
            let before = self.identity.role();
            match self.renew().await {
                Ok(()) => {
                    tracing::info!(role = %self.identity.role(), "certificate renewed");
                    backoff.reset();
                    chance = random();
                    if self.identity.role() != before {
                        let event = AgentEvent::DesiredRole(self.identity.role());
                        // The daemon stops listening only when it stops the agent.
                        let _ = self.events.send(event).await;
                        continue;
                    }
                    if !self.has_other_role() {
                        continue;
                    }
                }
                Err(RenewError::Refused { status, .. }) if says_removed(&status) => return,
                Err(error) => tracing::warn!(%error, "the certificate could not be renewed; trying again"),
            }
            tokio::time::sleep(backoff.pause(random())).await;
        }
    }

    fn has_other_role(&self) -> bool {
        self.desired_role.borrow().is_some_and(|role| role != self.identity.role())
    }

    async fn until_due(&mut self, chance: u64) {
        loop {
            if self.has_other_role() || now() >= self.identity.renew_at(chance) {
                return;
            }
            let wait = self.identity.renew_at(chance).since(now()).min(LONGEST_WAIT);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = self.desired_role.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    async fn renew(&self) -> Result<(), RenewError> {
        let managers = self.managers.borrow().clone();
        let count = u64::try_from(managers.len()).unwrap_or(1).max(1);
        let manager = managers.get(usize::try_from(random() % count).unwrap_or(0)).ok_or(RenewError::NoManager)?;
        let identity = self.identity.clone();
        let channel = proto::transport::channel(&manager.address, move |address| identity.clone().connect(address));
        let key = KeyPair::generate()?;
        let call = RenewCall { csr_pem: key.csr_pem().to_owned() };
        let mut client = CaClient::new(channel);
        let answer = timeout(CALL_LIMIT, client.renew(call)).await;
        let answer = answer.map_err(|_| RenewError::NoAnswer { manager: manager.address.clone() })?;
        let answer = answer.map_err(|status| RenewError::Refused { manager: manager.address.clone(), status })?;
        let chain = answer.into_inner().chain_pem;
        self.identity.replace(key.pem(), &chain)?;
        let (identity, vault) = (self.identity.clone(), self.vault.clone());
        tokio::task::spawn_blocking(move || identity.save(&vault)).await.unwrap_or(Ok(())).map_err(RenewError::Identity)
    }
}
