//! Archives of images and root filesystems: loaded, imported, saved, and refused.
#![allow(clippy::print_stderr, reason = "a test that cannot run here says so")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use bzip2::bufread::BzEncoder;
use image::{Digest, Error, ImportOptions, Progress, Store, busybox_archive};
use liblzma::bufread::XzEncoder;
use support::{
    TestStore, content_of, gently, layer, load,
    server::{Reply, Server},
    tar_of, told,
};

#[tokio::test]
async fn import_makes_an_image_of_a_tar() {
    let test = TestStore::new("import").await;
    let options = ImportOptions {
        reference: Some("mine".parse().expect("good")),
        changes: vec!["CMD [\"/a\"]".into(), "ENV X=1".into()],
        message: "by hand".into(),
        platform: None,
    };
    let tar = zstd::encode_all(layer(&["a"], "text").as_slice(), 1).expect("in memory");
    let imported = test.store.import(std::io::Cursor::new(tar), options).await.expect("imports");
    let detail = test.store.inspect("mine:latest").expect("known");
    assert_eq!(detail.summary.id, imported.id);
    assert_eq!((detail.config.config.cmd.join(" "), detail.config.config.env.join(" ")), ("/a".into(), "X=1".into()));
    assert_eq!(detail.config.history[0].comment, "by hand");

    let bad = ImportOptions { changes: vec!["RUN x".into()], ..ImportOptions::default() };
    let error = test.store.import(std::io::Cursor::new(layer(&["a"], "")), bad).await.expect_err("refused");
    assert!(matches!(error, Error::BadChange { .. }), "{error}");
    let error =
        test.store.import(std::io::Cursor::new(vec![b'x'; 2000]), ImportOptions::default()).await.expect_err("no tar");
    assert!(error.to_string().contains("is not usable: it is no tar archive"), "{error:?}");
    test.store.remove("mine", gently()).await.expect("removes");
    assert_eq!(content_of(&test.root), Vec::<String>::new(), "nothing left of the refused ones");
}

/// E-07, E-08: as vendors ship images. What is kept of a root filesystem every engine can unpack.
#[tokio::test]
async fn e_07_e_08_archives_by_xz_and_bzip2() {
    let test = TestStore::new("packed").await;
    let pack = |tar: &[u8], by_xz: bool| {
        let mut out = Vec::new();
        let packed = match by_xz {
            true => XzEncoder::new(tar, 1).read_to_end(&mut out),
            false => BzEncoder::new(tar, bzip2::Compression::fast()).read_to_end(&mut out),
        };
        packed.expect("in memory");
        out
    };
    for by_xz in [true, false] {
        let text = format!("by xz: {by_xz}");
        let archive = tar_of("packed:1", &[layer(&["a"], &text)]);
        let loaded = load(&test.store, pack(&archive, by_xz)).await.expect("loads");
        assert_eq!(loaded[0].references, ["packed:1".parse().expect("good")]);
        let rootfs = layer(&["b"], &text);
        let packed = std::io::Cursor::new(pack(&rootfs, by_xz));
        test.store.import(packed, ImportOptions::default()).await.expect("imports");
        assert!(test.root.join("blobs/sha256").join(Digest::of(&rootfs).hex()).exists(), "{text}");
    }
}

#[tokio::test]
async fn bad_archives_leave_the_store_as_before() {
    let test = TestStore::new("bad").await;
    let good = busybox_archive("box").expect("busybox");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let cases = [
        ("cut", good[..good.len() / 2].to_vec(), "cannot read the image archive"),
        ("flipped bit", flipped, "digest mismatch"),
        ("text", b"hello".repeat(300), "the image archive is not usable: it is no tar archive"),
        ("empty", Vec::new(), "neither manifest.json"),
        ("root filesystem", layer(&["etc/passwd"], ""), "image import"),
    ];
    for (what, archive, expected) in cases {
        let error = load(&test.store, archive).await.expect_err(what).to_string();
        assert!(error.contains(expected), "{what}: {error}");
        assert_eq!(content_of(&test.root), Vec::<String>::new(), "{what}");
    }
    assert!(test.store.list().is_empty());
}

#[tokio::test]
async fn oci_layouts_with_nested_indexes() {
    let test = TestStore::new("oci").await;
    let host = image::Platform::host().architecture;
    for (what, archive) in support::oci_layouts(&host) {
        let loaded = load(&test.store, archive).await.expect(what);
        assert_eq!(loaded[0].references, ["demo/oci:1".parse().expect("good")], "{what}");
        assert_eq!(test.store.inspect("demo/oci:1").expect("known").config.architecture, host, "{what}");
    }
    let error = load(&test.store, support::oci_layouts("s390x").remove(1).1).await.expect_err("not for us");
    assert!(matches!(error, Error::NoMatchingPlatform { .. }), "{error:?}");
}

