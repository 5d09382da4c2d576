//! From a configuration to a container's directory, ready for its shim: looks at the host, checks
//! what the configuration names, resolves the user, writes the OCI bundle. Called by
//! `Runtime::create`. It starts nothing.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::{
    cgroup::CgroupLayout,
    config::{ContainerConfig, Device, MountKind, OciRuntime},
    dev,
    error::{Error, Result},
    fits, masked_paths,
    oci::{self, DeviceNode, HostFacts, ResolvedUser},
    record::{ContainerDir, Record},
    rootfs::Rootfs,
    runtime::RuntimeConfig,
    time,
};

/// Without these nothing can be set up.
const NEEDED: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
];

/// Entries of the host's /dev that a privileged container makes itself.
const OWN_DEV: [&str; 5] = ["pts", "shm", "mqueue", "fd", "console"];

/// The daemon's own capabilities, as two masks of `/proc/self/status`: effective and bounding.
pub(crate) fn capabilities() -> io::Result<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    mask("CapEff:").zip(mask("CapBnd:")).ok_or_else(|| io::Error::other("/proc/self/status shows no capabilities"))
}

/// Says which capability is missing, if one is.
pub(crate) fn check_privileges(effective: u64) -> Result<()> {
    let held: Vec<&str> = oci::capability_names(effective).collect();
    let missing: Vec<&str> = NEEDED.iter().filter(|name| !held.contains(name)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::MissingPrivilege { missing: missing.join(", ") })
}

/// Writes the directory of a container, whole or not at all.
pub(crate) fn prepare(
    config: &ContainerConfig,
    of_host: &RuntimeConfig,
    cgroup_path: &str,
    layout: &CgroupLayout,
) -> Result<ContainerDir> {
    let (oci_runtime, run_dir) = (&of_host.oci_runtime, &of_host.run_dir);
    let id = config.id.as_str();
    let invalid = |reason: String| Error::Invalid { id: id.to_owned(), reason };
    let (effective, bounding) = capabilities().map_err(Error::io(id, "read this process's capabilities"))?;
    check_privileges(effective)?;
    check_sources(config)?;
    let rootfs = Rootfs::open(&config.rootfs)
        .map_err(|_| Error::RootfsMissing { id: id.to_owned(), path: config.rootfs.clone() })?;
    fits::check(config, &rootfs, effective)?;
    let user = resolve_user(config, &rootfs)?;
    let host = HostFacts {
        architecture: std::env::consts::ARCH,
        capabilities: effective & bounding,
        swap_limit: layout.swap_limit(),
        devices: devices(config)?,
        cgroup_path: cgroup_path.to_owned(),
        cgroup_hierarchies: layout.hierarchies(),
        masked_paths: masked_paths(),
    };
    let apart = matches!(oci_runtime, OciRuntime::Embedded).then(|| dev::apart(config, &of_host.shim)).flatten();
    let spec = oci::spec(apart.as_ref().unwrap_or(config), &user, &host).map_err(|err| invalid(err.to_string()))?;
    rootfs.make_mount_points();
    rootfs.ensure_dir(&config.cwd).map_err(Error::io(id, "make the working directory in the root filesystem"))?;
    layout.cgroup(cgroup_path).ensure_parents().map_err(Error::io(id, "prepare its cgroup"))?;
    if let Some(parent) = config.log.path.parent() {
        fs::create_dir_all(parent).map_err(Error::io(id, "make the directory of its log"))?;
    }
    let record = Record {
        id: id.to_owned(),
        labels: config.labels.clone(),
        created_at_ns: time::now_ns(),
        oci_runtime: oci_runtime.clone(),
        cgroup_path: cgroup_path.to_owned(),
        log: config.log.clone(),
        tty: config.tty,
        open_stdin: config.open_stdin,
        init: config.init,
        uid: user.uid,
    };
    write_dir(id, run_dir, &record, &spec)
}

