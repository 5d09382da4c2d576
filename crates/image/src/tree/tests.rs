//! Trees on the disk, packed, unpacked and compared. Device nodes and overlay marks need root.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use super::*;

fn root(path: &Path) -> Root {
    Root::open(path).expect("it opens")
}

fn packed(root: &Root, path: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    root.pack(path, &mut tar).expect("it packs");
    tar
}

/// The entries of a tar: name, type, link.
fn listed(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("a tar").map(|entry| {
        let entry = entry.expect("an entry");
        let link = entry.link_name_bytes().map(|link| format!(" -> {}", String::from_utf8_lossy(&link)));
        format!("{}{}", String::from_utf8_lossy(&entry.path_bytes()), link.unwrap_or_default())
    });
    entries.collect()
}

fn sample(dir: &Path) {
    fs::create_dir_all(dir.join("srv/data/deep")).expect("made");
    fs::write(dir.join("srv/data/file"), "hello").expect("written");
    fs::hard_link(dir.join("srv/data/file"), dir.join("srv/data/twin")).expect("linked");
    fs::write(dir.join("srv/data/deep").join("x".repeat(150)), "long").expect("written");
    symlink("/srv/data", dir.join("absolute")).expect("linked");
    symlink("../../../../etc/passwd", dir.join("srv/out")).expect("linked");
}

#[test]
fn names_follow_the_path_that_was_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    sample(dir.path());
    let root = root(dir.path());
    let names = |path: &str| listed(&packed(&root, path));
    assert_eq!(names("/srv/data/file"), ["file"]);
    let long = "x".repeat(150);
    let under = |name: &str| {
        vec![
            format!("{name}/"),
            format!("{name}/deep/"),
            format!("{name}/deep/{long}"),
            format!("{name}/file"),
            format!("{name}/twin -> {name}/file"),
        ]
    };
    assert_eq!(names("/srv/data"), under("data"));
    assert_eq!(names("srv/data/"), under("data"));
    assert_eq!(names("/srv/data/."), under("."));
    // The link itself, or what it leads to where the path says that a directory is meant.
    assert_eq!(names("/absolute"), ["absolute -> /srv/data"]);
    assert_eq!(names("/absolute/"), under("absolute"));
    let mut all = Vec::new();
    root.pack_all(&mut all).expect("it packs");
    assert_eq!(listed(&all)[..3], ["absolute -> /srv/data", "srv/", "srv/data/"]);
}

#[test]
fn links_are_followed_inside_only() {
    let dir = tempfile::tempdir().expect("a directory");
    sample(dir.path());
    let root = root(dir.path());
    let stat = root.stat("/absolute").expect("it is there");
    assert_eq!((stat.name.as_str(), stat.link_target.as_str()), ("absolute", "/srv/data"));
    assert_eq!(stat.mode & 0o170_000, 0o120_000);
    assert_eq!(root.stat("/absolute/").expect("a directory").mode & 0o170_000, 0o040_000);
    assert_eq!(root.stat("/absolute/file").expect("through the link").size, 5);
    assert!(matches!(root.stat("/srv/out/"), Err(TreeError::NotFound(_))));
    assert!(matches!(root.stat("/srv/data/file/x"), Err(TreeError::NotFound(_))));
    assert!(matches!(root.stat(&format!("/srv/{}", "x".repeat(300))), Err(TreeError::NotFound(_))));
    assert!(matches!(root.stat(&"/x".repeat(3000)), Err(TreeError::NotFound(_))));
    assert_eq!(root.stat("/").expect("the root").name, "/");
}

#[test]
fn what_was_packed_comes_out_the_same() {
    let (from, to) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    sample(from.path());
    fs::set_permissions(from.path().join("srv/data/file"), fs::Permissions::from_mode(0o4711)).expect("mode");
    let tar = packed(&root(from.path()), "/srv/data");
    fs::create_dir_all(to.path().join("real/data")).expect("made");
    fs::write(to.path().join("real/data/kept"), "kept").expect("written");
    symlink("/real", to.path().join("way")).expect("linked");
    root(to.path()).extract("/way", &tar[..], ExtractOptions::default()).expect("it unpacks");
    let data = to.path().join("real/data");
    assert_eq!(fs::read_to_string(data.join("kept")).expect("it is merged"), "kept");
    let (file, twin) = (data.join("file").metadata().expect("a file"), data.join("twin").metadata().expect("a file"));
    assert_eq!((file.ino(), file.mode() & 0o7777), (twin.ino(), 0o4711));
    assert_eq!(fs::read_to_string(data.join("deep").join("x".repeat(150))).expect("a long name"), "long");
}

