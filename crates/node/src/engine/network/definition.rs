//! What a network of this host is made of, read from its spec and options. Pure.

use std::net::{IpAddr, Ipv4Addr};

use overlay::{Cidr, Ipam, Ipam6, Ipv6Range, LocalDriver, LocalNetworkPlan, ParentLink, bridge_name_problem};
use types::{IPVLAN_MODE, IpvlanMode, Labels, NetworkDriver, NetworkSpec, Subnet, SubnetSpec};

use super::interfaces::{PREFIX, prefix_of};

/// Options that a bridge network understands, as Docker names them.
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const TALK: &str = "com.docker.network.bridge.enable_icc";
pub(super) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// Options of macvlan and ipvlan networks.
const PARENT: &str = "parent";
const MODE: &str = "macvlan_mode";
const FLAG: &str = "ipvlan_flag";
/// How the world reaches the network, as Docker names it by family; `nat` is the one that there is.
const GATEWAY_MODES: [&str; 2] =
    ["com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"];
/// Which families it has, as Docker names them; the spec has them parsed already.
pub(super) const ENABLED: [&str; 2] = ["com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"];
/// Below this a link has no IPv6 (RFC 8200, section 5).
const IPV6_LEAST_MTU: u32 = 1280;
/// The spec has them parsed already.
pub(super) const MTU: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];

/// A spec that can be made here, but for a subnet it may not have chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub driver: LocalDriver,
    pub internal: bool,
    pub mtu: Option<u32>,
    /// None: one is to be chosen.
    pub subnet: Option<Subnet>,
    pub ipv6: bool,
    /// None: one is to be chosen, if it has IPv6.
    pub subnet6: Option<Subnet>,
}

/// What a network's addresses are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subnets {
    pub four: Subnet,
    pub six: Option<Subnet>,
}

impl Definition {
    /// Says what of the spec cannot be, beginning with its subject.
    pub(super) fn of(spec: &NetworkSpec) -> Result<Self, String> {
        let driver = match spec.driver {
            NetworkDriver::Bridge => bridge(&spec.options)?,
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
        if let Some(subnet) = subnet6.as_ref().filter(|_| !spec.ipv6) {
            return Err(format!("subnet {}: the network has no IPv6; give --ipv6 too, or leave it out", subnet.range));
        }
        if let Some(mtu) = spec.mtu.filter(|mtu| spec.ipv6 && *mtu < IPV6_LEAST_MTU) {
            return Err(format!("MTU {mtu}: a network with IPv6 needs {IPV6_LEAST_MTU} at least"));
        }
        if driver.parent().is_some() && spec.ipv6 && subnet6.is_none() {
            return Err(
                "subnet: a network on a link of the host needs the IPv6 subnet of that link; give --subnet".to_owned()
            );
        }
        if let (Some(_), None) = (driver.parent(), &subnet) {
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
        Ok(Self { driver, internal: spec.internal, mtu: spec.mtu, subnet, ipv6: spec.ipv6, subnet6 })
    }

    /// None while one of them is to be chosen.
    pub(super) fn subnets(&self) -> Option<Subnets> {
        let four = self.subnet.clone()?;
        match (&self.subnet6, self.ipv6) {
            (None, true) => None,
            (six, is_wanted) => Some(Subnets { four, six: six.clone().filter(|_| is_wanted) }),
        }
    }

    /// What the data plane makes of it.
    pub(super) fn plan(self, name: &str, subnets: &Subnets) -> Result<LocalNetworkPlan, String> {
        let Subnets { four, six } = subnets;
        let IpAddr::V4(gateway) = four.gateway else { return Err(format!("gateway {}: not IPv4", four.gateway)) };
        let ipv6 = |six: &Subnet| match six.gateway {
            IpAddr::V6(gateway) => Ok(Ipv6Range { subnet: six.range, gateway }),
            IpAddr::V4(gateway) => Err(format!("gateway {gateway}: not IPv6")),
        };
        let ipv6 = six.as_ref().map(ipv6).transpose()?;
        let Self { driver, internal, mtu, .. } = self;
        Ok(LocalNetworkPlan { name: name.to_owned(), subnet: four.range, gateway, mtu, internal, driver, ipv6 })
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

pub(super) fn bridge(options: &Labels) -> Result<LocalDriver, String> {
    let (mut masquerade, mut bridge, mut talk) = (true, None, true);
    for (name, value) in options {
        match name.as_str() {
            MASQUERADE => masquerade = flag(name, value)?,
            TALK => talk = flag(name, value)?,
            BINDING => drop(binding_of(options)?),
            PREFIX => drop(prefix_of(options)?),
            BRIDGE_NAME if value.is_empty() => {}
            BRIDGE_NAME => match bridge_name_problem(value) {
                Some(problem) => return Err(format!("option {name}: {problem}")),
                None => bridge = Some(value.clone()),
            },
            mode if GATEWAY_MODES.contains(&mode) && matches!(value.as_str(), "" | "nat") => {}
            mode if GATEWAY_MODES.contains(&mode) => {
                return Err(format!(
                    "option {name}={value}: bridge networks have the mode nat in rswarm; leave it out"
                ));
            }
            known if MTU.contains(&known) || ENABLED.contains(&known) => {}
            _ => {
                return Err(format!(
                    "option {name}: bridge networks know no such option; known are {BRIDGE_NAME}, {BINDING}, {MASQUERADE}, {TALK}, {PREFIX}, {} and \
                     {}",
                    ENABLED.join(", "),
                    MTU.join(", ")
                ));
            }
        }
    }
    Ok(LocalDriver::Bridge { masquerade, name: bridge, apart: !talk })
}

/// The host's address that ports of the network's containers are bound to unless they say another.
pub(in crate::engine) fn binding_of(options: &Labels) -> Result<Option<IpAddr>, String> {
    let Some(text) = options.get(BINDING).filter(|text| !text.is_empty()) else { return Ok(None) };
    let address: Ipv4Addr = text.parse().map_err(|_| format!("option {BINDING}: {text:?} is no IPv4 address"))?;
    Ok(Some(address.into()))
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

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("option {name}: {value:?} is neither true nor false")),
    }
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
    use super::*;

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
        assert!(with_option(bridge, GATEWAY_MODES[1], "routed").contains("have the mode nat"));
        assert!(with_option(bridge, BRIDGE_NAME, "rs-mine").contains("rswarm's own"));
        assert!(with_option(bridge, BRIDGE_NAME, "sixteen-letters-").contains("use 1 to 15 letters"));
        assert!(with_option(bridge, BINDING, "::1").ends_with("\"::1\" is no IPv4 address"));
        assert!(with_option(bridge, "fast", "yes").starts_with("option fast: bridge networks know no such option"));
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
        assert_eq!((plan.gateway, plan.name.as_str()), ([192, 0, 2, 1].into(), "lan"));
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
            (both.four.gateway, six.gateway),
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
