//! The loop that answers probes and sends them. It owns all their state; others read the [`ProbeTable`].
//!
//! `netd` runs exactly one for each way. Each peer has a [`Line`] of its own; one more socket answers.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};
use types::{NodeId, ProbePeer, Timestamp};

use super::{
    Counters, ProbePath, ProbeSettings, ProbeTable, Verdict,
    drain::Drain,
    echo::Echoes,
    line::{Asking, Event, Line, RECEIVE_BUFFER, sentence},
    message::{Kind, Message, Refused},
    peer::{Peer, is_news},
    place::Place,
    socket,
};
use crate::NetworkPlan;

/// Datagrams waiting for the loop. At 5 answers per second and peer this is seconds of work; beyond it
/// readers wait and the kernel drops, as UDP does.
const EVENTS: usize = 1024;
/// Ticks after which the last spoilt datagram says nothing any more.
const SPOILT_LATELY: u32 = 5;

struct Prober {
    place: Place,
    /// Which namespace the sockets are in.
    inode: Option<u64>,
    /// Datagrams so far that came spoilt by this way, and the ticks since one came.
    spoilt: (u64, u32),
    settings: ProbeSettings,
    key: hmac::Key,
    boot: u64,
    responder: Option<UdpSocket>,
    responder_error: Option<String>,
    lines: BTreeMap<NodeId, Line>,
    readers: JoinSet<()>,
    events: mpsc::Sender<Event>,
    counters: Counters,
    /// Through the data path of overlays only.
    echoes: Echoes,
    /// Between hosts only.
    drain: Drain,
    applied: AppliedPlan,
}

/// The plan that this host follows, once it does; shared, because whoever answers looks into it seldom.
pub(crate) type AppliedPlan = watch::Receiver<Option<Arc<NetworkPlan>>>;

/// Runs until the sender of `settings` is gone.
pub(crate) async fn run(
    place: Place,
    mut settings: watch::Receiver<Option<ProbeSettings>>,
    table: watch::Sender<ProbeTable>,
    applied: AppliedPlan,
) {
    let mut counters = Counters::default();
    loop {
        let wanted = wanted_by(&place, &settings.borrow_and_update());
        let next = match wanted {
            None => {
                table.send_if_modified(|table| place.clear(table));
                settings.changed().await
            }
            Some(wanted) => {
                let (events, inbox) = mpsc::channel(EVENTS);
                let mut prober = Prober::new(place.clone(), wanted, counters, events, applied.clone());
                let ended = prober.run(inbox, &mut settings, &table).await;
                counters = prober.counters;
                ended
            }
        };
        if next.is_err() {
            return;
        }
    }
}

fn wanted_by(place: &Place, settings: &Option<ProbeSettings>) -> Option<ProbeSettings> {
    settings.as_ref().and_then(|settings| settings.by(place.path))
}

impl Prober {
    fn new(
        place: Place,
        settings: ProbeSettings,
        counters: Counters,
        events: mpsc::Sender<Event>,
        applied: AppliedPlan,
    ) -> Self {
        let spoilt = (place.spoilt().unwrap_or(0) + counters.bad_mac, SPOILT_LATELY);
        let boot = random();
        let mut prober = Self {
            inode: place.inode(),
            spoilt,
            place,
            key: hmac::Key::new(hmac::HMAC_SHA256, &settings.key.0),
            boot,
            responder: None,
            responder_error: None,
            lines: BTreeMap::new(),
            readers: JoinSet::new(),
            events,
            counters,
            echoes: Echoes::new(boot),
            drain: Drain::default(),
            applied,
            settings,
        };
        prober.drain.set(&prober.settings.draining);
        prober.adopt_peers();
        prober
    }

    /// Works until probing is turned off, or the settings' sender is gone (an error).
    async fn run(
        &mut self,
        mut inbox: mpsc::Receiver<Event>,
        settings: &mut watch::Receiver<Option<ProbeSettings>>,
        table: &watch::Sender<ProbeTable>,
    ) -> Result<(), watch::error::RecvError> {
        let mut ticks = self.ticker();
        let mut buffer = vec![0; RECEIVE_BUFFER];
        loop {
            tokio::select! {
                changed = settings.changed() => {
                    changed?;
                    let Some(wanted) = wanted_by(&self.place, &settings.borrow_and_update()) else { return Ok(()) };
                    self.reconfigure(wanted);
                    ticks = self.ticker();
                }
                _ = ticks.tick() => self.tick().await,
                () = self.echoes.ready() => self.listen_to_hearts(),
                Some(event) = inbox.recv() => self.on_event(event),
                received = receive(self.responder.as_ref(), &mut buffer) => if let Ok((length, from)) = received {
                    self.on_question(&buffer[..length], from);
                },
                // Readers that were aborted leave their result here.
                Some(_) = self.readers.join_next() => {}
            }
            self.publish(table);
        }
    }

