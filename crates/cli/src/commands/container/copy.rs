//! `cp`: files between this shell's directory and a container. What comes from a container is not trusted: nothing of it
//! lands anywhere but below the place that was named.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, bail};
use clap::Args;
use hyper::{Method, StatusCode};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::copy_place::{Kind, Place, Side, below, place, plain};
use crate::{
    client::{Client, Refused, escape},
    commands::service::frames::next,
    output::{
        terminal::{print_bytes, print_error, stdout_is_terminal},
        units::decimal_size,
    },
    wire::PathStat,
};

/// Between what packs and what sends.
const BETWEEN: usize = 256 << 10;

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Keep user and group ids
    #[arg(short, long)]
    archive: bool,
    /// Follow a symbolic link of the source
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, PATH, or - for a tar from standard input
    source: String,
    /// CONTAINER:PATH, PATH, or - for a tar to standard output
    target: String,
}

pub(super) async fn copy(client: &Client, arguments: &CopyArgs) -> anyhow::Result<()> {
    let said = match (Side::parse(&arguments.source), Side::parse(&arguments.target)) {
        (Side::Container { .. }, Side::Container { .. }) => {
            bail!("copying between containers is not supported: copy to this host first, then from it")
        }
        (Side::Container { name, path }, target) => download(client, arguments, &name, path, target).await?,
        (source, Side::Container { name, path }) => upload(client, arguments, source, &name, &path).await?,
        _ => bail!("must specify at least one container source: write CONTAINER:PATH"),
    };
    match said {
        Some(bytes) if !arguments.quiet => {
            print_error(&format!("Successfully copied {} to {}\n", decimal_size(bytes), arguments.target))
        }
        _ => Ok(()),
    }
}

fn archive_path(container: &str, path: &str) -> String {
    format!("/containers/{}/archive?path={}", escape(container), escape(path))
}

async fn download(
    client: &Client,
    arguments: &CopyArgs,
    container: &str,
    mut path: String,
    target: Side,
) -> anyhow::Result<Option<u64>> {
    if arguments.follow_link
        && let Some(stat) = stat(client, container, &path).await?
        && stat.is_link()
    {
        path = follow(&path, &stat.link_target);
    }
    let answer = client.answer(Method::GET, &archive_path(container, &path)).await?;
    let stat = PathStat::of(answer.headers())?;
    let mut body = answer.into_body();
    let Side::Local(target) = target else {
        anyhow::ensure!(!stdout_is_terminal(), "refusing to copy to a terminal: redirect the output, or name a file");
        while let Some(data) = next(&mut body).await? {
            print_bytes(&data)?;
        }
        return Ok(None);
    };
    let found = match fs::metadata(&target) {
        Ok(found) if found.is_dir() => Kind::Directory,
        Ok(_) => Kind::Other,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Kind::Nothing,
        Err(error) => return Err(error).with_context(|| format!("look at {target}")),
    };
    let place = place(&path, stat.is_directory(), &target, found)?;
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&bytes);
    let stream = futures::stream::try_unfold(body, move |mut body| {
        let counted = Arc::clone(&counted);
        async move {
            let data = next(&mut body).await.map_err(io::Error::other)?;
            counted.fetch_add(data.as_ref().map_or(0, |data| data.len() as u64), Ordering::Relaxed);
            Ok::<_, io::Error>(data.map(|data| (data, body)))
        }
    });
    let reader = SyncIoBridge::new(StreamReader::new(Box::pin(stream)));
    let keep_owner = arguments.archive;
    tokio::task::spawn_blocking(move || unpack(reader, &place, keep_owner)).await.context("unpack")??;
    Ok(Some(bytes.load(Ordering::Relaxed)))
}

fn follow(path: &str, link: &str) -> String {
    match link.starts_with('/') {
        true => link.to_owned(),
        false => Path::new(path).parent().unwrap_or(Path::new("/")).join(link).to_string_lossy().into_owned(),
    }
}

