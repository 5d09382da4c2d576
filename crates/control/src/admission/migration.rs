//! Requests to move the data of local volumes to another node (P41).

use std::{collections::BTreeSet, time::Duration};

use types::{
    Availability, Migration, MigrationKey, MigrationStep, Node, NodeId, NodeState, Service, ServiceId, Slot, Timestamp,
    UpdateState,
};

use crate::{Change, ObjectRef, Proposal, Rejection, Tables, plan, tables::homes::Home, view::find};

/// Without a word from its carrier a migration ends after this: so long the slots stand still for nothing at most, and so
/// long an election and a slow disk may take.
const LASTS: Duration = Duration::from_secs(30);
/// Places of data that are named in a refusal.
const MAX_NAMED: usize = 8;

pub(super) fn step(
    tables: &Tables,
    step: &MigrationStep,
    now: Timestamp,
) -> Result<(Proposal, Option<Migration>), Rejection> {
    match step {
        MigrationStep::Begin { volume, from, to, dry_run } => {
            let migration = begin(tables, volume, from, to, now)?;
            let nothing = Proposal { at: now, ..Proposal::default() };
            Ok((if *dry_run { nothing } else { put(tables, &migration, now) }, Some(migration)))
        }
        MigrationStep::Renew(key) => {
            let migration = Migration { until: now + LASTS, ..held(tables, key)?.clone() };
            Ok((put(tables, &migration, now), Some(migration)))
        }
        MigrationStep::Finish(key) => Ok((end(tables, key, true, now)?, None)),
        // one that is over already is what was asked for
        MigrationStep::Abort(key) => match end(tables, key, false, now) {
            Err(Rejection::FailedPrecondition(_)) => Ok((Proposal { at: now, ..Proposal::default() }, None)),
            ended => Ok((ended?, None)),
        },
    }
}

fn begin(tables: &Tables, volume: &str, from: &str, to: &str, now: Timestamp) -> Result<Migration, Rejection> {
    let (from, to) = (find::node(tables, from)?, find::node(tables, to)?);
    let refuse = |why: String| Err(Rejection::FailedPrecondition(why));
    if from.id == to.id {
        let name = from.shown_name();
        return Err(Rejection::Invalid(format!("volume {volume} cannot move from {name} to {name}: name two nodes")));
    }
    let Data { volumes, slots } = data_on(tables, volume, from.id);
    if slots.is_empty() {
        return refuse(no_data(tables, volume, from));
    }
    check_node(from, "its data is read there")?;
    check_node(to, "its data is written there")?;
    if to.spec.availability != Availability::Active {
        return refuse(format!(
            "node {} takes no tasks: it is paused or drained; activate it with `rswarm node update --availability active`, \
             or choose another",
            to.shown_name()
        ));
    }
    if let Some(other) = tables.migrations().find(|other| other.volumes.iter().any(|name| volumes.contains(name))) {
        return refuse(format!("volume {volume} waits: volume {} is on its way between nodes already", other.volume));
    }
    if let Some((name, service, slot)) = twin_on(tables, &volumes, to.id) {
        return refuse(format!(
            "volume {name} on node {} is the data of {}: two tasks' data cannot become one; choose another node",
            to.shown_name(),
            place(tables, service, slot)
        ));
    }
    let services: BTreeSet<ServiceId> = slots.iter().map(|(service, _)| *service).collect();
    for service in services.iter().filter_map(|id| tables.service(*id)) {
        check_service(tables, service, to, now)?;
    }
    let (volume, from, to) = (volume.to_owned(), from.id, to.id);
    Ok(Migration { volume, from, to, volumes, slots, started_at: now, until: now + LASTS })
}

/// What moves together.
struct Data {
    volumes: Vec<String>,
    slots: Vec<(ServiceId, Slot)>,
}

/// A slot is on one node, so all its volumes of that node move, and with them the slots that share those.
fn data_on(tables: &Tables, volume: &str, node: NodeId) -> Data {
    let here: Vec<((ServiceId, Slot), &Home)> = tables.homes().filter(|(_, home)| home.node == node).collect();
    let mut volumes = BTreeSet::from([volume.to_owned()]);
    let mut slots: BTreeSet<(ServiceId, Slot)> = BTreeSet::new();
    loop {
        let known = (volumes.len(), slots.len());
        for (key, home) in here
            .iter()
            .filter(|(_, home)| home.volumes.iter().any(|name| volumes.contains(name)))
            .copied()
            .collect::<Vec<_>>()
        {
            slots.insert(key);
            volumes.extend(home.volumes.iter().cloned());
        }
        if known == (volumes.len(), slots.len()) {
            return Data { volumes: volumes.into_iter().collect(), slots: slots.into_iter().collect() };
        }
    }
}

