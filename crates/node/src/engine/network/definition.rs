//! What a network of this host is made of, read from its spec and options. Pure.

use std::net::{IpAddr, Ipv4Addr};

use overlay::{Cidr, Ipam, LocalDriver, LocalNetworkPlan, ParentLink};
use types::{IPVLAN_MODE, IpvlanMode, Labels, NetworkDriver, NetworkSpec, Subnet, SubnetSpec};

/// Options that a bridge network understands, as Docker names them.
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const TALK: &str = "com.docker.network.bridge.enable_icc";
/// Options of macvlan and ipvlan networks.
const PARENT: &str = "parent";
const MODE: &str = "macvlan_mode";
const FLAG: &str = "ipvlan_flag";
/// The spec has them parsed already.
const MTU: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];

/// A spec that can be made here, but for a subnet it may not have chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub driver: LocalDriver,
    pub internal: bool,
    pub mtu: Option<u32>,
    /// None: one is to be chosen.
    pub subnet: Option<Subnet>,
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
        if spec.ipv6 {
            return Err("IPv6: networks of one host have IPv4 only in this version of rswarm; leave it out".to_owned());
        }
        if spec.encrypted || spec.ingress {
            let what = if spec.encrypted { "encrypted" } else { "ingress" };
            return Err(format!("{what}: only overlay networks can be"));
        }
        let subnet = match &spec.subnets[..] {
            [] => None,
            [one] => Some(subnet(one)?),
            [_, second, ..] => return Err(format!("subnet {}: a network of one host has one subnet", second.subnet)),
        };
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
        Ok(Self { driver, internal: spec.internal, mtu: spec.mtu, subnet })
    }

    /// What the data plane makes of it.
    pub(super) fn plan(self, name: &str, subnet: &Subnet) -> Result<LocalNetworkPlan, String> {
        let IpAddr::V4(gateway) = subnet.gateway else { return Err(format!("gateway {}: not IPv4", subnet.gateway)) };
        let Self { driver, internal, mtu, .. } = self;
        Ok(LocalNetworkPlan { name: name.to_owned(), subnet: subnet.range, gateway, mtu, internal, driver })
    }
}

fn bridge(options: &Labels) -> Result<LocalDriver, String> {
    let mut masquerade = true;
    for (name, value) in options {
        match name.as_str() {
            MASQUERADE => masquerade = flag(name, value)?,
            TALK if flag(name, value)? => {}
            TALK => {
                return Err(format!(
                    "option {TALK}: containers of one network always reach each other in this version of rswarm; put \
                     them into networks of their own"
                ));
            }
            "com.docker.network.bridge.name" => {
                return Err(format!("option {name}: rswarm names its bridges itself, after the network; leave it out"));
            }
            known if MTU.contains(&known) => {}
            _ => {
                return Err(format!(
                    "option {name}: bridge networks know no such option; known are {MASQUERADE}, {TALK} and {}",
                    MTU.join(", ")
                ));
            }
        }
    }
    Ok(LocalDriver::Bridge { masquerade })
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
            known if MTU.contains(&known) => {}
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
            known if MTU.contains(&known) => {}
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
    let first = Ipam::new(range).map_err(|error| format!("subnet {range}: {error}"))?.gateway();
    let gateway = match wanted.gateway {
        None => first,
        Some(IpAddr::V4(gateway)) => gateway,
        Some(IpAddr::V6(gateway)) => return Err(format!("gateway {gateway}: is outside of its subnet {range}")),
    };
    let ipam = Ipam::with_gateway(range, gateway).map_err(|error| format!("gateway {gateway}: {error}"))?;
    if let Some(part) = wanted.ip_range
        && !(part.prefix() >= range.prefix() && range.contains(part.address()))
    {
        return Err(format!("ip range {part}: is not within its subnet {range}"));
    }
    for (name, address) in &wanted.auxiliary {
        if !is_host(&ipam, *address) {
            return Err(format!("auxiliary address {name}: {address} is not a host address of the subnet {range}"));
        }
    }
    let reserved = wanted.auxiliary.values().copied().collect();
    Ok(Subnet { range, gateway: gateway.into(), ip_range: wanted.ip_range.map(Cidr::network), reserved })
}

fn is_host(ipam: &Ipam, address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if ipam.is_host_address(address))
}

/// A subnet that was chosen, with nothing set apart.
pub(super) fn whole(range: Cidr, gateway: Ipv4Addr) -> Subnet {
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
        assert!(refusal(bridge, |s| s.ipv6 = true).starts_with("IPv6: "));
        assert!(with_option(bridge, "fast", "yes").starts_with("option fast: bridge networks know no such option"));
        assert!(with_option(bridge, MASQUERADE, "perhaps").ends_with("neither true nor false"));
        assert!(with_option(bridge, TALK, "false").contains("networks of their own"));
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
        assert!(subnet("fd00::/64", |_| {}).starts_with("subnet fd00::/64: "));
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
        let chosen = definition.subnet.clone().expect("asked for");
        let plan = definition.plan("lan", &chosen).expect("a plan");
        assert_eq!((plan.gateway, plan.name.as_str()), (Ipv4Addr::new(192, 0, 2, 1), "lan"));
    }
}
