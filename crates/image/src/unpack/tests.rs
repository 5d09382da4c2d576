//! Hostile and honest layers, unpacked into a temporary directory and looked at with the kernel's eyes.
//! As root, since owners, devices and trusted attributes need it; otherwise they say they were skipped.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use tar::{Builder, EntryType, Header};

use super::*;

/// An entry with any name, however evil; `link` and `data` as the kind wants.
struct Item<'a> {
    kind: EntryType,
    name: &'a str,
    link: &'a str,
    data: &'a [u8],
    mode: u32,
}

fn file<'a>(name: &'a str, data: &'a str) -> Item<'a> {
    Item { kind: EntryType::Regular, name, link: "", data: data.as_bytes(), mode: 0o644 }
}

fn directory(name: &str) -> Item<'_> {
    Item { kind: EntryType::Directory, name, link: "", data: b"", mode: 0o755 }
}

fn link<'a>(kind: EntryType, name: &'a str, link: &'a str) -> Item<'a> {
    Item { kind, name, link, data: b"", mode: 0o777 }
}

fn symlink<'a>(name: &'a str, target: &'a str) -> Item<'a> {
    link(EntryType::Symlink, name, target)
}

fn hard<'a>(name: &'a str, target: &'a str) -> Item<'a> {
    link(EntryType::Link, name, target)
}

fn device(name: &str, kind: EntryType) -> Item<'_> {
    Item { kind, name, link: "", data: b"", mode: 0o600 }
}

fn header_of(item: &Item<'_>) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(item.kind);
    header.set_mode(item.mode);
    header.set_size(item.data.len() as u64);
    header.set_mtime(1_600_000_000);
    let gnu = header.as_gnu_mut().expect("made as GNU");
    gnu.name[..item.name.len()].copy_from_slice(item.name.as_bytes());
    gnu.linkname[..item.link.len()].copy_from_slice(item.link.as_bytes());
    header
}

fn tar_of(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for item in items {
        let mut header = header_of(item);
        header.set_cksum();
        builder.append(&header, item.data).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: needs root");
    }
    root
}

