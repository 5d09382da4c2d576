//! The kernel as witness: bridge, endpoints, rules, in namespaces of each test's own.

mod support;

use std::{path::Path, time::Instant};

use overlay::{EndpointResult, Kernel, NetworkPlan, Observed, diff};
use support::*;

async fn apply(kernel: &Kernel, plan: &NetworkPlan) -> usize {
    let steps = diff(plan, &kernel.observe().await.expect("observe"));
    let count = steps.len();
    let failures = kernel.apply(steps).await;
    assert!(failures.is_empty(), "{failures:?}");
    count
}

async fn left_to_do(kernel: &Kernel, plan: &NetworkPlan) -> Vec<overlay::Step> {
    diff(plan, &kernel.observe().await.expect("observe"))
}

#[test]
fn endpoints_reach_the_gateway_each_other_and_masqueraded_the_world() {
    in_host(|| async {
        outside_world();
        let kernel = Kernel::new(Path::new(RUN_DIR));
        let plan = plan(&[("a", [0, 2]), ("b", [3, 4])]);
        apply(&kernel, &plan).await;
        assert_eq!(left_to_do(&kernel, &plan).await, [], "the second time there is nothing to do");

        let (a, b) = (namespace_of("a"), namespace_of("b"));
        let inside = json(&format!("nsenter --net={} ip -j addr show dev eth0", b.display()));
        assert_eq!(inside[0]["address"], "02:42:ac:11:03:04");
        assert_eq!(inside[0]["addr_info"][0]["local"], "172.17.3.4");
        assert_eq!(inside[0]["addr_info"][0]["prefixlen"], 16);
        assert_eq!(inside[0]["addr_info"].as_array().expect("list").len(), 1, "no IPv6 address: {inside}");
        assert!(pings(&a, "127.0.0.1"), "loopback is up");
        assert!(pings(&a, "172.17.0.1"), "gateway");
        assert!(pings(&a, "172.17.3.4"), "the other endpoint");
        assert!(pings(&b, "172.17.0.2"), "and back");
        // The world has no route to 172.17.0.0/16: an answer proves the masquerade.
        assert!(pings(&a, "192.0.2.2"), "the world");
    });
}

#[test]
fn traffic_on_the_bridge_keeps_its_source_and_strangers_stay_outside() {
    in_host(|| async {
        outside_world();
        let kernel = Kernel::new(Path::new(RUN_DIR));
        apply(&kernel, &plan(&[("a", [0, 2]), ("b", [0, 3])])).await;
        let b = namespace_of("b");
        // b counts what comes from a's own address and what comes from anybody else's.
        let rules = "table inet seen {\nchain in {\ntype filter hook input priority 0;\n\
            ip saddr 172.17.0.2 icmp type echo-request counter\n\
            ip saddr != 172.17.0.2 icmp type echo-request counter\n}\n}\n";
        std::fs::write("/run/rules.nft", rules).expect("rules");
        run(&format!("nsenter --net={} nft -f /run/rules.nft", b.display()));
        assert!(pings(&namespace_of("a"), "172.17.0.3"));
        let seen = json(&format!("nsenter --net={} nft -j list table inet seen", b.display()));
        assert_eq!(counters(&seen), [1, 0], "{seen}");

        ip("-n outside route add 172.17.0.0/16 via 192.0.2.1");
        assert!(!pings(Path::new("/run/netns/outside"), "172.17.0.3"), "a stranger who knows the way gets nowhere");
    });
}

fn counters(listing: &serde_json::Value) -> Vec<u64> {
    let items = listing["nftables"].as_array().expect("list").iter();
    let rules = items.filter_map(|item| item["rule"]["expr"].as_array());
    rules.flatten().filter_map(|expression| expression["counter"]["packets"].as_u64()).collect()
}

