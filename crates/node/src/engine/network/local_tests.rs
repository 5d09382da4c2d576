//! What may be made on this host, and what is said of what may not.

use types::SubnetSpec;

use super::*;

fn spec(name: &str, driver: NetworkDriver) -> NetworkSpec {
    NetworkSpec { driver, ..NetworkSpec::overlay(name.parse().expect("name")) }
}

fn with_subnet(mut spec: NetworkSpec, subnet: &str) -> NetworkSpec {
    let subnet = subnet.parse().expect("subnet");
    spec.subnets.push(SubnetSpec { subnet, gateway: None, ip_range: None, auxiliary: BTreeMap::new() });
    spec
}

fn lan(name: &str, parent: &str) -> NetworkSpec {
    let mut spec = with_subnet(spec(name, NetworkDriver::Macvlan), "192.0.2.0/24");
    spec.options.insert("parent".into(), parent.into());
    spec
}

fn facts() -> HostFacts {
    HostFacts {
        taken: vec!["172.17.0.0/16".parse().expect("range"), "192.0.2.0/24".parse().expect("range")],
        interfaces: ["eth0".to_owned()].into(),
        lacking: [("vlan".to_owned(), "modprobe 8021q".to_owned())].into(),
        ..HostFacts::default()
    }
}

fn create(networks: &mut LocalNetworks, spec: &NetworkSpec) -> Result<String, String> {
    let id = NetworkId::from_random(networks.networks.len() as u128 + 1);
    let made = networks.create(spec, id, Timestamp::EPOCH, &facts()).map_err(|error| error.message)?;
    let subnets = &networks.get(made).expect("made").subnets;
    Ok(subnets.iter().map(|s| format!("{} gateway {}", s.range, s.gateway)).collect::<Vec<_>>().join(" "))
}

#[test]
fn e31_a_bridge_gets_a_free_subnet_p25() {
    let mut networks = LocalNetworks::default();
    let (bridge, made) = (NetworkDriver::Bridge, |text: &str| Ok(text.to_owned()));
    assert_eq!(create(&mut networks, &spec("a", bridge)), made("172.18.0.0/16 gateway 172.18.0.1"));
    let twice = create(&mut networks, &spec("a", bridge)).expect_err("taken");
    assert_eq!(twice, "network with name a already exists");
    let near = create(&mut networks, &with_subnet(spec("b", bridge), "192.0.2.128/25")).expect_err("overlap");
    assert_eq!(
        near,
        "network b: subnet 192.0.2.128/25 overlaps 192.0.2.0/24, which this host has a network in or a route to: choose \
         another, or none"
    );
    assert!(networks.by_name("b").is_none(), "nothing is half there");
}

/// E-31: a network without IPv4 gets no subnet of it.
#[test]
fn e31_a_bridge_of_ipv6_alone() {
    let mut networks = LocalNetworks::default();
    let alone = NetworkSpec { ipv4: false, ipv6: true, ..spec("six", NetworkDriver::Bridge) };
    let made = create(&mut networks, &alone).expect("made");
    assert!(made.starts_with("fd") && !made.contains("172."), "{made}");
    let none = NetworkSpec { ipv4: false, ..spec("none", NetworkDriver::Bridge) };
    let said = create(&mut networks, &none).expect_err("it has no family");
    assert!(said.starts_with("network none: IPv4 or IPv6 must be enabled"), "{said}");
}

#[test]
fn n10_macvlan_needs_its_parent() {
    let mut networks = LocalNetworks::default();
    assert!(create(&mut networks, &lan("lan", "eth0")).is_ok(), "it lies where the host's own network is");
    let missing = create(&mut networks, &lan("far", "eth7")).expect_err("missing");
    assert_eq!(missing, "network far: parent eth7: this host has no interface eth7; it has eth0");
    let vlan = create(&mut networks, &lan("v", "eth0.50")).expect_err("no VLANs here");
    assert_eq!(vlan, "network v: parent eth0.50: driver vlan: modprobe 8021q");
}

