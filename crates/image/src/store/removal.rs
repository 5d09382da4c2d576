//! What `rmi` takes away: a name, or the image with its last one, by Docker's rules (moby
//! `daemon/images/image_delete.go`, parity E-06). Pure: decided on the catalog, which the store changes under its lock.
//! Which containers run is the caller's word: the store sees only who has a root filesystem.

use std::collections::BTreeSet;

use types::ImageReference;

use super::{
    State,
    catalog::{Catalog, familiar},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// How to remove an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Also with several names, and with containers that do not run.
    pub force: bool,
    /// The images that it was made of stay, also those without a name.
    pub keep_parents: bool,
    /// Ids of the containers that run, or will again after a pause.
    pub running: BTreeSet<String>,
}

/// What removing an image did, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name (short form) no longer points to the image.
    Untagged(String),
    Deleted(Digest),
}

/// Who has an image: containers, and work in progress.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Users {
    /// Made of it, and running.
    pub running: Vec<String>,
    /// Made of it, and not running.
    pub stopped: Vec<String>,
    /// With its files as a mount.
    pub mounting: Vec<String>,
    /// A task is about to get it, or it is on its way somewhere: nobody's wish to remove it is refused for that.
    pub is_held: bool,
}

impl Users {
    pub(super) fn of(state: &State, id: &Digest, running: &BTreeSet<String>) -> Self {
        let mut users = Self { is_held: state.pins.contains_key(id), ..Self::default() };
        for (container, snapshot) in state.snapshots.iter().filter(|(_, snapshot)| snapshot.needs(id)) {
            let kind = if snapshot.image != *id {
                &mut users.mounting
            } else if running.contains(container) {
                &mut users.running
            } else {
                &mut users.stopped
            };
            kind.push(container.clone());
        }
        users
    }

    pub(super) fn any(&self) -> Option<&String> {
        self.running.iter().chain(&self.stopped).chain(&self.mounting).next()
    }

    /// Nobody loses anything with it.
    pub(super) fn is_nobody(&self) -> bool {
        self.any().is_none() && !self.is_held
    }
}

impl Catalog {
    /// Removes a name, and the image with its last name. `users` are the containers of an image. Who still needs the
    /// files of one that is gone has their layers in his own record.
    pub(crate) fn remove(
        &mut self,
        name: &str,
        how: &RemoveOptions,
        users: impl Fn(&Digest) -> Users,
    ) -> Result<Vec<Removed>> {
        let id = self.lookup(name)?;
        let own = users(&id);
        let names = self.names_of(&id);
        let asked = self.name_of(name, &id);
        let mut removed = Vec::new();
        if let Some(asked) = &asked {
            let in_the_way = own.any().filter(|_| !how.force && is_single(&names));
            if let Some(container) = in_the_way {
                return Err(Error::Conflict(format!(
                    "unable to remove repository reference {name:?} (must force) - container {} is using its \
                     referenced image {}",
                    short(container),
                    id.short()
                )));
            }
            removed = self.untag(std::slice::from_ref(asked));
            if !self.names_of(&id).is_empty() {
                return Ok(removed);
            }
        }
        let is_shared = asked.is_none() && !names.is_empty() && !is_single(&names);
        match self.conflict(&id, &own, how.force, is_shared) {
            None => {}
            // that it is not deleted with its last name is no failure of removing the name
            Some(_) if asked.is_some() => return Ok(removed),
            Some(why) => return Err(Error::Conflict(why)),
        }
        let mut next = Some(id);
        while let Some(id) = next {
            let parent = self.delete(&id, &mut removed);
            next = parent.filter(|parent| !how.keep_parents && self.is_left_over(parent, &users(parent)));
        }
        Ok(removed)
    }

    /// All names of an image, canonical; tags first.
    pub(super) fn names_of(&self, id: &Digest) -> Vec<String> {
        self.tags_of(id).into_iter().chain(self.digests_of(id)).map(str::to_owned).collect()
    }

    pub(super) fn has_children(&self, id: &Digest) -> bool {
        self.images.values().any(|other| other.parent.as_ref() == Some(id))
    }

