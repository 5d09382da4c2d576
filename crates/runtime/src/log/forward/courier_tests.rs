//! Lines on their way to real sockets: servers that are there, come late, go away, or take nothing. Ports that are given
//! back and taken again are of addresses that no other test has.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::net::UnixListener,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Line, courier::Courier, fluentd::tests::read_event, gelf::DATAGRAM};
use crate::{
    config::{Fluentd, FluentdAddress, Gelf, GelfCompression, GelfTransport, LogQueue},
    log::Stream,
};

const DEADLINE: Duration = Duration::from_secs(20);

fn queue(max_bytes: u64, is_blocking: bool) -> LogQueue {
    LogQueue { max_bytes, max_lines: 1 << 20, is_blocking, first_wait_ms: 100, attempts: None }
}

fn gelf(to: SocketAddr, transport: GelfTransport) -> Gelf {
    let fields = BTreeMap::from([("_tag".to_owned(), "web".to_owned())]);
    let (address, hostname) = (to.to_string(), "host1".to_owned());
    Gelf { address, transport, hostname, fields, created_at_ns: 0, queue: queue(1 << 20, true) }
}

fn fluentd(to: FluentdAddress, queue: LogQueue) -> Fluentd {
    Fluentd {
        to,
        tag: "web".into(),
        fields: BTreeMap::new(),
        sub_second_precision: false,
        request_ack: false,
        is_async: true,
        reconnect_every_ms: None,
        write_timeout_ms: None,
        queue,
    }
}

fn tcp(listener: &TcpListener) -> FluentdAddress {
    FluentdAddress::Tcp(listener.local_addr().expect("address").to_string())
}

fn say(courier: &mut Courier, text: &[u8], is_whole: bool) {
    courier.add(Line { stream: Stream::Stdout, text, is_whole, at_ns: 5_000_000_000 });
}

/// As the shim does it, until it is so.
fn drive(courier: &mut Courier, mut is_so: impl FnMut(&Courier) -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so(courier) {
        assert!(Instant::now() < until, "{} lines wait", courier.backlog.len());
        courier.go_on(Instant::now());
        thread::sleep(Duration::from_millis(2));
    }
}

/// What arrives on the next connection.
fn events(listener: &TcpListener, number: usize) -> JoinHandle<Vec<String>> {
    let listener = listener.try_clone().expect("clone");
    thread::spawn(move || {
        let mut stream = listener.accept().expect("accept").0;
        read_events(&mut stream, number)
    })
}

fn read_events(stream: &mut impl Read, number: usize) -> Vec<String> {
    let (mut bytes, mut chunk, mut found) = (Vec::new(), [0; 4096], Vec::new());
    while found.len() < number {
        let length = stream.read(&mut chunk).expect("read");
        assert!(length > 0, "the connection ended after {found:?}");
        bytes.extend_from_slice(&chunk[..length]);
        let mut rest = &bytes[..];
        while let Some(event) = read_event(&mut rest) {
            found.push(event);
        }
        bytes = rest.to_vec();
    }
    found
}

fn event(text: &str) -> String {
    format!("web 5 {{source=stdout log={text}}} {{}}")
}

/// E-27: lines, an empty one, bytes that are not text, and one that needs many datagrams.
#[test]
fn e27_gelf_by_udp() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("bind");
    server.set_read_timeout(Some(DEADLINE)).expect("timeout");
    let transport = GelfTransport::Udp { compression: GelfCompression::None, level: 1 };
    let mut courier = Courier::of_gelf(&gelf(server.local_addr().expect("address"), transport)).expect("open");
    let long = vec![b'x'; 16 * 1024];
    [&b"hello"[..], b"", b"\xff\x01", &long[..]].into_iter().for_each(|text| say(&mut courier, text, true));
    let wanted = ["hello".to_owned(), "\u{fffd}\u{1}".to_owned(), "x".repeat(16 * 1024)];
    let mut buffer = [0; 2 * DATAGRAM];
    for text in wanted {
        courier.go_on(Instant::now());
        let mut json = Vec::new();
        loop {
            let length = server.recv(&mut buffer).expect("a datagram");
            assert!(length <= DATAGRAM);
            if buffer[..2] != [0x1e, 0x0f] {
                json.extend_from_slice(&buffer[..length]);
                break;
            }
            json.extend_from_slice(&buffer[12..length]);
            if buffer[10] + 1 == buffer[11] {
                break;
            }
        }
        let message: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(message["short_message"], text);
        assert_eq!(
            (&message["host"], &message["_tag"], &message["level"]),
            (&"host1".into(), &"web".into(), &6.into())
        );
    }
    drive(&mut courier, |courier| courier.backlog.is_empty());
}

