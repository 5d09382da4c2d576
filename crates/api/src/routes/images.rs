//! `/images…`: the store of this host.

mod announce;
mod change;
mod filter;
mod import;
mod progress;
mod save;
mod versions;

use axum::{
    Extension, Json, Router,
    extract::{Path, RawQuery, State},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use node::image;
use serde_json::{Value, json};

use self::{announce::Announcer, filter::Criteria};
use super::query;
use crate::{
    convert::{
        image::{write_detail, write_history, write_summary},
        manifests, platform,
    },
    error::{ApiError, ApiResult},
    query::Query,
    router::{ApiVersion, Shared},
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

const PULLS_PLATFORM: ApiVersion = ApiVersion(1, 32);
/// Names of a list are filters like all others.
const FILTERS_NAMES: ApiVersion = ApiVersion(1, 41);
const MEASURES_SHARED: ApiVersion = ApiVersion(1, 42);
const PUSHES_PLATFORM: ApiVersion = ApiVersion(1, 46);
/// `Manifests` of a list.
const LISTS_MANIFESTS: ApiVersion = ApiVersion(1, 47);
/// Platforms in requests, `Descriptor`, `Manifests` of one image.
const HAS_PLATFORMS: ApiVersion = ApiVersion(1, 48);
const INSPECTS_PLATFORM: ApiVersion = ApiVersion(1, 49);
const REMOVES_PLATFORMS: ApiVersion = ApiVersion(1, 50);
const COUNTS_CONTAINERS: ApiVersion = ApiVersion(1, 51);

async fn list(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    raw: RawQuery,
) -> ApiResult<Json<Vec<Value>>> {
    let query = query(raw);
    let store = shared.host.images();
    let mut filters = query.filters()?;
    if version < FILTERS_NAMES && !query.get("filter").is_empty() {
        filters.entry("reference".to_owned()).or_default().push(query.get("filter").to_owned());
    }
    // Docker keeps back what only stands for another image's layers, unless somebody asks for it.
    let with_intermediate = query.flag("all") || filters.contains_key("dangling");
    let criteria = Criteria::read(filters, store, &FILTERS)?;
    let mut images = store.list();
    images.retain(|image| (with_intermediate || !image.is_intermediate()) && criteria.fits(image));
    images.iter_mut().for_each(|image| criteria.keep_meant(image));
    let usage = (version >= MEASURES_SHARED && query.flag("shared-size")).then(|| store.disk_usage());
    let with_manifests = version >= LISTS_MANIFESTS && query.flag("manifests");
    let mut lines = Vec::with_capacity(images.len());
    for image in &images {
        let mut line = write_summary(image);
        if let Some(own) = usage.as_ref().and_then(|usage| usage.images.get(&image.id)) {
            line["SharedSize"] = own.shared_bytes.into();
        }
        if version >= COUNTS_CONTAINERS {
            line["Containers"] = image.containers.into();
        }
        if with_manifests {
            let found = store.manifests(&image.id).await?;
            line["Manifests"] = manifests::write_all(&found).into();
            if version >= HAS_PLATFORMS {
                line["Descriptor"] = json!(found.target);
            }
        }
        versions::show_summary(&mut line, version);
        lines.push(line);
    }
    Ok(Json(lines))
}

/// `/images/{name}/json`, `…/history` and `…/get`, where the name may hold slashes.
async fn of_one(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(rest): Path<String>,
    raw: RawQuery,
) -> ApiResult<Response> {
    let query = query(raw);
    match rest.rsplit_once('/') {
        Some((name, "json")) => inspect(&shared, name, version, &query).await,
        Some((name, "history")) => {
            let image = shared.host.images().inspect(name)?;
            let platform = save::asked_platform(&query, version)?;
            platform.map_or(Ok(()), |platform| image.fits(name, &platform))?;
            let lineage = shared.host.images().lineage(&image.summary.id);
            Ok(Json(write_history(&image, &lineage)).into_response())
        }
        Some((name, "get")) => {
            save::answer(&shared, &[name.to_owned()], save::asked_platform(&query, version)?.as_ref())
        }
        _ => Err(ApiError::not_found("page not found")),
    }
}

async fn inspect(shared: &Shared, name: &str, version: ApiVersion, query: &Query) -> ApiResult<Response> {
    let store = shared.host.images();
    let asked = if version >= INSPECTS_PLATFORM { query.get("platform") } else { "" };
    let platform = platform::read(asked)?;
    let with_manifests = version >= HAS_PLATFORMS && query.flag("manifests");
    if with_manifests && platform.is_some() {
        let text = "conflicting options: manifests and platform options cannot both be set";
        return Err(ApiError::bad_request(text));
    }
    let image = store.inspect(name)?;
    platform.map_or(Ok(()), |platform| image.fits(name, &platform))?;
    let mut answer = write_detail(&image, &shared.host.info().storage_driver);
    if version >= HAS_PLATFORMS {
        let found = store.manifests(&image.summary.id).await?;
        answer["Descriptor"] = json!(found.target);
        if with_manifests {
            answer["Manifests"] = manifests::write_all(&found).into();
        }
    }
    versions::show_detail(&mut answer, version);
    Ok(Json(answer).into_response())
}

/// The answer of prune and rmi.
fn removed(items: &[image::Removed]) -> Value {
    let item = |item: &image::Removed| match item {
        image::Removed::Untagged(name) => json!({ "Untagged": name }),
        image::Removed::Deleted(digest) => json!({ "Deleted": digest.to_string() }),
    };
    items.iter().map(item).collect()
}
