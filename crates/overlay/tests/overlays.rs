//! Overlay networks with the kernel as witness: two or three hosts, each a network namespace on one underlay.

mod support;

use std::{net::IpAddr, time::Duration};

use overlay::{BridgePort, EndpointPlan, MacAddress, NetworkPlan, OverlayPort, Remote};
use support::{lab::*, *};

const SOON: Duration = Duration::from_secs(5);

/// N-01, N-19, P02: endpoints of one overlay reach each other across hosts, on any number of networks of the
/// same hosts, and no pair of two overlays does.
#[test]
fn endpoints_of_one_overlay_reach_each_other_and_no_others() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).network("blue", 4098);
        cluster.endpoint("red", "r1", "a").endpoint("red", "r2", "b").endpoint("red", "r3", "a");
        cluster.endpoint("blue", "b1", "a").endpoint("blue", "b2", "b");
        lab.converge(&cluster).await;
        for (from, to, reaches) in [
            ("r1", "r2", true),
            ("r2", "r3", true),
            ("r1", "r3", true),
            ("b2", "b1", true),
            ("r1", "b1", false),
            ("b2", "r2", false),
            ("r2", "b1", false),
        ] {
            for address in cluster.addresses(to) {
                let answered = lab.pings(&cluster, from, &address);
                assert_eq!(answered, reaches, "{from} to {to} at {address}");
            }
        }
        lab.check(&cluster);
        let seen = inside(&lab, &cluster, "r1", "ip -j addr show dev eth0");
        assert_eq!(seen[0]["mtu"], 1450);
        assert_eq!(seen[0]["address"], cluster.mac("r1").to_string());
        assert_eq!(run(&lab.line(&cluster, "r1", "ip route show default")), "", "no way out by an overlay");
    });
}

/// A place on the host's bridge comes first and has the way out; when it goes, the overlay's moves up.
#[test]
fn the_bridge_and_overlays_side_by_side() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).endpoint("red", "r1", "a").endpoint("red", "r2", "b");
        lab.converge(&cluster).await;
        let plain = lab.plan(&cluster, "a");
        let mut bridged = NetworkPlan { bridge: plan(&[]).bridge, ..plain.clone() };
        let address = [172, 17, 0, 9].into();
        let place = Some(BridgePort { address, mac: MacAddress::for_ipv4(address) });
        bridged.endpoints.values_mut().for_each(|endpoint| endpoint.bridge = place);
        let names = || {
            let listed = inside(&lab, &cluster, "r1", "ip -j -4 addr");
            let all = listed.as_array().expect("list").iter();
            all.map(|l| format!("{} {}", l["ifname"], l["addr_info"][0]["local"])).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            lab.apply("a", &bridged).await;
            assert_eq!(names()[1..], ["\"eth0\" \"172.17.0.9\"", "\"eth1\" \"10.0.1.2\""]);
            let route = run(&lab.line(&cluster, "r1", "ip route show default"));
            assert!(route.starts_with("default via 172.17.0.1 dev eth0"), "{route}");
            assert!(lab.pings(&cluster, "r1", &cluster.addresses("r2")[1]));
            assert!(lab.pings(&cluster, "r1", &[172, 17, 0, 1].into()));
            lab.apply("a", &plain).await;
            assert_eq!(names()[1..], ["\"eth0\" \"10.0.1.2\""]);
            assert!(lab.pings(&cluster, "r1", &cluster.addresses("r2")[0]));
        }
    });
}

/// N-01 over an IPv6 underlay.
#[test]
fn an_underlay_of_ipv6_carries_both_families() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv6);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).endpoint("red", "r1", "a").endpoint("red", "r2", "b");
        lab.converge(&cluster).await;
        for address in cluster.addresses("r2") {
            assert!(lab.pings(&cluster, "r1", &address), "{address}");
        }
        lab.check(&cluster);
        assert_eq!(inside(&lab, &cluster, "r1", "ip -j link show dev eth0")[0]["mtu"], 1430);
    });
}

/// N-03, P08: as large as the underlay carries and no larger, also after it changed.
#[test]
fn the_mtu_follows_the_underlay() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).endpoint("red", "r1", "a").endpoint("red", "r2", "b");
        for underlay in [1500, 1450, 9000] {
            lab.set_mtu(underlay);
            lab.converge(&cluster).await;
            let mtu = underlay - 50;
            for address in cluster.addresses("r2") {
                let headers = if address.is_ipv4() { 28 } else { 48 };
                let fits = |size| {
                    let ping = format!("ping -c 1 -W 1 -M do -s {} {address}", size - headers);
                    output(&lab.line(&cluster, "r1", &ping)).status.success()
                };
                assert!(fits(mtu), "{mtu} bytes on an underlay of {underlay} to {address}");
                assert!(!fits(mtu + 1), "{mtu} bytes and one more on an underlay of {underlay} to {address}");
            }
        }
    });
}