/// E-27: by TCP a message ends with a zero, and nobody must be missing when the container starts.
#[test]
fn e27_gelf_by_tcp() {
    let server = TcpListener::bind("127.77.0.1:0").expect("bind");
    let config = gelf(server.local_addr().expect("address"), GelfTransport::Tcp);
    let mut courier = Courier::of_gelf(&config).expect("open");
    (0..2).for_each(|_| say(&mut courier, b"hello", true));
    drive(&mut courier, |courier| courier.backlog.is_empty());
    drop(courier);
    let mut bytes = Vec::new();
    server.accept().expect("accept").0.read_to_end(&mut bytes).expect("read");
    let messages: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    assert_eq!(messages.len(), 3, "two, and nothing after the last zero");
    assert!(messages[2].is_empty());
    for message in &messages[..2] {
        let message: serde_json::Value = serde_json::from_slice(message).expect("JSON");
        assert_eq!(message["short_message"], "hello");
    }
    drop(server);
    let refused = Courier::of_gelf(&config).err().expect("nobody is there").to_string();
    assert!(refused.starts_with("failed to initialize logging driver: gelf cannot be reached: 127.77.0."), "{refused}");
}

/// E-27, P27: a server that comes late, goes and comes back gets every line, in order and whole.
#[test]
fn e27_fluentd_that_comes_goes_and_comes_back() {
    let place = TcpListener::bind("127.77.0.2:0").expect("bind");
    let address = place.local_addr().expect("address");
    let asynchronous = fluentd(tcp(&place), queue(1 << 20, true));
    drop(place);
    let refused = Courier::of_fluentd(&Fluentd { is_async: false, ..asynchronous.clone() });
    let refused = refused.err().expect("nobody is there").to_string();
    assert!(
        refused.starts_with("failed to initialize logging driver: fluentd cannot be reached: 127.77.0."),
        "{refused}"
    );

    let mut courier = Courier::of_fluentd(&asynchronous).expect("it starts without");
    say(&mut courier, b"early", true);
    courier.go_on(Instant::now());
    drive(&mut courier, |courier| courier.poll_fd().is_none());
    assert!(courier.deadline().is_some());
    let listener = TcpListener::bind(address).expect("bind");
    let first = events(&listener, 2);
    say(&mut courier, b"\xff", true);
    drive(&mut courier, |_| first.is_finished());
    assert_eq!(first.join().expect("server"), [event("early"), event("\\xff")]);
    drop(listener);

    // it is noticed before the next line is sent
    drive(&mut courier, |courier| courier.poll_fd().is_none());
    say(&mut courier, b"one", true);
    say(&mut courier, b"tw", false);
    say(&mut courier, b"o", true);
    courier.go_on(Instant::now());
    assert_eq!(courier.backlog.len(), 3);
    let listener = TcpListener::bind(address).expect("bind");
    let second = events(&listener, 3);
    drive(&mut courier, |_| second.is_finished());
    let second = second.join().expect("server");
    assert_eq!(second[0], event("one"));
    let pieces: Vec<bool> = second[1..].iter().map(|event| event.contains("partial_last=true")).collect();
    assert_eq!(pieces, [false, true], "{second:?}");
    drive(&mut courier, |courier| courier.backlog.is_empty());
    assert_eq!((courier.backlog.lost, courier.deadline()), (0, None));
}

