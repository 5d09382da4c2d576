//! Keys without a flag: what containers get where nobody says otherwise, and what networks get subnets of. Pure, but for a
//! seccomp profile, which is a file of its own.

use std::{fs, net::IpAddr, num::NonZeroU32};

use anyhow::{Context as _, Result, bail};
use node::engine::{ContainerDefaults, containers::spec::cgroup_parent_problem};
use overlay::Cidr;
use serde::Deserialize;
use serde_json::Value;
use types::{Bytes, DnsConfig, LogDriver, Seccomp, Ulimit};

use super::ConfigFile;
use crate::config::OfFile;

/// More subnets than a host can have networks; a longer list would only take memory.
const MAX_SUBNETS: u32 = 1 << 16;

/// A number of bytes, or a text such as `64m`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Bytes(u64),
    Text(String),
}

/// As Docker writes it; the name repeats the key.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Limit {
    #[serde(default)]
    name: String,
    hard: i64,
    soft: i64,
}

/// Every subnet of this size in a range.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    base: Cidr,
    size: u8,
}

impl ConfigFile {
    /// What it says of these, and rswarm's own where it says nothing.
    pub(super) fn of_file(&self) -> Result<OfFile> {
        let usual = OfFile::default();
        let attempts = self.max_download_attempts.map(NonZeroU32::get);
        Ok(OfFile {
            defaults: self.defaults()?,
            bridge_defaults: self.bridge_defaults()?,
            address_pools: self.default_address_pools.as_deref().map_or(Ok(usual.address_pools), subnets)?,
            network: self.host_network()?,
            download_attempts: attempts.unwrap_or(usual.download_attempts),
            group: self.group.clone().filter(|group| !group.is_empty()),
            log_json: self.log_json()?,
            advertise: self.swarm_default_advertise_addr.clone().unwrap_or_default(),
        })
    }

    fn defaults(&self) -> Result<ContainerDefaults> {
        let log = match (&self.log_driver, &self.log_opts) {
            (None, None) => None,
            (name, options) => {
                Some(LogDriver { name: name.clone().unwrap_or_default(), options: options.clone().unwrap_or_default() })
            }
        };
        let shm_size_bytes = match &self.default_shm_size {
            None => 0,
            Some(Size::Bytes(bytes)) => *bytes,
            Some(Size::Text(text)) => text.parse::<Bytes>().context("\"default-shm-size\"")?.0,
        };
        let limits = self.default_ulimits.iter().flatten();
        let cgroup_parent = self.cgroup_parent.clone().unwrap_or_default();
        if let Some(problem) = cgroup_parent_problem(&cgroup_parent) {
            bail!("\"cgroup-parent\": {problem}");
        }
        let defaults = ContainerDefaults {
            log,
            dns: DnsConfig {
                nameservers: self.dns.clone().unwrap_or_default(),
                search: self.dns_search.clone().unwrap_or_default(),
                options: self.dns_opts.clone().unwrap_or_default(),
            },
            shm_size_bytes,
            init: self.init.unwrap_or_default(),
            ulimits: limits.map(|(name, limit)| ulimit(name, limit)).collect::<Result<_>>()?,
            no_new_privileges: self.no_new_privileges.unwrap_or_default(),
            seccomp: seccomp(self.seccomp_profile.as_deref())?,
            cgroup_parent,
            ipc_shareable: is_second("default-ipc-mode", self.default_ipc_mode.as_deref(), ["private", "shareable"])?,
            cgroupns_of_host: is_second(
                "default-cgroupns-mode",
                self.default_cgroupns_mode.as_deref(),
                ["private", "host"],
            )?,
            host_gateways: self.host_gateways()?,
        };
        defaults.check().context("what containers get by default")?;
        Ok(defaults)
    }

    /// One of each family at most.
    fn host_gateways(&self) -> Result<Vec<IpAddr>> {
        let gateways = match (self.host_gateway_ip, &self.host_gateway_ips) {
            (Some(_), Some(_)) => {
                bail!("\"host-gateway-ip\" and \"host-gateway-ips\" say the same; leave the first one out")
            }
            (one, several) => one.into_iter().chain(several.iter().flatten().copied()).collect::<Vec<_>>(),
        };
        let of_family = |is_ipv4: bool| gateways.iter().filter(move |address| address.is_ipv4() == is_ipv4).count();
        if of_family(true) > 1 || of_family(false) > 1 {
            bail!("\"host-gateway-ips\": name one IPv4 and one IPv6 address at most");
        }
        Ok(gateways)
    }
}

