//! Names and settings of an endpoint's interfaces, as their users chose them (parity E-17, N-21). Pure.

use std::collections::{BTreeMap, BTreeSet};

use overlay::{EndpointPlan, InterfacePlan, InterfaceSetting, interface_name_problem, plan::INSIDE_PREFIX};
use types::{Labels, NetworkId};

use super::local::{NetworkError, NetworkErrorKind as Kind};

/// Options of a place in a network, as Docker names them.
const SETTINGS: &str = "com.docker.network.endpoint.sysctls";
const NAME: &str = "com.docker.network.endpoint.ifname";
/// Of a bridge network: what its containers' interfaces are called before their number.
pub(super) const PREFIX: &str = "com.docker.network.container_iface_prefix";
/// With a number behind it, the longest is a name that the kernel takes.
const PREFIX_MAX: usize = 12;

/// Whose interface: `None` is the host's bridge.
pub(in crate::engine) type InterfaceOf = Option<NetworkId>;

/// What the options of a place say of its interface.
///
/// # Errors
/// When a setting is none of an interface, or the name cannot be.
pub(in crate::engine) fn interface_of(options: &Labels) -> Result<InterfacePlan, NetworkError> {
    let invalid = |what: String| NetworkError::new(Kind::Invalid, format!("invalid endpoint settings:\n{what}"));
    let texts = options.get(SETTINGS).map_or_else(Vec::new, |text| text.split(',').collect());
    let setting = |text: &str| {
        InterfaceSetting::parse(text).ok_or_else(|| {
            // Docker's own words
            invalid(format!(
                "unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' \
                 must be 'ipv4', 'ipv6' or 'mpls', and 'Y' 'conf' or 'neigh'"
            ))
        })
    };
    let settings = texts.into_iter().map(setting).collect::<Result<_, _>>()?;
    let name = options.get(NAME).cloned().unwrap_or_default();
    match interface_name_problem(&name).filter(|_| !name.is_empty()) {
        Some(problem) => Err(invalid(format!("option {NAME}: {problem}"))),
        None => Ok(InterfacePlan { name, settings }),
    }
}

/// The prefix that a network gives to its containers' interfaces.
pub(super) fn prefix_of(options: &Labels) -> Result<Option<&str>, String> {
    let Some(prefix) = options.get(PREFIX).filter(|prefix| !prefix.is_empty()) else { return Ok(None) };
    let too_long = (prefix.len() > PREFIX_MAX).then(|| format!("{prefix:?} has more than {PREFIX_MAX} characters"));
    match too_long.or_else(|| interface_name_problem(&format!("{prefix}0"))) {
        Some(problem) => Err(format!("option {PREFIX}: {problem}")),
        None => Ok(Some(prefix)),
    }
}

/// Names the interfaces of an endpoint that is about to be made. Where nothing is special, they are named by position.
pub(super) fn name_all(
    endpoint: &mut EndpointPlan,
    mut asked: BTreeMap<InterfaceOf, InterfacePlan>,
    prefix: impl Fn(NetworkId) -> Option<String>,
) -> Result<(), String> {
    let places = places(endpoint);
    let prefixes: Vec<Option<String>> = places.iter().map(|place| place.and_then(&prefix)).collect();
    if asked.values().all(|special| *special == InterfacePlan::default()) && prefixes.iter().all(Option::is_none) {
        return Ok(());
    }
    let mut taken = BTreeSet::new();
    for special in places.iter().filter_map(|place| asked.get(place)).filter(|special| !special.name.is_empty()) {
        if !taken.insert(special.name.clone()) {
            return Err(taken_name(&special.name));
        }
    }
    for (place, prefix) in places.into_iter().zip(prefixes) {
        let special = asked.remove(&place).unwrap_or_default();
        give(endpoint, place, special, prefix.as_deref(), &taken);
        taken.insert(endpoint.interface_name(place, 0));
    }
    Ok(())
}

