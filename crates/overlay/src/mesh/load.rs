//! What turns the table of published ports that is there into the wanted one. Pure.
//!
//! Against a listing of the kernel's table ([`PortRules::load_over`]) all chains are compared. Against what this process
//! itself has loaded last ([`PortRules::load_after`]) only the ports that differ are looked at: what one change costs
//! does not depend on how many others there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use types::{PortBind, PortProtocol};

use super::{
    PortTable, TABLE,
    chain::{Chain, INFALLIBLE},
    ports::{Entry, InTurn, MAPS, SPARED, Spared, key},
};

/// More chains at once are given to the `nft` program, which does not mind: the kernel answers each word, and a
/// socket holds some hundreds of answers.
const MOST_CHAINS: usize = 16;

/// All that the table of published ports follows from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortRules {
    /// The chains that do not depend on ports, each before those that lead to it.
    pub skeleton: Vec<Chain>,
    pub entries: Vec<Entry>,
    pub spared: Spared,
    /// This host's: hosts do not all begin with the same backend.
    pub salt: u64,
    /// Addresses of the interfaces that ports are bound to.
    pub own: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// What to load.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortLoad {
    /// For `nft`, one transaction.
    pub ruleset: String,
    /// The same, for the kernel itself; empty where that needs more words than these.
    pub changes: Vec<ChainChange>,
    /// UDP ports that were not published before: flows of theirs may already be on their way elsewhere.
    pub fresh: BTreeSet<(u16, u16)>,
}

/// A change of the table that needs few words. Its elements are those of the map of single ports at all addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainChange {
    DeleteElement {
        protocol: PortProtocol,
        port: u16,
    },
    DeleteChain {
        name: String,
    },
    /// In place of what the chain has now, which may be nothing.
    SetChain {
        name: String,
        digest: String,
        rules: InTurn,
    },
    AddElement {
        protocol: PortProtocol,
        port: u16,
        chain: String,
    },
}

impl PortRules {
    /// What turns a table, as the kernel lists it, into this one; None when it is that already.
    pub fn load_over(&self, had: Option<&PortTable>) -> Option<PortLoad> {
        let nothing = PortTable::default();
        let (has, wanted) = (had.unwrap_or(&nothing), self.table());
        if had == Some(&wanted) {
            return None;
        }
        let ruleset = self.difference(has, &wanted, had.is_none());
        (!ruleset.is_empty()).then(|| PortLoad { ruleset, changes: Vec::new(), fresh: self.fresh(has) })
    }

    /// The same where `before` is loaded and nobody has changed a rule since.
    pub fn load_after(&self, before: &Self) -> Option<PortLoad> {
        let is_alike = self.skeleton == before.skeleton
            && self.spared == before.spared
            && self.salt == before.salt
            && self.own == before.own;
        // Whom an address is spared for may depend on any port.
        if !is_alike || !self.spared.is_empty() {
            return self.load_over(Some(&before.table()));
        }
        let (gone, come) = differing(&before.entries, &self.entries);
        if gone.is_empty() && come.is_empty() {
            return None;
        }
        let part = |entries: &[Entry]| Self {
            entries: entries.to_vec(),
            salt: self.salt,
            own: self.own.clone(),
            ..Self::default()
        };
        let (gone, come) = (part(gone), part(come));
        let (has, wanted) = (gone.table(), come.table());
        let ruleset = come.difference(&has, &wanted, false);
        let changes = changes(&gone, &come, &has, &wanted).unwrap_or_default();
        (!ruleset.is_empty()).then(|| PortLoad { ruleset, changes, fresh: come.fresh(&has) })
    }

    /// The table as it shall be.
    pub fn table(&self) -> PortTable {
        let mut table = PortTable::default();
        table.chains.extend(self.skeleton.iter().map(|chain| (chain.name.clone(), chain.digest())));
        let mut lead = |map: &str, key: String, to: &str| {
            // Who published at this very address was there before whom it would be spared for.
            table.elements.entry(map.to_owned()).or_default().entry(key).or_insert_with(|| to.to_owned());
        };
        for entry in &self.entries {
            let (map, key) = entry.element();
            let name = entry.chain_name();
            lead(map, key, &name);
            let own = entry.interface().and_then(|name| self.own.get(name));
            let own_elements = own.into_iter().flatten().map(|address| entry.own_element(*address));
            for (map, key) in own_elements.chain(entry.over_ipv4(own)) {
                lead(map, key, &name);
            }
            table.chains.insert(name, entry.digest(self.salt));
        }
        for (address, protocol, port) in &self.spared {
            let map = if address.is_ipv4() { "ports4" } else { "ports6" };
            lead(map, format!("{address} . {}", key(protocol.as_str(), (*port, *port))), SPARED);
        }
        table
    }

