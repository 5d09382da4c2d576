//! `depends_on`: who is not there, who waits for itself, who never completes, and the order that follows. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    check::{Check, Problem, nearest},
    convert::{Condition, Need, Service},
};

/// Refuses what cannot be waited for; what is not required and not there is forgotten. `all` are the names of the file, also
/// of services whose profile is not active.
pub(super) fn check(services: &mut [Service], all: &[&str], check: &mut Check) {
    let present: Vec<String> = services.iter().map(|service| service.key.clone()).collect();
    let never: Vec<String> =
        services.iter().filter(|service| !may_complete(&service.spec)).map(|service| service.key.clone()).collect();
    for service in services.iter_mut() {
        let key = service.key.clone();
        service.needs.retain(|need| {
            let mut wrong = |why: String| {
                check.problems.push(Problem::new(need.at, format!("service {key}: depends_on: {why}")));
            };
            let target = &need.service;
            if !all.contains(&target.as_str()) {
                let hint = nearest(target, all).map_or(String::new(), |near| format!("; do you mean {near:?}?"));
                wrong(format!("there is no service {target:?}{hint}"));
            } else if !present.contains(target) {
                if need.required {
                    wrong(format!("service {target:?} is not active: name one of its profiles with --profile, or say required: false"));
                }
            } else if need.condition == Condition::Completed && never.contains(target) {
                wrong(format!(
                    "service {target:?} never completes: give it deploy.mode replicated-job, or restart_policy.condition \
                     none or on-failure"
                ));
            } else {
                return true;
            }
            false
        });
    }
    if let Some(cycle) = cycle(services) {
        let first = services.iter().find(|service| service.key == cycle[0]);
        let why = format!("depends_on runs in a circle: {} -> {}", cycle.join(" -> "), cycle[0]);
        let at = first.and_then(|service| service.needs.first()).map(|need| need.at);
        check.problems.push(Problem { at, why });
    }
}

/// Puts it into the specs: the cluster sees to the order.
pub(super) fn say(services: &mut [Service]) {
    let names: BTreeMap<String, String> =
        services.iter().map(|service| (service.key.clone(), service.name.clone())).collect();
    for service in services.iter_mut().filter(|service| !service.needs.is_empty()) {
        let one = |need: &Need| {
            let condition = match need.condition {
                Condition::Started => "service_started",
                Condition::Healthy => "service_healthy",
                Condition::Completed => "service_completed_successfully",
            };
            Some(json!({ "Service": names.get(&need.service)?, "Condition": condition }))
        };
        service.spec["DependsOn"] = service.needs.iter().filter_map(one).collect();
    }
}

fn may_complete(spec: &Value) -> bool {
    let is_job = ["ReplicatedJob", "GlobalJob"].iter().any(|mode| spec["Mode"].get(mode).is_some());
    is_job || matches!(spec["TaskTemplate"]["RestartPolicy"]["Condition"].as_str(), Some("none" | "on-failure"))
}

/// The services of a circle, if there is one.
fn cycle(services: &[Service]) -> Option<Vec<String>> {
    let mut left: Vec<&Service> = services.iter().collect();
    // who waits for nobody that is left is in no circle
    loop {
        let keys: Vec<&str> = left.iter().map(|service| service.key.as_str()).collect();
        let before = left.len();
        left.retain(|service| service.needs.iter().any(|need| keys.contains(&need.service.as_str())));
        if left.len() == before {
            break;
        }
    }
    let mut path: Vec<String> = vec![left.first()?.key.clone()];
    loop {
        let here = left.iter().find(|service| Some(&service.key) == path.last())?;
        let next = here.needs.iter().find(|need| left.iter().any(|service| service.key == need.service))?;
        if let Some(at) = path.iter().position(|key| *key == next.service) {
            return Some(path.split_off(at));
        }
        path.push(next.service.clone());
    }
}

/// Each after those it needs; otherwise by name. Services of a circle keep their place.
pub(super) fn sort(services: &mut Vec<Service>) {
    services.sort_by(|a, b| a.key.cmp(&b.key));
    let mut sorted: Vec<Service> = Vec::new();
    while !services.is_empty() {
        let waits =
            |service: &Service| service.needs.iter().any(|need| services.iter().any(|other| other.key == need.service));
        let next = services.iter().position(|service| !waits(service)).unwrap_or(0);
        sorted.push(services.remove(next));
    }
    *services = sorted;
}
