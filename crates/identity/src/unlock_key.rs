//! The text of an unlock key: `SWMKEY-1-<32 bytes in base64 without padding>` (parity C-14).
//!
//! Whoever shows it to a user asks for the text by name; the key itself prints nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use types::UnlockKey;

const PREFIX: &str = "SWMKEY-1-";

/// A text that is no unlock key. Docker's clients know these words; what was typed is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid key string: an unlock key begins with SWMKEY-1-; `rswarm swarm unlock-key` on another manager shows it"
)]
pub struct UnlockKeyError;

/// What a user writes down.
pub fn unlock_key_text(key: &UnlockKey) -> String {
    format!("{PREFIX}{}", STANDARD_NO_PAD.encode(key.0))
}

/// What a user typed.
///
/// # Errors
/// When it is no unlock key.
pub fn parse_unlock_key(text: &str) -> Result<UnlockKey, UnlockKeyError> {
    let body = text.trim().strip_prefix(PREFIX).ok_or(UnlockKeyError)?;
    let bytes = STANDARD_NO_PAD.decode(body).map_err(|_| UnlockKeyError)?;
    bytes.try_into().map(UnlockKey).map_err(|_| UnlockKeyError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_14_the_text_comes_back_and_others_are_refused() {
        let key = UnlockKey([0xfb; 32]);
        let text = unlock_key_text(&key);
        assert_eq!((text.len(), &text[..13]), (9 + 43, "SWMKEY-1-+/v7"));
        assert_eq!(parse_unlock_key(&format!(" {text}\n")), Ok(key));
        for bad in ["", "hello", "SWMKEY-2-AAAA", &text[..20], &format!("{text}A"), &format!("{text}=")] {
            assert_eq!(parse_unlock_key(bad), Err(UnlockKeyError), "{bad}");
        }
        assert_eq!(format!("{key:?}"), "UnlockKey(..)");
    }
}
