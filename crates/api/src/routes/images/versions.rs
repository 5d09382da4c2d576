//! What clients of older versions of the API see of images (moby `api/server/router/image`).

use serde_json::{Map, Value, json};

use crate::router::ApiVersion;

/// What has no name has none.
const NAMES_NOTHING: ApiVersion = ApiVersion(1, 43);
/// `Size` is all there is to say of it, and who does not know when an image was made does not say so.
const HAS_ONE_SIZE: ApiVersion = ApiVersion(1, 44);
/// Nothing is left of the container that an image was made of.
const HAS_NO_CONTAINER: ApiVersion = ApiVersion(1, 45);
/// The configuration has what means something to an image.
const HAS_OWN_CONFIG: ApiVersion = ApiVersion(1, 50);

/// An entry of the list.
pub(super) fn show_summary(line: &mut Value, version: ApiVersion) {
    let is_empty = |names: &Value| names.as_array().is_none_or(Vec::is_empty);
    if version < NAMES_NOTHING && is_empty(&line["RepoTags"]) && is_empty(&line["RepoDigests"]) {
        line["RepoTags"] = json!(["<none>:<none>"]);
        line["RepoDigests"] = json!(["<none>@<none>"]);
    }
    if version < HAS_ONE_SIZE {
        line["VirtualSize"] = line["Size"].clone();
    }
}

/// All of one.
pub(super) fn show_detail(image: &mut Value, version: ApiVersion) {
    if version < HAS_ONE_SIZE {
        image["VirtualSize"] = image["Size"].clone();
        if image["Created"].is_null() {
            image["Created"] = "0001-01-01T00:00:00Z".into();
        }
    }
    if version < HAS_NO_CONTAINER {
        image["ContainerConfig"] = Value::Object(fields_of_containers(Map::new()));
    }
    if let Some(config) = image.get_mut("Config").and_then(Value::as_object_mut) {
        let own = std::mem::take(config);
        *config = if version < HAS_OWN_CONFIG { fields_of_containers(own) } else { fields(own) };
    }
}

/// Those that were always there, whether they say something or not.
fn fields(mut config: Map<String, Value>) -> Map<String, Value> {
    for field in ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"] {
        config.entry(field).or_insert(Value::Null);
    }
    for field in ["User", "WorkingDir"] {
        config.entry(field).or_insert_with(|| "".into());
    }
    config
}

/// With those of a container, which an image once shared.
fn fields_of_containers(config: Map<String, Value>) -> Map<String, Value> {
    let mut config = fields(config);
    for field in ["AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"] {
        config.entry(field).or_insert(Value::Bool(false));
    }
    for field in ["Domainname", "Hostname", "Image"] {
        config.entry(field).or_insert_with(|| "".into());
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-06: names and sizes as each version has them.
    #[test]
    fn e_06_lists_of_older_versions() {
        let shown = |minor, tags: Value| {
            let mut line = json!({"RepoTags": tags, "RepoDigests": [], "Size": 7});
            show_summary(&mut line, ApiVersion(1, minor));
            line
        };
        assert_eq!(shown(44, json!([])), json!({"RepoTags": [], "RepoDigests": [], "Size": 7}));
        assert_eq!(shown(43, json!([])), json!({"RepoTags": [], "RepoDigests": [], "Size": 7, "VirtualSize": 7}));
        let none =
            json!({"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"], "Size": 7, "VirtualSize": 7});
        assert_eq!(shown(42, json!([])), none);
        assert_eq!(shown(42, json!(["a:1"]))["RepoTags"], json!(["a:1"]));
    }

    #[test]
    fn e_10_details_of_older_versions() {
        let shown = |minor| {
            let mut image = json!({"Size": 7, "Config": {"Env": ["A=b"]}});
            show_detail(&mut image, ApiVersion(1, minor));
            image
        };
        let now = shown(50);
        assert_eq!((&now["Config"]["Env"], &now["Config"]["Cmd"]), (&json!(["A=b"]), &Value::Null));
        assert_eq!(now["Config"].as_object().expect("an object").len(), 8);
        assert!(now.get("VirtualSize").is_none() && now.get("ContainerConfig").is_none());
        assert_eq!((&shown(43)["Created"], now.get("Created")), (&json!("0001-01-01T00:00:00Z"), None));
        assert_eq!(shown(49)["Config"]["Tty"], json!(false));
        assert_eq!(shown(44)["ContainerConfig"]["Volumes"], Value::Null);
        assert_eq!((&shown(43)["VirtualSize"], shown(44).get("VirtualSize")), (&json!(7), None));
    }
}
