//! Placement constraints: `key==value`, `key!=value` (parity S-30).

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// What of a node a constraint looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConstraintKey {
    NodeId,
    Hostname,
    Ip,
    Role,
    PlatformOs,
    PlatformArch,
    NodeLabel(String),
    EngineLabel(String),
}

/// One parsed constraint. Its text form is kept for showing it as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    pub key: ConstraintKey,
    /// `true` for `==`, `false` for `!=`.
    pub equal: bool,
    pub value: String,
}

/// Why a text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    #[error("constraint {0:?} has no operator; write key==value or key!=value")]
    Operator(String),
    #[error("constraint {0:?} has no value; write key==value or key!=value")]
    Value(String),
    #[error(
        "constraint {0:?} has the unknown key {1:?}; known are node.id, node.hostname, node.ip, node.role, \
         node.platform.os, node.platform.arch, node.labels.NAME and engine.labels.NAME"
    )]
    Key(String, String),
    #[error("constraint {0:?} compares node.ip with {1:?}, which is neither an address nor a CIDR block")]
    Ip(String, String),
    #[error("constraint {0:?} compares node.role with {1:?}; a role is worker or manager")]
    Role(String, String),
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        let equal_at = text.find("==");
        let differ_at = text.find("!=");
        let (at, equal) = match (equal_at, differ_at) {
            (Some(e), Some(d)) if d < e => (d, false),
            (Some(e), _) => (e, true),
            (None, Some(d)) => (d, false),
            (None, None) => return Err(ConstraintError::Operator(text.to_owned())),
        };
        let (key, value) = (text[..at].trim(), text[at + 2..].trim());
        if value.is_empty() {
            return Err(ConstraintError::Value(text.to_owned()));
        }
        let key = parse_key(key).ok_or_else(|| ConstraintError::Key(text.to_owned(), key.to_owned()))?;
        match key {
            ConstraintKey::Ip if !is_address_or_block(value) => {
                return Err(ConstraintError::Ip(text.to_owned(), value.to_owned()));
            }
            ConstraintKey::Role if !["worker", "manager"].contains(&value.to_ascii_lowercase().as_str()) => {
                return Err(ConstraintError::Role(text.to_owned(), value.to_owned()));
            }
            _ => {}
        }
        Ok(Self { key, equal, value: value.to_owned() })
    }
}

fn parse_key(key: &str) -> Option<ConstraintKey> {
    let lower = key.to_ascii_lowercase();
    let fixed = match lower.as_str() {
        "node.id" => Some(ConstraintKey::NodeId),
        "node.hostname" => Some(ConstraintKey::Hostname),
        "node.ip" => Some(ConstraintKey::Ip),
        "node.role" => Some(ConstraintKey::Role),
        "node.platform.os" => Some(ConstraintKey::PlatformOs),
        "node.platform.arch" => Some(ConstraintKey::PlatformArch),
        _ => None,
    };
    let label = |prefix: &str| {
        let rest = lower.starts_with(prefix).then(|| &key[prefix.len()..])?;
        (!rest.is_empty()).then(|| rest.to_owned())
    };
    fixed
        .or_else(|| label("node.labels.").map(ConstraintKey::NodeLabel))
        .or_else(|| label("engine.labels.").map(ConstraintKey::EngineLabel))
}

fn is_address_or_block(value: &str) -> bool {
    let (address, prefix) = value.split_once('/').map_or((value, None), |(a, p)| (a, Some(p)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|p| p.parse::<u8>().is_ok_and(|p| p <= most))
}

impl fmt::Display for ConstraintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeId => f.write_str("node.id"),
            Self::Hostname => f.write_str("node.hostname"),
            Self::Ip => f.write_str("node.ip"),
            Self::Role => f.write_str("node.role"),
            Self::PlatformOs => f.write_str("node.platform.os"),
            Self::PlatformArch => f.write_str("node.platform.arch"),
            Self::NodeLabel(name) => write!(f, "node.labels.{name}"),
            Self::EngineLabel(name) => write!(f, "engine.labels.{name}"),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.equal { "==" } else { "!=" };
        write!(f, "{}{operator}{}", self.key, self.value)
    }
}

impl TryFrom<String> for Constraint {
    type Error = ConstraintError;

    fn try_from(text: String) -> Result<Self, ConstraintError> {
        text.parse()
    }
}

impl From<Constraint> for String {
    fn from(constraint: Constraint) -> Self {
        constraint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Constraint>().expect_err("must be refused").to_string()
    }

    #[test]
    fn good_constraints_keep_their_text() {
        for text in ["node.role==manager", "node.labels.Zone!=a", "node.ip==10.0.0.0/8", "engine.labels.x==1"] {
            assert_eq!(text.parse::<Constraint>().expect(text).to_string(), text);
        }
        assert_eq!(" node.id == x ".parse::<Constraint>().expect("spaces").to_string(), "node.id==x");
    }

    #[test]
    fn bad_constraints_say_what_is_wrong() {
        assert!(error("node.role=manager").contains("no operator"));
        assert!(error("node.role==").contains("no value"));
        assert!(error("node.colour==red").contains("unknown key \"node.colour\""));
        assert!(error("node.ip==10.0.0.0/33").contains("neither an address"));
        assert!(error("node.role==boss").contains("worker or manager"));
        assert!(error("node.labels.==x").contains("unknown key"));
    }
}
