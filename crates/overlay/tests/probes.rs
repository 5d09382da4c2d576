//! Probes between data plane processes in namespaces of their own: what is answered, and what is not.

mod support;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use overlay::{
    Client, DataPath, Draining, FullSize, NetworkPlan, OverlayPlan, PeerState, ProbeKey, ProbeSettings, ProbeUpdate,
    Status, Verdict, netd::NetdConfig,
};
use support::*;
use types::{NetworkId, NodeId, ProbePeer};

#[test]
fn netd_process() {
    support::netd_process();
}

const KEY: [u8; 32] = [7; 32];
/// For verdicts whose time is not what the test is about.
const SOON: Duration = Duration::from_secs(4);

fn node(n: u8) -> NodeId {
    NodeId::from_random(u128::from(n))
}

fn address(n: u8) -> IpAddr {
    [10, 1, 0, n].into()
}

/// A host `n` of the test's little world: a namespace with 10.1.0.N on the bridge, and netd in it.
struct Host {
    n: u8,
    _netd: KillAtEnd,
    client: Client,
}

impl Host {
    /// `parent` is a shell that stays the parent of netd and does nothing.
    fn start(n: u8) -> (Self, std::process::Child) {
        ip(&format!("netns add h{n}"));
        ip(&format!("link add v{n} type veth peer name eth0 netns h{n}"));
        ip(&format!("link set v{n} master sw0 up"));
        ip(&format!("-n h{n} addr add 10.1.0.{n}/24 dev eth0"));
        ip(&format!("-n h{n} link set eth0 up"));
        let run_dir = format!("/run/h{n}");
        let line = format!("{} & echo $! > {run_dir}.pid; wait", netd_in_dir_line(&run_dir));
        let mut parent = Command::new("nsenter");
        parent.args([&format!("--net=/run/netns/h{n}"), "/bin/sh", "-c", &line]);
        let parent = parent.stdout(std::process::Stdio::null()).spawn().expect("parent");
        let pid = pid_from(&format!("{run_dir}.pid"));
        let client = Client::new(&NetdConfig::in_dir(&run_dir, "1").socket);
        (Self { n, _netd: KillAtEnd(pid), client }, parent)
    }

    async fn probe(&self, peers: &[u8], key: [u8; 32]) {
        let peers = peers.iter().map(|n| ProbePeer { node: node(*n), address: address(*n) }).collect();
        let probes = Some(ProbeSettings::new(node(self.n), address(self.n), ProbeKey::from(key), peers));
        self.client.apply(&NetworkPlan { probes, ..NetworkPlan::default() }).await.expect("applied");
    }

    async fn status(&self) -> Status {
        self.client.status().await.expect("status")
    }

    async fn peer(&self, n: u8) -> PeerState {
        self.status().await.probes.peers[&node(n)].clone()
    }

    async fn reaches(&self, n: u8, verdict: Verdict, limit: Duration) -> Duration {
        let start = Instant::now();
        eventually(&format!("{verdict:?}"), limit, async || self.peer(n).await.verdict == verdict).await;
        start.elapsed()
    }
}

fn netd_in_dir_line(run_dir: &str) -> String {
    format!("RSWARM_TEST_RUN_DIR={run_dir} {}", netd_shell_line("1").replace("exec ", ""))
}

