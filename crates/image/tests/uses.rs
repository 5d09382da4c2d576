//! Images that came for tasks: whose they are, and what collecting them leaves.
#![allow(clippy::print_stderr, reason = "a test that cannot run here says so")]

mod support;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use image::{Digest, ImageReference, Platform, Progress, PullOptions, Removed, Swept};
use support::{
    TestStore, config_of, content_of, layer,
    server::{Reply, Server},
};

/// A registry with an image of two layers under each of these tags; the lower layer is the same in all.
fn registry(tags: &[&str]) -> Server {
    let described = |kind: &str, bytes: &[u8]| {
        let (digest, size) = (Digest::of(bytes), bytes.len());
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
    };
    let mut paths: HashMap<String, Vec<u8>> = HashMap::new();
    for tag in tags {
        let layers = [layer(&["base"], "common"), layer(&["own"], tag)];
        let config = config_of(&layers, &Platform::host().architecture);
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{},{}]}}"#,
            described("config.v1+json", &config),
            described("layer.v1.tar", &layers[0]),
            described("layer.v1.tar", &layers[1])
        );
        paths.insert(format!("manifests/{tag}"), manifest.into_bytes());
        for bytes in layers.into_iter().chain([config]) {
            paths.insert(format!("blobs/{}", Digest::of(&bytes)), bytes);
        }
    }
    Server::start(move |request| {
        let path = request.path.trim_start_matches("/v2/demo/box/");
        paths.get(path).map_or_else(|| Reply::status(404), |bytes| Reply::ok(bytes))
    })
}

async fn pull(test: &TestStore, name: &str, for_task: bool) -> Digest {
    let reference: ImageReference = name.parse().expect("good");
    let options = PullOptions { for_task, ..PullOptions::default() };
    test.store.pull(&reference, &options, Progress::none()).await.expect("pulls").id
}

fn brought(test: &TestStore) -> BTreeSet<Digest> {
    test.store.task_images().into_iter().filter(|image| image.is_brought).map(|image| image.id).collect()
}

/// P27: what a user pulled or tagged is never collected, whoever brought it first.
#[tokio::test]
async fn p27_an_image_that_a_user_asked_for_is_his() {
    let server = registry(&["1", "2", "3", "4"]);
    let name = |tag: &str| format!("{}/demo/box:{tag}", server.address);
    let mut test = TestStore::new("brought").await;
    let mut ids = Vec::new();
    for (tag, for_task) in [("1", true), ("2", true), ("3", true), ("4", false)] {
        ids.push(pull(&test, &name(tag), for_task).await);
    }
    pull(&test, &name("4"), true).await;
    assert_eq!(brought(&test), ids[..3].iter().cloned().collect(), "a task that needs it too does not make it its own");
    pull(&test, &name("1"), false).await;
    test.store.tag(&name("2"), &"mine:1".parse().expect("good")).await.expect("tags");
    assert_eq!(brought(&test), [ids[2].clone()].into());
    test.reopen().await;
    assert_eq!(brought(&test), [ids[2].clone()].into(), "it is on the disk");
    for id in &ids {
        test.store.collect(id, |_| ()).await.expect("no failure");
    }
    let left: BTreeSet<Digest> = test.store.list().into_iter().map(|image| image.id).collect();
    assert_eq!(left, [ids[0].clone(), ids[1].clone(), ids[3].clone()].into());
}

/// P27: a prune by the clock takes nothing that a task was just given.
#[tokio::test]
async fn p27_what_a_task_is_about_to_get_is_not_pruned() {
    let server = registry(&["1", "2"]);
    let name = |tag: &str| format!("{}/demo/box:{tag}", server.address);
    let test = TestStore::new("pruned").await;
    let ids = [pull(&test, &name("1"), true).await, pull(&test, &name("2"), true).await];
    let held = test.store.hold(&name("1")).expect("it is here");
    let deleted = |swept: &Swept| -> Vec<Digest> {
        let digest = |one: &Removed| if let Removed::Deleted(id) = one { Some(id.clone()) } else { None };
        swept.removed.iter().filter_map(digest).collect()
    };
    let swept = test.store.prune(true, |_| false).await.expect("prunes");
    assert_eq!(deleted(&swept), [ids[1].clone()]);
    drop(held);
    let swept = test.store.prune(true, |_| false).await.expect("prunes");
    assert_eq!(deleted(&swept), [ids[0].clone()]);
}

/// P27: an image that a task is about to use stays; one that goes takes with it what no other image has.
#[tokio::test]
async fn p27_what_is_collected_is_told_and_gone() {
    let server = registry(&["1", "2"]);
    let name = |tag: &str| format!("{}/demo/box:{tag}", server.address);
    let test = TestStore::new("collected").await;
    let content = || content_of(&test.root).into_iter().collect::<BTreeSet<_>>();
    pull(&test, &name("1"), true).await;
    let before = content();
    let id = pull(&test, &name("2"), true).await;
    let held = test.store.hold(&name("2")).expect("it is here");
    test.store.note_use(&held, "web").await.expect("written");
    let used: Vec<String> = test.store.task_images().into_iter().flat_map(|image| image.used.into_keys()).collect();
    assert_eq!(used, ["web"]);
    let kept = test.store.collect(&id, |_| panic!("nothing is gone")).await.expect("no failure");
    assert_eq!(kept, Swept::default(), "it is held");
    drop(held);

    let told: Arc<Mutex<Vec<Removed>>> = Arc::default();
    let hears = Arc::clone(&told);
    let tell = move |swept: &Swept| hears.lock().expect("whole").extend(swept.removed.iter().cloned());
    let swept = test.store.collect(&id, tell).await.expect("no failure");
    assert_eq!((swept.blobs, swept.layers), (3, 1), "configuration, manifest and its own layer");
    let told = told.lock().expect("whole").clone();
    assert_eq!(told.first(), Some(&Removed::Untagged(name("2"))));
    assert_eq!(told.last(), Some(&Removed::Deleted(id.clone())));
    assert_eq!(content(), before);
    test.store.hold(&name("2")).expect_err("it is gone");
    test.store.hold(&name("1")).expect("the other one is there");
}
