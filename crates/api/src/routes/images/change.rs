//! Routes that change the image store, and push.

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use futures::TryStreamExt as _;
use node::image::{LoadedImage, Platform, Progress, PullOptions, PushOptions, PushedImage, RemoveOptions};
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;
use types::ImageReference;

use super::{
    super::{label_filter, query, registry_credentials},
    Announcer, Criteria, PULLS_PLATFORM, PUSHES_PLATFORM, REMOVES_PLATFORMS, import, progress, removed,
    save::asked_platform,
};
use crate::{
    convert,
    error::{ApiError, ApiResult},
    query::Query,
    router::{ApiVersion, Shared},
};

/// Pull (`fromImage`) or import (`fromSrc`: an address, or - for the body).
pub(super) async fn create(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    headers: HeaderMap,
    raw: RawQuery,
    body: Body,
) -> ApiResult<Response> {
    let query = query(raw);
    // before that some clients sent one that meant nothing
    let platform = if version >= PULLS_PLATFORM { platform(&query)? } else { None };
    match (query.get("fromImage"), query.get("fromSrc")) {
        ("", "") => Err(ApiError::bad_request("say what to get: fromImage=NAME, or fromSrc=- with a tar as body")),
        ("", _) => import::import(&shared, &query, platform, body).await,
        (image, _) => pull(&shared, &headers, &query, platform, image).await,
    }
}

async fn pull(
    shared: &Shared,
    headers: &HeaderMap,
    query: &Query,
    platform: Option<Platform>,
    image: &str,
) -> ApiResult<Response> {
    let reference = joined(image, query.get("tag"))?;
    let info = shared.host.info();
    let options = PullOptions {
        // what is none is as good as none (moby `image_routes.go`): some clients always send something
        credentials: registry_credentials(headers).unwrap_or(None),
        insecure_registries: info.settings.insecure_registries.clone(),
        mirrors: info.settings.registry_mirrors.clone(),
        platform,
        takes_single: true,
        ..PullOptions::default()
    };
    let (store, announcer) = (shared.host.images().clone(), Announcer::of(shared));
    // The pull itself says how it ended: "Digest: …", "Status: …". Without any tag all are meant.
    let work = |progress| async move {
        if reference.tag.is_none() && reference.digest.is_none() {
            let pulled = store.pull_all(&reference, &options, progress).await?;
            pulled.iter().for_each(|reference| announcer.tell_reference("pull", reference));
            return Ok(());
        }
        store.pull(&reference, &options, progress).await?;
        announcer.tell_reference("pull", &reference);
        Ok(())
    };
    progress::answer(work, |()| Vec::new()).await
}

pub(super) async fn load(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    headers: HeaderMap,
    raw: RawQuery,
    body: Body,
) -> ApiResult<Response> {
    // whoever says that it is something else meant another route
    if headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        return Err(ApiError::bad_request(
            "unsupported Content-Type header (application/json): images come as an archive; send it as application/x-tar",
        ));
    }
    let (store, announcer) = (shared.host.images().clone(), Announcer::of(&shared));
    let query = query(raw);
    // as in Docker, who says nothing of it wants it quiet
    let quiet = query.all("quiet").is_empty() || query.flag("quiet");
    let platform = asked_platform(&query, version)?;
    let work = |progress| async move {
        let progress = if quiet { Progress::none() } else { progress };
        let loaded = store.load_for(platform, reader(body), progress).await?;
        loaded.iter().for_each(|image| announcer.tell("load", image.id.as_str(), &name_of(image)));
        Ok(loaded)
    };
    // It goes on when the client has gone: some do not read the answer to its end.
    let spawned = |progress| {
        let working = tokio::spawn(work(progress));
        async { working.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) }
    };
    // Docker answers so whatever fails, and its clients look for failures there.
    let last_lines = |images: Vec<LoadedImage>| -> Vec<Value> { images.iter().flat_map(loaded_lines).collect() };
    Ok(progress::stream(spawned, last_lines).await)
}

