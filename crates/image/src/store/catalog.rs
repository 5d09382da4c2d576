//! What the store knows: images, their names, their layers. One value, saved whole.
//! Pure: lookups and the decisions of tag; called by the store under its lock. Never does I/O. What `rmi` takes away is
//! decided in [`super::removal`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::ImageReference;

use super::uses::TaskUse;
use crate::{
    config::ImageConfig,
    digest::Digest,
    error::{Error, Result},
};

/// Changes when the file's meaning changes.
pub(crate) const FORMAT: u32 = 1;
/// Shorter prefixes of an id hit too easily.
const MIN_ID_PREFIX: usize = 4;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Catalog {
    pub format: u32,
    /// By id: the digest of the configuration.
    pub images: BTreeMap<Digest, ImageRecord>,
    /// `registry/repository:tag` -> image.
    pub tags: BTreeMap<String, Digest>,
    /// `registry/repository@digest` -> image.
    pub digests: BTreeMap<String, Digest>,
    /// When an image got a tag last (RFC 3339), by its id.
    #[serde(default)]
    pub tagged: BTreeMap<Digest, String>,
    /// What tasks do with an image, by its id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uses: BTreeMap<Digest, TaskUse>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub manifest: Digest,
    /// Indexes it was found through, as far as they were kept: with them another host can see that a digest means it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub indexes: BTreeSet<Digest>,
    /// The image of the container that it was committed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// Lowest first.
    pub layers: Vec<LayerRecord>,
    pub config: ImageConfig,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// The (compressed) tar as it came.
    pub blob: Digest,
    /// The uncompressed tar.
    pub diff_id: Digest,
    /// Sum of the sizes of its files.
    pub bytes: u64,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            format: FORMAT,
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            digests: BTreeMap::new(),
            tagged: BTreeMap::new(),
            uses: BTreeMap::new(),
        }
    }
}

impl Catalog {
    /// The image of a name, full id, id prefix or manifest digest.
    pub(crate) fn lookup(&self, name: &str) -> Result<Digest> {
        // in Docker's words: with the tag that was meant
        let missing = || {
            let meant = name.parse::<ImageReference>().map(|reference| reference.with_default_tag().familiar());
            Error::NoSuchImage(meant.unwrap_or_else(|_| name.to_owned()))
        };
        if let Ok(digest) = name.parse::<Digest>() {
            if self.images.contains_key(&digest) {
                return Ok(digest);
            }
            return self
                .images
                .iter()
                .find(|(_, r)| r.manifest == digest)
                .map(|(id, _)| id.clone())
                .ok_or_else(missing);
        }
        if let Ok(reference) = name.parse::<ImageReference>()
            && let Some(id) = self.by_reference(&reference.with_default_tag())
        {
            return Ok(id);
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex = prefix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if prefix.len() < MIN_ID_PREFIX || !is_hex {
            // Neither a name nor an id: say what is wrong with it as a name.
            name.parse::<ImageReference>()?;
            return Err(missing());
        }
        let matching: Vec<&Digest> = self.images.keys().filter(|id| id.hex().starts_with(prefix)).collect();
        match matching.as_slice() {
            [] => Err(missing()),
            [id] => Ok((*id).clone()),
            many => Err(Error::AmbiguousId { prefix: prefix.to_owned(), matches: many.len() }),
        }
    }

    pub(crate) fn by_reference(&self, reference: &ImageReference) -> Option<Digest> {
        match &reference.digest {
            Some(digest) => self.digests.get(&format!("{}@{digest}", reference.name())).cloned(),
            None => self.tags.get(&reference.to_string()).cloned(),
        }
    }

    /// Tags of an image, canonical.
    pub(crate) fn tags_of(&self, id: &Digest) -> Vec<&str> {
        self.tags.iter().filter(|(_, target)| *target == id).map(|(name, _)| name.as_str()).collect()
    }

    /// `name@digest` of an image, canonical.
    pub(crate) fn digests_of(&self, id: &Digest) -> Vec<&str> {
        self.digests.iter().filter(|(_, target)| *target == id).map(|(name, _)| name.as_str()).collect()
    }

    /// Points a tag to an image; the one it pointed to before stays, maybe without a name.
    pub(crate) fn tag(&mut self, id: &Digest, reference: &ImageReference, now: jiff::Timestamp) {
        let mut plain = reference.clone();
        plain.digest = None;
        if reference.tag.is_some() || reference.digest.is_none() {
            self.tags.insert(plain.with_default_tag().to_string(), id.clone());
            self.tagged.insert(id.clone(), now.to_string());
        }
    }

    /// Every blob and layer some image needs.
    pub(crate) fn needed(&self) -> (BTreeSet<&Digest>, BTreeSet<&Digest>) {
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for (id, record) in &self.images {
            blobs.extend([id, &record.manifest]);
            blobs.extend(&record.indexes);
            blobs.extend(record.layers.iter().map(|l| &l.blob));
            layers.extend(record.layers.iter().map(|l| &l.diff_id));
        }
        (blobs, layers)
    }
}

/// The short form of a canonical name.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<ImageReference>().map_or_else(|_| name.to_owned(), |r| r.familiar())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::removal::{RemoveOptions, Users};

