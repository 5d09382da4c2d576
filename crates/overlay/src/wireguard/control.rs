//! The thread that owns the encrypted data path: adopts plans, starts and stops workers, keeps time.
//!
//! It compares what runs with what is wanted and changes only what differs: peers and networks that
//! stay are not disturbed. Old key pairings live on for a grace time, see [`super::tunnel`].

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};
use types::{NetworkId, NodeId};

use super::{
    Report, Settings, Standing, WireguardError,
    envelope::tunnel_address,
    inbound,
    keys::OwnKey,
    outbound,
    socket::Socket,
    table::{Overlay, Shared, Table},
    tap::Tap,
    tunnel::{Pairing, Peer, Tunnel},
};
use crate::{DataPath, Encryption, OverlayPlan, kernel::explain, overlay_mtu};

/// Sessions of a replaced key are opened so long: WireGuard's own limit for the life of a session.
const GRACE: Duration = Duration::from_secs(180);
/// Handshakes and keepalives are looked after this often; WireGuard counts in seconds.
const TICK: Duration = Duration::from_millis(100);
/// Pairings of one peer: a key that is replaced more often within the grace time loses its oldest.
const MOST_PAIRINGS: usize = 4;
/// A TAP is born for this underlay; the next look at the kernel gives it the MTU of the real one.
const UNDERLAY_MTU: u32 = 1500;
/// The index of a session has 24 bits for its tunnel.
const INDICES: u32 = 1 << 24;

pub struct Command {
    pub settings: Settings,
    pub answer: oneshot::Sender<Report>,
}

/// A thread of ours and the flag that ends it.
struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Line {
    socket: Arc<Socket>,
    address: SocketAddr,
    worker: Worker,
}

struct Plug {
    tap: Arc<Tap>,
    vni: u32,
    /// Which namespace it is in, by inode: the path may come to mean another.
    namespace: (u64, u64),
    worker: Worker,
}

/// What there is to do, once the socket stands.
struct Wanted<'a> {
    encryption: &'a Encryption,
    path: &'a DataPath,
    socket: Arc<Socket>,
}

struct Pair {
    node: NodeId,
    tunnel: Arc<Tunnel>,
    /// None while both keys are those of the plan.
    until: Option<Instant>,
}

#[derive(Default)]
pub struct Control {
    shared: Arc<Shared>,
    line: Option<Line>,
    plugs: BTreeMap<NetworkId, Plug>,
    /// Newest first.
    pairs: Vec<Pair>,
    keys: Vec<(OwnKey, Option<Instant>)>,
    next_index: u32,
}