/// Unpacks beside a file that must stay untouched; gives the layer's directory.
fn check(items: &[Item<'_>]) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
    check_bytes(&tar_of(items))
}

fn check_bytes(bytes: &[u8]) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
    let base = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(base.path().join("fs")).expect("made");
    fs::write(base.path().join("victim"), "untouched").expect("written");
    let result = unpack(bytes, &base.path().join("fs"));
    assert_eq!(fs::read_to_string(base.path().join("victim")).expect("still there"), "untouched");
    assert_eq!(fs::read_dir(base.path()).expect("lists").count(), 2, "nothing beside the layer");
    (base, result)
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn hostile_entries_are_refused_by_name() {
    if !is_root("hostile_entries_are_refused_by_name") {
        return;
    }
    let deep = "d/".repeat(40);
    let loops: Vec<Item<'_>> = vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "")];
    let cases: Vec<(&str, Vec<Item<'_>>, &str, &str)> = vec![
        ("climbing", vec![file("../victim", "x")], "../victim", "climbs"),
        ("climbing inside", vec![file("a/../../victim", "x")], "a/../../victim", "climbs"),
        ("climbing alone", vec![directory("..")], "..", "climbs"),
        ("absolute climbing", vec![file("/../victim", "x")], "/../victim", "climbs"),
        (
            "link out, file through it",
            vec![symlink("out", "../../.."), file("out/victim", "x")],
            "out/victim",
            "leaves the image",
        ),
        (
            "link chain",
            vec![symlink("a", ".."), symlink("b", "a"), file("b/victim", "x")],
            "b/victim",
            "leaves the image",
        ),
        ("hard link out", vec![hard("h", "../victim")], "h", "climbs"),
        ("hard link through a link", vec![symlink("out", ".."), hard("h", "out/victim")], "h", "leaves the image"),
        ("hard link to a host file", vec![hard("h", "/etc/passwd")], "h", "does not have"),
        ("hard link to a directory", vec![directory("d"), hard("h", "d")], "h", "directory"),
        ("hard link to the root", vec![hard("h", ".")], "h", "root"),
        ("link loop", loops, "a/x", "too many symbolic links"),
        ("file as directory", vec![file("f", ""), file("f/x", "")], "f/x", "not a directory"),
        ("root as file", vec![file(".", "")], ".", "must be a directory"),
        ("forged whiteout", vec![device("c", EntryType::Char)], "c", "0:0"),
        ("whiteout of parent", vec![file("d/.wh...", "")], "d/.wh...", "whiteout"),
        ("whiteout of nothing", vec![file(".wh.", "")], ".wh.", "whiteout"),
        ("unknown kind", vec![device("v", EntryType::new(b'V'))], "v", "unknown entry type"),
        ("empty link", vec![symlink("s", "")], "s", "link to nothing"),
        ("whiteout through a link out", vec![symlink("o", "/.."), file("o/.wh.x", "")], "o/.wh.x", "leaves the image"),
        ("no name", vec![file("", "x")], "", "must be a directory"),
        (
            "climbing from deep",
            vec![directory(&deep), file("d/d/../../../victim", "")],
            "d/d/../../../victim",
            "climbs",
        ),
    ];
    for (what, items, entry, reason) in cases {
        match check(&items).1 {
            Err(UnpackError::Hostile(hostile)) => {
                assert_eq!(hostile.entry, entry, "{what}");
                assert!(hostile.reason.contains(reason), "{what}: {}", hostile.reason);
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_device_that_cannot_exist_is_refused() {
    let mut header = header_of(&device("dev", EntryType::Block));
    header.set_device_major(0o777_7777).expect("fits");
    header.set_cksum();
    let (_base, result) = check_bytes(header.as_bytes());
    assert!(matches!(&result, Err(UnpackError::Hostile(h)) if h.reason.contains("cannot exist")), "{result:?}");
}

#[test]
fn endless_nesting_is_refused() {
    // Each link makes the next name stand for a path twice as deep.
    let mut builder = Builder::new(Vec::new());
    let mut previous = String::new();
    for level in 0..8 {
        let name = format!("{previous}{}", "x/".repeat(90));
        let mut header = header_of(&directory("placeholder"));
        builder.append_data(&mut header, &name, io::empty()).expect("in memory");
        let link_name = format!("l{level}");
        let mut header = header_of(&symlink("placeholder", ""));
        builder.append_link(&mut header, &link_name, &name).expect("in memory");
        previous = format!("{link_name}/");
    }
    let bytes = builder.into_inner().expect("in memory");
    if !is_root("endless_nesting_is_refused") {
        return;
    }
    let (_base, result) = check_bytes(&bytes);
    assert!(matches!(&result, Err(UnpackError::Hostile(h)) if h.reason.contains("nested deeper")), "{result:?}");
}

#[test]
fn links_inside_the_image_are_followed_in_the_image() {
    if !is_root("links_inside_the_image_are_followed_in_the_image") {
        return;
    }
    let (base, result) = check(&[
        directory("usr/lib"),
        symlink("lib", "usr/lib"),
        file("lib/a", "a"),
        symlink("abs", "/etc"),
        file("abs/passwd", "inside"),
        symlink("usr/up", "../usr/./lib/.."),
        file("usr/up/b", "b"),
        file("/rooted", "r"),
    ]);
    result.expect("legal");
    let read = |path: &str| fs::read_to_string(base.path().join("fs").join(path)).expect(path);
    assert_eq!(read("usr/lib/a") + &read("etc/passwd") + &read("usr/b") + &read("rooted"), "ainsidebr");
    assert!(base.path().join("fs/lib").is_symlink());
}

#[test]
fn later_entries_replace_earlier_ones() {
    if !is_root("later_entries_replace_earlier_ones") {
        return;
    }
    let (base, result) = check(&[
        file("f", "old"),
        hard("h", "f"),
        file("f", "new"),
        symlink("s", "../victim"),
        file("s", "plain"),
        directory("d"),
        file("d/x", ""),
        file("d", "file"),
        symlink("e", "d"),
        directory("e"),
        file("e/y", "y"),
        directory("e"),
        hard("f", "f"),
    ]);
    result.expect("legal");
    let root = base.path().join("fs");
    let read = |path: &str| fs::read_to_string(root.join(path)).expect(path);
    assert_eq!([read("f"), read("h"), read("s"), read("d"), read("e/y")], ["new", "old", "plain", "file", "y"]);
}

#[test]
fn whiteouts_become_overlayfs_marks() {
    if !is_root("whiteouts_become_overlayfs_marks") {
        return;
    }
    let (base, result) = check(&[
        file("d/.wh.gone", ""),
        file("o/.wh..wh..opq", ""),
        file(".wh..wh.plnk", ""),
        file(".wh.again", ""),
        directory("again"),
        file("again/x", ""),
        directory("before"),
        file(".wh.before", ""),
        file(".wh.implied", ""),
        file("implied/x", ""),
    ]);
    result.expect("legal");
    let root = base.path().join("fs");
    let gone = fs::symlink_metadata(root.join("d/gone")).expect("made");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for opaque in ["o", "again", "before", "implied"] {
        assert_eq!(xattr(&root.join(opaque), "trusted.overlay.opaque").as_deref(), Some(b"y".as_slice()), "{opaque}");
    }
    assert!(root.join("again/x").exists() && root.join("implied/x").exists());
    assert_eq!(xattr(&root.join("d"), "trusted.overlay.opaque"), None);
    assert!(!root.join(".wh..wh.plnk").exists());
}

#[test]
fn attributes_are_kept() {
    if !is_root("attributes_are_kept") {
        return;
    }
    let mut builder = Builder::new(Vec::new());
    let xattrs = [
        ("SCHILY.xattr.trusted.test", b"v".as_slice()),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("mtime", b"1500000000.5"),
    ];
    builder.append_pax_extensions(xattrs).expect("in memory");
    let mut header = header_of(&Item { mode: 0o4755, ..file("suid", "x") });
    header.set_uid(1000);
    header.set_gid(1001);
    header.set_cksum();
    builder.append(&header, b"x".as_slice()).expect("in memory");
    for item in [directory("./"), directory("d"), file("d/f", ""), hard("d/h", "d/f"), device("p", EntryType::Fifo)] {
        let mut header = header_of(&item);
        header.set_cksum();
        builder.append(&header, item.data).expect("in memory");
    }
    let mut null = header_of(&device("null", EntryType::Char));
    null.set_device_major(1).expect("fits");
    null.set_device_minor(3).expect("fits");
    null.set_cksum();
    builder.append(&null, io::empty()).expect("in memory");
    let (base, result) = check_bytes(&builder.into_inner().expect("in memory"));
    assert_eq!(result.expect("legal").bytes, 1);
    let root = base.path().join("fs");
    let meta = |name: &str| fs::symlink_metadata(root.join(name)).expect(name);
    let suid = meta("suid");
    assert_eq!((suid.mode() & 0o7777, suid.uid(), suid.gid()), (0o4755, 1000, 1001));
    assert_eq!((suid.mtime(), suid.mtime_nsec()), (1_500_000_000, 500_000_000));
    assert_eq!(xattr(&root.join("suid"), "trusted.test").as_deref(), Some(b"v".as_slice()));
    assert_eq!(xattr(&root.join("suid"), "trusted.overlay.redirect"), None, "an image does not speak to overlayfs");
    assert_eq!((meta("d/f").ino(), meta("d/f").nlink()), (meta("d/h").ino(), 2));
    assert_eq!((meta("d").mtime(), meta("./").mtime()), (1_600_000_000, 1_600_000_000), "directories last");
    assert!(meta("p").file_type().is_fifo() && meta("null").rdev() == rustix::fs::makedev(1, 3));
}

#[test]
fn sparse_files_stay_sparse() {
    if !is_root("sparse_files_stay_sparse") {
        return;
    }
    let mut builder = Builder::new(Vec::new());
    let records =
        [("GNU.sparse.major", b"1".as_slice()), ("GNU.sparse.name", b"big"), ("GNU.sparse.realsize", b"104857600")];
    builder.append_pax_extensions(records).expect("in memory");
    let mut data = b"1\n104857590\n4\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"tail");
    let mut header = header_of(&Item { data: &data, ..file("GNUSparseFile.0/big", "") });
    header.set_cksum();
    builder.append(&header, data.as_slice()).expect("in memory");
    let (base, result) = check_bytes(&builder.into_inner().expect("in memory"));
    result.expect("legal");
    let meta = fs::metadata(base.path().join("fs/big")).expect("made");
    assert!(meta.len() == 104_857_600 && meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
}
