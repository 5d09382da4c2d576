//! `/etc/resolv.conf`, `/etc/hosts` and `/etc/hostname` of a container: texts, and writing them.

use std::{
    fmt::Write as _,
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use types::DnsConfig;

/// Where systemd-resolved keeps the real servers when /etc/resolv.conf names only its stub.
const UPSTREAM_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";

/// What a container's files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EtcFiles {
    pub resolv_conf: String,
    pub hosts: String,
    pub hostname: String,
}

impl EtcFiles {
    /// The files of a container with this name and these addresses.
    /// With `resolver` the data plane's own resolver answers, and asks the others itself.
    pub(super) fn new(
        dns: &DnsConfig,
        extra_hosts: &[String],
        hostname: &str,
        addresses: &[IpAddr],
        resolver: bool,
        host_resolv_conf: &str,
    ) -> Self {
        let servers = if resolver { Servers::Resolver } else { Servers::OfBridge };
        Self {
            resolv_conf: resolv_conf(dns, servers, host_resolv_conf),
            hosts: hosts(extra_hosts, hostname, addresses),
            hostname: format!("{hostname}\n"),
        }
    }

    /// The files of a container that shares the host's network: the host's own, with what the spec sets.
    pub(super) fn of_host(dns: &DnsConfig, extra_hosts: &[String], hostname: &str, host: &HostFiles) -> Self {
        let is_hosts = dns.nameservers.is_empty() && dns.search.is_empty() && dns.options.is_empty();
        let resolv_conf = match is_hosts {
            true => host.resolv_conf.clone(),
            false => resolv_conf(dns, Servers::OfHost, &host.resolv_conf),
        };
        let mut hosts = host.hosts.clone();
        if !hosts.is_empty() && !hosts.ends_with('\n') {
            hosts.push('\n');
        }
        add_hosts(&mut hosts, extra_hosts);
        Self { resolv_conf, hosts, hostname: format!("{hostname}\n") }
    }

    /// Writes them below `directory`; gives each file's path and its place in the container.
    pub(super) fn write(&self, directory: &Path) -> io::Result<Vec<(PathBuf, &'static str)>> {
        fs::create_dir_all(directory)?;
        let files = [
            ("resolv.conf", &self.resolv_conf, "/etc/resolv.conf"),
            ("hosts", &self.hosts, "/etc/hosts"),
            ("hostname", &self.hostname, "/etc/hostname"),
        ];
        let write = |(name, text, target): (&str, &String, &'static str)| {
            let path = directory.join(name);
            fs::write(&path, text).map(|()| (path, target))
        };
        files.into_iter().map(write).collect()
    }
}

/// From now on the data plane's own resolver answers: the container got its first network with names. Written in
/// place, so that a container that runs sees it; nothing if the container has no such file.
pub(super) fn use_resolver(directory: &Path) -> io::Result<()> {
    let path = directory.join("resolv.conf");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let is_asked = settings(&text, "nameserver").any(|server| server == RESOLVER.to_string());
    if is_asked { Ok(()) } else { fs::write(&path, resolv_conf(&DnsConfig::default(), Servers::Resolver, &text)) }
}

/// The host's own files, as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostFiles {
    resolv_conf: String,
    hosts: String,
}

impl HostFiles {
    /// One that is not there is empty, as for the host's own programs.
    pub(super) fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self { resolv_conf: read(HOST_RESOLV_CONF), hosts: read("/etc/hosts") }
    }
}

/// The host's resolver settings, as containers can use them.
pub(super) fn read_host_resolv_conf() -> String {
    let text = fs::read_to_string(HOST_RESOLV_CONF).unwrap_or_default();
    if usable_nameservers(&text).is_empty() {
        return fs::read_to_string(UPSTREAM_RESOLV_CONF).unwrap_or(text);
    }
    text
}

/// A loopback address of the host means another host inside the container.
fn usable_nameservers(text: &str) -> Vec<IpAddr> {
    let values = settings(text, "nameserver");
    values.filter_map(|v| v.parse::<IpAddr>().ok()).filter(|address| !address.is_loopback()).collect()
}

fn settings<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim().strip_prefix(key)?.strip_prefix([' ', '\t']).map(str::trim))
}

