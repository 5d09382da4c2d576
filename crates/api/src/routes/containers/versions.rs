//! What clients of older versions of the API say and see of containers (moby `api/server/router/container`, version
//! history of the API). The words are Docker's.

use node::engine::containers::spec::{AskedMount, SingleSpec};
use serde_json::{Map, Value};
use types::MountKind;

use crate::{
    error::{ApiError, ApiResult},
    router::ApiVersion,
};

/// `AutoRemove` is the daemon's.
const REMOVES: ApiVersion = ApiVersion(1, 25);
/// Binds without what is mounted below; bounds on processes that change; whose own IPC namespace others cannot join
/// unless they say so.
const IPC_IS_PRIVATE: ApiVersion = ApiVersion(1, 40);
/// Platforms of containers.
pub(super) const HAS_PLATFORM: ApiVersion = ApiVersion(1, 41);
/// Mounts say nothing that their kind does not know; sizes of terminals.
pub(crate) const CHECKS_MOUNTS: ApiVersion = ApiVersion(1, 42);
/// `signal=` of a stop.
pub(super) const STOPS_BY_SIGNAL: ApiVersion = CHECKS_MOUNTS;
/// `condition=` of a wait.
pub(super) const WAITS_FOR_CONDITION: ApiVersion = ApiVersion(1, 30);
const HAS_ANNOTATIONS: ApiVersion = ApiVersion(1, 43);
/// Several networks, addresses of each, read-only mounts that are so below, health checks while starting.
const HAS_NETWORKS: ApiVersion = ApiVersion(1, 44);
/// Parts of volumes; aliases are what was asked for, beside names of DNS.
const HAS_SUBPATHS: ApiVersion = ApiVersion(1, 45);
const LISTS_ANNOTATIONS: ApiVersion = ApiVersion(1, 46);
/// Images as mounts, priorities of gateways, warnings about the driver of volumes.
const HAS_PRIORITIES: ApiVersion = ApiVersion(1, 48);

/// The body of a request for a container as the newest version says it, with what is said of it.
pub(super) fn read_create(body: &mut Value, version: ApiVersion) -> ApiResult<Vec<String>> {
    if let Some(host) = object(body, "HostConfig") {
        adapt_host(host, version);
        let mounts = host.get_mut("Mounts").and_then(Value::as_array_mut);
        let mut mounts = mounts.into_iter().flatten().map(Value::as_object_mut).enumerate();
        mounts.try_for_each(|(at, mount)| mount.map_or(Ok(()), |mount| adapt_mount(at, mount, version)))?;
    }
    if version < HAS_NETWORKS
        && let Some(health) = object(body, "Healthcheck")
    {
        health.remove("StartInterval");
    }
    adapt_endpoints(body, version)?;
    let warnings = warnings(body, version);
    if version >= HAS_NETWORKS {
        drop_mac_address(body);
    }
    Ok(warnings)
}

/// Where there is no interface of its own, the address that moved to the endpoints is of none.
fn drop_mac_address(body: &mut Value) {
    let mode = text(&body["HostConfig"], "NetworkMode");
    let has_none = matches!(mode, "host" | "none") || mode.starts_with("container:");
    if let Some(body) = body.as_object_mut().filter(|_| has_none) {
        body.remove("MacAddress");
    }
}

fn object<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(field).and_then(Value::as_object_mut)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn adapt_host(host: &mut Map<String, Value>, version: ApiVersion) {
    let later = [(REMOVES, "AutoRemove"), (CHECKS_MOUNTS, "ConsoleSize"), (HAS_ANNOTATIONS, "Annotations")];
    for (_, field) in later.into_iter().filter(|(since, _)| version < *since) {
        host.remove(field);
    }
    if version < IPC_IS_PRIVATE && host.get("IpcMode").is_none_or(|mode| mode.is_null() || mode == "") {
        host.insert("IpcMode".to_owned(), "shareable".into());
    }
}

