//! `/images/create` with `fromSrc`: a root filesystem becomes an image, sent as the body or fetched from an address.

use axum::{body::Body, response::Response};
use futures::StreamExt as _;
use node::image::{ImportOptions, LoadedImage, Platform};
use serde_json::json;

use super::{
    Announcer,
    change::{joined, name_of, reader},
    progress,
};
use crate::{error::ApiResult, query::Query, router::Shared};

/// More than most images have; reading it costs a second.
const MAX_UNWANTED_BYTES: usize = 1 << 30;

/// What stands for the body.
const BODY: &str = "-";

pub(super) async fn import(
    shared: &Shared,
    query: &Query,
    platform: Option<Platform>,
    body: Body,
) -> ApiResult<Response> {
    let reference = match query.get("repo") {
        "" => None,
        repository => Some(joined(repository, query.get("tag"))?.with_default_tag()),
    };
    let source = query.get("fromSrc");
    let message = match query.get("message") {
        "" => format!("Imported from {source}"),
        message => message.to_owned(),
    };
    let platform = platform.map(|platform| as_written(platform, query.get("platform")));
    let options = ImportOptions { reference, changes: query.all("changes"), message, platform };
    if let Err(refused) = options.check() {
        read_to_the_end(body).await;
        return Err(refused.into());
    }
    let address = (source != BODY).then(|| address(source));
    let (store, announcer, tagged) = (shared.host.images().clone(), Announcer::of(shared), options.reference.clone());
    let work = |progress| async move {
        let loaded = match address {
            Some(address) => store.import_from(&address, options, progress).await?,
            None => store.import(reader(body), options).await?,
        };
        if let Some(reference) = tagged {
            announcer.tell("tag", loaded.id.as_str(), &reference.familiar());
        }
        announcer.tell("import", loaded.id.as_str(), &name_of(&loaded));
        Ok(loaded)
    };
    progress::answer(work, |loaded: LoadedImage| vec![json!({ "status": loaded.id.to_string() })]).await
}

/// Without a scheme it is HTTP.
fn address(source: &str) -> String {
    if source.contains("://") { source.to_owned() } else { format!("http://{source}") }
}

/// An image says of its platform what somebody wrote: containerd, whose rules these are, knows what an architecture is by
/// itself, and keeps it where it was named.
fn as_written(mut platform: Platform, text: &str) -> Platform {
    let has_variant = text.split('/').count() > 2;
    match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("arm64", None) if has_variant => platform.variant = Some("v8".to_owned()),
        ("arm", Some("v7")) if !has_variant => platform.variant = None,
        _ => {}
    }
    platform
}

/// A client that cannot send all it has takes that for the failure, and does not read the answer.
async fn read_to_the_end(body: Body) {
    let mut rest = MAX_UNWANTED_BYTES;
    let mut pieces = body.into_data_stream();
    while let Some(Ok(piece)) = pieces.next().await {
        rest = rest.saturating_sub(piece.len());
        if rest == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-08
    #[test]
    fn e_08_platforms_of_imported_images() {
        for (text, wanted) in [
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm64", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm", "linux/arm"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/amd64", "linux/amd64"),
        ] {
            assert_eq!(as_written(text.parse().expect(text), text).to_string(), wanted);
        }
    }

    #[test]
    fn e_08_addresses_to_import_from() {
        assert_eq!(address("example.test/root.tar"), "http://example.test/root.tar");
        assert_eq!(address("https://example.test/root.tar"), "https://example.test/root.tar");
    }
}
