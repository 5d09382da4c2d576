//! The configuration file of the daemon, `daemon.json`: Docker's keys, as far as there is such a setting here, and a few of
//! rswarm's own, named as their flags.
//!
//! Read at the start and again on SIGHUP. It is taken whole or not at all: an unknown key, a wrong value, or a key whose
//! flag is given too is refused by name. A key of Docker's without a setting here is refused with what rswarm does instead
//! ([`others`]), and never passed over.

mod listen;
mod network;
mod of_file;
mod once;
mod others;
mod percent;
mod programs;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use node::engine::StorageDriver;
use overlay::Cidr;
use serde::Deserialize;
use serde_json::Value;
use types::Labels;

use self::{
    of_file::{Limit, Pool, Size},
    once::Once,
    percent::Share,
    programs::Program,
};
use crate::config::Config;

/// Where it is looked for unless --config-file says otherwise.
pub const DEFAULT_PATH: &str = "/etc/rswarm/daemon.json";

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct ConfigFile {
    // read again on SIGHUP
    debug: Option<bool>,
    log_level: Option<String>,
    labels: Option<Vec<String>>,
    node_generic_resources: Option<Vec<String>>,
    insecure_registries: Option<Vec<String>>,
    registry_mirrors: Option<Vec<String>>,
    max_concurrent_downloads: Option<NonZeroUsize>,
    max_concurrent_uploads: Option<NonZeroUsize>,
    max_download_attempts: Option<NonZeroU32>,
    image_gc_high: Option<Share>,
    image_gc_low: Option<Share>,
    default_network_opts: Option<BTreeMap<String, Labels>>,
    // of containers that are made from then on, read again on SIGHUP
    log_driver: Option<String>,
    log_opts: Option<Labels>,
    dns: Option<Vec<IpAddr>>,
    dns_search: Option<Vec<String>>,
    dns_opts: Option<Vec<String>>,
    default_shm_size: Option<Size>,
    default_ulimits: Option<BTreeMap<String, Limit>>,
    init: Option<bool>,
    no_new_privileges: Option<bool>,
    seccomp_profile: Option<String>,
    cgroup_parent: Option<String>,
    default_ipc_mode: Option<String>,
    default_cgroupns_mode: Option<String>,
    host_gateway_ip: Option<IpAddr>,
    host_gateway_ips: Option<Vec<IpAddr>>,
    // read at the start
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    storage_driver: Option<String>,
    cdi_spec_dirs: Option<Vec<PathBuf>>,
    default_address_pools: Option<Vec<Pool>>,
    default_runtime: Option<String>,
    runtimes: Option<BTreeMap<String, Program>>,
    log_format: Option<String>,
    swarm_default_advertise_addr: Option<String>,
    docker_paths: Option<bool>,
    // of the API and the metrics
    hosts: Option<Vec<String>>,
    group: Option<String>,
    metrics_addr: Option<String>,
    tls: Option<bool>,
    tlsverify: Option<bool>,
    tlscacert: Option<PathBuf>,
    tlscert: Option<PathBuf>,
    tlskey: Option<PathBuf>,
    // of the default bridge and of published ports
    bip: Option<Cidr>,
    fixed_cidr: Option<Cidr>,
    mtu: Option<u32>,
    icc: Option<bool>,
    ip: Option<IpAddr>,
    ip_masq: Option<bool>,
    userland_proxy: Option<bool>,
    // taken where they say what rswarm does
    bridge: Option<String>,
    exec_opts: Option<Vec<String>>,
    features: Option<BTreeMap<String, bool>>,
    /// All others: of Docker's, or of nobody's.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Config {
    /// The flags and, beside them, what the file says by now.
    ///
    /// # Errors
    /// A file that was named and is not there, one that is not understood, and settings that both have.
    pub fn with_file(&self) -> Result<Self> {
        let path = self.config_file.clone().unwrap_or_else(|| DEFAULT_PATH.into());
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.config_file.is_none() => {
                return Ok(self.clone());
            }
            text => text.with_context(|| format!("read the configuration file {}", path.display()))?,
        };
        self.with_text(&text).with_context(|| format!("the configuration file {} is not taken", path.display()))
    }

    fn with_text(&self, text: &str) -> Result<Self> {
        let file: ConfigFile = match text.trim().is_empty() {
            true => ConfigFile::default(),
            false => {
                // beside what follows, which notices it of keys with a field of their own alone
                serde_json::from_str::<Once>(text)?;
                serde_json::from_str(text)?
            }
        };
        others::check(&file.others)?;
        file.check_taken()?;
        let of_file = file.of_file()?;
        let (program, listen) = (file.program()?, file.listen()?);
        let [high, low] = file.image_gc()?;
        let driver: Option<StorageDriver> =
            file.storage_driver.map(|name| name.parse()).transpose().map_err(anyhow::Error::msg)?;
        let mut config = Self { of_file, ..self.clone() };
        let given = &self.given;
        take(&mut config.debug, file.debug, given, "debug", "debug")?;
        take(&mut config.log_level, file.log_level, given, "log_level", "log-level")?;
        take(&mut config.label, file.labels, given, "label", "labels")?;
        let resources = file.node_generic_resources;
        take(&mut config.node_generic_resource, resources, given, "node_generic_resource", "node-generic-resources")?;
        take(
            &mut config.insecure_registry,
            file.insecure_registries,
            given,
            "insecure_registry",
            "insecure-registries",
        )?;
        take(&mut config.registry_mirror, file.registry_mirrors, given, "registry_mirror", "registry-mirrors")?;
        let (downloads, uploads) = (file.max_concurrent_downloads, file.max_concurrent_uploads);
        let (key, same) = ("max_concurrent_downloads", "max-concurrent-downloads");
        take(&mut config.max_concurrent_downloads, downloads, given, key, same)?;
        let (key, same) = ("max_concurrent_uploads", "max-concurrent-uploads");
        take(&mut config.max_concurrent_uploads, uploads, given, key, same)?;
        take(&mut config.image_gc_high, high, given, "image_gc_high", "image-gc-high")?;
        take(&mut config.image_gc_low, low, given, "image_gc_low", "image-gc-low")?;
        take(&mut config.state_dir, file.data_root, given, "state_dir", "data-root")?;
        take(&mut config.run_dir, file.exec_root, given, "run_dir", "exec-root")?;
        take(&mut config.storage_driver, driver.map(Some), given, "storage_driver", "storage-driver")?;
        take(&mut config.cdi_spec_dir, file.cdi_spec_dirs, given, "cdi_spec_dir", "cdi-spec-dirs")?;
        take(&mut config.oci_runtime, program, given, "oci_runtime", "default-runtime")?;
        take(&mut config.docker_paths, file.docker_paths, given, "docker_paths", "docker-paths")?;
        listen.take_into(&mut config)?;
        Ok(config)
    }

    /// What of `new` counts with the next start only, by the keys of the file.
    pub fn fixed_changes(&self, new: &Self) -> Vec<&'static str> {
        let (ours, theirs) = (&self.of_file, &new.of_file);
        let (bridge, new_bridge) = (&ours.network, &theirs.network);
        let tls = |config: &Self| [&config.tlscacert, &config.tlscert, &config.tlskey].map(Clone::clone);
        let changes = [
            ("data-root", self.state_dir != new.state_dir),
            ("exec-root", self.run_dir != new.run_dir),
            ("storage-driver", self.storage_driver != new.storage_driver),
            ("cdi-spec-dirs", self.cdi_spec_dir != new.cdi_spec_dir),
            ("default-address-pools", ours.address_pools != theirs.address_pools),
            ("default-runtime", self.oci_runtime != new.oci_runtime),
            ("docker-paths", self.docker_paths != new.docker_paths),
            ("log-format", ours.log_json != theirs.log_json),
            ("swarm-default-advertise-addr", ours.advertise != theirs.advertise),
            ("hosts", (&self.host, &self.socket) != (&new.host, &new.socket)),
            ("group", ours.group != theirs.group),
            ("metrics-addr", self.metrics_addr != new.metrics_addr),
            ("tlscacert, tlscert or tlskey", tls(self) != tls(new)),
            ("bip", bridge.address != new_bridge.address),
            ("fixed-cidr", bridge.range != new_bridge.range),
            ("mtu", bridge.mtu != new_bridge.mtu),
            ("icc", bridge.apart != new_bridge.apart),
            ("ip", bridge.binding != new_bridge.binding),
            ("ip-masq", bridge.masquerade != new_bridge.masquerade),
            ("userland-proxy", bridge.relay != new_bridge.relay),
        ];
        changes.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

