//! What the integration tests share: a store in a temporary directory that cleans up its mounts, and
//! archives made in memory.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod keeper;
pub mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use image::{Digest, Progress, RemoveOptions, StorageDriver, Store};
use tempfile::TempDir;

/// A store that unmounts and removes everything when dropped.
pub struct TestStore {
    pub store: Store,
    pub root: PathBuf,
    _directory: TempDir,
}

impl TestStore {
    pub async fn new(name: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix(&format!("image-{name}-")).tempdir().expect("temporary directory");
        let root = directory.path().join("images");
        let store = Store::open(&root).await.expect("opens");
        Self { store, root, _directory: directory }
    }

    /// Lets go of the store, so that another may open it.
    pub async fn close(&mut self) {
        let elsewhere = self._directory.path().join("elsewhere");
        self.store = Store::open(&elsewhere).await.expect("opens");
    }

    /// As after a restart of the daemon.
    pub async fn reopen(&mut self) {
        self.close().await;
        self.store = Store::open(&self.root).await.expect("opens again");
    }

    /// The same with another driver.
    pub async fn reopen_with(&mut self, driver: StorageDriver) {
        self.close().await;
        self.store = Store::open_with(&self.root, Some(driver)).await.expect("opens again");
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = self.root.display().to_string();
        for target in mounts.lines().filter_map(|l| l.split(' ').nth(4)).filter(|t| t.starts_with(&root)) {
            let _ = Command::new("umount").args(["-l", target]).status();
        }
    }
}

/// Whether this machine lets us mount an overlay; says so if not.
pub fn can_mount(test: &str) -> bool {
    let root = effective_uid() == "0";
    let overlay = fs::read_to_string("/proc/filesystems").unwrap_or_default().contains("overlay");
    if !root || !overlay {
        eprintln!("SKIPPED {test}: needs root and overlayfs");
    }
    root && overlay
}

fn effective_uid() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("Uid:")).unwrap_or_default().to_owned();
    line.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

pub async fn load(store: &Store, archive: Vec<u8>) -> image::Result<Vec<image::LoadedImage>> {
    store.load(std::io::Cursor::new(archive), Progress::none()).await
}

/// What a pull or an import tells, line for line.
pub async fn told(work: impl AsyncFnOnce(Progress)) -> Vec<String> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1000);
    work(Progress::to(sender)).await;
    let mut lines = Vec::new();
    while let Ok(event) = receiver.try_recv() {
        lines.push(format!("{} {}", event.id, event.status));
    }
    lines
}

/// `rmi` while nothing runs.
pub fn gently() -> RemoveOptions {
    RemoveOptions::default()
}

/// `rmi -f` while these containers run.
pub fn by_force(running: &[&str]) -> RemoveOptions {
    let running = running.iter().map(|container| (*container).to_owned()).collect();
    RemoveOptions { force: true, running, ..RemoveOptions::default() }
}

/// Everything in the content directories and the temporary one.
pub fn content_of(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["blobs/sha256", "layers", "tmp", "snapshots"] {
        for entry in fs::read_dir(root.join(directory)).expect("lists") {
            found.push(format!("{directory}/{}", entry.expect("entry").file_name().to_string_lossy()));
        }
    }
    found
}

pub fn header(kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size as u64);
    header.set_mtime(1_700_000_000);
    header
}

/// A layer with files of this text.
pub fn layer(names: &[&str], text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = header(tar::EntryType::Regular, text.len());
        builder.append_data(&mut header, name, text.as_bytes()).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

/// The configuration of an image of these layers.
pub fn config_of(layers: &[Vec<u8>], architecture: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","created":"2024-05-01T10:00:00Z","config":{{"Cmd":["/a"]}},
            "rootfs":{{"type":"layers","diff_ids":{diff_ids:?}}}}}"#
    );
    config.into_bytes()
}

