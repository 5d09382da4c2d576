//! Image references as people write them: `nginx`, `localhost:5000/app:1`, `app@sha256:…`.
//!
//! Grammar and defaults are those of the distribution project (`reference/reference.go`,
//! `reference/normalize.go`): no registry means `docker.io`, one path part there means `library/`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The registry meant when none is written.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Longest repository name including the registry (distribution `reference.NameTotalLengthMax`).
const MAX_NAME_LENGTH: usize = 255;
const MAX_TAG_LENGTH: usize = 128;

/// A normalised reference: registry and repository always there, tag or digest where written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    /// Host and optional port, `docker.io` by default.
    pub registry: String,
    /// Path within the registry, `library/nginx` for `nginx`.
    pub repository: String,
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageReferenceError {
    #[error("image reference must not be empty")]
    Empty,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("invalid reference format: {0:?}: repository name must be at most {MAX_NAME_LENGTH} characters")]
    TooLong(String),
    #[error("invalid reference format: {0:?}: bad repository name {1:?}")]
    Repository(String, String),
    #[error("invalid reference format: {0:?}: bad registry {1:?}")]
    Registry(String, String),
    #[error("invalid reference format: {0:?}: bad tag {1:?}")]
    Tag(String, String),
    #[error("invalid reference format: {0:?}: bad digest {1:?}, want sha256: and 64 hexadecimal digits")]
    Digest(String, String),
}

impl ImageReference {
    /// The short form people know: `nginx:1.27` for `docker.io/library/nginx:1.27`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    /// The short form without tag and digest.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        self.repository.strip_prefix(OFFICIAL_PREFIX).unwrap_or(&self.repository).to_owned()
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same reference with the tag `latest` if it had neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|t| format!(":{t}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|d| format!("@{d}")).unwrap_or_default();
        tag + &digest
    }
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        if text.is_empty() {
            return Err(ImageReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some((_, digest)) => return Err(ImageReferenceError::Digest(text.to_owned(), digest.to_owned())),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // a colon followed by a slash belongs to a port
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag.filter(|t| !is_tag(t)) {
            return Err(ImageReferenceError::Tag(text.to_owned(), tag.to_owned()));
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(&registry) {
            return Err(ImageReferenceError::Registry(text.to_owned(), registry));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ImageReferenceError::Uppercase(text.to_owned()));
        }
        if !repository.split('/').all(is_path_part) {
            return Err(ImageReferenceError::Repository(text.to_owned(), repository));
        }
        if registry.len() + 1 + repository.len() > MAX_NAME_LENGTH {
            return Err(ImageReferenceError::TooLong(text.to_owned()));
        }
        Ok(Self { registry, repository, tag: tag.map(str::to_owned), digest })
    }
}

fn split_registry(name: &str) -> (String, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || has_uppercase(first) => {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let official = registry == DEFAULT_REGISTRY && !repository.contains('/') && !repository.is_empty();
    let prefix = if official { OFFICIAL_PREFIX } else { "" };
    (registry.to_owned(), format!("{prefix}{repository}"))
}

fn has_uppercase(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_digest(text: &str) -> bool {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(is_hex))
}

fn is_tag(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    first && rest && text.len() <= MAX_TAG_LENGTH
}

/// `[a-z0-9]+` runs joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_part(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(a, z)| alphanumeric(*a) && alphanumeric(*z));
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|s| !s.is_empty());
    let good = |s: &str| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    ends && separators.into_iter().all(good)
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let ipv6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good_host = match ipv6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
            edge(label.as_bytes().first())
                && edge(label.as_bytes().last())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    good_host && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name(), self.suffix())
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ImageReferenceError;

    fn try_from(text: String) -> Result<Self, ImageReferenceError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, canonical: &str, familiar: &str) {
        let parsed: ImageReference = text.parse().expect(text);
        assert_eq!((parsed.to_string().as_str(), parsed.familiar().as_str()), (canonical, familiar));
    }

    #[test]
    fn references_are_normalised() {
        check("nginx", "docker.io/library/nginx", "nginx");
        check("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27");
        check("me/app", "docker.io/me/app", "me/app");
        check("localhost/app:1", "localhost/app:1", "localhost/app:1");
        check("localhost:5000/a/b", "localhost:5000/a/b", "localhost:5000/a/b");
        check("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a");
        let digest = format!("a@sha256:{}", "0".repeat(64));
        check(&digest, &format!("docker.io/library/{digest}"), &digest);
    }

    #[test]
    fn bad_references_name_the_part() {
        let error = |t: &str| t.parse::<ImageReference>().expect_err(t).to_string();
        assert!(error("").contains("empty"));
        assert!(error("NGINX").contains("lowercase"));
        assert!(error("a:").contains("tag"));
        assert!(error("a@sha256:12").contains("digest"));
        assert!(error("a..b").contains("repository"));
        assert!(error("a/../b").contains("repository"));
        assert!(error("-bad.host/x").contains("registry"));
        assert!(error(&"a".repeat(256)).contains("at most"));
    }
}