/// Names the interface of a place that an endpoint was just given; the others are pinned.
pub(super) fn add(
    endpoint: &mut EndpointPlan,
    place: InterfaceOf,
    special: InterfacePlan,
    prefix: Option<&str>,
) -> Result<(), NetworkError> {
    let others = places(endpoint).into_iter().filter(|other| *other != place);
    let taken: BTreeSet<String> = others.map(|other| endpoint.interface_name(other, 0)).collect();
    if taken.contains(&special.name) {
        return Err(NetworkError::new(Kind::Invalid, taken_name(&special.name)));
    }
    give(endpoint, place, special, prefix, &taken);
    Ok(())
}

/// Notes the number of each interface, so that none changes its name when others come and go.
pub(super) fn pin(endpoint: &mut EndpointPlan) {
    for (position, place) in (0..).zip(places(endpoint)) {
        let is_named = |network: &NetworkId| endpoint.special.get(network).is_some_and(|s| !s.name.is_empty());
        if let Some(network) = place.filter(|network| !is_named(network)) {
            endpoint.interfaces.entry(network).or_insert(position);
        }
    }
}

/// Forgets what was noted of the interface of a place that goes.
pub(super) fn forget(endpoint: &mut EndpointPlan, place: InterfaceOf) {
    match place {
        None => endpoint.bridge_special = InterfacePlan::default(),
        Some(network) => {
            endpoint.interfaces.remove(&network);
            endpoint.special.remove(&network);
        }
    }
}

fn give(
    endpoint: &mut EndpointPlan,
    place: InterfaceOf,
    mut special: InterfacePlan,
    prefix: Option<&str>,
    taken: &BTreeSet<String>,
) {
    let start = prefix.unwrap_or(INSIDE_PREFIX);
    let is_free = |number: &u32| !taken.contains(&format!("{start}{number}"));
    let number = (0..).find(is_free).expect("there are more numbers than interfaces");
    if let Some(prefix) = prefix.filter(|_| special.name.is_empty()) {
        special.name = format!("{prefix}{number}");
    }
    match place {
        None => (endpoint.bridge_interface, endpoint.bridge_special) = (number, special),
        Some(network) => {
            if special.name.is_empty() {
                endpoint.interfaces.insert(network, number);
            }
            if special != InterfacePlan::default() {
                endpoint.special.insert(network, special);
            }
        }
    }
}

/// In the order in which interfaces are made.
fn places(endpoint: &EndpointPlan) -> Vec<InterfaceOf> {
    let on_bridge = endpoint.bridge.is_some().then_some(None);
    let overlays = endpoint.overlays.iter().map(|port| Some(port.network));
    let locals = endpoint.locals.iter().map(|port| Some(port.network));
    on_bridge.into_iter().chain(overlays).chain(locals).collect()
}

