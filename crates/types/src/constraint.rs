//! Placement constraints: `key==value`, `key!=value` (parity S-30), and beyond Swarm `key in (a,b)`, `key not in (a,b)`,
//! of labels `key exists`, `key not exists`, `key>=4` and its like, `service==db` and `service!=web` for what else runs on
//! the node, and `~` before any of them for what is wished rather than needed.

mod number;

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

pub use number::Number;

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
    /// The services with a task there.
    Service,
}

/// One parsed constraint. Written to the log and to clients as its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    pub key: ConstraintKey,
    pub rule: Rule,
    /// Nodes that satisfy it come first, the others when no such node takes a task.
    pub soft: bool,
    /// As it was given: clients compare it with what they asked for.
    text: String,
}

/// What must hold of it. A label that is not there is empty, but does not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    Equal(String),
    NotEqual(String),
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    NotExists,
    /// What is no number is neither above nor below one.
    Compare(Comparison, Number),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl ConstraintKey {
    /// A quality of nodes, by its name in constraints.
    pub fn of_node(name: &str) -> Option<Self> {
        parse_key(name).filter(|key| *key != Self::Service)
    }
}

impl Constraint {
    /// Whether it is about what else runs on a node, and so for the moment of placing only.
    pub fn is_about_neighbours(&self) -> bool {
        self.key == ConstraintKey::Service
    }

    /// The names in it, and whether a node with one of them is what is wanted, of a constraint on `service`.
    pub fn neighbours(&self) -> Option<(&[String], bool)> {
        if self.key != ConstraintKey::Service {
            return None;
        }
        match &self.rule {
            Rule::Equal(name) => Some((std::slice::from_ref(name), true)),
            Rule::NotEqual(name) => Some((std::slice::from_ref(name), false)),
            Rule::In(names) => Some((names, true)),
            Rule::NotIn(names) => Some((names, false)),
            Rule::Exists | Rule::NotExists | Rule::Compare(..) => None,
        }
    }
}

impl Comparison {
    pub fn holds(self, found: Number, wanted: Number) -> bool {
        match self {
            Self::Less => found < wanted,
            Self::LessOrEqual => found <= wanted,
            Self::Greater => found > wanted,
            Self::GreaterOrEqual => found >= wanted,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// Why a text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    #[error(
        "constraint {0:?} has no operator; write key==value, key!=value, key in (a,b), key not in (a,b), \
         key exists, key not exists, or a label and <, <=, > or >= with a number"
    )]
    Operator(String),
    #[error("constraint {0:?} has no value; write it behind the operator, as in key==value")]
    Value(String),
    #[error(
        "constraint {0:?} has the unknown key {1:?}; known are node.id, node.hostname, node.ip, node.role, \
         node.platform.os, node.platform.arch, node.labels.NAME, engine.labels.NAME and service"
    )]
    Key(String, String),
    #[error("constraint {0:?} compares node.ip with {1:?}, which is neither an address nor a CIDR block")]
    Ip(String, String),
    #[error("constraint {0:?} compares node.role with {1:?}; a role is worker or manager")]
    Role(String, String),
    #[error("constraint {0:?} has the list {1:?}; write values in parentheses with commas between them, as in (a,b)")]
    List(String, String),
    #[error("constraint {0:?} compares {1} with {2:?}, which is no number")]
    Number(String, String, String),
    #[error("constraint {0:?} uses {1:?} on {2}; it works on node.labels.NAME and engine.labels.NAME only")]
    NoLabel(String, &'static str, String),
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        let trimmed = text.trim();
        let wish = trimmed.strip_prefix('~').map(str::trim_start);
        let (soft, trimmed) = (wish.is_some(), wish.unwrap_or(trimmed));
        let end = trimmed.find(|c: char| c.is_whitespace() || "=!<>".contains(c)).unwrap_or(trimmed.len());
        let (name, rest) = (&trimmed[..end], trimmed[end..].trim());
        let rule = parse_rule(text, name, rest)?;
        let key = parse_key(name).ok_or_else(|| ConstraintError::Key(text.to_owned(), name.to_owned()))?;
        let values: Vec<&String> = match &rule {
            Rule::Equal(value) | Rule::NotEqual(value) => vec![value],
            Rule::In(values) | Rule::NotIn(values) => values.iter().collect(),
            Rule::Exists | Rule::NotExists | Rule::Compare(..) if is_label(&key) => Vec::new(),
            Rule::Exists => return Err(ConstraintError::NoLabel(text.to_owned(), "exists", name.to_owned())),
            Rule::NotExists => return Err(ConstraintError::NoLabel(text.to_owned(), "not exists", name.to_owned())),
            Rule::Compare(how, _) => {
                return Err(ConstraintError::NoLabel(text.to_owned(), how.as_str(), name.to_owned()));
            }
        };
        for value in values {
            check_value(text, &key, value)?;
        }
        Ok(Self { key, rule, soft, text: text.to_owned() })
    }
}

