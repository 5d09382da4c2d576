//! Join tokens: `SWMTKN-1-<digest of the root certificate>-<secret>` (parity C-10).
//!
//! The digest lets a node that has nothing but the token check that it talks to the right cluster
//! before it says a word; the secret says which role it may take.

use std::{fmt, str::FromStr};

use crate::{Digest, base36};

const PREFIX: &str = "SWMTKN";
const VERSION: &str = "1";
/// `ceil(256 / log2(36))`.
const DIGEST_DIGITS: usize = 50;
/// `ceil(128 / log2(36))`.
const SECRET_DIGITS: usize = 25;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the cluster's root certificate (DER).
    pub ca_digest: Digest,
    /// The secret of the role, from `types::JoinSecrets`.
    pub secret: [u8; 16],
}

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error(
        "not a join token: it begins with SWMTKN-1- and has four parts joined by '-'; copy it whole from `rswarm join-token worker`"
    )]
    Shape,
    #[error("join token has version {0:?}, this rswarm knows version 1")]
    Version(String),
    #[error("join token is damaged: its {0} has a wrong length or a wrong character; copy it once more")]
    Part(&'static str),
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('-').collect();
        let [PREFIX, version, digest, secret] = parts[..] else {
            return Err(TokenError::Shape);
        };
        if version != VERSION {
            return Err(TokenError::Version(version.to_owned()));
        }
        Ok(Self {
            ca_digest: fixed(digest, DIGEST_DIGITS).ok_or(TokenError::Part("digest"))?,
            secret: fixed(secret, SECRET_DIGITS).ok_or(TokenError::Part("secret"))?,
        })
    }
}

fn fixed<const N: usize>(text: &str, digits: usize) -> Option<[u8; N]> {
    (text.len() == digits).then(|| base36::decode(text)).flatten()
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = base36::encode(&self.ca_digest, DIGEST_DIGITS);
        let secret = base36::encode(&self.secret, SECRET_DIGITS);
        write!(f, "{PREFIX}-{VERSION}-{digest}-{secret}")
    }
}

/// Never prints the secret.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", base36::encode(&self.ca_digest, DIGEST_DIGITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_10_tokens_round_trip_in_swarms_shape() {
        let token = JoinToken { ca_digest: [0xab; 32], secret: [0xcd; 16] };
        let text = token.to_string();
        assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [6, 1, 50, 25]);
        assert_eq!(text.parse(), Ok(token));
        assert!(!format!("{token:?}").contains(text.rsplit('-').next().expect("secret")));
    }

    #[test]
    fn bad_tokens_say_what_is_wrong() {
        let good = JoinToken { ca_digest: [1; 32], secret: [2; 16] }.to_string();
        assert_eq!("hello".parse::<JoinToken>(), Err(TokenError::Shape));
        assert_eq!(good.replacen("-1-", "-2-", 1).parse::<JoinToken>(), Err(TokenError::Version("2".into())));
        assert_eq!(good[..good.len() - 1].parse::<JoinToken>(), Err(TokenError::Part("secret")));
        assert_eq!(good.replacen("-1-0", "-1-Z", 1).parse::<JoinToken>(), Err(TokenError::Part("digest")));
    }
}
