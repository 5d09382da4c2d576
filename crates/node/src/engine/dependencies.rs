//! Secrets and configs of a task as files: in memory of the kernel, never on a disk (parity X-02).
//!
//! Called by the steps of a task. Each task has a tmpfs of its own, which only root of the host can enter; the
//! container gets single files of it. The texts of its errors never hold any of the data.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};
use types::{AssignedDependency, DependencyId, DependencyKind, Payload};

use super::template::{Context, TemplateError};

/// What a node was sent for a task.
pub(crate) type Dependencies = BTreeMap<DependencyId, AssignedDependency>;

/// What placeholders may make of a file: as much as the largest file without any.
const MAX_EXPANDED: usize = 1_024_000;

/// The name of the note beside the files, which are called by numbers.
const VERSIONS: &str = "versions";

/// A file as the container shall have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskFile {
    /// Absolute path in the container.
    pub target: String,
    pub data: Payload,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

/// Why a task cannot have its files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DependencyError {
    #[error("{kind} {name} did not come with the task: it was removed meanwhile; update or remove the service")]
    Missing { kind: DependencyKind, name: String },
    #[error("{kind} {name} is a template and not text in UTF-8: create it without --template-driver")]
    NotText { kind: DependencyKind, name: String },
    #[error("{kind} {name}, with its placeholders filled in, has {size} bytes, at most {MAX_EXPANDED} are possible")]
    TooLarge { kind: DependencyKind, name: String, size: usize },
    #[error("{kind} {name} is a template that cannot be filled in")]
    Template { kind: DependencyKind, name: String, source: TemplateError },
}

/// The files of a task, with placeholders filled in.
pub(super) fn files(context: &Context<'_>, sent: &Dependencies) -> Result<Vec<TaskFile>, DependencyError> {
    let mut files = Vec::new();
    for wanted in &context.assignment.spec.container.dependencies {
        let (kind, name) = (wanted.kind, wanted.shown());
        let found = wanted.id.and_then(|id| sent.get(&id));
        let found = found.ok_or_else(|| DependencyError::Missing { kind, name: name.clone() })?;
        let data = if found.is_template { expanded(context, sent, kind, &name, found)? } else { found.data.clone() };
        let file = &wanted.file;
        files.push(TaskFile { target: kind.target(&file.name), data, uid: file.uid, gid: file.gid, mode: file.mode });
    }
    Ok(files)
}

fn expanded(
    context: &Context<'_>,
    sent: &Dependencies,
    kind: DependencyKind,
    name: &str,
    found: &AssignedDependency,
) -> Result<Payload, DependencyError> {
    let name = || name.to_owned();
    let text = std::str::from_utf8(found.data.bytes()).map_err(|_| DependencyError::NotText { kind, name: name() })?;
    let text = context.expand_data(text, sent);
    let text = text.map_err(|source| DependencyError::Template { kind, name: name(), source })?;
    match text.len() {
        size if size > MAX_EXPANDED => Err(DependencyError::TooLarge { kind, name: name(), size }),
        _ => Ok(Payload::new(text.into_bytes())),
    }
}

/// Writes the files and notes their versions; gives where each is and where it belongs in the container. What an earlier
/// try left goes. Blocking.
pub(super) fn write(
    directory: &Path,
    files: &[TaskFile],
    versions: &[DependencyId],
) -> io::Result<Vec<(PathBuf, String)>> {
    remove(directory)?;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    mount_memory(directory, MsFlags::empty(), memory_of(files))?;
    let mut places = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let path = directory.join(number.to_string());
        let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
        open.write_all(file.data.bytes())?;
        fchown(&open, Some(file.uid), Some(file.gid))?;
        open.set_permissions(fs::Permissions::from_mode(file.mode))?;
        places.push((path, file.target.clone()));
    }
    note_versions(directory, versions)?;
    Ok(places)
}

