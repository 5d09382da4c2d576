//! Reads nftables straight from netlink: which chains have which comments, and what is in the maps of
//! published ports. In the namespace the calling thread is in; the `nft` program would need a process and text.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::super::netfilter::{NLM_F_DUMP, address, ask, attribute, attributes, generic_header, plain};
use crate::{
    PortTable,
    doctor::ForwardDrop,
    mesh::{TABLE, USER_TABLE, chain::digest_of, ports},
};

/// `NFPROTO_INET` and `NFPROTO_NETDEV` (linux/netfilter.h).
pub const INET: i32 = 1;
pub const NETDEV: i32 = 5;
/// `NFNL_SUBSYS_NFTABLES << 8` and what is asked for (linux/netfilter/nf_tables.h).
const GET_TABLE: u16 = 10 << 8 | 1;
const GET_CHAIN: u16 = 10 << 8 | 4;
/// Of a base chain: its hook and, in that, the number of the hook; what becomes of a packet that no rule decides on.
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_CHAIN_POLICY: u16 = 5;
/// `NF_INET_FORWARD` and `NF_DROP` (linux/netfilter.h), as attributes hold them.
const FORWARD: [u8; 4] = 2u32.to_be_bytes();
const DROP: [u8; 4] = 0u32.to_be_bytes();
const GET_RULE: u16 = 10 << 8 | 7;
const GET_SET: u16 = 10 << 8 | 10;
const GET_ELEMENTS: u16 = 10 << 8 | 13;
/// `NFTA_TABLE_NAME`, and the table that a chain, a rule or a set is of.
pub const OF_TABLE: u16 = 1;
pub const NFTA_CHAIN_NAME: u16 = 3;
pub const NFTA_RULE_CHAIN: u16 = 2;
pub const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
pub const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CHAIN: u16 = 2;
/// The kind of user data that is a rule's comment (libnftnl, udata.h).
const UDATA_COMMENT: u8 = 0;
/// A part of a concatenated key takes a multiple of this.
const PART: usize = 4;
const INTERFACE_NAME: usize = 16;

/// Names of the tables of family `inet`.
pub fn tables() -> io::Result<BTreeSet<String>> {
    let answers = list(GET_TABLE, INET, &[])?;
    Ok(answers.iter().filter_map(|answer| text(attribute(answer, OF_TABLE)?)).collect())
}

/// The comments of a table's rules, by chain and in order; a rule without one has an empty comment.
pub fn comments(family: i32, table: &str) -> io::Result<BTreeMap<String, Vec<String>>> {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in list(GET_RULE, family, &named(OF_TABLE, table)?)?.iter().filter(|rule| is_of(rule, table)) {
        let Some(chain) = attribute(rule, NFTA_RULE_CHAIN).and_then(text) else { continue };
        let comment = attribute(rule, NFTA_RULE_USERDATA).and_then(comment).unwrap_or_default();
        chains.entry(chain).or_default().push(comment);
    }
    Ok(chains)
}

/// The table of published ports.
pub fn port_table() -> io::Result<PortTable> {
    let chains = comments(INET, TABLE)?.into_iter().map(|(chain, comments)| (chain, digest_of(&comments))).collect();
    let mut elements = BTreeMap::new();
    for (map, kind) in ports::MAPS {
        let found = elements_of(map, kind)?;
        if !found.is_empty() {
            elements.insert(map.to_owned(), found);
        }
    }
    Ok(PortTable { chains, elements })
}

/// The chains, of whatever table, that drop what they do not know on the way through the host, and which of `links` no rule
/// of their table names.
pub fn forward_drops(links: &[String]) -> io::Result<Vec<ForwardDrop>> {
    let mut drops = Vec::new();
    for (family, name) in [(INET, "inet"), (libc::NFPROTO_IPV4, "ip"), (libc::NFPROTO_IPV6, "ip6")] {
        let chains = list(GET_CHAIN, family, &[])?;
        let name_of = |chain: &[u8], kind| attribute(chain, kind).and_then(text).unwrap_or_default();
        for chain in &chains {
            let hook = attribute(chain, NFTA_CHAIN_HOOK).and_then(|hook| attribute(hook, NFTA_HOOK_HOOKNUM));
            let policy = attribute(chain, NFTA_CHAIN_POLICY);
            if hook != Some(&FORWARD[..]) || policy != Some(&DROP[..]) {
                continue;
            }
            let table = name_of(chain, OF_TABLE);
            let rules = list(GET_RULE, family, &named(OF_TABLE, &table)?)?;
            let rules: Vec<_> = rules.into_iter().filter(|rule| is_of(rule, &table)).collect();
            // Names of interfaces are the only long words in rules that stand there as they are.
            let names =
                |link: &String| rules.iter().any(|rule| rule.windows(link.len()).any(|bytes| bytes == link.as_bytes()));
            let is_ufw =
                chains.iter().any(|other| is_of(other, &table) && name_of(other, NFTA_CHAIN_NAME).starts_with("ufw"));
            drops.push(ForwardDrop {
                family: name.to_owned(),
                chain: name_of(chain, NFTA_CHAIN_NAME),
                is_ufw,
                unnamed: links.iter().filter(|link| !names(link)).cloned().collect(),
                table,
            });
        }
    }
    Ok(drops)
}

