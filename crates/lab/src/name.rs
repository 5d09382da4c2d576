//! Names of labs and hosts. They end up in cgroup, namespace and socket paths, so they are checked once, here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest name. A unix socket path holds 107 bytes and ours is
/// `/run/rswarm-lab/<lab>/<host>/run/rswarm.sock`: 33 bytes and two names.
const LONGEST: usize = 36;

/// A lab's or a host's name: lower-case letters, digits and inner dashes, 1 to 36 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why| Error::BadName { what: "the name", text: text.to_owned(), why };
        if text.is_empty() || text.len() > LONGEST {
            return Err(bad("a name has 1 to 36 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(bad("a name holds only lower-case letters, digits and dashes"));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(bad("a name neither begins nor ends with a dash"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
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
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_path_are_refused() {
        for bad in ["", "a/b", "..", "A", "a b", "-a", "a-", "a.b", &"x".repeat(37)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was taken");
        }
        for good in ["a", "lab", "t-kill-1234", "m1"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }
}
