//! Keeps the node's certificate fresh, and of the role the cluster wants.
//!
//! A task of its own, owned by the agent. Renews at a time spread by chance within the certificate's
//! validity, and at once when the desired role differs from the certificate's, or the roots to trust do. The key is new
//! each time.

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
    /// The roots to trust, as managers name them.
    pub trust: watch::Receiver<Option<[u8; 32]>>,
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
    #[error("the renewed certificate could not be written to the disk")]
    NotSaved,
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
                    if !self.is_other() {
                        continue;
                    }
                }
                Err(RenewError::Refused { status, .. }) if says_removed(&status) => return,
                Err(error) => tracing::warn!(%error, "the certificate could not be renewed; trying again"),
            }
            tokio::time::sleep(backoff.pause(random())).await;
        }
    }

    /// Whether the cluster wants a certificate with another role, or of another root.
    fn is_other(&self) -> bool {
        self.desired_role.borrow().is_some_and(|role| role != self.identity.role())
            || self.trust.borrow().is_some_and(|trust| trust != self.identity.trust_digest())
    }

    async fn until_due(&mut self, chance: u64) {
        loop {
            if self.is_other() || now() >= self.identity.renew_at(chance) {
                return;
            }
            let wait = self.identity.renew_at(chance).since(now()).min(LONGEST_WAIT);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed(&mut self.desired_role) => {}
                () = changed(&mut self.trust) => {}
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
        // on the disk before anybody hears of it: a node that came back with the certificate before would be a stranger
        // once its root is gone
        let (renewed, vault) = (NodeIdentity::from_pem(key.pem(), &chain)?, self.vault.clone());
        tokio::task::spawn_blocking(move || renewed.save(&vault)).await.map_err(|_| RenewError::NotSaved)??;
        Ok(self.identity.replace(key.pem(), &chain)?)
    }
}

/// Waits for a word of the managers. Their way here ends with the agent, which ends this too.
async fn changed<T>(told: &mut watch::Receiver<T>) {
    if told.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
