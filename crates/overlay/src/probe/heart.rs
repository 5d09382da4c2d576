//! Whether the kernel of a peer still answers by the data path, from what it was asked and when it answered. Pure.
//!
//! Echoes (RFC 792) are answered by the peer's kernel, in a namespace where no rule of anybody stands: neither its
//! load nor a process of ours that is stopped delays them. So their silence may be believed sooner than that of probes.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use types::NodeId;

use super::Pulse;

/// Between two echoes of one peer, with few peers.
const INTERVAL: Duration = Duration::from_millis(200);
/// With many peers it is as much longer as keeps this host at 200 echoes a second.
const INTERVAL_PER_PEER: Duration = Duration::from_millis(5);
/// Once one is overdue.
const IN_A_HURRY: Duration = Duration::from_millis(50);
/// Until so many are open: by then it is known who is gone.
const MOST_IN_A_HURRY: usize = 16;
/// Overdue is what was not answered in this time and twice the usual one.
const OVERDUE: Duration = Duration::from_millis(150);
/// So long no answer, and so many echoes without one: then it is gone. A switch that loses packets for half a second,
/// or a virtual machine that moves, is not.
const GONE_AFTER: Duration = Duration::from_millis(600);
const GONE_MISSES: usize = 8;
/// So many answers in a row, and it is back.
const BACK_ANSWERS: u32 = 3;
/// Echoes remembered; later answers say nothing.
const REMEMBERED: usize = 32;

/// The peers of one way.
#[derive(Debug, Default)]
pub struct Hearts {
    hearts: BTreeMap<NodeId, Heart>,
}

#[derive(Debug)]
struct Heart {
    /// Number of the next echo.
    next: u64,
    due: Instant,
    /// Not answered, and none after them: number and time sent.
    open: VecDeque<(u64, Instant)>,
    /// When the newest echo that was answered was sent, and how long that took.
    answered: Option<(Instant, Duration)>,
    is_gone: bool,
    /// Since it is gone.
    answers: u32,
}

impl Hearts {
    /// Peers that stay keep what is known of them.
    pub fn set(&mut self, peers: impl Iterator<Item = NodeId>, now: Instant) {
        let mut before = std::mem::take(&mut self.hearts);
        let fresh = || Heart { next: 0, due: now, open: VecDeque::new(), answered: None, is_gone: false, answers: 0 };
        self.hearts = peers.map(|node| (node, before.remove(&node).unwrap_or_else(fresh))).collect();
    }

    /// When the next echo is due.
    pub fn due(&self) -> Option<Instant> {
        self.hearts.values().map(|heart| heart.due).min()
    }

    /// Whom to send an echo now, and its number. What came until now was told before: a process that was late itself
    /// blames nobody for it.
    pub fn beat(&mut self, now: Instant) -> Vec<(NodeId, u64)> {
        let usual = INTERVAL.max(INTERVAL_PER_PEER * u32::try_from(self.hearts.len()).unwrap_or(u32::MAX));
        let others: Vec<(NodeId, Instant)> =
            self.hearts.iter().filter_map(|(node, heart)| Some((*node, heart.answered?.0))).collect();
        let mut asked = Vec::new();
        for (node, heart) in self.hearts.iter_mut().filter(|(_, heart)| heart.due <= now) {
            // Who hears nobody any more is cut off himself, and says nothing about the others.
            let is_alone = others.iter().all(|(other, _)| other == node);
            let hears_others =
                |since: Instant| others.iter().any(|(other, heard)| other != node && *heard > since + OVERDUE);
            if heart.is_silent(now) && (is_alone || heart.open.front().is_some_and(|(_, sent)| hears_others(*sent))) {
                heart.is_gone = true;
                heart.answers = 0;
            }
            let hurries = heart.is_overdue(now) && heart.open.len() <= MOST_IN_A_HURRY;
            heart.due = now + if hurries && !heart.is_gone { IN_A_HURRY } else { usual };
            asked.push((*node, heart.next));
            heart.next += 1;
        }
        asked
    }

    /// It left. What could not leave is no question.
    pub fn sent(&mut self, node: NodeId, number: u64, now: Instant) {
        let Some(heart) = self.hearts.get_mut(&node) else { return };
        heart.open.push_back((number, now));
        if heart.open.len() > REMEMBERED {
            heart.open.pop_front();
        }
    }

    pub fn answer(&mut self, node: NodeId, number: u64, now: Instant) {
        let Some(heart) = self.hearts.get_mut(&node) else { return };
        let Some(at) = heart.open.iter().position(|(open, _)| *open == number) else { return };
        let (_, sent) = heart.open.drain(..=at).next_back().expect("its position was just found");
        heart.answered = Some((sent, now.saturating_duration_since(sent)));
        heart.answers += 1;
        heart.is_gone &= heart.answers < BACK_ANSWERS;
    }

    pub fn pulse(&self, node: NodeId) -> Pulse {
        match self.hearts.get(&node) {
            Some(heart) if heart.is_gone => Pulse::Gone,
            Some(heart) if heart.answered.is_some() => Pulse::Beats,
            _ => Pulse::Unknown,
        }
    }
}

impl Heart {
    /// Whether it has answered before, and does so no more.
    fn is_silent(&self, now: Instant) -> bool {
        let is_long = self.open.front().is_some_and(|(_, sent)| now.saturating_duration_since(*sent) >= GONE_AFTER);
        self.answered.is_some() && is_long && self.open.len() >= GONE_MISSES
    }

