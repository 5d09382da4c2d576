//! Signals as people write them.

use runtime::Signal;

/// `SIGTERM`, `TERM`, `15`, `RTMIN+3`; empty is SIGTERM.
pub(crate) fn parse_signal(text: &str) -> Result<Signal, String> {
    if text.is_empty() {
        return Ok(Signal::SIGTERM);
    }
    text.parse().map_err(|why: runtime::NoSignal| format!("{text:?}: {why}"))
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
