//! Chains of published ports, straight to the kernel: what `nft` would make of the same chain's text, message for message,
//! so that its listings tell no difference. Starting that program takes ten times as long as this, and more for
//! each chain that there is.

use std::{io, net::IpAddr};

use types::PortProtocol;

use super::{
    super::netfilter::{NLM_F_CREATE, batch, nested, plain},
    rules::{INET, NFTA_CHAIN_NAME, NFTA_RULE_CHAIN, OF_TABLE, named},
    words::{
        NEW_CHAIN, NEW_RULE, NFTA_LIST_ELEM, NFTA_RULE_EXPRESSIONS, NLM_F_APPEND, comment, expression, message, number,
        value,
    },
};
use crate::mesh::{
    TABLE,
    load::ChainChange,
    ports::{InTurn, NOBODY},
};

/// `NFNL_SUBSYS_NFTABLES << 8` and what is done (linux/netfilter/nf_tables.h).
const DELETE_CHAIN: u16 = 10 << 8 | 5;
const DELETE_RULE: u16 = 10 << 8 | 8;
const NEW_SET: u16 = 10 << 8 | 9;
const NEW_ELEMENTS: u16 = 10 << 8 | 12;
const DELETE_ELEMENTS: u16 = 10 << 8 | 14;
/// The map of single ports at all addresses.
const PORTS: &str = "ports";
/// The kernel puts a number in place of the last two letters.
const MAP_OF_A_RULE: &str = "__map%d";
/// Anonymous, constant, a map.
const SET_FLAGS: u32 = 0x1 | 0x2 | 0x8;
/// How nft calls the types of keys and data: an integer; an IPv4 and an IPv6 address; a port, after another one.
const INTEGER: u32 = 4;
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const TYPE_BITS: u32 = 6;
const PORT: u32 = 13;
/// `NFT_GOTO`
const GOTO: i32 = -4;
/// `NFT_META_L4PROTO`, `NFT_CMP_EQ`, `NFT_NG_INCREMENTAL`, `NFT_NAT_DNAT`
const L4PROTO: u32 = 16;
const EQUAL: u32 = 0;
const INCREMENTAL: u32 = 0;
const DESTINATION: u32 = 1;
/// `NFT_REG_1` of 16 bytes; what follows an IPv4 address in it, and the one after it.
const REGISTER: u32 = 1;
const AFTER_IPV4: u32 = 9;
const AFTER_IPV6: u32 = 2;

type Message = (u16, u16, Vec<u8>);

/// All of it, or nothing.
pub fn load(changes: &[ChainChange]) -> io::Result<()> {
    let mut messages = Vec::new();
    // Anonymous sets are told apart by numbers within one transaction.
    let mut sets = 0;
    for change in changes {
        match change {
            ChainChange::DeleteElement { protocol, port } => {
                let element = nested(NFTA_LIST_ELEM, &value(1, &key(*protocol, *port))?)?;
                messages.push((DELETE_ELEMENTS, 0, elements(PORTS, None, &element)?));
            }
            ChainChange::DeleteChain { name } => {
                messages.push(flush(name)?);
                messages.push((DELETE_CHAIN, 0, of_chain(NFTA_CHAIN_NAME, name, &[])?));
            }
            ChainChange::SetChain { name, digest, rules } => {
                messages.push((NEW_CHAIN, NLM_F_CREATE, of_chain(NFTA_CHAIN_NAME, name, &[])?));
                messages.push(flush(name)?);
                let count = rules.rounds.len() + 1;
                for (number, round) in (1..).zip(&rules.rounds) {
                    sets += 1;
                    messages.extend(map(sets, rules, round)?);
                    let expressions = to_turn(sets, rules, round)?;
                    messages.push(rule(name, &expressions, &format!("{digest} {number}/{count}"))?);
                }
                messages.push(rule(name, &to_nobody()?, &format!("{digest} {count}/{count}"))?);
            }
            ChainChange::AddElement { protocol, port, chain } => {
                let data = nested(2, &verdict(chain)?)?;
                let element = nested(NFTA_LIST_ELEM, &[value(1, &key(*protocol, *port))?, data].concat())?;
                messages.push((NEW_ELEMENTS, NLM_F_CREATE, elements(PORTS, None, &element)?));
            }
        }
    }
    batch(&messages)
}

fn of_chain(kind: u16, name: &str, rest: &[Vec<u8>]) -> io::Result<Vec<u8>> {
    let attributes = [&[named(OF_TABLE, TABLE)?, named(kind, name)?], rest].concat();
    Ok(message(INET, &attributes))
}

fn flush(chain: &str) -> io::Result<Message> {
    Ok((DELETE_RULE, 0, of_chain(NFTA_RULE_CHAIN, chain, &[])?))
}

fn rule(chain: &str, expressions: &[u8], said: &str) -> io::Result<Message> {
    let rest = [nested(NFTA_RULE_EXPRESSIONS, expressions)?, comment(said)?];
    Ok((NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, of_chain(NFTA_RULE_CHAIN, chain, &rest)?))
}