/// Writes other data into the files that are there, for the same targets: a container has each of them as a mount of its
/// own, and would keep the old one of a file that is made anew. May be repeated. Blocking.
pub(super) fn rewrite(directory: &Path, files: &[TaskFile]) -> io::Result<()> {
    let places: Vec<PathBuf> = (0..files.len()).map(|number| directory.join(number.to_string())).collect();
    let present: u64 =
        places.iter().map(|place| fs::metadata(place).map(|meta| meta.len())).sum::<io::Result<u64>>()?;
    // room for both, so that it is never too small for what is in it
    mount_memory(directory, MsFlags::MS_REMOUNT, memory_of(files) + present)?;
    for (place, file) in places.iter().zip(files) {
        // over what is there and cut then: whoever reads meanwhile never finds it empty
        let mut open = fs::OpenOptions::new().write(true).open(place)?;
        open.write_all(file.data.bytes())?;
        open.set_len(file.data.len() as u64)?;
    }
    Ok(())
}

/// Notes, beside the files, which versions they are. Blocking.
pub(super) fn note_versions(directory: &Path, versions: &[DependencyId]) -> io::Result<()> {
    let lines: String = versions.iter().map(|id| format!("{id}\n")).collect();
    fs::write(directory.join(VERSIONS), lines)
}

/// What was noted last; nothing if that was not finished. Blocking, and memory alone.
pub(super) fn noted_versions(directory: &Path) -> Vec<DependencyId> {
    let text = fs::read_to_string(directory.join(VERSIONS)).unwrap_or_default();
    let ids: Result<Vec<DependencyId>, _> = text.lines().map(str::parse).collect();
    ids.unwrap_or_default()
}

/// What a tmpfs needs for the files and the note.
fn memory_of(files: &[TaskFile]) -> u64 {
    const PAGE: usize = 4096;
    // one page for the directory, and one for each file beside what it fills
    (files.iter().map(|file| file.data.len() + 2 * PAGE).sum::<usize>() + PAGE) as u64
}

/// A tmpfs of this size, or with the flag for it another size for the one that is there. It is not swapped out where the
/// kernel knows how not to (since 6.4).
fn mount_memory(directory: &Path, flag: MsFlags, bytes: u64) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | flag;
    let with = |more: &str| {
        let options = format!("mode=0700,size={bytes}{more}");
        mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some(options.as_str()))
    };
    match with(",noswap") {
        Err(Errno::EINVAL) => with("")?,
        other => other?,
    }
    Ok(())
}

