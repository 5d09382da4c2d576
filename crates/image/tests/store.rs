//! The store from outside: archives in, root filesystems out, names and removal.
//! Tests that mount need root and overlayfs; without them they print that they were skipped.
#![allow(clippy::print_stderr, reason = "a test that cannot run here says so")]

mod support;

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use image::{CommitOptions, Error, Removed, StorageDriver, Store, busybox_archive};
use support::{TestStore, by_force, can_mount, content_of, gently, layer, load, tar_of};

#[tokio::test]
async fn load_list_inspect_tag_remove() {
    let test = TestStore::new("round").await;
    let store = &test.store;
    let archive = busybox_archive("demo/box:1").expect("busybox");
    let loaded = load(store, archive.clone()).await.expect("loads");
    assert_eq!(loaded.len(), 1);
    let again = load(store, archive).await.expect("loads again");
    assert_eq!(loaded, again, "the same archive is the same image");
    let list = store.list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].repo_tags, ["demo/box:1"]);
    assert!(list[0].size > 500_000 && list[0].created > 0, "{list:?}");
    let detail = store.inspect("demo/box:1").expect("known");
    assert_eq!(detail.config.config.cmd, ["sh"]);

    store.tag(list[0].id.short(), &"other:2".parse().expect("good")).await.expect("tags");
    assert_eq!(store.get("other:2").expect("known"), list[0].id);
    let removed = store.remove("demo/box:1", gently()).await.expect("one of two names");
    assert_eq!(removed, [Removed::Untagged("demo/box:1".into())]);
    let removed = store.remove("other:2", gently()).await.expect("the last name");
    assert_eq!(removed, [Removed::Untagged("other:2".into()), Removed::Deleted(list[0].id.clone())]);
    assert!(store.list().is_empty());
    assert_eq!(content_of(&test.root), Vec::<String>::new(), "nothing left on disk");
}

#[tokio::test]
async fn a_container_gets_a_writable_root() {
    if !can_mount("a_container_gets_a_writable_root") {
        return;
    }
    let test = TestStore::new("mount").await;
    load(&test.store, busybox_archive("box").expect("busybox")).await.expect("loads");
    let mounted = test.store.snapshot_mount("c1", "box").await.expect("mounts");
    let again = test.store.snapshot_mount("c1", "box").await.expect("mounts again");
    assert_eq!(mounted, again);
    let run = Command::new("/usr/sbin/chroot")
        .arg(&mounted.rootfs)
        .args(["/bin/sh", "-c", "echo hi > /tmp/x; cat /tmp/x"])
        .output();
    assert_eq!(String::from_utf8_lossy(&run.expect("runs").stdout), "hi\n");
    assert_eq!(fs::metadata(mounted.rootfs.join("tmp")).expect("there").mode() & 0o7777, 0o1777);
    assert_eq!(fs::metadata(&mounted.rootfs).expect("there").mode() & 0o7777, 0o755);
    assert!(test.store.snapshot_usage("c1").await.expect("measures") >= 4096);
    let of_monitors = |name: &str| fs::read_to_string(test.root.join("snapshots/c1").join(name)).expect(name);
    assert_eq!(of_monitors("mount-id"), "c1", "where a monitor that knows Docker's data looks");
    assert_eq!(of_monitors("diff/tmp/x"), "hi\n", "what it measures");

    let conflict = test.store.remove(mounted.image.as_str(), by_force(&["c1"])).await.expect_err("in use");
    assert!(matches!(conflict, Error::Conflict(_)) && conflict.to_string().contains("c1"), "{conflict}");
    test.store.snapshot_unmount("c1").await.expect("unmounts");
    test.store.snapshot_unmount("c1").await.expect("nothing to do");
    assert!(!mounted.rootfs.join("bin").exists());
    let mounted = test.store.snapshot_mount("c1", "gone-name").await.expect("the snapshot knows its image");
    assert_eq!(fs::read_to_string(mounted.rootfs.join("tmp/x")).expect("kept"), "hi\n");
    test.store.snapshot_remove("c1").await.expect("removes");
    test.store.snapshot_remove("c1").await.expect("nothing to do");
    assert!(test.store.snapshot_list().is_empty());
    test.store.remove("box", gently()).await.expect("no longer in use");
}

