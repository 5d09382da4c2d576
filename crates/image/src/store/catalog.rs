//! What the store knows: images, their names, their layers. One value, saved whole.
//! Pure: lookups and the decisions of tag and remove; called by the store under its lock. Never does I/O.

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

/// What removing an image did, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name (short form) no longer points to the image.
    Untagged(String),
    Deleted(Digest),
}

/// Containers that have a snapshot of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Users {
    pub mounted: Vec<String>,
    pub idle: Vec<String>,
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
        let missing = || Error::NoSuchImage(name.to_owned());
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

    /// Removes a name, and the image with its last name. `users` are the containers of the image.
    pub(crate) fn remove(&mut self, name: &str, force: bool, users: impl Fn(&Digest) -> Users) -> Result<Vec<Removed>> {
        let id = self.lookup(name)?;
        let users = users(&id);
        let tags: Vec<String> = self.tags_of(&id).into_iter().map(str::to_owned).collect();
        let asked = self.name_of(name, &id);
        if let Some(asked) = &asked
            && self.others_remain(asked, &tags)
        {
            return Ok(self.untag(std::slice::from_ref(asked)));
        }
        let repositories: BTreeSet<&str> = tags.iter().map(|t| repository(t)).collect();
        let is_shared = asked.is_none() && repositories.len() > 1 && !force;
        if let Some(why) = conflict(asked.as_deref(), &id, is_shared, &users, force) {
            return Err(Error::Conflict(why));
        }
        let mut names = tags;
        names.extend(self.digests_of(&id).into_iter().map(str::to_owned));
        let mut removed = self.untag(&names);
        // A container still needs the layers: the image stays, without a name.
        if users.idle.is_empty() {
            self.images.remove(&id);
            self.tagged.remove(&id);
            self.uses.remove(&id);
            removed.push(Removed::Deleted(id));
        }
        Ok(removed)
    }

    /// The canonical name `name` stands for, or nothing where it is an id.
    fn name_of(&self, name: &str, id: &Digest) -> Option<String> {
        let reference = name.parse::<ImageReference>().ok()?.with_default_tag();
        if self.by_reference(&reference).as_ref() != Some(id) {
            return None;
        }
        Some(match &reference.digest {
            Some(digest) => format!("{}@{digest}", reference.name()),
            None => reference.to_string(),
        })
    }

    /// Whether the image still has a tag when `asked` is gone. A digest kept for a tag is no name by itself.
    fn others_remain(&self, asked: &str, tags: &[String]) -> bool {
        tags.iter().any(|tag| tag != asked)
    }

    /// Takes names away, and the digests of a repository with its last tag.
    fn untag(&mut self, names: &[String]) -> Vec<Removed> {
        let mut removed = Vec::new();
        for name in names {
            let Some(id) = self.tags.remove(name).or_else(|| self.digests.remove(name)) else { continue };
            removed.push(Removed::Untagged(familiar(name)));
            let of_repository = |other: &str| repository(other) == repository(name);
            if self.tags_of(&id).into_iter().any(of_repository) {
                continue;
            }
            let orphans: Vec<String> =
                self.digests_of(&id).into_iter().filter(|d| of_repository(d)).map(str::to_owned).collect();
            for digest in orphans {
                self.digests.remove(&digest);
                removed.push(Removed::Untagged(familiar(&digest)));
            }
        }
        removed
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

/// Why an image cannot lose its last name, in Docker's words: scripts look for them.
fn conflict(asked: Option<&str>, id: &Digest, is_shared: bool, users: &Users, force: bool) -> Option<String> {
    let short = |container: &String| container.chars().take(12).collect::<String>();
    let image = id.short();
    if is_shared {
        return Some(format!(
            "unable to delete {image} (must be forced) - image is referenced in multiple repositories"
        ));
    }
    if let Some(container) = users.mounted.first().map(short) {
        return Some(format!(
            "unable to delete {image} (cannot be forced) - image is being used by running container {container}"
        ));
    }
    let container = users.idle.first().filter(|_| !force).map(short)?;
    Some(match asked.map(familiar) {
        Some(name) => format!(
            "unable to remove repository reference {name:?} (must force) - container {container} is using its \
             referenced image {image}"
        ),
        None => {
            format!("unable to delete {image} (must be forced) - image is being used by stopped container {container}")
        }
    })
}

/// `registry/repository` of a canonical name.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// The short form of a canonical name.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<ImageReference>().map_or_else(|_| name.to_owned(), |r| r.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    /// Images `a` (x:1, x:2, x@digest) and `b` (y:latest) and `c` without a name.
    fn catalog() -> Catalog {
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

    fn remove(catalog: &mut Catalog, name: &str, force: bool, users: &Users) -> String {
        match catalog.remove(name, force, |_| users.clone()) {
            Ok(list) => list.iter().map(|r| format!("{r:?}")).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
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
        catalog.remove("y", false, |_| Users::default()).expect("its only name");
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

    #[test]
    fn names_go_first_the_image_with_the_last() {
        let mut catalog = catalog();
        let nobody = Users::default();
        assert_eq!(remove(&mut catalog, "x:1", false, &nobody), "Untagged(\"x:1\")");
        let last = remove(&mut catalog, "x:2", false, &nobody);
        let digest = id("manifest a");
        assert_eq!(last, format!("Untagged(\"x:2\") Untagged(\"x@{digest}\") Deleted({})", id("a")));
        assert_eq!(remove(&mut catalog, id("c").short(), false, &nobody), format!("Deleted({})", id("c")));
        assert_eq!(remove(&mut catalog, "x:2", false, &nobody), "No such image: x:2");
    }

    #[test]
    fn a_digest_name_alone_does_not_delete_a_tagged_image() {
        let mut catalog = catalog();
        let name = format!("x@{}", id("manifest a"));
        assert_eq!(remove(&mut catalog, &name, false, &Users::default()), format!("Untagged({name:?})"));
        assert!(catalog.lookup("x:1").is_ok());
    }

    #[test]
    fn used_images_stay() {
        let mounted = Users { mounted: vec!["c1".into()], idle: vec![] };
        let idle = Users { mounted: vec![], idle: vec!["c2".into()] };
        let mut catalog = catalog();
        assert!(remove(&mut catalog, "y", false, &mounted).contains("c1"));
        assert!(remove(&mut catalog, "y", true, &mounted).contains("c1"));
        let wanted = format!(
            "conflict: unable to remove repository reference \"y:latest\" (must force) - container c2 is using its \
             referenced image {}",
            id("b").short()
        );
        assert_eq!(remove(&mut catalog, "y", false, &idle), wanted);
        assert!(remove(&mut catalog, id("b").short(), false, &idle).contains("(must be forced)"));
        assert_eq!(remove(&mut catalog, "y", true, &idle), "Untagged(\"y:latest\")");
        assert!(catalog.lookup(id("b").as_str()).is_ok(), "kept for its container");
        assert_eq!(remove(&mut catalog, "x:1", false, &mounted), "Untagged(\"x:1\")", "one name of two");
        catalog.tag(&id("a"), &"other/x".parse().expect("good"), jiff::Timestamp::UNIX_EPOCH);
        assert!(remove(&mut catalog, id("a").short(), false, &Users::default()).contains("multiple repositories"));
    }
}