/// The map from turns to backends that a rule will have, and what is in it.
fn map(id: u32, rules: &InTurn, round: &[IpAddr]) -> io::Result<[Message; 2]> {
    let is_v4 = round.first().is_some_and(IpAddr::is_ipv4);
    let (mut kind, mut length) = if is_v4 { (IPV4, 4) } else { (IPV6, 16) };
    // What nft knows a map's types again by: in which order the bytes of key (the host's) and data (the wire's, or mixed) are.
    let mut data_order = 2;
    if rules.port.is_some() {
        (kind, length, data_order) = (kind << TYPE_BITS | PORT, length + 4, 0);
    }
    let size = u32::try_from(round.len()).map_err(io::Error::other)?;
    let said = [0, 4, 1, 0, 0, 0, 1, 4, data_order, 0, 0, 0, 6, 4, 0, 0, 0, 0];
    let set = message(
        INET,
        &[
            named(OF_TABLE, TABLE)?,
            named(2, MAP_OF_A_RULE)?,
            number(3, SET_FLAGS)?,
            number(4, INTEGER)?,
            number(5, 4)?,
            number(6, kind)?,
            number(7, length)?,
            number(10, id)?,
            nested(9, &number(1, size)?)?,
            plain(13, &said)?,
        ],
    );
    let mut all = Vec::new();
    for (turn, to) in (0u32..).zip(round) {
        let element = [value(1, &turn.to_ne_bytes())?, value(2, &target(*to, rules.port))?].concat();
        all.extend(nested(NFTA_LIST_ELEM, &element)?);
    }
    Ok([(NEW_SET, NLM_F_CREATE, set), (NEW_ELEMENTS, NLM_F_CREATE, elements(MAP_OF_A_RULE, Some(id), &all)?)])
}

fn elements(set: &str, id: Option<u32>, elements: &[u8]) -> io::Result<Vec<u8>> {
    let mut attributes = vec![named(OF_TABLE, TABLE)?, named(2, set)?];
    if let Some(id) = id {
        attributes.push(number(4, id)?);
    }
    attributes.push(nested(3, elements)?);
    Ok(message(INET, &attributes))
}

/// The part of a concatenation that is shorter than four bytes is filled up.
fn target(to: IpAddr, port: Option<u16>) -> Vec<u8> {
    let mut bytes = match to {
        IpAddr::V4(to) => to.octets().to_vec(),
        IpAddr::V6(to) => to.octets().to_vec(),
    };
    if let Some(port) = port {
        bytes.extend(port.to_be_bytes());
        bytes.extend([0, 0]);
    }
    bytes
}

fn key(protocol: PortProtocol, port: u16) -> [u8; 8] {
    let [high, low] = port.to_be_bytes();
    [number_of(protocol), 0, 0, 0, high, low, 0, 0]
}

fn number_of(protocol: PortProtocol) -> u8 {
    match protocol {
        PortProtocol::Tcp => 6,
        PortProtocol::Udp => 17,
        PortProtocol::Sctp => 132,
    }
}

/// `meta l4proto tcp dnat ip to numgen inc mod 5 map …`
fn to_turn(map: u32, rules: &InTurn, round: &[IpAddr]) -> io::Result<Vec<u8>> {
    let is_v4 = round.first().is_some_and(IpAddr::is_ipv4);
    let (family, after) = if is_v4 { (libc::NFPROTO_IPV4, AFTER_IPV4) } else { (libc::NFPROTO_IPV6, AFTER_IPV6) };
    let turns = u32::try_from(round.len()).map_err(io::Error::other)?;
    let family = u32::try_from(family).map_err(io::Error::other)?;
    let mut nat = vec![number(1, DESTINATION)?, number(2, family)?, number(3, REGISTER)?];
    if rules.port.is_some() {
        nat.push(number(5, after)?);
    }
    let all = [
        expression("meta", &[number(2, L4PROTO)?, number(1, REGISTER)?])?,
        expression("cmp", &[number(1, REGISTER)?, number(2, EQUAL)?, value(3, &[number_of(rules.protocol)])?])?,
        expression("numgen", &[number(1, REGISTER)?, number(2, turns)?, number(3, INCREMENTAL)?, number(4, 0)?])?,
        expression("lookup", &[number(2, REGISTER)?, number(3, REGISTER)?, named(1, MAP_OF_A_RULE)?, number(4, map)?])?,
        expression("nat", &nat)?,
    ];
    Ok(all.concat())
}

/// `goto nobody`
fn to_nobody() -> io::Result<Vec<u8>> {
    expression("immediate", &[number(1, 0)?, nested(2, &verdict(NOBODY)?)?])
}

fn verdict(chain: &str) -> io::Result<Vec<u8>> {
    /// `NFTA_DATA_VERDICT`
    const VERDICT: u16 = 2;
    nested(VERDICT, &[plain(1, &GOTO.to_be_bytes())?, named(2, chain)?].concat())
}
