//! `--mount type=volume,source=data,target=/data,readonly`; a field with commas stands in quotes.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::{
    edit::{get, set},
    fields,
};
use crate::output::units::parse_bytes;

/// All keys, without their other spellings.
const KNOWN: &str = "type, source, target, readonly, consistency, bind-propagation, bind-create-mountpoint, bind-recursive, \
                     bind-nonrecursive, image-subpath, volume-driver, volume-label, volume-nocopy, volume-opt, \
                     volume-subpath, tmpfs-mode and tmpfs-size";

pub(crate) fn parse(text: &str) -> anyhow::Result<Value> {
    read(text).with_context(|| format!("invalid mount {text:?}"))
}

fn read(text: &str) -> anyhow::Result<Value> {
    let mut mount = json!({ "Type": "volume" });
    for field in fields::split(text) {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        let key = key.trim().to_ascii_lowercase();
        if let Some(path) = flag_path(&key) {
            set(&mut mount, path, is_true(&key, value)?);
            continue;
        }
        let value = value.with_context(|| format!("{key:?} needs a value: write {key}=…"))?;
        match key.as_str() {
            "type" => set(&mut mount, "Type", value.to_ascii_lowercase()),
            "source" | "src" => set(&mut mount, "Source", from_here(value)?),
            "target" | "dst" | "destination" => set(&mut mount, "Target", value),
            "consistency" => set(&mut mount, "Consistency", value),
            "bind-propagation" => set(&mut mount, "BindOptions.Propagation", value),
            "bind-recursive" => match value {
                "enabled" => {}
                "disabled" => set(&mut mount, "BindOptions.NonRecursive", true),
                "writable" => set(&mut mount, "BindOptions.ReadOnlyNonRecursive", true),
                "readonly" => set(&mut mount, "BindOptions.ReadOnlyForceRecursive", true),
                other => bail!("bind-recursive is enabled, disabled, writable or readonly, not {other:?}"),
            },
            "volume-subpath" => set(&mut mount, "VolumeOptions.Subpath", value),
            "image-subpath" => set(&mut mount, "ImageOptions.Subpath", value),
            "volume-driver" => set(&mut mount, "VolumeOptions.DriverConfig.Name", value),
            "volume-label" | "volume-opt" => {
                let at = if key == "volume-label" { "Labels" } else { "DriverConfig.Options" };
                let (name, inner) = value.split_once('=').unwrap_or((value, ""));
                let path = format!("/VolumeOptions/{}", at.replace('.', "/"));
                let mut map = mount.pointer(&path).and_then(Value::as_object).cloned().unwrap_or_default();
                map.insert(name.to_owned(), inner.into());
                set(&mut mount, &format!("VolumeOptions.{at}"), map);
            }
            "tmpfs-size" => set(&mut mount, "TmpfsOptions.SizeBytes", parse_bytes(value).map_err(anyhow::Error::msg)?),
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).with_context(|| format!("{value:?} is no octal file mode"))?;
                set(&mut mount, "TmpfsOptions.Mode", mode);
            }
            other => bail!("unexpected key {other:?}; known are {KNOWN}"),
        }
    }
    ensure!(mount["Target"].is_string(), "target is required: say where the container sees it, target=/PATH");
    let kind = mount["Type"].as_str().unwrap_or_default();
    ensure!(kind != "bind" || mount["Source"].is_string(), "a bind mount needs source=PATH");
    ensure!(kind != "image" || mount["Source"].is_string(), "an image mount needs source=IMAGE");
    let all =
        [("BindOptions", "bind"), ("VolumeOptions", "volume"), ("ImageOptions", "image"), ("TmpfsOptions", "tmpfs")];
    for (options, wanted) in all {
        ensure!(mount.get(options).is_none() || kind == wanted, "options for {wanted} do not fit type {kind:?}");
    }
    check_recursion(&mount)?;
    Ok(mount)
}

/// What is mounted below a directory is only of interest where that is read-only.
fn check_recursion(mount: &Value) -> anyhow::Result<()> {
    let has = |option: &str| get(mount, &format!("BindOptions.{option}")).is_some();
    let is_forced = has("ReadOnlyForceRecursive");
    let how = if is_forced { "readonly" } else { "writable" };
    ensure!(
        !(is_forced || has("ReadOnlyNonRecursive")) || mount["ReadOnly"] == true,
        "bind-recursive={how} says how far readonly goes: give readonly too"
    );
    let propagation = get(mount, "BindOptions.Propagation").and_then(Value::as_str).unwrap_or_default();
    ensure!(
        !is_forced || matches!(propagation, "" | "rprivate"),
        "bind-recursive=readonly needs bind-propagation=rprivate, not {propagation}"
    );
    Ok(())
}

/// What begins with a dot is a path from this shell's directory.
pub(super) fn from_here(source: &str) -> anyhow::Result<String> {
    if !source.starts_with('.') {
        return Ok(source.to_owned());
    }
    let path = std::path::absolute(Path::new(source)).with_context(|| format!("find the directory {source}"))?;
    path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{} is no text", path.display()))
}

fn flag_path(key: &str) -> Option<&'static str> {
    Some(match key {
        "readonly" | "ro" => "ReadOnly",
        "volume-nocopy" => "VolumeOptions.NoCopy",
        "bind-create-mountpoint" => "BindOptions.CreateMountpoint",
        "bind-nonrecursive" => "BindOptions.NonRecursive",
        _ => return None,
    })
}

fn is_true(key: &str, value: Option<&str>) -> anyhow::Result<bool> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => bail!("{key} is true or false, not {other:?}"),
    }
}
