//! What a service may depend on: services that are there, that can come to what is waited for, and that do not wait for
//! it in turn.

use std::collections::BTreeSet;

use types::{Name, Need, NeedCondition, RestartCondition, ServiceSpec};

use crate::{Rejection, Tables};

/// More than this in one service is a slip: each is looked at whenever one of them changes.
const MAX_NEEDS: usize = 100;

fn invalid<T>(what: String) -> Result<T, Rejection> {
    Err(Rejection::Invalid(what))
}

/// `before` is the spec that this one takes the place of: what it said already is not asked for again, for a service may
/// be changed whatever became of those it needs.
pub(super) fn check(tables: &Tables, spec: &ServiceSpec, before: Option<&ServiceSpec>) -> Result<(), Rejection> {
    let name = &spec.name;
    if spec.needs.len() > MAX_NEEDS {
        let count = spec.needs.len();
        return invalid(format!("service {name} depends on {count} services, at most {MAX_NEEDS} are possible"));
    }
    let mut seen = BTreeSet::new();
    for need in &spec.needs {
        if need.service == *name {
            return invalid(format!("service {name} depends on itself: it would never start"));
        }
        if !seen.insert(&need.service) {
            return invalid(format!("service {name} depends on {} twice: give one condition", need.service));
        }
        if before.is_none_or(|before| !before.needs.contains(need)) {
            is_possible(tables, name, need)?;
        }
    }
    match circle(tables, spec) {
        None => Ok(()),
        Some(circle) => {
            let names: Vec<&str> = circle.iter().map(Name::as_str).collect();
            invalid(format!(
                "service {name} would wait for itself, dependencies run in a circle: {}; take one of them out",
                names.join(" -> ")
            ))
        }
    }
}

fn is_possible(tables: &Tables, name: &Name, need: &Need) -> Result<(), Rejection> {
    let wanted = &need.service;
    let Some(other) = tables.service_by_name(wanted) else {
        return invalid(format!(
            "service {name} depends on service {wanted}, which is not there: create it first, or deploy both as one stack"
        ));
    };
    let ends = other.spec.mode.is_job() || other.spec.task.restart.condition != RestartCondition::Any;
    if need.condition == NeedCondition::Completed && !ends {
        return invalid(format!(
            "service {name} waits for service {wanted} to have completed, which it never will: make it a job, or give \
             it the restart condition none or on-failure"
        ));
    }
    Ok(())
}

/// From the service back to itself, if its needs lead there.
fn circle(tables: &Tables, spec: &ServiceSpec) -> Option<Vec<Name>> {
    let mut seen: BTreeSet<Name> = BTreeSet::new();
    let mut paths: Vec<Vec<Name>> = spec.needs.iter().map(|need| vec![need.service.clone()]).collect();
    while let Some(path) = paths.pop() {
        let last = path.last()?;
        if *last == spec.name {
            return Some([spec.name.clone()].into_iter().chain(path).collect());
        }
        if !seen.insert(last.clone()) {
            continue;
        }
        let next = tables.service_by_name(last).into_iter().flat_map(|service| &service.spec.needs);
        paths.extend(next.map(|need| path.iter().cloned().chain([need.service.clone()]).collect()));
    }
    None
}
