//! Volumes of a host in a temporary directory.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use futures::FutureExt as _;
use tempfile::TempDir;

use super::*;

struct Scene {
    dir: TempDir,
    rootfs: PathBuf,
    volumes: Volumes,
    events: Events,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let rootfs = dir.path().join("rootfs");
        fs::create_dir_all(rootfs.join("data/sub")).expect("rootfs");
        fs::write(rootfs.join("data/sub/file"), "of the image").expect("file");
        symlink("sub/file", rootfs.join("data/link")).expect("link");
        let events = Events::default();
        let volumes = Volumes::open(&dir.path().join("state"), events.clone()).expect("opened");
        Self { dir, rootfs, volumes, events }
    }

    fn reopened(&self) -> Volumes {
        Volumes::open(&self.dir.path().join("state"), Events::default()).expect("opened")
    }

    fn take(&self, name: &str, owner: &str, target: &str) -> Result<PathBuf, VolumeError> {
        let copy_from = Some(self.rootfs.as_path());
        let wanted = Wanted { owner, target, labels: &Labels::new(), options: &Labels::new(), copy_from };
        self.volumes.take(name, name.len() == 64, &wanted)
    }

    fn actions(&self) -> Vec<String> {
        let mut reader = self.events.read(|_| true);
        let next = || reader.next().now_or_never().and_then(Result::ok);
        std::iter::from_fn(next).map(|event| format!("{} {}", event.action, event.actor)).collect()
    }
}

fn named(name: &str) -> VolumeSpec {
    VolumeSpec { name: name.to_owned(), ..VolumeSpec::default() }
}

#[test]
fn a_new_volume_gets_the_images_files_once() {
    let scene = Scene::new();
    let data = scene.take("db", "c1", "/data").expect("made");
    assert!(data.ends_with("volumes/db/_data"));
    assert_eq!(fs::read_to_string(data.join("link")).expect("through the link"), "of the image");
    fs::remove_file(data.join("link")).expect("the user removes it");
    scene.take("db", "c2", "/data").expect("there");
    assert!(!data.join("link").exists(), "a volume in use is not filled again");
    assert_eq!(scene.actions(), ["create db"]);
}

#[test]
fn a_link_in_the_image_leads_nowhere_on_the_host() {
    let scene = Scene::new();
    let outside = scene.dir.path().join("outside");
    fs::create_dir(&outside).expect("outside");
    fs::write(outside.join("secret"), "of the host").expect("secret");
    symlink(&outside, scene.rootfs.join("trap")).expect("link");
    let data = scene.take("vol", "c1", "/trap").expect("made");
    assert_eq!(fs::read_dir(data).expect("readable").count(), 0);
}

#[test]
fn anonymous_volumes_are_ordinary_ones_that_go_with_their_task() {
    let scene = Scene::new();
    let name = anonymous_name("c1", 1);
    let data = scene.take(&name, "c1", "/none").expect("made");
    let seen = scene.volumes.get(&name).expect("inspectable");
    assert!(seen.is_anonymous && seen.labels.contains_key("com.docker.volume.anonymous"));
    assert_eq!(seen.users, ["c1"]);
    scene.take("kept", "c1", "/none").expect("made");
    scene.volumes.remove_anonymous("c1").expect("removed");
    scene.volumes.remove_anonymous("c1").expect("again is fine");
    assert!(!data.exists());
    assert_eq!(scene.volumes.list().iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn a_volume_in_use_stays_and_says_who_has_it() {
    let scene = Scene::new();
    scene.take("db", "c1", "/data").expect("made");
    let refused = scene.volumes.remove("db", true).expect_err("in use").to_string();
    assert_eq!(refused, "remove db: volume is in use - [c1]");
    // the users outlive the daemon, but not their containers
    let again = scene.reopened();
    assert_eq!(again.get("db").expect("found").users, ["c1"]);
    again.retain_users(|id| id != "c1").expect("forgotten");
    again.remove("db", false).expect("removed");
    assert_eq!(again.remove("db", false).expect_err("gone").to_string(), "get db: no such volume");
    again.remove("db", true).expect("force takes that");
    assert!(scene.reopened().list().is_empty());
}

#[test]
fn creating_is_idempotent_and_checks_first() {
    let scene = Scene::new();
    let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
    let made = scene.volumes.create(VolumeSpec { labels, ..named("db") }).expect("made");
    assert_eq!(scene.volumes.create(named("db")).expect("there"), made);
    for (spec, wanted) in [
        (named("x"), "create x: volume name is too short"),
        (named("a/b"), "create a/b: \"a/b\" includes invalid characters"),
        (
            VolumeSpec { driver: "rexray".into(), ..named("other") },
            "create other: error looking up volume plugin rexray: plugin \"rexray\" not found",
        ),
        (
            VolumeSpec { options: BTreeMap::from([("foo".into(), "bar".into())]), ..named("other") },
            "create other: invalid option: \"foo\"",
        ),
    ] {
        let refused = scene.volumes.create(spec).expect_err(wanted).to_string();
        assert!(refused.starts_with(wanted), "{refused}");
    }
    let anonymous = scene.volumes.create(named("")).expect("made");
    assert!(anonymous.is_anonymous && anonymous.name.len() == 64);
    assert_eq!(scene.volumes.list().len(), 2);
    assert_eq!(scene.reopened().get("db").expect("found").labels, made.labels);
}

#[test]
fn pruning_takes_what_nobody_has_and_counts_it() {
    let scene = Scene::new();
    scene.take("used", "c1", "/data").expect("made");
    for name in ["first", "second"] {
        let volume = scene.volumes.create(named(name)).expect("made");
        fs::write(volume.mountpoint.join("file"), [0; 1000]).expect("written");
        fs::hard_link(volume.mountpoint.join("file"), volume.mountpoint.join("same")).expect("linked");
    }
    let pruned = scene.volumes.prune(|volume| volume.name != "second").expect("pruned");
    assert_eq!(pruned, PrunedVolumes { names: vec!["first".into()], bytes: 1000 });
    assert_eq!(scene.actions().last().map(String::as_str), Some("prune "));
}

#[test]
fn names_cannot_leave_their_directory() {
    let scene = Scene::new();
    for bad in ["..", ".x", "a/b", "a b"] {
        assert!(matches!(scene.take(bad, "c1", "/data"), Err(VolumeError::Invalid { .. })), "{bad:?}");
    }
    assert!(scene.volumes.list().is_empty());
}
