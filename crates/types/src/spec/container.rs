//! What a user wants of the container of a task (parity S-50 to S-68).

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{AppArmorMode, Bytes, DependencyRef, DeviceClaim, ImageReference, Labels, Payload, SelinuxLabel};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub image: ImageReference,
    #[serde(default)]
    pub labels: Labels,
    /// Replaces the image's entrypoint when not empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// Replaces the image's command when not empty.
    #[serde(default)]
    pub args: Vec<String>,
    /// `NAME=value`, after and over the image's.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working directory; empty means the image's.
    #[serde(default)]
    pub dir: String,
    /// `user[:group]`, names or numbers; empty means the image's.
    #[serde(default)]
    pub user: String,
    /// Additional groups, names or numbers.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Empty means the short task id.
    #[serde(default)]
    pub hostname: String,
    #[serde(default)]
    pub tty: bool,
    #[serde(default)]
    pub open_stdin: bool,
    #[serde(default)]
    pub read_only: bool,
    /// Our own init as process 1, which reaps and forwards signals.
    #[serde(default)]
    pub init: bool,
    /// There shall be none, whatever the host has by default.
    #[serde(default)]
    pub no_init: bool,
    /// Name or number, `SIGTERM`; empty means the image's, else SIGTERM.
    #[serde(default)]
    pub stop_signal: String,
    /// From the stop signal to SIGKILL.
    #[serde(default = "default_stop_grace_period")]
    pub stop_grace_period: Duration,
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Extra lines of /etc/hosts: `address name [name …]`.
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub dns: DnsConfig,
    #[serde(default)]
    pub capability_add: Vec<String>,
    #[serde(default)]
    pub capability_drop: Vec<String>,
    #[serde(default)]
    pub sysctls: Labels,
    #[serde(default)]
    pub ulimits: Vec<Ulimit>,
    #[serde(default)]
    pub no_new_privileges: bool,
    /// It asks for no label of SELinux, which no container has here.
    #[serde(default)]
    pub selinux_disabled: bool,
    #[serde(default, skip_serializing_if = "SelinuxLabel::is_empty")]
    pub selinux_label: SelinuxLabel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<AppArmorMode>,
    #[serde(default)]
    pub seccomp: Seccomp,
    #[serde(default)]
    pub oom_score_adj: i32,
    /// Secrets and configs that it has as files (parity S-63).
    #[serde(default)]
    pub dependencies: Vec<DependencyRef>,
    /// What it has of the host beyond what containers have.
    #[serde(default, skip_serializing_if = "HostConfig::is_plain")]
    pub host: HostConfig,
    /// Credentials for the image's registry, as `image::Credentials` packs them; empty without (parity S-21). It
    /// steers pulls alone: a container that runs is the same with other ones.
    #[serde(default, skip_serializing_if = "Payload::is_empty")]
    pub registry_auth: Payload,
}

/// What a container has of its host that others do not have (P13); names and meanings are those of `HostConfig` in
/// Docker's API for single containers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// All capabilities and devices, nothing masked.
    pub privileged: bool,
    pub devices: Vec<DeviceRequest>,
    /// Devices as the host's vendors describe them.
    pub claims: Vec<DeviceClaim>,
    /// Sees all processes of the host.
    pub pid_of_host: bool,
    pub ipc_of_host: bool,
    /// Of /dev/shm; 0 means 64 MiB.
    pub shm_size: Bytes,
    /// As in `0-2,4`; empty means all.
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
}

impl HostConfig {
    /// Whether it has nothing more than others.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// Some of `r`, `w` and `m` (read, write, make the node).
    pub permissions: String,
}

/// Docker's default (swarmkit `api/defaults/service.go`).
pub const DEFAULT_STOP_GRACE_PERIOD: Duration = Duration::from_secs(10);

fn default_stop_grace_period() -> Duration {
    DEFAULT_STOP_GRACE_PERIOD
}

impl ContainerSpec {
    /// The texts that may have placeholders, each with what it is (parity S-52).
    pub fn templates(&self) -> impl Iterator<Item = (String, &str)> {
        let env = self.env.iter().map(|text| ("env".to_owned(), text.as_str()));
        let hostname = [("hostname".to_owned(), self.hostname.as_str())];
        hostname.into_iter().chain(env).chain(self.mounts.iter().flat_map(Mount::templates))
    }

    /// Whether a container of the one is as good as one of the other.
    pub fn runs_like(&self, other: &Self) -> bool {
        self == other
            || (self.registry_auth != other.registry_auth
                && Self { registry_auth: other.registry_auth.clone(), ..self.clone() } == *other)
    }

    /// Whether a container of the one becomes as good as one of the other when the data of its files changes (P12).
    pub fn becomes(&self, other: &Self) -> bool {
        let (old, new) = (&self.dependencies, &other.dependencies);
        old.len() == new.len()
            && old.iter().zip(new).all(|(old, new)| old.is_version_of(new))
            && Self { dependencies: new.clone(), ..self.clone() }.runs_like(other)
    }

