//! Filters of images, for lists and for prune.

use glob::{MatchOptions, Pattern};
use node::image::{ImageSummary, Store};
use types::{Filters, Timestamp};

use super::super::label_filter;
use crate::{
    convert::time,
    error::{ApiError, ApiResult},
};

/// Filters, checked, with the images that some of them name looked up.
pub(super) struct Criteria {
    filters: Filters,
    dangling: Option<bool>,
    /// Older than all of these, in nanoseconds since 1970.
    before: Option<i128>,
    since: Option<i128>,
    /// Of names; none: all.
    references: Vec<Pattern>,
}

impl Criteria {
    /// # Errors
    /// Names the filter or the value that is not known.
    pub(super) fn read(filters: Filters, store: &Store, known: &[&str]) -> ApiResult<Self> {
        label_filter::check_keys(&filters, "images", known)?;
        let dangling = label_filter::boolean(&filters, "dangling")?;
        let values = |key: &str| filters.get(key).into_iter().flatten();
        let created = |name: &String| store.inspect(name).map(|image| image.summary.created_ns);
        let before = values("before").map(created).collect::<Result<Vec<i128>, _>>()?;
        let since = values("since").map(created).collect::<Result<Vec<i128>, _>>()?;
        let until = |text: &String| -> ApiResult<i128> {
            let moment: Timestamp = time::parse_or_ago(text, time::now())
                .map_err(|why| ApiError::bad_request(format!("invalid filter 'until': {why}")))?;
            Ok(i128::from(moment.as_unix_ns()))
        };
        let until = values("until").map(until).collect::<ApiResult<Vec<i128>>>()?;
        let before = before.into_iter().chain(until).min();
        let references = values("reference").map(pattern).collect::<ApiResult<Vec<Pattern>>>()?;
        Ok(Self { dangling, before, since: since.into_iter().max(), references, filters })
    }

    pub(super) fn fits(&self, image: &ImageSummary) -> bool {
        let names = || image.repo_tags.iter().chain(&image.repo_digests);
        let named = |pattern: &Pattern| names().any(|name| is_named(pattern, name));
        label_filter::fits(&image.labels, &self.filters)
            && self.dangling.is_none_or(|dangling| dangling == image.is_dangling())
            && self.before.is_none_or(|before| image.created_ns < before)
            && self.since.is_none_or(|since| image.created_ns > since)
            && (self.references.is_empty() || self.references.iter().any(named))
    }

    /// Asked for by name, an image shows the names that were meant.
    pub(super) fn keep_meant(&self, image: &mut ImageSummary) {
        let is_meant = |name: &String| self.references.iter().any(|pattern| is_named(pattern, name));
        if !self.references.is_empty() {
            image.repo_tags.retain(is_meant);
            image.repo_digests.retain(is_meant);
        }
    }
}

/// By its name with tag or digest, or by its repository alone.
fn is_named(pattern: &Pattern, name: &str) -> bool {
    let end = name.find('@').or_else(|| name.rfind(':').filter(|at| !name[*at..].contains('/')));
    let repository = &name[..end.unwrap_or(name.len())];
    let matches = |text: &str| pattern.matches_with(text, SLASHES_APART);
    matches(name) || matches(repository)
}

/// `*` and `?` stand for no slash, as in Go's `path.Match`.
const SLASHES_APART: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// Go negates a class of characters by `^`.
fn pattern(text: &String) -> ApiResult<Pattern> {
    Pattern::new(&text.replace("[^", "[!"))
        .map_err(|error| ApiError::bad_request(format!("invalid filter 'reference={text}': {error}")))
}

#[cfg(test)]
mod tests {
    /// E-06
    #[test]
    fn e_06_images_by_patterns_of_their_names() {
        for (pattern, text, wanted) in [
            ("busybox", "busybox:latest", true),
            ("busy*", "busybox:latest", true),
            ("*", "a/b:1", false),
            ("*/b", "a/b:1", true),
            ("b?sybox:1*", "busybox:1.2", true),
            ("busy", "busybox:latest", false),
            ("alpine:3.1[0-2]", "alpine:3.10", true),
            ("alpine:3.1[^0-2]", "alpine:3.10", false),
            ("here:5000/x", "here:5000/x@sha256:00", true),
            ("x", "here:5000/x@sha256:00", false),
        ] {
            let compiled = super::pattern(&pattern.to_owned()).expect(pattern);
            assert_eq!(super::is_named(&compiled, text), wanted, "{pattern} {text}");
        }
        let refused = super::pattern(&"a[".to_owned()).expect_err("no pattern").message;
        assert!(refused.starts_with("invalid filter 'reference=a[': "), "{refused}");
    }
}