/// Filled under another name first, so that a directory with a container's name is always whole.
fn write_dir(id: &str, run_dir: &Path, record: &Record, spec: &oci_spec::runtime::Spec) -> Result<ContainerDir> {
    let (unfinished, finished) = (run_dir.join(format!(".new-{id}")), run_dir.join(id));
    if finished.exists() {
        return Err(Error::AlreadyExists { id: id.to_owned() });
    }
    fs::DirBuilder::new().mode(0o700).create(&unfinished).map_err(Error::io(id, "make its directory"))?;
    let dir = ContainerDir::new(unfinished.clone());
    let written = dir
        .write("config.json", spec)
        .and_then(|()| dir.write_record(record))
        .and_then(|()| fs::rename(&unfinished, &finished));
    match written {
        Ok(()) => Ok(ContainerDir::new(finished)),
        Err(source) => {
            fs::remove_dir_all(&unfinished).ok();
            Err(Error::Io { id: id.to_owned(), operation: "write its directory", source })
        }
    }
}

fn check_sources(config: &ContainerConfig) -> Result<()> {
    let mounts = config.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } | MountKind::Volume { source, .. } => Some((source, &mount.target)),
        MountKind::Tmpfs { .. } => None,
    });
    let files = config.files.iter().map(|file| (&file.source, &file.target));
    for (path, target) in mounts.chain(files) {
        if !path.is_absolute() {
            let reason = format!("the mount source {} for {target} is not an absolute path", path.display());
            return Err(Error::Invalid { id: config.id.clone(), reason });
        }
        if !path.exists() {
            return Err(Error::MountSourceMissing {
                id: config.id.clone(),
                path: path.clone(),
                target: target.clone(),
            });
        }
    }
    Ok(())
}

fn resolve_user(config: &ContainerConfig, rootfs: &Rootfs) -> Result<ResolvedUser> {
    let read = |path| rootfs.read_text(path).map_err(Error::io(&config.id, "read the users of its root filesystem"));
    oci::resolve_user(&config.user, &config.additional_groups, &read("etc/passwd")?, &read("etc/group")?)
        .map_err(|reason| Error::Invalid { id: config.id.clone(), reason })
}

fn devices(config: &ContainerConfig) -> Result<Vec<DeviceNode>> {
    let mut nodes = if config.privileged { host_devices(Path::new("/dev"), 3) } else { Vec::new() };
    for device @ Device { host_path, container_path, permissions, .. } in &config.devices {
        let node = node(host_path).ok_or_else(|| Error::Invalid {
            id: config.id.clone(),
            reason: format!("{} is not a device of this host", host_path.display()),
        })?;
        if permissions.is_empty() || !permissions.bytes().all(|byte| b"rwm".contains(&byte)) {
            let reason = format!("the permissions {permissions:?} of {container_path} are not some of r, w and m");
            return Err(Error::Invalid { id: config.id.clone(), reason });
        }
        nodes.retain(|known| known.path != *container_path);
        nodes.push(DeviceNode {
            path: container_path.clone(),
            permissions: permissions.clone(),
            mode: device.mode.unwrap_or(node.mode),
            uid: device.uid.unwrap_or(node.uid),
            gid: device.gid.unwrap_or(node.gid),
            ..node
        });
    }
    Ok(nodes)
}

/// The device nodes below `dir`, except those that a container has of its own.
fn host_devices(dir: &Path, depth: u32) -> Vec<DeviceNode> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let shared = entries.filter(|entry| !OWN_DEV.iter().any(|own| entry.file_name() == *own));
    let one = |path: PathBuf| match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() && depth > 1 => host_devices(&path, depth - 1),
        Ok(metadata) if metadata.file_type().is_symlink() => Vec::new(),
        Ok(_) => node(&path).into_iter().collect(),
        Err(_) => Vec::new(),
    };
    shared.flat_map(|entry| one(entry.path())).collect()
}

fn node(path: &Path) -> Option<DeviceNode> {
    let metadata = fs::metadata(path).ok()?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => return None,
    };
    let number = |part: u64| i64::try_from(part).ok();
    Some(DeviceNode {
        path: path.to_str()?.to_owned(),
        kind,
        major: number(nix::sys::stat::major(metadata.rdev()))?,
        minor: number(nix::sys::stat::minor(metadata.rdev()))?,
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        permissions: "rwm".to_owned(),
    })
}
