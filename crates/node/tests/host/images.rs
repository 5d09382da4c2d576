//! Images that tasks bring, from a registry of a few lines to a small disk: it does not get full (P27).

use std::{collections::HashMap, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use anyhow::{Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sys::statvfs::statvfs,
};
use node::{
    Engine,
    image::{Digest, Platform},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};
use types::{Assignment, TaskState};

use crate::scene::{Host, IMAGE, is, set, task};

/// Room for four or five of the images, each of which is there packed and unpacked.
const DISK: &str = "size=72m,mode=700";
const NOISE_BYTES: usize = 4 << 20;
const COUNT: u8 = 7;
/// Where the engine begins to remove, if nobody says otherwise.
const HIGH: u64 = 85;

pub fn mount_disk(at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    Ok(mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(DISK))?)
}

/// A service is updated through more images than the disk has room for.
pub async fn make_room(host: &Host, engine: &Engine) -> Result<()> {
    let registry = Registry::start().await?;
    let done = update(host, engine, &registry).await;
    registry.server.abort();
    done
}

async fn update(host: &Host, engine: &Engine, registry: &Registry) -> Result<()> {
    let has = |name: &str| engine.images().get(name).is_ok();
    for n in 1..=COUNT {
        let task = task(200 + u128::from(n), &registry.name(n), &["/bin/busybox", "sleep", "1000"]);
        host.manager.assign(set([task.clone()])).await;
        host.manager.wait("a task of a new image", |heard| is(heard, task.id, TaskState::Running)).await?;
        let disk = statvfs(&host.images())?;
        let used = disk.blocks() - disk.blocks_free();
        let whole = used + disk.blocks_available();
        ensure!(used * 100 <= HIGH * whole, "{used} of {whole} blocks are used with image {n}");
        ensure!(has(&registry.name(n)) && has(&registry.name((n - 1).max(1))), "image {n} and the one before");
        // the next comes when this one has ended, as in an update
        let stopped = Assignment { desired: TaskState::Shutdown, ..task.clone() };
        host.manager.assign(set([stopped])).await;
        host.manager.wait("a task that stops", |heard| is(heard, task.id, TaskState::Shutdown)).await?;
    }
    ensure!(!has(&registry.name(1)), "the oldest makes room");
    ensure!(has(IMAGE), "what was loaded by hand stays, though it is older");
    let metrics = engine.metrics().await?;
    let count = metrics.lines().find_map(|line| line.strip_prefix("rswarm_engine_images_collected_total "));
    ensure!(count.is_some_and(|count| count != "0"), "it was counted: {metrics}");
    host.manager.assign(set([])).await;
    Ok(())
}

struct Registry {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Registry {
    async fn start() -> Result<Self> {
        let mut answers = HashMap::new();
        for n in 1..=COUNT {
            add_image(&mut answers, n).await?;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { address, server: tokio::spawn(serve(listener, Arc::new(answers))) })
    }

    fn name(&self, n: u8) -> String {
        format!("{}/demo/web:{n}", self.address)
    }
}

/// An image of one layer with the host's busybox, by the paths of what a registry answers.
async fn add_image(answers: &mut HashMap<String, Vec<u8>>, n: u8) -> Result<()> {
    let layer = layer(n).await?;
    let (architecture, diff_id) = (Platform::host().architecture, Digest::of(&layer));
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let config = config.into_bytes();
    let described = |kind: &str, bytes: &[u8]| {
        let (digest, size) = (Digest::of(bytes), bytes.len());
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
    };
    let (of_config, of_layer) = (described("config.v1+json", &config), described("layer.v1.tar", &layer));
    let manifest = format!(r#"{{"schemaVersion":2,"config":{of_config},"layers":[{of_layer}]}}"#);
    answers.insert(format!("/v2/demo/web/manifests/{n}"), manifest.into_bytes());
    for blob in [config, layer] {
        answers.insert(format!("/v2/demo/web/blobs/{}", Digest::of(&blob)), blob);
    }
    Ok(())
}

async fn layer(n: u8) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    fs::create_dir(root.join("bin"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    fs::write(root.join("noise"), vec![n; NOISE_BYTES])?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    let output = Command::new("tar").args(["-cf", "-", "-C"]).arg(root).arg(".").output().await?;
    ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

async fn serve(listener: TcpListener, answers: Arc<HashMap<String, Vec<u8>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            // who went away needs no answer
            let _ = answer(&mut stream, &answers).await;
        });
    }
}

/// One request of a connection.
async fn answer(stream: &mut TcpStream, answers: &HashMap<String, Vec<u8>>) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let found = first.split(' ').nth(1).and_then(|path| answers.get(path));
    let (status, body) = found.map_or((404, &[][..]), |body| (200, body.as_slice()));
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    write.write_all(head.as_bytes()).await?;
    write.write_all(body).await?;
    write.shutdown().await
}