    pub(crate) fn id(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    /// Images `a` (x:1, x:2, x@digest) and `b` (y:latest) and `c` without a name.
    pub(crate) fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        for name in ["a", "b", "c"] {
            let record = ImageRecord {
                manifest: id(&format!("manifest {name}")),
                indexes: BTreeSet::new(),
                parent: None,
                layers: vec![],
                config: ImageConfig::default(),
            };
            catalog.images.insert(id(name), record);
        }
        for (image, name) in [("a", "x:1"), ("a", "x:2"), ("b", "y")] {
            catalog.tag(&id(image), &name.parse().expect(name), jiff::Timestamp::UNIX_EPOCH);
        }
        catalog.digests.insert(format!("docker.io/library/x@{}", id("manifest a")), id("a"));
        catalog
    }

    /// E-06: `docker compose images` shows it.
    #[test]
    fn e_06_when_an_image_got_a_tag_last_is_known_as_long_as_it_is() {
        let mut catalog = catalog();
        let later = jiff::Timestamp::from_second(60).expect("a time");
        catalog.tag(&id("a"), &"x:3".parse().expect("good"), later);
        let at = |catalog: &Catalog, image: &str| catalog.tagged.get(&id(image)).cloned().unwrap_or_default();
        assert_eq!(
            (at(&catalog, "a").as_str(), at(&catalog, "b").as_str()),
            ("1970-01-01T00:01:00Z", "1970-01-01T00:00:00Z")
        );
        assert_eq!(at(&catalog, "c"), "", "it has no name");
        catalog.remove("y", &RemoveOptions::default(), |_| Users::default()).expect("its only name");
        assert_eq!(at(&catalog, "b"), "");
    }

    #[test]
    fn images_are_found_by_every_name() {
        let catalog = catalog();
        for name in ["x:1", "docker.io/library/x:2", id("a").as_str(), id("a").short(), &id("a").hex()[..4]] {
            assert_eq!(catalog.lookup(name).expect(name), id("a"), "{name}");
        }
        assert_eq!(catalog.lookup(id("manifest b").as_str()).expect("manifest digest"), id("b"));
        assert_eq!(catalog.lookup(&format!("x@{}", id("manifest a"))).expect("repo digest"), id("a"));
        for name in ["x", "z", "x:3", "abc", "0000000"] {
            assert!(matches!(catalog.lookup(name), Err(Error::NoSuchImage(_))), "{name}");
        }
        assert!(matches!(catalog.lookup("UPPER"), Err(Error::Reference(_))));
    }
}