    fn ticker(&self) -> tokio::time::Interval {
        let period = Duration::from_millis(u64::from(self.settings.interval_ms.max(10)));
        let mut ticks = tokio::time::interval(period);
        // After a pause (stopped, suspended) one tick, not a burst that would count as many misses.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    fn reconfigure(&mut self, wanted: ProbeSettings) {
        let old = std::mem::replace(&mut self.settings, wanted);
        if old == self.settings {
            return;
        }
        self.key = hmac::Key::new(hmac::HMAC_SHA256, &self.settings.key.0);
        let same_place = old.address == self.settings.address && old.port == self.settings.port;
        if !same_place {
            self.hang_up();
        }
        self.drain.set(&self.settings.draining);
        self.adopt_peers();
    }

    fn hang_up(&mut self) {
        self.responder = None;
        self.echoes.hang_up();
        self.lines.values_mut().for_each(Line::hang_up);
    }

    /// Peers that stay keep what is known of them; a peer at a new address starts anew.
    fn adopt_peers(&mut self) {
        let (misses, path) = (self.settings.misses, self.place.path);
        let mut before = std::mem::take(&mut self.lines);
        for peer in self.settings.peers.iter().filter(|peer| peer.node != self.settings.node) {
            let kept = before.remove(&peer.node).filter(|line| line.peer.state().address == peer.address);
            let mut line = kept.unwrap_or_else(|| Line::new(Peer::new(*peer, path, misses, wall())));
            line.peer.set_misses(misses);
            self.lines.insert(peer.node, line);
        }
        if path != ProbePath::Host {
            self.echoes.set(&self.settings.peers);
        }
    }

    fn listen_to_hearts(&mut self) {
        self.echoes.go_on(&self.place);
        for (node, line) in &mut self.lines {
            line.peer.set_pulse(self.echoes.pulse(*node));
        }
    }

    async fn tick(&mut self) {
        let inode = self.place.inode();
        if inode != self.inode {
            // Sockets of a namespace that was made anew still are in the old one.
            self.inode = inode;
            self.hang_up();
        }
        self.listen().await;
        self.look_for_spoilt();
        let Self { place, settings, key, boot, events, lines, readers, .. } = &mut *self;
        let asking = Asking { place, settings, key, boot: *boot, events };
        for line in lines.values_mut() {
            line.probe(&asking, readers, wall()).await;
        }
        self.ask_for_release();
    }

    /// What gets lost is asked again at the next tick.
    fn ask_for_release(&mut self) {
        let (sequence, questions) = self.drain.questions();
        for (host, addresses) in questions {
            if host.node == self.settings.node {
                let released = self.released(&addresses).unwrap_or_default();
                self.drain.released(host.node, sequence, released);
                continue;
            }
            let (sender, target) = (self.settings.node, host.node);
            let question = Message { kind: Kind::Leads, sender, target, view: None, boot: self.boot, sequence };
            let sealed = question.seal_addresses(&self.key, &addresses, 0);
            let to = SocketAddr::new(host.address, self.settings.port);
            if let Some(Err(error)) = self.responder.as_ref().map(|socket| socket::send_to(socket, &sealed, to)) {
                tracing::debug!(%error, host = %host.node, "cannot ask whether it leads connections here");
            }
        }
    }

    /// Asked for only while somebody is silent: it costs a visit to the namespace.
    fn look_for_spoilt(&mut self) {
        let silent = |line: &Line| line.peer.state().verdict == Verdict::Unanswered;
        if self.place.namespace.is_none() || !self.lines.values().any(silent) {
            return;
        }
        // Where nobody but the peers can send, what is not authentic was theirs when it left.
        let now = self.place.spoilt().unwrap_or(0) + self.counters.bad_mac;
        self.spoilt = if now == self.spoilt.0 { (now, self.spoilt.1.saturating_add(1)) } else { (now, 0) };
        let corrupted = self.spoilt.1 < SPOILT_LATELY;
        self.lines.values_mut().for_each(|line| line.peer.set_corrupted(corrupted));
    }

    /// Binds the responder if it is not. The address may come later than this process.
    async fn listen(&mut self) {
        if self.responder.is_some() {
            return;
        }
        let at = SocketAddr::new(self.settings.address, self.settings.port);
        match socket::bind(at, self.place.namespace.as_deref()).await {
            Ok(socket) => {
                (self.responder, self.responder_error) = (Some(socket), None);
            }
            Err(error) => self.responder_error = Some(format!("cannot answer probes on UDP {at}: {error}")),
        }
    }

