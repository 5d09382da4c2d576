//! Devices of hosts: by path, by the name that a vendor gives them (CDI), GPUs by number.

use anyhow::bail;
use serde_json::{Value, json};

use super::fields;

/// What `--device` names.
pub(crate) enum Wanted {
    /// An entry of `Devices`.
    Path(Value),
    /// An entry of `DeviceRequests`.
    Claim(Value),
}

/// `/dev/sda[:/dev/xvda[:rwm]]`, `/dev/sda:rwm`, or `nvidia.com/gpu=0`.
pub(crate) fn wanted(text: &str) -> anyhow::Result<Wanted> {
    match types::is_device_name(text) {
        true => Ok(Wanted::Claim(claim("cdi", 0, vec![text.to_owned()], None))),
        false => by_path(text).map(Wanted::Path),
    }
}

/// Entries of `Devices` and of `DeviceRequests`.
pub(crate) fn sort(texts: &[String]) -> anyhow::Result<(Vec<Value>, Vec<Value>)> {
    let (mut paths, mut claims) = (Vec::new(), Vec::new());
    for text in texts {
        match wanted(text)? {
            Wanted::Path(device) => paths.push(device),
            Wanted::Claim(claim) => claims.push(claim),
        }
    }
    Ok((paths, claims))
}

fn by_path(text: &str) -> anyhow::Result<Value> {
    let are_permissions = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, permissions] if are_permissions(permissions) => (host, host, permissions),
        [host, container] => (host, container, "rwm"),
        [host, container, permissions] if are_permissions(permissions) => (host, container, permissions),
        [_, _, mode] => bail!("bad mode specified: {mode}; use some of r, w and m"),
        _ => bail!("invalid device specification: {text}: write HOSTPATH[:CONTAINERPATH[:rwm]]"),
    };
    Ok(json!({ "PathOnHost": host, "PathInContainer": container, "CgroupPermissions": permissions }))
}

/// An entry of `DeviceRequests`; with `capability` beside that of being a GPU.
pub(crate) fn claim(driver: &str, count: i64, ids: Vec<String>, capabilities: Option<Vec<String>>) -> Value {
    json!({
        "Driver": driver,
        "Count": count,
        "DeviceIDs": if ids.is_empty() { Value::Null } else { ids.into() },
        "Capabilities": capabilities.map(|all| vec![all]),
        "Options": {},
    })
}

/// What stands for a claim where one is replaced or removed: the name, or the word for all GPUs.
pub(crate) fn claim_key(claim: &Value) -> String {
    match claim["Driver"].as_str() {
        Some("cdi") => claim["DeviceIDs"][0].as_str().unwrap_or_default().to_owned(),
        _ => GPUS.to_owned(),
    }
}

/// Key of what `--gpus` asked for.
pub(crate) const GPUS: &str = "gpus";

/// `all`, `2`, or `device=0,capabilities=compute`; with quotes around a field that has commas: `"device=0,1"`.
pub(crate) fn gpus(text: &str) -> anyhow::Result<Value> {
    let count = |text: &str| match text {
        "all" => Ok(-1),
        text => {
            text.parse::<i64>().map_err(|_| anyhow::anyhow!("invalid count ({text}) of --gpus: give all or a number"))
        }
    };
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (mut driver, mut number, mut ids, mut capabilities) = (String::new(), 0, Vec::new(), vec!["gpu".to_owned()]);
    for field in fields::split(text) {
        match field.split_once('=') {
            None => number = count(&field)?,
            Some(("count", value)) => number = count(value)?,
            Some(("driver", value)) => driver = value.to_owned(),
            Some(("device", value)) => ids = list(value),
            Some(("capabilities", value)) => capabilities.extend(list(value)),
            Some((key, _)) => bail!("unexpected key '{key}' in '{field}' of --gpus"),
        }
    }
    if number == 0 && ids.is_empty() {
        number = 1;
    }
    Ok(claim(&driver, number, ids, Some(capabilities)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_as_docker_reads_them() {
        for (text, driver, count, ids, capabilities) in [
            ("all", "", -1, json!(null), json!([["gpu"]])),
            ("2", "", 2, json!(null), json!([["gpu"]])),
            ("device=0", "", 0, json!(["0"]), json!([["gpu"]])),
            ("\"device=0,1\",driver=nvidia", "nvidia", 0, json!(["0", "1"]), json!([["gpu"]])),
            ("\"capabilities=compute,utility\"", "", 1, json!(null), json!([["gpu", "compute", "utility"]])),
        ] {
            let claim = gpus(text).expect(text);
            let shown = (&claim["Driver"], &claim["Count"], &claim["DeviceIDs"], &claim["Capabilities"]);
            assert_eq!(shown, (&json!(driver), &json!(count), &ids, &capabilities), "{text}");
        }
        let error = gpus("some").expect_err("no number").to_string();
        assert!(error.contains("invalid count (some)"), "{error}");
    }
}
