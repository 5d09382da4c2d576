//! Where a registry is: scheme, host, mirrors, and which hosts may be spoken to without TLS.
//! Called at the beginning of each pull; pure but for the addresses of names.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use types::ImageReference;

const DOCKER_HUB: &str = "docker.io";
/// Docker Hub's name is not where its registry answers.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Where a registry may be, before anybody found out how it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// `host[:port]`, of a mirror perhaps with a path.
    place: String,
    /// `host[:port]`, for messages and the directory of its certificates.
    pub host: String,
    /// The first that is answered counts.
    pub schemes: &'static [&'static str],
    /// Anybody's certificate will do, and credentials may go without TLS.
    pub is_insecure: bool,
}

/// A base URL without a path behind the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub base: String,
    /// For messages.
    pub host: String,
    /// As of a [`Candidate`].
    pub is_insecure: bool,
}

impl Endpoint {
    /// Whether nothing that it names may be without TLS.
    pub(super) fn wants_tls(&self) -> bool {
        !self.is_insecure && self.base.starts_with("https://")
    }
}

impl Candidate {
    fn new(schemes: &'static [&'static str], place: &str, insecure: &[String], known: &Addresses) -> Self {
        let host = authority_of(place);
        let is_insecure = is_insecure(host, insecure, known);
        Self { place: place.to_owned(), host: host.to_owned(), schemes, is_insecure }
    }

    /// A host: one that is insecure is spoken to with TLS first, and without where it has none.
    fn host(place: &str, insecure: &[String], known: &Addresses) -> Self {
        let verified = Self::new(&["https"], place, insecure, known);
        match verified.is_insecure {
            true => Self { schemes: &["https", "http"], ..verified },
            false => verified,
        }
    }

    /// One that is neither listed nor looked up.
    pub(super) fn verified(host: &str) -> Self {
        Self { place: host.to_owned(), host: host.to_owned(), schemes: &["https"], is_insecure: false }
    }

    fn hub() -> Self {
        Self { host: DOCKER_HUB.to_owned(), ..Self::verified(DOCKER_HUB_HOST) }
    }

    pub(super) fn endpoint(&self, scheme: &str) -> Endpoint {
        Endpoint { base: format!("{scheme}://{}", self.place), host: self.host.clone(), is_insecure: self.is_insecure }
    }
}

/// Addresses of hosts that are named and not written as an address.
type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// Where to try, in order: mirrors (of Docker Hub only), then the registry itself.
pub(super) async fn candidates(reference: &ImageReference, mirrors: &[String], insecure: &[String]) -> Vec<Candidate> {
    let mut known = Addresses::new();
    for authority in named(reference, mirrors) {
        if !is_insecure(authority, insecure, &known) {
            let host = host_of(authority);
            // whom nobody knows is not reached either, which is told then
            let found = tokio::net::lookup_host((host, 0)).await;
            known.insert(host.to_owned(), found.into_iter().flatten().map(|address| address.ip()).collect());
        }
    }
    in_order(reference, mirrors, insecure, &known)
}

/// The registry itself, for what no mirror does.
pub(super) async fn candidate(reference: &ImageReference, insecure: &[String]) -> Candidate {
    candidates(reference, &[], insecure).await.pop().expect("the registry itself is the last")
}

/// Hosts of which the address decides whether they are insecure.
fn named<'a>(reference: &'a ImageReference, mirrors: &'a [String]) -> Vec<&'a str> {
    match reference.registry == DOCKER_HUB {
        true => mirrors.iter().map(|mirror| authority_of(split_scheme(mirror).1)).collect(),
        false => vec![&reference.registry],
    }
}

fn in_order(reference: &ImageReference, mirrors: &[String], insecure: &[String], known: &Addresses) -> Vec<Candidate> {
    if reference.registry != DOCKER_HUB {
        return vec![Candidate::host(&reference.registry, insecure, known)];
    }
    let mirror = |written: &String| match split_scheme(written) {
        (Some("http"), place) => Candidate::new(&["http"], place, insecure, known),
        (Some(_), place) => Candidate::new(&["https"], place, insecure, known),
        (None, place) => Candidate::host(place, insecure, known),
    };
    mirrors.iter().map(mirror).chain([Candidate::hub()]).collect()
}

/// The scheme of a mirror, where one is written, and the rest.
fn split_scheme(mirror: &str) -> (Option<&str>, &str) {
    let mirror = mirror.trim_end_matches('/');
    mirror.split_once("://").map_or((None, mirror), |(scheme, place)| (Some(scheme), place))
}

/// Without a path.
fn authority_of(place: &str) -> &str {
    place.split('/').next().unwrap_or(place)
}

