//! The DNS of endpoints, asked from inside their namespaces: real netd, sockets and rules.

mod support;

use std::{
    fs, io,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use nix::sched::{CloneFlags, setns};
use overlay::{Client, DNS_SERVER, DataPath, MacAddress, NetworkPlan, OverlayPlan, OverlayPort};
use support::*;
use types::NetworkId;

#[test]
fn netd_process() {
    support::netd_process();
}

const SOON: Duration = Duration::from_secs(5);
/// Longer than an answer takes on a busy machine, shorter than the wait for a nameserver.
const PATIENCE: Duration = Duration::from_secs(2);

fn client() -> Client {
    Client::new(&config("any").socket)
}

fn network(n: u8) -> NetworkId {
    NetworkId::from_random(u128::from(n))
}

/// Gives the endpoint a place in network `n` with this last byte.
fn join(plan: &mut NetworkPlan, id: &str, n: u8, last: u8) {
    let address = Ipv4Addr::new(10, n, 0, last);
    let port = OverlayPort { network: network(n), addresses: vec![address.into()], mac: MacAddress::for_ipv4(address) };
    plan.endpoints.get_mut(&id.parse().expect("id")).expect("endpoint").overlays.push(port);
}

fn overlay(n: u8, names: &[(&str, &[&str])]) -> OverlayPlan {
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("address")).collect();
    OverlayPlan {
        name: format!("net{n}"),
        vni: 4096 + u32::from(n),
        subnets: vec![format!("10.{n}.0.0/24").parse().expect("subnet")],
        mtu: None,
        encrypted: false,
        remotes: Default::default(),
        services: Default::default(),
        names: names.iter().map(|(name, texts)| ((*name).to_owned(), addresses(texts))).collect(),
        reverse: Default::default(),
    }
}

/// Two endpoints in network 1, one in network 2.
fn two_networks() -> NetworkPlan {
    ip("addr add 192.0.2.1/32 dev lo");
    let mut plan = plan(&[("a", [0, 2]), ("b", [0, 3]), ("c", [0, 4])]);
    plan.data_path = Some(DataPath { address: [192, 0, 2, 1].into(), port: 4789, encryption: None, least_mtu: None });
    join(&mut plan, "a", 1, 5);
    join(&mut plan, "b", 1, 6);
    join(&mut plan, "c", 2, 7);
    let mut one = overlay(
        1,
        &[
            ("web", &["10.1.0.2", "fd01::2"]),
            ("tasks.web", &["10.1.0.5", "10.1.0.6"]),
            ("web.1", &["10.1.0.5"]),
            ("web.2", &["10.1.0.6"]),
        ],
    );
    one.reverse.insert([10, 1, 0, 5].into(), "web.1".to_owned());
    plan.overlays.insert(network(1), one);
    plan.overlays.insert(network(2), overlay(2, &[("db", &["10.2.0.7"])]));
    plan
}

/// Runs the work on a thread inside the namespace.
fn inside<T: Send + 'static>(namespace: &Path, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = namespace.to_owned();
    let body = move || {
        setns(fs::File::open(&namespace).expect("namespace"), CloneFlags::CLONE_NEWNET).expect("enter");
        work()
    };
    std::thread::spawn(body).join().expect("the thread")
}

fn question(name: &str, kind: RecordType) -> Message {
    let name = match name.parse::<IpAddr>() {
        Ok(address) => Name::from(address),
        Err(_) => Name::from_labels(name.split('.').map(str::as_bytes)).expect("name"),
    };
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message
}

fn udp(id: &str, message: &Message) -> io::Result<Message> {
    let bytes = message.to_vec().expect("encode");
    let reply = inside(&namespace_of(id), move || -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((DNS_SERVER, 53))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&bytes)?;
        let mut reply = vec![0; 65536];
        let length = socket.recv(&mut reply)?;
        Ok(reply[..length].to_vec())
    })?;
    assert!(reply.len() <= 512, "{} bytes", reply.len());
    let reply = Message::from_vec(&reply).expect("readable");
    assert_eq!(reply.metadata.id, message.metadata.id);
    Ok(reply)
}