pub(super) fn name_of(image: &LoadedImage) -> String {
    image.references.first().map_or_else(|| image.id.to_string(), ImageReference::familiar)
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

/// `/images/{name}/tag` and `…/push`, where the name may hold slashes.
pub(super) async fn of_one(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(rest): Path<String>,
    headers: HeaderMap,
    raw: RawQuery,
) -> ApiResult<Response> {
    match rest.rsplit_once('/') {
        Some((name, "tag")) => {
            let query = query(raw);
            let reference = joined(query.get("repo"), query.get("tag"))?.with_default_tag();
            let store = shared.host.images();
            if reference.familiar_name() == "sha256" {
                let text = "refusing to create an ambiguous tag using digest algorithm as name: choose another";
                return Err(ApiError::bad_request(text));
            }
            store.tag(name, &reference).await?;
            let id = store.get(&reference.to_string())?;
            Announcer::of(&shared).tell("tag", id.as_str(), &reference.familiar());
            Ok(StatusCode::CREATED.into_response())
        }
        Some((name, "push")) => {
            let query = query(raw);
            // before that some clients sent one that meant nothing
            let asked = if version >= PUSHES_PLATFORM { query.get("platform") } else { "" };
            if let Some(platform) = convert::platform::read(asked)? {
                let wanted = joined(name, query.get("tag"))?.with_default_tag().to_string();
                shared.host.images().inspect(&wanted)?.fits(name, &platform)?;
            }
            push(&shared, &headers, name, query.get("tag")).await
        }
        _ => Err(ApiError::not_found("page not found")),
    }
}

/// One tag; without any, all that this host has of the repository.
async fn push(shared: &Shared, headers: &HeaderMap, name: &str, tag: &str) -> ApiResult<Response> {
    let wanted = joined(name, tag)?;
    let options = PushOptions {
        // what is none is as good as none (moby `image_routes.go`): some clients always send something
        credentials: registry_credentials(headers).unwrap_or(None),
        insecure_registries: shared.host.info().settings.insecure_registries.clone(),
        ..PushOptions::default()
    };
    let (store, announcer) = (shared.host.images().clone(), Announcer::of(shared));
    let work = |progress: Progress| async move {
        let mut pushed = Vec::new();
        for reference in store.begin_push(&wanted, &progress)? {
            pushed.push(store.push(&reference, &options, progress.clone()).await?);
            announcer.tell_reference("push", &reference);
        }
        Ok(pushed)
    };
    let aux = |image: &PushedImage| json!({ "progressDetail": {}, "aux": { "Tag": image.tag, "Digest": image.digest.as_str(), "Size": image.size } });
    progress::answer(work, move |pushed: Vec<PushedImage>| pushed.iter().map(aux).collect()).await
}

pub(super) async fn remove(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    raw: RawQuery,
) -> ApiResult<Json<Value>> {
    let (store, query) = (shared.host.images(), query(raw));
    let image = store.inspect(&name)?;
    let platforms = if version >= REMOVES_PLATFORMS { query.all("platforms") } else { Vec::new() };
    match platforms.as_slice() {
        [] => {}
        [text] => convert::platform::read(text)?.map_or(Ok(()), |platform| image.fits(&name, &platform))?,
        _ => return Err(ApiError::bad_request("multiple platforms are not supported: name one")),
    }
    let id = image.summary.id;
    let running = shared.host.running_containers().await.map_err(ApiError::internal)?;
    let how = RemoveOptions { force: query.flag("force"), keep_parents: query.flag("noprune"), running };
    let gone = store.remove(&name, how).await?;
    Announcer::of(&shared).tell_removed(id.as_str(), &gone);
    Ok(Json(removed(&gone)))
}

pub(super) async fn prune(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Value>> {
    let mut filters = query(raw).filters()?;
    let all = label_filter::boolean(&filters, "dangling")? == Some(false);
    label_filter::check_keys(&filters, "pruning images", &["dangling", "label", "label!", "until"])?;
    filters.remove("dangling");
    let store = shared.host.images();
    let criteria = Criteria::read(filters, store, &["label", "label!", "until"])?;
    let swept = store.prune(all, move |image| !criteria.fits(image)).await?;
    let announcer = Announcer::of(&shared);
    announcer.tell_removed("", &swept.removed);
    announcer.tell_pruned(swept.bytes);
    let deleted = (!swept.removed.is_empty()).then(|| removed(&swept.removed));
    Ok(Json(json!({ "ImagesDeleted": deleted, "SpaceReclaimed": swept.bytes })))
}

/// Clients send name and tag (or digest) apart, or both in the name; of two tags the one apart counts, as in Docker.
pub(super) fn joined(name: &str, tag: &str) -> ApiResult<ImageReference> {
    // a colon behind the last slash is not that of a registry's port
    let bare = match name.rsplit_once(':') {
        Some((bare, own)) if !own.contains('/') && !bare.contains('@') => bare,
        _ => name,
    };
    let text = match tag {
        "" => name.to_owned(),
        digest if digest.starts_with("sha256:") => format!("{bare}@{digest}"),
        tag => format!("{bare}:{tag}"),
    };
    text.parse().map_err(|why: types::ImageReferenceError| ApiError::bad_request(why.to_string()))
}

fn platform(query: &Query) -> ApiResult<Option<Platform>> {
    match query.get("platform") {
        "" => Ok(None),
        text => Ok(Some(text.parse::<Platform>()?)),
    }
}

pub(super) fn reader(body: Body) -> impl AsyncRead + Unpin + Send + 'static {
    StreamReader::new(Box::pin(body.into_data_stream().map_err(std::io::Error::other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_03_of_two_tags_the_one_apart_counts() {
        let shown = |name: &str, tag: &str| joined(name, tag).map(|reference| reference.familiar()).ok();
        for (name, tag, wanted) in [
            ("busybox", "1", "busybox:1"),
            ("busybox:uclibc", "", "busybox:uclibc"),
            ("busybox:uclibc", "uclibc", "busybox:uclibc"),
            ("reg:5000/a:1", "2", "reg:5000/a:2"),
        ] {
            assert_eq!(shown(name, tag).as_deref(), Some(wanted), "{name} {tag}");
        }
        assert_eq!(shown("busybox", "a b"), None);
    }
}
