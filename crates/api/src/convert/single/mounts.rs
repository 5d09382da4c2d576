//! What is mounted: `Binds`, `Mounts`, `Tmpfs` and the container's own `Volumes`. Docker's words, from moby
//! `volume/mounts/linux_parser.go`.

use types::{Bytes, Labels, Mount, MountKind, is_tmpfs_option, is_volume_name, plain_path};

use super::spec::{AskedMount, MountForm};
use crate::convert::{
    mount,
    reader::{Entry, FieldError, Object},
};

pub(super) fn read(from: &mut Object<'_>, host: &mut Object<'_>) -> Result<Vec<AskedMount>, FieldError> {
    let mut mounts = Vec::new();
    for text in host.strings("Binds")? {
        let mount = bind(&text).map_err(|reason| host.bad("Binds", reason))?;
        add(&mut mounts, mount, MountForm::Bind(text)).map_err(|reason| host.bad("Binds", reason))?;
    }
    for one in mount::read_all(host)? {
        add(&mut mounts, one, MountForm::Mount).map_err(|reason| host.bad("Mounts", reason))?;
    }
    for entry in host.entries("Tmpfs")? {
        let (mount, text) = tmpfs(&entry)?;
        let is_bound =
            |known: &AskedMount| matches!(known.form, MountForm::Bind(_)) && known.mount.target == mount.target;
        if mounts.iter().any(is_bound) {
            return Err(entry.bad(format!("Duplicate mount point: {}", mount.target)));
        }
        // as with Docker it lies over what `Mounts` has there
        mounts.push(AskedMount { mount, form: MountForm::Tmpfs(text) });
    }
    for entry in from.entries("Volumes")? {
        let target = absolute(entry.key).map_err(|reason| entry.bad(reason))?;
        // what is mounted there takes the volume's place
        if !mounts.iter().any(|known| known.mount.target == target) {
            let mount = Mount { target, read_only: false, kind: volume(String::new(), false) };
            mounts.push(AskedMount { mount, form: MountForm::Volume });
        }
    }
    Ok(mounts)
}

fn add(mounts: &mut Vec<AskedMount>, mount: Mount, form: MountForm) -> Result<(), String> {
    if mounts.iter().any(|other| other.mount.target == mount.target) {
        return Err(format!("Duplicate mount point: {}", mount.target));
    }
    mounts.push(AskedMount { mount, form });
    Ok(())
}

fn absolute(target: &str) -> Result<String, String> {
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    match plain_path(target) {
        root if root == "/" => Err("invalid volume specification: destination can't be '/'".to_owned()),
        target => Ok(target),
    }
}

fn volume(name: String, no_copy: bool) -> MountKind {
    MountKind::Volume { name, no_copy, labels: Labels::new(), driver_options: Labels::new(), subpath: String::new() }
}

/// `source:target[:options]`, or `target` for a volume without a name.
fn bind(text: &str) -> Result<Mount, String> {
    let invalid = || format!("invalid volume specification: '{text}'");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(invalid()),
    };
    if parts.len() > 1 && (source.is_empty() || target.is_empty()) {
        return Err(invalid());
    }
    let target = absolute(target)?;
    let mut wanted = BindOptions::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        wanted.take(option).ok_or_else(|| format!("invalid mode: {options}"))?;
    }
    let kind = match source.starts_with('/') {
        true if wanted.no_copy => return Err(format!("invalid mode: {options}: only volumes are copied to")),
        // as with Docker, `-v` makes a directory that is missing
        true => MountKind::Bind {
            source: source.to_owned(),
            propagation: wanted.propagation,
            create: true,
            non_recursive: false,
            read_only_non_recursive: false,
        },
        false if !wanted.propagation.is_empty() => return Err(format!("invalid mode: {options}")),
        false => volume(volume_name(source)?, wanted.no_copy),
    };
    Ok(Mount { target, read_only: wanted.read_only, kind })
}

#[derive(Default)]
struct BindOptions {
    read_only: bool,
    no_copy: bool,
    propagation: String,
}

impl BindOptions {
    fn take(&mut self, option: &str) -> Option<()> {
        match option {
            "ro" => self.read_only = true,
            "nocopy" => self.no_copy = true,
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if self.propagation.is_empty() => {
                option.clone_into(&mut self.propagation);
            }
            // the default; SELinux's labels, which a host without it has none of; another system's caches
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" | "default" => {}
            _ => return None,
        }
        Some(())
    }
}

fn volume_name(name: &str) -> Result<String, String> {
    if name.is_empty() || (is_volume_name(name) && name.len() > 1) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
         allowed. If you intended to pass a host directory, use absolute path"
    ))
}

/// `size=64m,mode=1770,ro` of one entry of `Tmpfs`, and the text itself.
fn tmpfs(entry: &Entry<'_>) -> Result<(Mount, String), FieldError> {
    let target = absolute(entry.key).map_err(|reason| entry.bad(reason))?;
    let Some(options) = entry.value.as_str() else {
        return Err(entry.bad("must be a text of mount options, such as size=64m"));
    };
    let (mut size, mut mode, mut read_only, mut words) = (Bytes(0), 0, false, Vec::new());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let invalid = || entry.bad(format!("invalid tmpfs option {option:?}"));
        match option.split_once('=') {
            None if matches!(option, "ro" | "rw") => read_only = option == "ro",
            Some(("size", text)) => size = text.parse().map_err(|_| invalid())?,
            Some(("mode", text)) => {
                mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(invalid)?;
            }
            _ if is_tmpfs_option(option) => words.push(option.to_owned()),
            _ => return Err(entry.bad(format!("{option:?} is no option of a tmpfs; use size=64m, mode=1777, uid=0 …"))),
        }
    }
    let mount = Mount { target, read_only, kind: MountKind::Tmpfs { size, mode, options: words } };
    Ok((mount, options.to_owned()))
}
