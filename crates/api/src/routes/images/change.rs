//! Routes that change the image store.

use axum::{
    Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures::TryStreamExt as _;
use node::image::{ImportOptions, LoadedImage, Platform, Progress, PullOptions};
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;
use types::ImageReference;

use super::{
    super::{query, registry_credentials},
    fits, progress, removed,
};
use crate::{
    error::{ApiError, ApiResult},
    query::Query,
    router::Shared,
};

/// Pull (`fromImage`) or import (`fromSrc=-`).
pub(crate) async fn create(
    State(shared): State<Shared>,
    headers: HeaderMap,
    raw: RawQuery,
    body: Body,
) -> ApiResult<Response> {
    let query = query(raw);
    match (query.get("fromImage"), query.get("fromSrc")) {
        ("", "-") => import(&shared, &query, body).await,
        ("", "") => Err(ApiError::bad_request("say what to get: fromImage=NAME, or fromSrc=- with a tar as body")),
        ("", _) => Err(ApiError::unsupported("importing from an address is not supported; send the tar as body")),
        (image, _) => pull(&shared, &headers, &query, image).await,
    }
}

async fn pull(shared: &Shared, headers: &HeaderMap, query: &Query, image: &str) -> ApiResult<Response> {
    let reference = joined(image, query.get("tag"))?;
    let options = PullOptions {
        credentials: registry_credentials(headers)?,
        insecure_registries: shared.host.info().insecure_registries.clone(),
        platform: platform(query)?,
        ..PullOptions::default()
    };
    let store = shared.host.images().clone();
    // The pull itself says how it ended: "Digest: …", "Status: …".
    let work = |progress| async move { store.pull(&reference, &options, progress).await };
    progress::answer(work, |_| Vec::new()).await
}

async fn import(shared: &Shared, query: &Query, body: Body) -> ApiResult<Response> {
    let reference = match query.get("repo") {
        "" => None,
        repository => Some(joined(repository, query.get("tag"))?.with_default_tag()),
    };
    let options = ImportOptions {
        reference,
        changes: query.all("changes"),
        message: query.get("message").to_owned(),
        platform: platform(query)?,
    };
    let store = shared.host.images().clone();
    let work = |_| async move { store.import(reader(body), options).await };
    progress::answer(work, |loaded: LoadedImage| vec![json!({ "status": loaded.id.to_string() })]).await
}

pub(crate) async fn load(State(shared): State<Shared>, raw: RawQuery, body: Body) -> ApiResult<Response> {
    let store = shared.host.images().clone();
    let quiet = query(raw).flag("quiet");
    let work = |progress| async move {
        let progress = if quiet { Progress::none() } else { progress };
        store.load(reader(body), progress).await
    };
    progress::answer(work, |images: Vec<LoadedImage>| images.iter().flat_map(loaded_lines).collect()).await
}

fn loaded_lines(image: &LoadedImage) -> Vec<Value> {
    match image.references.is_empty() {
        true => vec![json!({ "stream": format!("Loaded image ID: {}\n", image.id) })],
        false => {
            let line = |name: &ImageReference| json!({ "stream": format!("Loaded image: {}\n", name.familiar()) });
            image.references.iter().map(line).collect()
        }
    }
}

/// `/images/{name}/tag`, where the name may hold slashes.
pub(crate) async fn post(State(shared): State<Shared>, Path(rest): Path<String>, raw: RawQuery) -> ApiResult<Response> {
    match rest.rsplit_once('/') {
        Some((name, "tag")) => {
            let query = query(raw);
            let reference = joined(query.get("repo"), query.get("tag"))?.with_default_tag();
            shared.host.images().tag(name, &reference).await?;
            Ok(StatusCode::CREATED.into_response())
        }
        Some((_, "push")) => Err(ApiError::unsupported("pushing images is not supported yet")),
        _ => Err(ApiError::not_found("page not found")),
    }
}

pub(crate) async fn remove(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    raw: RawQuery,
) -> ApiResult<Json<Value>> {
    let gone = shared.host.images().remove(&name, query(raw).flag("force")).await?;
    Ok(Json(removed(&gone)))
}

pub(crate) async fn prune(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Value>> {
    let mut filters = query(raw).filters()?;
    let dangling = filters.remove("dangling").and_then(|values| values.into_iter().next());
    let all = dangling.is_some_and(|value| matches!(value.as_str(), "false" | "0"));
    if let Some(key) = filters.keys().find(|key| *key != "label") {
        return Err(ApiError::bad_request(format!(
            "invalid filter '{key}' for pruning images: known are dangling, label"
        )));
    }
    let swept = shared.host.images().prune(all, move |image| !fits(image, &filters)).await?;
    Ok(Json(json!({ "ImagesDeleted": removed(&swept.removed), "SpaceReclaimed": swept.bytes })))
}

/// Clients send name and tag (or digest) apart, or both in the name.
fn joined(name: &str, tag: &str) -> ApiResult<ImageReference> {
    let text = match tag {
        "" => name.to_owned(),
        digest if digest.starts_with("sha256:") => format!("{name}@{digest}"),
        tag => format!("{name}:{tag}"),
    };
    text.parse().map_err(|why: types::ImageReferenceError| ApiError::bad_request(why.to_string()))
}

fn platform(query: &Query) -> ApiResult<Option<Platform>> {
    match query.get("platform") {
        "" => Ok(None),
        text => Ok(Some(text.parse::<Platform>()?)),
    }
}

fn reader(body: Body) -> impl AsyncRead + Unpin + Send + 'static {
    StreamReader::new(Box::pin(body.into_data_stream().map_err(std::io::Error::other)))
}
