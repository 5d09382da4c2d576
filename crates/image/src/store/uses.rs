//! What tasks do with images: which of them came for a task, and who was given which last. Called by the engine, which
//! decides from this what may go when the disk gets full; an image that a user asked for himself is never collected.
//!
//! The notes are part of the catalog and saved with it. Who a user is, is the caller's word.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    Inner, Pin, RemoveOptions, State, Store, Swept,
    catalog::{Catalog, familiar},
    removal::Users,
};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// A use that goes on is written down again after this: near enough to tell which image was used last, and seldom.
const STALE_MS: u64 = 60 * 60 * 1000;
/// Users of one image that are known; of more the oldest are forgotten. Some kilobytes.
const MAX_USERS: usize = 256;

/// Of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TaskUse {
    /// It came for a task, and no user has asked for it since.
    pub is_brought: bool,
    /// When each of its users had it last.
    pub used: BTreeMap<String, u64>,
}

/// An image that tasks have used, for who decides whether it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskImage {
    pub id: Digest,
    /// The first of its names, short; without any the beginning of its id.
    pub name: String,
    /// It came for a task, and no user has asked for it since.
    pub is_brought: bool,
    /// Of a container that has files of it, of an image that was made of it, or of work in progress.
    pub is_needed: bool,
    /// When each of its users had it last: milliseconds since 1970, later uses always larger, also when the clock was
    /// set back.
    pub used: BTreeMap<String, u64>,
}

/// Keeps an image from being collected.
pub struct Held {
    id: Digest,
    _pin: Pin,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.id).finish()
    }
}

impl Catalog {
    /// It came for a task.
    pub(crate) fn bring(&mut self, id: &Digest) {
        self.uses.entry(id.clone()).or_default().is_brought = true;
    }

    /// A user asked for it: it is his.
    pub(crate) fn claim(&mut self, id: &Digest) {
        if let Some(known) = self.uses.get_mut(id) {
            known.is_brought = false;
        }
    }

    fn note(&mut self, id: &Digest, user: &str, now_ms: u64) {
        if !self.images.contains_key(id) {
            return;
        }
        let newest = self.uses.values().flat_map(|known| known.used.values()).max();
        let at = newest.map_or(now_ms, |newest| now_ms.max(newest + 1));
        let used = &mut self.uses.entry(id.clone()).or_default().used;
        used.insert(user.to_owned(), at);
        while used.len() > MAX_USERS {
            let oldest = used.iter().min_by_key(|(_, at)| **at).map(|(user, _)| user.clone());
            used.remove(&oldest.expect("it has more than one"));
        }
    }

    /// Whether this use is noted, and not too long ago.
    fn is_fresh(&self, id: &Digest, user: &str, now_ms: u64) -> bool {
        let at = self.uses.get(id).and_then(|known| known.used.get(user));
        at.is_some_and(|at| now_ms.saturating_sub(*at) < STALE_MS)
    }

    /// Whether no other image was given to this user since.
    fn is_last_of(&self, id: &Digest, user: &str) -> bool {
        let of_user = self.uses.iter().filter_map(|(id, known)| Some((known.used.get(user)?, id)));
        of_user.max().is_some_and(|(_, last)| last == id)
    }

    fn is_noted(&self, id: &Digest, user: &str, now_ms: u64) -> bool {
        self.is_fresh(id, user, now_ms) && self.is_last_of(id, user)
    }
}

fn is_needed(state: &State, id: &Digest) -> bool {
    state.pins.contains_key(id)
        || state.snapshots.values().any(|snapshot| snapshot.needs(id))
        || state.catalog.has_children(id)
}

fn shown(catalog: &Catalog, id: &Digest) -> String {
    let name = catalog.tags_of(id).into_iter().chain(catalog.digests_of(id)).next();
    name.map_or_else(|| id.short().to_owned(), familiar)
}

fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

impl Inner {
    fn is_noted(&self, id: &Digest, user: &str, now_ms: u64) -> bool {
        self.state().catalog.is_noted(id, user, now_ms)
    }

    fn stale(&self, uses: Vec<(Digest, String)>, now_ms: u64) -> Vec<(Digest, String)> {
        let state = self.state();
        uses.into_iter().filter(|(id, user)| !state.catalog.is_fresh(id, user, now_ms)).collect()
    }
}

impl Store {
    /// The image of a name, which is not collected as long as what this gives lives. Names as for [`Store::get`].
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn hold(&self, name: &str) -> Result<Held> {
        let id = self.get(name)?;
        let held = Held { _pin: self.inner.pin([id.clone()]), id };
        // It may have been removed between the two locks.
        let is_there = self.inner.state().catalog.images.contains_key(&held.id);
        if is_there { Ok(held) } else { Err(Error::NoSuchImage(name.to_owned())) }
    }

    /// Notes that a task of this user is given the image. Nothing is written if that is known.
    ///
    /// # Errors
    /// A failed file operation.
    pub async fn note_use(&self, held: &Held, user: &str) -> Result<()> {
        let (id, user, now) = (held.id.clone(), user.to_owned(), now_ms());
        if self.inner.is_noted(&id, &user, now) {
            return Ok(());
        }
        self.run("noting who uses an image", move |inner| {
            inner.change(|catalog, _| {
                // of tasks that start together the first has done it
                if !catalog.is_noted(&id, &user, now) {
                    catalog.note(&id, &user, now);
                }
                Ok(())
            })
        })
        .await
    }

