//! How long the data plane of this host takes for what it is asked, lately. Whoever waits for the other hosts' to have done
//! something has no better measure: a host that is slow is seldom slow alone.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Older than this is not lately.
const LATELY: Duration = Duration::from_secs(30);

/// Of the last while, the longest time that one application of a plan took, also of one that is not over yet.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    slowest: Option<(Duration, Instant)>,
}

impl Pace {
    pub(super) fn begins(&self, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).began = Some(now);
    }

    pub(super) fn ends(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(began) = state.began.take() else { return };
        let took = now.saturating_duration_since(began);
        let is_record = |(slowest, at): (Duration, Instant)| took >= slowest || is_old(at, now);
        if state.slowest.is_none_or(is_record) {
            state.slowest = Some((took, now));
        }
    }

    pub(super) fn slowest(&self, now: Instant) -> Duration {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let present = state.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let past = state.slowest.filter(|(_, at)| !is_old(*at, now)).map_or(Duration::ZERO, |(took, _)| took);
        present.max(past)
    }
}

fn is_old(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) > LATELY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p05_the_slowest_of_late_counts_and_what_is_not_over() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        assert_eq!(pace.slowest(at(0)), seconds(0));
        pace.begins(at(0));
        assert_eq!(pace.slowest(at(3)), seconds(3), "it is not over");
        pace.ends(at(4));
        pace.begins(at(10));
        pace.ends(at(11));
        assert_eq!(pace.slowest(at(12)), seconds(4));
        assert_eq!(pace.slowest(at(40)), seconds(0), "long ago");
        pace.begins(at(50));
        pace.ends(at(51));
        assert_eq!(pace.slowest(at(52)), seconds(1));
    }
}
