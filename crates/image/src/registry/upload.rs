//! The requests of a push: is a blob there, mount or send one, store a manifest. Called by push only.

use std::sync::{Arc, atomic::AtomicU64};

use bytes::Bytes;
use hyper::{Method, StatusCode, Uri, header};

use super::{
    auth::percent_encode,
    client::Registry,
    http::{Upload, join_url},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// What a registry answers to the wish to send a blob.
pub(super) enum Begun {
    /// It took the blob from another of its repositories.
    Mounted,
    /// Where to send it.
    At(String),
}

/// A blob on this host's disk.
pub(super) struct LocalBlob<'a> {
    pub digest: &'a Digest,
    pub file: tokio::fs::File,
    pub bytes: u64,
    pub sent: Arc<AtomicU64>,
}

impl Registry {
    fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.endpoint.base, self.repository)
    }

    fn blob_name(&self, digest: &Digest) -> String {
        format!("blob {} of {}", digest.short(), self.repository)
    }

    pub(super) async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let what = self.blob_name(digest);
        let url = self.url(&format!("blobs/{digest}"));
        let answer = self.request(Method::HEAD, &url, &[], Bytes::new(), &what).await?;
        match answer.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refusal(answer, &what).await),
        }
    }

    /// Asks for a place to send a blob to, or for the registry to take it from one of its own repositories.
    pub(super) async fn begin_blob(&self, digest: &Digest, from: Option<&str>) -> Result<Begun> {
        let what = self.blob_name(digest);
        let query = match from {
            Some(from) => format!("?mount={digest}&from={}", percent_encode(from)),
            None => String::new(),
        };
        let url = self.url(&format!("blobs/uploads/{query}"));
        let answer = self.request(Method::POST, &url, &[], Bytes::new(), &what).await?;
        match answer.status() {
            StatusCode::CREATED => return Ok(Begun::Mounted),
            StatusCode::ACCEPTED => {}
            _ => return Err(self.refusal(answer, &what).await),
        }
        let base: Option<Uri> = url.parse().ok();
        let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let place = base.zip(location).and_then(|(base, location)| join_url(&base, location));
        let place = place.ok_or_else(|| self.protocol("it does not say where to send a blob".to_owned()))?;
        if self.endpoint.wants_tls() && place.scheme_str() != Some("https") {
            return Err(self.protocol(format!("it wants {what} sent to {place}, which has no TLS")));
        }
        Ok(Begun::At(place.to_string()))
    }

    pub(super) async fn send_blob(&self, place: &str, blob: LocalBlob<'_>) -> Result<()> {
        let what = self.blob_name(blob.digest);
        let separator = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{separator}digest={}", percent_encode(blob.digest.as_str()));
        // Credentials are the registry's; a storage elsewhere has its own in the address.
        let authorization = if is_below(&self.endpoint.base, place) { self.authorization() } else { None };
        let upload = Upload { url, authorization, file: blob.file, bytes: blob.bytes, sent: blob.sent };
        let answer = self.http.upload(upload).await.map_err(|e| self.failed(e))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => {
                Err(self.protocol(format!("it answers {status} to {what}, which was sent already")))
            }
            _ => Err(self.refusal(answer, &what).await),
        }
    }

    pub(super) async fn put_manifest(&self, tag: &str, media_type: &str, bytes: Vec<u8>) -> Result<()> {
        let what = self.name_of(tag);
        let url = self.url(&format!("manifests/{tag}"));
        let headers = [(header::CONTENT_TYPE, media_type.to_owned())];
        let answer = self.request(Method::PUT, &url, &headers, bytes.into(), &what).await?;
        if answer.status().is_success() { Ok(()) } else { Err(self.refusal(answer, &what).await) }
    }

    /// Whether the registry takes the credentials.
    pub(super) async fn log_in(&self) -> Result<()> {
        let url = format!("{}/v2/", self.endpoint.base);
        let answer = self.request(Method::GET, &url, &[], Bytes::new(), "the registry").await?;
        if answer.status().is_success() { Ok(()) } else { Err(self.refusal(answer, "the registry").await) }
    }

    /// All tags of the repository.
    pub(super) async fn tags(&self) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Answer {
            #[serde(default, deserialize_with = "crate::document::null_default")]
            tags: Vec<String>,
        }
        let what = self.repository.clone();
        let mut url = self.url("tags/list");
        let mut all = Vec::new();
        for _ in 0..MAX_TAG_PAGES {
            let answer = self.request(Method::GET, &url, &[], Bytes::new(), &what).await?;
            if !answer.status().is_success() {
                return Err(self.refusal(answer, &what).await);
            }
            let next = answer.headers().get(header::LINK).and_then(|link| next_page(link.to_str().ok()?));
            let base: Option<Uri> = url.parse().ok();
            let next = base.zip(next).and_then(|(base, next)| join_url(&base, &next));
            let body = super::http::read_body(answer.into_body(), crate::document::MAX_MANIFEST_BYTES);
            let bytes = body.await.map_err(|e| self.failed(e))?;
            let page: Answer = serde_json::from_slice(&bytes)
                .map_err(|source| Error::BadDocument { what: format!("list of the tags of {what}"), source })?;
            all.extend(page.tags);
            match next.filter(|next| is_below(&self.endpoint.base, &next.to_string())) {
                Some(next) => url = next.to_string(),
                None => return Ok(all),
            }
        }
        Err(self.protocol(format!("its list of the tags of {what} has no end")))
    }
}

/// Whether the registry itself is asked there, and no host whose name begins as its does.
fn is_below(base: &str, url: &str) -> bool {
    url.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
}

/// Registries give a hundred or a thousand tags on a page.
const MAX_TAG_PAGES: usize = 100;

/// `</v2/a/tags/list?last=x>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (target, relation) = link.split_once('>')?;
    relation.contains("next").then(|| target.trim_start().trim_start_matches('<').to_owned())
}

#[cfg(test)]
mod tests {
    use super::{is_below, next_page};

    /// E-03, E-04: credentials go to nobody else.
    #[test]
    fn e_03_e_04_other_hosts_are_not_the_registry() {
        let base = "https://r.test";
        assert!(is_below(base, "https://r.test/v2/a/tags/list?last=x"));
        for other in ["https://r.test.evil.test/v2/", "https://r.test:5000/v2/", "http://r.test/v2/", "https://r.test"]
        {
            assert!(!is_below(base, other), "{other}");
        }
    }

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(next_page("</v2/a/tags/list?n=1>; rel=\"next\"").as_deref(), Some("/v2/a/tags/list?n=1"));
        assert_eq!(next_page("</x>; rel=\"prev\""), None);
        assert_eq!(next_page("nonsense"), None);
    }
}
