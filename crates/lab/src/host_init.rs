//! Pid 1 of a host: `rswarm lab-host PLAN`, started by `boot` in fresh namespaces, never by a person.
//!
//! It builds the host's file system, tells the machine that it is ready, then only collects ended
//! orphans and leaves on SIGTERM. When it ends, the kernel ends everything else in the host.
//! It must never mount anything before its mounts are private, and never open a network socket.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{chdir, pivot_root, sethostname};
use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupMount;
use crate::{Error, ProcessId};

/// What pid 1 must build. Written by `boot` as JSON beside the host's folders.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub hostname: String,
    /// The host's folder on the machine; `run` and `lib` below it become `/run/rswarm` and `/var/lib`.
    pub dir: PathBuf,
    pub cgroups: Vec<CgroupMount>,
    /// `/etc/hosts`.
    pub hosts: String,
    pub machine_id: String,
    pub share: Vec<PathBuf>,
    /// Programs shown below `/usr/local/bin`.
    pub programs: Vec<PathBuf>,
}

/// What pid 1 answers, as JSON in the file `boot.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// The host is up; this is pid 1 as the machine sees it.
    Ready(ProcessId),
    /// Why it is not.
    Failed(String),
}

/// The file an answer is read from.
#[must_use]
pub fn answer_file(dir: &Path) -> PathBuf {
    dir.join("boot.json")
}

/// Builds the host described by the file `plan` and stays as its pid 1 until SIGTERM.
///
/// # Errors
/// Says which mount or file failed; the same sentence is in the answer file.
pub fn run(plan: &Path) -> Result<(), Error> {
    let text = fs::read(plan).map_err(Error::io("read the plan", plan))?;
    let plan: Plan = serde_json::from_slice(&text).map_err(io::Error::from).map_err(Error::io("understand", plan))?;
    if nix::unistd::getpid().as_raw() != 1 {
        return Err(Error::BadSpec(
            "lab-host is pid 1 of a lab's host and nothing else; make a host with `rswarm lab up`".to_owned(),
        ));
    }
    let path = answer_file(&plan.dir);
    // Opened now: after the change of root the machine's folder is out of sight.
    let mut file = OpenOptions::new().write(true).open(&path).map_err(Error::io("open", &path))?;
    let built = outer_self().and_then(|own| build(&plan).map(|()| own));
    let answer = match &built {
        Ok(own) => Answer::Ready(*own),
        Err(e) => Answer::Failed(e.sentence()),
    };
    answer_with(&mut file, &answer).map_err(Error::io("write", &path))?;
    drop(file);
    built?;
    serve();
    Ok(())
}

/// In one write with its newline last, so that a reader knows when it has all of it.
fn answer_with(file: &mut File, answer: &Answer) -> io::Result<()> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    file.write_all(&text)
}

/// `/proc` is still the machine's: it shows us by our pid out there.
fn outer_self() -> Result<ProcessId, Error> {
    let path = Path::new("/proc/self");
    let link = fs::read_link(path).map_err(Error::io("read", path))?;
    let pid = link.to_str().and_then(|p| p.parse().ok());
    pid.and_then(ProcessId::of).ok_or_else(|| Error::BadSpec("/proc does not show this process".to_owned()))
}