#[tokio::test]
async fn hostile_layers_name_the_entry_and_leave_nothing() {
    let test = TestStore::new("hostile").await;
    let mut header = support::header(tar::EntryType::Regular, 0);
    let name = b"../../etc/evil";
    header.as_gnu_mut().expect("made as GNU").name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    let evil = header.as_bytes().to_vec();
    let good = layer(&["a"], "x");
    let error = load(&test.store, tar_of("evil", &[good, evil])).await.expect_err("refused");
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(matches!(error, Error::Hostile { .. }) && source.contains("../../etc/evil"), "{error}: {source}");
    assert_eq!(content_of(&test.root), Vec::<String>::new());
}

#[tokio::test]
async fn saved_images_load_elsewhere() {
    let (here, there) = (TestStore::new("save").await, TestStore::new("saved").await);
    load(&here.store, busybox_archive("box:1").expect("busybox")).await.expect("loads");
    load(&here.store, tar_of("many:2", &[layer(&["a"], "1"), layer(&["b"], "2")])).await.expect("loads");
    let id = here.store.get("many:2").expect("known");
    let names = ["box:1", id.short()];
    load(&there.store, saved(&here.store, &names).await).await.expect("loads");
    assert_eq!(there.store.get("box:1").expect("by name"), here.store.get("box:1").expect("known"));
    assert_eq!(there.store.inspect(id.as_str()).expect("by id").summary.repo_tags, Vec::<String>::new());
    let error = here.store.save(&["missing".into()], tokio::io::sink()).await.expect_err("unknown");
    assert!(matches!(error, Error::NoSuchImage(_)), "{error}");
}

async fn saved(store: &Store, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let (mut reader, writer) = tokio::io::duplex(1 << 16);
    let (saved, archive) = tokio::join!(store.save(&names, writer), async {
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut bytes).await.map(|_| bytes)
    });
    saved.expect("saves");
    archive.expect("reads")
}

/// E-07: each image is once in the list, with all its names; programs that read the list before that find their own.
#[tokio::test]
async fn e_07_what_a_saved_archive_has_in_it() {
    let (here, there) = (TestStore::new("written").await, TestStore::new("read").await);
    let top = layer(&["b"], "2");
    load(&here.store, tar_of("many:1", &[layer(&["a"], "1"), top.clone()])).await.expect("loads");
    for name in ["many:2", "team/other"] {
        here.store.tag("many:1", &name.parse().expect("good")).await.expect("tags");
    }
    let names = here.store.meant_to_save(&["many".to_owned(), "team/other".to_owned(), "many:1".to_owned()]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let archive = saved(&here.store, &names).await;
    let mut files = std::collections::BTreeMap::new();
    for entry in tar::Archive::new(archive.as_slice()).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).expect("in memory");
        files.insert(name, text);
    }
    for name in ["blobs/", "blobs/sha256/", "index.json", "oci-layout"] {
        assert!(files.contains_key(name), "{name}: {:?}", files.keys());
    }
    let json = |name: &str| serde_json::from_slice::<serde_json::Value>(&files[name]).expect(name);
    let list = json("manifest.json");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list[0]["RepoTags"], serde_json::json!(["many:1", "many:2", "team/other:latest"]));
    assert_eq!(json("index.json")["manifests"].as_array().map(Vec::len), Some(3));
    let top = Digest::of(&top);
    let wanted =
        serde_json::json!({ "many": { "1": top.hex(), "2": top.hex() }, "team/other": { "latest": top.hex() } });
    assert_eq!(json("repositories"), wanted);
    load(&there.store, archive).await.expect("loads");
    assert_eq!(there.store.get("team/other").expect("known"), here.store.get("many:2").expect("known"));
    let by_id = saved(&here.store, &[here.store.get("many:1").expect("known").as_str()]).await;
    assert!(!String::from_utf8_lossy(&by_id).contains("repositories"), "it has no names");
}

