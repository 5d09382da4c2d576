//! What must be before tasks of a service are started: `depends_on` of Compose files (parity K-08).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Name;

/// Another service, and how far it has to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Need {
    pub service: Name,
    pub condition: NeedCondition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NeedCondition {
    /// One of its containers has been started.
    Started,
    /// All its tasks run, which those with a health check do when that has succeeded.
    Healthy,
    /// All its tasks have ended with success.
    Completed,
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no condition; use service_started, service_healthy or service_completed_successfully")]
pub struct NeedConditionError(pub String);

impl NeedCondition {
    /// The word of Compose files and of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "service_started",
            Self::Healthy => "service_healthy",
            Self::Completed => "service_completed_successfully",
        }
    }
}

impl FromStr for NeedCondition {
    type Err = NeedConditionError;

    fn from_str(text: &str) -> Result<Self, NeedConditionError> {
        let all = [Self::Started, Self::Healthy, Self::Completed];
        all.into_iter().find(|word| word.as_str() == text).ok_or_else(|| NeedConditionError(text.to_owned()))
    }
}

/// What is waited for, in words: `service shop_db to be healthy`.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.condition {
            NeedCondition::Started => "to have started",
            NeedCondition::Healthy => "to be healthy",
            NeedCondition::Completed => "to have completed",
        };
        write!(f, "service {} {what}", self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_08_words_of_conditions() {
        let need = Need { service: "shop_db".parse().expect("a name"), condition: NeedCondition::Healthy };
        assert_eq!(need.to_string(), "service shop_db to be healthy");
        assert_eq!("service_healthy".parse(), Ok(NeedCondition::Healthy));
        let why = "healthy".parse::<NeedCondition>().expect_err("a word of nobody").to_string();
        assert!(why.contains("use service_started, service_healthy"), "{why}");
    }
}