    /// Named volumes that each node has for itself: where the data is matters (P41).
    pub fn node_volumes(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Volume { name, driver_options, .. } if !name.is_empty() && driver_options.is_empty() => {
                Some(name.as_str())
            }
            _ => None,
        })
    }

    /// Images it has as mounts, each by the mount's source.
    pub fn mounted_images(&self) -> impl Iterator<Item = (&str, ImageReference)> {
        self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Image { source, .. } => Some((source.as_str(), source.parse().ok()?)),
            _ => None,
        })
    }

    /// Whether it cannot be without this image, whose name has a tag or a digest.
    pub fn needs_image(&self, image: &ImageReference) -> bool {
        let is_it = |needed: ImageReference| needed.with_default_tag() == *image;
        is_it(self.image.clone()) || self.mounted_images().any(|(_, needed)| is_it(needed))
    }

    /// What is said of an init as process 1; nothing leaves it to the host.
    pub fn init_asked(&self) -> Option<bool> {
        (self.init || self.no_init).then_some(self.init)
    }

    /// A container of `image` with every other field at its default.
    pub fn of_image(image: ImageReference) -> Self {
        Self {
            image,
            labels: Labels::new(),
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            dir: String::new(),
            user: String::new(),
            groups: Vec::new(),
            hostname: String::new(),
            tty: false,
            open_stdin: false,
            read_only: false,
            init: false,
            no_init: false,
            stop_signal: String::new(),
            stop_grace_period: DEFAULT_STOP_GRACE_PERIOD,
            health_check: None,
            mounts: Vec::new(),
            hosts: Vec::new(),
            dns: DnsConfig::default(),
            capability_add: Vec::new(),
            capability_drop: Vec::new(),
            sysctls: Labels::new(),
            ulimits: Vec::new(),
            no_new_privileges: false,
            selinux_disabled: false,
            selinux_label: SelinuxLabel::default(),
            apparmor: None,
            seccomp: Seccomp::Default,
            oom_score_adj: 0,
            dependencies: Vec::new(),
            host: HostConfig::default(),
            registry_auth: Payload::default(),
        }
    }
}

/// How the health of a container is found out (parity S-58). Zero durations mean the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub test: HealthTest,
    #[serde(default)]
    pub interval: Duration,
    #[serde(default)]
    pub timeout: Duration,
    #[serde(default)]
    pub start_period: Duration,
    #[serde(default)]
    pub start_interval: Duration,
    #[serde(default)]
    pub retries: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthTest {
    /// The image's check is switched off.
    None,
    /// The image's check, at the times given beside.
    Image,
    Command(Vec<String>),
    Shell(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
    pub kind: MountKind,
}

impl Mount {
    fn templates(&self) -> Vec<(String, &str)> {
        let what = |part: &str| format!("mount {}: {part}", self.target);
        let mut all = vec![("mount target".to_owned(), self.target.as_str())];
        match &self.kind {
            MountKind::Bind { source, .. } => all.push((what("source"), source)),
            MountKind::Volume { name, labels, driver_options, .. } => {
                all.push((what("source"), name));
                all.extend(labels.iter().map(|(key, value)| (what(&format!("label {key}")), value.as_str())));
                all.extend(driver_options.iter().map(|(key, value)| (what(&format!("option {key}")), value.as_str())));
            }
            // no placeholders: which image it is the managers must know too
            MountKind::Image { .. } | MountKind::Tmpfs { .. } => {}
        }
        all
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A path of the host, which must exist unless `create` is set.
    Bind {
        source: String,
        propagation: String,
        create: bool,
        /// Without what is mounted below the source.
        #[serde(default)]
        non_recursive: bool,
        /// Read-only where it is mounted, and not what is mounted below it.
        #[serde(default)]
        read_only_non_recursive: bool,
    },
    /// A named volume of the host, or an anonymous one if `name` is empty.
    Volume {
        /// May have placeholders.
        name: String,
        no_copy: bool,
        labels: Labels,
        /// Of the driver `local`, for a volume that is not there yet (parity E-29).
        #[serde(default)]
        driver_options: Labels,
        /// The part of it that is mounted, by its path inside; empty: all of it. See [`is_mount_subpath`].
        #[serde(default)]
        subpath: String,
    },
    /// The files of an image, which nobody in the container can change.
    Image {
        /// A name; for a single container also an id.
        source: String,
        /// As of a volume.
        subpath: String,
    },
    Tmpfs {
        size: Bytes,
        mode: u32,
        /// Words of mount(8): `exec`, `uid=1000` …; see [`is_tmpfs_option`].
        #[serde(default)]
        options: Vec<String>,
    },
}

/// Whether this can name a part of a volume or an image: a relative path that does not climb.
pub fn is_mount_subpath(path: &str) -> bool {
    !path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

/// An absolute path without what only leads astray: `/a/../b/` is `/b`.
pub fn plain_path(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether a tmpfs of a container may have this option beside its size and mode (tmpfs(5), mount(8)).
pub fn is_tmpfs_option(word: &str) -> bool {
    const FLAGS: [&str; 14] = [
        "async",
        "atime",
        "dev",
        "diratime",
        "exec",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "nosuid",
        "relatime",
        "strictatime",
        "suid",
        "sync",
    ];
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match word.split_once('=') {
        None => FLAGS.contains(&word),
        Some(("uid" | "gid" | "nr_inodes" | "nr_blocks", value)) => is_number(value),
        Some(("huge", value)) => matches!(value, "never" | "always" | "within_size" | "advise"),
        Some(_) => false,
    }
}

/// The shape of a volume's name: letters, digits, `_`, `.` and `-`, the first a letter or digit; at most 255 bytes.
pub fn is_volume_name(name: &str) -> bool {
    let shape = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    name.bytes().all(shape) && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && name.len() <= 255
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// -1 means unlimited.
    pub soft: i64,
    pub hard: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Seccomp {
    #[default]
    Default,
    Unconfined,
    /// A profile in Docker's JSON format.
    Profile(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-15: as Docker shows the places of mounts and their sources.
    #[test]
    fn e_15_paths_are_made_plain() {
        for (path, wanted) in [("/q/../w", "/w"), ("/tmp/", "/tmp"), ("//a/./b", "/a/b"), ("/..", "/"), ("/", "/")] {
            assert_eq!(plain_path(path), wanted, "{path}");
        }
    }
}
