//! Query strings as Docker's clients write them.

use std::collections::BTreeMap;

use serde_json::Value;
use types::{Filters, Version};

use crate::error::{ApiError, ApiResult};

/// The decoded pairs of a query string; the same name may come several times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

/// Filters and values per filter: far more than anybody types, few enough to look through.
const MAX_FILTER_VALUES: usize = 1000;

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name), unescape(value))
        };
        Self(text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect())
    }

    /// The value of a name; empty if absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    /// Docker's rule: everything but empty, 0, no, false and none is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        !matches!(self.get(name).trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A flag of which Docker takes Go's words for yes and no alone; absent or empty is no.
    pub(crate) fn strict_flag(&self, name: &str) -> ApiResult<bool> {
        match self.get(name) {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            other => Err(ApiError::bad_request(format!("invalid value for {name}: {other}: give true or false"))),
        }
    }

    /// `?version=`, which updates need.
    pub(crate) fn version(&self) -> ApiResult<Version> {
        let text = self.get("version");
        let bad = |_| ApiError::bad_request(format!("invalid version {text:?}: give the Version.Index of the object"));
        text.parse().map(Version).map_err(bad)
    }

    /// `?filters=`, in the present form `{"k":["v"]}` and the old one `{"k":{"v":true}}`.
    pub(crate) fn filters(&self) -> ApiResult<Filters> {
        let text = self.get("filters");
        if text.is_empty() {
            return Ok(Filters::new());
        }
        let bad = |why: &str| ApiError::bad_request(format!("invalid filter {text:?}: {why}"));
        let map = match serde_json::from_str(text) {
            Ok(Value::Object(map)) => map,
            // what generated clients write for none
            Ok(Value::Null) => return Ok(Filters::new()),
            _ => return Err(bad("it is not a JSON object such as {\"name\":[\"web\"]}")),
        };
        let mut filters: Filters = BTreeMap::new();
        let mut count = 0;
        for (key, values) in map {
            let values: Vec<String> = match values {
                Value::Array(values) => values.into_iter().filter_map(text_of).collect(),
                Value::Object(values) => {
                    values.into_iter().filter(|(_, on)| on == &Value::Bool(true)).map(|(value, _)| value).collect()
                }
                Value::String(value) => vec![value],
                _ => return Err(bad("values are lists of texts")),
            };
            count += values.len();
            if count > MAX_FILTER_VALUES {
                return Err(bad("too many values"));
            }
            filters.insert(key, values);
        }
        Ok(filters)
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Percent signs and pluses; what is not UTF-8 is replaced.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text as a part of a query string: the other way round.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            b' ' => escaped.push('+'),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_filters() {
        let filters = |text: &str| Query::parse(text).filters();
        let wanted = Filters::from([("name".to_owned(), vec!["web".to_owned()])]);
        assert_eq!(filters("filters=%7B%22name%22%3A%5B%22web%22%5D%7D"), Ok(wanted.clone()));
        assert_eq!(filters("filters={\"name\":{\"web\":true}}"), Ok(wanted));
        assert!(filters("filters=name%3Dweb").expect_err("no JSON").message.contains("JSON object"));
        for none in ["", "filters=", "filters=null"] {
            assert_eq!(filters(none), Ok(Filters::new()), "{none}");
        }
    }

    #[test]
    fn flags_and_escapes() {
        let query = Query::parse("a=1&b=false&c=True&d=a+b%2Fc%zz&&e");
        assert_eq!((query.flag("a"), query.flag("b"), query.flag("c"), query.flag("x")), (true, false, true, false));
        assert_eq!((query.strict_flag("a").ok(), query.strict_flag("b").ok()), (Some(true), Some(false)));
        let refused = query.strict_flag("d").expect_err("no word for yes or no").message;
        assert!(refused.contains("invalid value for d: a b/c%zz"), "{refused}");
        assert_eq!(query.get("d"), "a b/c%zz");
        assert!(query.version().is_err());
        let text = "a b/ü~=,";
        assert_eq!((escape(text).as_str(), unescape(&escape(text)).as_str()), ("a+b%2F%C3%BC~%3D%2C", text));
    }
}
