//! Questions to a registry that concern no image of this host: may we in, and what does Docker Hub offer.

use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use types::ImageReference;

use super::{
    auth::percent_encode,
    client::Registry,
    endpoint::{Candidate, candidate},
    http::read_body,
    push::PushOptions,
    tls::CertificateDirectories,
};
use crate::{
    document::{MAX_MANIFEST_BYTES, null_default},
    error::{Error, Result},
};

/// Docker Hub's index, the only registry with a search.
const HUB_INDEX: &str = "index.docker.io";

/// One repository of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SearchResult {
    pub name: String,
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    #[serde(default)]
    pub star_count: u64,
    #[serde(default)]
    pub is_official: bool,
}

/// Asks Docker Hub for repositories.
///
/// # Errors
/// [`Error::RegistryUnreachable`] without a way there, or what it answers.
pub async fn search(term: &str, limit: u64) -> Result<Vec<SearchResult>> {
    #[derive(Deserialize)]
    struct Answer {
        results: Vec<SearchResult>,
    }
    let candidate = Candidate::verified(HUB_INDEX);
    let registry = Registry::open(&candidate, "", None, &CertificateDirectories::default()).await?;
    let url = format!("https://{HUB_INDEX}/v1/search?q={}&n={limit}", percent_encode(term));
    let what = format!("search for {term:?}");
    let answer = registry.request(Method::GET, &url, &[], Bytes::new(), &what).await?;
    if !answer.status().is_success() {
        return Err(registry.refusal(answer, &what).await);
    }
    let bytes = read_body(answer.into_body(), MAX_MANIFEST_BYTES).await.map_err(|e| registry.failed(e))?;
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|source| Error::BadDocument { what, source })?;
    Ok(answer.results)
}

/// Whether a registry (`host[:port]`, empty for Docker Hub) takes the credentials.
///
/// # Errors
/// [`Error::Unauthorized`] where it does not, [`Error::RegistryUnreachable`] where nobody is there.
pub async fn check_login(server: &str, options: &PushOptions) -> Result<()> {
    let host = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    // The endpoints of a registry are found by a name in it.
    let name = if matches!(host, "" | "index.docker.io" | "docker.io") { "x".to_owned() } else { format!("{host}/x") };
    let reference: ImageReference = name.parse()?;
    let candidate = candidate(&reference, &options.insecure_registries).await;
    Registry::open(&candidate, "", options.credentials.clone(), &options.certificates).await?.log_in().await
}