/// E-33: the kernel's word about ipvlan is told with what to do; a parent bears interfaces of one kind and mode.
#[test]
fn e33_ipvlan_needs_its_parent_for_itself() {
    let mut networks = LocalNetworks::default();
    let ipvlan = |name: &str, mode: &str| {
        let mut spec = NetworkSpec { driver: NetworkDriver::Ipvlan, ..lan(name, "eth0") };
        spec.options.insert("ipvlan_mode".into(), mode.into());
        spec
    };
    let lacking = HostFacts { lacking: [("ipvlan".to_owned(), "modprobe ipvlan".to_owned())].into(), ..facts() };
    let id = NetworkId::from_random(9);
    let said = networks.create(&ipvlan("lan", "l2"), id, Timestamp::EPOCH, &lacking).expect_err("no ipvlan here");
    assert_eq!(said.message, "network lan: driver ipvlan: modprobe ipvlan");
    assert!(networks.by_name("lan").is_none(), "nothing is half there");
    create(&mut networks, &ipvlan("lan", "l2")).expect("made");
    create(&mut networks, &ipvlan("same", "l2")).expect("beside it");
    let other = create(&mut networks, &ipvlan("routed", "l3")).expect_err("another mode");
    assert_eq!(
        other,
        "network routed: parent eth0: network lan has ipvlan interfaces of mode l2 on it, and an interface bears those of one \
         kind and mode: choose another parent, or a VLAN of it (parent=eth0.50)"
    );
    assert!(create(&mut networks, &lan("mac", "eth0")).expect_err("another kind").contains("network lan has ipvlan"));
}

/// E-31: a name for its bridge that nothing else on the host has.
#[test]
fn e31_a_bridge_is_called_what_its_user_says() {
    let mut networks = LocalNetworks::default();
    let mut named = |name: &str, bridge: &str| {
        let mut spec = spec(name, NetworkDriver::Bridge);
        spec.options.insert("com.docker.network.bridge.name".into(), bridge.into());
        create(&mut networks, &spec)
    };
    named("mine", "br-mine").expect("made");
    named("unnamed", "").expect("made");
    assert_eq!(
        named("other", "br-mine").expect_err("taken"),
        "network other: bridge name br-mine: network mine has it: choose another"
    );
    let of_host = named("host", "eth0").expect_err("the host's");
    assert!(
        of_host.starts_with("network host: bridge name eth0: this host has an interface of that name"),
        "{of_host}"
    );
    assert!(named("ours", "rswarm9").expect_err("ours").contains("names that begin with rswarm are rswarm's own"));
}

#[test]
fn n10_a_configuration_is_taken_and_kept_while_used() {
    let mut networks = LocalNetworks::default();
    let conf = NetworkSpec { config_only: true, ..lan("conf", "eth0") };
    let conf = NetworkSpec { driver: NetworkDriver::Null, ..conf };
    assert_eq!(create(&mut networks, &conf), Ok(String::new()), "nothing is made of it");
    let user = NetworkSpec { config_from: "conf".parse().ok(), ..spec("lan", NetworkDriver::Macvlan) };
    assert_eq!(create(&mut networks, &user), Ok("192.0.2.0/24 gateway 192.0.2.1".to_owned()));
    let id = networks.by_name("conf").expect("there").id;
    let refused = networks.remove(id).expect_err("in use");
    assert_eq!(refused.message, "configuration network conf is in use by network lan: remove it first");
    // a network of the cluster that leaves its configuration to the nodes
    let of_cluster = |spec: NetworkSpec| {
        let meta = Meta::default();
        let network =
            Network { id: NetworkId::from_random(99), meta, spec: Arc::new(spec), vni: 0, subnets: Vec::new() };
        networks.definition(&network)
    };
    assert_eq!(of_cluster(user.clone()).expect("known").subnet.expect("of the configuration").range.prefix(), 24);
    let absent = of_cluster(NetworkSpec { config_from: "other".parse().ok(), ..user }).expect_err("unknown");
    assert_eq!(absent, "configuration network other not found on this host: create it here with config-only");
}