/// E-06: an image goes by force from under a container that does not run. Its root filesystem may still be mounted, and
/// it is there also later.
#[tokio::test]
async fn e_06_a_stopped_container_outlives_its_image() {
    if !can_mount("e_06_a_stopped_container_outlives_its_image") {
        return;
    }
    let mut test = TestStore::new("outlives").await;
    load(&test.store, busybox_archive("box").expect("busybox")).await.expect("loads");
    let mounted = test.store.snapshot_mount("c1", "box").await.expect("mounts");
    let id = mounted.image.to_string();
    let refused = test.store.remove(&id, gently()).await.expect_err("it has a container").to_string();
    assert!(refused.contains("(must be forced) - image is being used by stopped container c1"), "{refused}");
    let gone = test.store.remove("box", by_force(&["another"])).await.expect("nobody runs");
    assert_eq!(gone, [Removed::Untagged("box:latest".into()), Removed::Deleted(mounted.image.clone())]);
    assert!(test.store.list().is_empty());
    test.store.snapshot_unmount("c1").await.expect("unmounts");
    test.reopen().await;
    assert_eq!(test.store.snapshot_mount("c1", &id).await.expect("mounts again"), mounted);
    assert!(mounted.rootfs.join("bin/busybox").exists());
    let lost = test.store.commit("c1", CommitOptions::default()).await.expect_err("of nothing");
    assert!(matches!(lost, Error::NoSuchImage(_)), "{lost}");
    test.store.snapshot_remove("c1").await.expect("removes");
    test.store.gc().await.expect("sweeps");
    assert_eq!(content_of(&test.root), Vec::<String>::new(), "nothing left on disk");
}

#[tokio::test]
async fn mounts_survive_a_restart_of_the_daemon() {
    if !can_mount("mounts_survive_a_restart_of_the_daemon") {
        return;
    }
    let mut test = TestStore::new("restart").await;
    load(&test.store, busybox_archive("box").expect("busybox")).await.expect("loads");
    let mounted = test.store.snapshot_mount("c1", "box").await.expect("mounts");
    assert!(matches!(Store::open(&test.root).await.err(), Some(Error::StoreBusy(_))), "one daemon at a time");
    fs::write(test.root.join("tmp/leftover"), b"x").expect("writes");
    // as a snapshot of before had it
    let snapshot = test.root.join("snapshots/c1");
    fs::rename(snapshot.join("diff"), snapshot.join("upper")).expect("renamed");
    fs::remove_file(snapshot.join("mount-id")).expect("removed");
    test.reopen().await;
    fs::write(mounted.rootfs.join("tmp/later"), b"y").expect("writes");
    assert_eq!(fs::read(snapshot.join("diff/tmp/later")).expect("there, through the mount of before"), b"y");
    assert_eq!(fs::read(snapshot.join("mount-id")).expect("there"), b"c1");
    assert!(!test.root.join("tmp/leftover").exists(), "leftovers are removed");
    assert!(mounted.rootfs.join("bin/busybox").exists(), "still mounted");
    let list = test.store.snapshot_list();
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(test.store.snapshot_mount("c1", "box").await.expect("idempotent"), mounted);
}

#[tokio::test]
async fn many_layers_fit_into_one_mount() {
    if !can_mount("many_layers_fit_into_one_mount") {
        return;
    }
    let test = TestStore::new("many").await;
    let layers: Vec<Vec<u8>> = (0..120).map(|i| layer(&[&format!("d/file{i}"), "last"], &i.to_string())).collect();
    load(&test.store, tar_of("many:1", &layers)).await.expect("loads");
    let id = "c".repeat(64);
    let mounted = test.store.snapshot_mount(&id, "many:1").await.expect("mounts");
    assert_eq!(fs::read_dir(mounted.rootfs.join("d")).expect("merged").count(), 120);
    assert_eq!(fs::read_to_string(mounted.rootfs.join("last")).expect("top layer wins"), "119");
}

