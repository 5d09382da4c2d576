//! What is believed of one peer, from what was sent to it and what came back. Pure: times are arguments.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use types::{NodeId, ProbePeer, Timestamp};

use super::{FullSize, PeerState, ProbePath, Pulse, Verdict};

/// Between two full-size probes that went well.
const FULL_SIZE_EVERY: Duration = Duration::from_secs(7);
/// How long a full-size probe may take: also the time between two attempts.
const FULL_SIZE_WAIT: Duration = Duration::from_secs(1);
/// One lost packet says nothing about size; so many in a row, while small ones pass, do.
const FULL_SIZE_ATTEMPTS: u32 = 3;
/// Questions remembered beyond those that decide: late answers still tell the round-trip time.
const LATE_ANSWERS: usize = 16;

/// One peer.
#[derive(Debug)]
pub struct Peer {
    state: PeerState,
    misses: u64,
    next: u64,
    /// Newest question that was answered.
    answered: u64,
    /// Open questions of the usual size: number and time sent.
    open: VecDeque<(u64, Instant)>,
    full: Full,
    /// Newest question of the peer itself: its boot and sequence. Older ones are replays.
    heard: Option<(u64, u64)>,
    /// Own probes sent since then.
    since_heard: u64,
}

#[derive(Debug)]
enum Full {
    Idle { next: Option<Instant> },
    Waiting { sequence: u64, bytes: u32, since: Instant, attempt: u32 },
}

impl Peer {
    pub fn new(peer: ProbePeer, path: ProbePath, misses: u32, now: Timestamp) -> Self {
        let state = PeerState {
            node: peer.node,
            path,
            address: peer.address,
            verdict: Verdict::Unknown,
            since: now,
            rtt_us: None,
            last_error: None,
            full_size: FullSize::Unknown,
            hears_us: None,
            arrives: false,
            corrupted: false,
            pulse: Pulse::Unknown,
        };
        let (misses, next, answered) = (u64::from(misses.max(1)), 1, 0);
        let (open, full) = (VecDeque::new(), Full::Idle { next: None });
        Self { state, misses, next, answered, open, full, heard: None, since_heard: 0 }
    }

    pub fn state(&self) -> &PeerState {
        &self.state
    }

    pub fn set_misses(&mut self, misses: u32) {
        self.misses = u64::from(misses.max(1));
    }

    /// What this host tells the peer about it.
    pub fn view(&self) -> Option<bool> {
        match self.state.verdict {
            Verdict::Unknown => None,
            Verdict::Answered => Some(true),
            Verdict::Unanswered => Some(false),
        }
    }

    /// Whether packets that nobody can read come by this peer's way; it matters while the peer is silent.
    pub fn set_corrupted(&mut self, corrupted: bool) {
        self.state.corrupted = corrupted && self.state.verdict == Verdict::Unanswered;
    }

    pub fn set_pulse(&mut self, pulse: Pulse) {
        self.state.pulse = pulse;
    }

    /// It is time for the next probe: judges the silence so far and returns the sequence to send.
    pub fn tick(&mut self, now: Instant, wall: Timestamp) -> u64 {
        if self.silence() >= self.misses {
            self.judge(Verdict::Unanswered, wall);
            let silent = format!("no answer to the last {} probes", self.misses);
            self.state.last_error.get_or_insert(silent);
            self.state.full_size = FullSize::Unknown;
            self.full = Full::Idle { next: None };
        }
        self.since_heard += 1;
        self.state.arrives &= self.since_heard <= self.misses;
        let sequence = self.take_sequence();
        self.open.push_back((sequence, now));
        let remembered = usize::try_from(self.misses).unwrap_or(usize::MAX).saturating_add(LATE_ANSWERS);
        while self.open.len() > remembered {
            self.open.pop_front();
        }
        sequence
    }

    /// Usual probes sent after the newest answered one.
    fn silence(&self) -> u64 {
        self.open.iter().filter(|(sequence, _)| *sequence > self.answered).count() as u64
    }

    fn take_sequence(&mut self) -> u64 {
        let sequence = self.next;
        self.next += 1;
        sequence
    }

    fn judge(&mut self, verdict: Verdict, wall: Timestamp) {
        if self.state.verdict != verdict {
            self.state.verdict = verdict;
            self.state.since = wall;
        }
    }

