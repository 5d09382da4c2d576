//! The hands: look at the kernel ([`Kernel::observe`]) and change it ([`Kernel::apply`]).
//!
//! Called by `netd` alone. Every call works on a thread of its own, because entering a network
//! namespace changes the thread it happens on; no worker of the caller's runtime ever leaves its
//! namespace, and a slow kernel never delays a probe. Nothing here decides what should be.

mod apply;
mod bridge;
mod endpoint;
mod error;
mod facts;
mod flows;
mod link;
mod local;
mod mesh;
mod namespace;
mod netfilter;
mod nft;
mod observe;
mod overlay;
mod reset;
mod session;
mod sysctl;
mod tunnel;
mod vip;
mod watch;
mod wireguard;

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use error::{KernelError, StepFailure, explain};
pub use observe::underlay_mtu;
pub use watch::Watch;

pub(crate) use error::netlink_io;
pub(crate) use flows::begun;
pub(crate) use mesh::try_mesh;
pub(crate) use nft::run as run_nft;
pub(crate) use session::Session;

use crate::{Observed, Step, doctor::ForwardDrop, mesh::load::PortRules};

/// The kernel of this host, and where the files of ours are.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub(crate) files: Files,
}

/// Where this crate keeps what belongs to the running kernel; gone after a reboot, like the kernel's objects.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The directory of all of them.
    pub state_dir: PathBuf,
    /// One bind-mounted file per endpoint namespace.
    pub namespaces: PathBuf,
    /// One bind-mounted file per overlay namespace.
    pub overlays: PathBuf,
    /// Per endpoint, which virtual addresses were loaded into its namespace last.
    pub vips: PathBuf,
    /// The namespace of the tunnel that encrypted overlays share, where the kernel seals them.
    pub tunnel: PathBuf,
    /// Which rules were loaded into it last.
    pub tunnel_record: PathBuf,
    /// Which table was loaded last, and how the kernel listed it then.
    pub nft_record: PathBuf,
}

impl Kernel {
    /// Files go under `run_dir`, usually `/run/rswarm`.
    pub fn new(run_dir: &Path) -> Self {
        let files = Files {
            state_dir: run_dir.to_owned(),
            namespaces: run_dir.join("netns"),
            overlays: run_dir.join("overlay"),
            vips: run_dir.join("vips"),
            tunnel: run_dir.join("tunnel"),
            tunnel_record: run_dir.join("tunnel.json"),
            nft_record: run_dir.join("nft.json"),
        };
        Self { files }
    }

    /// The file that stands for an endpoint's namespace: what a container runtime joins.
    pub fn namespace_path(&self, id: &crate::EndpointId) -> PathBuf {
        self.files.namespaces.join(id.as_str())
    }

    /// The file that stands for an overlay's namespace: where the TAP of an encrypted one belongs.
    pub fn overlay_path(&self, id: types::NetworkId) -> PathBuf {
        self.files.overlays.join(id.to_string())
    }

    /// Everything in the kernel that is ours, now.
    ///
    /// # Errors
    /// When the kernel cannot be asked at all, usually for lack of privileges.
    pub async fn observe(&self) -> Result<Observed, KernelError> {
        self.look(None).await
    }

    /// The same at a fraction of the cost, for a caller who has heard of no change since `seen` but its
    /// own: does not list the rules again, nor enter a namespace whose host end is as it was.
    ///
    /// # Errors
    /// As [`Kernel::observe`].
    pub async fn glance(&self, seen: Observed) -> Result<Observed, KernelError> {
        self.look(Some(seen)).await
    }

    async fn look(&self, seen: Option<Observed>) -> Result<Observed, KernelError> {
        let files = self.files.clone();
        on_own_thread("observe", move || async move {
            let session = Session::open()?;
            observe::observe(&session, &files, seen.as_ref()).await
        })
        .await?
    }

    /// A look after a load of the published ports: what was loaded is believed to be there while the ruleset's number says
    /// that this was the only change of rules. The next look lists them otherwise.
    pub(crate) fn with_ports(&self, mut known: Observed, loaded: Arc<PortRules>) -> Observed {
        let now = netfilter::ruleset_generation().ok();
        if now.is_some() && known.mesh.generation.map(|number| number.wrapping_add(1)) == now {
            known.mesh.generation = now;
            (known.mesh.ports, known.mesh.loaded) = (None, Some(loaded));
        }
        known
    }

    /// Whether no rule of the host has changed since this look, by whomever.
    pub(crate) fn has_rules_of(&self, seen: &Observed) -> bool {
        seen.mesh.generation.is_some() && seen.mesh.generation == netfilter::ruleset_generation().ok()
    }

    /// Firewalls of the host that forward nothing they do not know, and which of `links` they do not.
    pub(crate) fn forward_drops(&self, links: &[String]) -> std::io::Result<Vec<ForwardDrop>> {
        mesh::forward_drops(links)
    }

    /// Does the steps in order and goes on after a failure; all failures are returned.
    pub async fn apply(&self, steps: Vec<Step>) -> Vec<StepFailure> {
        if steps.is_empty() {
            return Vec::new();
        }
        let files = self.files.clone();
        let work = on_own_thread("apply", move || async move {
            match Session::open() {
                Ok(session) => apply::apply(&session, &files, &steps).await,
                Err(error) => vec![StepFailure::host(error)],
            }
        });
        work.await.unwrap_or_else(|error| vec![StepFailure::host(error)])
    }
}

/// Runs a future to its end on a new thread with a runtime of its own.
pub(crate) async fn on_own_thread<T, F, Fut>(name: &str, make: F) -> Result<T, KernelError>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T>,
{
    let (answer, answered) = tokio::sync::oneshot::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.map(|runtime| runtime.block_on(make()));
        // The caller may be gone (its own shutdown); then nobody wants the answer.
        let _ = answer.send(result);
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(KernelError::Thread)?;
    match answered.await {
        Ok(result) => result.map_err(KernelError::Thread),
        Err(_) => Err(KernelError::Thread(std::io::Error::other("the thread panicked"))),
    }
}
