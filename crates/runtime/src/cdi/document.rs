//! One vendor's file, read and checked.

use serde::Deserialize;
use types::is_device_name;

/// What a newer version says may mean something else.
const VERSIONS: [&str; 11] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0", "1.1.1"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    cdi_version: String,
    /// `vendor/class`
    pub(super) kind: String,
    pub(super) devices: Vec<Device>,
    /// For a container with any of the devices.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) net_devices: Vec<serde_json::Value>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Vec<Hook>,
    pub(super) additional_gids: Vec<u32>,
    pub(super) intel_rdt: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceNode {
    /// In the container.
    pub(super) path: String,
    /// The same path where it is absent.
    pub(super) host_path: Option<String>,
    pub(super) permissions: Option<String>,
    pub(super) file_mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    /// Seconds.
    pub(super) timeout: Option<u32>,
}

impl Document {
    /// YAML, of which JSON is a part.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let document: Self = serde_saphyr::from_str(text).map_err(|why| format!("is no CDI specification: {why}"))?;
        let version = document.cdi_version.trim_start_matches('v');
        if !VERSIONS.contains(&version) {
            return Err(format!("is of CDI version {version:?}; known are {} to {}", VERSIONS[0], VERSIONS[10]));
        }
        let kind = &document.kind;
        if !is_device_name(&format!("{kind}=x")) {
            return Err(format!("has the kind {kind:?}, which is not VENDOR/CLASS"));
        }
        match document.devices.iter().find(|device| !is_device_name(&format!("{kind}={}", device.name))) {
            Some(device) => Err(format!("has a device with the name {:?}, which cannot be one", device.name)),
            None => Ok(document),
        }
    }
}