    /// An answer came, verified, from `sender`.
    pub fn answer(&mut self, sender: NodeId, sequence: u64, view: Option<bool>, now: Instant, wall: Timestamp) {
        if sender != self.state.node {
            self.state.last_error = Some(format!("{} answers as node {sender}", self.state.address));
            return;
        }
        if self.full_answer(sequence, now) {
            return;
        }
        let Some(at) = self.open.iter().position(|(open, _)| *open == sequence) else { return };
        let (_, sent) = self.open.remove(at).expect("the position was just found");
        self.answered = self.answered.max(sequence);
        self.state.rtt_us = Some(u32::try_from(now.duration_since(sent).as_micros()).unwrap_or(u32::MAX));
        if view.is_some() {
            self.state.hears_us = view;
        }
        if self.silence() < self.misses {
            self.judge(Verdict::Answered, wall);
            self.state.last_error = None;
        }
    }

    /// Sending or receiving failed; the text says how.
    pub fn error(&mut self, text: String) {
        if self.state.verdict != Verdict::Answered || self.silence() > 1 {
            self.state.last_error = Some(text);
        }
    }

    /// The peer itself asked, and said whether it hears us.
    pub fn asked(&mut self, boot: u64, sequence: u64, view: Option<bool>) {
        let is_new = self.heard.is_none_or(|(known, newest)| boot != known || sequence > newest);
        if is_new {
            self.heard = Some((boot, sequence));
            (self.since_heard, self.state.arrives) = (0, true);
            if view.is_some() {
                self.state.hears_us = view;
            }
        }
    }

    /// Whether a full-size probe shall be sent now. The caller finds out the size and calls
    /// [`Peer::full_sent`] or [`Peer::full_refused`].
    pub fn full_due(&mut self, now: Instant) -> bool {
        if self.state.verdict != Verdict::Answered {
            return false;
        }
        match &self.full {
            Full::Idle { next } => next.is_none_or(|next| now >= next),
            Full::Waiting { since, .. } if now.duration_since(*since) < FULL_SIZE_WAIT => false,
            Full::Waiting { attempt, bytes, .. } if *attempt >= FULL_SIZE_ATTEMPTS => {
                let reason = format!("small packets pass, {FULL_SIZE_ATTEMPTS} of {bytes} bytes did not come back");
                self.full_refused(*bytes, reason, now);
                false
            }
            Full::Waiting { .. } => true,
        }
    }

    /// A full-size probe of an IP packet of `bytes` goes out with the returned sequence.
    pub fn full_sent(&mut self, bytes: u32, now: Instant) -> u64 {
        let attempt = match self.full {
            Full::Waiting { attempt, .. } => attempt + 1,
            Full::Idle { .. } => 1,
        };
        let sequence = self.take_sequence();
        self.full = Full::Waiting { sequence, bytes, since: now, attempt };
        sequence
    }

    /// It failed for good, until the next time.
    pub fn full_refused(&mut self, bytes: u32, reason: String, now: Instant) {
        self.state.full_size = FullSize::Failed { bytes, reason };
        self.full = Full::Idle { next: Some(now + FULL_SIZE_EVERY) };
    }

    fn full_answer(&mut self, answered: u64, now: Instant) -> bool {
        match self.full {
            Full::Waiting { sequence, bytes, .. } if sequence == answered => {
                self.state.full_size = FullSize::Ok { bytes };
                self.full = Full::Idle { next: Some(now + FULL_SIZE_EVERY) };
                true
            }
            _ => false,
        }
    }
}

