//! Overlays under a data plane process: killed, started again, told of changes of the underlay. Real processes.

mod support;

use std::time::Duration;

use overlay::{Client, NetworkPlan, OverlayNamespace};
use support::{lab::*, *};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn netd_process() {
    support::netd_process();
}

fn client() -> Client {
    Client::new(&config("any").socket)
}

async fn has_no_steps(client: &Client, plan: &NetworkPlan) -> bool {
    overlay::diff(plan, &client.observe().await.expect("observe")).is_empty()
}

/// Plans of host `a`, whose address is this namespace's own.
fn here() -> Lab {
    let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
    ip("link add up0 type bridge");
    ip("addr add 192.0.2.1/24 dev up0");
    ip("link set up0 up");
    lab
}

fn cluster(networks: u8, endpoints: u8) -> Cluster {
    let mut cluster = Cluster::default();
    for n in 0..networks {
        let name = format!("n{n}");
        cluster.network(&name, 4097 + u32::from(n));
        for e in 0..endpoints {
            cluster.endpoint(&name, &format!("e{n}.{e}"), if e % 2 == 0 { "a" } else { "b" });
        }
        let (one, two) = (format!("e{n}.0"), format!("e{n}.1"));
        cluster.service(&name, 100, &[&one, &two]);
    }
    cluster
}

/// P29: SIGKILL at some moment of its work, again and again; what comes after converges to the plan.
#[test]
fn killed_at_any_moment_overlays_converge() {
    in_host(|| async {
        let lab = here();
        let client = client();
        for round in 0..16u64 {
            let mut netd = Netd::start("1");
            let before = lab.plan(&cluster(1 + (round % 3) as u8, 4), "a");
            client.apply(&before).await.expect("applied");
            let next = lab.plan(&cluster(3 - (round % 3) as u8, 2 + (round % 4) as u8), "a");
            let (plan, sender) = (next.clone(), client.clone());
            let sending = tokio::spawn(async move { sender.apply(&plan).await });
            tokio::time::sleep(Duration::from_millis(1 + 3 * round)).await;
            netd.kill();
            sending.abort();

            let _netd = Netd::start("1");
            let applied = client.apply(&next).await.expect("applied");
            assert!(applied.is_complete(), "round {round}: {applied:?}");
            assert!(has_no_steps(&client, &next).await, "round {round}");
        }
        let _netd = Netd::start("1");
        assert!(client.apply(&NetworkPlan::default()).await.expect("applied").is_complete());
        for directory in ["netns", "overlay", "vips"] {
            let left = std::fs::read_dir(format!("{RUN_DIR}/{directory}")).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{directory}");
        }
    });
}

/// P08, N-03: a change of the underlay's MTU is noticed and followed; a lost address is said.
#[test]
fn a_change_of_the_underlay_is_followed() {
    in_host(|| async {
        let lab = here();
        let _netd = Netd::start("1");
        let client = client();
        let plan = lab.plan(&cluster(1, 2), "a");
        assert!(client.apply(&plan).await.expect("applied").is_complete());
        let inside = namespace_of("e0.0");
        let mtu = || json(&format!("nsenter --net={} ip -j link show dev eth0", inside.display()))[0]["mtu"].clone();
        assert_eq!(mtu(), 1450);
        ip("link set up0 mtu 1400");
        eventually("the new MTU", SOON, async || mtu() == 1350).await;

        ip("addr del 192.0.2.1/24 dev up0");
        let applied = client.apply(&plan).await.expect("applied");
        let said: Vec<_> = applied.overlays.values().collect();
        // A glance asks for addresses anew.
        assert_eq!(
            said,
            ["no interface of this host has the data path address 192.0.2.1: give it back, or set another"]
        );
        assert_eq!(mtu(), 1350, "nothing is torn down for that");
    });
}

/// Plans that follow each other quickly see their own work; a ruleset changed by a container is noticed.
#[test]
fn quick_plans_and_foreign_rules() {
    in_host(|| async {
        let lab = here();
        let _netd = Netd::start("1");
        let client = client();
        for count in [1, 2, 5, 3, 0, 4] {
            let plan = lab.plan(&cluster(2, count.max(2)), "a");
            let first = client.apply(&plan).await.expect("applied");
            assert!(first.is_complete(), "{count}: {first:?}");
            assert_eq!(client.apply(&plan).await.expect("applied").steps, 0, "{count}");
            assert!(has_no_steps(&client, &plan).await, "{count}: a full look agrees");
        }
        let mut plan = lab.plan(&cluster(1, 4), "a");
        client.apply(&plan).await.expect("applied");
        let within = format!("nsenter --net={}", namespace_of("e0.0").display());
        run(&format!("{within} nft add rule inet rswarm balance drop"));
        // The process has not heard of that; its next change of these rules must not build on them.
        let overlay = plan.overlays.values_mut().next().expect("overlay");
        overlay.services.values_mut().next().expect("service").clear();
        let applied = client.apply(&plan).await.expect("applied");
        assert!(applied.is_complete(), "{applied:?}");
        assert!(!run(&format!("{within} nft list chain inet rswarm balance")).contains("drop"));
        assert!(has_no_steps(&client, &plan).await);
    });
}

/// One more endpoint costs the same with few and with many around it.
#[test]
fn one_change_among_many() {
    in_host(|| async {
        let lab = here();
        let _netd = Netd::start("1");
        let client = client();
        let mut took = Vec::new();
        for (networks, endpoints) in [(2, 4), (40, 4)] {
            let before = lab.plan(&cluster(networks, endpoints), "a");
            let all = client.apply(&before).await.expect("applied");
            assert!(all.is_complete(), "{all:?}");
            client.apply(&before).await.expect("a look after the own work");
            let mut more = cluster(networks, endpoints);
            more.endpoint("n0", "extra", "a");
            let one = client.apply(&lab.plan(&more, "a")).await.expect("applied");
            assert!(one.is_complete(), "{one:?}");
            eprintln!(
                "{networks} networks: all in {} ms, one more endpoint in {} ms",
                all.took_us / 1000,
                one.took_us / 1000
            );
            took.push(one.took_us);
        }
        let left = client.observe().await.expect("observe");
        assert_eq!(left.overlays.values().filter(|o| matches!(o, OverlayNamespace::Alive(_))).count(), 40);
        assert!(took[1] < took[0] * 10, "{took:?}");
    });
}