fn taken_name(name: &str) -> String {
    format!("interface name {name}: another interface of the container has it; choose another, or leave it out")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use overlay::{BridgePort, LocalPort, MacAddress};

    use super::*;

    fn network(number: u8) -> NetworkId {
        NetworkId::from_random(number.into())
    }

    fn port(number: u8) -> LocalPort {
        let address = Ipv4Addr::new(10, number, 0, 2);
        let (address6, link_local, names) = (None, Vec::new(), Vec::new());
        LocalPort {
            network: network(number),
            address: Some(address),
            address6,
            link_local,
            mac: MacAddress::for_ipv4(address),
            names,
        }
    }

    fn endpoint(locals: &[u8]) -> EndpointPlan {
        let address = Ipv4Addr::new(172, 17, 0, 2);
        let bridge = Some(BridgePort { address, mac: MacAddress::for_ipv4(address) });
        EndpointPlan { bridge, locals: locals.iter().map(|n| port(*n)).collect(), ..EndpointPlan::default() }
    }

    fn names(endpoint: &EndpointPlan) -> String {
        let names = (0..).zip(places(endpoint)).map(|(position, place)| endpoint.interface_name(place, position));
        names.collect::<Vec<_>>().join(" ")
    }

    fn named(name: &str) -> InterfacePlan {
        InterfacePlan { name: name.to_owned(), ..InterfacePlan::default() }
    }

    /// N-21: numbers stay with their networks, and the least free one is given.
    #[test]
    fn n21_interfaces_keep_their_numbers() {
        let mut endpoint = endpoint(&[1, 2]);
        pin(&mut endpoint);
        endpoint.locals.push(port(3));
        add(&mut endpoint, Some(network(3)), InterfacePlan::default(), None).expect("free");
        assert_eq!(names(&endpoint), "eth0 eth1 eth2 eth3");
        endpoint.locals.remove(0);
        forget(&mut endpoint, Some(network(1)));
        assert_eq!(names(&endpoint), "eth0 eth2 eth3", "the others keep their own");
        endpoint.locals.push(port(4));
        add(&mut endpoint, Some(network(4)), InterfacePlan::default(), None).expect("free");
        assert_eq!(names(&endpoint), "eth0 eth2 eth3 eth1", "the one that went");
        endpoint.bridge = None;
        endpoint.locals.push(port(5));
        add(&mut endpoint, Some(network(5)), InterfacePlan::default(), None).expect("free");
        assert_eq!(names(&endpoint), "eth2 eth3 eth1 eth0");
    }

    /// E-17: names of their own, prefixes that count by themselves, and numbers that leave both out.
    #[test]
    fn e_17_interfaces_are_named_as_asked() {
        let prefix = |id| (id == network(2) || id == network(3)).then(|| "lan".to_owned());
        let mut plain = endpoint(&[1]);
        name_all(&mut plain, BTreeMap::new(), prefix).expect("nothing special");
        assert_eq!(plain, endpoint(&[1]), "by position");
        let mut some = endpoint(&[1, 2, 3, 4]);
        let asked = [(Some(network(1)), named("eth0")), (Some(network(4)), named("wan"))].into();
        name_all(&mut some, asked, prefix).expect("free");
        assert_eq!(names(&some), "eth1 eth0 lan0 lan1 wan");
        pin(&mut some);
        some.locals.push(port(5));
        let taken = add(&mut some, Some(network(5)), named("wan"), None).expect_err("taken");
        assert!(taken.message.starts_with("interface name wan: another interface"), "{}", taken.message);
        add(&mut some, Some(network(5)), InterfacePlan::default(), None).expect("free");
        assert_eq!(names(&some), "eth1 eth0 lan0 lan1 wan eth2");
        let twice = [(None, named("x")), (Some(network(1)), named("x"))].into();
        assert!(name_all(&mut endpoint(&[1]), twice, prefix).is_err());
    }

    /// E-17: what cannot be is refused in Docker's words.
    #[test]
    fn e_17_options_of_a_place() {
        let options = |name: &str, value: &str| Labels::from([(name.to_owned(), value.to_owned())]);
        let two = options(SETTINGS, "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=0");
        assert_eq!(interface_of(&two).expect("good").settings.len(), 2);
        assert_eq!(interface_of(&options(NAME, "lan")).expect("good"), named("lan"));
        assert_eq!(interface_of(&options("else", "x")).expect("good"), InterfacePlan::default());
        let refused = interface_of(&options(SETTINGS, "net.ipv4.conf.eth0.forwarding=1")).expect_err("a name");
        assert!(refused.message.starts_with("invalid endpoint settings:\nunrecognised network interface sysctl"));
        assert!(interface_of(&options(NAME, "a/b")).is_err());
        assert_eq!(prefix_of(&options(PREFIX, "lan")), Ok(Some("lan")));
        assert!(prefix_of(&options(PREFIX, "a b")).is_err() && prefix_of(&options(PREFIX, "thirteen-long")).is_err());
    }
}
