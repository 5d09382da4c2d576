//! Request bodies.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, header::CONTENT_TYPE},
};
use serde_json::Value;

use crate::error::{ApiError, ApiResult};

/// A spec that publishes each port of one protocol, and says all of each, takes half of this.
const MAX_JSON_BYTES: usize = 16 << 20;

/// The JSON of a body; null if there is none. A body that says it is something else is refused, as Docker does.
pub(crate) struct JsonBody(pub(crate) Value);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let (head, body) = request.into_parts();
        let bytes = axum::body::to_bytes(body, MAX_JSON_BYTES).await.map_err(|error| {
            ApiError::bad_request(format!("read the request body (at most {MAX_JSON_BYTES} bytes): {error}"))
        })?;
        check_type(&head.headers, bytes.is_empty())?;
        parse(&bytes).map(Self)
    }
}

/// Docker's words, from moby `httputils`. Nothing needs no type.
fn check_type(headers: &HeaderMap, is_empty: bool) -> ApiResult<()> {
    let text = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim();
    match kind.to_ascii_lowercase().as_str() {
        "application/json" => Ok(()),
        "" if is_empty && text.is_empty() => Ok(()),
        "" => Err(ApiError::bad_request(format!(
            "malformed Content-Type header ({text}): mime: no media type: send the body as application/json"
        ))),
        _ => {
            Err(ApiError::bad_request(format!("unsupported Content-Type header ({kind}): must be 'application/json'")))
        }
    }
}

fn parse(bytes: &Bytes) -> ApiResult<Value> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad_request(format!("the request body is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_or_refused() {
        let check = |kind: Option<&str>, is_empty| {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(CONTENT_TYPE, kind.parse().expect("a header's value"));
            }
            check_type(&headers, is_empty).map_err(|error| error.message)
        };
        for good in ["application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(check(Some(good), false), Ok(()), "{good}");
        }
        assert_eq!(check(None, true), Ok(()));
        assert!(check(None, false).is_err_and(|why| why.starts_with("malformed Content-Type header (): ")));
        let wanted = "unsupported Content-Type header (text/plain): must be 'application/json'".to_owned();
        assert_eq!(check(Some("text/plain; charset=utf-8"), true), Err(wanted));
    }
}