/// Whether a listener wants to hear of the change: a new round-trip time alone is no news.
pub fn is_news(old: &PeerState, new: &PeerState) -> bool {
    PeerState { rtt_us: None, ..old.clone() } != PeerState { rtt_us: None, ..new.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(200);

    struct Scene {
        peer: Peer,
        start: Instant,
        ticks: u32,
    }

    impl Scene {
        fn new() -> Self {
            let peer = ProbePeer { node: NodeId::from_random(2), address: [10, 0, 0, 2].into() };
            Self { peer: Peer::new(peer, ProbePath::Host, 4, Timestamp::EPOCH), start: Instant::now(), ticks: 0 }
        }

        fn now(&self) -> Instant {
            self.start + STEP * self.ticks
        }

        fn wall(&self) -> Timestamp {
            Timestamp::from_unix_ms(200 * u64::from(self.ticks))
        }

        /// One interval passes; the probe sent at its start is answered or not.
        fn tick(&mut self, is_answered: bool) -> Verdict {
            let sequence = self.peer.tick(self.now(), self.wall());
            if is_answered {
                self.answer(2, sequence);
            }
            self.ticks += 1;
            self.peer.state.verdict
        }

        fn answer(&mut self, node: u128, sequence: u64) {
            let (now, wall) = (self.now() + STEP / 10, self.wall());
            self.peer.answer(NodeId::from_random(node), sequence, Some(true), now, wall);
        }
    }

    #[test]
    fn four_misses_in_a_row_and_one_answer_turn_the_verdict() {
        let mut scene = Scene::new();
        assert_eq!(scene.tick(true), Verdict::Answered);
        assert_eq!(scene.peer.state.rtt_us, Some(20_000));
        let verdicts: Vec<Verdict> = (0..5).map(|_| scene.tick(false)).collect();
        assert_eq!(verdicts[..4], [Verdict::Answered; 4]);
        assert_eq!(verdicts[4], Verdict::Unanswered);
        assert_eq!(scene.peer.state.since, Timestamp::from_unix_ms(1000), "0.8 s after the first lost probe was sent");
        assert_eq!(scene.peer.state.last_error.as_deref(), Some("no answer to the last 4 probes"));
        assert_eq!(scene.tick(true), Verdict::Answered);
        assert_eq!(scene.peer.state.last_error, None);
    }

    #[test]
    fn a_new_peer_is_unknown_until_it_missed_enough() {
        let mut scene = Scene::new();
        let verdicts: Vec<Verdict> = (0..5).map(|_| scene.tick(false)).collect();
        assert_eq!(verdicts[..4], [Verdict::Unknown; 4]);
        assert_eq!(verdicts[4], Verdict::Unanswered);
    }

    #[test]
    fn single_losses_do_not_matter() {
        let mut scene = Scene::new();
        for n in 0..40 {
            assert_eq!(scene.tick(n % 4 == 0), Verdict::Answered, "tick {n}");
        }
    }

    #[test]
    fn another_host_at_the_address_does_not_count() {
        let mut scene = Scene::new();
        for _ in 0..5 {
            let sequence = scene.peer.tick(scene.now(), scene.wall());
            scene.answer(3, sequence);
        }
        assert_eq!(scene.peer.state.verdict, Verdict::Unanswered);
        let error = scene.peer.state.last_error.clone().expect("said");
        assert!(error.starts_with("10.0.0.2 answers as node 0000"), "{error}");
    }

    #[test]
    fn answers_that_always_come_too_late_do_not_flap() {
        let mut scene = Scene::new();
        let mut sent = VecDeque::new();
        for n in 0..30 {
            sent.push_back(scene.peer.tick(scene.now(), scene.wall()));
            if sent.len() > 7 {
                let late = sent.pop_front().expect("seven are open");
                scene.answer(2, late);
            }
            scene.ticks += 1;
            assert_ne!(scene.peer.state.verdict, Verdict::Answered, "tick {n}");
        }
    }

    #[test]
    fn full_size_fails_after_three_and_recovers_seconds_later() {
        let mut scene = Scene::new();
        let mut attempts = 0;
        for _ in 0..30 {
            scene.tick(true);
            if scene.peer.full_due(scene.now()) {
                scene.peer.full_sent(1500, scene.now());
                attempts += 1;
            }
        }
        assert_eq!(attempts, 3);
        assert!(
            matches!(&scene.peer.state.full_size, FullSize::Failed { bytes: 1500, reason } if reason.contains("3 of 1500 bytes"))
        );
        scene.ticks += 60;
        scene.tick(true);
        assert!(scene.peer.full_due(scene.now()));
        let sequence = scene.peer.full_sent(1500, scene.now());
        scene.answer(2, sequence);
        assert_eq!(scene.peer.state.full_size, FullSize::Ok { bytes: 1500 });
    }

    #[test]
    fn what_the_peer_says_counts_once_and_not_when_replayed() {
        let mut scene = Scene::new();
        scene.peer.asked(7, 10, Some(true));
        assert_eq!(scene.peer.state.hears_us, Some(true));
        scene.peer.asked(7, 9, Some(false));
        assert_eq!(scene.peer.state.hears_us, Some(true));
        scene.peer.asked(7, 11, Some(false));
        assert_eq!(scene.peer.state.hears_us, Some(false));
    }

    /// P03: which of the two directions is broken.
    #[test]
    fn whether_the_peers_own_probes_come_is_known() {
        let mut scene = Scene::new();
        assert!(!scene.peer.state.arrives);
        scene.peer.asked(7, 1, None);
        for _ in 0..4 {
            scene.tick(false);
            assert!(scene.peer.state.arrives);
        }
        scene.tick(false);
        assert!(!scene.peer.state.arrives);
    }

    #[test]
    fn a_round_trip_time_is_no_news() {
        let mut scene = Scene::new();
        scene.tick(true);
        let old = scene.peer.state().clone();
        let slower = PeerState { rtt_us: Some(1), ..old.clone() };
        assert!(!is_news(&old, &slower));
        assert!(is_news(&old, &PeerState { hears_us: Some(false), ..slower }));
    }
}
