//! The data plane process: converges, survives, is adopted and replaced. Real processes, signals and kernel.

mod support;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use overlay::{
    Client, EndpointResult, NetworkPlan,
    netd::{Launch, Running, ensure_running},
};
use support::*;

#[test]
fn netd_process() {
    support::netd_process();
}

const SOON: Duration = Duration::from_secs(5);

fn client() -> Client {
    Client::new(&config("any").socket)
}

async fn has_no_steps(client: &Client, plan: &NetworkPlan) -> bool {
    overlay::diff(plan, &client.observe().await.expect("observe")).is_empty()
}

#[test]
fn a_plan_is_applied_once_and_reported_per_endpoint() {
    in_host(|| async {
        let _netd = Netd::start("1");
        let client = client();
        let mut plan = plan(&[("a", [0, 2]), ("b", [0, 3]), ("twin", [0, 3])]);
        let applied = client.apply(&plan).await.expect("applied");
        assert_eq!(applied.errors, Vec::<String>::new());
        assert_eq!(applied.notes, ["turned on IPv4 forwarding on this host (net.ipv4.ip_forward=1)"]);
        let result = |id: &str| applied.endpoints[&id.parse().expect("id")].clone();
        assert_eq!(result("a"), EndpointResult::Ready { namespace: namespace_of("a") });
        assert_eq!(
            result("twin"),
            EndpointResult::Failed { error: "address 172.17.0.3 is another endpoint's".to_owned() }
        );
        assert!(pings(&namespace_of("a"), "172.17.0.3"));

        plan.endpoints.remove(&"twin".parse().expect("id"));
        let again = client.apply(&plan).await.expect("applied");
        assert_eq!((again.steps, again.is_complete()), (0, true));
        let mode = run("stat -c %a /run/rswarm/netd.sock /run/rswarm/plan.json");
        assert_eq!(mode, "600\n600\n");
    });
}

#[test]
fn plans_that_follow_each_other_quickly_see_their_own_work() {
    in_host(|| async {
        let _netd = Netd::start("1");
        let client = client();
        let ids: [(&str, [u8; 2]); 4] = [("a", [0, 2]), ("b", [0, 3]), ("c", [0, 4]), ("d", [0, 5])];
        let mut slowest = 0;
        for count in [1, 2, 3, 4, 3, 4, 1, 0, 4] {
            let wanted = plan(&ids[..count]);
            let first = client.apply(&wanted).await.expect("applied");
            assert!(first.is_complete(), "{first:?}");
            let again = client.apply(&wanted).await.expect("applied");
            assert_eq!(again.steps, 0, "{count}: {again:?}");
            assert!(has_no_steps(&client, &wanted).await, "a full look agrees");
            slowest = slowest.max(again.took_us);
        }
        eprintln!("a plan that changes nothing takes at most {slowest} us");
        assert!(pings(&namespace_of("a"), "172.17.0.5"));
    });
}

/// P36: only what is new is sent, and whoever was not heard last begins with the whole.
#[test]
fn p36_two_who_take_turns_and_a_new_process_get_what_they_ask_for() {
    in_host(|| async {
        let mut netd = Netd::start("1");
        let (one, other) = (client(), client());
        for round in 0..6 {
            let (asks, ids) = [(&one, [("a", [0, 2])]), (&other, [("b", [0, 3])])][round % 2];
            let mut wanted = plan(&ids);
            assert!(asks.apply(&wanted).await.expect("applied").is_complete(), "round {round}");
            assert_eq!(asks.plan().await.expect("held"), Some(wanted.clone()), "round {round}");
            wanted.endpoints.values_mut().for_each(|endpoint| endpoint.hostname = format!("round{round}"));
            assert!(asks.apply(&wanted).await.expect("applied").is_complete(), "round {round}");
            assert_eq!(asks.plan().await.expect("held"), Some(wanted.clone()), "round {round}");
            assert!(has_no_steps(asks, &wanted).await, "round {round}");
            if round == 3 {
                // It writes soon, not at once.
                let file = Path::new(RUN_DIR).join("plan.json");
                let is_written = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("round3"));
                let begin = Instant::now();
                while !is_written() && begin.elapsed() < SOON {
                    std::thread::sleep(Duration::from_millis(5));
                }
                netd.kill();
                netd = Netd::start("1");
                assert_eq!(asks.plan().await.expect("held"), Some(wanted), "the file has the changes too");
            }
        }
    });
}

#[test]
fn a_senseless_plan_is_refused_and_changes_nothing() {
    in_host(|| async {
        let _netd = Netd::start("1");
        let client = client();
        let good = plan(&[("a", [0, 2])]);
        assert!(client.apply(&good).await.expect("applied").is_complete());
        let mut bad = good.clone();
        bad.bridge.as_mut().expect("bridge").gateway = [10, 0, 0, 1].into();
        let error = client.apply(&bad).await.expect_err("refused").to_string();
        assert!(error.ends_with("the gateway 10.0.0.1 is not a host address of the subnet 172.17.0.0/16"), "{error}");
        assert!(has_no_steps(&client, &good).await);
    });
}

