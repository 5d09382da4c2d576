//! The command line of `rswarm daemon`.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::{AddrParseError, IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use clap::{ArgAction, ArgGroup, CommandFactory as _, FromArgMatches as _, Parser, parser::ValueSource};
use identity::{ApiAcceptor, PemFiles};
use node::engine::{
    BridgeDefaults, ContainerDefaults, HostNetwork, ImageGc, Percent, Settings, StorageDriver, Transfers,
};
use overlay::{Cidr, EncryptionChoice};

/// Docker's port for its API with TLS.
const API_PORT: u16 = 2376;
/// Docker's for its metrics.
const METRICS_PORT: u16 = 9323;

/// Runs the engine of this host and, once it is in a cluster, its agent and manager.
#[derive(Debug, Clone, Parser)]
#[command(group = ArgGroup::new("tls").args(["host", "metrics_addr"]).multiple(true))]
#[command(name = "rswarm daemon", about, after_help = "Example:\n  rswarm daemon --state-dir /var/lib/rswarm")]
pub struct Config {
    /// More settings, in Docker's daemon.json; read again on SIGHUP [default: /etc/rswarm/daemon.json if it is there]
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Only say whether flags and file are understood
    #[arg(long)]
    pub validate: bool,
    /// Images, volumes and the cluster's state; must survive a reboot
    #[arg(long, default_value = "/var/lib/rswarm", env = "RSWARM_STATE_DIR")]
    pub state_dir: PathBuf,
    /// Sockets and the state of running containers; must not survive a reboot
    #[arg(long, default_value = "/run/rswarm", env = "RSWARM_RUN_DIR")]
    pub run_dir: PathBuf,
    /// The API's unix socket [default: RUN_DIR/rswarm.sock]
    #[arg(long)]
    pub socket: Option<PathBuf>,
    /// Whether /run/docker.sock and /var/lib/docker are made to lead here while the daemon runs, for programs that look
    /// there: where nothing is there, on hosts without Docker, when the daemon's own places are the usual ones
    #[arg(long, value_name = "true|false", default_value_t = true, action = ArgAction::Set)]
    pub docker_paths: bool,
    /// Serve the API on this address too (port 2376 unless said), to clients with a certificate of --tlscacert; may be
    /// given several times
    #[arg(short = 'H', long, value_name = "tcp://ADDRESS[:PORT]")]
    pub host: Vec<String>,
    /// Serve the metrics, and nothing else, on this address (port 9323 unless said), to clients with a certificate of
    /// --metrics-tlscacert
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub metrics_addr: Option<String>,
    /// With --metrics-addr: whose certificates clients must have there (PEM); one of its own, so that who reads the
    /// metrics may not do all else [default: that of --tlscacert]
    #[arg(long, value_name = "FILE", requires = "metrics_addr")]
    pub metrics_tlscacert: Option<PathBuf>,
    /// With --host or --metrics-addr: whose certificates clients must have (PEM)
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub tlscacert: Option<PathBuf>,
    /// With them: the certificate that clients see (PEM)
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub tlscert: Option<PathBuf>,
    /// With them: its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub tlskey: Option<PathBuf>,
    /// The shim [default: rswarm-shim beside this program, else on the PATH]
    #[arg(long, env = "RSWARM_SHIM")]
    pub shim: Option<PathBuf>,
    /// The built-in OCI runtime, or another by name or path, such as runc
    #[arg(long, value_name = "PROGRAM", default_value = "embedded", env = "RSWARM_OCI_RUNTIME")]
    pub oci_runtime: String,
    /// Who seals the packets of encrypted networks: auto (the kernel where it has WireGuard), kernel or userspace;
    /// hosts of both kinds understand each other
    #[arg(long, value_name = "auto|kernel|userspace", default_value = "auto", env = "RSWARM_ENCRYPTION")]
    pub encryption: EncryptionChoice,
    /// How root filesystems of new containers are made: overlay2, btrfs or vfs (plain copies); those that are there keep
    /// theirs [default: the first that works in the state directory]
    #[arg(long, short = 's', value_name = "DRIVER", env = "RSWARM_STORAGE_DRIVER")]
    pub storage_driver: Option<StorageDriver>,
    /// So many blobs are fetched from registries and nodes at once
    #[arg(long, value_name = "COUNT", default_value_t = limit(Transfers::default().downloads))]
    pub max_concurrent_downloads: NonZeroUsize,
    /// So many are sent to registries at once
    #[arg(long, value_name = "COUNT", default_value_t = limit(Transfers::default().uploads))]
    pub max_concurrent_uploads: NonZeroUsize,
    /// When the disk is fuller than so many percent, images that tasks brought here and nothing needs any more are removed,
    /// the least recently used first; 0 or off: never. What was pulled, loaded or built by hand is never removed
    #[arg(long, value_name = "PERCENT", default_value = "85")]
    pub image_gc_high: Percent,
    /// So full it may stay then
    #[arg(long, value_name = "PERCENT", default_value = "80")]
    pub image_gc_low: Percent,
    /// A registry, or a network of them, that may show any certificate and do without TLS; may be given several times
    #[arg(long, value_name = "HOST[:PORT]|CIDR")]
    pub insecure_registry: Vec<String>,
    /// A registry asked for Docker Hub's images first; may be given several times
    #[arg(long, value_name = "URL")]
    pub registry_mirror: Vec<String>,
    /// Where vendors describe their devices (CDI); of a device the last one that does counts; may be given several times
    #[arg(long, value_name = "DIRECTORY", default_values = node::engine::CDI_DIRECTORIES)]
    pub cdi_spec_dir: Vec<PathBuf>,
    /// A label of this engine, for constraints on engine.labels; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Something tasks can reserve: KIND=COUNT, or KIND=NAME for each that has a name; may be given several times
    #[arg(long, value_name = "KIND=VALUE")]
    pub node_generic_resource: Vec<String>,
    /// error, warn, info, debug or trace, or a filter such as manager=debug
    #[arg(long, default_value = "info", env = "RSWARM_LOG")]
    pub log_level: String,
    /// Log as with --log-level debug
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// What only the configuration file says.
    #[arg(skip)]
    pub of_file: OfFile,
    /// The flags that were given, by their fields.
    #[arg(skip)]
    pub given: BTreeSet<String>,
}

