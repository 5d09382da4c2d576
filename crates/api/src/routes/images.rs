//! `/images…`: the store of this host.

mod announce;
mod change;
mod filter;
mod progress;
mod save;

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use node::image;
use serde_json::{Value, json};

use self::{announce::Announcer, filter::Criteria};
use super::query;
use crate::{
    convert::image::{write_detail, write_history, write_summary},
    error::{ApiError, ApiResult},
    router::Shared,
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/create", post(change::create))
        .route("/images/get", get(save::several))
        .route("/images/load", post(change::load))
        .route("/images/prune", post(change::prune))
        // Names may hold slashes: the last part says what is wanted.
        .route("/images/{*rest}", get(of_one).merge(post(change::of_one)).merge(delete(change::remove)))
}

const FILTERS: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];

async fn list(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Vec<Value>>> {
    let query = query(raw);
    let store = shared.host.images();
    let criteria = Criteria::read(query.filters()?, store, &FILTERS)?;
    let mut images = store.list();
    images.retain(|image| criteria.fits(image));
    images.iter_mut().for_each(|image| criteria.keep_meant(image));
    let usage = query.flag("shared-size").then(|| store.disk_usage());
    let shown = |image: &image::ImageSummary| {
        let mut line = write_summary(image);
        if let Some(own) = usage.as_ref().and_then(|usage| usage.images.get(&image.id)) {
            line["SharedSize"] = own.shared_bytes.into();
        }
        line
    };
    Ok(Json(images.iter().map(shown).collect()))
}

/// `/images/{name}/json`, `…/history` and `…/get`, where the name may hold slashes.
async fn of_one(State(shared): State<Shared>, Path(rest): Path<String>) -> ApiResult<Response> {
    let images = shared.host.images();
    match rest.rsplit_once('/') {
        Some((name, "json")) => {
            Ok(Json(write_detail(&images.inspect(name)?, &shared.host.info().storage_driver)).into_response())
        }
        Some((name, "history")) => Ok(Json(write_history(&images.inspect(name)?)).into_response()),
        Some((name, "get")) => save::answer(&shared, &[name.to_owned()]),
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
