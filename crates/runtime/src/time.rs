//! Wall-clock time as nanoseconds since 1970 and as RFC 3339 text. Used by the shim for every log
//! line, so formatting touches no heap and repeats only what changed. Never used for intervals.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970-01-01T00:00:00Z; 0 if the clock stands before that.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Length of `2006-01-02T15:04:05.123456789Z`.
const LEN: usize = 30;

/// Formats timestamps; remembers the text of the last second, because log lines come in crowds.
pub(crate) struct Rfc3339 {
    second: u64,
    text: [u8; LEN],
}

impl Rfc3339 {
    pub(crate) fn new() -> Self {
        let mut new = Self { second: 0, text: *b"1970-01-01T00:00:00.000000000Z" };
        new.set_second(0);
        new
    }

    /// The text of `ns`, valid until the next call.
    pub(crate) fn format(&mut self, ns: u64) -> &[u8] {
        let second = ns / 1_000_000_000;
        if second != self.second {
            self.set_second(second);
        }
        put(&mut self.text[20..29], ns % 1_000_000_000);
        &self.text
    }

    fn set_second(&mut self, second: u64) {
        self.second = second;
        let (year, month, day) = civil(second / 86_400);
        let of_day = second % 86_400;
        put(&mut self.text[0..4], year);
        put(&mut self.text[5..7], month);
        put(&mut self.text[8..10], day);
        put(&mut self.text[11..13], of_day / 3600);
        put(&mut self.text[14..16], of_day / 60 % 60);
        put(&mut self.text[17..19], of_day % 60);
    }
}

/// Writes `value` right-aligned with leading zeros.
fn put(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).expect("a decimal digit fits in a byte");
        value /= 10;
    }
}

/// Year, month and day of a day number since 1970-01-01, in the Gregorian calendar. Counts in
/// years that begin in March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// The time an RFC 3339 text stands for; `None` if it is not one or lies before 1970.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let ns = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    u64::try_from(ns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_an_independent_calendar() {
        let mut formatter = Rfc3339::new();
        // 97 days and some nanoseconds apart, over 130 years: leap years, centuries, month ends.
        for step in 0..500_u64 {
            let ns = step * (97 * 86_400_000_000_000 + 3_723_000_000_777);
            let text = String::from_utf8(formatter.format(ns).to_vec()).unwrap();
            assert_eq!(parse(&text), Some(ns), "{text}");
        }
    }
}