/// Settings that have no flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfFile {
    pub defaults: ContainerDefaults,
    pub bridge_defaults: BridgeDefaults,
    /// What bridge networks without a subnet of their own get one of.
    pub address_pools: Vec<Cidr>,
    pub network: HostNetwork,
    /// So often a blob is tried to be fetched.
    pub download_attempts: u32,
    /// Who may use the API's socket beside root; None: `rswarm`, if there is such a group.
    pub group: Option<String>,
    /// Lines of the log are JSON.
    pub log_json: bool,
    /// What a cluster is told as this host's address where nobody names one.
    pub advertise: String,
}

impl Default for OfFile {
    fn default() -> Self {
        Self {
            defaults: ContainerDefaults::default(),
            bridge_defaults: BridgeDefaults::default(),
            address_pools: overlay::default_pools(),
            network: HostNetwork::default(),
            download_attempts: Transfers::default().attempts,
            group: None,
            log_json: false,
            advertise: String::new(),
        }
    }
}

fn limit(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}

impl Config {
    /// Reads the flags.
    ///
    /// # Errors
    /// What clap says, for people.
    pub fn from_words(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(words)?;
        let given = matches.ids().map(clap::Id::as_str).filter(|id| is_given(&matches, id)).map(str::to_owned);
        let given = given.collect();
        Ok(Self { given, ..Self::from_arg_matches(&matches)? })
    }

