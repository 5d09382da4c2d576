//! A peer and the socket by which it is asked: each has one of its own, so that the kernel's reports (nobody listens
//! there, no route) come back to the peer they are about. Owned by the prober.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ring::hmac;
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use types::{NodeId, ProbePeer, Timestamp};

use super::{
    ProbeSettings,
    message::{HEADER, Kind, Message},
    peer::Peer,
    place::Place,
    socket,
};

/// Larger than any probe: a longer datagram is cut and then refused by its length.
pub const RECEIVE_BUFFER: usize = 16 * 1024;
/// A socket that reports errors without end must not keep the processor busy.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Something a peer's socket received.
pub struct Event {
    pub node: NodeId,
    pub received: io::Result<Vec<u8>>,
}

/// Who asks, and how.
pub struct Asking<'a> {
    pub place: &'a Place,
    pub settings: &'a ProbeSettings,
    pub key: &'a hmac::Key,
    pub boot: u64,
    pub events: &'a mpsc::Sender<Event>,
}

/// A peer with its socket; the socket is missing while the host lacks the data path address.
pub struct Line {
    pub peer: Peer,
    link: Option<(Arc<UdpSocket>, AbortHandle)>,
}

impl Line {
    pub fn new(peer: Peer) -> Self {
        Self { peer, link: None }
    }

    pub fn hang_up(&mut self) {
        if let Some((_, reader)) = self.link.take() {
            reader.abort();
        }
    }

    /// Asks, and now and then in full size too.
    pub async fn probe(&mut self, asking: &Asking<'_>, readers: &mut JoinSet<()>, wall: Timestamp) {
        let (me, port) = (asking.settings.node, asking.settings.port);
        let (now, view) = (Instant::now(), self.peer.view());
        let sequence = self.peer.tick(now, wall);
        let peer = ProbePeer { node: self.peer.state().node, address: self.peer.state().address };
        if self.link.is_none() {
            let to = SocketAddr::new(peer.address, port);
            match connect(asking.place, asking.settings.address, to).await {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    let reader = readers.spawn(read(peer.node, Arc::clone(&socket), asking.events.clone()));
                    self.link = Some((socket, reader));
                }
                Err(error) => self.peer.error(sentence(&error, peer, port)),
            }
        }
        let Some((socket, _)) = &self.link else { return };
        let boot = asking.boot;
        let question = Message { kind: Kind::Question, sender: me, target: peer.node, view, boot, sequence };
        if let Err(error) = socket::send(socket, &question.seal(asking.key, HEADER)) {
            self.peer.error(sentence(&error, peer, port));
        }
        if !self.peer.full_due(now) {
            return;
        }
        let bytes = socket::path_mtu(socket, peer.address).unwrap_or(0);
        let length = bytes.saturating_sub(socket::overhead(peer.address)) as usize;
        if length < HEADER {
            self.peer.full_refused(bytes, "the path's MTU is too small for any probe".to_owned(), now);
            return;
        }
        let sequence = self.peer.full_sent(bytes, now);
        if let Err(error) = socket::send(socket, &Message { sequence, ..question }.seal(asking.key, length)) {
            self.peer.full_refused(bytes, sentence(&error, peer, port), now);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.hang_up();
    }
}

async fn connect(place: &Place, from: IpAddr, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket::bind(SocketAddr::new(from, 0), place.namespace.as_deref()).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Hands everything a peer's socket receives to the loop, which owns the state.
async fn read(node: NodeId, socket: Arc<UdpSocket>, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; RECEIVE_BUFFER];
    loop {
        let received = socket.recv(&mut buffer).await.map(|length| buffer[..length].to_vec());
        let failed = received.is_err();
        if events.send(Event { node, received }).await.is_err() {
            return;
        }
        if failed {
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }
}

/// An error of a peer's socket, in words that say which host and what it means.
pub fn sentence(error: &io::Error, peer: ProbePeer, port: u16) -> String {
    let ProbePeer { address, .. } = peer;
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{address} is up, but nothing answers on UDP port {port} there")
        }
        io::ErrorKind::AddrNotAvailable => "this host does not have its data path address".to_owned(),
        _ => format!("cannot reach {address} on UDP port {port}: {error}"),
    }
}
