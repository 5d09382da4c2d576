//! One pairing of keys with a peer: its handshake, sessions and timers, as `boringtun` keeps them.
//!
//! A peer has more than one while a key is being replaced: the old pairing carries traffic until the
//! new one has its first session, and what still comes in on it is opened for a while.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use boringtun::{
    noise::{Tunn, TunnResult},
    x25519::{PublicKey, StaticSecret},
};

use super::keys::OwnKey;

/// Between two first handshakes that got no answer, before boringtun's own slower timer takes over.
const TRY_AGAIN: Duration = Duration::from_millis(1000);
const TRIES: u32 = 30;
/// Of two hosts that start at once one waits: handshakes that cross spoil each other.
const COURTESY: Duration = Duration::from_millis(300);
/// Handshake messages are shorter; a keepalive too.
pub const MESSAGE: usize = 256;

/// Which keys belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pairing {
    pub own_public: [u8; 32],
    pub peer_public: [u8; 32],
}

pub struct Tunnel {
    /// The upper 24 bits of its sessions' indices.
    pub index: u32,
    pub pairing: Pairing,
    noise: Mutex<Noise>,
    is_established: AtomicBool,
}

pub struct Noise {
    pub tunn: Tunn,
    next_try: Instant,
    tries_left: u32,
}

impl Tunnel {
    pub fn new(own: &OwnKey, peer_public: [u8; 32], index: u32, now: Instant) -> Self {
        let secret = StaticSecret::from(*own.private.bytes());
        let limiter = Some(own.limiter.clone());
        let tunn = Tunn::new(secret, PublicKey::from(peer_public), None, None, index, limiter);
        let next_try = if own.public > peer_public { now } else { now + COURTESY };
        let pairing = Pairing { own_public: own.public, peer_public };
        let noise = Mutex::new(Noise { tunn, next_try, tries_left: TRIES });
        Self { index, pairing, noise, is_established: AtomicBool::new(false) }
    }

    /// Whether it has a session to send with.
    pub fn is_established(&self) -> bool {
        self.is_established.load(Ordering::Acquire)
    }

    /// One worker at a time. A poisoned lock holds a consistent value still: each call of boringtun is whole.
    pub fn lock(&self) -> MutexGuard<'_, Noise> {
        self.noise.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a message that may have made a session, or the passing of time that may have ended one.
    pub fn note_session(&self, noise: &Noise) {
        self.is_established.store(noise.tunn.time_since_last_handshake().is_some(), Ordering::Release);
    }

    /// What time asks for: handshakes again, keepalives; `send` gets each message.
    pub fn tick(&self, now: Instant, mut send: impl FnMut(&[u8])) {
        let mut noise = self.lock();
        let mut buffer = [0; MESSAGE];
        // boringtun logs an idle tunnel's end as an error; here it is the usual course, and the report says it.
        let quiet = tracing::Dispatch::none();
        let due = tracing::dispatcher::with_default(&quiet, || noise.tunn.update_timers(&mut buffer));
        if let TunnResult::WriteToNetwork(message) = due {
            send(message);
        }
        self.note_session(&noise);
        let is_due = !self.is_established() && noise.tries_left > 0 && now >= noise.next_try;
        if !is_due {
            return;
        }
        noise.tries_left -= 1;
        noise.next_try = now + TRY_AGAIN;
        if let TunnResult::WriteToNetwork(message) = noise.tunn.format_handshake_initiation(&mut buffer, true) {
            send(message);
        }
    }
}

/// A host of the mesh as the workers see it.
pub struct Peer {
    pub endpoint: SocketAddr,
    /// Newest pairing first; never empty.
    pub tunnels: Vec<std::sync::Arc<Tunnel>>,
}

impl Peer {
    /// The tunnel to send with: the newest that has a session, or the newest.
    pub fn outgoing(&self) -> &Tunnel {
        self.tunnels.iter().find(|tunnel| tunnel.is_established()).unwrap_or(&self.tunnels[0])
    }
}
