//! `label` and `label!` of filters, which all kinds of objects share, and names; and refusing the filters nobody knows.

use types::{Filters, Labels};

use crate::error::{ApiError, ApiResult};

/// Whether labels have all that is wanted and nothing that is not.
pub(crate) fn fits(labels: &Labels, filters: &Filters) -> bool {
    let values = |key: &str| filters.get(key).into_iter().flatten();
    values("label").all(|wanted| has(labels, wanted)) && !values("label!").any(|unwanted| has(labels, unwanted))
}

/// Names are looked for by a regular expression, as in Docker (moby `filters.Args.Match`); what is none is a name.
pub(crate) fn fits_name(name: &str, pattern: &str) -> bool {
    regex_lite::Regex::new(pattern).map_or_else(|_| name == pattern, |pattern| pattern.is_match(name))
}

fn has(labels: &Labels, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|known| known == value),
        None => labels.contains_key(wanted),
    }
}

/// # Errors
/// Names the filter that is not known, and those that are.
pub(crate) fn check_keys(filters: &Filters, what: &str, known: &[&str]) -> ApiResult<()> {
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            Err(ApiError::bad_request(format!("invalid filter '{key}' for {what}: known are {}", known.join(", "))))
        }
        None => Ok(()),
    }
}

/// The last value of a yes-or-no filter.
///
/// # Errors
/// When it is neither.
pub(crate) fn boolean(filters: &Filters, key: &str) -> ApiResult<Option<bool>> {
    match filters.get(key).and_then(|values| values.last()).map(|value| value.to_ascii_lowercase()).as_deref() {
        None => Ok(None),
        Some("true" | "1" | "t") => Ok(Some(true)),
        Some("false" | "0" | "f") => Ok(Some(false)),
        Some(other) => Err(ApiError::bad_request(format!("invalid filter '{key}={other}': use true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_booleans() {
        let labels = Labels::from([("a".to_owned(), "1".to_owned())]);
        let filters = |key: &str, value: &str| Filters::from([(key.to_owned(), vec![value.to_owned()])]);
        for (key, value, wanted) in [
            ("label", "a", true),
            ("label", "a=1", true),
            ("label", "a=2", false),
            ("label!", "a", false),
            ("label!", "b", true),
        ] {
            assert_eq!(fits(&labels, &filters(key, value)), wanted, "{key} {value}");
        }
        assert_eq!(boolean(&filters("dangling", "True"), "dangling"), Ok(Some(true)));
        assert_eq!(boolean(&Filters::new(), "dangling"), Ok(None));
        assert!(boolean(&filters("dangling", "maybe"), "dangling").is_err());
        let refused = check_keys(&filters("colour", "red"), "volumes", &["name"]).expect_err("unknown").message;
        assert_eq!(refused, "invalid filter 'colour' for volumes: known are name");
    }
}
