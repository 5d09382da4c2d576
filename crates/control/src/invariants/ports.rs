//! What must hold of published ports: no number is two services' (S-72), and each is what its service asked for.

use std::collections::BTreeMap;

use types::{PortProtocol, PublishMode, Service};

use crate::{
    Tables,
    tables::{
        index::peer,
        ports::{Hold, holds},
    },
};

pub(super) fn check(tables: &Tables) -> Result<(), String> {
    let mut all: BTreeMap<(PortProtocol, u16), Vec<Hold>> = BTreeMap::new();
    for service in tables.services() {
        numbers(tables, service)?;
        for (at, hold) in holds(service) {
            all.entry(at).or_default().push(hold);
        }
    }
    for ((protocol, number), holds) in &mut all {
        holds.sort();
        for (at, one) in holds.iter().enumerate() {
            let rival = |two: &&Hold| {
                one.service != two.service && one.bind.overlaps(&two.bind) && !(one.on_host && two.on_host)
            };
            if let Some(two) = holds[at + 1..].iter().find(rival) {
                return Err(format!("port {number}/{protocol} is held by {one:?} and {two:?}"));
            }
        }
    }
    if !tables.ports().iter().eq(&all) {
        return Err(format!("published ports are kept as {:?}, services hold {all:?}", tables.ports()));
    }
    peers(tables)
}

/// The ports of the mesh are those of the spec, each with its number, and there is a mesh.
fn numbers(tables: &Tables, service: &Service) -> Result<(), String> {
    let name = &service.spec.name;
    let asked: Vec<_> = service.spec.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Ingress).collect();
    let fits = asked.len() == service.published.len()
        && asked.iter().zip(service.published.iter()).all(|(asked, has)| {
            let same = has.published.is_some() && asked.published.is_none_or(|number| has.published == Some(number));
            same && (asked.protocol, asked.target, &asked.bind) == (has.protocol, has.target, &has.bind)
        });
    if !fits {
        return Err(format!("service {name} asks for ports {asked:?} and has {:?}", service.published));
    }
    if service.publishes() && tables.ingress().is_none() {
        return Err(format!("service {name} publishes ports and there is no ingress network"));
    }
    Ok(())
}

fn peers(tables: &Tables) -> Result<(), String> {
    let reached = tables.nodes().filter_map(|node| Some((node.id, peer(node)?)));
    let reached: BTreeMap<_, _> = reached.collect();
    let known: BTreeMap<_, _> = tables.peers().iter().map(|(id, peer)| (*id, (**peer).clone())).collect();
    match known == reached {
        true => Ok(()),
        false => Err(format!("data planes are known at {known:?} and are at {reached:?}")),
    }
}