/// A slot whose own data is in a volume of the same name there.
fn twin_on<'t>(tables: &'t Tables, volumes: &[String], node: NodeId) -> Option<(&'t str, ServiceId, Slot)> {
    let mut there = tables.homes().filter(|(_, home)| home.node == node);
    there.find_map(|((service, slot), home)| {
        let name = home.volumes.iter().find(|name| volumes.contains(name))?;
        Some((name.as_str(), service, slot))
    })
}

fn no_data(tables: &Tables, volume: &str, from: &Node) -> String {
    let named = |home: &Home| home.volumes.iter().any(|name| name == volume);
    let node = |id: NodeId| tables.node(id).map_or_else(|| id.short(), |node| node.shown_name().to_owned());
    let one = |((service, slot), home): ((ServiceId, Slot), &Home)| {
        format!("{} ({})", node(home.node), place(tables, service, slot))
    };
    let all: Vec<String> = tables.homes().filter(|(_, home)| named(home)).take(MAX_NAMED).map(one).collect();
    let known = match (all.is_empty(), tables.left_homes(volume).next()) {
        (false, _) => format!("it is on {}; name that node as the first", all.join(", ")),
        (true, Some((name, _, id))) => format!(
            "it was the data of service {name} on {}, which is removed; a new service of that name finds it there, then repeat \
             this",
            node(id)
        ),
        (true, None) => {
            "no service has data in a volume of this name; `rswarm service inspect SERVICE` shows the volumes of \
                         one, and `rswarm volume ls` on a node those that are there"
                .to_owned()
        }
    };
    format!("no service's data is in volume {volume} on node {}: {known}", from.shown_name())
}

/// `db.1`
fn place(tables: &Tables, service: ServiceId, slot: Slot) -> String {
    let name = tables.service(service).map_or_else(|| service.short(), |service| service.spec.name.to_string());
    match slot {
        Slot::Replica(number) => format!("{name}.{number}"),
        Slot::Node(node) => format!("{name}.{node}"),
    }
}

fn check_node(node: &Node, why: &str) -> Result<(), Rejection> {
    match node.status.state {
        NodeState::Ready => Ok(()),
        _ => Err(Rejection::FailedPrecondition(format!(
            "node {} is not ready, and {why}: see `rswarm node ls`, and repeat when it is back",
            node.shown_name()
        ))),
    }
}

fn check_service(tables: &Tables, service: &Service, to: &Node, now: Timestamp) -> Result<(), Rejection> {
    let name = &service.spec.name;
    let state = service.update.as_ref().map(|update| update.state);
    if !matches!(state, None | Some(UpdateState::Completed | UpdateState::RollbackCompleted)) {
        return Err(Rejection::FailedPrecondition(format!(
            "an update of service {name} is under way or paused: repeat when it is done"
        )));
    }
    match plan::why_not_on(tables, service, to.id, now) {
        None => Ok(()),
        Some(why) => Err(Rejection::FailedPrecondition(format!(
            "service {name} does not run on node {}, which {why}: change its constraints or choose another node",
            to.shown_name()
        ))),
    }
}

/// What was read is expected to be so still: a spec that changes meanwhile may forbid it.
fn put(tables: &Tables, migration: &Migration, now: Timestamp) -> Proposal {
    let is_new = tables.migration(&migration.volume, migration.from).is_none();
    let services: BTreeSet<ServiceId> = migration.slots.iter().map(|(service, _)| *service).collect();
    let version = |id: ServiceId| Some((ObjectRef::Service(id), tables.service(id)?.meta.version));
    let expects = services.into_iter().filter(|_| is_new).filter_map(version).collect();
    Proposal { at: now, expects, changes: vec![Change::PutMigration(Box::new(migration.clone()))] }
}

fn held<'t>(tables: &'t Tables, key: &MigrationKey) -> Result<&'t Migration, Rejection> {
    let found = tables.migration(&key.volume, key.from).filter(|found| found.started_at == key.started_at);
    found.map(|found| &**found).ok_or_else(|| {
        Rejection::FailedPrecondition(format!(
            "the move of volume {} has ended meanwhile, because nothing was heard of it for {} s or a node went down: its \
             tasks go on where they were",
            key.volume,
            LASTS.as_secs()
        ))
    })
}

fn end(tables: &Tables, key: &MigrationKey, moved: bool, now: Timestamp) -> Result<Proposal, Rejection> {
    held(tables, key)?;
    let change = Change::EndMigration { volume: key.volume.clone(), from: key.from, moved };
    Ok(Proposal { at: now, expects: Vec::new(), changes: vec![change] })
}
