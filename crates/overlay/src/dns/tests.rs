//! The pure core by text: a view and a question in, the answer out.

use std::{net::IpAddr, sync::Arc};

use expect_test::{Expect, expect};
use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use proptest::prelude::*;

use super::{
    answer::{Answer, answer},
    message::{Received, Request, Transport, read},
    zone::{View, Zone},
};

/// Two networks of one endpoint; in each line a name and its addresses, `<-` a reverse name, `net` a subnet.
const FRONT: &str = "
    net 10.0.0.0/24
    net fd00::/64
    web 10.0.0.2 fd00::2
    tasks.web 10.0.0.5 10.0.0.6 fd00::5 fd00::6
    web.1 10.0.0.5 fd00::5
    web.1.x7 10.0.0.5 fd00::5
    web.2.y8 10.0.0.6 fd00::6
    10.0.0.5 <- web.1.x7
    fd00::5 <- web.1.x7
    10.0.0.6 <- web.2.y8
    idle
    both 10.0.0.9";
const BACK: &str = "
    net 10.1.0.0/24
    db 10.1.0.2
    both 10.1.0.9
    10.1.0.2 <- db";

fn zone(text: &str) -> Arc<Zone> {
    let mut zone = Zone::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["net", subnet] => zone.subnets.push(subnet.parse().expect("subnet")),
            [address, "<-", name] => {
                drop(zone.reverse.insert(address.parse().expect("address"), name.to_owned()));
            }
            [name, ref addresses @ ..] => {
                let addresses = addresses.iter().map(|a| a.parse().expect("address")).collect();
                zone.names.insert(name.to_owned(), addresses);
            }
        }
    }
    Arc::new(zone)
}

fn view() -> View {
    let own = Some(("myself".to_owned(), vec![IpAddr::from([10, 0, 0, 77])]));
    View { zones: vec![zone(FRONT), zone(BACK)], own, ..View::default() }
}

fn wire(name: &str, kind: RecordType) -> Message {
    let name = match name.parse::<IpAddr>() {
        Ok(address) if kind == RecordType::PTR => Name::from(address),
        _ if name == "." => Name::root(),
        _ => Name::from_labels(name.split('.').map(str::as_bytes)).expect("name"),
    };
    let mut message = Message::query();
    message.add_query(Query::query(name, kind));
    message
}

fn request(message: &Message) -> Request {
    match read(&message.to_vec().expect("encode")) {
        Received::Request(request) => *request,
        other => panic!("{other:?}"),
    }
}

/// `<type> <name>`, an address for PTR.
fn ask(view: &View, question: &str) -> String {
    let (kind, name) = question.split_once(' ').expect("type and name");
    let kind: RecordType = kind.parse().expect("type");
    let request = request(&wire(name, kind));
    let (code, answers, additionals) = match answer(&request.question, view, 1) {
        Answer::Known { answers, additionals } => (ResponseCode::NoError, answers, additionals),
        Answer::Unknown => (ResponseCode::NXDomain, Vec::new(), Vec::new()),
        Answer::Elsewhere => return format!("{question}: elsewhere"),
    };
    let bytes = request.reply_with(code, answers, additionals, Transport::Tcp);
    let reply = Message::from_vec(&bytes).expect("an answer that can be read");
    let mut text = format!("{question}: {:?}", reply.metadata.response_code);
    let mut lines: Vec<String> = reply.answers.iter().map(|r| format!("\n  {r}")).collect();
    lines.extend(reply.additionals.iter().map(|r| format!("\n  + {r}")));
    // Their order is chance's.
    lines.sort();
    text.extend(lines);
    text
}

fn check(questions: &[&str], expected: &Expect) {
    let view = view();
    let answers: Vec<String> = questions.iter().map(|question| ask(&view, question)).collect();
    expected.assert_eq(&answers.join("\n"));
}

