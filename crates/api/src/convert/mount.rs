//! Mounts of a container.

use serde_json::Value;
use types::{Bytes, Mount, MountKind, is_mount_subpath, is_tmpfs_option, is_volume_name};

use super::{
    reader::{FieldError, Object},
    writer::Fields,
};

const PROPAGATIONS: [&str; 7] = ["", "private", "rprivate", "shared", "rshared", "slave", "rslave"];

pub(crate) fn read_all(container: &mut Object<'_>) -> Result<Vec<Mount>, FieldError> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mut from in container.objects("Mounts")? {
        let mount = read(&mut from)?;
        if mounts.iter().any(|other| other.target == mount.target) {
            return Err(from.bad("Target", format!("{:?} is mounted twice", mount.target)));
        }
        from.finish()?;
        mounts.push(mount);
    }
    Ok(mounts)
}

fn read(from: &mut Object<'_>) -> Result<Mount, FieldError> {
    let target = from.string("Target")?;
    if !target.starts_with('/') {
        return Err(from.bad("Target", format!("{target:?} is not an absolute path in the container")));
    }
    if target.trim_end_matches('/').is_empty() {
        return Err(from.bad("Target", "invalid specification: destination can't be '/'"));
    }
    let consistency = from.string("Consistency")?;
    if !matches!(consistency.as_str(), "" | "default" | "consistent" | "cached" | "delegated") {
        return Err(from.bad("Consistency", format!("{consistency:?} is unknown; use default")));
    }
    let source = from.string("Source")?;
    let kind = from.string("Type")?;
    let kind = match kind.as_str() {
        "bind" => read_bind(from, source)?,
        "volume" | "" => read_volume(from, source)?,
        "image" => read_image(from, source)?,
        "tmpfs" => read_tmpfs(from, &source)?,
        other => {
            return Err(from.bad("Type", format!("{other:?} is not supported; use bind, volume, image or tmpfs")));
        }
    };
    Ok(Mount { target, read_only: from.boolean("ReadOnly")?, kind })
}

fn read_bind(from: &mut Object<'_>, source: String) -> Result<MountKind, FieldError> {
    if !source.starts_with('/') {
        return Err(from.bad("Source", format!("{source:?} is not an absolute path of the host")));
    }
    let mut options = from.object("BindOptions")?;
    let propagation = options.string("Propagation")?;
    if !PROPAGATIONS.contains(&propagation.as_str()) {
        return Err(options
            .bad("Propagation", format!("{propagation:?} is unknown; use one of {}", PROPAGATIONS[1..].join(", "))));
    }
    let create = options.boolean("CreateMountpoint")?;
    let non_recursive = options.boolean("NonRecursive")?;
    let read_only_non_recursive = options.boolean("ReadOnlyNonRecursive")?;
    // recursive wherever this runs: the mesh needs a newer kernel than that does
    let is_forced = options.boolean("ReadOnlyForceRecursive")?;
    if is_forced && (read_only_non_recursive || non_recursive) {
        return Err(options.bad("ReadOnlyForceRecursive", "contradicts NonRecursive and ReadOnlyNonRecursive"));
    }
    options.finish()?;
    Ok(MountKind::Bind { source, propagation, create, non_recursive, read_only_non_recursive })
}

fn read_volume(from: &mut Object<'_>, name: String) -> Result<MountKind, FieldError> {
    // one with placeholders is looked at when they are filled in
    if !name.is_empty() && !name.contains("{{") && !is_volume_name(&name) {
        let rule = "a volume's name has letters, digits, '_', '.' and '-' and begins with a letter or digit";
        return Err(from.bad("Source", format!("{name:?} is no volume name: {rule}")));
    }
    let mut options = from.object("VolumeOptions")?;
    let mut driver = options.object("DriverConfig")?;
    let driver_name = driver.string("Name")?;
    if !matches!(driver_name.as_str(), "" | "local") {
        return Err(driver.bad("Name", format!("volume driver {driver_name:?} is not supported yet; use local")));
    }
    let driver_options = driver.labels("Options")?;
    driver.finish()?;
    let (no_copy, labels) = (options.boolean("NoCopy")?, options.labels("Labels")?);
    let subpath = read_subpath(&mut options, "volume")?;
    let kind = MountKind::Volume { name, no_copy, labels, driver_options, subpath };
    options.finish()?;
    Ok(kind)
}

