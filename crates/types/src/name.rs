//! Names of services, networks and nodes, checked once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of a service or network: a DNS label (RFC 1035, section 2.3.4).
pub const MAX_NAME_LENGTH: usize = 63;

/// A name that fits `^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$` and [`MAX_NAME_LENGTH`]
/// (swarmkit `controlapi/common.go`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("name must not be empty")]
    Empty,
    #[error("name must be {MAX_NAME_LENGTH} characters or fewer, {0:?} has {1}")]
    TooLong(String, usize),
    #[error(
        "name must be valid as a DNS name component: letters, digits, '-' and '_', beginning and ending with a letter or digit; {0:?} is not"
    )]
    Shape(String),
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let ends = [text.as_bytes()[0], text.as_bytes()[text.len() - 1]];
        if !text.bytes().all(inner) || !ends.iter().all(u8::is_ascii_alphanumeric) {
            return Err(NameError::Shape(text.to_owned()));
        }
        if text.len() > MAX_NAME_LENGTH {
            return Err(NameError::TooLong(text.to_owned(), text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_of_s_01() {
        for good in ["a", "web", "web-1", "a__b", "9"] {
            assert_eq!(good.parse::<Name>().expect(good).as_str(), good);
        }
        for bad in ["", "-a", "a-", "a.b", "ä", "a b", "_"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} must be refused");
        }
        assert!(matches!("x".repeat(64).parse::<Name>(), Err(NameError::TooLong(_, 64))));
    }
}
