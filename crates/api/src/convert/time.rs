//! Times as Docker writes and reads them.

use std::time::Duration;

use types::Timestamp;

/// RFC 3339 with nanoseconds, trailing zeros cut, as Go's `time.RFC3339Nano` gives it.
/// `EPOCH` is Go's zero time, year 1, which clients show as "never".
pub(crate) fn rfc3339(time: Timestamp) -> String {
    if time == Timestamp::EPOCH {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    let ns = i128::from(time.as_unix_ns());
    jiff::Timestamp::from_nanosecond(ns).map_or_else(|_| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}

/// A time in a query: RFC 3339, or seconds since 1970 with an optional fraction.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    if let Some(time) = parse_seconds(text) {
        return Ok(time);
    }
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is not a time: write seconds since 1970 or 2006-01-02T15:04:05Z"))?;
    let ns = u64::try_from(time.as_nanosecond()).map_err(|_| format!("{text:?} is before 1970 or after 2554"))?;
    Ok(Timestamp::from_unix_ns(ns))
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
        assert!(parse("yesterday").expect_err("word").contains("not a time"));
    }
}