    fn is_overdue(&self, now: Instant) -> bool {
        let Some((_, usual)) = self.answered else { return false };
        self.open.front().is_some_and(|(_, sent)| now.saturating_duration_since(*sent) >= OVERDUE + 2 * usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALIVE: u128 = 9;

    struct Scene {
        hearts: Hearts,
        start: Instant,
        now: Duration,
    }

    impl Scene {
        fn new(peers: &[u128]) -> Self {
            let (mut hearts, start) = (Hearts::default(), Instant::now());
            hearts.set(peers.iter().map(|n| NodeId::from_random(*n)), start);
            Self { hearts, start, now: Duration::ZERO }
        }

        /// Goes on for so many milliseconds; `answers` says who answers what is sent after so many.
        fn go_on(&mut self, ms: u64, answers: impl Fn(u128, u64) -> bool) {
            let end = self.now + Duration::from_millis(ms);
            while self.now < end {
                let now = self.start + self.now;
                for (node, number) in self.hearts.beat(now) {
                    self.hearts.sent(node, number, now);
                    let ms = u64::try_from(self.now.as_millis()).expect("a short scene");
                    if answers(node.as_u128(), ms) {
                        self.hearts.answer(node, number, now + Duration::from_millis(1));
                    }
                }
                self.now += Duration::from_millis(1);
            }
        }

        fn pulse(&self, n: u128) -> Pulse {
            self.hearts.pulse(NodeId::from_random(n))
        }
    }

    /// P05: within 0.8 s, whenever in an interval it dies; three answers bring it back.
    #[test]
    fn p05_who_is_gone_is_known_within_a_second() {
        for died in 1000..1200 {
            let mut scene = Scene::new(&[1, ALIVE]);
            scene.go_on(died, |_, _| true);
            assert_eq!(scene.pulse(1), Pulse::Beats);
            scene.go_on(599, |node, _| node == ALIVE);
            assert_eq!(scene.pulse(1), Pulse::Beats, "died at {died}");
            scene.go_on(202, |node, _| node == ALIVE);
            assert_eq!(scene.pulse(1), Pulse::Gone, "died at {died}");
            scene.go_on(400, |_, _| true);
            assert_eq!(scene.pulse(1), Pulse::Gone);
            scene.go_on(400, |_, _| true);
            assert_eq!(scene.pulse(1), Pulse::Beats);
        }
    }

    #[test]
    fn losses_and_half_a_second_of_silence_do_not_matter() {
        let mut scene = Scene::new(&[1, ALIVE]);
        for _ in 0..20 {
            scene.go_on(2000, |node, ms| node == ALIVE || ms / 50 % 6 == 0);
            scene.go_on(300, |_, _| true);
            scene.go_on(550, |node, _| node == ALIVE);
            assert_eq!(scene.pulse(1), Pulse::Beats);
            scene.go_on(300, |_, _| true);
        }
    }

    #[test]
    fn who_hears_nobody_blames_nobody_and_who_never_answered_is_unknown() {
        let mut scene = Scene::new(&[1, 2, ALIVE]);
        scene.go_on(1000, |node, _| node != 2);
        scene.go_on(60_000, |_, _| false);
        assert_eq!([1, 2, ALIVE].map(|n| scene.pulse(n)), [Pulse::Beats, Pulse::Unknown, Pulse::Beats]);
        // Only one is back: the other one is missing.
        scene.go_on(1000, |node, _| node == ALIVE);
        assert_eq!([1, 2, ALIVE].map(|n| scene.pulse(n)), [Pulse::Gone, Pulse::Unknown, Pulse::Beats]);
        let mut pair = Scene::new(&[1]);
        pair.go_on(1000, |_, _| true);
        pair.go_on(801, |_, _| false);
        assert_eq!(pair.pulse(1), Pulse::Gone, "there is nobody else to hear");
    }

    /// What a stopped process reads late says nothing about the others.
    #[test]
    fn an_own_pause_is_nobodys_silence() {
        let mut scene = Scene::new(&[1, ALIVE]);
        scene.go_on(1000, |_, _| true);
        for _ in 0..20 {
            let now = scene.start + scene.now;
            let asked = scene.hearts.beat(now);
            assert_eq!((asked.len(), scene.pulse(1), scene.pulse(ALIVE)), (2, Pulse::Beats, Pulse::Beats));
            asked.iter().for_each(|(node, number)| scene.hearts.sent(*node, *number, now));
            scene.now += Duration::from_secs(5);
            asked.iter().for_each(|(node, number)| scene.hearts.answer(*node, *number, scene.start + scene.now));
        }
    }

    #[test]
    fn a_slow_path_is_not_asked_in_a_hurry_and_many_peers_are_asked_less_often() {
        let mut scene = Scene::new(&[1]);
        let node = NodeId::from_random(1);
        let (mut asked, mut late) = (0, VecDeque::new());
        for ms in 0..10_000 {
            let now = scene.start + Duration::from_millis(ms);
            if late.front().is_some_and(|(_, at)| *at <= ms) {
                let (number, _) = late.pop_front().expect("one is there");
                scene.hearts.answer(node, number, now);
            }
            for (_, number) in scene.hearts.beat(now) {
                scene.hearts.sent(node, number, now);
                late.push_back((number, ms + 500));
                asked += 1;
            }
        }
        assert_eq!((scene.pulse(1), asked), (Pulse::Beats, 50));
        let many: Vec<u128> = (1..=100).collect();
        let mut scene = Scene::new(&many);
        scene.go_on(500, |_, _| true);
        assert_eq!(scene.hearts.beat(scene.start + Duration::from_millis(500)).len(), 100);
        assert_eq!(scene.hearts.beat(scene.start + Duration::from_millis(999)).len(), 0);
    }
}