fn tcp(id: &str, message: &Message) -> Message {
    let bytes = message.to_vec().expect("encode");
    let reply = inside(&namespace_of(id), move || {
        let mut stream = TcpStream::connect((DNS_SERVER, 53)).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        write_framed(&mut stream, &bytes);
        read_framed(&mut stream)
    });
    Message::from_vec(&reply).expect("readable")
}

fn write_framed(stream: &mut TcpStream, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length, bytes].concat()).expect("write");
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("length");
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).expect("message");
    bytes
}

/// Code and sorted data of the answer by UDP, or the error.
fn ask(id: &str, name: &str, kind: RecordType) -> String {
    match udp(id, &question(name, kind)) {
        Ok(reply) => said(&reply),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn said(reply: &Message) -> String {
    let mut data: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    let cut = if reply.metadata.truncation { " cut" } else { "" };
    format!("{:?}{cut} {}", reply.metadata.response_code, data.join(" ")).trim_end().to_owned()
}

fn a(id: &str, name: &str) -> String {
    ask(id, name, RecordType::A)
}

/// The host's `resolv.conf`, in this test's own mount namespace.
fn resolv_conf(text: &str) {
    let path = Path::new("/run/resolv.conf");
    let is_first = !path.exists();
    fs::write(path, text).expect("resolv.conf");
    if is_first {
        run("mount --bind /run/resolv.conf /etc/resolv.conf");
    }
}

/// A nameserver in the calling thread's namespace that answers every A question with `answer`; by UDP
/// with only the mark that the answer was cut when `cuts`. Ends with the test's process.
fn nameserver(at: [u8; 4], answer: Option<[u8; 4]>, cuts: bool) {
    let at = SocketAddr::from((at, 53));
    let (udp, tcp) = (UdpSocket::bind(at).expect("bind"), TcpListener::bind(at).expect("bind"));
    let reply = move |bytes: &[u8], is_cut: bool| {
        let mut message = Message::from_vec(bytes).expect("a question");
        message.metadata.message_type = MessageType::Response;
        match answer {
            None => message.metadata.response_code = ResponseCode::ServFail,
            Some(_) if is_cut => message.metadata.truncation = true,
            Some(address) => {
                let name = message.queries[0].name().clone();
                message.add_answer(Record::from_rdata(name, 60, RData::A(A(address.into()))));
            }
        }
        message.to_vec().expect("encode")
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&reply(&buffer[..length], cuts), from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let question = read_framed(&mut stream);
            write_framed(&mut stream, &reply(&question, false));
        }
    });
}

async fn applied(plan: &NetworkPlan) {
    let applied = client().apply(plan).await.expect("applied");
    assert!(applied.is_complete(), "{applied:?}");
}

#[test]
fn n_17_names_addresses_and_types_from_inside() {
    in_host(|| async {
        let _netd = Netd::start("1");
        resolv_conf("");
        applied(&two_networks()).await;
        assert_eq!(a("a", "web"), "NoError 10.1.0.2");
        assert_eq!(a("a", "WEB"), "NoError 10.1.0.2");
        assert_eq!(ask("a", "web", RecordType::AAAA), "NoError fd01::2");
        assert_eq!(ask("a", "web", RecordType::MX), "NoError");
        assert_eq!(a("b", "tasks.web"), "NoError 10.1.0.5 10.1.0.6");
        assert_eq!(a("b", "web.1"), "NoError 10.1.0.5");
        assert_eq!(ask("b", "10.1.0.5", RecordType::PTR), "NoError web.1.");
        assert_eq!(said(&tcp("a", &question("tasks.web", RecordType::A))), "NoError 10.1.0.5 10.1.0.6");
        assert_eq!(a("a", "a"), "NoError 10.1.0.5", "its own name");
        // Another network's names are not known, and there is nobody else to ask.
        assert_eq!(a("c", "web"), "ServFail");
        assert_eq!(a("c", "db"), "NoError 10.2.0.7");
        assert_eq!(ask("c", "10.1.0.5", RecordType::PTR), "ServFail");

        let first = || match udp("a", &question("tasks.web", RecordType::A)).expect("answer").answers[0].data {
            RData::A(address) => address.0.octets()[3],
            ref other => panic!("{other}"),
        };
        let firsts: Vec<u8> = (0..40).map(|_| first()).collect();
        assert!(firsts.contains(&5) && firsts.contains(&6), "E-36, round robin: {firsts:?}");
        let shown = run(&format!("nsenter --net={} busybox nslookup web.2 127.0.0.11", namespace_of("a").display()));
        assert!(shown.contains("10.1.0.6"), "{shown}");
    });
}