#[test]
fn n_17_names_of_the_networks_in_any_spelling() {
    check(
        &["A web", "AAAA web", "A tasks.web", "AAAA TASKS.Web", "A web.1", "A WEB.2.y8", "A db", "A both", "A myself"],
        &expect![[r#"
            A web: NoError
              web. 5 IN A 10.0.0.2
            AAAA web: NoError
              web. 5 IN AAAA fd00::2
            A tasks.web: NoError
              tasks.web. 5 IN A 10.0.0.5
              tasks.web. 5 IN A 10.0.0.6
            AAAA TASKS.Web: NoError
              TASKS.Web. 5 IN AAAA fd00::5
              TASKS.Web. 5 IN AAAA fd00::6
            A web.1: NoError
              web.1. 5 IN A 10.0.0.5
            A WEB.2.y8: NoError
              WEB.2.y8. 5 IN A 10.0.0.6
            A db: NoError
              db. 5 IN A 10.1.0.2
            A both: NoError
              both. 5 IN A 10.0.0.9
            A myself: NoError
              myself. 5 IN A 10.0.0.77"#]],
    );
}

#[test]
fn n_17_a_known_name_is_asked_for_nowhere_else_whatever_the_type() {
    check(
        &["AAAA db", "MX web", "HTTPS web", "TXT tasks.web", "A idle", "PTR web"],
        &expect![[r#"
            AAAA db: NoError
            MX web: NoError
            HTTPS web: NoError
            TXT tasks.web: NoError
            A idle: NoError
            PTR web: NoError"#]],
    );
}

#[test]
fn p42_what_can_only_be_ours_does_not_travel() {
    check(
        &[
            "A web.3",
            "A gone.1",
            "A tasks.db",
            "A web.9.z9",
            "SRV _http._tcp.web",
            "A tasks.example.com",
            "A tasks.gone",
            "A gone",
            "A example.com",
            "A web.example.com",
            "NS .",
        ],
        &expect![[r#"
            A web.3: NXDomain
            A gone.1: NXDomain
            A tasks.db: NXDomain
            A web.9.z9: NXDomain
            SRV _http._tcp.web: NXDomain
            A tasks.example.com: elsewhere
            A tasks.gone: elsewhere
            A gone: elsewhere
            A example.com: elsewhere
            A web.example.com: elsewhere
            NS .: elsewhere"#]],
    );
}

#[test]
fn n_17_names_of_addresses() {
    check(
        &[
            "PTR 10.0.0.5",
            "PTR fd00::5",
            "PTR 10.1.0.2",
            "PTR 10.0.0.77",
            "PTR 10.1.0.99",
            "PTR fd00::99",
            "PTR 8.8.8.8",
        ],
        &expect![[r#"
            PTR 10.0.0.5: NoError
              5.0.0.10.in-addr.arpa. 5 IN PTR web.1.x7.
            PTR fd00::5: NoError
              5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 5 IN PTR web.1.x7.
            PTR 10.1.0.2: NoError
              2.0.1.10.in-addr.arpa. 5 IN PTR db.
            PTR 10.0.0.77: NoError
              77.0.0.10.in-addr.arpa. 5 IN PTR myself.
            PTR 10.1.0.99: NXDomain
            PTR fd00::99: NXDomain
            PTR 8.8.8.8: elsewhere"#]],
    );
}

#[test]
fn n_17_services_lead_to_each_replica() {
    check(
        &["SRV _8080._tcp.web", "SRV _53._udp.db", "A _8080._tcp.web", "SRV _8080._tcp.example.com", "SRV _0._tcp.web"],
        &expect![[r#"
            SRV _8080._tcp.web: NoError
              + web.1.x7. 5 IN A 10.0.0.5
              + web.1.x7. 5 IN AAAA fd00::5
              + web.2.y8. 5 IN A 10.0.0.6
              _8080._tcp.web. 5 IN SRV 0 0 8080 web.
              _8080._tcp.web. 5 IN SRV 0 0 8080 web.1.x7.
              _8080._tcp.web. 5 IN SRV 0 0 8080 web.2.y8.
            SRV _53._udp.db: NoError
              + db. 5 IN A 10.1.0.2
              _53._udp.db. 5 IN SRV 0 0 53 db.
            A _8080._tcp.web: NoError
            SRV _8080._tcp.example.com: elsewhere
            SRV _0._tcp.web: NXDomain"#]],
    );
}

/// A network with a hundred replicas of one service.
fn crowd() -> View {
    let addresses = (0..100u8).map(|n| IpAddr::from([10, 0, 1, n])).collect();
    let mut zone = Zone::default();
    zone.names.insert("tasks.crowd".to_owned(), addresses);
    View { zones: vec![Arc::new(zone)], ..View::default() }
}

fn crowd_reply(edns: Option<u16>, transport: Transport) -> Message {
    let mut message = wire("tasks.crowd", RecordType::A);
    message.edns = edns.map(|size| {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        edns
    });
    let request = request(&message);
    let Answer::Known { answers, additionals } = answer(&request.question, &crowd(), 3) else { panic!("unknown") };
    let bytes = request.reply_with(ResponseCode::NoError, answers, additionals, transport);
    assert!(bytes.len() <= request.limit(transport), "{} bytes", bytes.len());
    Message::from_vec(&bytes).expect("readable")
}

#[test]
fn n_17_an_answer_fits_its_transport() {
    let shape = |reply: &Message| (reply.answers.len(), reply.metadata.truncation, reply.edns.is_some());
    assert_eq!(shape(&crowd_reply(None, Transport::Udp)), (30, true, false));
    assert_eq!(shape(&crowd_reply(Some(100), Transport::Udp)), (29, true, true));
    assert_eq!(shape(&crowd_reply(Some(1232), Transport::Udp)), (74, true, true));
    assert_eq!(shape(&crowd_reply(Some(65535), Transport::Udp)), (74, true, true));
    assert_eq!(shape(&crowd_reply(None, Transport::Tcp)), (100, false, false));
}

#[test]
fn e_36_every_address_is_first_equally_often() {
    let (view, request) = (view(), request(&wire("tasks.web", RecordType::A)));
    let first = |chance| match answer(&request.question, &view, chance) {
        Answer::Known { answers, .. } => answers[0].data.clone(),
        other => panic!("{other:?}"),
    };
    let is_five = |data: &RData| matches!(data, RData::A(a) if a.0.octets()[3] == 5);
    let fives = (0..1000).filter(|chance| is_five(&first(*chance))).count();
    assert!((450..=550).contains(&fives), "{fives} of 1000");
}

#[test]
fn what_is_no_question_gets_no_answer_and_what_is_a_bad_one_a_short_one() {
    let code = |bytes: &[u8]| match read(bytes) {
        Received::Refused(reply) => Message::from_vec(&reply).expect("readable").metadata.response_code,
        other => panic!("{other:?}"),
    };
    let good = wire("web", RecordType::A).to_vec().expect("encode");
    let mut answer = good.clone();
    answer[2] |= 0x80;
    assert!(matches!(read(&answer), Received::Nothing));
    assert!(matches!(read(&good[..11]), Received::Nothing));
    assert_eq!(code(&good[..14]), ResponseCode::FormErr);
    let mut many = good.clone();
    many[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(code(&many), ResponseCode::FormErr);
    let mut update = good.clone();
    update[2] |= 5 << 3;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut chaos = wire("version.bind", RecordType::TXT);
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    assert_eq!(code(&chaos.to_vec().expect("encode")), ResponseCode::Refused);
    let mut newer = wire("web", RecordType::A);
    newer.edns = Some(Edns::new());
    newer.edns.as_mut().expect("edns").set_version(1);
    assert_eq!(u16::from(code(&newer.to_vec().expect("encode"))), u16::from(ResponseCode::BADVERS));
}

#[test]
fn an_answer_of_a_nameserver_must_fit_the_question() {
    let message = wire("Example.com", RecordType::A);
    let request = request(&message);
    let mut reply = Message::response(7, hickory_proto::op::OpCode::Query);
    reply.add_query(wire("eXample.com", RecordType::A).queries[0].clone());
    let bytes = reply.to_vec().expect("encode");
    assert!(request.judge(&bytes, 7).is_some());
    assert_eq!(request.judge(&bytes, 8), None);
    reply.queries[0] = wire("example.org", RecordType::A).queries[0].clone();
    assert_eq!(request.judge(&reply.to_vec().expect("encode"), 7), None);
    assert_eq!(request.judge(&message.to_vec().expect("encode"), message.metadata.id), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        tail in proptest::collection::vec(any::<u8>(), 0..600),
        as_question in any::<bool>(),
        chance in any::<u64>(),
    ) {
        let mut bytes = tail;
        if as_question && bytes.len() > 12 {
            // Past the first checks, so that names, types and options are read.
            bytes[2] &= 0x07;
            bytes[4..6].copy_from_slice(&[0, 1]);
            bytes[6..12].copy_from_slice(&[0, 0, 0, 0, 0, (chance % 3) as u8]);
        }
        match read(&bytes) {
            Received::Request(request) => {
                let _ = answer(&request.question, &view(), chance);
                let _ = request.judge(&bytes, 0);
                prop_assert!(request.reply(ResponseCode::ServFail, Transport::Udp).len() <= 512);
                prop_assert!(!request.truncated().is_empty());
            }
            Received::Refused(reply) => prop_assert!(reply.len() <= bytes.len() + 11, "no amplification"),
            Received::Nothing => {}
        }
    }

    #[test]
    fn any_name_and_type_is_answered_within_its_limit(
        labels in proptest::collection::vec("[ -~]{1,63}", 0..4),
        kind in any::<u16>(),
        chance in any::<u64>(),
    ) {
        let Ok(name) = Name::from_labels(labels.iter().map(String::as_bytes)) else { return Ok(()) };
        let mut message = Message::query();
        message.add_query(Query::query(name, RecordType::from(kind)));
        if let Received::Request(request) = read(&message.to_vec().expect("encode"))
            && let Answer::Known { answers, additionals } = answer(&request.question, &view(), chance)
        {
            let bytes = request.reply_with(ResponseCode::NoError, answers, additionals, Transport::Udp);
            prop_assert!(bytes.len() <= 512);
        }
    }
}

#[test]
fn only_an_endpoint_with_a_way_to_the_world_asks_the_world() {
    use super::{publish::elsewhere, zone::Elsewhere};
    use crate::{BridgePort, EndpointDns, EndpointPlan, MacAddress};
    let address = [172, 17, 0, 2].into();
    let bridge = Some(BridgePort { address, mac: MacAddress::for_ipv4(address) });
    let dns = EndpointDns { nameservers: vec![IpAddr::from([9, 9, 9, 9]); 5], ..EndpointDns::default() };
    let internal = EndpointPlan { dns: dns.clone(), ..EndpointPlan::default() };
    assert_eq!(elsewhere(&internal, false), Elsewhere::Nobody);
    assert_eq!(elsewhere(&EndpointPlan { bridge, ..EndpointPlan::default() }, true), Elsewhere::Host);
    let Elsewhere::Servers(servers) = elsewhere(&EndpointPlan { bridge, dns, ..EndpointPlan::default() }, true) else {
        panic!("its own servers")
    };
    assert_eq!(*servers, [([9, 9, 9, 9], 53).into(); 3]);
}
