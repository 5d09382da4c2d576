//! Amounts of CPU, memory and counted or named extra resources.
//!
//! Generic resources are set at a node's daemon, counted by the scheduler, and told to the container by its environment.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

/// Billionths of one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoCpus(pub u64);

/// Bytes of memory or disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl NanoCpus {
    /// Smallest limit or reservation that is not zero: 0.001 CPU (swarmkit `controlapi/service.go`).
    pub const MIN: Self = Self(1_000_000);
}

impl Bytes {
    /// Smallest memory limit or reservation that is not zero: 4 MiB (swarmkit `controlapi/service.go`).
    pub const MIN_MEMORY: Self = Self(4 << 20);
}

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size; write for example 64m, 512k or 1g")]
pub struct BytesError(String);

/// `512m`, `1.5g`, `64KiB`: steps of 1024, as Docker's clients and options have them.
impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let bad = || BytesError(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let number: f64 = lower[..split].parse().map_err(|_| bad())?;
        let power = match lower[split..].trim() {
            "" | "b" => 0,
            "k" | "kb" | "ki" | "kib" => 1,
            "m" | "mb" | "mi" | "mib" => 2,
            "g" | "gb" | "gi" | "gib" => 3,
            "t" | "tb" | "ti" | "tib" => 4,
            _ => return Err(bad()),
        };
        let bytes = number * 1024_f64.powi(power);
        if bytes > i64::MAX as f64 { Err(bad()) } else { Ok(Self(bytes as u64)) }
    }
}

/// A kind of resource that the kernel does not know: discrete (a count) or named (a set).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GenericResource {
    Count(u64),
    Named(Vec<String>),
    /// Asked for only: these, and as many more of whatever name.
    NamedAndMore(Vec<String>, u64),
}

impl GenericResource {
    /// How many units there are.
    pub fn amount(&self) -> u64 {
        self.names().len() as u64 + self.unnamed()
    }

    pub fn names(&self) -> &[String] {
        match self {
            Self::Count(_) => &[],
            Self::Named(names) | Self::NamedAndMore(names, _) => names,
        }
    }

    /// Units of no particular name.
    pub fn unnamed(&self) -> u64 {
        match self {
            Self::Count(count) | Self::NamedAndMore(_, count) => *count,
            Self::Named(_) => 0,
        }
    }

    /// One unit more, or several of no name.
    pub fn and(self, name: Option<String>, count: u64) -> Self {
        let count = self.unnamed().saturating_add(count);
        let mut names = match self {
            Self::Count(_) => Vec::new(),
            Self::Named(names) | Self::NamedAndMore(names, _) => names,
        };
        names.extend(name);
        match (names.is_empty(), count) {
            (true, _) => Self::Count(count),
            (false, 0) => Self::Named(names),
            (false, _) => Self::NamedAndMore(names, count),
        }
    }
}

/// By kind.
pub type GenericResources = BTreeMap<String, GenericResource>;

/// Why a node's generic resources are not taken as they were said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenericResourceError {
    #[error("{0:?} has no '='; write KIND=COUNT for things that are counted, KIND=NAME for each thing that has a name")]
    NoValue(String),
    #[error(
        "{0:?} has a kind that is empty or has characters other than letters, digits, '-', '_', '.' and '/'; write it like \
         NVIDIA-GPU=UUID1"
    )]
    Kind(String),
    #[error("{0:?} has no usable value: a count from 1 on, or a name without spaces and commas")]
    Value(String),
    #[error("{kind} is said both as a count and by names; say all of a kind the same way")]
    Mixed { kind: String },
    #[error("{kind}={value} is said twice; each name, and each count, may be said once")]
    Twice { kind: String, value: String },
}

