//! What a network of this host is made of, read from its spec and options. Pure.

use std::net::IpAddr;

use overlay::{Cidr, Ipam, Ipam6, Ipv4Range, Ipv6Range, LocalDriver, LocalNetworkPlan, ParentLink};
use types::{IPVLAN_MODE, IpvlanMode, Labels, NetworkDriver, NetworkSpec, Subnet, SubnetSpec};

use super::bridge_options::{bridge, check_isolated};

/// Options of macvlan and ipvlan networks.
pub(super) const PARENT: &str = "parent";
pub(super) const MODE: &str = "macvlan_mode";
pub(super) const FLAG: &str = "ipvlan_flag";
/// Below this a link has no IPv6 (RFC 8200, section 5).
const IPV6_LEAST_MTU: u32 = 1280;
/// Which families it has, as Docker names them; the spec has them parsed already.
pub(super) const ENABLED: [&str; 2] = ["com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"];
/// The spec has them parsed already.
pub(super) const MTU: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];

/// A spec that can be made here, but for a subnet it may not have chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub driver: LocalDriver,
    pub internal: bool,
    pub mtu: Option<u32>,
    pub ipv4: bool,
    /// None: one is to be chosen, if it has IPv4.
    pub subnet: Option<Subnet>,
    pub ipv6: bool,
    /// None: one is to be chosen, if it has IPv6.
    pub subnet6: Option<Subnet>,
}

/// What a network's addresses are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subnets {
    pub four: Option<Subnet>,
    pub six: Option<Subnet>,
}

impl Definition {
    /// Says what of the spec cannot be, beginning with its subject.
    pub(super) fn of(spec: &NetworkSpec) -> Result<Self, String> {
        let driver = match spec.driver {
            NetworkDriver::Bridge => {
                check_isolated(spec)?;
                bridge(&spec.options)?
            }
            NetworkDriver::Macvlan => macvlan(&spec.options)?,
            NetworkDriver::Ipvlan => ipvlan(&spec.options)?,
            NetworkDriver::Overlay => return Err("driver overlay: such a network is the cluster's".to_owned()),
            NetworkDriver::Host | NetworkDriver::Null => {
                return Err("drivers host and null: every host has one network of each, and no more".to_owned());
            }
        };
        if spec.encrypted || spec.ingress {
            let what = if spec.encrypted { "encrypted" } else { "ingress" };
            return Err(format!("{what}: only overlay networks can be"));
        }
        let (subnet, subnet6) = (one_of_family(spec, true)?, one_of_family(spec, false)?);
        check_families(spec, subnet.as_ref(), subnet6.as_ref())?;
        if let Some(mtu) = spec.mtu.filter(|mtu| spec.ipv6 && *mtu < IPV6_LEAST_MTU) {
            return Err(format!("MTU {mtu}: a network with IPv6 needs {IPV6_LEAST_MTU} at least"));
        }
        if driver.parent().is_some() && spec.ipv6 && subnet6.is_none() {
            return Err(
                "subnet: a network on a link of the host needs the IPv6 subnet of that link; give --subnet".to_owned()
            );
        }
        if driver.parent().is_some() && spec.ipv4 && subnet.is_none() {
            return Err(match &driver {
                LocalDriver::Ipvlan { mode: mode @ (IpvlanMode::L3 | IpvlanMode::L3s), .. } => format!(
                    "subnet: an ipvlan network of mode {} needs one that the world around the host has a route to, by \
                     this host; give --subnet",
                    mode.text()
                ),
                LocalDriver::Ipvlan { .. } => of_parent("an ipvlan network"),
                _ => of_parent("a macvlan network"),
            });
        }
        let NetworkSpec { internal, mtu, ipv4, ipv6, .. } = *spec;
        Ok(Self { driver, internal, mtu, ipv4, subnet, ipv6, subnet6 })
    }

    /// None while one of them is to be chosen.
    pub(super) fn subnets(&self) -> Option<Subnets> {
        if (self.ipv4 && self.subnet.is_none()) || (self.ipv6 && self.subnet6.is_none()) {
            return None;
        }
        let four = self.subnet.clone().filter(|_| self.ipv4);
        Some(Subnets { four, six: self.subnet6.clone().filter(|_| self.ipv6) })
    }

