//! The routing mesh under data plane processes: encrypted, flushed by strangers, killed, changed under connections.

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::IpAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use overlay::{MacAddress, NetworkPlan, Remote};
use types::PortProtocol;

use support::{daemons::*, eventually, in_host, ingress::*, json, lab::Program, run};

const BOTH: [PortProtocol; 2] = [PortProtocol::Tcp, PortProtocol::Udp];
const SOON: Duration = Duration::from_secs(5);

#[test]
fn netd_process() {
    support::netd_process();
}

/// A program on the outsider, and what it prints. It goes on whenever it is told a line.
struct Talk {
    program: Program,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn start(code: &str) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["--net=/run/netns/x", "python3", "-u", "-c", code]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child: Child = command.spawn().expect("client");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { program: Program(child), output }
    }

    /// A connection `c` and the backend that it got; then what `then` does with it.
    fn connect(to: IpAddr, port: u16, then: &str) -> (Self, String) {
        let code = format!(
            "
import socket, sys
c = socket.create_connection(('{to}', {port}), 5); c.settimeout(20)
print(c.recv(200).decode().split()[0])
{then}
"
        );
        let mut talk = Self::start(&code);
        let backend = talk.line();
        (talk, backend)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }

    fn go_on(&mut self) {
        self.program.0.stdin.as_mut().expect("piped").write_all(b"\n").expect("go on");
    }
}

const ECHO: &str = "
while sys.stdin.readline():
    try: c.sendall(b'still'); print(c.recv(9).decode())
    except OSError as e: print(type(e).__name__)";

