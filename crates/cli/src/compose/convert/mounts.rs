//! `volumes` and `tmpfs` of a service: short and long form.

use serde_json::{Value, json};

use super::topology::Topology;
use crate::{
    compose::{
        check::{Check, Field, Fields},
        paths::is_path,
    },
    output::units::parse_bytes,
    spec::edit::{set, set_some},
};

const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];
const CONSISTENCIES: &[&str] = &["default", "consistent", "cached", "delegated"];

pub(super) fn read(fields: &Fields<'_>, topology: &Topology, check: &mut Check) -> Vec<Value> {
    let mut mounts: Vec<Value> = Vec::new();
    let mut add = |field: &Field<'_>, mount: Option<Value>, check: &mut Check| {
        let Some(mount) = mount else { return };
        let target = mount["Target"].as_str().unwrap_or_default();
        if !target.starts_with('/') {
            field.wrong(check, format!("{target:?} is not an absolute path in the container"));
        } else if mounts.iter().any(|other| other["Target"] == mount["Target"]) {
            field.wrong(check, format!("{target:?} is mounted twice"));
        }
        mounts.push(mount);
    };
    for item in fields.get("volumes").map(|field| field.items(check)).unwrap_or_default() {
        let mount = if item.is_map() { long(&item, topology, check) } else { short(&item, topology, check) };
        add(&item, mount, check);
    }
    if let Some(field) = fields.get("tmpfs") {
        for text in field.one_or_more(check) {
            let mount = tmpfs(field, &text, check);
            add(field, Some(mount), check);
        }
    }
    mounts
}

/// `[SOURCE:]TARGET[:OPTIONS]`
fn short(field: &Field<'_>, topology: &Topology, check: &mut Check) -> Option<Value> {
    let text = field.text(check)?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => {
            field.wrong(check, format!("{text:?} is not [SOURCE:]TARGET[:OPTIONS]"));
            return None;
        }
    };
    let mut mount = json!({ "Type": "volume", "Target": target });
    match source {
        None => {}
        Some(source) if is_path(source) => {
            // as compose has it: the directory is made where it is missing
            mount["Type"] = "bind".into();
            mount["Source"] = source.into();
            set(&mut mount, "BindOptions.CreateMountpoint", true);
        }
        Some(source) => name_volume(&mut mount, source, field, topology, check),
    }
    let is_bind = mount["Type"] == "bind";
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount["ReadOnly"] = true.into(),
            "rw" | "z" | "Z" => {}
            "nocopy" if !is_bind => set(&mut mount, "VolumeOptions.NoCopy", true),
            option if CONSISTENCIES.contains(&option) => mount["Consistency"] = option.into(),
            option if is_bind && PROPAGATIONS.contains(&option) => set(&mut mount, "BindOptions.Propagation", option),
            other => {
                field.wrong(check, format!("{other:?} is no option of a mount; known are ro, rw, nocopy, z and Z"));
            }
        }
    }
    Some(mount)
}

/// The volume's name in the cluster, and how it is made.
fn name_volume(mount: &mut Value, source: &str, field: &Field<'_>, topology: &Topology, check: &mut Check) {
    let Some(volume) = topology.volume(source, field, check) else { return };
    mount["Source"] = volume.name.as_str().into();
    if !volume.options.is_null() {
        mount["VolumeOptions"] = volume.options.clone();
    }
}

const LONG: &[&str] = &["type", "source", "target", "read_only", "consistency", "bind", "volume", "image", "tmpfs"];