    /// What the data plane makes of it.
    pub(super) fn plan(self, name: &str, subnets: &Subnets) -> Result<LocalNetworkPlan, String> {
        let Subnets { four, six } = subnets;
        let ipv4 = |four: &Subnet| match four.gateway {
            IpAddr::V4(gateway) => Ok(Ipv4Range { subnet: four.range, gateway }),
            IpAddr::V6(gateway) => Err(format!("gateway {gateway}: not IPv4")),
        };
        let ipv6 = |six: &Subnet| match six.gateway {
            IpAddr::V6(gateway) => Ok(Ipv6Range { subnet: six.range, gateway }),
            IpAddr::V4(gateway) => Err(format!("gateway {gateway}: not IPv6")),
        };
        let (ipv4, ipv6) = (four.as_ref().map(ipv4).transpose()?, six.as_ref().map(ipv6).transpose()?);
        let Self { driver, internal, mtu, .. } = self;
        Ok(LocalNetworkPlan { name: name.to_owned(), ipv4, mtu, internal, driver, ipv6 })
    }
}

/// It has a family at least, and of no other a subnet.
fn check_families(spec: &NetworkSpec, four: Option<&Subnet>, six: Option<&Subnet>) -> Result<(), String> {
    if !spec.ipv4 && !spec.ipv6 {
        // The first half in Docker's own words
        return Err("IPv4 or IPv6 must be enabled: give --ipv6 too, or leave out --ipv4=false".to_owned());
    }
    if let Some(subnet) = four.filter(|_| !spec.ipv4) {
        return Err(format!(
            "subnet {}: the network has no IPv4; leave out --ipv4=false, or this subnet",
            subnet.range
        ));
    }
    match six.filter(|_| !spec.ipv6) {
        Some(subnet) => {
            Err(format!("subnet {}: the network has no IPv6; give --ipv6 too, or leave it out", subnet.range))
        }
        None => Ok(()),
    }
}

/// A network of one host has at most one subnet of each family.
fn one_of_family(spec: &NetworkSpec, is_ipv4: bool) -> Result<Option<Subnet>, String> {
    let mut of_family = spec.subnets.iter().filter(|subnet| subnet.subnet.address().is_ipv4() == is_ipv4);
    let first = of_family.next().map(subnet).transpose()?;
    match of_family.next() {
        Some(second) => {
            let family = if is_ipv4 { "IPv4" } else { "IPv6" };
            Err(format!("subnet {}: a network of one host has one {family} subnet", second.subnet))
        }
        None => Ok(first),
    }
}

fn of_parent(what: &str) -> String {
    format!("subnet: {what} needs that of the network its parent is on; give --subnet")
}

fn macvlan(options: &Labels) -> Result<LocalDriver, String> {
    for (name, value) in options {
        match name.as_str() {
            PARENT => {}
            MODE if matches!(value.as_str(), "" | "bridge") => {}
            MODE => {
                return Err(format!(
                    "option {MODE}={value}: macvlan networks have mode bridge in rswarm; leave it out"
                ));
            }
            known if MTU.contains(&known) || ENABLED.contains(&known) => {}
            _ => {
                return Err(format!(
                    "option {name}: macvlan networks know no such option; known are {PARENT}, {MODE} and {}",
                    MTU.join(", ")
                ));
            }
        }
    }
    Ok(LocalDriver::Macvlan { parent: parent(options, "a macvlan network")? })
}

fn ipvlan(options: &Labels) -> Result<LocalDriver, String> {
    for (name, value) in options {
        match name.as_str() {
            PARENT | IPVLAN_MODE => {}
            FLAG if matches!(value.as_str(), "" | "bridge") => {}
            FLAG => {
                return Err(format!(
                    "option {FLAG}={value}: containers of an ipvlan network always reach each other in rswarm; leave it \
                     out"
                ));
            }
            known if MTU.contains(&known) || ENABLED.contains(&known) => {}
            _ => {
                return Err(format!(
                    "option {name}: ipvlan networks know no such option; known are {PARENT}, {IPVLAN_MODE}, {FLAG} and {}",
                    MTU.join(", ")
                ));
            }
        }
    }
    Ok(LocalDriver::Ipvlan { parent: parent(options, "an ipvlan network")?, mode: IpvlanMode::of(options)? })
}

