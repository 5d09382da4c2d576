//! The image configuration: what to run and how, and which layers make the root filesystem.
//! Read by the runtime through [`crate::ImageDetail`]; never keeps a field it does not understand
//! (the original bytes stay in the store as a blob).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    document::null_default,
    error::{Error, Result},
    platform::Platform,
};

/// The OCI image configuration with Docker's additions (health check, shell).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    #[serde(default, deserialize_with = "null_default")]
    pub config: RunConfig,
    #[serde(default, deserialize_with = "null_default")]
    pub rootfs: RootFs,
    #[serde(default, deserialize_with = "null_default")]
    pub history: Vec<HistoryEntry>,
}

/// What a container of the image does unless told otherwise; Docker's field names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp` -> {}.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "null_default")]
    pub env: Vec<String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "null_default")]
    pub cmd: Vec<String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

/// The `{}` of a JSON set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// A health check; durations are nanoseconds, 0 means the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "…"]`.
    #[serde(default, deserialize_with = "null_default")]
    pub test: Vec<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The layers, lowest first, by the digest of their uncompressed tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HistoryEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|source| Error::BadDocument { what: format!("configuration of {what}"), source })
    }

    /// The platform the image says it is for.
    pub fn platform(&self) -> Platform {
        let os = if self.os.is_empty() { "linux" } else { &self.os };
        Platform::new(os, &self.architecture, self.variant.as_deref())
    }

    /// Whether the image runs where `platform` is asked for.
    pub fn fits(&self, platform: &Platform) -> bool {
        let own = self.platform();
        // Images often do not say the variant, and those made by hand nothing at all.
        let says_less = self.variant.is_none() && own.os == platform.os && own.architecture == platform.architecture;
        self.architecture.is_empty() || says_less || own.rank_on(platform).is_some()
    }

    /// Seconds since 1970; 0 where the image does not say or says nonsense.
    pub fn created_nanos(&self) -> i128 {
        let parsed = self.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        parsed.map_or(0, jiff::Timestamp::as_nanosecond)
    }

    /// The same in seconds.
    pub fn created_seconds(&self) -> i64 {
        let parsed = self.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        parsed.map_or(0, jiff::Timestamp::as_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_nulls_are_defaults() {
        let text = r#"{"created":"2024-05-01T10:00:00.5Z","architecture":"arm64","variant":"v8","os":"linux",
            "config":{"Cmd":null,"Env":["A=b"],"Volumes":null,"ExposedPorts":{"80/tcp":{}},"Labels":null,
                      "Healthcheck":{"Test":["CMD","x"],"Interval":5000000000}},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"container_config":{"x":1}}"#;
        let config = ImageConfig::parse("x", text.as_bytes()).expect("parses");
        assert_eq!(config.platform().to_string(), "linux/arm64");
        assert_eq!(config.created_seconds(), 1_714_557_600);
        assert!(config.config.exposed_ports.contains_key("80/tcp"));
        assert_eq!(config.config.healthcheck.map(|h| h.interval), Some(5_000_000_000));
        assert_eq!(ImageConfig::parse("x", b"{}").expect("empty").created_seconds(), 0);
    }
}