#[tokio::test]
async fn lost_layers_come_back_from_their_blobs() {
    if !can_mount("lost_layers_come_back_from_their_blobs") {
        return;
    }
    let mut test = TestStore::new("reboot").await;
    load(&test.store, busybox_archive("box").expect("busybox")).await.expect("loads");
    for entry in fs::read_dir(test.root.join("layers")).expect("lists") {
        let file = entry.expect("entry").path().join("layer.json");
        let text = fs::read_to_string(&file).expect("reads");
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id");
        fs::write(&file, text.replace(boot.trim(), "another-boot")).expect("writes");
    }
    test.reopen().await;
    assert_eq!(fs::read_dir(test.root.join("layers")).expect("lists").count(), 0, "not trusted after a reboot");
    let mounted = test.store.snapshot_mount("c1", "box").await.expect("unpacks again");
    assert!(mounted.rootfs.join("bin/busybox").exists());
    test.store.sync().await.expect("syncs");
    let marked = fs::read_dir(test.root.join("layers"))
        .expect("lists")
        .all(|e| e.expect("entry").path().join("synced").exists());
    assert!(marked);
}

#[tokio::test]
async fn a_damaged_store_says_so() {
    let mut test = TestStore::new("damaged").await;
    load(&test.store, busybox_archive("box").expect("busybox")).await.expect("loads");
    let blob = fs::read_dir(test.root.join("blobs/sha256")).expect("lists").next().expect("one").expect("entry").path();
    let catalog = test.root.join("catalog.json");
    let saved = fs::read(&catalog).expect("reads");
    test.close().await;
    let open = async || Store::open(&test.root).await.err().map(|e| e.to_string()).unwrap_or_default();

    fs::write(&catalog, &saved[..saved.len() / 2]).expect("writes");
    assert!(open().await.contains("is damaged: catalog.json"), "{}", open().await);
    fs::write(&catalog, br#"{"format":99}"#).expect("writes");
    assert!(open().await.contains("has format 99"));
    fs::write(&catalog, &saved).expect("writes");
    fs::remove_file(&blob).expect("removes");
    assert!(open().await.contains("is missing"));
}

#[tokio::test]
async fn a_full_disk_leaves_the_store_as_before() {
    if !can_mount("a_full_disk_leaves_the_store_as_before") {
        return;
    }
    let full = support::SmallDisk::new("3m");
    let store = Store::open(&full.path().join("images")).await.expect("opens");
    load(&store, tar_of("small", &[layer(&["a"], "x")])).await.expect("fits");
    let before = content_of(store.root());
    // Two megabytes fit as an archive, but not as an archive, a blob and a layer.
    let error = load(&store, tar_of("big", &[layer(&["a"], &"0123456789abcdef".repeat(125_000))]))
        .await
        .expect_err("too large");
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert_eq!(content_of(store.root()), before);
    assert_eq!(store.list().len(), 1);
}

#[tokio::test]
async fn mounting_twice_at_once_mounts_once() {
    if !can_mount("mounting_twice_at_once_mounts_once") {
        return;
    }
    let test = TestStore::new("twice").await;
    load(&test.store, busybox_archive("box").expect("busybox")).await.expect("loads");
    let mut mounts = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = test.store.clone();
        mounts.spawn(async move { store.snapshot_mount("c1", "box").await.map(|m| m.rootfs) });
    }
    let all = mounts.join_all().await;
    let rootfs = all[0].as_ref().expect("mounts").display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").expect("reads");
    assert!(all.iter().all(Result::is_ok) && table.matches(&rootfs).count() == 1, "{all:?}");
}

