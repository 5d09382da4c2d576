//! `/images…`: the store of this host.

mod change;
mod progress;

use axum::{
    Json,
    extract::{Path, RawQuery, State},
};
use node::image;
use serde_json::{Value, json};
use types::Filters;

pub(crate) use change::{create, load, post, prune, remove};

use super::query;
use crate::{
    convert::image::{write_detail, write_history, write_summary},
    error::{ApiError, ApiResult},
    router::Shared,
};

pub(crate) async fn list(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Vec<Value>>> {
    let filters = query(raw).filters()?;
    check_filters(&filters)?;
    let mut images = shared.host.images().list();
    images.retain(|image| fits(image, &filters));
    // Asked for by name, an image shows the names that were meant.
    if let Some(patterns) = filters.get("reference").filter(|patterns| !patterns.is_empty()) {
        for image in &mut images {
            image.repo_tags.retain(|name| patterns.iter().any(|pattern| is_named(pattern, name)));
        }
    }
    Ok(Json(images.iter().map(write_summary).collect()))
}

const FILTERS: [&str; 3] = ["dangling", "label", "reference"];

fn check_filters(filters: &Filters) -> ApiResult<()> {
    match filters.keys().find(|key| !FILTERS.contains(&key.as_str())) {
        Some(key) => {
            Err(ApiError::bad_request(format!("invalid filter '{key}' for images: known are {}", FILTERS.join(", "))))
        }
        None => Ok(()),
    }
}

pub(super) fn fits(image: &image::ImageSummary, filters: &Filters) -> bool {
    let values = |key: &str| filters.get(key).map_or(&[][..], Vec::as_slice);
    let label = |wanted: &String| match wanted.split_once('=') {
        Some((name, value)) => image.labels.get(name).is_some_and(|known| known == value),
        None => image.labels.contains_key(wanted),
    };
    let dangling = |wanted: &String| image.is_dangling() == !matches!(wanted.as_str(), "false" | "0");
    let references = values("reference");
    let named = |pattern: &String| image.repo_tags.iter().any(|name| is_named(pattern, name));
    values("label").iter().all(label)
        && values("dangling").iter().all(dangling)
        && (references.is_empty() || references.iter().any(named))
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

/// `/images/{name}/json` and `/images/{name}/history`, where the name may hold slashes.
pub(crate) async fn get(State(shared): State<Shared>, Path(rest): Path<String>) -> ApiResult<Json<Value>> {
    match rest.rsplit_once('/') {
        Some((name, "json")) => Ok(Json(write_detail(&shared.host.images().inspect(name)?))),
        Some((name, "history")) => Ok(Json(write_history(&shared.host.images().inspect(name)?))),
        Some((_, "get")) => Err(ApiError::unsupported("saving images is not supported yet")),
        _ if rest == "search" => Err(ApiError::unsupported("searching for images is not supported yet")),
        _ => Err(ApiError::not_found("page not found")),
    }
}

/// The answer of prune and rmi.
fn removed(items: &[image::Removed]) -> Value {
    let item = |item: &image::Removed| match item {
        image::Removed::Untagged(name) => json!({ "Untagged": name }),
        image::Removed::Deleted(digest) => json!({ "Deleted": digest.to_string() }),
    };
    items.iter().map(item).collect()
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
