//! Times as Docker writes and reads them.

use std::time::Duration;

use types::Timestamp;

/// RFC 3339 with nanoseconds, trailing zeros cut, as Go's `time.RFC3339Nano` gives it.
/// `EPOCH` is Go's zero time, year 1, which clients show as "never".
pub(crate) fn rfc3339(time: Timestamp) -> String {
    if time == Timestamp::EPOCH {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    let (seconds, fraction) = (time.as_unix_ns() / NS, time.as_unix_ns() % NS);
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = String::with_capacity("2006-01-02T15:04:05.000000000Z".len());
    digits(&mut text, year, 4);
    for (mark, number) in [('-', month), ('-', day), ('T', hour), (':', minute), (':', second)] {
        text.push(mark);
        digits(&mut text, number, 2);
    }
    if fraction != 0 {
        text.push('.');
        digits(&mut text, fraction, 9);
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('Z');
    text
}

const NS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// By hand, because lists of tasks have tens of thousands of times: a generic formatter takes ten times as long.
fn digits(to: &mut String, mut number: u64, count: usize) {
    let mut text = [b'0'; 9];
    for digit in text[..count].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    to.extend(text[..count].iter().map(|digit| char::from(*digit)));
}

/// The Gregorian date so many days after 1970-01-01, in years that begin in March, so that leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    /// From 0000-03-01 to 1970-01-01.
    const BEFORE: u64 = 719_468;
    const FOUR_CENTURIES: u64 = 146_097;
    let days = days + BEFORE;
    let (era, day) = (days / FOUR_CENTURIES, days % FOUR_CENTURIES);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
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

/// The same, or how long ago: `10m`, `1h30m`, as in `--filter until=24h`.
pub(crate) fn parse_or_ago(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    match ago(text) {
        Some(duration) => Ok(Timestamp::from_unix_ns(now.as_unix_ns().saturating_sub(nanos(duration)))),
        None => parse(text),
    }
}

/// Go's durations: numbers, each with its unit.
fn ago(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (0.0_f64, text);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..unit_at].parse().ok()?;
        let tail = &rest[unit_at..];
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let seconds = match &tail[..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * seconds;
        rest = &tail[unit_end..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(total).ok() }
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
    fn every_time_is_as_a_calendar_has_it() {
        let check = |ns: u64| {
            let wanted = jiff::Timestamp::from_nanosecond(i128::from(ns)).expect("in range").to_string();
            assert_eq!(rfc3339(Timestamp::from_unix_ns(ns)), wanted, "{ns}");
        };
        // the ends of days around all leap days and turns of years, then anything
        for day in (0..213_503_u64).step_by(29) {
            [day * DAY * NS + 1, (day + 1) * DAY * NS - 1].into_iter().for_each(check);
        }
        for year in 1970..2554_i16 {
            for (month, day) in [(1, 1), (2, 28), (3, 1), (12, 31)] {
                let at = jiff::civil::date(year, month, day).to_zoned(jiff::tz::TimeZone::UTC).expect("a date");
                let ns = u64::try_from(at.timestamp().as_nanosecond()).expect("after 1970");
                [ns.max(1), ns + DAY * NS, ns + 123_456_789, ns + 120_000_000].into_iter().for_each(check);
            }
        }
        let mut ns = 1_u64;
        for _ in 0..10_000 {
            ns = ns.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            check(ns.max(1));
        }
    }

    #[test]
    fn queries_may_use_seconds_or_dates() {
        assert_eq!(parse("1700000000.5").expect("seconds").as_unix_ns(), 1_700_000_000_500_000_000);
        assert_eq!(parse("2023-11-14T22:13:20Z").expect("date"), Timestamp::from_unix_ms(1_700_000_000_000));
        assert_eq!(parse("2023-11-14T23:13:20+01:00").expect("zone"), Timestamp::from_unix_ms(1_700_000_000_000));
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