    /// What a running daemon can take.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub fn settings(&self) -> Result<Settings> {
        let mut labels = types::Labels::new();
        for label in &self.label {
            let Some((name, value)) = label.split_once('=') else {
                bail!("the label {label:?} has no '='; write NAME=VALUE")
            };
            labels.insert(name.to_owned(), value.to_owned());
        }
        let resources = self.node_generic_resource.iter().map(String::as_str);
        let generic_resources = types::parse_generic_resources(resources).context("a generic resource is not taken")?;
        for registry in self.insecure_registry.iter().chain(&self.registry_mirror) {
            if registry.is_empty() || registry.contains(char::is_whitespace) {
                bail!("{registry:?} cannot be a registry; write HOST[:PORT], of a mirror its URL");
            }
        }
        let image_gc = ImageGc::new(self.image_gc_high, self.image_gc_low).map_err(anyhow::Error::msg)?;
        Ok(Settings {
            debug: self.debug,
            labels,
            generic_resources,
            insecure_registries: self.insecure_registry.clone(),
            registry_mirrors: self.registry_mirror.clone(),
            transfers: Transfers {
                downloads: self.max_concurrent_downloads.get(),
                uploads: self.max_concurrent_uploads.get(),
                attempts: self.of_file.download_attempts,
            },
            image_gc,
            defaults: self.of_file.defaults.clone(),
            bridge_defaults: self.of_file.bridge_defaults.clone(),
        })
    }

    /// The level or filter of the log.
    pub fn log_filter(&self) -> &str {
        if self.debug { "debug" } else { &self.log_level }
    }

    /// Where the API listens.
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run_dir.join("rswarm.sock"))
    }

    /// Where it listens for clients of other hosts.
    ///
    /// # Errors
    /// An address that is none, and certificates that cannot be used.
    pub fn tcp(&self) -> Result<Option<api::Tcp>> {
        if self.host.is_empty() {
            return Ok(None);
        }
        let addresses = self.host.iter().map(|text| tcp_address(text)).collect::<Result<_>>()?;
        let why = "whoever reaches the API is root on this host (without an open port: rswarm -H ssh://HOST)";
        self.with_tls(addresses, None, ("--host", why)).map(Some)
    }

    /// Where it tells its metrics.
    ///
    /// # Errors
    /// As [`Self::tcp`].
    pub fn metrics(&self) -> Result<Option<api::Tcp>> {
        let Some(text) = &self.metrics_addr else { return Ok(None) };
        let address = address(text, METRICS_PORT).with_context(|| {
            format!("--metrics-addr {text}: this is no address of a host; write 0.0.0.0:{METRICS_PORT}")
        })?;
        self.with_tls(vec![address], self.metrics_tlscacert.as_ref(), ("--metrics-addr", "metrics tell what runs here"))
            .map(Some)
    }

    fn with_tls(
        &self,
        addresses: Vec<SocketAddr>,
        ca: Option<&PathBuf>,
        (flag, why): (&str, &str),
    ) -> Result<api::Tcp> {
        let ca = ca.or(self.tlscacert.as_ref());
        let (Some(ca), Some(certificate), Some(key)) = (ca, &self.tlscert, &self.tlskey) else {
            let given = [
                ("--tlscacert", ca.is_some()),
                ("--tlscert", self.tlscert.is_some()),
                ("--tlskey", self.tlskey.is_some()),
            ];
            let missing: Vec<&str> = given.iter().filter(|(_, is_given)| !is_given).map(|(name, _)| *name).collect();
            bail!("{flag} needs certificates on both sides: give {} too, for {why}", missing.join(", "))
        };
        let files = PemFiles { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() };
        let tls = ApiAcceptor::from_files(&files).with_context(|| format!("set up TLS for {flag}"))?;
        Ok(api::Tcp { addresses, tls })
    }

    /// Where everything that belongs to the cluster lies; removed when the host leaves.
    pub fn cluster_dir(&self) -> PathBuf {
        self.state_dir.join("cluster")
    }
}

fn is_given(matches: &clap::ArgMatches, id: &str) -> bool {
    matches.try_contains_id(id).is_ok_and(|known| known) && matches.value_source(id) == Some(ValueSource::CommandLine)
}

fn tcp_address(text: &str) -> Result<SocketAddr> {
    let Some(address) = text.strip_prefix("tcp://") else {
        bail!("--host {text}: write tcp://ADDRESS[:PORT]; the unix socket is set by --socket")
    };
    self::address(address, API_PORT)
        .with_context(|| format!("--host {text}: {address:?} is no address of a host; write tcp://0.0.0.0:{API_PORT}"))
}