/// Hosts at loopback addresses, and hosts and networks (CIDR) in the list.
fn is_insecure(authority: &str, insecure: &[String], known: &Addresses) -> bool {
    let host = host_of(authority);
    let written: Option<IpAddr> = host.parse().ok();
    let addresses = || written.iter().chain(known.get(host).into_iter().flatten());
    if host == "localhost" || host.ends_with(".localhost") || addresses().any(IpAddr::is_loopback) {
        return true;
    }
    insecure.iter().any(|item| item == authority || item == host || addresses().any(|a| in_network(*a, item)))
}

/// Without port and brackets.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn in_network(address: IpAddr, network: &str) -> bool {
    let Some((base, prefix)) = network.split_once('/') else { return false };
    let Ok(prefix) = prefix.parse::<u32>() else { return false };
    match (address, base.parse::<IpAddr>()) {
        (IpAddr::V4(a), Ok(IpAddr::V4(b))) => same_v4(a, b, prefix),
        (IpAddr::V6(a), Ok(IpAddr::V6(b))) => same_v6(a, b, prefix),
        _ => false,
    }
}

fn same_v4(a: Ipv4Addr, b: Ipv4Addr, prefix: u32) -> bool {
    let differ = a.to_bits() ^ b.to_bits();
    prefix <= 32 && differ.leading_zeros() >= prefix
}

fn same_v6(a: Ipv6Addr, b: Ipv6Addr, prefix: u32) -> bool {
    let differ = a.to_bits() ^ b.to_bits();
    prefix <= 128 && differ.leading_zeros() >= prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(reference: &str, mirrors: &[&str], insecure: &[&str]) -> Vec<Candidate> {
        let owned = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let known = [("local.test", "127.0.0.1"), ("near.test", "10.1.2.3")];
        let known = known.map(|(name, address)| (name.to_owned(), vec![address.parse().expect("address")])).into();
        in_order(&reference.parse().expect(reference), &owned(mirrors), &owned(insecure), &known)
    }

    fn check(reference: &str, mirrors: &[&str], insecure: &[&str], expected: &[&str]) {
        let found = found(reference, mirrors, insecure);
        let bases = found.iter().flat_map(|c| c.schemes.iter().map(|scheme| c.endpoint(scheme).base));
        assert_eq!(bases.collect::<Vec<_>>(), expected, "{reference}");
    }

    #[test]
    fn endpoints_follow_the_reference() {
        let hub = "https://registry-1.docker.io";
        check("nginx", &[], &["docker.io"], &[hub]);
        check("nginx", &["https://m.test/", "10.0.0.1:5000"], &[], &["https://m.test", "https://10.0.0.1:5000", hub]);
        check("r.test/x", &["https://m.test"], &[], &["https://r.test"]);
        for loopback in ["localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            let (https, http) = (format!("https://{loopback}"), format!("http://{loopback}"));
            check(&format!("{loopback}/x"), &[], &[], &[&https, &http]);
        }
        let both = ["https://10.1.2.3:5000", "http://10.1.2.3:5000"];
        for insecure in ["10.1.2.3:5000", "10.1.2.3", "10.1.0.0/16", "0.0.0.0/0"] {
            check("10.1.2.3:5000/x", &[], &[insecure], &both);
        }
        let named = ["https://near.test:5000", "http://near.test:5000"];
        check("near.test:5000/x", &[], &["10.1.0.0/16"], &named);
        check("near.test:5000/x", &[], &["10.2.0.0/16"], &named[..1]);
        check("local.test/x", &[], &[], &["https://local.test", "http://local.test"]);
        check("nginx", &["near.test:5000"], &["10.1.0.0/16"], &[&named[..], &[hub]].concat());
        for other in ["10.2.0.0/16", "10.1.2.3:5001", "10.1.2.3/33", "x/8"] {
            check("10.1.2.3:5000/x", &[], &[other], &both[..1]);
        }
    }

    /// E-50: a mirror is spoken to as it is written, and is as insecure as the list says.
    #[test]
    fn e_50_a_written_scheme_of_a_mirror_is_the_only_one() {
        let mirrors = ["http://m.test/a/", "http://near.test:80", "https://near.test:5000/", "https://[::1]:5000"];
        let found = found("nginx", &mirrors, &["10.1.0.0/16"]);
        let said: Vec<_> =
            found.iter().map(|c| (c.endpoint(c.schemes[0]).base, c.schemes.len(), c.is_insecure)).collect();
        let of = |base: &str, is_insecure| (base.to_owned(), 1, is_insecure);
        assert_eq!(
            said,
            [
                of("http://m.test/a", false),
                of("http://near.test:80", true),
                of("https://near.test:5000", true),
                of("https://[::1]:5000", true),
                of("https://registry-1.docker.io", false),
            ]
        );
        assert_eq!(found[0].host, "m.test");
    }
}