#[test]
fn an_empty_plan_leaves_nothing_and_no_foreign_object_is_touched() {
    in_host(|| async {
        let foreign = "table inet foreign {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n\
            \t\tip saddr 10.0.0.0/8 counter packets 5 bytes 10 accept\n\t}\n}\n\
            table ip nat {\n\tchain POSTROUTING {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\
            \t\tip saddr 10.9.0.0/16 masquerade\n\t}\n}\n";
        nft_load(foreign);
        ip("link add br-foreign type bridge");
        ip("link add foreign0 type veth peer name foreign1");
        ip("netns add foreign");
        let before = (run("nft list ruleset"), links());

        let kernel = Kernel::new(Path::new(RUN_DIR));
        apply(&kernel, &plan(&[("a", [0, 2]), ("b", [0, 3])])).await;
        let tables = json("nft -j list tables");
        let names: Vec<&str> =
            tables["nftables"].as_array().expect("list").iter().filter_map(|t| t["table"]["name"].as_str()).collect();
        assert_eq!(names, ["foreign", "nat", "rswarm"]);
        let foreign_now = run("nft list table inet foreign") + &run("nft list table ip nat");
        assert_eq!(foreign_now, before.0, "foreign rules are the same byte for byte");

        apply(&kernel, &NetworkPlan::default()).await;
        assert_eq!((run("nft list ruleset"), links()), before, "nothing of ours is left");
        assert_eq!(std::fs::read_dir("/run/rswarm/netns").expect("directory").count(), 0);
        let left = kernel.observe().await.expect("observe");
        assert_eq!((left.links.len(), left.namespaces.len()), (0, 0));
    });
}

fn links() -> Vec<String> {
    let all = json("ip -j link");
    all.as_array().expect("list").iter().map(|link| link["ifname"].as_str().expect("name").to_owned()).collect()
}

#[test]
fn damage_of_every_kind_is_repaired() {
    in_host(|| async {
        let kernel = Kernel::new(Path::new(RUN_DIR));
        let plan = plan(&[("a", [0, 2]), ("b", [0, 3])]);
        apply(&kernel, &plan).await;
        let observed = kernel.observe().await.expect("observe");
        let veth = observed.links.keys().find(|name| name.starts_with("rs-")).expect("a veth").clone();
        let a = namespace_of("a").display().to_string();
        let damages = [
            format!("ip link del {veth}"),
            "ip link del rswarm0".to_owned(),
            "ip addr add 172.17.0.77/16 dev rswarm0".to_owned(),
            "ip link set rswarm0 down".to_owned(),
            format!("ip link set {veth} nomaster"),
            format!("umount {a}"),
            format!("rm -f {RUN_DIR}/nft.json"),
            "nft flush ruleset".to_owned(),
            "nft add rule inet rswarm forward drop".to_owned(),
            format!("nsenter --net={a} ip link del eth0"),
            format!("nsenter --net={a} ip addr flush dev eth0"),
            format!("nsenter --net={a} ip route del default"),
            format!("nsenter --net={a} ip link set eth0 down"),
            format!("nsenter --net={a} ip link set eth0 mtu 1300"),
            "ip link add rs-000000000000 type veth peer name stray".to_owned(),
            "sysctl -q -w net.ipv4.ip_forward=0".to_owned(),
        ];
        for damage in damages {
            run(&damage);
            let count = apply(&kernel, &plan).await;
            assert!(count > 0, "{damage}: noticed");
            assert_eq!(left_to_do(&kernel, &plan).await, [], "{damage}: repaired");
            assert!(pings(&namespace_of("a"), "172.17.0.3"), "{damage}: works again");
        }
    });
}

#[test]
fn a_change_of_subnet_and_mtu_keeps_the_interfaces() {
    in_host(|| async {
        let kernel = Kernel::new(Path::new(RUN_DIR));
        let before = plan(&[("a", [0, 2])]);
        apply(&kernel, &before).await;
        let index = |observed: &Observed| observed.links.values().map(|link| link.index).collect::<Vec<_>>();
        let old = index(&kernel.observe().await.expect("observe"));

        let mut after = before.clone();
        let bridge = overlay::BridgePlan::new("172.20.0.0/24".parse().expect("subnet")).expect("bridge");
        after.bridge = Some(overlay::BridgePlan { mtu: 1400, ..bridge });
        after.endpoints.values_mut().flat_map(|e| &mut e.bridge).for_each(|port| port.address = [172, 20, 0, 9].into());
        apply(&kernel, &after).await;
        assert_eq!(left_to_do(&kernel, &after).await, []);
        assert_eq!(index(&kernel.observe().await.expect("observe")), old);
        assert!(pings(&namespace_of("a"), "172.20.0.1"));
    });
}

#[test]
fn the_hosts_routes_are_told_without_our_own() {
    in_host(|| async {
        outside_world();
        ip("route add 10.7.0.0/16 via 192.0.2.2");
        ip("route add unreachable 10.8.0.0/16");
        ip("route add default via 192.0.2.2");
        let kernel = Kernel::new(Path::new(RUN_DIR));
        apply(&kernel, &plan(&[])).await;
        let routes: Vec<String> =
            kernel.observe().await.expect("observe").host_routes.iter().map(ToString::to_string).collect();
        assert_eq!(routes, ["10.7.0.0/16", "10.8.0.0/16", "127.0.0.0/8", "192.0.2.0/24"]);
    });
}

