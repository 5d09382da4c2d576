//! What a name means right now, without downloading the image: the digest a service is pinned to, and
//! the platforms the scheduler needs to know.

use types::ImageReference;

use super::{
    client::{Fetched, Registry},
    endpoint::{Candidate, candidates},
    pull::PullOptions,
};
use crate::{
    config::ImageConfig,
    digest::Digest,
    document::{Descriptor, Document, MAX_CONFIG_BYTES, OCI_INDEX, OCI_MANIFEST},
    error::{Error, Result},
    platform::Platform,
};

/// Manifests are small: three quick tries before the caller's own patience counts.
const ATTEMPTS: u32 = 3;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

/// The answer of [`resolve_digest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Of the index where there is one, so that every platform gets its own image from it.
    pub digest: Digest,
    /// Of the manifest or index itself.
    pub media_type: String,
    pub size: u64,
    pub platforms: Vec<Platform>,
}

/// Asks the registry for the digest and the platforms of an image.
///
/// # Errors
/// As [`crate::Store::pull`], except those of the disk.
pub async fn resolve_digest(reference: &ImageReference, options: &PullOptions) -> Result<Resolved> {
    let reference = reference.clone().with_default_tag();
    let (registry, fetched) = find(&reference, options).await?;
    let what = reference.familiar();
    let or = |own: String, default: &str| if own.is_empty() { default.to_owned() } else { own };
    let (media_type, platforms) = match Document::parse(&what, &fetched.bytes)? {
        Document::Index(index) => {
            let platforms = index.runnable().iter().filter_map(|d| d.normal_platform()).collect();
            (or(index.media_type, OCI_INDEX), platforms)
        }
        Document::Manifest(manifest) => {
            let platform = config_of(&registry, &manifest.config, &what).await?.platform();
            (or(manifest.media_type, OCI_MANIFEST), vec![platform])
        }
    };
    Ok(Resolved { digest: fetched.digest, media_type, size: fetched.bytes.len() as u64, platforms })
}

/// The first endpoint that has the image, and the manifest or index it has.
pub(super) async fn find(reference: &ImageReference, options: &PullOptions) -> Result<(Registry, Fetched)> {
    let wanted = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
    let mut errors = Vec::new();
    for candidate in candidates(reference, &options.mirrors, &options.insecure_registries).await {
        match find_at(&candidate, &reference.repository, wanted, options).await {
            Ok(found) => return Ok(found),
            Err(error) => errors.push(error),
        }
    }
    Err(most_telling(errors).unwrap_or_else(|| Error::NoSuchImage(reference.familiar())))
}

async fn find_at(
    candidate: &Candidate,
    repository: &str,
    wanted: &str,
    options: &PullOptions,
) -> Result<(Registry, Fetched)> {
    let registry = Registry::open(candidate, repository, options.credentials.clone(), &options.certificates).await?;
    let fetched = patiently(&registry, wanted).await?;
    Ok((registry, fetched))
}

async fn patiently(registry: &Registry, wanted: &str) -> Result<Fetched> {
    let mut attempt = 1;
    loop {
        match registry.manifest(wanted).await {
            // Nobody listening will not change in a second; a busy registry may.
            Err(Error::RegistryStatus { status, .. }) if attempt < ATTEMPTS && (status == 429 || status >= 500) => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// The last endpoint is the registry itself, but "unreachable" says less than any answer.
fn most_telling(mut errors: Vec<Error>) -> Option<Error> {
    let unreachable = |e: &Error| matches!(e, Error::RegistryUnreachable { .. } | Error::RegistryProtocol { .. });
    match errors.iter().rposition(|e| !unreachable(e)) {
        Some(index) => Some(errors.swap_remove(index)),
        None => errors.into_iter().next(),
    }
}

/// Reads a configuration without keeping it.
async fn config_of(registry: &Registry, descriptor: &Descriptor, what: &str) -> Result<ImageConfig> {
    let response = registry.blob(&descriptor.digest, 0).await?;
    let body = super::http::read_body(response.into_body(), MAX_CONFIG_BYTES).await.map_err(|e| registry.failed(e))?;
    let (expected, actual) = (descriptor.digest.clone(), Digest::of(&body));
    if actual != expected {
        return Err(Error::DigestMismatch { what: format!("configuration of {what}"), expected, actual });
    }
    ImageConfig::parse(what, &body)
}