fn read_image(from: &mut Object<'_>, source: String) -> Result<MountKind, FieldError> {
    if source.is_empty() {
        return Err(FieldError::Missing { path: from.path("Source"), hint: "name the image whose files are mounted" });
    }
    let mut options = from.object("ImageOptions")?;
    let subpath = read_subpath(&mut options, "image")?;
    options.finish()?;
    Ok(MountKind::Image { source, subpath })
}

fn read_subpath(options: &mut Object<'_>, of: &str) -> Result<String, FieldError> {
    let subpath = options.string("Subpath")?;
    if is_mount_subpath(&subpath) {
        return Ok(subpath);
    }
    let rule = format!("subpath must be a relative path within the {of}, without \"..\"");
    Err(options.bad("Subpath", format!("{subpath:?}: {rule}")))
}

fn read_tmpfs(from: &mut Object<'_>, source: &str) -> Result<MountKind, FieldError> {
    if !source.is_empty() {
        return Err(from.bad("Source", "a tmpfs has no source"));
    }
    let mut options = from.object("TmpfsOptions")?;
    let size = Bytes(options.natural("SizeBytes")?.unwrap_or(0));
    let mode = options.natural("Mode")?.unwrap_or(0);
    let mode = u32::try_from(mode)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| options.bad("Mode", format!("{mode:#o} is no file mode (0 to 0o7777)")))?;
    let words = read_tmpfs_options(&mut options)?;
    options.finish()?;
    Ok(MountKind::Tmpfs { size, mode, options: words })
}

/// `[["uid", "1000"], ["exec"]]`, as moby has it.
fn read_tmpfs_options(from: &mut Object<'_>) -> Result<Vec<String>, FieldError> {
    let mut words = Vec::new();
    for (at, pair) in from.string_lists("Options")?.into_iter().enumerate() {
        let word = pair.join("=");
        if !matches!(pair.len(), 1 | 2) || !is_tmpfs_option(&word) {
            return Err(from.bad(&format!("Options[{at}]"), format!("{word:?} is no option of a tmpfs")));
        }
        words.push(word);
    }
    Ok(words)
}

pub(crate) fn write(mount: &Mount) -> Value {
    let (kind, source) = match &mount.kind {
        MountKind::Bind { source, .. } => ("bind", source.as_str()),
        MountKind::Volume { name, .. } => ("volume", name.as_str()),
        MountKind::Image { source, .. } => ("image", source.as_str()),
        MountKind::Tmpfs { .. } => ("tmpfs", ""),
    };
    let fields = Fields::new()
        .set("Type", kind)
        .unless_empty("Source", source)
        .set("Target", &mount.target)
        .unless_empty("ReadOnly", mount.read_only);
    match &mount.kind {
        MountKind::Bind { propagation, create, non_recursive, read_only_non_recursive, .. } => {
            let options = Fields::new()
                .unless_empty("Propagation", propagation)
                .unless_empty("CreateMountpoint", create)
                .unless_empty("NonRecursive", non_recursive)
                .unless_empty("ReadOnlyNonRecursive", read_only_non_recursive);
            fields.unless_empty("BindOptions", options.done())
        }
        MountKind::Volume { no_copy, labels, driver_options, subpath, .. } => {
            let driver = match driver_options.is_empty() {
                true => Fields::new(),
                false => Fields::new().set("Name", "local").set("Options", driver_options),
            };
            let options = Fields::new()
                .unless_empty("NoCopy", no_copy)
                .unless_empty("Labels", labels)
                .unless_empty("Subpath", subpath)
                .unless_empty("DriverConfig", driver.done());
            fields.unless_empty("VolumeOptions", options.done())
        }
        MountKind::Image { subpath, .. } => {
            fields.unless_empty("ImageOptions", Fields::new().unless_empty("Subpath", subpath).done())
        }
        MountKind::Tmpfs { size, mode, options } => {
            let words: Vec<Vec<&str>> = options.iter().map(|word| word.splitn(2, '=').collect()).collect();
            let options =
                Fields::new().unless_empty("SizeBytes", size).unless_empty("Mode", mode).unless_empty("Options", words);
            fields.unless_empty("TmpfsOptions", options.done())
        }
    }
    .done()
}