/// E-38: on overlayfs, which cannot hold another, containers get copies; who asks for overlayfs is told why not.
#[tokio::test]
async fn e_38_a_state_directory_on_overlayfs_gets_copies() {
    if !can_mount("e_38_a_state_directory_on_overlayfs_gets_copies") {
        return;
    }
    let base = tempfile::tempdir().expect("temporary directory");
    let overlay = support::Overlay::new(base.path());
    let root = overlay.path().join("images");
    let asked = Store::open_with(&root, Some(StorageDriver::Overlay2)).await;
    let refused = asked.err().map(|error| error.to_string());
    let Some(refused) = refused else {
        eprintln!("SKIPPED the rest: this kernel takes overlayfs on overlayfs");
        return;
    };
    assert!(refused.contains("storage driver overlay2 does not work in"), "{refused}");
    let store = Store::open(&root).await.expect("opens");
    assert_eq!(store.driver(), StorageDriver::Vfs);
    work_with_files(&store).await;
}

/// What containers do to their files, and what is told of it; nothing is left.
async fn work_with_files(store: &Store) {
    let removes = {
        let mut builder = tar::Builder::new(Vec::new());
        let mut empty = |name| {
            builder
                .append_data(&mut support::header(tar::EntryType::Regular, 0), name, std::io::empty())
                .expect("in memory");
        };
        empty(".wh.b");
        empty("d/.wh..wh..opq");
        empty("d/new");
        builder.into_inner().expect("in memory")
    };
    load(store, tar_of("app", &[layer(&["a", "b", "d/old"], "text"), removes])).await.expect("loads");
    let rootfs = store.snapshot_mount("c1", "app").await.expect("mounts").rootfs;
    assert!(rootfs.join("a").exists() && rootfs.join("d/new").exists());
    assert!(!rootfs.join("b").exists() && !rootfs.join("d/old").exists(), "what a layer removed is not there");
    assert!(store.snapshot_changes("c1").await.expect("compares").is_empty());
    assert!(store.remove("app", gently()).await.is_err(), "a container has it");

    fs::write(rootfs.join("a"), "other text").expect("writes");
    fs::remove_file(rootfs.join("d/new")).expect("removes");
    fs::write(rootfs.join("big"), vec![7; 300_000]).expect("writes");
    store.snapshot_unmount("c1").await.expect("unmounts");
    let told: Vec<String> = store
        .snapshot_changes("c1")
        .await
        .expect("compares")
        .iter()
        .map(|c| format!("{:?} {}", c.kind, c.path))
        .collect();
    assert_eq!(told, ["Modified /a", "Added /big", "Modified /d", "Deleted /d/new"]);
    let bytes = store.snapshot_usage("c1").await.expect("measures");
    assert!((300_000..400_000).contains(&bytes), "{bytes}");
    let reference = Some("app:2".parse().expect("good"));
    store.commit("c1", CommitOptions { reference, ..CommitOptions::default() }).await.expect("commits");
    let second = store.snapshot_mount("c2", "app:2").await.expect("mounts").rootfs;
    assert_eq!(fs::read_to_string(second.join("a")).expect("reads"), "other text");
    assert!(second.join("big").exists() && !second.join("d/new").exists());
    assert!(store.snapshot_changes("c2").await.expect("compares").is_empty());
    let again = store.snapshot_mount("c1", "nothing").await.expect("mounts again").rootfs;
    assert_eq!(fs::metadata(again.join("big")).expect("there").len(), 300_000);
    for container in ["c1", "c2"] {
        store.snapshot_remove(container).await.expect("removes");
    }
    for image in ["app", "app:2"] {
        store.remove(image, gently()).await.expect("removes");
    }
    assert_eq!(content_of(store.root()), Vec::<String>::new(), "nothing left on disk");
    let trees = fs::read_dir(store.root().join("trees")).map_or(0, Iterator::count);
    assert_eq!(trees, 0, "nor of the images");
}