#[test]
fn a_hundred_endpoints() {
    in_host(|| async {
        let kernel = Kernel::new(Path::new(RUN_DIR));
        let names: Vec<String> = (0..100).map(|n| format!("task{n}")).collect();
        let ids: Vec<(&str, [u8; 2])> = names.iter().zip(10..).map(|(name, n)| (name.as_str(), [1, n])).collect();
        let full = plan(&ids);
        let start = Instant::now();
        apply(&kernel, &full).await;
        let all = start.elapsed();
        let start = Instant::now();
        assert_eq!(left_to_do(&kernel, &full).await, []);
        let none = start.elapsed();
        let mut more = full.clone();
        more.endpoints.extend(plan(&[("extra", [0, 2])]).endpoints);
        let start = Instant::now();
        apply(&kernel, &more).await;
        let one = start.elapsed();
        let seen = kernel.observe().await.expect("observe");
        let start = Instant::now();
        let glanced = kernel.glance(seen.clone()).await.expect("glance");
        let glance = start.elapsed();
        assert_eq!(glanced, seen, "a glance sees the same while nothing changes");
        let start = Instant::now();
        apply(&kernel, &NetworkPlan::default()).await;
        let removed = start.elapsed();
        eprintln!(
            "100 endpoints: made in {all:?}, nothing to do in {none:?}, one more in {one:?}, a glance {glance:?}, removed in {removed:?}"
        );
    });
}

#[test]
fn this_machine_has_what_is_required() {
    in_host(|| async {
        let found = overlay::capabilities().await.expect("capabilities");
        let missing: Vec<_> = found.iter().filter(|c| c.required && !c.present).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(overlay::capabilities::refusal(&found), None);
        let has = |name| found.iter().any(|c| c.name == name && c.present);
        assert!(has("vxlan") && has("service addresses") && has("routing mesh"), "{found:?}");
        assert_eq!(links(), ["lo"], "the trial leaves nothing behind");
    });
}

#[test]
fn a_result_names_the_namespace_to_join() {
    let ready = EndpointResult::Ready { namespace: namespace_of("a") };
    let text = serde_json::to_string(&ready).expect("encode");
    assert_eq!(text, r#"{"ready":{"namespace":"/run/rswarm/netns/a"}}"#);
}

/// E-17: an interface bears the name and the settings that its user chose, and stays what it is.
#[test]
fn e_17_a_named_interface_with_settings_of_its_own() {
    in_host(|| async {
        let kernel = Kernel::new(Path::new(RUN_DIR));
        let mut plan = plan(&[("a", [0, 2]), ("b", [0, 3])]);
        let special =
            &mut plan.endpoints.get_mut(&"a".parse::<overlay::EndpointId>().expect("id")).expect("a").bridge_special;
        special.name = "lan".to_owned();
        let texts = ["net.ipv4.conf.IFNAME.log_martians=1", "net.ipv4.neigh.IFNAME.gc_stale_time=30"];
        special.settings = texts.map(|text| overlay::InterfaceSetting::parse(text).expect("a setting")).to_vec();
        apply(&kernel, &plan).await;
        assert_eq!(left_to_do(&kernel, &plan).await, [], "it is known as ours under its own name");
        let a = namespace_of("a");
        let links = json(&format!("nsenter --net={} ip -j link show", a.display()));
        let names: Vec<_> = links.as_array().expect("list").iter().filter_map(|link| link["ifname"].as_str()).collect();
        assert_eq!(names, ["lo", "lan"]);
        let read = |name: &str| run(&format!("nsenter --net={} cat /proc/sys/net/ipv4/{name}", a.display()));
        assert_eq!(read("conf/lan/log_martians").trim(), "1");
        assert_eq!(read("neigh/lan/gc_stale_time").trim(), "30");
        assert!(pings(&a, "172.17.0.3"), "the other endpoint");

        let special =
            &mut plan.endpoints.get_mut(&"a".parse::<overlay::EndpointId>().expect("id")).expect("a").bridge_special;
        special.name = "wan".to_owned();
        special.settings = vec![overlay::InterfaceSetting::parse("net.ipv4.conf.IFNAME.no_such=1").expect("a setting")];
        let failures = kernel.apply(diff(&plan, &kernel.observe().await.expect("observe"))).await;
        assert!(format!("{failures:?}").contains("net/ipv4/conf/wan/no_such"), "{failures:?}");
    });
}
