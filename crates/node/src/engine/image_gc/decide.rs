//! Which images may go, and in which order. Pure: what tasks have used and what is assigned in, a list out.
//!
//! Needed is what a container has files of (the store says so, ended single containers included), what a task that shall
//! run is made of, and of each service that has a task here the image that it used last and the one before: a rollback
//! pulls nothing. A task that ended has given its files back and never starts again: its image is only spared, until all
//! others have gone.

use std::collections::{BTreeMap, BTreeSet};

use image::{Digest, TaskImage};
use types::{Assignment, AssignmentSet, ImageReference, TaskState};

/// Of each user, the newest so many stay: the present one and that before.
const KEPT: usize = 2;

/// What the assignments of this node say of images, by the store's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AssignedImages {
    /// Of tasks that shall run: who uses what.
    running: BTreeSet<(String, String)>,
    /// Of tasks that ended or shall end.
    ended: BTreeSet<(String, String)>,
}

impl AssignedImages {
    pub(crate) fn of(set: &AssignmentSet) -> Self {
        let mut all = Self::default();
        for task in set.tasks.values() {
            let shall_run = task.desired <= TaskState::Running && !task.state.is_terminal();
            let side = if shall_run { &mut all.running } else { &mut all.ended };
            side.extend(users_of(task).map(|(user, image)| (user, image.with_default_tag().to_string())));
        }
        all
    }

    /// The same by the ids that the names have here, as far as they have any.
    pub(super) fn resolve(&self, id_of: impl Fn(&str) -> Option<Digest>) -> Needs {
        let ids = |side: &BTreeSet<(String, String)>| -> Vec<(Digest, String)> {
            side.iter().filter_map(|(user, name)| Some((id_of(name)?, user.clone()))).collect()
        };
        let users = self.running.iter().chain(&self.ended).map(|(user, _)| user.clone()).collect();
        let ended = ids(&self.ended).into_iter().map(|(id, _)| id).collect();
        Needs { running: ids(&self.running), ended, users }
    }
}

/// Who is noted to use the images of a task: its service; of an image as a mount, that mount of its service.
fn users_of(task: &Assignment) -> impl Iterator<Item = (String, ImageReference)> {
    let container = &task.spec.container;
    let mounted = container.mounted_images().enumerate();
    let mounted = mounted.map(move |(at, (_, image))| (user_of_mount(task, at), image));
    mounted.chain([(user_of(task), container.image.clone())])
}

pub(in crate::engine) fn user_of(task: &Assignment) -> String {
    task.service_name.as_str().to_owned()
}

/// Of its `at`th image as a mount: what that was before has nothing to do with the image of the service itself.
pub(in crate::engine) fn user_of_mount(task: &Assignment, at: usize) -> String {
    format!("{} mount {at}", task.service_name.as_str())
}

/// [`AssignedImages`] by ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub running: Vec<(Digest, String)>,
    ended: BTreeSet<Digest>,
    /// All that have a task here, ended ones included.
    users: BTreeSet<String>,
}

/// An image that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removable {
    pub id: Digest,
    pub name: String,
    /// Why it of all, for people.
    pub why: String,
}

/// What may go, the first first: the least recently used, but those of tasks that ended behind all others.
pub(super) fn removable(images: &[TaskImage], needs: &Needs) -> Vec<Removable> {
    let running: BTreeSet<&Digest> = needs.running.iter().map(|(id, _)| id).collect();
    let kept = kept(images, &needs.users);
    let may_go = |image: &&TaskImage| {
        image.is_brought && !image.is_needed && !running.contains(&image.id) && !kept.contains(&image.id)
    };
    let mut found: Vec<&TaskImage> = images.iter().filter(may_go).collect();
    let last_use = |image: &TaskImage| image.used.values().max().copied();
    found.sort_by_cached_key(|image| (needs.ended.contains(&image.id), last_use(image), image.id.clone()));
    found.into_iter().map(of_image).collect()
}

/// The present and the previous image of each user that is here.
fn kept<'a>(images: &'a [TaskImage], users: &BTreeSet<String>) -> BTreeSet<&'a Digest> {
    let mut by_user: BTreeMap<&str, BTreeSet<(u64, &Digest)>> = BTreeMap::new();
    for image in images {
        for (user, at) in image.used.iter().filter(|(user, _)| users.contains(*user)) {
            by_user.entry(user).or_default().insert((*at, &image.id));
        }
    }
    by_user.into_values().flat_map(|used| used.into_iter().rev().take(KEPT)).map(|(_, id)| id).collect()
}

fn of_image(image: &TaskImage) -> Removable {
    let last = image.used.iter().max_by_key(|(_, at)| **at);
    let why = match last {
        Some((user, _)) => format!("no task here needs it any more; the last to use it was of {user}"),
        None => "no task here needs it".to_owned(),
    };
    Removable { id: image.id.clone(), name: image.name.clone(), why }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
