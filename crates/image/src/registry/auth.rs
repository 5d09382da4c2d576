//! Credentials and the challenges of registries (RFC 7235, distribution's token specification).
//! Pure; called by the registry client. Nothing here prints a secret.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// How to prove who we are. `Debug` hides the secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Basic {
        username: String,
        password: String,
    },
    /// An OAuth2 refresh token, as `docker login` keeps it for some registries.
    IdentityToken(String),
    /// Sent to the registry as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
            Self::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

/// How they lie in a service's spec.
#[derive(Serialize, Deserialize)]
enum Packed<T> {
    Basic { username: T, password: T },
    IdentityToken(T),
    RegistryToken(T),
}

impl Credentials {
    /// The bytes a spec keeps; [`Credentials::unpack`] reads them.
    pub fn pack(&self) -> Vec<u8> {
        let packed = match self {
            Self::Basic { username, password } => Packed::Basic { username, password },
            Self::IdentityToken(token) => Packed::IdentityToken(token),
            Self::RegistryToken(token) => Packed::RegistryToken(token),
        };
        serde_json::to_vec(&packed).expect("texts are JSON")
    }

    /// What was packed; `None` of no bytes and of what a newer version packed.
    pub fn unpack(bytes: &[u8]) -> Option<Self> {
        Some(match serde_json::from_slice(bytes).ok()? {
            Packed::Basic { username, password } => Self::Basic { username, password },
            Packed::IdentityToken(token) => Self::IdentityToken(token),
            Packed::RegistryToken(token) => Self::RegistryToken(token),
        })
    }

    /// The value of an `Authorization: Basic` header, for a user name and password only.
    pub(super) fn basic_header(&self) -> Option<String> {
        match self {
            Self::Basic { username, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            _ => None,
        }
    }
}

/// One way to log in that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The best of the challenges in `WWW-Authenticate` headers: bearer before basic.
pub(super) fn choose_challenge<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let all: Vec<Challenge> = headers.flat_map(parse_challenges).collect();
    all.iter().find(|c| **c != Challenge::Basic).or_else(|| all.first()).cloned()
}

/// A header may hold several challenges, each a scheme and a comma separated list of `name=value`.
fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        let word_end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let word = rest[..word_end].to_ascii_lowercase();
        let after = rest[word_end..].trim_start();
        if let Some(value) = after.strip_prefix('=') {
            let (value, tail) = parse_value(value.trim_start());
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word, value));
            }
            rest = tail;
        } else {
            if !word.is_empty() {
                found.push((word, Vec::new()));
            }
            rest = after;
        }
        rest = rest.trim_start_matches([',', ' ', '\t']);
    }
    found.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, &parameters)).collect()
}

/// A token, or a quoted string with backslashes; and what follows.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).filter(|v| !v.is_empty());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") }),
        _ => None,
    }
}

/// Encodes a value for the query of a URL or the body of a form.
pub(super) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |t: Option<&str>| t.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn challenges_are_parsed() {
        let check = |headers: &[&str], expected: Option<Challenge>| {
            assert_eq!(choose_challenge(headers.iter().copied()), expected, "{headers:?}");
        };
        let full = r#"Bearer realm="https://a/token",service="reg",scope="repository:x/y:pull,push""#;
        check(&[full], bearer("https://a/token", Some("reg"), Some("repository:x/y:pull,push")));
        check(&[r#"Basic realm="x, y""#], Some(Challenge::Basic));
        check(&["basic"], Some(Challenge::Basic));
        check(&["Basic realm=\"r\"", "bearer realm=https://a"], bearer("https://a", None, None));
        check(
            &[r#"Basic realm="r", Bearer realm="https://a" , service="s\"t""#],
            bearer("https://a", Some("s\"t"), None),
        );
        check(&["Negotiate", "", "=,=", "Bearer", r#"Bearer realm=""#], None);
        check(&[], None);
    }

    #[test]
    fn secrets_are_not_printed() {
        let basic = Credentials::Basic { username: "me".into(), password: "hidden".into() };
        assert_eq!(format!("{basic:?}"), "Basic(me)");
        assert_eq!(basic.basic_header().as_deref(), Some("Basic bWU6aGlkZGVu"));
        for credentials in [basic, Credentials::IdentityToken("t\"1".into()), Credentials::RegistryToken(String::new())]
        {
            assert_eq!(Credentials::unpack(&credentials.pack()), Some(credentials));
        }
        assert_eq!(Credentials::unpack(b""), None);
        assert_eq!(percent_encode("a b/c:d"), "a%20b%2Fc%3Ad");
    }
}
