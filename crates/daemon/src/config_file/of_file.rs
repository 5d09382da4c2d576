//! Keys without a flag: what containers get where nobody says otherwise, and what networks get subnets of. Pure.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use node::engine::ContainerDefaults;
use overlay::Cidr;
use serde::Deserialize;
use types::{Bytes, DnsConfig, LogDriver, Ulimit};

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
        if self.live_restore == Some(false) {
            bail!("\"live-restore\": containers always go on while the daemon does not run; leave it out, or say true");
        }
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
        };
        defaults.check().context("what containers get by default")?;
        let mut of_file = OfFile { defaults, ..OfFile::default() };
        if let Some(pools) = &self.default_address_pools {
            of_file.address_pools = subnets(pools)?;
        }
        Ok(of_file)
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
        let OfFile { defaults, address_pools } = read(text).expect("a good file");
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
        assert!(refused(r#"{"log-driver": "gelf"}"#).contains("log driver \"gelf\" is not there"));
        assert!(refused(r#"{"log-opts": {"max-size": "ten"}}"#).contains("max-size"));
        assert!(refused(r#"{"live-restore": false}"#).contains("leave it out, or say true"));
        assert!(refused(r#"{"default-shm-size": "much"}"#).contains("is not a size"));
        assert!(refused(r#"{"default-ulimits": {"nofile": {"Hard": 1, "Soft": 2}}}"#).contains("above the hard one"));
        assert!(refused(r#"{"dns": ["one"]}"#).contains("invalid IP address"));
    }
}
