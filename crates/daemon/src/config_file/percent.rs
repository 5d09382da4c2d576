//! Shares of a disk in the file: a number of percent, or a text such as `off`. Pure.

use anyhow::{Result, anyhow};
use node::engine::Percent;
use serde::Deserialize;

use super::ConfigFile;

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Share {
    Number(u64),
    Text(String),
}

impl ConfigFile {
    /// The high and the low share at which images are collected, where it says one.
    pub(super) fn image_gc(&self) -> Result<[Option<Percent>; 2]> {
        Ok([read("image-gc-high", self.image_gc_high.as_ref())?, read("image-gc-low", self.image_gc_low.as_ref())?])
    }
}

fn read(key: &str, share: Option<&Share>) -> Result<Option<Percent>> {
    let text = match share {
        None => return Ok(None),
        Some(Share::Number(number)) => number.to_string(),
        Some(Share::Text(text)) => text.clone(),
    };
    text.parse().map(Some).map_err(|why: String| anyhow!("{key:?}: {why}"))
}
