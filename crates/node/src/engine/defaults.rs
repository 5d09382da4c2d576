//! What containers of this host get where nobody says otherwise: keys of `daemon.json` (parity E-50). Pure.
//!
//! As with Docker, single containers keep their log driver and the size of /dev/shm from when they are made; all else holds
//! whenever one starts, and only ulimits are shown as if they were its own. Tasks are filled in each time a step of theirs is
//! done.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use ::runtime::{ContainerConfig, NamespaceMode};
use types::{Assignment, DnsConfig, LogDriver, Seccomp, Ulimit};

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
    /// Of those that are not privileged.
    pub seccomp: Seccomp,
    /// The control group that theirs are made in; empty: rswarm's own.
    pub cgroup_parent: String,
    /// Others may join the IPC namespace of a single container.
    pub ipc_shareable: bool,
    /// They see the host's control groups.
    pub cgroupns_of_host: bool,
    /// What `host-gateway` stands for; empty: the default bridge's address.
    pub host_gateways: Vec<IpAddr>,
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

    /// What is written down when a container is made, as Docker does it.
    pub(super) fn fill_made(&self, spec: &mut SingleSpec) {
        spec.log = self.log(spec.log.as_ref());
        if spec.shm_size_bytes == 0 {
            spec.shm_size_bytes = self.shm_size_bytes;
        }
        if !spec.privileged && !spec.security.iter().any(|option| option.starts_with("seccomp")) {
            spec.seccomp.clone_from(&self.seccomp);
        }
        if spec.limits.cgroup_parent.is_empty() {
            spec.limits.cgroup_parent.clone_from(&self.cgroup_parent);
        }
    }

    /// What holds each time that a container starts, and is none of its own.
    pub(super) fn fill_started(&self, spec: &mut SingleSpec) {
        spec.dns = self.dns(&spec.dns);
        self.fill_ulimits(&mut spec.ulimits);
        spec.init = Some(self.has_init(spec.init));
        spec.no_new_privileges |= self.no_new_privileges;
    }

    /// The cluster's log driver comes before this host's. Without [`Self::dns`] and [`Self::has_init`], which are not shown
    /// as the task's own.
    pub(super) fn fill_task<'a>(&self, assignment: &'a Assignment) -> Cow<'a, Assignment> {
        if *self == Self::default() {
            return Cow::Borrowed(assignment);
        }
        let mut filled = assignment.clone();
        let spec = Arc::make_mut(&mut filled.spec);
        spec.log_driver = self.log(assignment.log_driver());
        let container = &mut spec.container;
        self.fill_ulimits(&mut container.ulimits);
        container.no_new_privileges |= self.no_new_privileges;
        if container.host.shm_size.0 == 0 {
            container.host.shm_size.0 = self.shm_size_bytes;
        }
        if container.seccomp == Seccomp::Default && !container.host.privileged {
            container.seccomp.clone_from(&self.seccomp);
        }
        Cow::Owned(filled)
    }

    /// What a task's spec has no word for.
    pub(super) fn fill_config(&self, config: &mut ContainerConfig) {
        config.cgroup_parent.clone_from(&self.cgroup_parent);
        if self.cgroupns_of_host {
            config.cgroupns = NamespaceMode::Host;
        }
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

    /// How a container that says this of it finds names.
    pub(super) fn dns(&self, own: &DnsConfig) -> DnsConfig {
        fn or<T: Clone>(own: &[T], host: &[T]) -> Vec<T> {
            if own.is_empty() { host.to_vec() } else { own.to_vec() }
        }
        DnsConfig {
            nameservers: or(&own.nameservers, &self.dns.nameservers),
            search: or(&own.search, &self.dns.search),
            options: or(&own.options, &self.dns.options),
        }
    }

    /// Whether an init of ours is the first process of a container that says this of it.
    pub(super) fn has_init(&self, own: Option<bool>) -> bool {
        own.unwrap_or(self.init)
    }

    pub(super) fn fill_ulimits(&self, ulimits: &mut Vec<Ulimit>) {
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
        let gelf = [("gelf-address", "udp://log:12201")];
        assert!(defaults("gelf", &gelf).check().is_ok() && defaults("gelf", &[]).check().is_err());
        assert!(defaults("splunk", &[]).check().is_err() && defaults("", &[("max-size", "ten")]).check().is_err());
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
        defaults.fill_made(&mut spec);
        assert_eq!((spec.init, spec.shm_size_bytes, spec.dns.nameservers.len()), (Some(false), 1 << 20, 0));
        assert_eq!(spec.ulimits.len(), 1, "of its own alone");
        defaults.fill_started(&mut spec);
        assert_eq!(spec.init, Some(false));
        assert_eq!(spec.ulimits, [ulimit("nofile", 7), ulimit("nproc", 8)]);
        assert_eq!((spec.dns.nameservers.len(), spec.dns.search), (1, vec!["mine".to_owned()]));
        assert_eq!([None, Some(true), Some(false)].map(|own| defaults.has_init(own)), [true, true, false]);
    }

    /// E-50: what a task's container shows as its own says nothing of names and init.
    #[test]
    fn e_50_tasks_keep_what_they_say() {
        let dns = DnsConfig { nameservers: vec![[9, 9, 9, 9].into()], ..DnsConfig::default() };
        let defaults = ContainerDefaults { dns, init: true, shm_size_bytes: 1 << 20, ..Default::default() };
        let task = crate::agent::testing::assignment(1);
        let filled = defaults.fill_task(&task);
        let (own, container) = (&task.spec.container, &filled.spec.container);
        assert_eq!((&container.dns, container.init_asked()), (&own.dns, None));
        assert_eq!(container.host.shm_size.0, 1 << 20);
    }

    /// E-50: a seccomp profile of the host's is for those that are confined and name none; so is its control group.
    #[test]
    fn e_50_seccomp_and_control_groups_of_the_host() {
        let defaults = ContainerDefaults {
            seccomp: Seccomp::Unconfined,
            cgroup_parent: "/tenants".into(),
            cgroupns_of_host: true,
            ..ContainerDefaults::default()
        };
        let filled = |spec: SingleSpec| {
            let mut spec = spec;
            defaults.fill_made(&mut spec);
            (spec.seccomp, spec.limits.cgroup_parent)
        };
        assert_eq!(filled(SingleSpec::default()), (Seccomp::Unconfined, "/tenants".into()));
        let builtin = SingleSpec { security: vec!["seccomp=builtin".into()], ..SingleSpec::default() };
        assert_eq!(filled(builtin).0, Seccomp::Default);
        assert_eq!(filled(SingleSpec { privileged: true, ..SingleSpec::default() }).0, Seccomp::Default);
        let mut own = SingleSpec::default();
        own.limits.cgroup_parent = "/mine".into();
        assert_eq!(filled(own).1, "/mine");
    }
}