#[test]
fn n_17_what_does_not_fit_a_packet_comes_whole_by_tcp() {
    in_host(|| async {
        let _netd = Netd::start("1");
        let mut plan = two_networks();
        let many = (1..=200u8).map(|n| IpAddr::from([10, 1, 0, n])).collect();
        plan.overlays.get_mut(&network(1)).expect("network").names.insert("tasks.many".to_owned(), many);
        applied(&plan).await;
        let question = question("tasks.many", RecordType::A);
        let short = udp("a", &question).expect("answer");
        assert!(short.metadata.truncation && !short.answers.is_empty(), "{short}");
        let whole = tcp("a", &question);
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (200, false));
    });
}

#[test]
fn n_17_other_names_are_asked_for_on_the_host_or_where_the_endpoint_says() {
    in_host(|| async {
        nameserver([127, 0, 0, 53], Some([198, 51, 100, 1]), false);
        nameserver([127, 0, 0, 54], Some([198, 51, 100, 2]), true);
        nameserver([127, 0, 0, 55], None, false);
        resolv_conf("nameserver 127.0.0.53\n");
        let _netd = Netd::start("1");
        let mut plan = two_networks();
        let b = plan.endpoints.get_mut(&"b".parse().expect("id")).expect("endpoint");
        // The first cannot say, nobody listens at the second.
        b.dns.nameservers = vec![[127, 0, 0, 55].into(), [127, 0, 0, 56].into(), [127, 0, 0, 54].into()];
        applied(&plan).await;
        eventually("the host's resolver is known", SOON, async || a("a", "example.com") == "NoError 198.51.100.1")
            .await;
        assert_eq!(a("a", "single"), "NoError 198.51.100.1");
        assert_eq!(a("a", "web.7"), "NXDomain", "a replica of ours is not asked for outside");
        assert_eq!(a("b", "example.com"), "NoError cut");
        assert_eq!(said(&tcp("b", &question("example.com", RecordType::A))), "NoError 198.51.100.2");

        resolv_conf("nameserver 127.0.0.54\n");
        eventually("the change is followed", SOON, async || a("a", "example.com") == "NoError cut").await;
        resolv_conf("nameserver 127.0.0.55\n");
        eventually("an answer that helps nobody", SOON, async || a("a", "example.com") == "ServFail").await;
        let counters = client().status().await.expect("status").dns;
        assert!(counters.forwarded >= 6 && counters.answered >= 1 && counters.forged == 0, "{counters:?}");
    });
}

