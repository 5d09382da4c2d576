//! Sizes, durations and times in docker's words, and back from what people type.

use std::time::Duration;

pub(crate) use types::parse_duration;

/// `5 seconds`, `About a minute`, `3 weeks`: docker's way to say how long.
pub(crate) fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (duration.as_secs_f64() / 3600.0).round() as u64;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (s, ..) if s < 60 => format!("{s} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, m, _) if m < 60 => format!("{m} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, h) if h < 48 => format!("{h} hours"),
        (_, _, h) if h < 24 * 7 * 2 => format!("{} days", h / 24),
        (_, _, h) if h < 24 * 30 * 2 => format!("{} weeks", h / 24 / 7),
        (_, _, h) if h < 24 * 365 * 2 => format!("{} months", h / 24 / 30),
        (_, _, h) => format!("{} years", h / 24 / 365),
    }
}

/// How long ago an RFC 3339 time was; empty if it is none.
pub(crate) fn age(time: &str, now: jiff::Timestamp) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else { return String::new() };
    let passed = Duration::from_nanos(u64::try_from(now.as_nanosecond() - then.as_nanosecond()).unwrap_or(0));
    human_duration(passed).to_lowercase() + " ago"
}

/// `2026-01-02 13:23:37 +0100 CET`, as Go prints a time of this host.
pub(crate) fn local_time(seconds: i64) -> String {
    let zone = jiff::tz::TimeZone::system();
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| String::new(), |time| time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string())
}

/// `2026-01-02 13:23:37.5 +0000 UTC` of an RFC 3339 time, as Go prints one that it was sent.
pub(crate) fn go_time(time: &str) -> String {
    let written = |time: jiff::Timestamp| time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string();
    time.parse::<jiff::Timestamp>().map_or_else(|_| time.to_owned(), written)
}

/// `77.8MB`: three significant digits, steps of 1000.
pub(crate) fn decimal_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `1.952GiB`: four significant digits, steps of 1024.
pub(crate) fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn scaled(bytes: u64, step: f64, digits: usize, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let whole_digits = (value.max(1.0).log10().floor() as usize) + 1;
    let text = format!("{value:.*}", digits.saturating_sub(whole_digits));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[unit])
}

/// `1h30m0s` of nanoseconds, as Go prints durations.
pub(crate) fn go_duration(ns: u64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    if ns < 1_000_000_000 {
        let (value, unit) = match ns {
            ns if ns < 1_000 => (ns as f64, "ns"),
            ns if ns < 1_000_000 => (ns as f64 / 1e3, "µs"),
            ns => (ns as f64 / 1e6, "ms"),
        };
        return format!("{value}{unit}");
    }
    let (hours, minutes) = (ns / 3_600_000_000_000, ns / 60_000_000_000 % 60);
    let seconds = (ns % 60_000_000_000) as f64 / 1e9;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

/// As [`types::Bytes`] are written.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    text.parse::<types::Bytes>().map(|bytes| bytes.0).map_err(|why| why.to_string())
}

/// Billionths of a CPU: `0.5`, `2`.
pub(crate) fn parse_cpus(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a number of CPUs; write for example 0.5 or 2");
    let cpus: f64 = text.parse().map_err(|_| bad())?;
    if (0.0..=1e6).contains(&cpus) { Ok((cpus * 1e9).round() as u64) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        let words = |s: u64| human_duration(Duration::from_secs(s));
        let cases = [(0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (61, "About a minute")];
        let more = [(600, "10 minutes"), (3700, "About an hour"), (7200, "2 hours"), (90 * 3600, "3 days")];
        for (seconds, text) in cases.into_iter().chain(more) {
            assert_eq!(words(seconds), text);
        }
    }

    #[test]
    fn n_22_times_as_go_prints_them() {
        assert_eq!(go_time("2026-01-02T13:23:37.5Z"), "2026-01-02 13:23:37.5 +0000 UTC");
        assert_eq!(go_time("2026-01-02T14:23:37+01:00"), "2026-01-02 13:23:37 +0000 UTC");
        assert_eq!(go_time("never"), "never");
    }

    #[test]
    fn sizes() {
        assert_eq!(decimal_size(77_800_123), "77.8MB");
        assert_eq!(decimal_size(0), "0B");
        assert_eq!(decimal_size(4_190_000), "4.19MB");
        assert_eq!(binary_size(2_095_944_040), "1.952GiB");
        assert_eq!(parse_bytes("1.5g"), Ok(1_610_612_736));
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert!(parse_bytes("much").is_err());
        assert_eq!(parse_cpus("0.5"), Ok(500_000_000));
        assert!(parse_cpus("-1").is_err());
    }

    #[test]
    fn go_durations_round_trip() {
        for text in ["1h30m0s", "10s", "300ms", "1m30s", "1.5s"] {
            let ns = parse_duration(text).expect(text).as_nanos() as u64;
            assert_eq!(go_duration(ns), text);
        }
        assert!(parse_duration("10").is_err());
        assert!(parse_duration("").is_err());
        assert!(parse_duration("5 minutes").is_err());
    }
}