/// What a container gets of an image as a mount, and how long.
async fn show_an_image(store: &Store) {
    load(store, tar_of("app", &[layer(&["own"], "app")])).await.expect("loads");
    load(store, tar_of("files", &[layer(&["d/f", "top"], "low"), layer(&["top"], "high")])).await.expect("loads");
    let lost = store.snapshot_image("c1", "files").await.expect_err("no root filesystem yet");
    assert!(matches!(lost, Error::NoSuchSnapshot(_)), "{lost}");
    let rootfs = store.snapshot_mount("c1", "app").await.expect("mounts").rootfs;
    let lost = store.snapshot_image("c1", "nothing").await.expect_err("no such image");
    assert!(matches!(lost, Error::NoSuchImage(_)), "{lost}");
    let view = store.snapshot_image("c1", "files").await.expect("mounts");
    assert_eq!(fs::read_to_string(view.rootfs.join("top")).expect("reads"), "high");
    assert_eq!(fs::read_to_string(view.rootfs.join("d/f")).expect("reads"), "low");
    assert!(!rootfs.join("top").exists(), "beside the root filesystem, not in it");
    if store.driver() == StorageDriver::Overlay2 {
        let refused = fs::write(view.rootfs.join("new"), "x").expect_err("nothing lies over the layers");
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    let id = view.image.to_string();
    assert_eq!(store.snapshot_image("c1", &id).await.expect("again"), view);

    assert_eq!(store.disk_usage().images[&view.image].containers, 1);
    store.snapshot_unmount("c1").await.expect("unmounts");
    let conflict = store.remove("files", gently()).await.expect_err("in use").to_string();
    assert!(conflict.contains("container c1 is using its referenced image"), "{conflict}");
    let gone = store.remove("files", by_force(&["c1"])).await.expect("the container has the files, not the image");
    assert_eq!(gone.last(), Some(&Removed::Deleted(view.image.clone())));
    store.gc().await.expect("sweeps");
    store.snapshot_mount("c1", "").await.expect("mounts again");
    let again = store.snapshot_image("c1", &id).await.expect("what the container has it keeps");
    assert_eq!(fs::read_to_string(again.rootfs.join("top")).expect("reads"), "high");
    store.snapshot_remove("c1").await.expect("removes");
    assert!(!view.rootfs.exists());
    store.remove("app", gently()).await.expect("nobody needs it any more");
    assert_eq!(content_of(store.root()), Vec::<String>::new(), "nothing left on disk");
}

/// S-68, E-15
#[tokio::test]
async fn s_68_e_15_a_container_has_an_image_as_a_mount() {
    if !can_mount("s_68_e_15_a_container_has_an_image_as_a_mount") {
        return;
    }
    for driver in [StorageDriver::Overlay2, StorageDriver::Vfs] {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open_with(&directory.path().join("images"), Some(driver)).await.expect("opens");
        show_an_image(&store).await;
    }
    // and the daemon may be another one meanwhile
    let mut test = TestStore::new("views").await;
    load(&test.store, busybox_archive("box").expect("busybox")).await.expect("loads");
    test.store.snapshot_mount("c1", "box").await.expect("mounts");
    let view = test.store.snapshot_image("c1", "box").await.expect("mounts");
    test.reopen().await;
    assert!(view.rootfs.join("bin/busybox").exists(), "still mounted");
    assert_eq!(test.store.snapshot_image("c1", "box").await.expect("idempotent"), view);
    test.store.snapshot_remove("c1").await.expect("removes");
    test.store.remove("box", gently()).await.expect("no longer in use");
}

/// E-38, E-09, E-24: copies do all that overlays do.
#[tokio::test]
async fn e_38_copies_do_what_overlays_do() {
    if !can_mount("e_38_copies_do_what_overlays_do") {
        return;
    }
    for driver in [StorageDriver::Overlay2, StorageDriver::Vfs] {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open_with(&directory.path().join("images"), Some(driver)).await.expect("opens");
        assert_eq!(store.driver(), driver);
        work_with_files(&store).await;
    }
}

/// E-38: on btrfs containers get snapshots of subvolumes.
#[tokio::test]
async fn e_38_snapshots_of_btrfs_do_what_overlays_do() {
    if !can_mount("e_38_snapshots_of_btrfs_do_what_overlays_do") {
        return;
    }
    let Some(disk) = support::BtrfsDisk::new() else {
        eprintln!("SKIPPED e_38_snapshots_of_btrfs_do_what_overlays_do: needs btrfs, mkfs.btrfs and loop devices");
        return;
    };
    let store = Store::open_with(&disk.path().join("images"), Some(StorageDriver::Btrfs)).await.expect("opens");
    work_with_files(&store).await;
    show_an_image(&store).await;
    load(&store, tar_of("two", &[layer(&["a"], "text")])).await.expect("loads");
    for container in ["c1", "c2"] {
        let rootfs = store.snapshot_mount(container, "two").await.expect("mounts").rootfs;
        assert_eq!(fs::metadata(rootfs).expect("there").ino(), 256, "the root of a subvolume");
    }
    assert_eq!(fs::read_dir(store.root().join("trees")).expect("lists").count(), 1, "one tree for both");
    let nested = store.root().join("snapshots/c1/rootfs/nested");
    let made = Command::new("btrfs").args(["subvolume", "create"]).arg(&nested).output().expect("runs");
    assert!(made.status.success(), "{made:?}");
    fs::write(nested.join("file"), "x").expect("writes");
    for container in ["c1", "c2"] {
        store.snapshot_remove(container).await.expect("removes");
    }
    store.remove("two", gently()).await.expect("removes");
    assert_eq!(content_of(store.root()), Vec::<String>::new(), "nothing left on disk, also of a subvolume inside");
    let listed = Command::new("btrfs").args(["subvolume", "list"]).arg(disk.path()).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "");
}

