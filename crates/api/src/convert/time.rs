//! Times as Docker writes and reads them.

use std::time::Duration;

use types::{Timestamp, parse_duration};

/// RFC 3339 with nanoseconds, trailing zeros cut, as Go's `time.RFC3339Nano` gives it.
/// `EPOCH` is Go's zero time, year 1, which clients show as "never".
pub(crate) fn rfc3339(time: Timestamp) -> String {
    if time == Timestamp::EPOCH {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    let (seconds, ns) = (time.as_unix_ns() / 1_000_000_000, time.as_unix_ns() % 1_000_000_000);
    jiff::Timestamp::new(seconds.cast_signed(), i32::try_from(ns).unwrap_or(0))
        .map_or_else(|_| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}

/// A time in a query: RFC 3339, or seconds since 1970 with an optional fraction.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    if let Some(time) = parse_seconds(text) {
        return Ok(time);
    }
    let time: jiff::Timestamp = text
        .parse()
        .ok()
        .or_else(|| of_here(text))
        .ok_or_else(|| format!("{text:?} is not a time: write seconds since 1970 or 2006-01-02T15:04:05Z"))?;
    let ns = u64::try_from(time.as_nanosecond()).map_err(|_| format!("{text:?} is before 1970 or after 2554"))?;
    Ok(Timestamp::from_unix_ns(ns))
}

/// A day, or a day and a time, of this host's clock, as Docker takes it.
fn of_here(text: &str) -> Option<jiff::Timestamp> {
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp())
}

/// The same, or how long ago: `10m`, `1h30m`, as in `--filter until=24h`.
pub(crate) fn parse_or_ago(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    match parse_duration(text) {
        // without a unit it is a moment
        Ok(duration) if text != "0" => Ok(Timestamp::from_unix_ns(now.as_unix_ns().saturating_sub(nanos(duration)))),
        _ => parse(text),
    }
}

/// This moment.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_ns(u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0))
}

fn parse_seconds(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ns: u64 = format!("{fraction:0<9}").parse().ok()?;
    let seconds: u64 = seconds.parse().ok()?;
    Some(Timestamp::from_unix_ns(seconds.checked_mul(1_000_000_000)?.checked_add(ns)?))
}

/// Nanoseconds, the way Docker's JSON has durations.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_look_like_gos() {
        assert_eq!(rfc3339(Timestamp::from_unix_ms(1_700_000_000_120)), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339(Timestamp::from_unix_ms(1_700_000_000_000)), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(Timestamp::EPOCH), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn queries_may_use_seconds_or_dates() {
        assert_eq!(parse("1700000000.5").expect("seconds").as_unix_ns(), 1_700_000_000_500_000_000);
        assert_eq!(parse("2023-11-14T22:13:20Z").expect("date"), Timestamp::from_unix_ms(1_700_000_000_000));
        assert_eq!(parse("2023-11-14T23:13:20+01:00").expect("zone"), Timestamp::from_unix_ms(1_700_000_000_000));
        assert!(parse("2023-11-14").expect("a day") < parse("2023-11-14T13:00").expect("a day and a time"));
        let now = Timestamp::from_unix_ms(7_200_000);
        for (text, ms) in [("1h", 3_600_000), ("1h30m", 1_800_000), ("500ms", 7_199_500), ("3h", 0), ("5", 5_000)] {
            assert_eq!(parse_or_ago(text, now), Ok(Timestamp::from_unix_ms(ms)), "{text}");
        }
        for bad in ["", "h", "1d", "-1h", "1h2"] {
            assert!(parse_or_ago(bad, now).is_err(), "{bad}");
        }
        assert!(parse("yesterday").expect_err("word").contains("not a time"));
    }
}
