//! Names of secrets and configs, checked once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of a secret or config (swarmkit `controlapi/common.go`).
pub const MAX_DEPENDENCY_NAME: usize = 64;

/// Letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DependencyName(String);

/// Why a text is not such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid name {0:?}: give 1 to {MAX_DEPENDENCY_NAME} of [a-zA-Z0-9-_.], beginning and ending with a letter or digit"
)]
pub struct DependencyNameError(String);

impl DependencyName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As [`crate::Name::reads_like`].
    pub fn reads_like(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl FromStr for DependencyName {
    type Err = DependencyNameError;

    fn from_str(text: &str) -> Result<Self, DependencyNameError> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let ends = |text: &str| text.starts_with(['-', '_', '.']) || text.ends_with(['-', '_', '.']);
        let good = (1..=MAX_DEPENDENCY_NAME).contains(&text.len()) && text.bytes().all(inner) && !ends(text);
        if good { Ok(Self(text.to_owned())) } else { Err(DependencyNameError(text.to_owned())) }
    }
}

impl TryFrom<String> for DependencyName {
    type Error = DependencyNameError;

    fn try_from(text: String) -> Result<Self, DependencyNameError> {
        text.parse()
    }
}

impl From<DependencyName> for String {
    fn from(name: DependencyName) -> Self {
        name.0
    }
}

impl fmt::Display for DependencyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x01_names() {
        for good in ["a", "db.password", "a-b_c.d", &"x".repeat(64)] {
            assert_eq!(good.parse::<DependencyName>().expect(good).as_str(), good);
        }
        for bad in ["", ".a", "a-", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<DependencyName>().is_err(), "{bad:?} must be refused");
        }
    }
}