    /// Nothing but the image that was made of it kept it here.
    fn is_left_over(&self, id: &Digest, users: &Users) -> bool {
        self.names_of(id).is_empty() && !self.has_children(id) && users.is_nobody()
    }

    /// Why an image cannot be deleted, in Docker's words: scripts look for them.
    fn conflict(&self, id: &Digest, users: &Users, force: bool, is_shared: bool) -> Option<String> {
        let (force_word, why) = if self.has_children(id) {
            ("cannot be forced", "image has dependent child images".to_owned())
        } else if let Some(container) = users.running.first() {
            ("cannot be forced", format!("image is being used by running container {}", short(container)))
        } else if force {
            return None;
        } else if is_shared {
            ("must be forced", "image is referenced in multiple repositories".to_owned())
        } else {
            let container = short(users.stopped.first()?);
            ("must be forced", format!("image is being used by stopped container {container}"))
        };
        Some(format!("unable to delete {} ({force_word}) - {why}", id.short()))
    }

    /// Takes an image away with all its names; gives what it was made of.
    fn delete(&mut self, id: &Digest, removed: &mut Vec<Removed>) -> Option<Digest> {
        let record = self.images.remove(id)?;
        let names = self.names_of(id);
        removed.extend(self.untag(&names));
        self.tagged.remove(id);
        self.uses.remove(id);
        removed.push(Removed::Deleted(id.clone()));
        record.parent
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

    /// Takes names away, and the digests of a repository with its last tag.
    fn untag(&mut self, names: &[String]) -> Vec<Removed> {
        let mut removed = Vec::new();
        for name in names {
            if self.digests.remove(name).is_some() {
                removed.push(Removed::Untagged(familiar(name)));
                continue;
            }
            let Some(id) = self.tags.remove(name) else { continue };
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
}

fn short(container: &str) -> String {
    container.chars().take(12).collect()
}

/// Whether all names are of one repository, with one tag at most.
fn is_single(names: &[String]) -> bool {
    let repositories: BTreeSet<&str> = names.iter().map(|name| repository(name)).collect();
    repositories.len() == 1 && names.iter().filter(|name| !name.contains('@')).count() <= 1
}

/// `registry/repository` of a canonical name.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::catalog::tests::{catalog, id};

    fn tag(catalog: &mut Catalog, image: &str, name: &str) {
        catalog.tag(&id(image), &name.parse().expect(name), jiff::Timestamp::UNIX_EPOCH);
    }

    fn parent(catalog: &mut Catalog, child: &str, parent: &str) {
        catalog.images.get_mut(&id(child)).expect("it is here").parent = Some(id(parent));
    }

    /// The containers are those of the first image that is asked about; nobody has another.
    fn remove(catalog: &mut Catalog, name: &str, force: bool, users: &Users) -> String {
        let own = catalog.lookup(name).ok();
        let users = |id: &Digest| if own.as_ref() == Some(id) { users.clone() } else { Users::default() };
        match catalog.remove(name, &RemoveOptions { force, ..RemoveOptions::default() }, users) {
            Ok(list) => list.iter().map(|r| format!("{r:?}")).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
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

    /// E-06: what a running container has stays, by its id; of its last name it can be parted by force.
    #[test]
    fn e_06_the_image_of_a_running_container() {
        let running = Users { running: vec!["c1".into()], ..Users::default() };
        let mut catalog = catalog();
        let short = id("b").short().to_owned();
        assert_eq!(
            remove(&mut catalog, "y", false, &running),
            format!(
                "conflict: unable to remove repository reference \"y\" (must force) - container c1 is using its \
                 referenced image {short}"
            )
        );
        let hard = format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container c1"
        );
        assert_eq!(remove(&mut catalog, &short, false, &running), hard);
        assert_eq!(remove(&mut catalog, &short, true, &running), hard);
        assert_eq!(remove(&mut catalog, "y", true, &running), "Untagged(\"y:latest\")");
        assert_eq!(remove(&mut catalog, &short, true, &running), hard, "it is still here");
        assert_eq!(remove(&mut catalog, "x:1", false, &running), "Untagged(\"x:1\")", "one name of two");
    }

    /// E-06: what a container has that does not run goes by force, all of it.
    #[test]
    fn e_06_the_image_of_a_stopped_container() {
        let stopped = Users { stopped: vec!["c2".into()], ..Users::default() };
        let short = id("b").short().to_owned();
        for name in ["y", short.as_str()] {
            let mut catalog = catalog();
            let refused = remove(&mut catalog, name, false, &stopped);
            let wanted = if name == "y" { "(must force) - container c2 is using" } else { "by stopped container c2" };
            assert!(refused.contains(wanted), "{refused}");
            assert!(catalog.lookup("y").is_ok());
            let gone = remove(&mut catalog, name, true, &stopped);
            assert_eq!(gone, format!("Untagged(\"y:latest\") Deleted({})", id("b")));
        }
        // who has its files as a mount keeps them, and is in the way of its last name alone
        let mounting = Users { mounting: vec!["c3".into()], ..Users::default() };
        let mut catalog = catalog();
        assert!(remove(&mut catalog, "y", false, &mounting).contains("container c3 is using"));
        assert!(remove(&mut catalog, &short, false, &mounting).ends_with(&format!("Deleted({})", id("b"))));
    }

    #[test]
    fn several_names_need_force() {
        let mut catalog = catalog();
        let nobody = Users::default();
        for more in ["x:2", "other/x"] {
            tag(&mut catalog, "a", more);
            let refused = remove(&mut catalog, id("a").short(), false, &nobody);
            assert!(refused.contains("(must be forced) - image is referenced in multiple repositories"), "{refused}");
        }
        let gone = remove(&mut catalog, id("a").short(), true, &nobody);
        assert!(gone.contains("other/x:latest") && gone.ends_with(&format!("Deleted({})", id("a"))), "{gone}");
        assert!(catalog.digests.is_empty());
    }

    /// E-06, E-09: an image that others were made of loses its name alone, and goes with the last of them.
    #[test]
    fn e_06_e_09_parents_stay_for_their_children() {
        let mut catalog = catalog();
        let nobody = Users::default();
        parent(&mut catalog, "a", "b");
        parent(&mut catalog, "b", "c");
        let hard = format!(
            "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
            id("b").short()
        );
        assert_eq!(remove(&mut catalog, id("b").as_str(), true, &nobody), hard);
        assert_eq!(remove(&mut catalog, "y", false, &nobody), "Untagged(\"y:latest\")");
        assert!(catalog.images.contains_key(&id("b")));
        let gone = remove(&mut catalog, id("a").as_str(), true, &nobody);
        assert!(gone.ends_with(&format!("Deleted({}) Deleted({}) Deleted({})", id("a"), id("b"), id("c"))), "{gone}");
        assert!(catalog.images.is_empty());
    }

    /// E-06: `rmi --no-prune`, and a parent that somebody has.
    #[test]
    fn e_06_parents_that_stay() {
        let made = || {
            let mut catalog = catalog();
            parent(&mut catalog, "a", "c");
            catalog
        };
        let how = RemoveOptions { force: true, keep_parents: true, ..RemoveOptions::default() };
        let mut catalog = made();
        catalog.remove(id("a").as_str(), &how, |_| Users::default()).expect("nobody has it");
        assert!(catalog.images.contains_key(&id("c")));
        let how = RemoveOptions { keep_parents: false, ..how };
        for has in
            [Users { stopped: vec!["c1".into()], ..Users::default() }, Users { is_held: true, ..Users::default() }]
        {
            let mut catalog = made();
            let of_parent = |image: &Digest| if *image == id("c") { has.clone() } else { Users::default() };
            catalog.remove(id("a").as_str(), &how, of_parent).expect("nobody has it");
            assert!(catalog.images.contains_key(&id("c")), "{has:?}");
            assert!(!catalog.images.contains_key(&id("a")));
        }
    }
}
