//! One line of `rswarm doctor`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that was looked at, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub verdict: CheckVerdict,
    /// `kernel: vxlan`, `data path to 192.0.2.3`, …
    pub subject: String,
    /// What was found; unless it is well, what to do.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CheckVerdict {
    Pass,
    /// It works, worse than it could, or is not known yet.
    Warn,
    /// Something does not work.
    Fail,
}

impl Check {
    pub fn pass(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { verdict: CheckVerdict::Pass, subject: subject.into(), text: text.into() }
    }

    pub fn warn(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { verdict: CheckVerdict::Warn, subject: subject.into(), text: text.into() }
    }

    pub fn fail(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { verdict: CheckVerdict::Fail, subject: subject.into(), text: text.into() }
    }
}

impl fmt::Display for CheckVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        })
    }
}
