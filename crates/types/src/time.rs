//! Points in time as plain numbers. The clock itself is read only in loops and in the daemon.

use std::{ops::Add, time::Duration};

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z. Good until the year 2554.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    pub const fn from_unix_ns(ns: u64) -> Self {
        Self(ns)
    }

    pub const fn from_unix_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    pub const fn as_unix_ns(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if `earlier` is later (clocks of two hosts may differ).
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ns))
    }
}

/// Go's notation: `1h30m`, `1.5s`, `300ms`; a bare number is refused, as Go does, except `0`.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration; write for example 300ms, 10s or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..unit_at].parse().map_err(|_| bad())?;
        let unit_rest = &rest[unit_at..];
        let unit_end = unit_rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit_rest.len());
        let ns = match &unit_rest[..unit_end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(bad()),
        };
        total += number * ns;
        rest = &unit_rest[unit_end..];
    }
    if text.is_empty() || !total.is_finite() || total > i64::MAX as f64 {
        return Err(bad());
    }
    Ok(Duration::from_nanos(total.round() as u64))
}