fn parent(options: &Labels, what: &str) -> Result<ParentLink, String> {
    let wanted = options.get(PARENT).filter(|value| !value.is_empty());
    let parent = wanted.ok_or_else(|| {
        format!(
            "option {PARENT}: {what} needs an interface of the host; give --opt {PARENT}=eth0, or eth0.50 for VLAN 50 on it"
        )
    })?;
    Ok(ParentLink::parse(parent))
}

fn subnet(wanted: &SubnetSpec) -> Result<Subnet, String> {
    let range = wanted.subnet.network();
    if !range.address().is_ipv4() {
        return subnet6(wanted, range);
    }
    let first = Ipam::new(range).map_err(|error| format!("subnet {range}: {error}"))?.gateway();
    let gateway = match wanted.gateway {
        None => first,
        Some(IpAddr::V4(gateway)) => gateway,
        Some(IpAddr::V6(gateway)) => return Err(format!("gateway {gateway}: is outside of its subnet {range}")),
    };
    let ipam = Ipam::with_gateway(range, gateway).map_err(|error| format!("gateway {gateway}: {error}"))?;
    let is_host = |address: IpAddr| matches!(address, IpAddr::V4(address) if ipam.is_host_address(address));
    within(wanted, range, gateway.into(), is_host)
}

fn subnet6(wanted: &SubnetSpec, range: Cidr) -> Result<Subnet, String> {
    let first = Ipam6::new(range).map_err(|error| format!("subnet {range}: {error}"))?.gateway();
    let gateway = match wanted.gateway {
        None => first,
        Some(IpAddr::V6(gateway)) => gateway,
        Some(IpAddr::V4(gateway)) => return Err(format!("gateway {gateway}: is outside of its subnet {range}")),
    };
    let ipam = Ipam6::with_gateway(range, gateway).map_err(|error| format!("gateway {gateway}: {error}"))?;
    let is_host = |address: IpAddr| matches!(address, IpAddr::V6(address) if ipam.is_host_address(address));
    within(wanted, range, gateway.into(), is_host)
}

/// What else was said of it must lie in it.
fn within(
    wanted: &SubnetSpec,
    range: Cidr,
    gateway: IpAddr,
    is_host: impl Fn(IpAddr) -> bool,
) -> Result<Subnet, String> {
    if let Some(part) = wanted.ip_range
        && !(part.prefix() >= range.prefix() && range.contains(part.address()))
    {
        return Err(format!("ip range {part}: is not within its subnet {range}"));
    }
    for (name, address) in &wanted.auxiliary {
        if !is_host(*address) {
            return Err(format!("auxiliary address {name}: {address} is not a host address of the subnet {range}"));
        }
    }
    let reserved = wanted.auxiliary.values().copied().collect();
    Ok(Subnet { range, gateway, ip_range: wanted.ip_range.map(Cidr::network), reserved })
}

/// A subnet that was chosen, with nothing set apart.
pub(super) fn whole(range: Cidr, gateway: impl Into<IpAddr>) -> Subnet {
    Subnet { range, gateway: gateway.into(), ip_range: None, reserved: Vec::new() }
}

#[cfg(test)]
mod tests {
    use overlay::BridgeGateway;
    use types::{GATEWAY_MODES, INHIBIT_IPV4};

    use super::{
        super::bridge_options::{BINDING, BRIDGE_NAME, HOST_ADDRESSES, MASQUERADE, TALK},
        *,
    };

    fn spec(driver: NetworkDriver) -> NetworkSpec {
        NetworkSpec { driver, ..NetworkSpec::overlay("net".parse().expect("name")) }
    }