/// Reads what a node has: `SSD=4` counts, `NVIDIA-GPU=UUID1` names one (parity C-27).
///
/// # Errors
/// Names the first entry that is wrong, and why.
pub fn parse_generic_resources<'a>(
    entries: impl IntoIterator<Item = &'a str>,
) -> Result<GenericResources, GenericResourceError> {
    let mut all = GenericResources::new();
    for entry in entries {
        let (kind, value) = entry.split_once('=').ok_or_else(|| GenericResourceError::NoValue(entry.to_owned()))?;
        let is_kind = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if kind.is_empty() || !kind.chars().all(is_kind) {
            return Err(GenericResourceError::Kind(entry.to_owned()));
        }
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || c == ',' || c == '=';
        // a count that does not fit, or is not positive, is no name either
        let looks_counted = value.trim_start_matches(['-', '+']).chars().all(|c| c.is_ascii_digit());
        let count = value.parse::<u64>().ok().filter(|count| *count > 0 && i64::try_from(*count).is_ok());
        if value.contains(is_bad) || (looks_counted && count.is_none()) {
            return Err(GenericResourceError::Value(entry.to_owned()));
        }
        let twice = || GenericResourceError::Twice { kind: kind.to_owned(), value: value.to_owned() };
        match (all.get_mut(kind), count) {
            (None, Some(count)) => _ = all.insert(kind.to_owned(), GenericResource::Count(count)),
            (None, None) => _ = all.insert(kind.to_owned(), GenericResource::Named(vec![value.to_owned()])),
            (Some(GenericResource::Count(_)), Some(_)) => return Err(twice()),
            (Some(GenericResource::Named(names)), None) if names.iter().any(|name| name == value) => {
                return Err(twice());
            }
            (Some(GenericResource::Named(names)), None) => names.push(value.to_owned()),
            (Some(_), _) => return Err(GenericResourceError::Mixed { kind: kind.to_owned() }),
        }
    }
    Ok(all)
}

/// What a container is told of the resources it was granted, as Docker does: `DOCKER_RESOURCE_GPU=a,b` (parity S-43).
pub fn generic_resource_env(granted: &GenericResources) -> Vec<String> {
    let value = |amount: &GenericResource| match amount {
        GenericResource::Count(count) => count.to_string(),
        named => named.names().join(","),
    };
    granted.iter().map(|(kind, amount)| format!("DOCKER_RESOURCE_{}={}", kind.to_uppercase(), value(amount))).collect()
}

/// What a node has, or what a task reserves or may use. Zero means "not said".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub nano_cpus: NanoCpus,
    pub memory: Bytes,
    /// Most processes a task may have; meaningless in a reservation.
    pub pids: u64,
    pub generic: GenericResources,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<GenericResources, String> {
        parse_generic_resources(text.split(' ')).map_err(|e| e.to_string())
    }

    #[test]
    fn c_27_counts_and_names_are_read() {
        let found = parsed("NVIDIA-GPU=UUID1 SSD=4 NVIDIA-GPU=UUID2").unwrap();
        assert_eq!(found["SSD"], GenericResource::Count(4));
        assert_eq!(found["NVIDIA-GPU"], GenericResource::Named(vec!["UUID1".into(), "UUID2".into()]));
    }

    #[test]
    fn c_27_bad_settings_are_refused_with_a_sentence() {
        for (text, part) in [
            ("SSD", "has no '='"),
            ("=4", "kind that is empty"),
            ("S SD=4", "has no '='"),
            ("SS:D=4", "kind that is empty or has characters"),
            ("SSD=", "no usable value"),
            ("SSD=0", "no usable value"),
            ("SSD=-1", "no usable value"),
            ("SSD=99999999999999999999", "no usable value"),
            ("SSD=a,b", "no usable value"),
            ("SSD=4 SSD=5", "said twice"),
            ("GPU=a GPU=a", "said twice"),
            ("GPU=a GPU=2", "both as a count and by names"),
            ("GPU=2 GPU=a", "both as a count and by names"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }

    #[test]
    fn s_43_a_container_is_told_what_it_was_granted() {
        let granted = parsed("nvidia-gpu=UUID1 nvidia-gpu=UUID2 SSD=2").unwrap();
        assert_eq!(generic_resource_env(&granted), ["DOCKER_RESOURCE_SSD=2", "DOCKER_RESOURCE_NVIDIA-GPU=UUID1,UUID2"]);
    }
}
