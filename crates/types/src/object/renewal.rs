//! Credentials of registries that expire, and who gives new ones (P17).

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How often a helper may be asked: not all the time, and before the longest-lived token there is has gone.
pub const RENEWAL_EVERY: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);
/// No helper's name is longer.
const MAX_NAME: usize = 64;
/// Of what a helper says when it fails.
const MAX_TROUBLE: usize = 400;

/// The name of a program of the managers' hosts, `docker-credential-NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialHelper(String);

/// Why a text is no name of a helper.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no credential helper: write what follows docker-credential- in the name of its program, such as ecr-login"
)]
pub struct CredentialHelperError(String);

/// How credentials that expire are renewed: the leader asks the helper again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryRenewal {
    pub helper: CredentialHelper,
    pub every: Duration,
    /// When the present credentials came.
    pub renewed_at: Timestamp,
    /// Why the last try gave none; empty if it did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

impl CredentialHelper {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The program's name, looked for in the daemon's `PATH`.
    pub fn program(&self) -> String {
        format!("docker-credential-{}", self.0)
    }
}

impl fmt::Display for CredentialHelper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CredentialHelper {
    type Err = CredentialHelperError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match fits && (1..=MAX_NAME).contains(&text.len()) && !text.starts_with(['.', '-']) {
            true => Ok(Self(text.to_owned())),
            false => Err(CredentialHelperError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for CredentialHelper {
    type Error = CredentialHelperError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CredentialHelper> for String {
    fn from(helper: CredentialHelper) -> Self {
        helper.0
    }
}

impl RegistryRenewal {
    /// After a try that gave nothing.
    pub fn failed(&self, why: &str) -> Self {
        Self { trouble: why.chars().take(MAX_TROUBLE).collect(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p17_helpers_are_names_and_never_paths() {
        for (text, program) in [
            ("ecr-login", Some("docker-credential-ecr-login")),
            ("gcr", Some("docker-credential-gcr")),
            ("", None),
            ("../sh", None),
            (".x", None),
            ("-x", None),
            ("a b", None),
            ("a/b", None),
        ] {
            let parsed = text.parse::<CredentialHelper>().ok().map(|helper| helper.program());
            assert_eq!(parsed.as_deref(), program, "{text}");
        }
    }
}
