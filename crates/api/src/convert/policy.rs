//! How tasks are placed, limited, restarted, updated and logged.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use types::{
    Bytes, DEFAULT_PROGRESS_DEADLINE, FailureAction, GenericResource, GenericResources, LogDriver, NanoCpus, Placement,
    Platform, ResourceRequirements, Resources, RestartCondition, RestartPolicy, SpreadOver, UpdateConfig, UpdateOrder,
};

use super::{
    reader::{FieldError, Object},
    time::nanos,
    writer::Fields,
};

pub(crate) fn read_resources(mut from: Object<'_>) -> Result<ResourceRequirements, FieldError> {
    let mut limits = from.object("Limits")?;
    let mut reservations = from.object("Reservations")?;
    let requirements = ResourceRequirements {
        limits: Resources {
            nano_cpus: NanoCpus(limits.natural("NanoCPUs")?.unwrap_or(0)),
            memory: Bytes(limits.natural("MemoryBytes")?.unwrap_or(0)),
            pids: limits.natural("Pids")?.unwrap_or(0),
            generic: BTreeMap::new(),
        },
        reservations: Resources {
            nano_cpus: NanoCpus(reservations.natural("NanoCPUs")?.unwrap_or(0)),
            memory: Bytes(reservations.natural("MemoryBytes")?.unwrap_or(0)),
            pids: 0,
            generic: read_generic(&mut reservations)?,
        },
        swap_bytes: from.integer("SwapBytes")?,
        swappiness: from.integer("MemorySwappiness")?,
    };
    limits.finish()?;
    reservations.finish()?;
    from.finish()?;
    Ok(requirements)
}

fn read_generic(from: &mut Object<'_>) -> Result<BTreeMap<String, GenericResource>, FieldError> {
    let mut all = BTreeMap::new();
    for mut item in from.objects("GenericResources")? {
        let mut discrete = item.object("DiscreteResourceSpec")?;
        let mut named = item.object("NamedResourceSpec")?;
        let (kind, wanted) = (discrete.string("Kind")?, named.string("Kind")?);
        let mut more = |kind: String, name: Option<String>, count: u64| {
            let so_far = all.remove(&kind).unwrap_or(GenericResource::Count(0));
            all.insert(kind, so_far.and(name, count));
        };
        let (count, name) = (discrete.natural("Value")?.unwrap_or(0), named.string("Value")?);
        for (object, is_nameless) in
            [(&discrete, kind.is_empty() && count > 0), (&named, wanted.is_empty() && !name.is_empty())]
        {
            if is_nameless {
                return Err(object.bad("Kind", "is missing: say what the value is of, as in GPU"));
            }
        }
        if !kind.is_empty() {
            more(kind, None, count);
        }
        if !wanted.is_empty() {
            more(wanted, Some(name), 0);
        }
        discrete.finish()?;
        named.finish()?;
        item.finish()?;
    }
    Ok(all)
}

pub(crate) fn write_resources(requirements: &ResourceRequirements) -> Value {
    let mut written = json!({ "Limits": write_amounts(&requirements.limits), "Reservations": write_amounts(&requirements.reservations) });
    for (name, value) in [("SwapBytes", requirements.swap_bytes), ("MemorySwappiness", requirements.swappiness)] {
        // 0 is said too: it means none
        if let Some(value) = value {
            written[name] = value.into();
        }
    }
    written
}

pub(crate) fn write_generic(resources: &GenericResources) -> Vec<Value> {
    let mut generic = Vec::new();
    for (kind, amount) in resources {
        if amount.unnamed() > 0 || amount.names().is_empty() {
            generic.push(json!({ "DiscreteResourceSpec": { "Kind": kind, "Value": amount.unnamed() } }));
        }
        let named = |name: &String| json!({ "NamedResourceSpec": { "Kind": kind, "Value": name } });
        generic.extend(amount.names().iter().map(named));
    }
    generic
}

/// Limits, reservations, or what a node has.
pub(crate) fn write_amounts(resources: &Resources) -> Value {
    Fields::new()
        .unless_empty("NanoCPUs", resources.nano_cpus)
        .unless_empty("MemoryBytes", resources.memory)
        .unless_empty("Pids", resources.pids)
        .unless_empty("GenericResources", write_generic(&resources.generic))
        .done()
}

pub(crate) fn read_restart(mut from: Object<'_>) -> Result<RestartPolicy, FieldError> {
    let default = RestartPolicy::default();
    let condition = from.parsed("Condition", |text| match text {
        "none" => Ok(RestartCondition::None),
        "on-failure" => Ok(RestartCondition::OnFailure),
        "any" => Ok(RestartCondition::Any),
        other => Err(format!("{other:?} is no restart condition; use none, on-failure or any")),
    })?;
    let policy = RestartPolicy {
        condition: condition.unwrap_or(default.condition),
        delay: from.duration("Delay")?.unwrap_or(default.delay),
        max_attempts: from.natural("MaxAttempts")?.unwrap_or(default.max_attempts),
        window: from.duration("Window")?.unwrap_or(default.window),
    };
    from.finish()?;
    Ok(policy)
}

pub(crate) fn write_restart(policy: &RestartPolicy) -> Value {
    let condition = match policy.condition {
        RestartCondition::None => "none",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::Any => "any",
    };
    Fields::new()
        .set("Condition", condition)
        .set("Delay", nanos(policy.delay))
        .set("MaxAttempts", policy.max_attempts)
        .set("Window", nanos(policy.window))
        .done()
}

