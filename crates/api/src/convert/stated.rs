//! Which parts of a service's spec were said: without `insertDefaults` a spec is shown as it was given.
//!
//! Inside, every part has its value. Here is known where the parts are in Docker's JSON and what they are when nobody
//! says anything (swarmkit `api/defaults`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use types::Stated;

/// The inner ones first: an object is as nobody said it when what is left of it is.
const PARTS: [(Stated, &str); 14] = [
    (Stated::StopGracePeriod, "TaskTemplate.ContainerSpec.StopGracePeriod"),
    (Stated::Dns, "TaskTemplate.ContainerSpec.DNSConfig"),
    (Stated::Limits, "TaskTemplate.Resources.Limits"),
    (Stated::Reservations, "TaskTemplate.Resources.Reservations"),
    (Stated::Resources, "TaskTemplate.Resources"),
    (Stated::RestartDelay, "TaskTemplate.RestartPolicy.Delay"),
    (Stated::RestartWindow, "TaskTemplate.RestartPolicy.Window"),
    (Stated::RestartPolicy, "TaskTemplate.RestartPolicy"),
    (Stated::Placement, "TaskTemplate.Placement"),
    (Stated::UpdateMonitor, "UpdateConfig.Monitor"),
    (Stated::UpdateConfig, "UpdateConfig"),
    (Stated::RollbackMonitor, "RollbackConfig.Monitor"),
    (Stated::RollbackConfig, "RollbackConfig"),
    (Stated::Endpoint, "EndpointSpec"),
];

/// What a part is when nobody says anything, without the parts of it that are known for themselves.
fn unsaid(part: Stated) -> Value {
    match part {
        Stated::StopGracePeriod => json!(10_000_000_000_u64),
        Stated::RestartDelay | Stated::UpdateMonitor | Stated::RollbackMonitor => json!(5_000_000_000_u64),
        Stated::RestartWindow => json!(0),
        Stated::RestartPolicy => json!({ "Condition": "any", "MaxAttempts": 0 }),
        Stated::UpdateConfig | Stated::RollbackConfig => {
            json!({ "Parallelism": 1, "FailureAction": "pause", "MaxFailureRatio": 0, "Order": "stop-first" })
        }
        Stated::Endpoint => json!({ "Mode": "vip" }),
        Stated::Dns | Stated::Resources | Stated::Limits | Stated::Reservations | Stated::Placement => json!({}),
    }
}

/// What a request says. Names are matched as everywhere: exactly, else without regard to case.
pub(crate) fn read(body: &Value) -> BTreeSet<Stated> {
    let is_said = |part: Stated, path: &str| {
        let found = path.split('.').try_fold(body, |at, key| field(at.as_object()?, key));
        match part {
            // what Go's clients cannot say: 0 is the default there
            Stated::UpdateMonitor | Stated::RollbackMonitor => found.and_then(Value::as_u64).is_some_and(|ns| ns != 0),
            _ => found.is_some_and(|value| !value.is_null()),
        }
    };
    PARTS.into_iter().filter(|(part, path)| is_said(*part, path)).map(|(part, _)| part).collect()
}

fn field<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let in_another_case = || map.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
    map.get(key).or_else(in_another_case)
}

/// Takes those of the `chosen` parts out of a whole spec that were not said and are as they are when nothing is.
pub(crate) fn leave_out(stated: &BTreeSet<Stated>, spec: &mut Value, chosen: impl Fn(Stated) -> bool) {
    let is_unsaid = |part: Stated| chosen(part) && !stated.contains(&part);
    for (part, path) in PARTS.into_iter().filter(|(part, _)| is_unsaid(*part)) {
        let (parent, name) = path.rsplit_once('.').map_or((None, path), |(parent, name)| (Some(parent), name));
        let parent = parent.iter().flat_map(|path| path.split('.')).try_fold(&mut *spec, |at, key| at.get_mut(key));
        let Some(Value::Object(map)) = parent else { continue };
        if map.get(name).is_some_and(|value| *value == unsaid(part)) {
            map.shift_remove(name);
        }
    }
}