async fn stat(client: &Client, container: &str, path: &str) -> anyhow::Result<Option<PathStat>> {
    match client.answer(Method::HEAD, &archive_path(container, path)).await {
        Ok(answer) => PathStat::of(answer.headers()).map(Some),
        Err(error) if error.downcast_ref::<Refused>().is_some_and(|r| r.status == StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the tar below the place. A link in the tar is made, and never gone through.
fn unpack(from: impl io::Read, place: &Place, keep_owner: bool) -> anyhow::Result<()> {
    let directory =
        fs::canonicalize(&place.directory).with_context(|| format!("find the directory {}", place.directory))?;
    let top = directory.join(&place.name);
    let mut archive = tar::Archive::new(from);
    let mut root: Option<PathBuf> = None;
    for entry in archive.entries().context("read the daemon's tar")? {
        let mut entry = entry.context("read the daemon's tar")?;
        let name = entry.path().context("read the daemon's tar")?.into_owned();
        let bad = || format!("the daemon's tar has the entry {}, which leads elsewhere", name.display());
        let root = match &root {
            Some(root) => root,
            None => root.insert(plain(&name).with_context(bad)?),
        };
        let below_root = below(root, &name).with_context(bad)?;
        let path = if below_root.as_os_str().is_empty() { top.clone() } else { top.join(below_root) };
        let parent = path.parent().unwrap_or(&directory);
        // one that is no directory, or is a link to one, is not gone through
        let is_inside = parent == directory || fs::canonicalize(parent).is_ok_and(|real| real == parent);
        anyhow::ensure!(is_inside || path == top, "{}", bad());
        let context = || format!("write {}", path.display());
        match entry.header().entry_type() {
            tar::EntryType::Directory if path.is_dir() => {}
            tar::EntryType::Link => {
                let target = entry.link_name().context("read the daemon's tar")?.with_context(bad)?;
                let target = top.join(below(root, &target).with_context(bad)?);
                let is_inside =
                    target.parent().is_some_and(|parent| fs::canonicalize(parent).is_ok_and(|real| real == parent));
                anyhow::ensure!(is_inside, "{}", bad());
                fs::hard_link(target, &path).with_context(context)?;
            }
            tar::EntryType::Block | tar::EntryType::Char | tar::EntryType::Fifo => {
                print_error(&format!("rswarm: {} is a device or a pipe and was left out\n", name.display()))?;
            }
            _ => {
                entry.set_preserve_mtime(true);
                entry.set_preserve_permissions(true);
                entry.unpack(&path).with_context(context)?;
                if keep_owner {
                    let id = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok());
                    let (user, group) = (id(entry.header().uid()), id(entry.header().gid()));
                    std::os::unix::fs::lchown(&path, user, group).with_context(context)?;
                }
            }
        }
    }
    anyhow::ensure!(root.is_some(), "the daemon's tar is empty");
    Ok(())
}

async fn upload(
    client: &Client,
    arguments: &CopyArgs,
    source: Side,
    container: &str,
    path: &str,
) -> anyhow::Result<Option<u64>> {
    let mut path = path.to_owned();
    let mut found = stat(client, container, &path).await?;
    if let Some(link) = found.as_ref().filter(|stat| stat.is_link()) {
        path = follow(&path, &link.link_target);
        found = stat(client, container, &path).await?;
    }
    let kind = match &found {
        Some(stat) if stat.is_directory() => Kind::Directory,
        Some(_) => Kind::Other,
        None => Kind::Nothing,
    };
    let Side::Local(source) = source else {
        if kind == Kind::Other {
            bail!("destination \"{container}:{path}\" must be a directory");
        }
        client.put_tar(&put_path(container, &path, arguments.archive), tokio::io::stdin()).await?;
        return Ok(None);
    };
    let context = || format!("look at {source}");
    let about = if arguments.follow_link { fs::metadata(&source) } else { fs::symlink_metadata(&source) };
    let about = about.with_context(context)?;
    let place = place(&source, about.is_dir(), &path, kind)?;
    let real = if arguments.follow_link { fs::canonicalize(&source).with_context(context)? } else { source.into() };
    let (reader, writer) = tokio::io::duplex(BETWEEN);
    let name = place.name.clone();
    let packing = tokio::task::spawn_blocking(move || pack(&real, &name, SyncIoBridge::new(writer)));
    let sent = client.put_tar(&put_path(container, &place.directory, arguments.archive), reader).await;
    let packed = packing.await.context("pack")?;
    // what the daemon refuses ends the packing too
    sent?;
    packed.map(Some)
}

fn put_path(container: &str, directory: &str, keep_owner: bool) -> String {
    format!("{}&noOverwriteDirNonDir=true&copyUIDGID={keep_owner}", archive_path(container, directory))
}

/// Packs a file or a directory under that name; gives the bytes of the tar.
fn pack(source: &Path, name: &str, to: impl io::Write) -> anyhow::Result<u64> {
    let context = || format!("pack {}", source.display());
    let mut builder = tar::Builder::new(Counted { to, bytes: 0 });
    builder.follow_symlinks(false);
    let is_directory = fs::symlink_metadata(source).with_context(context)?.is_dir();
    let packed = match (is_directory, name) {
        (true, "") => builder.append_dir_all(".", source),
        (true, name) => builder.append_dir_all(name, source),
        (false, name) => builder.append_path_with_name(source, name),
    };
    packed.with_context(context)?;
    Ok(builder.into_inner().with_context(context)?.bytes)
}

struct Counted<W> {
    to: W,
    bytes: u64,
}

impl<W: io::Write> io::Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