    /// What is loaded is what differs.
    fn difference(&self, has: &PortTable, wanted: &PortTable, is_new: bool) -> String {
        let Self { skeleton, entries, salt, .. } = self;
        let mut text = String::new();
        let out = &mut text;
        for (map, key, _) in not_in(has, wanted) {
            writeln!(out, "delete element inet {TABLE} {map} {{ {key} }}").expect(INFALLIBLE);
        }
        let is_loaded = |name: &str| has.chains.get(name).is_some_and(|loaded| wanted.chains.get(name) == Some(loaded));
        if is_new || skeleton.iter().any(|chain| !is_loaded(&chain.name)) {
            write_skeleton(out, skeleton, |chain| is_loaded(&chain.name));
        }
        for name in has.chains.keys().filter(|name| !wanted.chains.contains_key(*name)) {
            writeln!(out, "flush chain inet {TABLE} {name}\ndelete chain inet {TABLE} {name}").expect(INFALLIBLE);
        }
        for entry in entries {
            let name = entry.chain_name();
            if !is_loaded(&name) {
                entry.chain(*salt).write(out, TABLE, &wanted.chains[&name]);
            }
        }
        for (map, key, chain) in not_in(wanted, has) {
            writeln!(out, "add element inet {TABLE} {map} {{ {key} : goto {chain} }}").expect(INFALLIBLE);
        }
        text
    }

    /// The UDP ports that the other table does not have.
    fn fresh(&self, had: &PortTable) -> BTreeSet<(u16, u16)> {
        let datagrams = self.entries.iter().filter(|entry| entry.protocol == PortProtocol::Udp);
        let is_fresh = |entry: &&Entry| {
            let (map, key) = entry.element();
            !had.elements.get(map).is_some_and(|keys| keys.contains_key(&key))
        };
        datagrams.filter(is_fresh).map(|entry| entry.published).collect()
    }
}

/// Of both, from the first difference to the last.
fn differing<'a>(before: &'a [Entry], now: &'a [Entry]) -> (&'a [Entry], &'a [Entry]) {
    let same = before.iter().zip(now).take_while(|(had, has)| had == has).count();
    let (before, now) = (&before[same..], &now[same..]);
    let same_end = before.iter().rev().zip(now.iter().rev()).take_while(|(had, has)| had == has).count();
    (&before[..before.len() - same_end], &now[..now.len() - same_end])
}

/// In few words, in the order of the text; None where these are not enough.
fn changes(gone: &PortRules, come: &PortRules, has: &PortTable, wanted: &PortTable) -> Option<Vec<ChainChange>> {
    let by_name = |rules: &'_ PortRules| -> BTreeMap<String, Entry> {
        rules.entries.iter().map(|entry| (entry.chain_name(), entry.clone())).collect()
    };
    let (gone, come_by_name) = (by_name(gone), by_name(come));
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (name, entry) in gone.iter().filter(|(name, _)| !come_by_name.contains_key(*name)) {
        first.insert(0, ChainChange::DeleteElement { protocol: entry.protocol, port: single(entry)? });
        first.push(ChainChange::DeleteChain { name: name.clone() });
    }
    for (name, entry) in come_by_name.iter().filter(|(name, _)| has.chains.get(*name) != wanted.chains.get(*name)) {
        let (digest, rules) = (wanted.chains[name].clone(), entry.in_turn(come.salt)?);
        first.push(ChainChange::SetChain { name: name.clone(), digest, rules });
        if !gone.contains_key(name) {
            last.push(ChainChange::AddElement { protocol: entry.protocol, port: single(entry)?, chain: name.clone() });
        }
    }
    first.extend(last);
    let chains = first.iter().filter(|change| matches!(change, ChainChange::SetChain { .. })).count();
    (chains <= MOST_CHAINS && first.len() <= 3 * MOST_CHAINS).then_some(first)
}

/// The port of an entry in the map of single ports at all addresses.
fn single(entry: &Entry) -> Option<u16> {
    let (first, last) = entry.published;
    (first == last && entry.bind == PortBind::All).then_some(first)
}

/// Map, key and chain of the elements of one table that the other does not have like that.
fn not_in<'a>(one: &'a PortTable, other: &'a PortTable) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    one.elements.iter().flat_map(|(map, keys)| {
        let others = other.elements.get(map);
        let differs = move |(key, chain): &(&String, &String)| others.and_then(|keys| keys.get(*key)) != Some(*chain);
        keys.iter().filter(differs).map(|(key, chain)| (map.as_str(), key.as_str(), chain.as_str()))
    })
}

fn write_skeleton(out: &mut String, skeleton: &[Chain], is_loaded: impl Fn(&Chain) -> bool) {
    writeln!(out, "add table inet {TABLE}").expect(INFALLIBLE);
    for (name, key) in MAPS {
        let flags = if name.contains("ranges") { " flags interval;" } else { "" };
        writeln!(out, "add map inet {TABLE} {name} {{ type {key} : verdict;{flags} }}").expect(INFALLIBLE);
    }
    for chain in skeleton.iter().filter(|chain| !is_loaded(chain)) {
        chain.write(out, TABLE, &chain.digest());
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
