//! Filters of images, for lists and for prune.

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
        Ok(Self { dangling, before, since: since.into_iter().max(), filters })
    }

    pub(super) fn fits(&self, image: &ImageSummary) -> bool {
        let references = self.references();
        let named = |pattern: &String| image.repo_tags.iter().any(|name| is_named(pattern, name));
        label_filter::fits(&image.labels, &self.filters)
            && self.dangling.is_none_or(|dangling| dangling == image.is_dangling())
            && self.before.is_none_or(|before| image.created_ns < before)
            && self.since.is_none_or(|since| image.created_ns > since)
            && (references.is_empty() || references.iter().any(named))
    }

    /// Asked for by name, an image shows the names that were meant.
    pub(super) fn keep_meant(&self, image: &mut ImageSummary) {
        let patterns = self.references();
        if !patterns.is_empty() {
            image.repo_tags.retain(|name| patterns.iter().any(|pattern| is_named(pattern, name)));
        }
    }

    fn references(&self) -> &[String] {
        self.filters.get("reference").map_or(&[], Vec::as_slice)
    }
}

fn is_named(pattern: &str, name: &str) -> bool {
    let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
    glob(pattern, name) || glob(pattern, repository)
}

/// `*` stands for any characters but a slash, `?` for one.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == text[t] || (*c == '?' && text[t] != '/') => {
                p += 1;
                t += 1;
            }
            _ => match star {
                // The star takes one character more.
                Some((star_p, star_t)) if text[star_t] != '/' => {
                    star = Some((star_p, star_t + 1));
                    p = star_p + 1;
                    t = star_t + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    #[test]
    fn globs() {
        for (pattern, text, wanted) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("b?sybox:1*", "busybox:1.2", true),
            ("busy", "busybox", false),
        ] {
            assert_eq!(super::glob(pattern, text), wanted, "{pattern} {text}");
        }
    }
}