/// E-27: with acknowledgements what a server took and did not keep is sent again.
#[test]
fn e27_fluentd_acknowledges() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let config = Fluentd { request_ack: true, ..fluentd(tcp(&listener), queue(1 << 20, true)) };
    let mut courier = Courier::of_fluentd(&config).expect("open");
    say(&mut courier, b"one", true);
    say(&mut courier, b"two", true);
    let forgetful = events(&listener, 2);
    drive(&mut courier, |_| forgetful.is_finished());
    assert_eq!(courier.backlog.len(), 2, "read, and not acknowledged");
    let server = thread::spawn(move || {
        let mut stream = listener.accept().expect("accept").0;
        for event in read_events(&mut stream, 2) {
            let chunk = event.split_once("chunk=").expect("a name").1.trim_end_matches('}').to_owned();
            let length = u8::try_from(chunk.len()).expect("short");
            // a byte of it comes late
            let ack = [&b"\x81\xa3ack\xd9"[..], &[length], chunk.as_bytes()].concat();
            stream.write_all(&ack[..5]).expect("write");
            thread::sleep(Duration::from_millis(20));
            stream.write_all(&ack[5..]).expect("write");
        }
        stream
    });
    drive(&mut courier, |courier| courier.backlog.is_empty());
    drop(server.join().expect("server"));
}

/// P27, E-27: a server that takes nothing. Without waiting, lines are left out and counted; with it, the container stands
/// still, and not for ever.
#[test]
fn p27_fluentd_that_takes_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    for is_blocking in [false, true] {
        let path = directory.path().join(format!("{is_blocking}"));
        let listener = UnixListener::bind(&path).expect("bind");
        let config = fluentd(FluentdAddress::Unix(path), queue(64 << 10, is_blocking));
        let mut courier = Courier::of_fluentd(&config).expect("open");
        let begun = Instant::now();
        let mut said = 0;
        while said < 5000 && !courier.is_behind() {
            say(&mut courier, &[b'x'; 1000], true);
            courier.go_on(Instant::now());
            said += 1;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "nothing waits here");
        assert_eq!((courier.backlog.lost > 0, courier.is_behind()), (!is_blocking, is_blocking));
        if is_blocking {
            assert!(said < 5000);
            assert!(courier.deadline().expect("one") < Instant::now() + Duration::from_secs(11));
            courier.go_on(Instant::now() + Duration::from_secs(11));
            assert!(!courier.is_behind(), "it goes on");
            say(&mut courier, b"left out", true);
            assert_eq!(courier.backlog.lost, 1);
        }
        // it takes lines again: nothing of what waits is lost
        let number = said - usize::try_from(if is_blocking { 0 } else { courier.backlog.lost }).expect("few");
        let reader = thread::spawn(move || read_events(&mut listener.accept().expect("accept").0, number));
        drive(&mut courier, |_| reader.is_finished());
        assert_eq!(reader.join().expect("server").len(), number);
        assert!(!courier.is_behind() && !courier.backlog.leaves_out);
    }
}

/// E-27: `fluentd-max-retries` and `gelf-tcp-max-reconnect`; and the end of the container does not wait for a server that
/// is away.
#[test]
fn e27_a_server_that_stays_away() {
    let place = TcpListener::bind("127.77.0.3:0").expect("bind");
    let (address, limits) = (tcp(&place), queue(1 << 20, true));
    drop(place);
    let config = fluentd(address, LogQueue { attempts: Some(2), ..limits });
    let mut courier = Courier::of_fluentd(&config).expect("open");
    say(&mut courier, b"hello", true);
    drive(&mut courier, |courier| courier.backlog.is_empty());
    assert_eq!(courier.backlog.lost, 1);

    say(&mut courier, b"last", true);
    let begun = Instant::now();
    courier.finish();
    assert!(begun.elapsed() < Duration::from_secs(8) && courier.backlog.is_empty());
}

/// E-27: a server that never stops talking gets its lines, and keeps nobody else waiting.
#[test]
fn e27_a_server_that_never_stops_talking() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut courier = Courier::of_fluentd(&fluentd(tcp(&listener), queue(1 << 20, true))).expect("open");
    let talking = thread::spawn(move || {
        let mut stream = listener.accept().expect("accept").0;
        while stream.write(&[b'x'; 1 << 16]).is_ok() {}
    });
    say(&mut courier, b"hello", true);
    drive(&mut courier, |courier| courier.backlog.is_empty());
    drop(courier);
    talking.join().expect("it ended");
}