#[test]
fn killed_at_any_moment_it_converges_when_started_again() {
    in_host(|| async {
        let client = client();
        let names: Vec<String> = (0..12).map(|n| format!("task{n}")).collect();
        let ids: Vec<(&str, [u8; 2])> = names.iter().zip(10..).map(|(name, n)| (name.as_str(), [0, n])).collect();
        for round in 0..12u64 {
            let mut netd = Netd::start("1");
            client.apply(&plan(&ids[..6])).await.expect("applied");
            // Another plan, and a SIGKILL at some moment of its work.
            let (next, sender) = (plan(&ids[3 + round as usize % 3..]), client.clone());
            let wanted = next.clone();
            let sending = tokio::spawn(async move { sender.apply(&next).await });
            tokio::time::sleep(Duration::from_millis(4 + 3 * round)).await;
            netd.kill();
            sending.abort();

            let _netd = Netd::start("1");
            // By itself it converges to the plan it kept, whichever that is, before anybody asks.
            eventually("the kept plan stands", SOON, async || {
                let text = std::fs::read("/run/rswarm/plan.json").expect("kept plan");
                let kept: NetworkPlan = serde_json::from_slice(&text).expect("kept plan");
                client.observe().await.is_ok_and(|observed| overlay::diff(&kept, &observed).is_empty())
            })
            .await;
            let applied = client.apply(&wanted).await.expect("applied");
            assert!(applied.is_complete(), "round {round}: {applied:?}");
            assert!(has_no_steps(&client, &wanted).await, "round {round}");
        }
        let namespaces = std::fs::read_dir("/run/rswarm/netns").expect("directory").count();
        let veths = json("ip -j link show type veth").as_array().expect("list").len();
        assert_eq!(namespaces, veths, "exactly one interface for each endpoint");
    });
}

#[test]
fn what_somebody_breaks_is_repaired_within_two_seconds() {
    in_host(|| async {
        let _netd = Netd::start("1");
        let client = client();
        let plan = plan(&[("a", [0, 2])]);
        client.apply(&plan).await.expect("applied");
        for damage in ["nft flush ruleset", "ip link del rswarm0", "nft delete table inet rswarm"] {
            run(damage);
            let start = Instant::now();
            eventually(damage, Duration::from_secs(2), async || has_no_steps(&client, &plan).await).await;
            eprintln!("{damage}: repaired after {:?}", start.elapsed());
        }
        assert!(pings(&namespace_of("a"), "172.17.0.1"));
    });
}

#[test]
fn the_process_outlives_the_daemon_is_adopted_and_replaced() {
    in_host(|| async {
        let launch = |version: &str| Launch {
            exe: "/bin/sh".into(),
            args: vec!["-c".into(), netd_shell_line(version).into()],
            config: config(version),
        };
        let Running::Started(first) = ensure_running(&launch("1")).await.expect("started") else {
            panic!("not started")
        };
        let _first = KillAtEnd(first.pid);
        let plan = plan(&[("a", [0, 2])]);
        client().apply(&plan).await.expect("applied");
        assert_eq!(ensure_running(&launch("1")).await.expect("adopted"), Running::Adopted(first.clone()));
        let session = run(&format!("ps -o sid= -p {}", first.pid));
        assert_eq!(session.trim(), first.pid.to_string(), "a session of its own");

        let Running::Replaced(second) = ensure_running(&launch("2")).await.expect("replaced") else {
            panic!("not replaced")
        };
        let _second = KillAtEnd(second.pid);
        assert_eq!(second.version, "2");
        assert!(!Path::new(&format!("/proc/{}", first.pid)).exists() || has_state(first.pid, 'Z'));
        assert!(has_no_steps(&client(), &plan).await, "the network stayed");

        // One that hangs is replaced as well.
        run(&format!("kill -STOP {}", second.pid));
        eventually("it stands still", SOON, async || has_state(second.pid, 'T')).await;
        let Running::Replaced(third) = ensure_running(&launch("2")).await.expect("replaced") else {
            panic!("not replaced")
        };
        let _third = KillAtEnd(third.pid);
        client().shutdown().await.expect("shut down");
        eventually("the socket is gone", SOON, async || !config("2").socket.exists()).await;
        assert!(pings(&namespace_of("a"), "172.17.0.1"), "the network stays without any process");
    });
}

fn has_state(pid: u32, state: char) -> bool {
    let wanted = format!(") {state} ");
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(&wanted))
}

#[test]
fn a_second_process_is_refused() {
    in_host(|| async {
        let _netd = Netd::start("1");
        client().apply(&NetworkPlan::default()).await.expect("applied");
        let mut second = Command::new("/bin/sh");
        let output = second.args(["-c", &netd_shell_line("2")]).output().expect("runs");
        assert!(!output.status.success());
        assert_eq!(client().hello().await.expect("the first serves on").version, "1");
    });
}

#[test]
fn one_that_cannot_start_says_so() {
    in_host(|| async {
        let launch = Launch { exe: "/bin/false".into(), args: Vec::new(), config: config("1") };
        let error = ensure_running(&launch).await.expect_err("it ends at once").to_string();
        assert!(error.starts_with("the data plane process ended at once (exit status: 1)"), "{error}");
        let error = client().status().await.expect_err("nobody answers").to_string();
        assert_eq!(error, "no data plane process answers on /run/rswarm/netd.sock: is the daemon running?");
    });
}

#[test]
fn garbage_on_the_socket_hurts_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    in_host(|| async {
        let _netd = Netd::start("1");
        client().apply(&NetworkPlan::default()).await.expect("applied");
        for garbage in [&b"\0\0\0\x02{}"[..], b"\xff\xff\xff\xff", b"\0\0\0\x10short", b""] {
            let mut stream = tokio::net::UnixStream::connect(config("1").socket).await.expect("connect");
            stream.write_all(garbage).await.expect("write");
            stream.shutdown().await.expect("hang up");
            let mut answer = Vec::new();
            // A reset is an answer too.
            let _ = stream.read_to_end(&mut answer).await;
        }
        assert!(client().status().await.is_ok());
    });
}