/// An address with a port, or without.
fn address(text: &str, port: u16) -> Result<SocketAddr, AddrParseError> {
    let alone = text.trim_start_matches('[').trim_end_matches(']').parse().map(|ip: IpAddr| (ip, port).into());
    text.parse().or(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_43_addresses_of_the_api_are_read_or_refused_with_the_way_to_write_them() {
        let read = |text: &str| tcp_address(text).map_or_else(|e| e.to_string(), |address| address.to_string());
        assert_eq!(read("tcp://0.0.0.0:9999"), "0.0.0.0:9999");
        assert_eq!(read("tcp://192.0.2.1"), "192.0.2.1:2376");
        assert_eq!(read("tcp://[::1]:80"), "[::1]:80");
        assert_eq!(read("tcp://[::]"), "[::]:2376");
        assert!(read("unix:///run/x.sock").contains("--socket"));
        assert!(read("tcp://here:2376").contains("is no address"));
        assert!(read("tcp://").contains("tcp://0.0.0.0:2376"));
    }

    #[test]
    fn e_43_without_certificates_nothing_listens_on_tcp() {
        let parse = |words: &[&str]| Config::try_parse_from(words).map_err(|e| e.to_string());
        let bare = parse(&["rswarm daemon", "-H", "tcp://0.0.0.0:2375"]).expect("flags");
        let refused = bare.tcp().err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            refused,
            "--host needs certificates on both sides: give --tlscacert, --tlscert, --tlskey too, for whoever reaches the API is \
             root on this host (without an open port: rswarm -H ssh://HOST)"
        );
        let config = parse(&[
            "rswarm daemon",
            "--host",
            "tcp://0.0.0.0",
            "--tlscacert",
            "/a",
            "--tlscert",
            "/b",
            "--tlskey",
            "/c",
        ]);
        let error = config.expect("flags").tcp().err().map(|e| format!("{e:#}")).unwrap_or_default();
        assert!(error.contains("read /a"), "{error}");
    }

    /// P27: when images are collected, or why not so.
    #[test]
    fn p27_images_are_collected_between_two_shares_of_the_disk() {
        let settings = |words: &[&str]| {
            let config = Config::try_parse_from([&["rswarm daemon"], words].concat()).map_err(|e| e.to_string())?;
            config.settings().map(|settings| settings.image_gc).map_err(|error| error.to_string())
        };
        assert_eq!(settings(&[]), Ok(ImageGc::Between { high: 85, low: 80 }));
        assert_eq!(
            settings(&["--image-gc-high", "70", "--image-gc-low", "60"]),
            Ok(ImageGc::Between { high: 70, low: 60 })
        );
        assert_eq!(settings(&["--image-gc-high", "off"]), Ok(ImageGc::Never));
        let refused = |words: &[&str]| settings(words).expect_err("makes no sense");
        assert!(refused(&["--image-gc-high", "70"]).starts_with("image-gc-low 80 is above image-gc-high 70"));
        assert!(refused(&["--image-gc-high", "101"]).contains("\"101\" is no share of a disk"));
    }

    #[test]
    fn c_38_the_metrics_have_an_address_with_certificates_or_none() {
        let parse = |words: &[&str]| {
            Config::try_parse_from([&["rswarm daemon"], words].concat()).map_err(|error| error.to_string())
        };
        let bare = parse(&["--metrics-addr", "0.0.0.0", "--tlscert", "/b"]).expect("flags");
        let refused = bare.metrics().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("give --tlscacert, --tlskey too, for metrics tell"), "{refused}");
        let tls = ["--tlscacert", "/a", "--tlscert", "/b", "--tlskey", "/c"];
        assert!(parse(&tls).expect_err("for nothing").contains("--metrics-addr"));
        let error = |words: &[&str]| {
            let config = parse(&[&tls, words].concat()).expect("flags");
            assert!(config.tcp().is_ok_and(|tcp| tcp.is_none()), "the API stays where it was");
            config.metrics().err().map(|error| format!("{error:#}")).unwrap_or_default()
        };
        assert!(error(&["--metrics-addr", "0.0.0.0"]).contains("read /a"));
        assert!(error(&["--metrics-addr", "[::]:9", "--metrics-tlscacert", "/d"]).contains("read /d"));
        assert!(error(&["--metrics-addr", "here"]).contains("write 0.0.0.0:9323"));
        assert_eq!(address("::1", METRICS_PORT).expect("an address").to_string(), "[::1]:9323");
    }
}