/// N-19, P02: after a churn every table on every host is what the plan says, no more and no less.
#[test]
fn after_a_churn_the_kernel_holds_exactly_the_plan() {
    in_host(|| async {
        let hosts = ["a", "b", "c"];
        let lab = Lab::new(&hosts, Underlay::Ipv4);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).network("blue", 4098);
        let mut number: usize = 12345;
        for round in 0..60 {
            // A small generator with a fixed seed: the same churn in every run.
            number = number.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (id, host) = (format!("e{}", (number >> 33) % 9), hosts[(number >> 40) % 3]);
            let network = ["red", "blue"][(number >> 45) % 2];
            cluster.remove(&id);
            if !(number >> 50).is_multiple_of(3) {
                cluster.endpoint(network, &id, host);
            }
            cluster.service("red", 100, &["e1", "e2", "e3"]).service("blue", 100, &["e4", "e5"]);
            if round % 5 == 4 {
                lab.converge(&cluster).await;
                lab.check(&cluster);
            }
        }
    });
}

/// P29: whatever was left or broken, one application makes it whole; an empty plan leaves nothing.
#[test]
fn damage_is_repaired_and_removal_leaves_nothing() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).endpoint("red", "r1", "a").endpoint("red", "r2", "b");
        cluster.service("red", 100, &["r2"]);
        lab.converge(&cluster).await;
        let overlay = lab.overlay_path("a", &cluster, "red");
        let within = format!("nsenter --net={}", overlay.display());
        let veth = lab.veth("a", &cluster, "red");
        let r2 = cluster.addresses("r2")[0];
        let damages = [
            format!("{within} ip link del vxlan0"),
            format!("{within} ip link del br0"),
            format!("{within} ip link del {veth}"),
            format!("{within} ip link set vxlan0 nomaster"),
            format!("{within} ip link set vxlan0 down"),
            format!("{within} bridge fdb del {} dev vxlan0 self", cluster.mac("r2")),
            format!("{within} bridge fdb del {} dev vxlan0 master", cluster.mac("r2")),
            format!("{within} bridge fdb add 02:00:00:00:00:77 dev vxlan0 self dst 192.0.2.77"),
            format!("{within} ip neigh del {r2} dev br0"),
            format!("{within} ip neigh add 10.0.1.77 lladdr 02:00:00:00:00:77 dev br0 nud permanent"),
            format!("{within} ip link set vxlan0 type bridge_slave flood on"),
            format!("umount {}", overlay.display()),
            lab.line(&cluster, "r1", "ip link del eth0"),
            lab.line(&cluster, "r1", "ip addr flush dev eth0"),
            lab.line(&cluster, "r1", "nft flush ruleset"),
            lab.line(&cluster, "r1", "nft add rule inet rswarm balance drop"),
        ];
        for damage in damages {
            run(&damage);
            assert!(lab.apply("a", &lab.plan(&cluster, "a")).await > 0, "{damage}: noticed");
            lab.check(&cluster);
            eventually(&damage, SOON, async || lab.pings(&cluster, "r1", &r2)).await;
        }
        lab.apply("a", &NetworkPlan::default()).await;
        assert_eq!(lab.host_links("a"), ["lo", "up0"]);
        for directory in ["netns", "overlay", "vips"] {
            let left = std::fs::read_dir(lab.run_dir("a").join(directory)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{directory}");
        }
        eventually("the UDP port is free", SOON, async || !lab.udp_ports("a").contains(":4789")).await;
        // And the same again, at once: nothing in the kernel is in the way.
        lab.converge(&cluster).await;
        lab.check(&cluster);
    });
}

/// A port that somebody else has is named, with what to do; once it is free the overlay works.
#[test]
fn a_taken_port_is_named() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).endpoint("red", "r1", "a").endpoint("red", "r2", "b");
        let mut thief = lab.spawn(
            "a",
            "import socket,time\ns=socket.socket(type=socket.SOCK_DGRAM)\ns.bind(('',4789))\ntime.sleep(60)",
        );
        eventually("the port is taken", SOON, async || lab.udp_ports("a").contains(":4789")).await;
        let said = lab.failures("a", &lab.plan(&cluster, "a")).await;
        assert!(
            said.len() == 1 && said[0].starts_with("UDP port 4789, which overlay networks need, is taken"),
            "{said:?}"
        );
        thief.kill();
        eventually("the port is free", SOON, async || !lab.udp_ports("a").contains(":4789")).await;
        lab.converge(&cluster).await;
        assert!(lab.pings(&cluster, "r1", &cluster.addresses("r2")[0]));
    });
}

