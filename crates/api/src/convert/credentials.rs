//! `X-Registry-Auth`: credentials for a registry, as base64 of a JSON object.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use node::image::Credentials;
use serde_json::Value;

use super::reader::{FieldError, Object};

const HEADER: &str = "X-Registry-Auth";

/// Credentials of a header's value; `None` where it holds an empty object, which anonymous clients send.
pub(crate) fn read(header: &str) -> Result<Option<Credentials>, FieldError> {
    let bad = |reason: &str| FieldError::Value { path: HEADER.to_owned(), reason: reason.to_owned() };
    if header.is_empty() {
        return Ok(None);
    }
    let bytes = decode(header).ok_or_else(|| bad("is not base64"))?;
    // The error is not shown: its text may hold a part of a secret.
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad("is not JSON in base64"))?;
    let mut from = Object::root(&value).map_err(|_| bad("is not a JSON object in base64"))?;
    let text = |from: &mut Object<'_>, field| from.string(field).map_err(|_| bad("has a value that is not a text"));
    let (username, password) = (text(&mut from, "username")?, text(&mut from, "password")?);
    let (identity, registry) = (text(&mut from, "identitytoken")?, text(&mut from, "registrytoken")?);
    Ok(match (registry.is_empty(), identity.is_empty(), username.is_empty()) {
        (false, _, _) => Some(Credentials::RegistryToken(registry)),
        (_, false, _) => Some(Credentials::IdentityToken(identity)),
        (_, _, false) => Some(Credentials::Basic { username, password }),
        _ => None,
    })
}

/// Clients use either alphabet, with or without padding.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engines = [&alphabet::URL_SAFE, &alphabet::STANDARD].map(|alphabet| GeneralPurpose::new(alphabet, config));
    engines.iter().find_map(|engine| engine.decode(text.trim()).ok())
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    #[test]
    fn what_clients_send() {
        let basic = r#"{"username":"u","password":"p?>","serveraddress":"x"}"#;
        let wanted = Some(Credentials::Basic { username: "u".into(), password: "p?>".into() });
        assert_eq!(read(&URL_SAFE.encode(basic)), Ok(wanted.clone()));
        assert_eq!(read(STANDARD.encode(basic).trim_end_matches('=')), Ok(wanted));
        assert_eq!(read("e30="), Ok(None));
        assert_eq!(read(""), Ok(None));
        let token = read(&STANDARD.encode(r#"{"identitytoken":"t"}"#));
        assert_eq!(token, Ok(Some(Credentials::IdentityToken("t".into()))));
        assert!(read("%%").expect_err("refused").to_string().contains("X-Registry-Auth"));
        assert!(
            !read(&STANDARD.encode(r#"{"password":5secret}"#)).expect_err("refused").to_string().contains("secret")
        );
    }
}
