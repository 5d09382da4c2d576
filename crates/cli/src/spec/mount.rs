//! `--mount type=volume,source=data,target=/data,readonly`.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::edit::set;
use crate::output::units::parse_bytes;

/// All keys, without their other spellings.
const KNOWN: &str = "type, source, target, readonly, consistency, bind-propagation, bind-create-mountpoint, bind-nonrecursive, \
                     volume-driver, volume-label, volume-nocopy, volume-opt, volume-subpath, tmpfs-mode and tmpfs-size";

pub(crate) fn parse(text: &str) -> anyhow::Result<Value> {
    read(text).with_context(|| format!("invalid mount {text:?}"))
}

fn read(text: &str) -> anyhow::Result<Value> {
    let mut mount = json!({ "Type": "volume" });
    for field in text.split(',') {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        let key = key.trim().to_ascii_lowercase();
        if let Some(path) = flag_path(&key) {
            set(&mut mount, path, is_true(&key, value)?);
            continue;
        }
        let value = value.with_context(|| format!("{key:?} needs a value: write {key}=…"))?;
        match key.as_str() {
            "type" => set(&mut mount, "Type", value.to_ascii_lowercase()),
            "source" | "src" => set(&mut mount, "Source", value),
            "target" | "dst" | "destination" => set(&mut mount, "Target", value),
            "consistency" => set(&mut mount, "Consistency", value),
            "bind-propagation" => set(&mut mount, "BindOptions.Propagation", value),
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
    Ok(mount)
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