/// Whether it is the second of the two words that a key can have; unsaid is the first.
fn is_second(key: &str, said: Option<&str>, [first, second]: [&str; 2]) -> Result<bool> {
    match said {
        None | Some("") => Ok(false),
        Some(word) if word == first => Ok(false),
        Some(word) if word == second => Ok(true),
        Some(word) => bail!("{key:?}: {word:?} cannot be every container's; say {first} or {second}"),
    }
}

/// A name of Docker's, or the file that it is in.
fn seccomp(profile: Option<&str>) -> Result<Seccomp> {
    match profile {
        None | Some("" | "builtin") => Ok(Seccomp::Default),
        Some("unconfined") => Ok(Seccomp::Unconfined),
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("\"seccomp-profile\": read {path}"))?;
            if !serde_json::from_str::<Value>(&text).is_ok_and(|json| json.is_object()) {
                bail!(
                    "\"seccomp-profile\": {path} is no JSON object; give a profile as Docker has them, builtin or unconfined"
                );
            }
            Ok(Seccomp::Profile(text))
        }
    }
}

fn ulimit(name: &str, limit: &Limit) -> Result<Ulimit> {
    let Limit { name: again, hard, soft } = limit;
    if !(again.is_empty() || again == name) {
        bail!("\"default-ulimits\": {name} has the name {again}; give it one of them");
    }
    if *hard >= 0 && (*soft > *hard || *soft < 0) {
        bail!("\"default-ulimits\": {name}: the soft limit {soft} is above the hard one, {hard}");
    }
    Ok(Ulimit { name: name.to_owned(), soft: *soft, hard: *hard })
}

