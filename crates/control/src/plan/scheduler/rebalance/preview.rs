//! What a request to even services out would move.

use std::collections::BTreeSet;

use types::{RebalanceMove, RebalanceView, Service, ServiceId, Timestamp};

use super::{Mover, is_replicated, is_updating, why_not};
use crate::{
    Rejection, Tables,
    plan::{draft::Draft, slots},
    view::find,
};

/// Of the services that are named; of all that take part if none is.
///
/// # Errors
/// A service that is named is not there, or is none to even out.
pub(crate) fn preview(tables: &Tables, names: &[String], now: Timestamp) -> Result<RebalanceView, Rejection> {
    let draft = Draft::new(tables, now);
    let mut view = RebalanceView::default();
    let mut seen: BTreeSet<ServiceId> = BTreeSet::new();
    for name in names {
        let service = find::service(tables, name)?;
        if !seen.insert(service.id) {
            continue;
        }
        if let Some(why) = refusal(service) {
            return Err(Rejection::FailedPrecondition(why));
        }
        view.moves.extend(moves(&draft, service));
    }
    if !names.is_empty() {
        return Ok(view);
    }
    for service in tables.services().filter(|service| is_replicated(service)) {
        let moves = moves(&draft, service);
        let under_update = || is_updating(service).then(|| "an update of it is under way".to_owned());
        match why_not(service).or_else(under_update) {
            _ if moves.is_empty() => {}
            Some(why) => view.stays.push((service.spec.name.to_string(), why)),
            None => view.moves.extend(moves),
        }
    }
    view.moves.sort_by(|a, b| a.name.cmp(&b.name));
    view.stays.sort();
    Ok(view)
}

/// Why a service that was named cannot be evened out, and what to do.
fn refusal(service: &Service) -> Option<String> {
    let name = &service.spec.name;
    if !is_replicated(service) {
        let mode = service.spec.mode.as_str();
        return Some(format!("service {name} is {mode}: there is nothing to even out, leave it out"));
    }
    if is_updating(service) {
        return Some(format!(
            "an update of service {name} is under way: its tasks are replaced anyway; repeat when it is done"
        ));
    }
    let why = why_not(service)?;
    Some(format!(
        "service {name} is not evened out: {why}; leave it out, or change that with `rswarm service update {name}`"
    ))
}

fn moves(draft: &Draft, service: &Service) -> Vec<RebalanceMove> {
    let views = slots::slots(draft, service, draft.now());
    let mut mover = Mover::settled(draft, service, &views);
    let mut moves = Vec::new();
    while let Some(step) = mover.next() {
        moves.push(RebalanceMove {
            service: service.id,
            name: service.spec.name.to_string(),
            slot: step.view.slot,
            from: step.gap.from,
            to: step.gap.to,
            why: step.gap.why,
        });
    }
    moves
}