/// P09: a network that gets another subnet: who is there keeps its interface and reaches who comes there, and is reached,
/// also by a virtual address of the new subnet; routes of the container's own stay.
#[test]
fn p_09_a_subnet_is_added_while_endpoints_run() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).endpoint("red", "r1", "a").endpoint("red", "r2", "b");
        lab.converge(&cluster).await;
        let link = || inside(&lab, &cluster, "r1", "ip -j link show eth0")[0]["ifindex"].clone();
        let before = link();
        run(&lab.line(&cluster, "r1", "ip route add 198.51.100.0/24 dev eth0"));
        let six = cluster.addresses("r2")[1].to_string().replace("::", "::99:");
        let added: Vec<IpAddr> = vec![[10, 200, 0, 7].into(), six.parse().expect("address")];
        let (mac, vip) = (MacAddress::for_ipv4([10, 200, 0, 7].into()), IpAddr::from([10, 200, 0, 100]));
        let grown = |host: &str| {
            let mut plan = lab.plan(&cluster, host);
            for overlay in plan.overlays.values_mut() {
                overlay.subnets.insert(1, "10.200.0.0/24".parse().expect("subnet"));
                overlay.services.insert(vip, [added[0]].into());
            }
            plan
        };
        let (mut here, mut there) = (grown("a"), grown("b"));
        let network = *there.overlays.keys().next().expect("one");
        for overlay in here.overlays.values_mut() {
            let remote = overlay.remotes.values().next().expect("one").clone();
            overlay.remotes.insert(mac, Remote { addresses: added.clone(), ..remote });
        }
        let port = OverlayPort { network, addresses: added.clone(), mac };
        let endpoint = EndpointPlan { overlays: vec![port], hostname: "r3".to_owned(), ..EndpointPlan::default() };
        there.endpoints.insert("r3".parse().expect("id"), endpoint);
        lab.apply("b", &there).await;
        assert!(lab.apply("a", &here).await > 0);
        assert!(lab.pings(&cluster, "r1", &added[0]) && lab.pings(&cluster, "r1", &added[1]), "the new one is reached");
        let new = lab.run_dir("b").join("netns/r3");
        for old in ["r1", "r2"] {
            assert!(pings(&new, &cluster.addresses(old)[0].to_string()), "the new one reaches {old}");
        }
        let server =
            format!("import socket;s=socket.create_server(('{}',80));c,_=s.accept();c.sendall(b'new')", added[0]);
        let _server = lab.spawn_in(&new, &server);
        eventually("it listens", SOON, async || {
            run(&format!("nsenter --net={} ss -tln", new.display())).contains(":80 ")
        })
        .await;
        let ask = format!("import socket;print(socket.create_connection(('{vip}',80),3).recv(9))");
        assert!(lab.python(&cluster, "r1", &ask).contains("new"), "by a virtual address of the new subnet");
        assert_eq!(link(), before, "the same interface");
        assert_eq!(inside(&lab, &cluster, "r1", "ip -j route show 198.51.100.0/24")[0]["dev"], "eth0");
        lab.converge(&cluster).await;
        assert_eq!(inside(&lab, &cluster, "r1", "ip -j route show 10.200.0.0/24"), serde_json::json!([]));
    });
}

fn inside(lab: &Lab, cluster: &Cluster, id: &str, line: &str) -> serde_json::Value {
    json(&lab.line(cluster, id, line))
}

/// Fail closed: an encrypted overlay without its TAP has no way out.
#[test]
fn an_encrypted_overlay_without_its_tap_stays_on_the_host() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).endpoint("red", "r1", "a").endpoint("red", "r2", "b").endpoint("red", "r3", "a");
        lab.converge(&cluster).await;
        cluster.encrypt("red");
        lab.converge(&cluster).await;
        assert!(lab.pings(&cluster, "r1", &cluster.addresses("r3")[0]));
        assert!(!lab.pings(&cluster, "r1", &cluster.addresses("r2")[0]));
        let links = json(&format!(
            "nsenter --net={} ip -j link show type vxlan",
            lab.overlay_path("a", &cluster, "red").display()
        ));
        assert_eq!(links, serde_json::json!([]));
    });
}