    /// Notes that these images are still used by these users; written once in an hour.
    ///
    /// # Errors
    /// A failed file operation.
    pub async fn note_uses(&self, uses: Vec<(Digest, String)>) -> Result<()> {
        let now = now_ms();
        let stale = self.inner.stale(uses, now);
        if stale.is_empty() {
            return Ok(());
        }
        self.run("noting who uses images", move |inner| {
            inner.change(|catalog, _| {
                stale.iter().for_each(|(id, user)| catalog.note(id, user, now));
                Ok(())
            })
        })
        .await
    }

    /// All images that tasks have used.
    pub fn task_images(&self) -> Vec<TaskImage> {
        let state = self.inner.state();
        let known = state.catalog.uses.iter().filter(|(id, _)| state.catalog.images.contains_key(*id));
        let image = |(id, known): (&Digest, &TaskUse)| TaskImage {
            id: id.clone(),
            name: shown(&state.catalog, id),
            is_brought: known.is_brought,
            is_needed: is_needed(&state, id),
            used: known.used.clone(),
        };
        known.map(image).collect()
    }

    /// Removes an image with all its names, if it came for a task and nothing needs it by now. `tell` is called when
    /// it is gone, also if nobody waits for the end of this any more.
    ///
    /// # Errors
    /// A failed file operation.
    pub async fn collect(&self, id: &Digest, tell: impl FnOnce(&Swept) + Send + 'static) -> Result<Swept> {
        let id = id.clone();
        self.run("collecting an image", move |inner| {
            let removed = inner.change(|catalog, state| {
                let is_brought = catalog.uses.get(&id).is_some_and(|known| known.is_brought);
                if !is_brought || is_needed(state, &id) {
                    return Ok(Vec::new());
                }
                // that no container has it was just looked at
                let how = RemoveOptions { force: true, keep_parents: true, ..RemoveOptions::default() };
                catalog.remove(id.as_str(), &how, |_| Users::default())
            })?;
            if removed.is_empty() {
                return Ok(Swept::default());
            }
            let result = inner.sweep();
            let swept = Swept { removed, ..result.as_ref().cloned().unwrap_or_default() };
            tell(&swept);
            result.map(|_| swept)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{config::ImageConfig, store::catalog::ImageRecord};

    fn id(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn catalog(images: &[&str]) -> Catalog {
        let record = || ImageRecord {
            manifest: id("manifest"),
            indexes: BTreeSet::new(),
            parent: None,
            layers: vec![],
            config: ImageConfig::default(),
        };
        Catalog { images: images.iter().map(|name| (id(name), record())).collect(), ..Catalog::default() }
    }

    /// P27: the order of uses is what counts, not the clock.
    #[test]
    fn p27_later_uses_are_later_whatever_the_clock_says() {
        let mut catalog = catalog(&["a", "b"]);
        catalog.note(&id("a"), "web", 5000);
        catalog.note(&id("b"), "web", 1000);
        let at = |catalog: &Catalog, image: &str| catalog.uses[&id(image)].used["web"];
        assert_eq!((at(&catalog, "a"), at(&catalog, "b")), (5000, 5001));
        assert!(catalog.is_last_of(&id("b"), "web") && !catalog.is_last_of(&id("a"), "web"));
        catalog.note(&id("a"), "web", 9000);
        assert!(catalog.is_last_of(&id("a"), "web"), "it was gone back to");
        catalog.note(&id("gone"), "web", 9000);
        assert!(!catalog.uses.contains_key(&id("gone")), "of what is not here nothing is kept");
    }

    /// P27: tasks that start do not write to the disk each.
    #[test]
    fn p27_what_is_known_is_not_noted_again_for_an_hour() {
        let mut catalog = catalog(&["a", "b"]);
        catalog.note(&id("a"), "web", 0);
        assert!(catalog.is_noted(&id("a"), "web", STALE_MS - 1));
        assert!(!catalog.is_noted(&id("a"), "web", STALE_MS));
        assert!(!catalog.is_noted(&id("a"), "db", 1), "another user");
        catalog.note(&id("b"), "web", 1);
        assert!(catalog.is_fresh(&id("a"), "web", 2) && !catalog.is_noted(&id("a"), "web", 2), "not its last one");
    }

    #[test]
    fn of_many_users_the_oldest_are_forgotten() {
        let mut catalog = catalog(&["a"]);
        for n in 0..=MAX_USERS {
            catalog.note(&id("a"), &format!("{n:04}"), 1000 - n as u64);
        }
        let used = &catalog.uses[&id("a")].used;
        assert_eq!((used.len(), used.keys().next().map(String::as_str)), (MAX_USERS, Some("0001")));
    }

    /// P27: a catalog without notes is as it was before there were any, and notes go with their image.
    #[test]
    fn p27_notes_are_saved_with_the_image() {
        let text = |catalog: &Catalog| serde_json::to_string(catalog).expect("plain strings and numbers");
        let mut catalog = catalog(&["a"]);
        assert!(!text(&catalog).contains("uses"));
        catalog.bring(&id("a"));
        catalog.note(&id("a"), "web", 7);
        let again: Catalog = serde_json::from_str(&text(&catalog)).expect("as it was written");
        assert_eq!(again, catalog);
        assert!(again.uses[&id("a")].is_brought);
        catalog.remove(id("a").as_str(), &RemoveOptions::default(), |_| Users::default()).expect("nobody has it");
        assert!(catalog.uses.is_empty());
    }
}
