//! Signals as people write them.

use runtime::Signal;

/// `SIGTERM`, `TERM`, `15`; empty is SIGTERM.
pub(crate) fn parse_signal(text: &str) -> Result<Signal, String> {
    if text.is_empty() {
        return Ok(Signal::SIGTERM);
    }
    let unknown = || format!("{text:?} is not a signal; write SIGTERM, TERM or 15");
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| unknown());
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse().map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_three_spellings() {
        for text in ["SIGQUIT", "quit", "3"] {
            assert_eq!(parse_signal(text), Ok(Signal::SIGQUIT));
        }
        assert_eq!(parse_signal(""), Ok(Signal::SIGTERM));
        assert!(parse_signal("SIGNOPE").is_err() && parse_signal("0").is_err());
    }
}