    fn on_event(&mut self, event: Event) {
        let port = self.settings.port;
        let Some(line) = self.lines.get_mut(&event.node) else { return };
        let peer = ProbePeer { node: event.node, address: line.peer.state().address };
        let bytes = match event.received {
            Ok(bytes) => bytes,
            Err(error) => return line.peer.error(sentence(&error, peer, port)),
        };
        match Message::open(&self.key, &bytes) {
            Ok(answer) if answer.kind == Kind::Answer && answer.boot == self.boot => {
                line.peer.answer(answer.sender, answer.sequence, answer.view, Instant::now(), wall());
            }
            Ok(_) => self.counters.malformed += 1,
            Err(refused) => self.count(refused),
        }
    }

    fn on_question(&mut self, bytes: &[u8], from: SocketAddr) {
        let question = match Message::open(&self.key, bytes) {
            Ok(question) => question,
            Err(refused) => return self.count(refused),
        };
        match question.kind {
            Kind::Question => {}
            Kind::Leads => return self.on_leads(&question, &Message::addresses(bytes), from),
            Kind::Released if question.boot == self.boot => {
                return self.drain.released(question.sender, question.sequence, Message::addresses(bytes));
            }
            Kind::Answer | Kind::Released => return self.counters.malformed += 1,
        }
        let mut view = None;
        if question.target != self.settings.node {
            // Answered all the same: the asker learns who is here, and does not count it as its peer.
            self.counters.wrong_target += 1;
        } else if let Some(line) = self.lines.get_mut(&question.sender) {
            line.peer.asked(question.boot, question.sequence, question.view);
            view = line.peer.view();
        }
        let answer = question.answer(self.settings.node, view).seal(&self.key, bytes.len());
        self.send_answer(&answer, from);
    }

    /// Somebody has endpoints on their way out. Without a plan there is nothing to say yet.
    fn on_leads(&mut self, question: &Message, asked: &[IpAddr], from: SocketAddr) {
        if question.target != self.settings.node {
            return self.counters.wrong_target += 1;
        }
        let Some(released) = self.released(asked) else { return };
        let answer = question.answer(self.settings.node, None).seal_addresses(&self.key, &released, asked.len());
        self.send_answer(&answer, from);
    }

    /// To which of these nothing is led from here.
    fn released(&self, asked: &[IpAddr]) -> Option<Vec<IpAddr>> {
        let plan = self.applied.borrow();
        let plan = plan.as_ref()?;
        Some(asked.iter().filter(|address| !plan.leads_to(address)).copied().collect())
    }

    /// A full send buffer loses the answer, as the network may; the asker asks again.
    fn send_answer(&mut self, answer: &[u8], to: SocketAddr) {
        let sent = self.responder.as_ref().map(|socket| socket::send_to(socket, answer, to));
        if matches!(sent, Some(Ok(()))) {
            self.counters.answered += 1;
        }
    }

    fn count(&mut self, refused: Refused) {
        match refused {
            Refused::Form => self.counters.malformed += 1,
            Refused::Mac => self.counters.bad_mac += 1,
        }
    }

    /// Readers always see the newest numbers; they are woken only for news.
    fn publish(&self, table: &watch::Sender<ProbeTable>) {
        let path = self.place.path;
        table.send_if_modified(|table| {
            let mut news = table.by(path).len() != self.lines.len();
            // What is counted and said of the responder is about the hosts' own probes.
            if path == ProbePath::Host {
                table.counters = self.counters;
                news |= table.responder_error != self.responder_error;
                table.responder_error.clone_from(&self.responder_error);
                let led = self.drain.led();
                news |= table.led != led;
                table.led = led;
            }
            let peers = table.by_mut(path);
            peers.retain(|node, _| self.lines.contains_key(node));
            for (node, line) in &self.lines {
                let state = line.peer.state();
                match peers.get_mut(node) {
                    Some(old) if old == state => {}
                    Some(old) => {
                        news |= is_news(old, state);
                        old.clone_from(state);
                    }
                    None => {
                        news = true;
                        peers.insert(*node, state.clone());
                    }
                }
            }
            news
        });
    }
}

/// Waits for a question; for ever while there is no socket.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

fn wall() -> Timestamp {
    // Before 1970 the clock is wrong anyway.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ns(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).expect("the kernel's random numbers are always there once it has booted");
    u64::from_be_bytes(bytes)
}