fn long(field: &Field<'_>, topology: &Topology, check: &mut Check) -> Option<Value> {
    let fields = field.fields(check, LONG);
    let kind = fields.get("type").and_then(|kind| kind.one_of(check, &["volume", "bind", "image", "tmpfs"]));
    let Some(kind) = kind else {
        if fields.get("type").is_none() {
            field.wrong(check, "type is missing: volume, bind, image or tmpfs");
        }
        return None;
    };
    let Some(target) = check.text(fields.get("target")) else {
        field.wrong(check, "target is missing: the path in the container");
        return None;
    };
    let mut mount = json!({ "Type": kind, "Target": target });
    let source = check.text(fields.get("source"));
    match (kind.as_str(), source) {
        ("bind", Some(source)) => mount["Source"] = source.into(),
        ("bind", None) => field.wrong(check, "invalid bind source: give the path of the host as source"),
        ("image", Some(source)) => mount["Source"] = source.into(),
        ("image", None) => field.wrong(check, "invalid image mount: name the image as source"),
        ("tmpfs", Some(_)) => field.wrong(check, "a tmpfs has no source"),
        ("volume", Some(source)) => name_volume(&mut mount, &source, field, topology, check),
        _ => {}
    }
    set_some(&mut mount, "ReadOnly", fields.get("read_only").and_then(|field| field.boolean(check)));
    set_some(&mut mount, "Consistency", fields.get("consistency").and_then(|field| field.one_of(check, CONSISTENCIES)));
    for other in ["bind", "volume", "image", "tmpfs"] {
        if let Some(options) = fields.get(other).filter(|_| other != kind) {
            options.wrong(check, format!("options of a {other} mount do not fit the type {kind}"));
        }
    }
    if let Some(bind) = fields.get("bind") {
        let inner = bind.fields(check, &["propagation", "create_host_path", "recursive", "selinux"]);
        let propagation = inner.get("propagation").and_then(|field| field.one_of(check, PROPAGATIONS));
        set_some(&mut mount, "BindOptions.Propagation", propagation);
        let create = inner.get("create_host_path").and_then(|field| field.boolean(check));
        set_some(&mut mount, "BindOptions.CreateMountpoint", create);
        if let Some(recursive) = inner.get("recursive") {
            let known = &["enabled", "disabled", "writable", "readonly"];
            match recursive.one_of(check, known).as_deref() {
                Some("disabled") => set(&mut mount, "BindOptions.NonRecursive", true),
                Some("writable") => set(&mut mount, "BindOptions.ReadOnlyNonRecursive", true),
                Some("readonly") => set(&mut mount, "BindOptions.ReadOnlyForceRecursive", true),
                _ => {}
            }
        }
    }
    if let Some(volume) = fields.get("volume") {
        let inner = volume.fields(check, &["nocopy", "subpath", "labels"]);
        set_some(&mut mount, "VolumeOptions.NoCopy", inner.get("nocopy").and_then(|field| field.boolean(check)));
        set_some(&mut mount, "VolumeOptions.Subpath", inner.get("subpath").and_then(|field| field.text(check)));
        for (name, value) in inner.get("labels").map(|field| field.pairs(check)).unwrap_or_default() {
            let mut labels = mount["VolumeOptions"]["Labels"].as_object().cloned().unwrap_or_default();
            labels.insert(name, value.unwrap_or_default().into());
            set(&mut mount, "VolumeOptions.Labels", labels);
        }
    }
    if let Some(image) = fields.get("image") {
        let inner = image.fields(check, &["subpath"]);
        set_some(&mut mount, "ImageOptions.Subpath", inner.get("subpath").and_then(|field| field.text(check)));
    }
    if let Some(tmpfs) = fields.get("tmpfs") {
        let inner = tmpfs.fields(check, &["size", "mode"]);
        set_some(&mut mount, "TmpfsOptions.SizeBytes", inner.get("size").and_then(|field| field.bytes(check)));
        set_some(&mut mount, "TmpfsOptions.Mode", inner.get("mode").and_then(|field| field.mode(check)));
    }
    Some(mount)
}

/// `/run:size=64m,mode=1770,uid=1000`
fn tmpfs(field: &Field<'_>, text: &str, check: &mut Check) -> Value {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut mount = json!({ "Type": "tmpfs", "Target": target });
    let mut others: Vec<Vec<&str>> = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => match parse_bytes(value) {
                Ok(size) => set(&mut mount, "TmpfsOptions.SizeBytes", size),
                Err(why) => field.wrong(check, why),
            },
            Some(("mode", value)) => match u32::from_str_radix(value, 8) {
                Ok(mode) => set(&mut mount, "TmpfsOptions.Mode", mode),
                Err(_) => field.wrong(check, format!("{value:?} is no octal file mode")),
            },
            Some((name, value)) => others.push(vec![name, value]),
            None => others.push(vec![option]),
        }
    }
    if !others.is_empty() {
        set(&mut mount, "TmpfsOptions.Options", json!(others));
    }
    mount
}
