//! `manifest.json` of `docker save`: a list of images by file name. Pure but for reading spooled files.

use std::sync::Arc;

use serde::Deserialize;
use types::ImageReference;

use super::load::{Candidate, Files};
use crate::{
    digest::Digest,
    document::{MAX_MANIFEST_BYTES, null_default},
    error::{Error, Result},
    store::blobs::Spooled,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default, deserialize_with = "null_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_default")]
    layers: Vec<String>,
    /// The id of an image of the same archive; older ones have others' here.
    #[serde(default, deserialize_with = "null_default")]
    parent: String,
}

pub(super) fn images(files: &Files) -> Result<Vec<Candidate>> {
    let bytes = files.need("manifest.json")?.read("manifest.json", MAX_MANIFEST_BYTES)?;
    let bad = |source| Error::BadDocument { what: "manifest.json of the archive".to_owned(), source };
    let items: Vec<Item> = serde_json::from_slice(&bytes).map_err(bad)?;
    items.into_iter().map(|item| candidate(files, item)).collect()
}

fn candidate(files: &Files, item: Item) -> Result<Candidate> {
    let names = item.repo_tags.iter().map(|t| t.parse::<ImageReference>()).collect::<Result<Vec<_>, _>>()?;
    let layers = item.layers.iter().map(|l| files.need(l)).collect::<Result<Vec<Arc<Spooled>>>>()?;
    let config = files.need(&item.config)?;
    Ok(Candidate {
        what: item.repo_tags.into_iter().next().unwrap_or(item.config),
        names,
        config,
        layers,
        manifest: None,
        parent: item.parent.parse::<Digest>().ok(),
    })
}
