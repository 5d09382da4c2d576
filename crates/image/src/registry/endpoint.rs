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

/// A base URL without a path behind the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub base: String,
    /// For messages.
    pub host: String,
}

impl Endpoint {
    fn new(scheme: &str, host: &str) -> Self {
        Self { base: format!("{scheme}://{host}"), host: host.to_owned() }
    }
}

/// Addresses of hosts that are named and not written as an address.
type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// The endpoints to try, in order: mirrors (of Docker Hub only), then the registry itself; one that may
/// do without TLS is tried without it first.
pub(super) async fn endpoints(reference: &ImageReference, mirrors: &[String], insecure: &[String]) -> Vec<Endpoint> {
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

/// Hosts of which the address decides whether they are spoken to without TLS.
fn named<'a>(reference: &'a ImageReference, mirrors: &'a [String]) -> Vec<&'a str> {
    match reference.registry == DOCKER_HUB {
        true => mirrors.iter().map(|m| m.trim_end_matches('/')).filter(|mirror| !mirror.contains("://")).collect(),
        false => vec![&reference.registry],
    }
}

fn in_order(reference: &ImageReference, mirrors: &[String], insecure: &[String], known: &Addresses) -> Vec<Endpoint> {
    let mut list = Vec::new();
    if reference.registry == DOCKER_HUB {
        for mirror in mirrors {
            let mirror = mirror.trim_end_matches('/');
            match mirror.split_once("://") {
                Some((scheme, host)) => list.push(Endpoint::new(scheme, host)),
                None => push_host(&mut list, mirror, insecure, known),
            }
        }
        list.push(Endpoint { base: format!("https://{DOCKER_HUB_HOST}"), host: DOCKER_HUB.to_owned() });
        return list;
    }
    push_host(&mut list, &reference.registry, insecure, known);
    list
}

fn push_host(list: &mut Vec<Endpoint>, host: &str, insecure: &[String], known: &Addresses) {
    if is_insecure(host, insecure, known) {
        list.push(Endpoint::new("http", host));
    }
    list.push(Endpoint::new("https", host));
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

    fn check(reference: &str, mirrors: &[&str], insecure: &[&str], expected: &[&str]) {
        let owned = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let known = [("local.test", "127.0.0.1"), ("near.test", "10.1.2.3")];
        let known = known.map(|(name, address)| (name.to_owned(), vec![address.parse().expect("address")])).into();
        let found = in_order(&reference.parse().expect(reference), &owned(mirrors), &owned(insecure), &known);
        assert_eq!(found.iter().map(|e| e.base.as_str()).collect::<Vec<_>>(), expected, "{reference}");
    }

    #[test]
    fn endpoints_follow_the_reference() {
        let hub = "https://registry-1.docker.io";
        check("nginx", &[], &["docker.io"], &[hub]);
        check("nginx", &["https://m.test/", "10.0.0.1:5000"], &[], &["https://m.test", "https://10.0.0.1:5000", hub]);
        check("r.test/x", &["https://m.test"], &[], &["https://r.test"]);
        for loopback in ["localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            let (http, https) = (format!("http://{loopback}"), format!("https://{loopback}"));
            check(&format!("{loopback}/x"), &[], &[], &[&http, &https]);
        }
        let both = ["http://10.1.2.3:5000", "https://10.1.2.3:5000"];
        for insecure in ["10.1.2.3:5000", "10.1.2.3", "10.1.0.0/16", "0.0.0.0/0"] {
            check("10.1.2.3:5000/x", &[], &[insecure], &both);
        }
        let named = ["http://near.test:5000", "https://near.test:5000"];
        check("near.test:5000/x", &[], &["10.1.0.0/16"], &named);
        check("near.test:5000/x", &[], &["10.2.0.0/16"], &named[1..]);
        check("local.test/x", &[], &[], &["http://local.test", "https://local.test"]);
        check("nginx", &["near.test:5000"], &["10.1.0.0/16"], &[&named[..], &[hub]].concat());
        for other in ["10.2.0.0/16", "10.1.2.3:5001", "10.1.2.3/33", "x/8"] {
            check("10.1.2.3:5000/x", &[], &[other], &both[1..]);
        }
    }
}
