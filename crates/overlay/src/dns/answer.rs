//! The answer to one question by what the endpoint's networks know. Pure: chance is an argument.
//!
//! Called by `serve`. It never asks anybody; what is not known here is said to be [`Answer::Elsewhere`].

use std::{iter, net::IpAddr};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, PTR, SRV},
};

use super::{message::Question, zone::View};

/// Seconds an answer may be kept. Who asks anew sees a change at once; this bounds how long one who
/// keeps answers sends to a replica that has gone. Asking again costs a packet on the loopback device,
/// so there is nothing to win with more.
pub const TTL: u32 = 5;
/// More targets would not fit the largest message with their addresses.
const MAX_TARGETS: usize = 256;

/// What to say.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The name is known. No records: it has none of the asked type, and nobody else may be asked for them.
    Known { answers: Vec<Record>, additionals: Vec<Record> },
    /// The name is one of ours, and does not exist.
    Unknown,
    /// It says nothing to us: the endpoint's nameservers may know it.
    Elsewhere,
}

/// Answers from the view. `chance` sets the order of several addresses, anew for each question.
pub fn answer(question: &Question, view: &View, chance: u64) -> Answer {
    let Some(name) = &question.text else { return Answer::Elsewhere };
    if let Some(address) = question.reverse() {
        return reverse(question, address, view);
    }
    if let Some((port, service)) = service_name(name) {
        return match view.addresses(service) {
            Some(_) => port.map_or(Answer::Unknown, |port| services(question, port, service, view, chance)),
            None => Answer::Elsewhere,
        };
    }
    match view.addresses(name) {
        Some(addresses) => {
            let of_type = addresses.iter().filter(|address| asks_for(question.kind, **address)).copied().collect();
            let answers = shuffled(of_type, chance).into_iter().map(|a| record(&question.name, a)).collect();
            Answer::Known { answers, additionals: Vec::new() }
        }
        None if is_ours(name, view) => Answer::Unknown,
        None => Answer::Elsewhere,
    }
}

/// An unknown name that can only be one of ours, so that it must not travel: a replica's (`db.4`: no
/// public name ends in a number), or a part of a service that is known (`tasks.db`, `db.4.<task>`).
/// Every other name, `tasks.example.com` among them, may be somebody's.
fn is_ours(name: &str, view: &View) -> bool {
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit());
    let is_service = |name: &str| view.zones.iter().any(|zone| zone.names.contains_key(name));
    let mut from_end = name.rsplitn(3, '.');
    let (last, second, rest) = (from_end.next(), from_end.next(), from_end.next());
    let is_replica = second.is_some() && last.is_some_and(is_number);
    let is_task = second.is_some_and(is_number) && rest.is_some_and(is_service);
    is_replica || is_task || name.strip_prefix("tasks.").is_some_and(is_service)
}

fn asks_for(kind: RecordType, address: IpAddr) -> bool {
    match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    }
}

fn reverse(question: &Question, address: IpAddr, view: &View) -> Answer {
    match view.name_of(address).map(wire_name) {
        Some(Some(name)) if matches!(question.kind, RecordType::PTR | RecordType::ANY) => {
            let answer = Record::from_rdata(question.name.clone(), TTL, RData::PTR(PTR(name)));
            Answer::Known { answers: vec![answer], additionals: Vec::new() }
        }
        Some(_) => Answer::Known { answers: Vec::new(), additionals: Vec::new() },
        None if view.contains(address) => Answer::Unknown,
        None => Answer::Elsewhere,
    }
}

/// `_<port>._tcp.<service>`: the port by number, because no network knows names of ports; None for such a name.
fn service_name(name: &str) -> Option<(Option<u16>, &str)> {
    let (port, rest) = name.strip_prefix('_')?.split_once('.')?;
    let (protocol, service) = rest.split_once('.')?;
    let is_known = matches!(protocol, "_tcp" | "_udp" | "_sctp");
    is_known.then(|| (port.parse().ok().filter(|port| *port != 0), service))
}

/// One target for each replica; for a name without replicas (an alias, one container) each of its addresses.
fn services(question: &Question, port: u16, service: &str, view: &View, chance: u64) -> Answer {
    let (mut answers, mut additionals) = (Vec::new(), Vec::new());
    if matches!(question.kind, RecordType::SRV | RecordType::ANY) {
        let replicas = view.addresses(&format!("tasks.{service}")).filter(|addresses| !addresses.is_empty());
        let addresses = replicas.or_else(|| view.addresses(service)).unwrap_or(&[]);
        for address in shuffled(addresses.to_vec(), chance).into_iter().take(MAX_TARGETS) {
            let has_it = |name: &str| view.addresses(name).is_some_and(|all| all.contains(&address));
            let name = view.name_of(address).filter(|name| has_it(name)).unwrap_or(service);
            let Some(target) = wire_name(name) else { continue };
            if has_it(name) {
                additionals.push(record(&target, address));
            }
            let data = RData::SRV(SRV::new(0, 0, port, target));
            let answer = Record::from_rdata(question.name.clone(), TTL, data);
            // The two addresses of a replica in a network with IPv4 and IPv6 are one target.
            if !answers.contains(&answer) {
                answers.push(answer);
            }
        }
    }
    Answer::Known { answers, additionals }
}

fn record(name: &Name, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name.clone(), TTL, data)
}

/// None for what no message can carry: an empty label, one of more than 63 bytes, more than 255 in all.
fn wire_name(name: &str) -> Option<Name> {
    Name::from_labels(name.split('.').map(str::as_bytes)).ok()
}

/// Every order is as likely as every other (Fisher and Yates; the numbers are SplitMix64's).
fn shuffled<T>(mut items: Vec<T>, chance: u64) -> Vec<T> {
    let mut state = chance;
    let mut numbers = iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    });
    for last in (1..items.len()).rev() {
        let number = numbers.next().unwrap_or_default();
        items.swap(last, (number % (last as u64 + 1)) as usize);
    }
    items
}