/// A `docker save` archive.
pub fn tar_of(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        builder.append_data(&mut header(tar::EntryType::Regular, bytes.len()), name, bytes).expect("in memory");
    };
    let names: Vec<String> = (0..layers.len()).map(|i| format!("{i}/layer.tar")).collect();
    for (name, bytes) in names.iter().zip(layers) {
        add(name, bytes);
    }
    add("config.json", &config_of(layers, "amd64"));
    add(
        "manifest.json",
        format!(r#"[{{"Config":"config.json","RepoTags":["{name}"],"Layers":{names:?}}}]"#).as_bytes(),
    );
    builder.into_inner().expect("in memory")
}

/// A small tmpfs, unmounted when dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    pub fn new(size: &str) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let options = format!("size={size}");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path()).status();
        assert!(status.expect("mount runs").success());
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A small btrfs in a file, unmounted when dropped.
pub struct BtrfsDisk(TempDir);

impl BtrfsDisk {
    /// Nothing where this machine cannot make one.
    pub fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (file, place) = (directory.path().join("disk"), directory.path().join("mounted"));
        fs::create_dir(&place).expect("made");
        fs::File::create(&file).and_then(|file| file.set_len(256 << 20)).expect("made");
        let worked = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = worked(Command::new("mkfs.btrfs").arg("-q").arg(&file))
            && worked(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&place));
        made.then_some(Self(directory))
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("mounted")
    }
}

impl Drop for BtrfsDisk {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = self.path().display().to_string();
        for target in mounts.lines().rev().filter_map(|l| l.split(' ').nth(4)).filter(|t| t.starts_with(&root)) {
            let _ = Command::new("umount").args(["-l", target]).status();
        }
    }
}

/// OCI layouts of one image for `architecture`: a plain one, and one with an index in the index.
pub fn oci_layouts(architecture: &str) -> Vec<(&'static str, Vec<u8>)> {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let layers = vec![layer(&["a"], architecture)];
    let config = config_of(&layers, architecture);
    let describe = |kind: &str, bytes: &[u8], more: &str| {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}{more}}}"#, Digest::of(bytes), bytes.len())
    };
    let index_of = |entries: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}]}}"#);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        describe("application/vnd.oci.image.config.v1+json", &config, ""),
        describe("application/vnd.oci.image.layer.v1.tar", &layers[0], "")
    );
    let name = r#","annotations":{"io.containerd.image.name":"docker.io/demo/oci:1"}"#;
    let platform = format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#);
    let attestation = r#","platform":{"os":"unknown","architecture":"unknown"}"#;
    let inner = index_of(&format!(
        "{},{}",
        describe(MANIFEST, b"gone", attestation),
        describe(MANIFEST, manifest.as_bytes(), &platform)
    ));
    let archive = |index: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            builder.append_data(&mut header(tar::EntryType::Regular, bytes.len()), name, bytes).expect("in memory");
        };
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        add("index.json", index.as_bytes());
        for blob in [config.as_slice(), &layers[0], manifest.as_bytes(), inner.as_bytes()] {
            add(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
        }
        builder.into_inner().expect("in memory")
    };
    let plain = archive(&index_of(&describe(MANIFEST, manifest.as_bytes(), name)));
    let nested = archive(&index_of(&describe(INDEX, inner.as_bytes(), name)));
    vec![("plain", plain), ("nested", zstd::encode_all(nested.as_slice(), 1).expect("in memory"))]
}

/// A mounted overlay, unmounted when dropped.
pub struct Overlay(PathBuf);

impl Overlay {
    pub fn new(base: &Path) -> Self {
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(base.join(name)).expect("made");
        }
        let shown = base.display();
        let options = format!("lowerdir={shown}/lower,upperdir={shown}/upper,workdir={shown}/work");
        let target = base.join("merged");
        let status = Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay"]).arg(&target).status();
        assert!(status.expect("mount runs").success());
        Self(target)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