/// Takes the files away, if there are any. Blocking.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    loop {
        match umount2(directory, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt as _, sync::Arc};

    use types::{Assignment, DependencyRef, TargetFile};

    use super::*;
    use crate::agent::testing::assignment;

    fn of_task(files: &[(DependencyKind, &str, &str, bool)]) -> (Assignment, Dependencies) {
        let (mut task, mut sent) = (assignment(1), Dependencies::new());
        let spec = Arc::make_mut(&mut task.spec);
        spec.container.env = vec!["TIER=base".to_owned()];
        for (number, (kind, name, data, is_template)) in files.iter().enumerate() {
            let id = DependencyId::from_random(number as u128);
            let file = TargetFile { name: (*name).to_owned(), uid: 7, gid: 8, mode: 0o440 };
            let name = name.trim_start_matches('/').parse().expect("a good name");
            spec.container.dependencies.push(DependencyRef { kind: *kind, id: Some(id), name: Some(name), file });
            let data = Payload::new(data.as_bytes().to_vec());
            sent.insert(id, AssignedDependency { data, is_template: *is_template });
        }
        (task, sent)
    }

    fn check(text: &str, wanted: Result<&str, &str>) {
        use DependencyKind::{Config, Secret};
        let others = [(Secret, "pw", "hunter2", false), (Config, "/motd", "hello", false)];
        let (task, sent) = of_task(&[&others[..], &[(Config, "conf", text, true)]].concat());
        let context =
            Context { assignment: &task, node: None, node_hostname: "h", node_os: "linux", node_architecture: "amd64" };
        match (files(&context, &sent), wanted) {
            (Ok(files), Ok(wanted)) => assert_eq!(files[2].data.bytes(), wanted.as_bytes(), "{text}"),
            (Err(error), Err(part)) => {
                let text = types::with_causes(&error);
                assert!(text.contains(part) && text.contains("config conf"), "{text}");
                assert!(!text.contains("hunter2"), "{text}");
            }
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn x04_placeholders_of_templates() {
        check("plain", Ok("plain"));
        check("{{secret \"pw\"}}@{{ .Service.Name }} {{config `/motd`}}", Ok("hunter2@web hello"));
        check("a {{- env \"TIER\" -}} b{{/* said */}}", Ok("abaseb"));
        check("{{env \"NONE\"}}.", Ok("."));
        check("hunter2 {{secret \"other\"}}", Err("secret \"other\""));
        check("hunter2 {{if true}}", Err("placeholder 1"));
        check("hunter2 {{secret", Err("does not end"));
    }

    #[test]
    fn s63_files_are_in_memory_with_owner_and_mode_and_go() {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("only root can mount: not tested");
            return;
        }
        let home = tempfile::tempdir().expect("temporary directory");
        let directory = home.path().join("files/task");
        let (task, sent) = of_task(&[(DependencyKind::Secret, "pw", "hunter2", false)]);
        let context =
            Context { assignment: &task, node: None, node_hostname: "h", node_os: "linux", node_architecture: "amd64" };
        let files = files(&context, &sent).expect("files");
        let versions: Vec<DependencyId> = task.versions().collect();
        assert!(noted_versions(&directory).is_empty(), "nothing is there");
        for _ in 0..2 {
            let places = write(&directory, &files, &versions).expect("written, again too");
            assert_eq!(noted_versions(&directory), versions);
            assert_eq!(places, [(directory.join("0"), "/run/secrets/pw".to_owned())]);
            let meta = fs::metadata(&places[0].0).expect("the file");
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (7, 8, 0o440));
            assert_eq!(fs::read(&places[0].0).expect("read"), b"hunter2");
            let kind = nix::sys::statfs::statfs(&directory).expect("statfs").filesystem_type();
            assert_eq!(kind, nix::sys::statfs::TMPFS_MAGIC);
        }
        remove(&directory).expect("removed");
        remove(&directory).expect("again");
        assert!(!directory.exists());
    }

    /// P12: a container has the file itself, so new data goes into that, however much it is.
    #[test]
    fn p12_files_change_where_they_are() {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("only root can mount: not tested");
            return;
        }
        let home = tempfile::tempdir().expect("temporary directory");
        let directory = home.path().join("task");
        let made = |text: &str| {
            let (task, sent) = of_task(&[
                (DependencyKind::Secret, "pw", "hunter2", false),
                (DependencyKind::Config, "c", text, false),
            ]);
            let context = Context {
                assignment: &task,
                node: None,
                node_hostname: "h",
                node_os: "linux",
                node_architecture: "amd64",
            };
            files(&context, &sent).expect("files")
        };
        let (old, new) = ([1, 2].map(DependencyId::from_random), [1, 3].map(DependencyId::from_random));
        let places = write(&directory, &made("colour=red"), &old).expect("written");
        let before = fs::metadata(&places[1].0).expect("the file").ino();
        for text in ["colour=blue".to_owned(), "x".repeat(900_000), "y".repeat(900_000), "short".to_owned()] {
            rewrite(&directory, &made(&text)).expect("rewritten");
            assert_eq!(fs::read(&places[1].0).expect("read"), text.as_bytes());
            assert_eq!(fs::read(&places[0].0).expect("read"), b"hunter2");
            let meta = fs::metadata(&places[1].0).expect("the file");
            assert_eq!((meta.ino(), meta.uid(), meta.gid(), meta.mode() & 0o7777), (before, 7, 8, 0o440));
        }
        assert_eq!(noted_versions(&directory), old, "until all is done");
        note_versions(&directory, &new).expect("noted");
        assert_eq!(noted_versions(&directory), new);
        fs::write(directory.join(VERSIONS), "cut off in the mid").expect("written");
        assert!(noted_versions(&directory).is_empty(), "nothing that was not finished counts");
        remove(&directory).expect("removed");
        rewrite(&directory, &made("late")).expect_err("there is nothing to change");
        assert!(!directory.exists());
    }
}
