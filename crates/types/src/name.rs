//! Names of services, networks and nodes, checked once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of a service or network: a DNS label (RFC 1035, section 2.3.4).
pub const MAX_NAME_LENGTH: usize = 63;

/// Of a network that is one host's own, in bytes: more does not fit any list.
const MAX_HOST_NAME_LENGTH: usize = 253;

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
        "name must not be blank or have control characters, and {MAX_HOST_NAME_LENGTH} bytes at most; {0:?} is not so"
    )]
    OfHost(String),
    #[error(
        "name must be valid as a DNS name component: letters, digits, '-' and '_', beginning and ending with a letter or digit; {0:?} is not"
    )]
    Shape(String),
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether people would take the two for one. Docker has but one of such names of a kind.
    pub fn reads_like(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    /// Of a network of one host, which may be called almost anything (moby `libnetwork`: all but blanks alone). Names in
    /// the cluster are stricter.
    ///
    /// # Errors
    /// [`NameError::OfHost`].
    pub fn of_host_network(text: &str) -> Result<Self, NameError> {
        let is_good = !text.trim().is_empty() && text.len() <= MAX_HOST_NAME_LENGTH && !text.contains(char::is_control);
        is_good.then(|| Self(text.to_owned())).ok_or_else(|| NameError::OfHost(text.to_owned()))
    }
}

/// For the name of a network, which may be one host's own.
pub(crate) fn read_network_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    Name::of_host_network(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
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

    /// E-31: a network of one host has fewer rules, also when it is read from the disk.
    #[test]
    fn e31_a_network_of_one_host_may_be_called_almost_anything() {
        for good in ["a.b", "my net", "ä", "_", "-"] {
            let name = Name::of_host_network(good).expect(good);
            let spec = crate::NetworkSpec::overlay(name);
            let text = serde_json::to_string(&spec).expect("encode");
            assert_eq!(serde_json::from_str::<crate::NetworkSpec>(&text).expect("decode"), spec);
        }
        for bad in ["", " ", "\t", "a\nb", &"x".repeat(254)] {
            assert!(Name::of_host_network(bad).is_err(), "{bad:?} must be refused");
        }
    }
}