/// E-07, E-09: images that are saved together are parent and child where they are loaded; nobody else is.
#[tokio::test]
async fn e_07_e_09_parents_travel_with_their_children() {
    let there = TestStore::new("family").await;
    let archive = |family: [(&str, &str, &str); 2]| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = support::header(tar::EntryType::Regular, bytes.len());
            builder.append_data(&mut header, name, bytes).expect("in memory");
        };
        let files = layer(&["a"], "text");
        add("layer.tar", &files);
        let diff_id = Digest::of(&files);
        let mut list = Vec::new();
        for (name, history, parent) in family {
            let config = format!(
                r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}},
                    "author":"{name}","history":[{history}]}}"#
            );
            add(&format!("{name}.json"), config.as_bytes());
            list.push(serde_json::json!({
                "Config": format!("{name}.json"), "RepoTags": [format!("{name}:1")], "Layers": ["layer.tar"],
                "Parent": parent,
            }));
        }
        add("manifest.json", serde_json::Value::from(list).to_string().as_bytes());
        builder.into_inner().expect("in memory")
    };
    let parent_of = |name: &str| there.store.inspect(name).expect("known").summary.parent;
    let (base, own) = (r#"{"created_by":"base"}"#, r#"{"created_by":"own","empty_layer":true}"#);
    let both = format!("{base},{own}");
    let first = archive([("base", base, ""), ("child", both.as_str(), "")]);
    load(&there.store, first).await.expect("loads");
    let id = there.store.get("base:1").expect("known");
    assert_eq!(parent_of("child:1"), None, "nobody says so");
    let second = archive([("base", base, ""), ("child", both.as_str(), id.as_str())]);
    load(&there.store, second).await.expect("loads");
    assert_eq!(parent_of("child:1"), Some(id.clone()));
    let third = archive([("base", base, ""), ("stranger", base, id.as_str())]);
    load(&there.store, third).await.expect("loads");
    assert_eq!(parent_of("stranger:1"), None, "its history is not one longer");
}

/// E-08: `import http://…` goes where a redirect leads, unpacks what comes, and says why nothing does.
#[tokio::test]
async fn e_08_an_archive_is_fetched_from_its_address() {
    let rootfs = layer(&["a"], "from afar");
    let mut packed = Vec::new();
    XzEncoder::new(rootfs.as_slice(), 1).read_to_end(&mut packed).expect("in memory");
    let server = Server::start(move |request| match request.path.as_str() {
        "/root.tar.xz" => Reply::ok(&packed),
        "/moved" => Reply::status(302).with("Location", "/root.tar.xz"),
        _ => Reply { status: 404, body: b"not \x1b[31mhere\n".to_vec(), ..Reply::default() },
    });
    let test = TestStore::new("afar").await;
    let import = async |path: &str, progress| {
        let options = ImportOptions { message: "note".to_owned(), ..ImportOptions::default() };
        test.store.import_from(&format!("http://{}{path}", server.address), options, progress).await
    };
    for path in ["/root.tar.xz", "/moved"] {
        let lines = told(async |progress| {
            let id = import(path, progress).await.expect("imports").id;
            let config = test.store.inspect(id.as_str()).expect("known").config;
            assert_eq!(config.rootfs.diff_ids, [Digest::of(&rootfs)]);
        })
        .await;
        let first = format!(" Downloading from http://{}{path}", server.address);
        assert_eq!((lines.first(), lines.last().map(String::as_str)), (Some(&first), Some(" Importing")));
    }
    let error = import("/nothing", Progress::none()).await.expect_err("it is not there");
    assert!(matches!(error, Error::Fetch { status: Some(404), .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("cannot get http://") && text.ends_with("404 Not Found: not [31mhere"), "{text}");
}

/// E-08: what has no end fills no disk when whoever asked for it has gone.
#[tokio::test]
async fn e_08_a_fetch_ends_with_who_asked_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let url = format!("http://{}/endless", listener.local_addr().expect("bound"));
    let sending = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("a head");
        // some seconds, and far less than a disk has
        (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            stream.write_all(&[0; 4096]).is_err()
        })
    });
    let test = TestStore::new("endless").await;
    let asked = test.store.import_from(&url, ImportOptions::default(), Progress::none());
    assert!(tokio::time::timeout(Duration::from_millis(300), asked).await.is_err(), "it has no end");
    let was_left = tokio::task::spawn_blocking(move || sending.join()).await.expect("no panic").expect("no panic");
    assert!(was_left, "all of it was read");
}

/// E-08: an image for another system could not run here.
#[test]
fn e_08_images_for_other_systems_are_refused() {
    let platform = Some("windows/amd64".parse().expect("a platform"));
    let refused =
        ImportOptions { platform, ..ImportOptions::default() }.check().expect_err("not for Linux").to_string();
    assert_eq!(refused, "platform windows/amd64 is not usable: operating system is not supported");
}