impl Control {
    /// Works until the sender of commands is gone; then stops all workers.
    pub fn run(mut self, commands: &Receiver<Command>, standing: &watch::Sender<Standing>) {
        loop {
            match commands.recv_timeout(TICK) {
                Ok(Command { settings, answer }) => {
                    let report = self.adopt(&settings);
                    // Whoever asked may have gone.
                    let _ = answer.send(report);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tick();
            standing.send_if_modified(|told| {
                let before = std::mem::replace(told, self.standing());
                before != *told
            });
        }
    }

    fn standing(&self) -> Standing {
        let mut peers = BTreeMap::new();
        for pair in &self.pairs {
            *peers.entry(pair.node).or_insert(false) |= pair.tunnel.is_established();
        }
        Standing { peers, dropped: self.shared.counters.snapshot() }
    }

    fn tick(&self) {
        let Some(table) = self.shared.table() else { return };
        for key in &table.keys {
            key.limiter.reset_count();
        }
        let now = Instant::now();
        for (node, tunnel) in table.tunnels.values() {
            let Some(peer) = table.peers.get(node) else { continue };
            tunnel.tick(now, |message| {
                // Nobody there to send to now: the timer tries again.
                let _ = table.socket.send_one(message, peer.endpoint);
            });
        }
    }

    /// Makes it so, and says for each network why not.
    fn adopt(&mut self, settings: &Settings) -> Report {
        let mut report = Report::default();
        let wanted = match self.ready_line(settings) {
            Ok(wanted) => wanted,
            Err(error) => {
                self.stop_all();
                let why = explain(&error);
                let said = |(id, overlay): (&NetworkId, &OverlayPlan)| (*id, unusable(overlay, &why));
                report.errors = settings.overlays.iter().map(said).collect();
                return report;
            }
        };
        if let Some(wanted) = wanted {
            self.keep_keys(wanted.encryption, Instant::now());
            self.keep_plugs(settings, wanted.path.address, &mut report);
            self.shared.swap(Some(self.table(settings, wanted)));
        }
        report
    }

    /// The socket and its worker, on the wanted address; None when nothing is wanted.
    fn ready_line<'a>(&mut self, settings: &'a Settings) -> Result<Option<Wanted<'a>>, WireguardError> {
        let path = settings.data_path.as_ref();
        let Some((path, encryption)) = path.and_then(|path| Some((path, path.encryption.as_ref()?))) else {
            self.stop_all();
            return if settings.overlays.is_empty() { Ok(None) } else { Err(WireguardError::NoKeys) };
        };
        let address = SocketAddr::new(path.address, encryption.port);
        let is_kept = self.line.as_ref().is_some_and(|line| line.address == address && line.worker.is_alive());
        if !is_kept {
            self.line = None;
            self.shared.swap(None);
            let bound = Socket::bind(address).map_err(|source| WireguardError::Bind { address, source })?;
            let (socket, shared) = (Arc::new(bound), self.shared.clone());
            let used = socket.clone();
            let worker = Worker::start("wg-udp", move |stop| inbound::run(&shared, &used, stop))?;
            self.line = Some(Line { socket, address, worker });
        }
        let wanted = |line: &Line| Wanted { encryption, path, socket: line.socket.clone() };
        Ok(self.line.as_ref().map(wanted))
    }

    fn stop_all(&mut self) {
        self.shared.swap(None);
        (self.line, self.plugs) = (None, BTreeMap::new());
        self.pairs.clear();
        self.keys.clear();
    }

    /// Key pairings as planned, those before them for a while longer.
    fn keep_keys(&mut self, encryption: &Encryption, now: Instant) {
        if self.keys.first().is_none_or(|(key, _)| key.private != encryption.private_key) {
            for (_, until) in &mut self.keys {
                until.get_or_insert(now + GRACE);
            }
            self.keys.retain(|(key, _)| key.private != encryption.private_key);
            self.keys.insert(0, (OwnKey::new(encryption.private_key.clone()), None));
        }
        self.keys.retain(|(_, until)| until.is_none_or(|until| now < until));
        self.keys.truncate(MOST_PAIRINGS);
        let own = self.keys[0].0.clone();
        let wanted = |node: &NodeId| {
            encryption.peers.get(node).map(|peer| Pairing { own_public: own.public, peer_public: peer.public_key })
        };
        for pair in &mut self.pairs {
            match wanted(&pair.node) {
                Some(pairing) if pairing == pair.tunnel.pairing => pair.until = None,
                _ => drop(pair.until.get_or_insert(now + GRACE)),
            }
        }
        for node in encryption.peers.keys() {
            let has = |pair: &Pair| pair.node == *node && Some(pair.tunnel.pairing) == wanted(node);
            if let (false, Some(pairing)) = (self.pairs.iter().any(has), wanted(node)) {
                let tunnel = Arc::new(Tunnel::new(&own, pairing.peer_public, self.free_index(), now));
                self.pairs.insert(0, Pair { node: *node, tunnel, until: None });
            }
        }
        let mut counts: HashMap<NodeId, usize> = HashMap::new();
        self.pairs.retain(|pair| {
            let count = counts.entry(pair.node).or_default();
            *count += 1;
            encryption.peers.contains_key(&pair.node)
                && *count <= MOST_PAIRINGS
                && pair.until.is_none_or(|until| now < until)
        });
    }

