//! A small image made on the spot from the host's static busybox: for demonstrations and tests that
//! must not need a registry.

use std::{io, path::Path, process::Command};

use tar::{Builder, EntryType, Header};
use types::ImageReference;

use crate::{
    config::{HistoryEntry, ImageConfig, RootFs, RunConfig},
    digest::Digest,
    error::{Error, Result},
    platform::Platform,
};

const BUSYBOX: &str = "/bin/busybox";
const DIRECTORIES: [(&str, u32); 11] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/www", 0o755),
];
const FILES: [(&str, &str); 2] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// A `docker save` archive with one image named `reference`: `/bin/busybox`, a link for each applet,
/// `sh` as its command. The same busybox gives the same image id.
///
/// # Errors
/// A name that is none, or no static busybox on this host (Debian: `apt install busybox-static`).
pub fn busybox_archive(reference: &str) -> Result<Vec<u8>> {
    let name: ImageReference = reference.parse()?;
    let no_busybox = |e| Error::file("use (install busybox-static)", BUSYBOX, e);
    let program = std::fs::read(BUSYBOX).map_err(no_busybox)?;
    let list = Command::new(BUSYBOX).arg("--list").output().map_err(no_busybox)?;
    let applets = String::from_utf8_lossy(&list.stdout).into_owned();
    let layer = layer(&program, applets.lines()).map_err(Error::ReadArchive)?;
    let host = Platform::host();
    let config = ImageConfig {
        created: Some("2024-01-01T00:00:00Z".to_owned()),
        architecture: host.architecture,
        variant: host.variant,
        os: host.os,
        config: RunConfig {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cmd: vec!["sh".to_owned()],
            ..RunConfig::default()
        },
        rootfs: RootFs { diff_ids: vec![Digest::of(&layer)], ..RootFs::default() },
        history: vec![HistoryEntry { created_by: "busybox of the host".to_owned(), ..HistoryEntry::default() }],
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&config).expect("a configuration has only string keys");
    archive(&name.with_default_tag(), &config, &layer).map_err(Error::ReadArchive)
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_704_067_200); // 2024-01-01, so that the result depends on nothing but busybox
    header
}

fn layer<'a>(program: &[u8], applets: impl Iterator<Item = &'a str>) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (name, mode) in DIRECTORIES {
        tar.append_data(&mut header(EntryType::Directory, mode, 0), format!("{name}/"), io::empty())?;
    }
    for (name, text) in FILES {
        tar.append_data(&mut header(EntryType::Regular, 0o644, text.len()), name, text.as_bytes())?;
    }
    tar.append_data(&mut header(EntryType::Regular, 0o755, program.len()), "bin/busybox", program)?;
    for applet in applets.filter(|a| *a != "busybox" && !a.contains('/')) {
        tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), Path::new("bin").join(applet), "busybox")?;
    }
    tar.into_inner()
}

fn archive(name: &ImageReference, config: &[u8], layer: &[u8]) -> io::Result<Vec<u8>> {
    let (config_name, layer_name) = (format!("{}.json", Digest::of(config).hex()), "layer.tar");
    let manifest =
        serde_json::json!([{ "Config": config_name, "RepoTags": [name.familiar()], "Layers": [layer_name] }]);
    let manifest = manifest.to_string();
    let mut tar = Builder::new(Vec::new());
    for (name, bytes) in [("manifest.json", manifest.as_bytes()), (&config_name, config), (layer_name, layer)] {
        tar.append_data(&mut header(EntryType::Regular, 0o644, bytes.len()), name, bytes)?;
    }
    tar.into_inner()
}