fn pid_from(path: &str) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(pid) = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()) {
            return pid;
        }
        assert!(Instant::now() < deadline, "no pid in {path}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends the parent shell whatever the test does.
struct Parent(std::process::Child);

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn two_hosts() -> (Host, Host, Parent, Parent) {
    ip("link add sw0 type bridge");
    ip("link set sw0 up");
    let ((a, parent_a), (b, parent_b)) = (Host::start(1), Host::start(2));
    let parents = (Parent(parent_a), Parent(parent_b));
    a.probe(&[2], KEY).await;
    b.probe(&[1], KEY).await;
    a.reaches(2, Verdict::Answered, Duration::from_secs(3)).await;
    b.reaches(1, Verdict::Answered, Duration::from_secs(3)).await;
    (a, b, parents.0, parents.1)
}

/// P05: a host says that it leads nothing to an endpoint on its way out when it has followed the plan that says so.
#[test]
fn p05_an_endpoint_on_its_way_out_hears_who_still_leads_to_it() {
    in_host(|| async {
        let (a, b, _pa, _pb) = two_hosts().await;
        let leaving: IpAddr = [10, 9, 0, 7].into();
        let leads = |backends: &[IpAddr]| {
            let services = BTreeMap::from([([10, 9, 0, 2].into(), backends.iter().copied().collect())]);
            let subnets = vec!["10.9.0.0/24".parse().expect("subnet")];
            let (name, vni, mtu, encrypted) = ("n1".to_owned(), 4097, None, false);
            let (remotes, names, reverse) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            let overlay = OverlayPlan { name, vni, subnets, mtu, encrypted, remotes, services, names, reverse };
            let data_path = DataPath { address: address(2), port: 4789, encryption: None, least_mtu: None };
            let overlays = BTreeMap::from([(NetworkId::from_random(1), overlay)]);
            let probes = Some(ProbeSettings::new(node(2), address(2), ProbeKey::from(KEY), Vec::new()));
            NetworkPlan { probes, data_path: Some(data_path), overlays, ..NetworkPlan::default() }
        };
        b.client.apply(&leads(&[leaving])).await.expect("applied");

        let hosts = [1, 2].map(|n| ProbePeer { node: node(n), address: address(n) }).to_vec();
        let settings = ProbeSettings::new(node(1), address(1), ProbeKey::from(KEY), Vec::new());
        let draining = Draining { addresses: [leaving].into(), hosts };
        let probes = Some(ProbeSettings { draining, ..settings });
        a.client.apply(&NetworkPlan { probes, ..NetworkPlan::default() }).await.expect("applied");
        let led_by = |nodes: &[u8]| BTreeMap::from([(leaving, nodes.iter().map(|n| node(*n)).collect())]);
        eventually("b alone leads there", SOON, async || a.status().await.probes.led == led_by(&[2])).await;
        b.client.apply(&leads(&[])).await.expect("applied");
        eventually("nobody leads there", SOON, async || a.status().await.probes.led == led_by(&[])).await;
    });
}

#[test]
fn answered_then_cut_then_answered_again() {
    in_host(|| async {
        let (a, b, _parent_a, _parent_b) = two_hosts().await;
        eventually("each knows that the other hears it", Duration::from_secs(3), async || {
            a.peer(2).await.hears_us == Some(true) && b.peer(1).await.hears_us == Some(true)
        })
        .await;
        let full = Duration::from_secs(3);
        eventually("full size", full, async || a.peer(2).await.full_size == FullSize::Ok { bytes: 1500 }).await;
        let rtt = a.peer(2).await.rtt_us.expect("measured");
        ip("link set v2 down");
        let cut = a.reaches(2, Verdict::Unanswered, Duration::from_millis(1500)).await;
        b.reaches(1, Verdict::Unanswered, Duration::from_millis(1500)).await;
        ip("link set v2 up");
        let back = a.reaches(2, Verdict::Answered, Duration::from_secs(3)).await;
        eprintln!("round trip {rtt} us; unanswered {cut:?} after the cut, answered {back:?} after the heal");
    });
}

#[test]
fn a_stopped_parent_does_not_matter_and_a_stopped_netd_does() {
    in_host(|| async {
        let (a, b, _parent_a, parent_b) = two_hosts().await;
        let updates = tokio::spawn({
            let mut stream = a.client.subscribe_probes();
            async move {
                let ProbeUpdate::Whole(whole) = stream.next().await else { panic!("the whole comes first") };
                assert_eq!(whole.len(), 1);
                loop {
                    let ProbeUpdate::Changed { upsert, .. } = stream.next().await else { panic!("connected anew") };
                    if upsert[0].verdict == Verdict::Unanswered {
                        return upsert[0].clone();
                    }
                }
            }
        });
        let signal =
            |pid: u32, signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).expect("signal");
        signal(parent_b.0.id(), Signal::SIGSTOP);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(a.peer(2).await.verdict, Verdict::Answered);
        assert!(!updates.is_finished());
        signal(parent_b.0.id(), Signal::SIGCONT);

        signal(b._netd.0, Signal::SIGSTOP);
        a.reaches(2, Verdict::Unanswered, SOON).await;
        let told = updates.await.expect("told");
        assert_eq!(told.last_error.as_deref(), Some("no answer to the last 4 probes"));
        signal(b._netd.0, Signal::SIGCONT);
        a.reaches(2, Verdict::Answered, Duration::from_secs(2)).await;

        signal(b._netd.0, Signal::SIGKILL);
        a.reaches(2, Verdict::Unanswered, SOON).await;
        let error = a.peer(2).await.last_error.expect("said");
        assert_eq!(error, "10.1.0.2 is up, but nothing answers on UDP port 7946 there");
    });
}