fn take<T>(slot: &mut T, value: Option<T>, given: &BTreeSet<String>, flag: &str, key: &str) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    if given.contains(flag) {
        bail!("{key:?} is set here and by --{}; keep one of them", flag.replace('_', "-"));
    }
    *slot = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use node::engine::ImageGc;

    use super::*;

    pub(super) fn read(arguments: &[&str], text: &str) -> Result<Config, String> {
        let words = [&["rswarm daemon"], arguments].concat();
        Config::from_words(words).expect("flags").with_text(text).map_err(|error| format!("{error:#}"))
    }

    /// E-50
    #[test]
    fn e_50_the_file_stands_beside_the_flags() {
        let text = r#"{"debug": true, "labels": ["a=1"], "registry-mirrors": ["http://mirror:5000"],
            "max-concurrent-downloads": 7, "storage-driver": "vfs", "data-root": "/srv/rswarm"}"#;
        let config = read(&["--insecure-registry", "here:5000"], text).expect("a good file");
        assert_eq!((config.debug, config.max_concurrent_downloads.get()), (true, 7));
        assert_eq!((config.label.len(), config.insecure_registry.len(), config.registry_mirror.len()), (1, 1, 1));
        assert_eq!((config.storage_driver, config.max_concurrent_uploads.get()), (Some(StorageDriver::Vfs), 5));
        assert_eq!(config.state_dir, PathBuf::from("/srv/rswarm"));
        let before = read(&[], "").expect("an empty file");
        let unlinked = read(&[], r#"{"docker-paths": false}"#).expect("a good file");
        assert_eq!((before.docker_paths, before.fixed_changes(&unlinked)), (true, vec!["docker-paths"]));
        assert_eq!(before.fixed_changes(&config), ["data-root", "storage-driver"]);
        let text =
            r#"{"bip": "10.9.0.1/24", "mtu": 1400, "icc": false, "hosts": ["unix:///run/x.sock"], "group": "docker"}"#;
        let of_network = read(&[], text).expect("a good file");
        assert_eq!(before.fixed_changes(&of_network), ["hosts", "group", "bip", "mtu", "icc"]);
        assert_eq!(config.fixed_changes(&config), Vec::<&str>::new());
    }

    /// P27: read again without a restart, as numbers or words.
    #[test]
    fn p27_the_file_says_when_images_are_collected() {
        let gc = |text: &str| read(&[], text).expect("a good file").settings().map(|settings| settings.image_gc);
        let between = |high, low| ImageGc::Between { high, low };
        assert_eq!(gc(r#"{"image-gc-high": 60, "image-gc-low": "50"}"#).expect("good"), between(60, 50));
        assert_eq!(gc(r#"{"image-gc-high": "off"}"#).expect("good"), ImageGc::Never);
        assert_eq!(gc("{}").expect("good"), between(85, 80));
        assert!(gc(r#"{"image-gc-low": 90}"#).expect_err("above the high one").to_string().contains("set the low one"));
    }

    /// E-50
    #[test]
    fn e_50_what_is_not_understood_is_refused_by_name() {
        let refused = |arguments: &[&str], text: &str| read(arguments, text).expect_err(text);
        assert!(refused(&[], r#"{"labls": []}"#).starts_with("unknown field `labls`: neither Docker"));
        assert!(refused(&[], r#"{"labels": "a=1"}"#).contains("expected a sequence at line 1"));
        assert!(refused(&[], r#"{"max-concurrent-uploads": 0}"#).contains("nonzero"));
        assert!(refused(&[], r#"{"storage-driver": "aufs"}"#).contains("name one of overlay2"));
        assert!(refused(&[], r#"{"debug": true, "debug": false}"#).contains("duplicate field `debug`"));
        let none = "\"image-gc-low\": \"many\" is no share of a disk: write 1 to 100 percent, or off";
        assert_eq!(refused(&[], r#"{"image-gc-low": "many"}"#), none);
        let both = refused(&["--image-gc-high", "70"], r#"{"image-gc-high": 60}"#);
        assert_eq!(both, "\"image-gc-high\" is set here and by --image-gc-high; keep one of them");
        let both = refused(&["--label", "a=1"], r#"{"labels": ["b=2"]}"#);
        assert_eq!(both, "\"labels\" is set here and by --label; keep one of them");
        let missing = Config::from_words(["rswarm daemon", "--config-file", "/nowhere"]).expect("flags").with_file();
        assert!(missing.expect_err("named and not there").to_string().contains("/nowhere"));
    }
}
