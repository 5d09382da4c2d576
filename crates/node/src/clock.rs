//! The host's clock and a little randomness, for loops only; whatever decides gets them as values.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use types::Timestamp;

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ns(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A random number, good enough to spread nodes over time and managers; not a secret.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Doubling pauses with jitter, so that nodes that lost the same manager do not return together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The pause to make now: half of it fixed, half by `random`.
    pub(crate) fn pause(&mut self, random: u64) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.most);
        let half = whole / 2;
        half + half.mul_f64((random % 1000) as f64 / 1000.0)
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The pause after `attempts` failures in a row: `first`, doubled each time, at most `most`.
pub(crate) fn pause_after(attempts: u32, first: Duration, most: Duration) -> Duration {
    first.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50), ms(2000));
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause(0).as_millis()).collect();
        assert_eq!(pauses, [25, 50, 100, 200, 400, 800, 1000, 1000]);
        assert!(backoff.pause(999) < ms(2000));
        backoff.reset();
        assert_eq!(backoff.pause(500), ms(25) + ms(25) / 2);
        assert_eq!((pause_after(1, ms(10), ms(60)), pause_after(9, ms(10), ms(60))), (ms(10), ms(60)));
    }
}
