//! The signals that a container can be sent, as people write them: those with names, and the real-time ones, which some
//! images are stopped with.
//!
//! Read by admission, which refuses what is none, and by the runtime, which sends them.

use std::str::FromStr;

/// The names of 1, 2, 3 and so on (signal(7), without its synonyms).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// As glibc gives them to programs; the two before are its own.
const FIRST_REAL_TIME: i32 = 34;
const LAST: i32 = 64;

/// A signal, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    pub const SIGHUP: Self = Self(1);
    pub const SIGQUIT: Self = Self(3);
    pub const SIGKILL: Self = Self(9);
    pub const SIGTERM: Self = Self(15);

    /// The signal of this number, if there is one.
    pub fn numbered(number: i32) -> Option<Self> {
        (1..=LAST).contains(&number).then_some(Self(number))
    }

    pub fn number(self) -> i32 {
        self.0
    }
}

/// A text that is no signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no signal; write SIGTERM, TERM, 15 or RTMIN+3")]
pub struct NoSignal;

impl FromStr for Signal {
    type Err = NoSignal;

    fn from_str(text: &str) -> Result<Self, NoSignal> {
        if let Ok(number) = text.parse::<i32>() {
            return Self::numbered(number).ok_or(NoSignal);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(number) = real_time(name) {
            return Ok(Self(number));
        }
        (1..).zip(NAMES).find(|(_, known)| *known == name).map(|(number, _)| Self(number)).ok_or(NoSignal)
    }
}

/// `RTMIN`, `RTMIN+15`, `RTMAX-1`.
fn real_time(name: &str) -> Option<i32> {
    let distance = |text: &str, sign: char| match text {
        "" => Some(0),
        text => text.strip_prefix(sign)?.parse::<i32>().ok(),
    };
    let number = match name.strip_prefix("RTMIN") {
        Some(rest) => FIRST_REAL_TIME.checked_add(distance(rest, '+')?)?,
        None => LAST.checked_sub(distance(name.strip_prefix("RTMAX")?, '-')?)?,
    };
    (FIRST_REAL_TIME..=LAST).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_25_signals_have_several_spellings() {
        let number = |text: &str| text.parse::<Signal>().ok().map(Signal::number);
        for (text, wanted) in [
            ("SIGQUIT", Some(3)),
            ("quit", Some(3)),
            ("3", Some(3)),
            ("HUP", Some(1)),
            ("usr1", Some(10)),
            ("SIGSYS", Some(31)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("rtmax-1", Some(63)),
            ("64", Some(64)),
            ("RTMIN+99", None),
            ("RTMIN-1", None),
            ("RTMIN3", None),
            ("SIGNOPE", None),
            ("0", None),
            ("65", None),
            ("", None),
        ] {
            assert_eq!(number(text), wanted, "{text}");
        }
    }
}