/// The chains of the operator's table, and whether it has neither a rule nor a set.
pub fn user_table() -> io::Result<(BTreeSet<String>, bool)> {
    let filter = named(OF_TABLE, USER_TABLE)?;
    let chains = list(GET_CHAIN, INET, &filter)?;
    let chains = chains.iter().filter(|chain| is_of(chain, USER_TABLE));
    let chains = chains.filter_map(|chain| text(attribute(chain, NFTA_CHAIN_NAME)?)).collect();
    let has_rules = !comments(INET, USER_TABLE)?.is_empty();
    let has_sets = list(GET_SET, INET, &filter)?.iter().any(|set| is_of(set, USER_TABLE));
    Ok((chains, !has_rules && !has_sets))
}

fn elements_of(map: &str, kind: &str) -> io::Result<BTreeMap<String, String>> {
    let mut filter = named(OF_TABLE, TABLE)?;
    filter.extend(named(NFTA_SET_ELEM_LIST_SET, map)?);
    let answers = match list(GET_ELEMENTS, INET, &filter) {
        // No such map: somebody flushed the ruleset in this very moment, or the table is of another version.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(BTreeMap::new()),
        answers => answers?,
    };
    let lists = answers.iter().filter_map(|answer| attribute(answer, NFTA_SET_ELEM_LIST_ELEMENTS));
    let elements = lists.flat_map(attributes).map(|(_, element)| element);
    Ok(elements.filter_map(|element| Some((key(kind, element)?, target(element)?))).collect())
}

/// The key as nft writes it; None for one that is none of ours. `kind` is the type of the map's keys.
fn key(kind: &str, element: &[u8]) -> Option<String> {
    let value = |kind| attribute(element, kind).and_then(|data| attribute(data, NFTA_DATA_VALUE));
    let (first, last) = (value(NFTA_SET_ELEM_KEY)?, value(NFTA_SET_ELEM_KEY_END));
    let (prefix, rest) = match kind.split(' ').next()? {
        "ipv4_addr" => (format!("{} . ", address(first.get(..4)?)?), first.get(4..)?),
        "ipv6_addr" => (format!("{} . ", address(first.get(..16)?)?), first.get(16..)?),
        "ifname" => (format!("\"{}\" . ", text(first.get(..INTERFACE_NAME)?)?), first.get(INTERFACE_NAME..)?),
        _ => (String::new(), first),
    };
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
    let low = port(rest.get(PART..)?)?;
    let high = match last {
        Some(last) => port(last.get(last.len().checked_sub(PART)?..)?)?,
        None => low,
    };
    let protocol = match i32::from(*rest.first()?) {
        libc::IPPROTO_TCP => "tcp",
        libc::IPPROTO_UDP => "udp",
        libc::IPPROTO_SCTP => "sctp",
        _ => return None,
    };
    Some(prefix + &ports::key(protocol, (low, high)))
}

fn target(element: &[u8]) -> Option<String> {
    let verdict = attribute(attribute(element, NFTA_SET_ELEM_DATA)?, NFTA_DATA_VERDICT)?;
    text(attribute(verdict, NFTA_VERDICT_CHAIN)?)
}

/// The bodies of all answers, without their common header.
fn list(kind: u16, family: i32, filter: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut body = generic_header(family).to_vec();
    let header = body.len();
    body.extend(filter);
    let answers = ask(libc::NETLINK_NETFILTER as isize, kind, NLM_F_DUMP, &body)?;
    Ok(answers.into_iter().filter_map(|answer| answer.get(header..).map(<[u8]>::to_vec)).collect())
}

fn is_of(object: &[u8], table: &str) -> bool {
    attribute(object, OF_TABLE).and_then(text).is_some_and(|name| name == table)
}

/// An attribute that is a name.
pub fn named(kind: u16, name: &str) -> io::Result<Vec<u8>> {
    plain(kind, &[name.as_bytes(), &[0]].concat())
}

/// Up to the final zero.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).ok().map(str::to_owned)
}

/// User data are one after the other: kind, length, content.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let content = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return text(content);
        }
        data = &rest[usize::from(*length)..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_found_among_other_user_data() {
        assert_eq!(comment(b"\x01\x02xx\x00\x04abc\x00"), Some("abc".to_owned()));
        assert_eq!(comment(b"\x01\x02xx"), None);
        assert_eq!(comment(b"\x00\x09abc"), None, "cut off");
    }
}
