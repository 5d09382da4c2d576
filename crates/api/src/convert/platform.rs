//! The platform that a request names, as the OCI image specification writes it. Docker's words, from moby
//! `httputils/form.go`.

use node::image::Platform;
use serde_json::Value;

use crate::error::{ApiError, ApiResult};

/// `{"os": "linux", "architecture": "arm", "variant": "v7"}`; nothing if there is no text.
pub(crate) fn read(text: &str) -> ApiResult<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |why: &str| ApiError::bad_request(format!("failed to parse platform: {why}"));
    let value: Value = serde_json::from_str(text)
        .map_err(|why| bad(&format!("{why}; write {{\"os\": \"linux\", \"architecture\": \"arm64\"}}")))?;
    let field = |name: &str| match &value[name] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.as_str()),
        _ => Err(bad(&format!("{name} is no text"))),
    };
    if !value.is_object() {
        return Err(bad("it is no object"));
    }
    let (os, architecture, variant) = (field("os")?, field("architecture")?, field("variant")?);
    if os.is_empty() && architecture.is_empty() && !variant.is_empty() {
        let text = "optional platform fields provided, but OS and Architecture are missing";
        return Err(ApiError::bad_request(text));
    }
    if os.is_empty() || architecture.is_empty() {
        return Err(ApiError::bad_request("both OS and Architecture must be provided"));
    }
    Ok(Some(Platform::new(os, architecture, Some(variant))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_10_platforms_are_read_as_docker_does() {
        let of = |text: &str| read(text).map(|found| found.map(|platform| platform.to_string()));
        assert_eq!(of(""), Ok(None));
        let arm = of(r#"{"architecture": "arm", "os": "linux", "variant": "v6"}"#);
        assert_eq!(arm, Ok(Some("linux/arm/v6".to_owned())));
        for (text, part) in [
            ("linux/arm64", "failed to parse platform: expected value"),
            ("[]", "it is no object"),
            (r#"{"os": 1}"#, "os is no text"),
            (r#"{"variant": "v7"}"#, "optional platform fields provided, but OS and Architecture are missing"),
            (r#"{"os": "linux"}"#, "both OS and Architecture must be provided"),
        ] {
            let error = of(text).expect_err(text);
            assert!(error.message.contains(part), "{text}: {}", error.message);
        }
    }
}