fn build(plan: &Plan) -> Result<(), Error> {
    // Again, whatever started us: nothing mounted below may show on the machine.
    mount_at(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    let root = overlay_root(&plan.dir.join("fs"))?;
    kernel_file_systems(&root)?;
    private_folders(plan, &root)?;
    cgroup_file_systems(plan, &root)?;
    for path in &plan.share {
        bind(path, &below(&root, path))?;
    }
    for program in &plan.programs {
        if let Some(name) = program.file_name() {
            bind(program, &root.join("usr/local/bin").join(name))?;
        }
    }
    identity(plan, &root)?;
    change_root(&root)
}

/// An overlay of the machine's root on a tmpfs that only this host sees.
fn overlay_root(at: &Path) -> Result<PathBuf, Error> {
    make_dir(at)?;
    mount_at(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    let [upper, work, root] = ["upper", "work", "root"].map(|d| at.join(d));
    for dir in [&upper, &work, &root] {
        make_dir(dir)?;
    }
    let data = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    mount_at(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(&data))?;
    Ok(root)
}

fn kernel_file_systems(root: &Path) -> Result<(), Error> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_at(Some("proc"), &root.join("proc"), Some("proc"), safe, None)?;
    mount_at(Some("sysfs"), &root.join("sys"), Some("sysfs"), safe, None)?;
    mount_at(Some("/dev"), &root.join("dev"), None, MsFlags::MS_BIND | MsFlags::MS_REC, None)?;
    let shared_memory = root.join("dev/shm");
    if shared_memory.is_dir() {
        mount_at(Some("tmpfs"), &shared_memory, Some("tmpfs"), safe, Some("mode=1777"))?;
    }
    Ok(())
}

fn private_folders(plan: &Plan, root: &Path) -> Result<(), Error> {
    for (dir, mode) in [("run", "mode=755"), ("tmp", "mode=1777")] {
        make_dir(&root.join(dir))?;
        mount_at(Some("tmpfs"), &root.join(dir), Some("tmpfs"), MsFlags::empty(), Some(mode))?;
    }
    make_dir(&root.join("run/lock"))?;
    bind(&plan.dir.join("run"), &root.join("run/rswarm"))?;
    bind(&plan.dir.join("lib"), &root.join("var/lib"))
}

fn cgroup_file_systems(plan: &Plan, root: &Path) -> Result<(), Error> {
    let base = root.join("sys/fs/cgroup");
    if let [only] = plan.cgroups.as_slice()
        && only.dir.is_empty()
    {
        return mount_at(Some("cgroup2"), &base, Some(&only.fs_type), MsFlags::empty(), None);
    }
    mount_at(Some("tmpfs"), &base, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    for group in &plan.cgroups {
        let at = base.join(&group.dir);
        make_dir(&at)?;
        let data = (!group.data.is_empty()).then_some(group.data.as_str());
        mount_at(Some("cgroup"), &at, Some(&group.fs_type), MsFlags::empty(), data)?;
        // Controllers mounted together are found by each one's name too.
        for name in group.dir.split(',').filter(|name| *name != group.dir) {
            let link = base.join(name);
            symlink(&group.dir, &link).map_err(Error::io("link", &link))?;
        }
    }
    Ok(())
}

/// What makes the host another one than the machine: its names, its id, no resolver it cannot reach.
fn identity(plan: &Plan, root: &Path) -> Result<(), Error> {
    let files = [
        ("etc/hostname", format!("{}\n", plan.hostname)),
        ("etc/hosts", plan.hosts.clone()),
        ("etc/machine-id", format!("{}\n", plan.machine_id)),
        ("etc/resolv.conf", "# this lab has no name server\n".to_owned()),
    ];
    for (name, text) in files {
        let path = root.join(name);
        // It may be a link to somewhere else: replace it, do not write through it.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    let here = Path::new(&plan.hostname);
    sethostname(&plan.hostname).map_err(io::Error::from).map_err(Error::io("set the hostname", here))
}

fn change_root(root: &Path) -> Result<(), Error> {
    let old = root.join(".machine");
    make_dir(&old)?;
    chdir(root).map_err(io::Error::from).map_err(Error::io("enter", root))?;
    pivot_root(".", ".machine").map_err(io::Error::from).map_err(Error::io("make the root", root))?;
    chdir("/").map_err(io::Error::from).map_err(Error::io("enter", Path::new("/")))?;
    let old = Path::new("/.machine");
    umount2(old, MntFlags::MNT_DETACH).map_err(io::Error::from).map_err(Error::io("leave the machine's root", old))?;
    fs::remove_dir(old).map_err(Error::io("remove", old))
}

/// Collects ended orphans until SIGTERM.
fn serve() {
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        wanted.add(signal);
    }
    // Blocked signals wait for us even as pid 1, which has no default actions.
    if wanted.thread_block().is_err() {
        return;
    }
    loop {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        if let Ok(Signal::SIGTERM | Signal::SIGINT) = wanted.wait() {
            return;
        }
    }
}

fn bind(from: &Path, to: &Path) -> Result<(), Error> {
    if from.is_dir() {
        make_dir(to)?;
    } else {
        if let Some(parent) = to.parent() {
            make_dir(parent)?;
        }
        File::create(to).map_err(Error::io("make", to))?;
        let _ = fs::set_permissions(to, fs::Permissions::from_mode(0o755));
    }
    mount_at(from.to_str(), to, None, MsFlags::MS_BIND, None)
}

fn mount_at(
    what: Option<&str>,
    at: &Path,
    fs_type: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<(), Error> {
    mount(what, at, fs_type, flags, data).map_err(io::Error::from).map_err(Error::io("mount", at))
}

fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::io("make the folder", path))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