#[test]
fn what_may_not_be_replaced_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("a/x")).expect("made");
    fs::write(dir.path().join("x"), "file").expect("written");
    let root = root(dir.path());
    let (file, directory) = (packed(&root, "/x"), packed(&root, "/a/x"));
    let strict = ExtractOptions { no_overwrite_dir_non_dir: true, ..ExtractOptions::default() };
    assert!(matches!(root.extract("/a", &file[..], strict), Err(TreeError::DirectoryInTheWay(_))));
    assert!(matches!(root.extract("/", &directory[..], strict), Err(TreeError::FileInTheWay(_))));
    assert!(matches!(root.extract("/x", &file[..], strict), Err(TreeError::NotDirectory)));
    assert!(matches!(root.extract("/none", &file[..], strict), Err(TreeError::NotFound(_))));
    root.extract("/a", &file[..], ExtractOptions::default()).expect("it replaces");
    assert!(dir.path().join("a/x").is_file());
    for bad in [&b"no tar at all, but long enough to be looked at"[..], &file[..514]] {
        assert!(root.extract("/a", bad, strict).is_err());
    }
}

#[test]
fn an_archive_climbs_nowhere() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("inside")).expect("made");
    symlink(dir.path(), dir.path().join("inside/up")).expect("linked");
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    for (name, is_refused) in [("../outside", true), ("up/made", false)] {
        let mut tar = tar::Builder::new(Vec::new());
        header.as_old_mut().name = [0; 100];
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, &b"x"[..]).expect("appended");
        let tar = tar.into_inner().expect("a tar");
        let done = root(&dir.path().join("inside")).extract("/", &tar[..], ExtractOptions::default());
        assert_eq!(matches!(done, Err(TreeError::Hostile(_))), is_refused, "{done:?}");
        assert!(!dir.path().join("outside").exists() && !dir.path().join("made").exists());
    }
}

#[test]
fn changes_are_told_from_the_layers() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root for whiteouts");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (low, high, upper) = (dir.path().join("low"), dir.path().join("high"), dir.path().join("upper"));
    let mark = |path: &Path| {
        let mode = Mode::from_raw_mode(0);
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::CharacterDevice, mode, 0).expect("a whiteout");
    };
    for path in ["etc", "var/old", "usr"] {
        fs::create_dir_all(low.join(path)).expect("made");
    }
    for path in ["etc/a", "etc/b", "var/old/1", "var/old/2", "usr/gone"] {
        fs::write(low.join(path), path).expect("written");
    }
    fs::create_dir_all(high.join("usr")).expect("made");
    mark(&high.join("usr/gone"));
    for path in ["etc", "var/old", "usr", "new/deep", "proc"] {
        fs::create_dir_all(upper.join(path)).expect("made");
    }
    fs::write(upper.join("etc/a"), "other").expect("written");
    fs::write(upper.join("etc/hosts"), "").expect("a mount point");
    mark(&upper.join("etc/b"));
    fs::write(upper.join("usr/gone"), "again").expect("written");
    fs::write(upper.join("var/old/2"), "2").expect("written");
    crate::unpack::set_opaque(fs::File::open(upper.join("var")).expect("open").as_fd(), b"old").expect("opaque");
    let lower = Lower::open(&[high, low]).expect("layers");
    let found = differences(&root(&upper), TreeKind::Upper, &lower).expect("compared");
    let letter = |kind| match kind {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    let shown: Vec<_> = found
        .iter()
        .map(|change| format!("{} /{}", letter(change.kind), String::from_utf8_lossy(&change.path)))
        .collect();
    let wanted = [
        "C /etc",
        "C /etc/a",
        "D /etc/b",
        "A /new",
        "A /new/deep",
        "C /usr",
        "A /usr/gone",
        "C /var",
        "C /var/old",
        "D /var/old/1",
        "C /var/old/2",
    ];
    assert_eq!(shown, wanted);

    let mut layer = Vec::new();
    pack_layer(&root(&upper), &found, &mut layer).expect("it packs");
    let names = listed(&layer);
    for name in ["etc/.wh.b", "var/old/.wh.1", "var/old/2", "new/deep/"] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("hosts") || name.starts_with("proc")), "{names:?}");
}

