//! Processes of this host that listen where the routing mesh would: looked for again and again, and told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use overlay::MeshPlan;
use tokio::{sync::watch, time::Instant};

use super::super::{
    mesh_ports::{Holder, Keeps, sentence, yield_to},
    sockets::{self, HostSocket},
};

/// Processes come and go without a word to us. A look costs a millisecond, more with many connections.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Many containers that start at once are one look.
const FRESH: Duration = Duration::from_secs(1);

/// One of them, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortHolder {
    /// `8080/tcp`
    pub port: String,
    /// Whether it takes something away: the mesh's port on this host, or the process's own clients.
    pub is_trouble: bool,
    pub sentence: String,
}

/// What is known of them.
#[derive(Debug)]
pub(super) struct Held {
    sockets: Vec<HostSocket>,
    looked: Option<Instant>,
    now: BTreeSet<Holder>,
    words: BTreeMap<Holder, String>,
    shown: watch::Sender<Arc<Vec<PortHolder>>>,
}

impl Held {
    pub(super) fn new() -> (Self, watch::Receiver<Arc<Vec<PortHolder>>>) {
        let (shown, receiver) = watch::channel(Arc::default());
        let (sockets, now, words) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        (Self { sockets, looked: None, now, words, shown }, receiver)
    }

    /// Looks at the host's sockets, if that was not just done.
    pub(super) async fn look(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        // It ends early only when the daemon does.
        self.sockets = tokio::task::spawn_blocking(sockets::of_host).await.unwrap_or_default();
        self.looked = Some(Instant::now());
    }

    /// What the mesh may have on this host, by the last look.
    pub(super) fn yielding(&mut self, mesh: Option<MeshPlan>, before: Option<&MeshPlan>) -> Option<MeshPlan> {
        let mesh = mesh.map(|mut mesh| {
            self.now = yield_to(&mut mesh, before, &self.sockets);
            mesh
        });
        if mesh.is_none() {
            self.now.clear();
        }
        mesh
    }

    /// Tells who came and who went.
    pub(super) async fn tell(&mut self) {
        if self.now.iter().eq(self.words.keys()) {
            return;
        }
        let fresh: Vec<Holder> = self.now.iter().filter(|holder| !self.words.contains_key(holder)).cloned().collect();
        let said = move || fresh.into_iter().map(|holder| (sentence(&holder), holder)).collect::<Vec<_>>();
        for (words, holder) in tokio::task::spawn_blocking(said).await.unwrap_or_default() {
            match holder.keeps {
                Keeps::Address => tracing::info!("{words}"),
                Keeps::Port | Keeps::Nothing => tracing::warn!("{words}"),
            }
            self.words.insert(holder, words);
        }
        let gone: Vec<Holder> = self.words.keys().filter(|holder| !self.now.contains(holder)).cloned().collect();
        for holder in gone {
            tracing::info!(port = holder.port, protocol = %holder.protocol, "a process no longer holds a published port");
            self.words.remove(&holder);
        }
        let shown = |(holder, sentence): (&Holder, &String)| PortHolder {
            port: format!("{}/{}", holder.port, holder.protocol),
            is_trouble: holder.keeps != Keeps::Address,
            sentence: sentence.clone(),
        };
        self.shown.send_replace(Arc::new(self.words.iter().map(shown).collect()));
    }
}