fn adapt_mount(at: usize, mount: &mut Map<String, Value>, version: ApiVersion) -> ApiResult<()> {
    let kind = mount.get("Type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = if kind.is_empty() { "volume".to_owned() } else { kind };
    let refused = |message: String| Err(ApiError::bad_request(message));
    for (of, options) in [("volume", "VolumeOptions"), ("bind", "BindOptions"), ("tmpfs", "TmpfsOptions")] {
        let is_said = kind != of && mount.get(options).is_some_and(|options| !options.is_null());
        if is_said && version >= CHECKS_MOUNTS {
            // behind the path in Docker's own words
            return refused(format!(
                "HostConfig.Mounts[{at}].{options}: {options} must not be specified on mount type \"{kind}\""
            ));
        }
        if is_said {
            mount.remove(options);
        }
    }
    if let Some(options) = mount.get_mut("BindOptions").and_then(Value::as_object_mut) {
        let later = [(IPC_IS_PRIVATE, "NonRecursive"), (CHECKS_MOUNTS, "CreateMountpoint")];
        for (_, field) in later.into_iter().filter(|(since, _)| version < *since) {
            options.remove(field);
        }
        if version < HAS_NETWORKS && options.get("ReadOnlyForceRecursive") == Some(&Value::Bool(true)) {
            return refused("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer".to_owned());
        }
    }
    let subpath = mount.get("VolumeOptions").map_or("", |options| text(options, "Subpath"));
    if version < HAS_SUBPATHS && !subpath.is_empty() {
        return refused("VolumeOptions.Subpath needs API v1.45 or newer".to_owned());
    }
    if version < HAS_PRIORITIES && kind == "image" {
        return refused("Mount type \"Image\" needs API v1.48 or newer".to_owned());
    }
    Ok(())
}

fn adapt_endpoints(body: &mut Value, version: ApiVersion) -> ApiResult<()> {
    let config = object(body, "NetworkingConfig").and_then(|config| config.get_mut("EndpointsConfig"));
    let Some(endpoints) = config.and_then(Value::as_object_mut) else { return Ok(()) };
    if version < HAS_NETWORKS && endpoints.len() > 1 {
        let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
        let names = names.join(", ");
        return Err(ApiError::bad_request(format!(
            "Container cannot be created with multiple network endpoints: {names}"
        )));
    }
    let later = [(HAS_NETWORKS, "MacAddress"), (HAS_PRIORITIES, "GwPriority")];
    for endpoint in endpoints.values_mut().filter_map(Value::as_object_mut) {
        for (_, field) in later.into_iter().filter(|(since, _)| version < *since) {
            endpoint.remove(field);
        }
    }
    Ok(())
}

fn warnings(body: &Value, version: ApiVersion) -> Vec<String> {
    let mut warnings = Vec::new();
    let host = &body["HostConfig"];
    let names_driver = |mount: &Value| {
        matches!(text(mount, "Type"), "volume" | "") && text(&mount["VolumeOptions"]["DriverConfig"], "Name").is_empty()
    };
    let mut mounts = host["Mounts"].as_array().into_iter().flatten();
    if version >= HAS_PRIORITIES && !text(host, "VolumeDriver").is_empty() && mounts.any(names_driver) {
        warnings.push(
            "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use \
             '--mount type=volume,volume-driver=...' instead"
                .to_owned(),
        );
    }
    if version >= HAS_NETWORKS && !text(body, "MacAddress").is_empty() {
        warnings.push(
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
                .to_owned(),
        );
    }
    warnings
}

/// What was read-only once was so at the mount's own place alone.
pub(super) fn adapt_spec(spec: &mut SingleSpec, version: ApiVersion) {
    if version >= HAS_NETWORKS {
        return;
    }
    for AskedMount { mount, .. } in spec.mounts.iter_mut().filter(|asked| asked.mount.read_only) {
        if let MountKind::Bind { read_only_non_recursive, .. } = &mut mount.kind {
            *read_only_non_recursive = true;
        }
    }
}

/// What a request for other limits says.
pub(super) fn read_update(body: &mut Value, version: ApiVersion) {
    if version < IPC_IS_PRIVATE
        && let Some(body) = body.as_object_mut()
    {
        body.remove("PidsLimit");
    }
}

/// An entry of the list.
pub(super) fn show_summary(summary: &mut Value, version: ApiVersion) {
    if version < LISTS_ANNOTATIONS
        && let Some(host) = object(summary, "HostConfig")
    {
        host.remove("Annotations");
    }
}

/// All of one. In networks that users made, its short id and its host name were aliases.
pub(super) fn show_detail(detail: &mut Value, version: ApiVersion) {
    if version >= HAS_SUBPATHS {
        return;
    }
    let id: String = text(detail, "Id").chars().take(12).collect();
    let added = [id, text(&detail["Config"], "Hostname").to_owned()];
    let networks = object(detail, "NetworkSettings").and_then(|settings| settings.get_mut("Networks"));
    let networks = networks.and_then(Value::as_object_mut).into_iter().flatten();
    for (_, endpoint) in networks.filter(|(name, _)| !matches!(name.as_str(), "bridge" | "host" | "none" | "default")) {
        let mut aliases = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
        for name in &added {
            if !aliases.iter().any(|known| known == name) {
                aliases.push(name.clone().into());
            }
        }
        endpoint["Aliases"] = aliases.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(minor: u32, mut body: Value) -> Result<(Value, usize), String> {
        let warnings = read_create(&mut body, ApiVersion(1, minor)).map_err(|error| error.message)?;
        Ok((body, warnings.len()))
    }

    /// E-13: what a version does not know yet means nothing in it.
    #[test]
    fn e_13_older_versions_pass_over_what_they_do_not_know() {
        let host = json!({"AutoRemove": true, "ConsoleSize": [1, 2], "Annotations": {"a": "b"}, "IpcMode": ""});
        let body = |host: Value| json!({ "HostConfig": host });
        let shareable = json!({"IpcMode": "shareable"});
        assert_eq!(at(24, body(host.clone())), Ok((body(shareable), 0)));
        let later = json!({"AutoRemove": true, "ConsoleSize": [1, 2], "IpcMode": ""});
        assert_eq!(at(42, body(host.clone())), Ok((body(later), 0)));
        assert_eq!(at(43, body(host.clone())), Ok((body(host), 0)));
        let bind = json!({"Type": "bind", "BindOptions": {"NonRecursive": true, "CreateMountpoint": true},
            "TmpfsOptions": {"Mode": 1}});
        let mounts = |mount: Value| json!({ "HostConfig": { "IpcMode": "private", "Mounts": [mount] } });
        let plain = json!({"Type": "bind", "BindOptions": {}});
        assert_eq!(at(39, mounts(bind.clone())), Ok((mounts(plain), 0)));
        let refused = at(42, mounts(bind)).expect_err("of another kind");
        assert_eq!(
            refused,
            "HostConfig.Mounts[0].TmpfsOptions: TmpfsOptions must not be specified on mount type \"bind\""
        );
        let health = json!({"Healthcheck": {"StartInterval": 5, "Retries": 1}});
        assert_eq!(at(43, health), Ok((json!({"Healthcheck": {"Retries": 1}}), 0)));
        assert_eq!(at(24, json!(null)), Ok((json!(null), 0)));
    }

    #[test]
    fn e_13_what_older_versions_cannot_do_is_refused() {
        let mount = |mount: Value| json!({ "HostConfig": { "Mounts": [mount] } });
        for (minor, body, part) in [
            (43, mount(json!({"Type": "bind", "BindOptions": {"ReadOnlyForceRecursive": true}})), "needs API v1.44"),
            (44, mount(json!({"Type": "volume", "VolumeOptions": {"Subpath": "a"}})), "needs API v1.45"),
            (47, mount(json!({"Type": "image", "Source": "a"})), "needs API v1.48"),
            (43, json!({"NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": null}}}), "endpoints: a, b"),
        ] {
            let refused = at(minor, body.clone()).expect_err("too old");
            assert!(refused.contains(part), "{refused}");
            assert!(at(minor + 1, body).is_ok(), "{part}");
        }
    }

    /// E-17: before they had addresses of their own, endpoints took the container's or nobody did.
    #[test]
    fn e_17_an_address_without_an_interface() {
        let body = |mode: &str| json!({"HostConfig": {"NetworkMode": mode}, "MacAddress": "02:42:ac:11:00:09"});
        let kept = |minor, mode: &str| at(minor, body(mode)).expect("good").0.get("MacAddress").is_some();
        for mode in ["host", "none", "container:db"] {
            assert!(!kept(44, mode) && kept(43, mode), "{mode}");
        }
        assert!(kept(44, "front") && kept(44, ""));
    }

    #[test]
    fn e_13_fields_that_moved_are_told() {
        let mac = json!({"MacAddress": "02:42:ac:11:00:09"});
        assert_eq!([at(43, mac.clone()).expect("good").1, at(44, mac).expect("good").1], [0, 1]);
        let driver = |kind: &str, options: Value| {
            let mount = json!({"Type": kind, "Target": "/a", "VolumeOptions": options});
            json!({"HostConfig": {"VolumeDriver": "local", "Mounts": [mount]}})
        };
        let named = json!({"DriverConfig": {"Name": "local"}});
        let warned = |minor, body| at(minor, body).expect("good").1;
        assert_eq!(warned(48, driver("volume", Value::Null)), 1);
        assert_eq!(warned(47, driver("volume", Value::Null)), 0);
        assert_eq!(warned(48, driver("volume", named)), 0);
        assert_eq!(warned(48, driver("bind", Value::Null)), 0);
    }

    /// E-28: in old versions a container's short id and its host name are aliases of it.
    #[test]
    fn e_28_aliases_of_older_versions() {
        let endpoint = |aliases: Value| json!({ "Aliases": aliases });
        let detail = |back: Value| {
            json!({"Id": "0123456789abcdef", "Config": {"Hostname": "web"}, "NetworkSettings": {"Networks": {
                "back": endpoint(back), "bridge": endpoint(Value::Null)}}})
        };
        let shown = |minor, back: Value| {
            let mut shown = detail(back);
            show_detail(&mut shown, ApiVersion(1, minor));
            shown
        };
        assert_eq!(shown(45, Value::Null), detail(Value::Null));
        assert_eq!(shown(44, Value::Null), detail(json!(["0123456789ab", "web"])));
        assert_eq!(shown(44, json!(["web", "db"])), detail(json!(["web", "db", "0123456789ab"])));
    }
}