    fn refusal(driver: NetworkDriver, change: impl FnOnce(&mut NetworkSpec)) -> String {
        let mut spec = spec(driver);
        change(&mut spec);
        Definition::of(&spec).expect_err("refused")
    }

    fn with_option(driver: NetworkDriver, name: &str, value: &str) -> String {
        refusal(driver, |spec| drop(spec.options.insert(name.to_owned(), value.to_owned())))
    }

    #[test]
    fn e31_what_cannot_be_is_said() {
        let (bridge, macvlan) = (NetworkDriver::Bridge, NetworkDriver::Macvlan);
        assert!(refusal(bridge, |s| (s.ipv6, s.mtu) = (true, Some(1279))).starts_with("MTU 1279: "));
        assert!(
            with_option(bridge, GATEWAY_MODES[1], "bridged").contains("unknown gateway mode; bridge networks have")
        );
        assert!(
            with_option(bridge, GATEWAY_MODES[0], "isolated").starts_with("gateway mode 'isolated' can only be used")
        );
        assert!(with_option(bridge, BRIDGE_NAME, "rs-mine").contains("rswarm's own"));
        assert!(with_option(bridge, BRIDGE_NAME, "sixteen-letters-").contains("use 1 to 15 letters"));
        assert!(with_option(bridge, BINDING, "::1").ends_with("\"::1\" is no IPv4 address"));
        assert!(with_option(bridge, MASQUERADE, "perhaps").ends_with("neither true nor false"));
        assert!(with_option(bridge, TALK, "never").ends_with("neither true nor false"));
        assert!(with_option(macvlan, MODE, "vepa").contains("mode bridge"));
        assert!(refusal(macvlan, |_| {}).starts_with("option parent: "));
        assert!(with_option(macvlan, PARENT, "eth0").starts_with("subnet: a macvlan network needs"));
        let ipvlan = NetworkDriver::Ipvlan;
        assert!(refusal(ipvlan, |_| {}).starts_with("option parent: an ipvlan network needs an interface"));
        assert!(with_option(ipvlan, PARENT, "eth0").starts_with("subnet: an ipvlan network needs that of the network"));
        assert!(with_option(ipvlan, FLAG, "private").contains("always reach each other"));
        assert!(with_option(ipvlan, MODE, "bridge").contains("ipvlan networks know no such option"));
        let wrong = refusal(ipvlan, |s| {
            s.options
                .extend([PARENT, IPVLAN_MODE].map(str::to_owned).into_iter().zip(["eth0", "l4"].map(str::to_owned)));
        });
        assert_eq!(wrong, "option ipvlan_mode=l4: ipvlan networks have mode l2, l3 or l3s");
        let subnet = |text: &str, change: fn(&mut SubnetSpec)| {
            refusal(bridge, |spec| {
                let subnet = text.parse().expect("subnet");
                let mut one = SubnetSpec { subnet, gateway: None, ip_range: None, auxiliary: Default::default() };
                change(&mut one);
                spec.subnets.push(one);
            })
        };
        assert!(subnet("10.1.0.0/31", |_| {}).starts_with("subnet 10.1.0.0/31: "));
        assert!(subnet("fd00::/64", |_| {}).starts_with("subnet fd00::/64: the network has no IPv6; give --ipv6"));
        assert!(subnet("10.1.0.0/24", |s| s.gateway = Some([10, 2, 0, 1].into())).starts_with("gateway 10.2.0.1: "));
        assert!(subnet("10.1.0.0/24", |s| s.ip_range = "10.2.0.0/25".parse().ok()).starts_with("ip range 10.2.0.0/25"));
        let printer = |s: &mut SubnetSpec| s.auxiliary = [("printer".to_owned(), [10, 1, 0, 255].into())].into();
        assert!(subnet("10.1.0.0/24", printer).starts_with("auxiliary address printer: "));
    }

    /// E-31: what means nothing to a bridge keeps nobody from it, as in Docker.
    #[test]
    fn e31_options_of_other_drivers_are_no_hindrance() {
        let mut spec = spec(NetworkDriver::Bridge);
        let plain = Definition::of(&spec);
        spec.options.extend([("encrypted".to_owned(), String::new()), ("bogus".to_owned(), "x".to_owned())]);
        assert!(plain.is_ok() && Definition::of(&spec) == plain, "{plain:?}");
    }

