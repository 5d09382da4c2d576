//! What containers of this host get where nobody says otherwise: keys of `daemon.json` (parity E-50). Pure.
//!
//! Single containers are filled in when they are made, and keep it; tasks each time a step of theirs is done. Either way
//! whatever comes after sees one spec and knows nothing of defaults.

use std::{borrow::Cow, sync::Arc};

use types::{Assignment, DnsConfig, LogDriver, Ulimit};

use super::{
    containers::spec::SingleSpec,
    log_driver::{self, LogDriverError},
};

/// All of it; empty is what rswarm does of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerDefaults {
    /// Without a name: options of `json-file`.
    pub log: Option<LogDriver>,
    pub dns: DnsConfig,
    /// 0: 64 MiB.
    pub shm_size_bytes: u64,
    /// An init of ours is the first process.
    pub init: bool,
    pub ulimits: Vec<Ulimit>,
    pub no_new_privileges: bool,
}

impl ContainerDefaults {
    /// Whether containers can be made so.
    ///
    /// # Errors
    /// The log driver, or one of its options, is not known.
    pub fn check(&self) -> Result<(), LogDriverError> {
        log_driver::file_of(self.log.as_ref()).map(drop)
    }

    /// The driver of a container that names none.
    pub fn log_driver(&self) -> &str {
        self.log.as_ref().map_or("json-file", log_driver::name)
    }

    pub(super) fn fill_single(&self, spec: &mut SingleSpec) {
        spec.log = self.log(spec.log.as_ref());
        self.fill_dns(&mut spec.dns);
        self.fill_ulimits(&mut spec.ulimits);
        spec.init = spec.init.or(self.init.then_some(true));
        spec.no_new_privileges |= self.no_new_privileges;
        if spec.shm_size_bytes == 0 {
            spec.shm_size_bytes = self.shm_size_bytes;
        }
    }

    /// The cluster's log driver comes before this host's.
    pub(super) fn fill_task<'a>(&self, assignment: &'a Assignment) -> Cow<'a, Assignment> {
        if *self == Self::default() {
            return Cow::Borrowed(assignment);
        }
        let mut filled = assignment.clone();
        let spec = Arc::make_mut(&mut filled.spec);
        spec.log_driver = self.log(assignment.log_driver());
        let container = &mut spec.container;
        self.fill_dns(&mut container.dns);
        self.fill_ulimits(&mut container.ulimits);
        container.init |= self.init;
        container.no_new_privileges |= self.no_new_privileges;
        if container.host.shm_size.0 == 0 {
            container.host.shm_size.0 = self.shm_size_bytes;
        }
        Cow::Owned(filled)
    }

    /// Options that are not given are added where it is the same driver, as Docker does it.
    fn log(&self, wanted: Option<&LogDriver>) -> Option<LogDriver> {
        let (Some(wanted), Some(own)) = (wanted.filter(|wanted| !is_unsaid(wanted)), &self.log) else {
            return self.log.clone().or_else(|| wanted.cloned());
        };
        let mut log = wanted.clone();
        if log.name.is_empty() {
            log.name.clone_from(&own.name);
        }
        if log_driver::name(&log) == log_driver::name(own) {
            let missing = own.options.iter().filter(|(name, _)| !wanted.options.contains_key(*name));
            log.options.extend(missing.map(|(name, value)| (name.clone(), value.clone())));
        }
        Some(log)
    }

    fn fill_dns(&self, dns: &mut DnsConfig) {
        let DnsConfig { nameservers, search, options } = &self.dns;
        if dns.nameservers.is_empty() {
            dns.nameservers.clone_from(nameservers);
        }
        if dns.search.is_empty() {
            dns.search.clone_from(search);
        }
        if dns.options.is_empty() {
            dns.options.clone_from(options);
        }
    }

    fn fill_ulimits(&self, ulimits: &mut Vec<Ulimit>) {
        let missing = self.ulimits.iter().filter(|own| !ulimits.iter().any(|ulimit| ulimit.name == own.name));
        let missing: Vec<Ulimit> = missing.cloned().collect();
        ulimits.extend(missing);
    }
}

fn is_unsaid(wanted: &LogDriver) -> bool {
    wanted.name.is_empty() && wanted.options.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str, options: &[(&str, &str)]) -> LogDriver {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        LogDriver { name: name.to_owned(), options }
    }

    /// E-50, E-27: what is said comes first, and options of the same driver are completed.
    #[test]
    fn e_50_the_log_driver_of_the_host() {
        let defaults = |name, options: &[_]| ContainerDefaults { log: Some(log(name, options)), ..Default::default() };
        let bounded = defaults("", &[("max-size", "10m"), ("max-file", "3")]);
        assert_eq!(bounded.log(None), bounded.log);
        assert_eq!(bounded.log(Some(&log("", &[]))), bounded.log);
        let own = bounded.log(Some(&log("json-file", &[("max-size", "1m")]))).expect("a driver");
        assert_eq!(own, log("json-file", &[("max-size", "1m"), ("max-file", "3")]));
        assert_eq!(bounded.log(Some(&log("none", &[]))), Some(log("none", &[])));
        let syslog = defaults("syslog", &[("tag", "{{.Name}}")]);
        assert_eq!(syslog.log(Some(&log("", &[("tag", "x")]))), Some(log("syslog", &[("tag", "x")])));
        assert_eq!(ContainerDefaults::default().log(None), None);
        assert!(defaults("gelf", &[]).check().is_err() && defaults("", &[("max-size", "ten")]).check().is_err());
    }

    /// E-50
    #[test]
    fn e_50_what_is_said_comes_before_the_hosts_defaults() {
        let ulimit = |name: &str, soft| Ulimit { name: name.to_owned(), soft, hard: soft };
        let dns = DnsConfig { nameservers: vec![[9, 9, 9, 9].into()], search: vec!["corp".into()], options: vec![] };
        let (ulimits, shm_size_bytes) = (vec![ulimit("nofile", 64), ulimit("nproc", 8)], 1 << 20);
        let defaults = ContainerDefaults { dns, ulimits, shm_size_bytes, init: true, ..Default::default() };
        let mut spec = SingleSpec { init: Some(false), ulimits: vec![ulimit("nofile", 7)], ..SingleSpec::default() };
        spec.dns.search = vec!["mine".into()];
        defaults.fill_single(&mut spec);
        assert_eq!((spec.init, spec.shm_size_bytes), (Some(false), 1 << 20));
        assert_eq!(spec.ulimits, [ulimit("nofile", 7), ulimit("nproc", 8)]);
        assert_eq!((spec.dns.nameservers.len(), spec.dns.search), (1, vec!["mine".to_owned()]));
    }
}