/// The operator and what follows it.
fn parse_rule(text: &str, name: &str, rest: &str) -> Result<Rule, ConstraintError> {
    let value = |value: &str| match value.trim() {
        "" => Err(ConstraintError::Value(text.to_owned())),
        value => Ok(value.to_owned()),
    };
    let signs = [
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    if let Some(given) = rest.strip_prefix("==") {
        return value(given).map(Rule::Equal);
    }
    if let Some(given) = rest.strip_prefix("!=") {
        return value(given).map(Rule::NotEqual);
    }
    if let Some((given, how)) = signs.iter().find_map(|(sign, how)| Some((rest.strip_prefix(sign)?, *how))) {
        let given = value(given)?;
        let number = given.parse().map_err(|()| ConstraintError::Number(text.to_owned(), name.to_owned(), given))?;
        return Ok(Rule::Compare(how, number));
    }
    let (not, words) = match word(rest, "not") {
        Some(words) => (true, words),
        None => (false, rest),
    };
    if words.eq_ignore_ascii_case("exists") {
        return Ok(if not { Rule::NotExists } else { Rule::Exists });
    }
    let Some(list) = word(words, "in") else { return Err(ConstraintError::Operator(text.to_owned())) };
    let values = parse_list(list).ok_or_else(|| ConstraintError::List(text.to_owned(), list.to_owned()))?;
    Ok(if not { Rule::NotIn(values) } else { Rule::In(values) })
}

/// What follows a word at the beginning of a text.
fn word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    let ends = rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || c == '(');
    (head.eq_ignore_ascii_case(word) && ends).then(|| rest.trim())
}

fn parse_list(text: &str) -> Option<Vec<String>> {
    let inside = text.strip_prefix('(')?.strip_suffix(')')?;
    let values: Vec<String> = inside.split(',').map(|value| value.trim().to_owned()).collect();
    values.iter().all(|value| !value.is_empty() && !value.contains(['(', ')'])).then_some(values)
}

fn check_value(text: &str, key: &ConstraintKey, value: &str) -> Result<(), ConstraintError> {
    match key {
        ConstraintKey::Ip if !is_address_or_block(value) => Err(ConstraintError::Ip(text.to_owned(), value.to_owned())),
        ConstraintKey::Role if !["worker", "manager"].contains(&value.to_ascii_lowercase().as_str()) => {
            Err(ConstraintError::Role(text.to_owned(), value.to_owned()))
        }
        _ => Ok(()),
    }
}

fn is_label(key: &ConstraintKey) -> bool {
    matches!(key, ConstraintKey::NodeLabel(_) | ConstraintKey::EngineLabel(_))
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
        "service" => Some(ConstraintKey::Service),
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
            Self::Service => f.write_str("service"),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
        for text in [
            "node.role==manager",
            "node.labels.Zone!=a",
            "node.ip==10.0.0.0/8",
            "engine.labels.x==1",
            "node.labels.a==b==c",
            "node.labels.zone in (a,b)",
            "node.ip not in (10.0.0.1,10.1.0.0/16)",
            "engine.labels.gpu exists",
            "node.labels.gpu not exists",
            "node.labels.disks>=4",
            "node.labels.load<0.5",
            "~node.labels.disk==ssd",
            "service==db",
            "service not in (web,cache)",
            "~service!=web",
        ] {
            assert_eq!(text.parse::<Constraint>().expect(text).to_string(), text);
        }
        // the text is its owner's, the meaning is not
        for (text, meaning) in [
            (" node.id == x ", "node.id==x"),
            ("node.labels.zone  NOT IN( a , b )", "node.labels.zone not in (a,b)"),
            ("node.labels.disks > 4.50", "node.labels.disks>4.5"),
            ("~ node.labels.gpu exists", "~node.labels.gpu exists"),
        ] {
            let [given, plain] = [text, meaning].map(|text| text.parse::<Constraint>().expect(text));
            assert_eq!(given.to_string(), text, "S-30: clients compare it with what they asked for");
            assert_eq!((given.key, given.rule, given.soft), (plain.key, plain.rule, plain.soft), "{text}");
        }
    }

    #[test]
    fn bad_constraints_say_what_is_wrong() {
        assert!(error("node.role=manager").contains("no operator"));
        assert!(error("node.role==").contains("no value"));
        assert!(error("node.colour==red").contains("unknown key \"node.colour\""));
        assert!(error("node.ip==10.0.0.0/33").contains("neither an address"));
        assert!(error("node.role==boss").contains("worker or manager"));
        assert!(error("node.labels.==x").contains("unknown key"));
        assert!(error("node.labels.x").contains("no operator"));
        assert!(error("node.labels.x includes (a)").contains("no operator"));
        assert!(error("node.labels.x>").contains("no value"));
        assert!(error("node.role in (worker,boss)").contains("compares node.role with \"boss\""));
        assert!(error("node.labels.x in a,b").contains("has the list \"a,b\""));
        assert!(error("node.labels.x in ()").contains("has the list \"()\""));
        assert!(error("node.labels.x in (a,,b)").contains("has the list"));
        assert!(error("node.labels.x>many").contains("compares node.labels.x with \"many\", which is no number"));
        assert!(error("node.hostname exists").contains("uses \"exists\" on node.hostname"));
        assert!(error("node.ip>=1").contains("uses \">=\" on node.ip"));
        assert!(error("service exists").contains("uses \"exists\" on service"));
        assert!(error("~").contains("no operator"));
    }
}