    fn free_index(&mut self) -> u32 {
        loop {
            self.next_index = (self.next_index + 1) % INDICES;
            if self.pairs.iter().all(|pair| pair.tunnel.index != self.next_index) {
                return self.next_index;
            }
        }
    }

    /// A TAP with its worker for each network; what stands stays.
    fn keep_plugs(&mut self, settings: &Settings, own: IpAddr, report: &mut Report) {
        let overlays = &settings.overlays;
        self.plugs.retain(|id, plug| {
            let namespace = settings.namespaces.get(id).and_then(|path| inode(path));
            let is_wanted = overlays.get(id).is_some_and(|overlay| overlay.vni == plug.vni);
            is_wanted && namespace == Some(plug.namespace) && plug.worker.is_alive()
        });
        for (id, overlay) in overlays {
            if self.plugs.contains_key(id) {
                continue;
            }
            let Some(path) = settings.namespaces.get(id) else { continue };
            match self.plug(path, overlay, own) {
                Ok(plug) => {
                    self.plugs.insert(*id, plug);
                    report.made += 1;
                }
                Err(error) => drop(report.errors.insert(*id, unusable(overlay, &explain(&error)))),
            }
        }
    }

    fn plug(&self, path: &Path, overlay: &OverlayPlan, own: IpAddr) -> Result<Plug, WireguardError> {
        let mtu = overlay.mtu.unwrap_or(overlay_mtu(UNDERLAY_MTU, own.is_ipv6(), true));
        let namespace = inode(path).ok_or_else(|| WireguardError::NoNamespace { path: path.to_owned() })?;
        let tap = Arc::new(Tap::open(path, mtu)?);
        let (shared, used, vni) = (self.shared.clone(), tap.clone(), overlay.vni);
        let worker = Worker::start("wg-tap", move |stop| outbound::run(&shared, &used, vni, stop))?;
        Ok(Plug { tap, vni, namespace, worker })
    }

    fn table(&self, settings: &Settings, wanted: Wanted<'_>) -> Table {
        let Wanted { encryption, path, socket } = wanted;
        let (address, port) = (tunnel_address(path.address), path.port);
        let peer = |(node, peer): (&NodeId, &crate::EncryptionPeer)| {
            let own_pairs = self.pairs.iter().filter(|pair| pair.node == *node);
            let tunnels: Vec<_> = own_pairs.map(|pair| pair.tunnel.clone()).collect();
            let endpoint = SocketAddr::new(peer.address, encryption.port);
            (!tunnels.is_empty()).then_some((*node, Peer { endpoint, tunnels }))
        };
        let overlay = |(id, plug): (&NetworkId, &Plug)| {
            let plan = settings.overlays.get(id)?;
            Some((plug.vni, Overlay::new(plan, plug.tap.clone(), address, port)))
        };
        Table {
            socket,
            address,
            port,
            keys: self.keys.iter().map(|(key, _)| key.clone()).collect(),
            peers: encryption.peers.iter().filter_map(peer).collect(),
            tunnels: self.pairs.iter().map(|pair| (pair.tunnel.index, (pair.node, pair.tunnel.clone()))).collect(),
            overlays: self.plugs.iter().filter_map(overlay).collect(),
        }
    }
}

fn unusable(overlay: &OverlayPlan, why: &str) -> String {
    format!("network {} is encrypted and carries nothing to other hosts: {why}", overlay.name)
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Worker {
    fn start(name: &str, body: impl FnOnce(&Arc<AtomicBool>) + Send + 'static) -> Result<Self, WireguardError> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || body(&told));
        Ok(Self { stop, thread: Some(thread.map_err(WireguardError::Thread)?) })
    }

    fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has said so; its packets are lost either way.
            let _ = thread.join();
        }
    }
}