#[test]
fn without_the_key_nobody_is_answered_or_believed() {
    in_host(|| async {
        let (a, b, _parent_a, _parent_b) = two_hosts().await;
        b.probe(&[1], [8; 32]).await;
        a.reaches(2, Verdict::Unanswered, SOON).await;
        let counters = b.status().await.probes.counters;
        assert!(counters.bad_mac > 0, "{counters:?}");
        // Junk of many sizes gets no reply at all.
        let before = b.status().await.probes.counters;
        let junk = "
import os, socket
replies = 0
for size in (1, 95, 96, 97, 1400):
    s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(0.2); s.sendto(os.urandom(size), ('10.1.0.2', 7946))
    try: replies += len(s.recv(2000))
    except TimeoutError: pass
print(replies)
";
        let junk = ["--net=/run/netns/h1", "python3", "-c", junk];
        let output = Command::new("nsenter").args(junk).output().expect("python");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
        assert!(b.status().await.probes.counters.malformed >= before.malformed + 5);
        b.probe(&[1], KEY).await;
        a.reaches(2, Verdict::Answered, Duration::from_secs(2)).await;
    });
}

#[test]
fn forged_and_reflected_answers_are_ignored() {
    in_host(|| async {
        let (a, b, _parent_a, _parent_b) = two_hosts().await;
        b.client.apply(&NetworkPlan::default()).await.expect("applied");
        a.reaches(2, Verdict::Unanswered, SOON).await;
        let before = a.status().await.probes.counters;
        // Instead of netd somebody without the key: sends each question back as it is, and as an "answer".
        let forger = std::thread::spawn(|| {
            let namespace = std::fs::File::open("/run/netns/h2").expect("namespace");
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter");
            let socket = std::net::UdpSocket::bind("10.1.0.2:7946").expect("bind");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
            let mut buffer = [0; 2048];
            for _ in 0..8 {
                let (length, from) = socket.recv_from(&mut buffer).expect("a question");
                socket.send_to(&buffer[..length], from).expect("reflect");
                buffer[5] = 2;
                socket.send_to(&buffer[..length], from).expect("forge");
            }
        });
        eventually("the forger is done", Duration::from_secs(5), async || forger.is_finished()).await;
        forger.join().expect("the forger worked");
        let after = a.status().await.probes.counters;
        assert_eq!(a.peer(2).await.verdict, Verdict::Unanswered);
        assert!(after.bad_mac >= before.bad_mac + 7, "{after:?}");
        assert!(after.malformed >= before.malformed + 7, "{after:?}");
    });
}

#[test]
fn another_host_on_a_reused_address_does_not_count() {
    in_host(|| async {
        let (a, b, _parent_a, _parent_b) = two_hosts().await;
        let stranger = ProbeSettings::new(node(9), address(2), ProbeKey::from(KEY), Vec::new());
        b.client.apply(&NetworkPlan { probes: Some(stranger), ..NetworkPlan::default() }).await.expect("applied");
        a.reaches(2, Verdict::Unanswered, SOON).await;
        let error = a.peer(2).await.last_error.expect("said");
        assert_eq!(error, format!("10.1.0.2 answers as node {}", node(9)));
        assert!(b.status().await.probes.counters.wrong_target > 0);
    });
}