fn subnets(pools: &[Pool]) -> Result<Vec<Cidr>> {
    let mut subnets = Vec::new();
    for Pool { base, size } in pools {
        let base = base.network();
        let IpAddr::V4(first) = base.address() else {
            bail!(
                "\"default-address-pools\": {base} is IPv6; networks with IPv6 get a range of fd00::/8 of themselves, \
                 or the one of their --subnet"
            );
        };
        if *size < base.prefix() || *size > 30 || *size == 0 {
            bail!(
                "\"default-address-pools\": {base} has no subnets of size {size}; give one from {} to 30",
                base.prefix()
            );
        }
        let count = 1_u32.checked_shl(u32::from(size - base.prefix())).filter(|count| *count <= MAX_SUBNETS);
        let Some(count) = count else {
            bail!(
                "\"default-address-pools\": {base} has more than {MAX_SUBNETS} subnets of size {size}; give a smaller size"
            );
        };
        let of_number = |number: u32| {
            let address = u32::from(first) + (number << (32 - size));
            Cidr::new(IpAddr::V4(address.into()), *size).context("a prefix of at most 30 fits IPv4")
        };
        subnets.extend((0..count).map(of_number).collect::<Result<Vec<_>>>()?);
    }
    if subnets.is_empty() {
        bail!("\"default-address-pools\" is empty: leave it out, or name at least one range");
    }
    Ok(subnets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OfFile, String> {
        let file: ConfigFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
        file.of_file().map_err(|error| format!("{error:#}"))
    }

    /// E-50: what is in most files of Docker's daemon.
    #[test]
    fn e_50_what_containers_get_by_default() {
        let text = r#"{"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}, "live-restore": true,
            "dns": ["9.9.9.9"], "dns-search": ["corp"], "default-shm-size": "1g", "init": true, "no-new-privileges": true,
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 1024}}}"#;
        let OfFile { defaults, address_pools, .. } = read(text).expect("a good file");
        assert_eq!(defaults.log.expect("a driver").options.len(), 2);
        assert_eq!((defaults.shm_size_bytes, defaults.init, defaults.no_new_privileges), (1 << 30, true, true));
        assert_eq!(defaults.ulimits, [Ulimit { name: "nofile".into(), soft: 1024, hard: 64000 }]);
        assert_eq!((defaults.dns.nameservers.len(), defaults.dns.search.len()), (1, 1));
        assert_eq!(address_pools, overlay::default_pools());
        assert_eq!(read("{}"), Ok(OfFile::default()));
    }

    /// E-50, P25: subnets in the order of the ranges.
    #[test]
    fn e_50_p25_address_pools() {
        let pools =
            |text: &str| read(&format!(r#"{{"default-address-pools": {text}}}"#)).map(|read| read.address_pools);
        let found = pools(r#"[{"base": "10.9.0.0/23", "size": 24}, {"base": "10.8.0.0/16", "size": 16}]"#);
        let texts: Vec<String> = found.expect("good").iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.9.0.0/24", "10.9.1.0/24", "10.8.0.0/16"]);
        let refused = |text: &str| pools(text).expect_err(text);
        assert!(refused(r#"[{"base": "10.9.0.0/24", "size": 16}]"#).contains("has no subnets of size 16"));
        assert!(refused(r#"[{"base": "10.0.0.0/8", "size": 30}]"#).contains("more than 65536 subnets"));
        assert!(refused(r#"[{"base": "fd00::/8", "size": 64}]"#).contains("is IPv6"));
        assert!(refused("[]").contains("is empty"));
        assert!(refused(r#"[{"base": "10.9.0.0/24"}]"#).contains("missing field `size`"));
    }

    /// E-50
    #[test]
    fn e_50_defaults_that_cannot_be() {
        let refused = |text: &str| read(text).expect_err(text);
        assert!(refused(r#"{"log-driver": "splunk"}"#).contains("log driver \"splunk\" is not there"));
        assert!(refused(r#"{"log-opts": {"max-size": "ten"}}"#).contains("max-size"));
        assert!(refused(r#"{"default-shm-size": "much"}"#).contains("is not a size"));
        assert!(refused(r#"{"default-ulimits": {"nofile": {"Hard": 1, "Soft": 2}}}"#).contains("above the hard one"));
        assert!(refused(r#"{"dns": ["one"]}"#).contains("invalid IP address"));
        assert!(refused(r#"{"cgroup-parent": "/a/../.."}"#).starts_with("\"cgroup-parent\": "));
        assert!(refused(r#"{"default-ipc-mode": "host"}"#).contains("say private or shareable"));
        assert!(refused(r#"{"default-cgroupns-mode": "mine"}"#).contains("say private or host"));
        assert!(refused(r#"{"seccomp-profile": "/nowhere.json"}"#).contains("read /nowhere.json"));
        assert!(refused(r#"{"host-gateway-ips": ["10.0.0.1", "10.0.0.2"]}"#).contains("one IPv4 and one IPv6"));
        let both = refused(r#"{"host-gateway-ip": "10.0.0.1", "host-gateway-ips": ["::1"]}"#);
        assert!(both.contains("leave the first one out"), "{both}");
        assert!(refused(r#"{"max-download-attempts": 0}"#).contains("nonzero"));
    }

    /// E-50: whose namespaces, control groups and system calls.
    #[test]
    fn e_50_how_containers_are_confined_by_default() {
        let profile = tempfile::NamedTempFile::new().expect("a file");
        fs::write(profile.path(), r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).expect("written");
        let text = format!(
            r#"{{"seccomp-profile": {:?}, "cgroup-parent": "/tenants/a", "default-ipc-mode": "shareable",
                "default-cgroupns-mode": "host", "host-gateway-ips": ["192.0.2.1", "2001:db8::1"], "max-download-attempts": 9,
                "swarm-default-advertise-addr": "eth1"}}"#,
            profile.path()
        );
        let of_file = read(&text).expect("a good file");
        let defaults = of_file.defaults;
        assert_eq!(defaults.seccomp, Seccomp::Profile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#.into()));
        assert_eq!((defaults.cgroup_parent.as_str(), defaults.host_gateways.len()), ("/tenants/a", 2));
        assert_eq!((defaults.ipc_shareable, defaults.cgroupns_of_host), (true, true));
        assert_eq!((of_file.download_attempts, of_file.advertise.as_str()), (9, "eth1"));
        let usual =
            r#"{"seccomp-profile": "builtin", "default-ipc-mode": "private", "default-cgroupns-mode": "private"}"#;
        assert_eq!(read(usual), Ok(OfFile::default()));
        fs::write(profile.path(), "[]").expect("written");
        let refused = read(&format!(r#"{{"seccomp-profile": {:?}}}"#, profile.path())).expect_err("no profile");
        assert!(refused.contains("is no JSON object"), "{refused}");
    }
}