/// P01, N-04: an ingress network whose packets between hosts are encrypted: the same as with a plain one.
#[test]
fn p01_an_encrypted_ingress_network() {
    in_host(|| async {
        let backends = [("w1", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports.extend(BOTH.map(|protocol| publish(protocol, 8080, 80, &["w1"])));
        let daemons = ["a", "b"].map(Daemon::start);
        for daemon in &daemons {
            daemon.apply(&encrypted(&ingress, daemon, &daemons)).await;
        }
        let _servers = ingress.serve(&backends).await;
        assert!(!run("nsenter --net=/run/netns/a ss -Huln").contains(":4789"), "no VXLAN in clear");
        for host in ["a", "b"] {
            for (family, to) in ingress.addresses(host).into_iter().enumerate() {
                let own = ingress.addresses("x")[family];
                for protocol in BOTH {
                    let heard = ingress.ask("x", protocol, (to, 8080), 1);
                    assert_eq!(heard, [format!("w1 {own}")], "{protocol:?} to {to}");
                }
            }
        }
    });
}

/// P14: after a `flush ruleset` the rules are back within 2 s and once, the strangers' as they left them; a stranger's change of his
/// own table loads nothing of ours. What the operator drops is closed, and his table is his.
#[test]
fn p14_strangers_and_the_operator() {
    in_host(|| async {
        let backends = [("w1", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        for n in 0..20 {
            ingress.ports.push(publish(PortProtocol::Tcp, 8080 + n, 80, &["w1"]));
        }
        let daemons = ["a", "b"].map(Daemon::start);
        for daemon in &daemons {
            daemon.apply(&ingress.plan(&daemon.host)).await;
        }
        let _servers = ingress.serve(&backends).await;
        let to = ingress.addresses("a")[0];
        let opens = |port| ingress.ask("x", PortProtocol::Tcp, (to, port), 1)[0].starts_with("w1 ");
        let on = |line: &str| run(&format!("nsenter --net=/run/netns/a {line}"));
        // The kernel gives a new number to each rule that is loaded.
        let handles = || {
            let listed = json("nsenter --net=/run/netns/a nft -j list table inet rswarm-ports");
            let items = listed["nftables"].as_array().expect("list").iter();
            items.filter_map(|item| item["rule"]["handle"].as_u64()).collect::<Vec<_>>()
        };
        assert!(opens(8080) && opens(8099));
        on("nft add table inet foreign");
        on("nft add chain inet foreign mine { type filter hook input priority 0 ; }");
        let (own, foreign) = (handles(), on("nft list table inet foreign"));
        on("nft add rule inet foreign mine counter");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(handles(), own, "nothing was loaded again");

        let start = Instant::now();
        on("nft flush ruleset");
        eventually("all rules are back", SOON, async || opens(8080) && opens(8099)).await;
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let healed = handles();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(handles(), healed, "once");
        assert!(!on("nft list tables").contains("foreign"));
        on("nft add table inet foreign");
        on("nft add chain inet foreign mine { type filter hook input priority 0 ; }");
        assert_eq!(on("nft list table inet foreign"), foreign);
        on("nft delete element inet rswarm-ports ports { tcp . 8081 }");
        on("nft flush chain inet rswarm-ports by-address");
        eventually("what was taken out is back", SOON, async || opens(8081)).await;

        on("nft add rule inet rswarm-user prerouting tcp dport 8080 drop");
        assert!(!opens(8080) && opens(8081));
        let operators = on("nft list table inet rswarm-user");
        ingress.ports.truncate(2);
        daemons[0].apply(&ingress.plan("a")).await;
        daemons[0].apply(&NetworkPlan::default()).await;
        assert_eq!(on("nft list table inet rswarm-user"), operators, "it is the operator's");
        on("nft flush chain inet rswarm-user prerouting");
        on("nft delete table inet foreign");
        daemons[0].apply(&ingress.plan("a")).await;
        daemons[0].apply(&NetworkPlan::default()).await;
        assert_eq!(on("nft list ruleset"), "", "nothing is left");
        for line in ["ip -br link show type veth", "ip -4 neigh show nud permanent", "ip -6 neigh show nud permanent"] {
            let left = on(line);
            assert!(left.lines().all(|line| line.contains("up0")), "{line}: {left}");
        }
    });
}

/// P29, P44: netd is killed and started again under an open connection, which goes on; the second start finds nothing to do. In
/// whatever moment of its work it is killed, the next one converges.
#[test]
fn p29_killed_and_started_again() {
    in_host(|| async {
        let backends = [("w1", "b"), ("w2", "a")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports.push(publish(PortProtocol::Tcp, 8080, 80, &["w1", "w2"]));
        let mut daemons = ["a", "b"].map(Daemon::start);
        for daemon in &daemons {
            daemon.apply(&ingress.plan(&daemon.host)).await;
        }
        let _servers = ingress.serve(&backends).await;
        let (mut talk, _) = Talk::connect(ingress.addresses("a")[0], 8080, ECHO);
        for _ in 0..2 {
            daemons.iter_mut().for_each(Daemon::kill);
            talk.go_on();
            assert_eq!(talk.line(), "still", "without netd");
            daemons.iter_mut().for_each(Daemon::resume);
            for daemon in &daemons {
                assert_eq!(daemon.apply(&ingress.plan(&daemon.host)).await, 0, "{}: nothing to do", daemon.host);
            }
            talk.go_on();
            assert_eq!(talk.line(), "still");
        }
        let (plan, nothing) = (ingress.plan("a"), NetworkPlan::default());
        for round in 0..12u64 {
            let [daemon, _] = &mut daemons;
            let (before, next) = if round % 2 == 0 { (&plan, &nothing) } else { (&nothing, &plan) };
            daemon.apply(before).await;
            let (sender, sent) = (daemon.client.clone(), next.clone());
            let sending = tokio::spawn(async move { sender.apply(&sent).await });
            tokio::time::sleep(Duration::from_millis(2 + 6 * round)).await;
            daemon.kill();
            sending.abort();
            daemon.resume();
            daemon.apply(next).await;
            let left = overlay::diff(next, &daemon.client.observe().await.expect("observe"));
            assert_eq!(left, [], "round {round}");
        }
    });
}

/// The plan of a host to which an endpoint is gone.
fn without(mut plan: NetworkPlan, gone: MacAddress) -> (NetworkPlan, Option<Remote>) {
    let remote = plan.overlays.values_mut().find_map(|overlay| overlay.remotes.remove(&gone));
    (plan, remote)
}

/// P05, P10, P37: a backend that takes no new connections keeps its old ones; when it is gone, a client that waits in
/// silence hears of it within a second, and datagrams find another backend. Its port leads to another one the next time: of what
/// ended nothing is left.
#[test]
fn p10_draining_keeps_connections_and_death_ends_them() {
    in_host(|| async {
        let backends = [("w1", "b"), ("w2", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports.extend(BOTH.map(|protocol| publish(protocol, 8080, 80, &["w1", "w2"])));
        let all = ingress.ports.clone();
        let daemons = ["a", "b"].map(Daemon::start);
        for daemon in &daemons {
            daemon.apply(&ingress.plan(&daemon.host)).await;
        }
        let _servers = ingress.serve(&backends).await;
        for to in ingress.addresses("a") {
            ingress.ports = all.clone();
            daemons[0].apply(&ingress.plan("a")).await;
            let wait = "
sys.stdin.readline(); c.sendall(b'still'); print(c.recv(9).decode())
own = c.getsockname()
try: print(c.recv(9))
except OSError as e: print(type(e).__name__)
c.close()
import time; time.sleep(.2)
again = socket.socket(c.family); again.settimeout(5)
again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
again.bind(own); again.connect((to, 8080))
print(again.recv(200).decode().split()[0])";
            let (mut talk, backend) = Talk::connect(to, 8080, &format!("to = '{to}'{wait}"));
            let datagrams = format!(
                "
import socket, sys
u = socket.socket(socket.{}, socket.SOCK_DGRAM); u.settimeout(2); u.connect(('{to}', 8080))
while True:
    try: u.send(b'x'); print(u.recv(99).decode().split()[0])
    except OSError as e: print(type(e).__name__)
    sys.stdin.readline()",
                if to.is_ipv4() { "AF_INET" } else { "AF_INET6" }
            );
            let mut asking = [Talk::start(&datagrams), Talk::start(&datagrams)];
            let mut first: Vec<String> = asking.iter_mut().map(Talk::line).collect();
            first.sort();
            assert_eq!(first, ["w1", "w2"], "one each");

            let other = if backend == "w1" { "w2" } else { "w1" };
            ingress.ports.iter_mut().for_each(|port| port.backends.retain(|(id, _)| id == other));
            daemons[0].apply(&ingress.plan("a")).await;
            let heard = ingress.ask("x", PortProtocol::Tcp, (to, 8080), 10);
            assert!(heard.iter().all(|line| line.starts_with(other)), "{heard:?}");
            talk.go_on();
            assert_eq!(talk.line(), "still", "{to}: draining");

            let start = Instant::now();
            let (plan, remote) = without(ingress.plan("a"), ingress.cluster.mac(&backend));
            assert!(remote.is_some());
            daemons[0].apply(&plan).await;
            let mut rest = String::new();
            talk.output.read_to_string(&mut rest).expect("the client ends");
            assert_eq!(rest, format!("ConnectionResetError\n{other}\n"), "{to}");
            assert!(start.elapsed() < Duration::from_secs(1), "{to}: {:?}", start.elapsed());
            for asking in &mut asking {
                asking.go_on();
                assert_eq!(asking.line(), other, "{to}: datagrams");
            }
        }
    });
}

/// P05: who has had no answer yet when the backend is gone is led to another one by the next attempt of his own kernel.
#[test]
fn p05_an_attempt_goes_on_elsewhere() {
    in_host(|| async {
        let backends = [("w1", "b"), ("w2", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports.push(publish(PortProtocol::Tcp, 8080, 80, &["w1"]));
        let daemons = ["a", "b"].map(Daemon::start);
        for daemon in &daemons {
            daemon.apply(&ingress.plan(&daemon.host)).await;
        }
        let _servers = ingress.serve(&backends).await;
        let silent = "
import subprocess
table = 'table inet silent { chain input { type filter hook input priority 0; policy drop; }; }'
print(subprocess.run(['nft', table]).returncode)";
        assert_eq!(ingress.lab.python(&ingress.cluster, "w1", silent), "0");
        for (family, to) in ingress.addresses("a").into_iter().enumerate() {
            ingress.ports = vec![publish(PortProtocol::Tcp, 8080, 80, &["w1"])];
            daemons[0].apply(&ingress.plan("a")).await;
            let code = format!(
                "
import socket
s = socket.socket(socket.{}); s.settimeout(20); print('goes', flush=True)
s.connect(('{to}', 8080)); print(s.recv(200).decode().split()[0])",
                ["AF_INET", "AF_INET6"][family]
            );
            let mut talk = Talk::start(&code);
            assert_eq!(talk.line(), "goes");
            eventually("the kernel remembers the attempt", Duration::from_secs(5), async || {
                let known = run("nsenter --net=/run/netns/a cat /proc/net/nf_conntrack");
                known.lines().any(|line| line.contains("SYN_SENT") && line.contains("dport=8080"))
            })
            .await;
            ingress.ports[0].backends = publish(PortProtocol::Tcp, 8080, 80, &["w2"]).backends;
            let (plan, remote) = without(ingress.plan("a"), ingress.cluster.mac("w1"));
            assert!(remote.is_some());
            daemons[0].apply(&plan).await;
            assert_eq!(talk.line(), "w2", "{to}");
        }
    });
}

/// P37: datagrams that flowed before their port was published reach the backend once it is.
#[test]
fn p37_older_flows_of_datagrams_are_led_to_a_new_port() {
    in_host(|| async {
        let backends = [("w1", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports.push(publish(PortProtocol::Tcp, 80, 80, &["w1"]));
        let daemons = ["a", "b"].map(Daemon::start);
        for daemon in &daemons {
            daemon.apply(&ingress.plan(&daemon.host)).await;
        }
        let _servers = ingress.serve(&backends).await;
        for (published, to) in (514..).zip(ingress.addresses("a")) {
            // Somebody takes them, so there is a flow.
            let _sink = ingress.lab.spawn("a", &format!("import socket, time; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', {published})); time.sleep(60)"));
            let listens = format!("nsenter --net=/run/netns/a ss -Hlun sport = :{published}");
            eventually("somebody listens", SOON, async || !run(&listens).is_empty()).await;
            let code = format!(
                "
import socket, time
u = socket.socket(socket.{}, socket.SOCK_DGRAM); u.settimeout(.1); u.connect(('{to}', {published}))
print('begun')
end = time.time() + 20
while time.time() < end:
    try: u.send(b'x'); print(u.recv(99).decode().split()[0]); break
    except OSError: time.sleep(.02)",
                if to.is_ipv4() { "AF_INET" } else { "AF_INET6" }
            );
            let mut talk = Talk::start(&code);
            assert_eq!(talk.line(), "begun");
            tokio::time::sleep(Duration::from_millis(300)).await;
            ingress.ports.push(publish(PortProtocol::Udp, published, 80, &["w1"]));
            daemons[0].apply(&ingress.plan("a")).await;
            let start = Instant::now();
            assert_eq!(talk.line(), "w1", "{to}");
            assert!(start.elapsed() < Duration::from_secs(1), "{to}: {:?}", start.elapsed());
        }
    });
}

/// P36: what is loaded for one change, without the `nft` program, is rule for rule what that makes of the same plan: of backends that
/// come and go, with and without a port of their own, of both families, and of ports that come and go.
#[test]
fn p36_a_change_is_loaded_as_nft_would_load_it() {
    in_host(|| async {
        let backends = [("w1", "b"), ("w2", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        let (tcp, udp) = (PortProtocol::Tcp, PortProtocol::Udp);
        ingress.ports =
            vec![publish(tcp, 8080, 80, &["w1"]), publish(tcp, 80, 80, &["w1"]), publish(tcp, 9000, 80, &[])];
        let daemons = ["a", "b"].map(Daemon::start);
        for daemon in &daemons {
            daemon.apply(&ingress.plan(&daemon.host)).await;
        }
        let _servers = ingress.serve(&backends).await;
        assert_eq!(daemons[0].apply(&ingress.plan("a")).await, 0);
        let listing = || sorted(json("nsenter --net=/run/netns/a nft -j list table inet rswarm-ports"));
        // Whoever asks for the program from here on is told that it failed.
        let program = run("which nft");
        let program = program.trim();
        run(&format!("mount --bind {} {program}", run("which false").trim()));
        ingress.ports = vec![
            publish(tcp, 8080, 80, &["w1", "w2"]),
            publish(udp, 8080, 80, &["w2"]),
            publish(tcp, 80, 80, &["w2"]),
            publish(tcp, 9000, 80, &["w1"]),
        ];
        assert_eq!(daemons[0].apply(&ingress.plan("a")).await, 1);
        ingress.ports.remove(2);
        assert_eq!(daemons[0].apply(&ingress.plan("a")).await, 1);
        run(&format!("umount {program}"));
        for to in ingress.addresses("a") {
            let mut heard = ingress.ask("x", tcp, (to, 8080), 4);
            heard.sort();
            let own = if to.is_ipv4() { ingress.addresses("x")[0] } else { ingress.addresses("x")[1] };
            assert_eq!(heard, ["w1", "w1", "w2", "w2"].map(|backend| format!("{backend} {own}")), "{to}");
            assert_eq!(ingress.ask("x", udp, (to, 8080), 1), [format!("w2 {own}")]);
            assert_eq!(ingress.ask("x", tcp, (to, 9000), 1), [format!("w1 {own}")]);
            assert_eq!(ingress.ask("x", tcp, (to, 80), 1), ["ConnectionRefusedError"]);
        }
        let quick = listing();
        run("nsenter --net=/run/netns/a nft delete table inet rswarm-ports");
        assert!(daemons[0].apply(&ingress.plan("a")).await > 0);
        assert_eq!(quick, listing());
    });
}

/// A listing without what the kernel numbers and in no order of its own.
fn sorted(mut listing: serde_json::Value) -> Vec<String> {
    fn plain(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(object) => {
                object.remove("handle");
                object.values_mut().for_each(plain);
                for name in ["elem", "set"] {
                    if let Some(serde_json::Value::Array(elements)) = object.get_mut(name) {
                        elements.sort_by_key(ToString::to_string);
                    }
                }
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(plain),
            _ => {}
        }
    }
    plain(&mut listing);
    let mut lines: Vec<String> =
        listing["nftables"].as_array().expect("list").iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}