#[test]
fn a_path_that_swallows_large_packets_is_told_apart() {
    in_host(|| async {
        let (a, _b, _parent_a, _parent_b) = two_hosts().await;
        // A black hole: the bridge's port towards b has a smaller MTU, and a bridge tells nobody.
        let ok = Duration::from_secs(3);
        eventually("full size", ok, async || a.peer(2).await.full_size == FullSize::Ok { bytes: 1500 }).await;
        ip("link set v2 mtu 1400");
        let limit = Duration::from_secs(16);
        eventually("full size fails", limit, async || {
            matches!(a.peer(2).await.full_size, FullSize::Failed { bytes: 1500, .. })
        })
        .await;
        let peer = a.peer(2).await;
        assert_eq!(peer.verdict, Verdict::Answered, "small packets pass: {peer:?}");
        assert!(
            matches!(peer.full_size, FullSize::Failed { reason, .. } if reason.starts_with("small packets pass, 3 of 1500"))
        );
    });
}

#[test]
fn one_direction_blocked_is_seen_from_both_sides() {
    in_host(|| async {
        let (a, b, _parent_a, _parent_b) = two_hosts().await;
        // b drops questions from a; b's own questions and a's answers to them pass.
        std::fs::write(
            "/run/rules.nft",
            "table inet cut {\nchain in {\ntype filter hook input priority 0;\nudp dport 7946 drop\n}\n}\n",
        )
        .expect("rules");
        run("nsenter --net=/run/netns/h2 nft -f /run/rules.nft");
        a.reaches(2, Verdict::Unanswered, SOON).await;
        assert_eq!(b.peer(1).await.verdict, Verdict::Answered);
        eventually("b knows that a does not hear it", Duration::from_secs(1), async || {
            b.peer(1).await.hears_us == Some(false)
        })
        .await;
        assert_eq!(a.peer(2).await.hears_us, Some(true), "and a that b hears it");
    });
}

#[test]
fn an_ipv6_underlay_is_probed_the_same() {
    in_host(|| async {
        let (a, b, _parent_a, _parent_b) = two_hosts().await;
        let six = |n: u8| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)]);
        for (host, other) in [(&a, 2), (&b, 1)] {
            ip(&format!("-n h{} addr add {}/64 dev eth0 nodad", host.n, six(host.n)));
            let peers = vec![ProbePeer { node: node(other), address: six(other) }];
            let probes = Some(ProbeSettings::new(node(host.n), six(host.n), ProbeKey::from(KEY), peers));
            host.client.apply(&NetworkPlan { probes, ..NetworkPlan::default() }).await.expect("applied");
        }
        let limit = Duration::from_secs(5);
        a.reaches(2, Verdict::Answered, limit).await;
        eventually("full size", limit, async || a.peer(2).await.full_size == FullSize::Ok { bytes: 1500 }).await;
        assert_eq!(a.peer(2).await.address, six(2));
    });
}

#[test]
fn an_address_that_comes_late_is_waited_for() {
    in_host(|| async {
        let (a, b, _parent_a, _parent_b) = two_hosts().await;
        b.client.apply(&NetworkPlan::default()).await.expect("applied");
        ip("-n h2 addr del 10.1.0.2/24 dev eth0");
        b.probe(&[1], KEY).await;
        let limit = Duration::from_secs(2);
        eventually("it says why", limit, async || b.status().await.probes.responder_error.is_some()).await;
        let error = b.status().await.probes.responder_error.expect("said");
        assert!(error.starts_with("cannot answer probes on UDP 10.1.0.2:7946: Cannot assign"), "{error}");
        ip("-n h2 addr add 10.1.0.2/24 dev eth0");
        eventually("it answers", limit, async || b.status().await.probes.responder_error.is_none()).await;
        a.reaches(2, Verdict::Answered, limit).await;
    });
}
