//! Credentials that the whole cluster has for a registry (P17).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Cluster, ImageReference, Payload, RegistryRenewal, image_reference::DEFAULT_REGISTRY};

/// Registries with credentials at most: all of them are in one object.
pub const MAX_REGISTRIES: usize = 100;
/// As long as a repository's name may be.
const MAX_SCOPE: usize = 255;

/// A registry, or all repositories below a path of one: `registry.example:5000`, `registry.example/team`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryScope(String);

/// Why a text names no registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no registry: write HOST[:PORT][/PATH]")]
pub struct RegistryScopeError(String);

/// Who the nodes are for a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// For people; empty where a token stands for everything.
    pub username: String,
    /// As `image::Credentials` packs them; empty where an answer only shows that there are some.
    pub auth: Payload,
    /// Of credentials that expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<RegistryRenewal>,
}

impl RegistryScope {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without a path.
    pub fn host(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// Whether the image is one of it: paths are compared part by part.
    fn covers(&self, image: &ImageReference) -> bool {
        let name = image.name();
        name.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for RegistryScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Docker Hub has many names, and clients write addresses as URLs.
impl FromStr for RegistryScope {
    type Err = RegistryScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.trim().trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        let is_hub = matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
        let (host, path) = match is_hub {
            true => (DEFAULT_REGISTRY, if path == "v1" { "" } else { path }),
            false => (host, path),
        };
        let fits = |text: &str, others: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
        let parts_fit = path.is_empty() || path.split('/').all(|part| !part.is_empty() && fits(part, "._-"));
        if host.is_empty() || bare.len() > MAX_SCOPE || !fits(host, ".-:[]") || !parts_fit {
            return Err(RegistryScopeError(text.to_owned()));
        }
        Ok(Self(if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }))
    }
}

impl TryFrom<String> for RegistryScope {
    type Error = RegistryScopeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RegistryScope> for String {
    fn from(scope: RegistryScope) -> Self {
        scope.0
    }
}

impl Cluster {
    /// The cluster's credentials for an image: those of the longest path that it is below.
    pub fn registry_login(&self, image: &ImageReference) -> Option<&RegistryLogin> {
        let fitting = self.registries.iter().filter(|(scope, _)| scope.covers(image));
        fitting.max_by_key(|(scope, _)| scope.as_str().len()).map(|(_, login)| login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_written_in_many_ways_and_are_one() {
        for (text, scope) in [
            ("registry.example", Some("registry.example")),
            ("https://registry.example/", Some("registry.example")),
            ("localhost:5000/team", Some("localhost:5000/team")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("docker.io/team", Some("docker.io/team")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("", None),
            ("a b", None),
            ("a//b", None),
            ("user@host", None),
        ] {
            let parsed = text.parse::<RegistryScope>().ok();
            assert_eq!(parsed.as_ref().map(RegistryScope::as_str), scope, "{text}");
        }
    }

    #[test]
    fn a_scope_covers_whole_parts_of_paths() {
        for (scope, image, covers) in [
            ("docker.io", "nginx", true),
            ("docker.io/library", "nginx", true),
            ("registry.example", "registry.example/team/app:1", true),
            ("registry.example/team", "registry.example/team/app:1", true),
            ("registry.example/team", "registry.example/teams/app:1", false),
            ("registry.example", "registry.example:5000/app", false),
        ] {
            let (scope, image): (RegistryScope, ImageReference) =
                (scope.parse().expect(scope), image.parse().expect(image));
            assert_eq!(scope.covers(&image), covers, "{scope} {image}");
        }
    }
}