pub(crate) fn read_placement(mut from: Object<'_>) -> Result<Placement, FieldError> {
    let mut constraints = Vec::new();
    for (at, text) in from.strings("Constraints")?.iter().enumerate() {
        constraints.push(
            text.parse::<types::Constraint>()
                .map_err(|why| from.bad(&format!("Constraints[{at}]"), why.to_string()))?,
        );
    }
    let mut preferences = Vec::new();
    for mut item in from.objects("Preferences")? {
        let mut spread = item.object("Spread")?;
        let over = spread.string("SpreadDescriptor")?;
        if over.is_empty() {
            return Err(spread.bad("SpreadDescriptor", "must not be empty"));
        }
        preferences.push(SpreadOver::from(over));
        spread.finish()?;
        item.finish()?;
    }
    let mut platforms = Vec::new();
    for mut item in from.objects("Platforms")? {
        let (architecture, os, variant) = (item.string("Architecture")?, item.string("OS")?, item.string("Variant")?);
        platforms.push(Platform { os, architecture, variant });
        item.finish()?;
    }
    let max_replicas = from.natural("MaxReplicas")?.unwrap_or(0);
    from.finish()?;
    Ok(Placement { constraints, preferences, max_replicas, platforms })
}

pub(crate) fn write_placement(placement: &Placement) -> Value {
    let spread = |over: &SpreadOver| json!({ "Spread": { "SpreadDescriptor": over.to_string() } });
    Fields::new()
        .unless_empty("Constraints", &placement.constraints)
        .unless_empty("Preferences", placement.preferences.iter().map(spread).collect::<Vec<_>>())
        .unless_empty("MaxReplicas", placement.max_replicas)
        .unless_empty("Platforms", placement.platforms.iter().map(write_platform).collect::<Vec<_>>())
        .done()
}

pub(crate) fn write_platform(platform: &Platform) -> Value {
    let fields = Fields::new().unless_empty("Architecture", &platform.architecture).unless_empty("OS", &platform.os);
    fields.unless_empty("Variant", &platform.variant).done()
}

/// An absent object means the defaults; in one that is there, an absent parallelism means 0, "all at
/// once", as it does in Go's encoding of 0.
pub(crate) fn read_update(mut from: Object<'_>, there: bool) -> Result<UpdateConfig, FieldError> {
    let default = UpdateConfig::default();
    if !there {
        return Ok(default);
    }
    let failure_action = from.parsed("FailureAction", |text| match text {
        "pause" => Ok(FailureAction::Pause),
        "continue" => Ok(FailureAction::Continue),
        "rollback" => Ok(FailureAction::Rollback),
        other => Err(format!("{other:?} is no failure action; use pause, continue or rollback")),
    })?;
    let order = from.parsed("Order", |text| match text {
        "stop-first" => Ok(UpdateOrder::StopFirst),
        "start-first" => Ok(UpdateOrder::StartFirst),
        other => Err(format!("{other:?} is no update order; use stop-first or start-first")),
    })?;
    let ratio = from.fraction("MaxFailureRatio")?.unwrap_or(0.0);
    let config = UpdateConfig {
        parallelism: from.natural("Parallelism")?.unwrap_or(0),
        delay: from.duration("Delay")?.unwrap_or(Duration::ZERO),
        failure_action: failure_action.unwrap_or(default.failure_action),
        monitor: from.duration("Monitor")?.filter(|monitor| !monitor.is_zero()).unwrap_or(default.monitor),
        max_failure_permille: permille(ratio).map_err(|why| from.bad("MaxFailureRatio", why))?,
        order: order.unwrap_or(default.order),
        progress_deadline: from.duration("ProgressDeadline")?.unwrap_or(default.progress_deadline),
    };
    from.finish()?;
    Ok(config)
}

fn permille(ratio: f64) -> Result<u16, String> {
    if !(0.0..=1.0).contains(&ratio) {
        return Err(format!("{ratio} is not between 0 and 1"));
    }
    let scaled = ratio * 1000.0;
    // Rather told than rounded: 0.0004 would silently become "no failure is tolerated".
    if (scaled - scaled.round()).abs() > 1e-6 {
        return Err(format!("{ratio} is finer than a thousandth; use at most three decimals"));
    }
    Ok(scaled.round() as u16)
}

pub(crate) fn write_update(config: &UpdateConfig) -> Value {
    let ratio = match config.max_failure_permille {
        0 => json!(0),
        permille => json!(f64::from(permille) / 1000.0),
    };
    Fields::new()
        .set("Parallelism", config.parallelism)
        .unless_empty("Delay", nanos(config.delay))
        .set(
            "FailureAction",
            match config.failure_action {
                FailureAction::Pause => "pause",
                FailureAction::Continue => "continue",
                FailureAction::Rollback => "rollback",
            },
        )
        .set("Monitor", nanos(config.monitor))
        .set("MaxFailureRatio", ratio)
        .set(
            "Order",
            match config.order {
                UpdateOrder::StopFirst => "stop-first",
                UpdateOrder::StartFirst => "start-first",
            },
        )
        .some(
            "ProgressDeadline",
            (config.progress_deadline != DEFAULT_PROGRESS_DEADLINE).then(|| nanos(config.progress_deadline)),
        )
        .done()
}

pub(crate) fn read_log_driver(mut from: Object<'_>) -> Result<Option<LogDriver>, FieldError> {
    let name = from.string("Name")?;
    let options = from.labels("Options")?;
    if name.is_empty() && !options.is_empty() {
        return Err(from.bad("Options", "options need the log driver's Name beside them"));
    }
    from.finish()?;
    Ok((!name.is_empty()).then_some(LogDriver { name, options }))
}

pub(crate) fn write_log_driver(driver: &LogDriver) -> Value {
    Fields::new().set("Name", &driver.name).unless_empty("Options", &driver.options).done()
}