fn words(text: &str, key: &str) -> Vec<String> {
    settings(text, key).last().map(|v| v.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

/// The data plane's resolver of each network namespace (parity N-17).
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Who is asked, if the container names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    /// The data plane's own, which asks from the host.
    Resolver,
    /// The host's, as far as they are reached from its bridge, which has no IPv6. Else the data plane's own, which reaches
    /// what the host reaches.
    OfBridge,
    /// The host's.
    OfHost,
}

fn resolv_conf(dns: &DnsConfig, servers: Servers, host: &str) -> String {
    let or = |own: &[String], key: &str| if own.is_empty() { words(host, key) } else { own.to_vec() };
    let of_ipv4: Vec<IpAddr> = usable_nameservers(host).into_iter().filter(IpAddr::is_ipv4).collect();
    let is_deaf = dns.nameservers.is_empty() && of_ipv4.is_empty();
    let resolver = servers == Servers::Resolver || (servers == Servers::OfBridge && is_deaf);
    let servers = match (dns.nameservers.is_empty(), servers) {
        _ if resolver => vec![IpAddr::V4(RESOLVER)],
        (false, _) => dns.nameservers.clone(),
        (true, Servers::OfHost) => usable_nameservers(host),
        (true, _) => of_ipv4,
    };
    let mut text = String::new();
    for server in servers {
        writeln!(text, "nameserver {server}").expect("a string takes all");
    }
    let mut options = or(&dns.options, "options");
    if resolver && !options.iter().any(|option| option.starts_with("ndots:")) {
        // as in Docker: a service's name has no dot and is asked for as it is first
        options.push("ndots:0".to_owned());
    }
    for (key, values) in [("search", or(&dns.search, "search")), ("options", options)] {
        // "." switches the search list off, as in `docker run --dns-search .`
        if !values.is_empty() && values != ["."] {
            writeln!(text, "{key} {}", values.join(" ")).expect("a string takes all");
        }
    }
    text
}

fn hosts(extra: &[String], hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    add_hosts(&mut text, extra);
    for address in addresses {
        writeln!(text, "{address}\t{hostname}").expect("a string takes all");
    }
    text
}

fn add_hosts(text: &mut String, extra: &[String]) {
    for line in extra {
        let mut parts = line.split_whitespace();
        let address = parts.next().unwrap_or_default();
        writeln!(text, "{address}\t{}", parts.collect::<Vec<_>>().join(" ")).expect("a string takes all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:2\n";

    #[test]
    fn the_hosts_resolvers_are_taken_but_not_its_loopback() {
        let text = resolv_conf(&DnsConfig::default(), Servers::OfBridge, HOST);
        assert_eq!(text, "nameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:2\n");
    }

    /// N-21: what a container finds when it gets its first network with names while it runs.
    #[test]
    fn a_file_is_led_to_the_resolver_once() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let read = || fs::read_to_string(directory.path().join("resolv.conf")).expect("the file");
        use_resolver(directory.path()).expect("none is fine");
        fs::write(directory.path().join("resolv.conf"), HOST).expect("write");
        use_resolver(directory.path()).expect("rewritten");
        let led = "nameserver 127.0.0.11\nsearch a.example b.example\noptions ndots:2\n";
        assert_eq!(read(), led);
        use_resolver(directory.path()).expect("the same again");
        assert_eq!(read(), led);
    }

    #[test]
    fn the_specs_settings_replace_the_hosts() {
        let dns = DnsConfig {
            nameservers: vec![[198, 51, 100, 1].into()],
            search: vec![".".into()],
            options: vec!["timeout:1".into()],
        };
        assert_eq!(resolv_conf(&dns, Servers::OfBridge, HOST), "nameserver 198.51.100.1\noptions timeout:1\n");
    }

    #[test]
    fn hosts_has_the_extra_lines_and_the_containers_own() {
        let own: [IpAddr; 2] = [[172, 17, 0, 2].into(), "fd00:1::2".parse().expect("address")];
        let text = hosts(&["192.0.2.9  db db.example".into()], "web-1", &own);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("192.0.2.9\tdb db.example\n172.17.0.2\tweb-1\nfd00:1::2\tweb-1\n"), "{text}");
    }

    /// E-36: resolvers that the bridge does not lead to are asked from the host.
    #[test]
    fn e36_resolvers_of_ipv6_are_asked_from_the_host() {
        let text = |host: &str, servers| resolv_conf(&DnsConfig::default(), servers, host);
        let six = "nameserver 2001:db8::53\nnameserver fe80::1%eth0\n";
        assert_eq!(text(six, Servers::OfBridge), "nameserver 127.0.0.11\noptions ndots:0\n");
        assert_eq!(text(six, Servers::OfHost), "nameserver 2001:db8::53\n");
        let both = "nameserver 2001:db8::53\nnameserver 192.0.2.53\n";
        assert_eq!(text(both, Servers::OfBridge), "nameserver 192.0.2.53\n");
        assert_eq!(text("nameserver 127.0.0.53\n", Servers::OfBridge), "nameserver 127.0.0.11\noptions ndots:0\n");
    }

    /// N-11: on the host's network its loopback resolver is the right one.
    #[test]
    fn n11_on_the_hosts_network_its_own_files_are_used() {
        let host = HostFiles { resolv_conf: HOST.into(), hosts: "127.0.0.1\tlocalhost".into() };
        let hosts = ["192.0.2.9 db".to_owned()];
        let files = EtcFiles::of_host(&DnsConfig::default(), &hosts, "h1", &host);
        assert_eq!((files.resolv_conf.as_str(), files.hostname.as_str()), (HOST, "h1\n"));
        assert_eq!(files.hosts, "127.0.0.1\tlocalhost\n192.0.2.9\tdb\n");
        let dns = DnsConfig { nameservers: vec![[198, 51, 100, 1].into()], ..DnsConfig::default() };
        let text = EtcFiles::of_host(&dns, &hosts, "h1", &host).resolv_conf;
        assert_eq!(text, "nameserver 198.51.100.1\nsearch a.example b.example\noptions ndots:2\n");
    }
}