/// E-38: containers keep the driver they were made with, and layers made for one are made anew for another.
#[tokio::test]
async fn e_38_containers_keep_their_driver() {
    if !can_mount("e_38_containers_keep_their_driver") {
        return;
    }
    let mut test = TestStore::new("keep").await;
    load(&test.store, busybox_archive("box").expect("busybox")).await.expect("loads");
    let mut opened = StorageDriver::Overlay2;
    for (container, driver) in [("c1", StorageDriver::Vfs), ("c2", StorageDriver::Overlay2), ("c3", StorageDriver::Vfs)]
    {
        test.reopen_with(driver).await;
        opened = driver;
        let rootfs = test.store.snapshot_mount(container, "box").await.expect("mounts").rootfs;
        fs::write(rootfs.join("own"), container).expect("writes");
        test.store.snapshot_unmount(container).await.expect("unmounts");
    }
    assert_eq!(test.store.driver(), opened);
    let drivers = ["c1", "c2", "c3"].map(|container| test.store.snapshot_driver(container).expect("known"));
    assert_eq!(drivers, [StorageDriver::Vfs, StorageDriver::Overlay2, StorageDriver::Vfs]);
    test.reopen_with(StorageDriver::Overlay2).await;
    for container in ["c1", "c2", "c3"] {
        let rootfs = test.store.snapshot_root(container).await.expect("mounts");
        assert_eq!(fs::read_to_string(rootfs.join("own")).expect("reads"), container);
        assert_eq!(test.store.snapshot_changes(container).await.expect("compares").len(), 1);
    }
}

#[tokio::test]
async fn a_snapshot_cut_short_by_a_power_failure_is_made_anew() {
    if !can_mount("a_snapshot_cut_short_by_a_power_failure_is_made_anew") {
        return;
    }
    let mut test = TestStore::new("power").await;
    load(&test.store, busybox_archive("box").expect("busybox")).await.expect("loads");
    test.store.snapshot_mount("c1", "box").await.expect("mounts");
    test.store.snapshot_unmount("c1").await.expect("unmounts");
    fs::write(test.root.join("snapshots/c1/snapshot.json"), "").expect("writes");
    test.reopen().await;
    assert!(test.store.snapshot_list().is_empty());
    test.store.snapshot_mount("c1", "box").await.expect("mounts again");
}
