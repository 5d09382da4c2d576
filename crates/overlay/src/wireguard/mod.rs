//! The encrypted data path of overlay networks, in user space.
//!
//! `netd`'s worker hands it each plan ([`Wireguard::apply`]). For every encrypted overlay it holds a TAP
//! in the overlay's bridge, and one UDP socket for all peers: frames are taken whole (virtio header,
//! TCP trains up to 64 KiB), cut, wrapped as VXLAN ([`envelope`]), sealed with WireGuard and sent many at
//! a time; and the same backwards. There is no tunnel interface and no socket that takes VXLAN in clear,
//! so no local process can inject a frame. It must never send a frame of an encrypted network unsealed:
//! without a key, peer or TAP nothing passes.
//!
//! Where the kernel seals instead ([`crate::tunnel`]) it is given nothing to do. The format inside the tunnel is the same.

pub(crate) mod checksum;
mod control;
mod envelope;
mod glue;
mod inbound;
mod keys;
mod neighbour;
mod outbound;
mod packet;
mod segment;
mod socket;
mod table;
mod tap;
mod tunnel;
mod vnet;

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::mpsc};

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use types::{NetworkId, NodeId};

pub use envelope::tunnel_address;
pub use keys::{generate_key_pair, public_key};
pub use table::Dropped;

use crate::{DataPath, EntryHost, MacAddress, NetworkPlan, OverlayPlan, Remote};
use control::{Command, Control};

/// Plans that wait: the worker waits for each answer, so there is never a second.
const COMMANDS: usize = 4;

/// What can go wrong with the encrypted data path.
#[derive(Debug, thiserror::Error)]
pub enum WireguardError {
    #[error("cannot make a key: the system gives no random bytes")]
    Randomness,
    #[error("this host has no WireGuard key in its plan")]
    NoKeys,
    #[error(
        "cannot open /dev/net/tun, which encrypted networks need: load the kernel module (modprobe tun), or pass \
         the device into the container"
    )]
    NoTun(#[source] io::Error),
    #[error("its network namespace {path} does not exist")]
    NoNamespace { path: PathBuf },
    #[error("cannot {doing}")]
    Tap {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot bind the WireGuard socket to {address}: is the port free, and the address this host's?")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// The part of a plan that concerns encryption.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub data_path: Option<DataPath>,
    /// The encrypted ones.
    pub overlays: BTreeMap<NetworkId, OverlayPlan>,
    /// Where each has its bridge.
    pub namespaces: BTreeMap<NetworkId, PathBuf>,
}

impl Settings {
    /// Nothing where the kernel does the work.
    pub fn of(plan: &NetworkPlan, namespace: impl Fn(NetworkId) -> PathBuf) -> Self {
        if plan.is_sealed_by_kernel() {
            return Self::default();
        }
        let encrypted = plan.overlays.iter().filter(|(_, overlay)| overlay.encrypted);
        let mut overlays: BTreeMap<_, _> = encrypted.map(|(id, overlay)| (*id, overlay.clone())).collect();
        let in_mesh = plan.mesh.as_ref().and_then(|mesh| Some((mesh, overlays.get_mut(&mesh.network)?)));
        if let Some((mesh, overlay)) = in_mesh {
            // The other hosts' own ports: frames come from and go to them, but nobody asks for their addresses.
            let port = |(mac, entry): (&MacAddress, &EntryHost)| {
                (*mac, Remote { addresses: Vec::new(), node: entry.node, host: entry.host })
            };
            overlay.remotes.extend(mesh.entries.iter().map(port));
        }
        let namespaces = overlays.keys().map(|id| (*id, namespace(*id))).collect();
        Self { data_path: plan.data_path.clone(), overlays, namespaces }
    }
}

/// How the adoption of a plan went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// TAPs that were not there before: ports of bridges that nobody has looked at yet.
    pub made: usize,
    /// Networks that carry nothing to other hosts, and why.
    pub errors: BTreeMap<NetworkId, String>,
}

/// The mesh as it is now; without peers where the kernel seals, whose own word is in [`crate::Observed`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// Peers, and whether there is a session with them: one that nobody spoke with for three minutes has none.
    pub peers: BTreeMap<NodeId, bool>,
    pub dropped: Dropped,
}

/// The handle of the data path; it ends with it.
#[derive(Debug)]
pub struct Wireguard {
    commands: mpsc::SyncSender<Command>,
}

impl Wireguard {
    /// Starts its thread, which does nothing until the first plan.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> Result<(Self, watch::Receiver<Standing>), WireguardError> {
        let (commands, inbox) = mpsc::sync_channel(COMMANDS);
        let (standing, receiver) = watch::channel(Standing::default());
        let thread = std::thread::Builder::new().name("wg-control".to_owned());
        let body = move || Control::default().run(&inbox, &standing);
        thread.spawn(body).map_err(WireguardError::Thread)?;
        Ok((Self { commands }, receiver))
    }

    /// Makes the encrypted data path match; idempotent, and cheap when nothing changed.
    pub async fn apply(&self, settings: Settings) -> Report {
        let overlays: Vec<NetworkId> = settings.overlays.keys().copied().collect();
        let (answer, answered) = oneshot::channel();
        let is_sent = self.commands.try_send(Command { settings, answer }).is_ok();
        if let (true, Ok(report)) = (is_sent, answered.await) {
            return report;
        }
        let ended = || "the encrypted data path has ended: restart rswarm netd".to_owned();
        Report { errors: overlays.into_iter().map(|id| (id, ended())).collect(), ..Report::default() }
    }
}
