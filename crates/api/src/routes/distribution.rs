//! What registries are asked without an image coming here: `/distribution`, `/auth`, `/images/search`.

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use node::image::{self, Credentials, Platform, PullOptions, Resolved, SearchResult, check_login, resolve_digest};
use serde_json::{Value, json};
use types::ImageReference;

use super::{label_filter, query, registries, registry_credentials};
use crate::{
    bodies::JsonBody,
    convert::reader::Object,
    error::{ApiError, ApiResult},
    router::Shared,
};

/// Docker's default and most of `--limit`.
const SEARCH_LIMIT: u64 = 25;
const MOST_SEARCHED: u64 = 100;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/auth", post(log_in))
        .route("/distribution/{*rest}", get(inspect))
        .route("/images/search", get(search))
}

/// `/distribution/{name}/json`, where the name may hold slashes.
async fn inspect(State(shared): State<Shared>, headers: HeaderMap, Path(rest): Path<String>) -> ApiResult<Json<Value>> {
    let name = rest.strip_suffix("/json").ok_or_else(|| ApiError::not_found("page not found"))?;
    let reference: ImageReference =
        name.parse().map_err(|why: types::ImageReferenceError| ApiError::bad_request(why.to_string()))?;
    let found = look_up(&shared, &reference, registry_credentials(&headers)?).await?;
    let platform = |platform: &Platform| {
        let mut shown = json!({ "architecture": platform.architecture, "os": platform.os });
        if let Some(variant) = &platform.variant {
            shown["variant"] = variant.as_str().into();
        }
        shown
    };
    Ok(Json(json!({
        "Descriptor": { "mediaType": found.media_type, "digest": found.digest.to_string(), "size": found.size },
        "Platforms": found.platforms.iter().map(platform).collect::<Vec<_>>(),
    })))
}

/// What a name means in its registry right now. Without credentials, or where they are refused, those of the cluster are used
/// (P17).
pub(super) async fn look_up(
    shared: &Shared,
    reference: &ImageReference,
    credentials: Option<Credentials>,
) -> image::Result<Resolved> {
    let info = shared.host.info();
    let with = |credentials| PullOptions {
        credentials,
        insecure_registries: info.settings.insecure_registries.clone(),
        mirrors: info.settings.registry_mirrors.clone(),
        ..PullOptions::default()
    };
    let of_cluster = registries::of_cluster(shared, reference).await;
    let own = credentials.or_else(|| of_cluster.clone());
    match (resolve_digest(reference, &with(own)).await, of_cluster) {
        (Err(image::Error::Unauthorized { .. }), Some(other)) => resolve_digest(reference, &with(Some(other))).await,
        (found, _) => found,
    }
}

/// `POST /auth`: nothing is kept, the client keeps its credentials itself.
async fn log_in(State(shared): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Json<Value>> {
    // Texts of errors name fields, never values: one of them is a password.
    let mut from = Object::root(&body)?;
    let (username, password) = (from.string("username")?, from.string("password")?);
    let (server, identity) = (from.string("serveraddress")?, from.string("identitytoken")?);
    let credentials = match (identity.is_empty(), username.is_empty()) {
        (false, _) => Credentials::IdentityToken(identity),
        (true, false) => Credentials::Basic { username, password },
        (true, true) => return Err(ApiError::bad_request("username is missing: give a user name and a password")),
    };
    match check_login(&server, &registries::login_with(&shared, credentials)).await {
        Ok(()) => Ok(Json(json!({ "Status": "Login Succeeded", "IdentityToken": "" }))),
        Err(error @ image::Error::Unauthorized { .. }) => {
            Err(ApiError::new(StatusCode::UNAUTHORIZED, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn search(raw: RawQuery) -> ApiResult<Json<Value>> {
    let query = query(raw);
    let term = query.get("term");
    if term.is_empty() {
        return Err(ApiError::bad_request("say what to search for: term=NAME"));
    }
    let limit = match query.get("limit") {
        "" | "0" => SEARCH_LIMIT,
        text => text.parse().ok().filter(|limit| *limit <= MOST_SEARCHED).ok_or_else(|| {
            ApiError::bad_request(format!("limit {text} is outside the range of [1, {MOST_SEARCHED}]"))
        })?,
    };
    let filters = query.filters()?;
    label_filter::check_keys(&filters, "searching images", &["is-automated", "is-official", "stars"])?;
    let official = label_filter::boolean(&filters, "is-official")?;
    let stars = filters.get("stars").into_iter().flatten().map(|text| {
        text.parse::<u64>().map_err(|_| ApiError::bad_request(format!("invalid filter 'stars={text}': it is a number")))
    });
    let stars = stars.collect::<ApiResult<Vec<u64>>>()?.into_iter().max().unwrap_or(0);
    let mut found = image::search(term, limit).await?;
    found.retain(|item| item.star_count >= stars && official.is_none_or(|official| official == item.is_official));
    let shown = |item: &SearchResult| {
        json!({
            "name": item.name,
            "description": item.description,
            "star_count": item.star_count,
            "is_official": item.is_official,
            "is_automated": false,
        })
    };
    Ok(Json(found.iter().map(shown).collect()))
}