/// E-38: what the layers make together, copied, is what overlayfs shows; what is done there is told as there.
#[test]
fn e_38_a_flattened_image_is_as_its_layers_and_its_changes_are_told() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root for whiteouts");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (low, high, whole) = (dir.path().join("low"), dir.path().join("high"), dir.path().join("whole"));
    for path in [&low.join("etc"), &low.join("var/old"), &low.join("usr/gone"), &high.join("var/old"), &whole] {
        fs::create_dir_all(path).expect("made");
    }
    for path in ["etc/a", "etc/b", "var/old/1", "usr/gone/x", "usr/set"] {
        fs::write(low.join(path), path).expect("written");
    }
    fs::set_permissions(low.join("usr/set"), fs::Permissions::from_mode(0o4751)).expect("mode");
    fs::hard_link(low.join("etc/a"), low.join("usr/linked")).expect("linked");
    symlink("../etc/a", low.join("usr/link")).expect("linked");
    fs::write(high.join("var/old/2"), "2").expect("written");
    fs::create_dir(high.join("usr")).expect("made");
    let mark = |device| {
        let path = high.join("usr/gone");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, Mode::empty(), device).expect("a mark");
    };
    // the mark of file systems that refuse overlayfs's own
    mark(rustix::fs::makedev(0, 1));
    crate::unpack::set_opaque(fs::File::open(high.join("var")).expect("open").as_fd(), b"old").expect("opaque");
    fs::set_permissions(high.join("var/old"), fs::Permissions::from_mode(0o711)).expect("mode");

    let lower = Lower::open(&[high, low.clone()]).expect("layers");
    flatten(&lower, &whole).expect("copied");
    assert!(!whole.join("usr/gone").exists() && !whole.join("var/old/1").exists(), "what was removed is not copied");
    let mode = |path: &str| fs::metadata(whole.join(path)).expect("there").mode() & 0o7777;
    assert_eq!((mode("var/old"), mode("usr/set")), (0o711, 0o4751));
    let node = |path: &str| fs::metadata(whole.join(path)).expect("there").ino();
    assert_eq!(node("etc/a"), node("usr/linked"), "one file with two names");
    let told = || {
        let found = differences(&root(&whole), TreeKind::Whole, &lower).expect("compared");
        let text = |change: Change| format!("{:?} {}", change.kind, change.path);
        found.into_iter().map(Change::from).map(text).collect::<Vec<_>>()
    };
    assert_eq!(told(), Vec::<String>::new(), "nothing was done");

    fs::write(whole.join("etc/a"), "other text").expect("written");
    fs::remove_file(whole.join("etc/b")).expect("removed");
    fs::remove_dir_all(whole.join("var")).expect("removed");
    fs::create_dir(whole.join("new")).expect("made");
    fs::write(whole.join("new/file"), "x".repeat(5000)).expect("written");
    let wanted = [
        "Modified /etc",
        "Modified /etc/a",
        "Deleted /etc/b",
        "Added /new",
        "Added /new/file",
        "Modified /usr/linked",
        "Deleted /var",
    ];
    let told = told();
    assert_eq!(told.iter().filter(|line| *line != "Modified /usr").collect::<Vec<_>>(), wanted);
    let found = differences(&root(&whole), TreeKind::Whole, &lower).expect("compared");
    assert!(root(&whole).usage(&found) >= 8192);
    let mut layer = Vec::new();
    pack_layer(&root(&whole), &found, &mut layer).expect("packs");
    let names = listed(&layer);
    assert!(names.contains(&".wh.var".to_owned()) && names.contains(&"usr/linked -> etc/a".to_owned()), "{names:?}");
}
