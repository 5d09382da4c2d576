//! Numbers that labels hold and constraints compare: exact, with up to nine decimals.

use std::{fmt, str::FromStr};

/// In billionths, so that comparing needs no rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(i128);

const SCALE: i128 = 1_000_000_000;
const DECIMALS: usize = 9;
/// Digits before the point: far more than anybody counts, few enough to fit.
const MAX_DIGITS: usize = 25;

impl FromStr for Number {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
        let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(whole) || !plain(part) || whole.len() > MAX_DIGITS || part.len() > DECIMALS {
            return Err(());
        }
        let whole: i128 = whole.parse().map_err(|_| ())?;
        let part: i128 = format!("{part:0<DECIMALS$}").parse().map_err(|_| ())?;
        let amount = whole * SCALE + part;
        Ok(Self(if negative { -amount } else { amount }))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0.abs() / SCALE, self.0.abs() % SCALE);
        let sign = if self.0 < 0 { "-" } else { "" };
        let decimals = format!("{part:0DECIMALS$}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            decimals => write!(f, "{sign}{whole}.{decimals}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_as_numbers_and_print_as_they_are_read() {
        let number = |text: &str| text.parse::<Number>().expect(text);
        assert!(number("9") < number("10") && number("-2") < number("-1.5") && number("0.1") > number("0.09"));
        assert_eq!((number("1.0"), number(" 007 ")), (number("1"), number("7")));
        for text in ["0", "-3", "2.5", "0.000000001", "1234567890123"] {
            assert_eq!(number(text).to_string(), text);
        }
        for text in ["", "-", "1.", ".5", "1e3", "8GB", "1,5", "+1", "0x10", "1.0000000001"] {
            assert!(text.parse::<Number>().is_err(), "{text}");
        }
    }
}