    #[test]
    fn n10_a_macvlan_network_has_a_parent_and_a_subnet() {
        let mut spec = spec(NetworkDriver::Macvlan);
        spec.options.insert(PARENT.into(), "eth0.50".into());
        let subnet = "192.0.2.0/24".parse().expect("subnet");
        spec.subnets.push(SubnetSpec { subnet, gateway: None, ip_range: None, auxiliary: Default::default() });
        let definition = Definition::of(&spec).expect("good");
        assert_eq!(definition.driver, LocalDriver::Macvlan { parent: ParentLink::parse("eth0.50") });
        (spec.driver, spec.options) = (NetworkDriver::Ipvlan, [(PARENT.into(), "eth0".into())].into());
        spec.options.insert(IPVLAN_MODE.into(), "l3".into());
        let routed = Definition::of(&spec).expect("good").driver;
        assert_eq!(routed, LocalDriver::Ipvlan { parent: ParentLink::parse("eth0"), mode: IpvlanMode::L3 });
        spec.subnets.clear();
        let said = Definition::of(&spec).expect_err("no subnet");
        assert!(said.starts_with("subnet: an ipvlan network of mode l3 needs one that the world"), "{said}");
        let chosen = definition.subnets().expect("asked for");
        let plan = definition.plan("lan", &chosen).expect("a plan");
        assert_eq!((plan.ipv4.map(|ipv4| ipv4.gateway), plan.name.as_str()), (Some([192, 0, 2, 1].into()), "lan"));
    }

    /// N-06, E-33: on a link an address is set apart for a gateway where there is a way out, unless the host is the way.
    #[test]
    fn n_06_a_gateway_is_set_apart_where_it_is_used() {
        let (macvlan, ipvlan) = (NetworkDriver::Macvlan, NetworkDriver::Ipvlan);
        for (driver, mode, has) in
            [(macvlan, "", true), (ipvlan, "", true), (ipvlan, "l2", true), (ipvlan, "l3", false)]
        {
            let mut spec = spec(driver);
            spec.options.insert(IPVLAN_MODE.to_owned(), mode.to_owned());
            assert_eq!([true, false].map(|is_ipv4| spec.has_gateway(is_ipv4)), [has; 2], "{driver:?} {mode}");
            spec.internal = true;
            assert!(!spec.has_gateway(true), "{driver:?} {mode}");
        }
        let bridge = NetworkSpec { internal: true, ..spec(NetworkDriver::Bridge) };
        assert!(bridge.has_gateway(true) && bridge.has_gateway(false), "its host is in it too");
    }

