//! `index.json` of an OCI layout: manifests by digest, maybe through nested indexes.

use std::sync::Arc;

use types::ImageReference;

use super::load::{Candidate, Files};
use crate::{
    document::{Descriptor, Document, Index, MAX_MANIFEST_BYTES},
    error::{Error, Result},
    platform::{Platform, choose},
    store::blobs::Spooled,
};

/// The full name, written by containerd and Docker; the second key often has only the tag.
pub(super) const NAME_KEY: &str = "io.containerd.image.name";
pub(super) const REF_NAME_KEY: &str = "org.opencontainers.image.ref.name";
/// Deeper nesting than an index of indexes is not seen.
const MAX_NESTING: usize = 4;

pub(super) fn images(files: &Files, host: &Platform) -> Result<Vec<Candidate>> {
    let bytes = files.need("index.json")?.read("index.json", MAX_MANIFEST_BYTES)?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|source| Error::BadDocument { what: "index.json of the archive".to_owned(), source })?;
    // Each entry of the outer index is an image of its own; platforms are chosen further in, or here
    // where entries share a name.
    let entries = index.runnable();
    let mut found: Vec<Candidate> = Vec::new();
    for entry in &entries {
        let fits = entry.normal_platform().is_none_or(|p| p.rank_on(host).is_some());
        if !fits && entries.len() > 1 {
            continue;
        }
        found.push(image(files, entry, name_of(entry)?, host)?);
    }
    if found.is_empty() && !entries.is_empty() {
        let offered = entries.iter().filter_map(|e| e.normal_platform()).map(|p| p.to_string()).collect();
        return Err(Error::NoMatchingPlatform {
            image: "of the archive".to_owned(),
            needed: host.to_string(),
            offered,
        });
    }
    Ok(found)
}

fn name_of(entry: &Descriptor) -> Result<Option<ImageReference>> {
    if let Some(name) = entry.annotations.get(NAME_KEY) {
        return Ok(Some(name.parse()?));
    }
    // A bare tag such as "latest" says nothing about the repository.
    let name = entry.annotations.get(REF_NAME_KEY).filter(|name| name.contains([':', '/', '@']));
    Ok(name.map(|name| name.parse()).transpose()?)
}

fn image(files: &Files, entry: &Descriptor, name: Option<ImageReference>, host: &Platform) -> Result<Candidate> {
    let what = name.as_ref().map_or_else(|| format!("image {}", entry.digest.short()), ImageReference::familiar);
    let mut current = entry.clone();
    for _ in 0..MAX_NESTING {
        let file = files.blob(&current.digest)?;
        match Document::parse(&what, &file.read(&what, MAX_MANIFEST_BYTES)?)? {
            Document::Manifest(manifest) => {
                let layers =
                    manifest.layers.iter().map(|l| files.blob(&l.digest)).collect::<Result<Vec<Arc<Spooled>>>>()?;
                let config = files.blob(&manifest.config.digest)?;
                let names = name.into_iter().map(ImageReference::with_default_tag).collect();
                return Ok(Candidate { what, names, config, layers, manifest: Some(file), parent: None });
            }
            Document::Index(index) => current = choose_entry(&what, &index, host)?,
        }
    }
    Err(Error::Unusable { what, reason: format!("indexes are nested deeper than {MAX_NESTING}") })
}

/// The manifest for `host`; an entry without a platform is taken where nothing else fits.
pub(crate) fn choose_entry(what: &str, index: &Index, host: &Platform) -> Result<Descriptor> {
    let runnable = index.runnable();
    let (named, unnamed): (Vec<&Descriptor>, Vec<&Descriptor>) =
        runnable.into_iter().partition(|d| d.platform.is_some());
    let offered: Vec<Platform> = named.iter().filter_map(|d| d.normal_platform()).collect();
    let chosen = choose(&offered, host).map(|i| named[i]).or_else(|| unnamed.first().copied());
    chosen.cloned().ok_or_else(|| Error::NoMatchingPlatform {
        image: what.to_owned(),
        needed: host.to_string(),
        offered: offered.iter().map(ToString::to_string).collect(),
    })
}