#[test]
fn p02_answers_are_right_within_a_second_of_a_change() {
    in_host(|| async {
        let _netd = Netd::start("1");
        resolv_conf("");
        let mut plan = two_networks();
        applied(&plan).await;
        for round in 0..10u8 {
            let names = &mut plan.overlays.get_mut(&network(1)).expect("network").names;
            names.insert("web.1".to_owned(), vec![[10, 1, 0, 100 + round].into()]);
            let start = Instant::now();
            applied(&plan).await;
            assert_eq!(a("a", "web.1"), format!("NoError 10.1.0.{}", 100 + round));
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        }
        plan.overlays.get_mut(&network(1)).expect("network").names.remove("web.1");
        applied(&plan).await;
        assert_eq!(a("a", "web.1"), "NXDomain");

        // An endpoint that leaves a network forgets its names; one that is made anew is served anew.
        plan.endpoints.get_mut(&"b".parse().expect("id")).expect("endpoint").overlays.clear();
        let c = plan.endpoints.remove(&"c".parse().expect("id")).expect("endpoint");
        applied(&plan).await;
        assert_eq!(a("b", "web"), "ServFail");
        assert!(!namespace_of("c").exists());
        plan.endpoints.insert("c".parse().expect("id"), c);
        applied(&plan).await;
        assert_eq!(a("c", "db"), "NoError 10.2.0.7");
    });
}

#[test]
fn p02_netd_killed_and_started_again_answers_by_itself() {
    in_host(|| async {
        let mut netd = Netd::start("1");
        applied(&two_networks()).await;
        // One socket all the time, as some resolvers have it: its tracked connection must still lead right.
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let namespace: PathBuf = namespace_of("a");
        std::thread::spawn(move || {
            inside(&namespace, move || {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
                socket.connect((DNS_SERVER, 53)).expect("connect");
                socket.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
                let bytes = question("web", RecordType::A).to_vec().expect("encode");
                while asked.recv().is_ok() {
                    let answered = socket.send(&bytes).and_then(|_| socket.recv(&mut [0; 512]));
                    tell.send(answered.is_ok()).expect("told");
                }
            });
        });
        let is_answered = || {
            ask.send(()).expect("asks");
            told.recv().expect("told")
        };
        assert!(is_answered());
        for _ in 0..3 {
            netd.kill();
            assert!(!is_answered());
            let start = Instant::now();
            netd = Netd::start("1");
            eventually("answers", SOON, async || is_answered()).await;
            eprintln!("answers {:?} after the start", start.elapsed());
            eventually("a new asker too", SOON, async || a("b", "web") == "NoError 10.1.0.2").await;
        }
    });
}

#[test]
fn n_17_a_container_can_be_a_dns_server_itself() {
    in_host(|| async {
        let _netd = Netd::start("1");
        applied(&two_networks()).await;
        inside(&namespace_of("b"), || {
            let udp = UdpSocket::bind("0.0.0.0:53").expect("UDP port 53 is free");
            TcpListener::bind("0.0.0.0:53").expect("TCP port 53 is free");
            std::thread::spawn(move || {
                let mut buffer = [0; 512];
                let (_, from) = udp.recv_from(&mut buffer).expect("question");
                udp.send_to(b"its own answer", from).expect("answer");
            });
        });
        assert_eq!(a("b", "web"), "NoError 10.1.0.2", "its resolver is still ours");
        let answer = inside(&namespace_of("a"), || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
            socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
            socket.send_to(b"?", "172.17.0.3:53").expect("send");
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).expect("answer");
            buffer[..length].to_vec()
        });
        assert_eq!(answer, b"its own answer");
    });
}

#[test]
fn n_17_nonsense_is_counted_and_answers_go_on() {
    in_host(|| async {
        let _netd = Netd::start("1");
        applied(&two_networks()).await;
        inside(&namespace_of("a"), || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
            for length in 0..200usize {
                let bytes: Vec<u8> = (0..length).map(|n| (n * 37 + length * 11) as u8).collect();
                socket.send_to(&bytes, (DNS_SERVER, 53)).expect("send");
            }
            let mut stream = TcpStream::connect((DNS_SERVER, 53)).expect("connect");
            stream.write_all(&[0xff; 300]).expect("write");
        });
        assert_eq!(a("a", "web"), "NoError 10.1.0.2");
        let counters = client().status().await.expect("status").dns;
        assert!(counters.malformed >= 100, "{counters:?}");
    });
}