    /// E-31: whose address what leaves bears, and whether the bridge has one.
    #[test]
    fn e31_a_bridge_bears_what_it_is_told() {
        let bridge = NetworkDriver::Bridge;
        assert!(with_option(bridge, INHIBIT_IPV4, "perhaps").ends_with("neither true nor false"));
        assert!(
            with_option(bridge, HOST_ADDRESSES[0], "fd00::1").contains("is no IPv4 address; give one of this host")
        );
        assert!(with_option(bridge, HOST_ADDRESSES[1], "eth0").contains("is no IPv6 address"));
        let mut spec = spec(bridge);
        let wanted = [(INHIBIT_IPV4, "1"), (HOST_ADDRESSES[0], "192.0.2.1"), (HOST_ADDRESSES[1], "")];
        spec.options.extend(wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let LocalDriver::Bridge(made) = Definition::of(&spec).expect("good").driver else { panic!("a bridge") };
        assert_eq!((made.gateway4.inhibited, made.gateway4.source), (true, "192.0.2.1".parse().ok()));
        assert_eq!(made.gateway6, BridgeGateway::default());
        assert!(spec.has_gateway(true), "by which containers leave");
        spec.internal = true;
        assert!(!spec.has_gateway(true) && spec.has_gateway(false));
    }

    /// E-31: IPv6 alone is one family, none is not; a family that is left out has no subnet.
    #[test]
    fn e31_a_network_may_have_ipv6_alone() {
        let mut spec = spec(NetworkDriver::Bridge);
        spec.ipv4 = false;
        let said = Definition::of(&spec).expect_err("it has no family");
        assert_eq!(said, "IPv4 or IPv6 must be enabled: give --ipv6 too, or leave out --ipv4=false");
        spec.ipv6 = true;
        let definition = Definition::of(&spec).expect("good");
        assert_eq!(definition.subnets(), None, "IPv6 is to be chosen");
        let six = whole("fd00:1::/64".parse().expect("subnet"), "fd00:1::1".parse::<IpAddr>().expect("gateway"));
        let subnets = Subnets { four: None, six: Some(six) };
        let plan = definition.plan("net", &subnets).expect("a plan");
        assert!(plan.ipv4.is_none() && plan.ipv6.is_some());
        let subnet = "10.1.0.0/24".parse().expect("subnet");
        spec.subnets.push(SubnetSpec { subnet, gateway: None, ip_range: None, auxiliary: Default::default() });
        let said = Definition::of(&spec).expect_err("a subnet of no family");
        assert!(said.starts_with("subnet 10.1.0.0/24: the network has no IPv4; leave out"), "{said}");
    }

    /// E-31: both families have the same rules, and each has one subnet.
    #[test]
    fn e31_an_ipv6_subnet_is_checked_like_another() {
        let with = |subnets: &[&str], change: fn(&mut SubnetSpec)| {
            let mut spec = spec(NetworkDriver::Bridge);
            spec.ipv6 = true;
            spec.subnets = subnets
                .iter()
                .map(|text| {
                    let subnet = text.parse().expect("subnet");
                    let mut one = SubnetSpec { subnet, gateway: None, ip_range: None, auxiliary: Default::default() };
                    change(&mut one);
                    one
                })
                .collect();
            Definition::of(&spec)
        };
        let both = with(&["fd00:1::/64", "10.1.0.0/24"], |_| {}).expect("good").subnets().expect("all there");
        let six = both.six.clone().expect("IPv6");
        assert_eq!(
            (both.four.clone().expect("IPv4").gateway, six.gateway),
            ([10, 1, 0, 1].into(), "fd00:1::1".parse::<IpAddr>().expect("one"))
        );
        assert_eq!(with(&["fd00:1::/64"], |_| {}).expect("good").subnets(), None, "IPv4 is to be chosen");
        assert_eq!(with(&["10.1.0.0/24"], |_| {}).expect("good").subnets(), None, "IPv6 is to be chosen");
        let plan = with(&[], |_| {}).expect("good").plan("net", &both).expect("a plan");
        assert_eq!(plan.ipv6.map(|ipv6| ipv6.subnet), "fd00:1::/64".parse().ok());
        let says = |subnets: &[&str], change: fn(&mut SubnetSpec), start: &str| {
            let said = with(subnets, change).expect_err("refused");
            assert!(said.starts_with(start), "{said}");
        };
        let two = "subnet fd00:2::/64: a network of one host has one IPv6 subnet";
        says(&["fd00:1::/64", "fd00:2::/64"], |_| {}, two);
        says(&["fe80::/64"], |_| {}, "subnet fe80::/64: fe80::/64 holds addresses that are each link's own");
        says(&["fd00:1::/127"], |_| {}, "subnet fd00:1::/127: ");
        says(&["fd00:1::/64"], |s| s.gateway = "fd00:2::1".parse().ok(), "gateway fd00:2::1: ");
        says(&["fd00:1::/64"], |s| s.gateway = Some([10, 1, 0, 1].into()), "gateway 10.1.0.1: is outside");
        says(&["fd00:1::/64"], |s| s.ip_range = "fd00:2::/80".parse().ok(), "ip range fd00:2::/80");
        let printer = |s: &mut SubnetSpec| {
            s.auxiliary = [("printer".to_owned(), "fd00:2::9".parse().expect("address"))].into();
        };
        says(&["fd00:1::/64"], printer, "auxiliary address printer: fd00:2::9 is not");
    }
}
