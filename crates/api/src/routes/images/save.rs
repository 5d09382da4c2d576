//! `/images/get` and `/images/{name}/get`: images as one tar.

use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use node::image::Platform;
use tokio_util::io::ReaderStream;

use super::{super::query, Announcer, HAS_PLATFORMS};
use crate::{
    convert::platform,
    error::{ApiError, ApiResult},
    query::Query,
    router::{ApiVersion, Shared},
};

/// Between the disk and the connection.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) async fn several(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    raw: RawQuery,
) -> ApiResult<Response> {
    let query = query(raw);
    // Written as `names=a&names=b`, or as one list.
    let names = query.all("names");
    let names: Vec<String> =
        names.iter().flat_map(|names| names.split(',')).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::bad_request("say what to save: names=IMAGE, once for each"));
    }
    answer(&shared, &names, asked_platform(&query, version)?.as_ref())
}

/// The one platform that clients may name since API 1.48.
pub(super) fn asked_platform(query: &Query, version: ApiVersion) -> ApiResult<Option<Platform>> {
    match query.all("platform").as_slice() {
        [text] if version >= HAS_PLATFORMS => platform::read(text),
        [] | [_] => Ok(None),
        _ => Err(ApiError::bad_request("multiple platform parameters not supported: name one")),
    }
}

/// All images are looked up before the answer begins; what fails later breaks the connection off, so that nobody
/// takes half an archive for a whole one.
pub(super) fn answer(shared: &Shared, names: &[String], platform: Option<&Platform>) -> ApiResult<Response> {
    let store = shared.host.images().clone();
    let names = store.meant_to_save(names);
    let ids = names.iter().map(|name| store.get(name)).collect::<Result<Vec<_>, _>>()?;
    if let Some(platform) = platform {
        for name in &names {
            store.inspect(name)?.fits(name, platform).map_err(|why| {
                ApiError::not_found(format!("no suitable export target found for platform {platform}: {why}"))
            })?;
        }
    }
    let announcer = Announcer::of(shared);
    let (reader, writer) = tokio::io::duplex(BUFFER_BYTES);
    let saving = async move {
        store.save(&names, writer).await.map_err(|error| {
            tracing::info!(%error, "saving images broke off");
            std::io::Error::other(error)
        })?;
        for (id, name) in ids.iter().zip(&names) {
            announcer.tell("save", id.as_str(), name);
        }
        Ok::<_, std::io::Error>(())
    };
    // Reader and writer are driven as one, by whoever reads the answer: a client that goes ends both.
    let pieces = ReaderStream::with_capacity(reader, BUFFER_BYTES);
    let body = Body::from_stream(futures::stream::unfold(Some((pieces, Box::pin(saving), None)), step));
    Ok(([(CONTENT_TYPE, "application/x-tar")], body).into_response())
}

type Pieces = ReaderStream<tokio::io::DuplexStream>;
type Ended = std::io::Result<()>;

async fn step<F: Future<Output = Ended>>(
    state: Option<(Pieces, std::pin::Pin<Box<F>>, Option<Ended>)>,
) -> Option<(std::io::Result<bytes::Bytes>, Option<(Pieces, std::pin::Pin<Box<F>>, Option<Ended>)>)> {
    use futures::StreamExt as _;
    let (mut pieces, mut saving, mut ended) = state?;
    loop {
        let piece = tokio::select! {
            biased;
            piece = pieces.next() => piece,
            result = &mut saving, if ended.is_none() => {
                ended = Some(result);
                continue;
            }
        };
        return match (piece, ended) {
            (Some(piece), ended) => Some((piece, Some((pieces, saving, ended)))),
            (None, Some(Err(error))) => Some((Err(error), None)),
            (None, Some(Ok(()))) => None,
            // The writer is dropped a moment before its future says how it went.
            (None, None) => match saving.await {
                Ok(()) => None,
                Err(error) => Some((Err(error), None)),
            },
        };
    }
}
