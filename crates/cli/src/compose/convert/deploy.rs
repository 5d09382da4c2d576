//! `deploy`, and the older keys that say the same of one service (parity K-04).

use serde_json::{Value, json};

use crate::{
    compose::check::{Check, Field, Fields},
    spec::edit::{get, set, set_some},
};

pub(crate) const DEPLOY: &[&str] = &[
    "mode",
    "replicas",
    "labels",
    "update_config",
    "rollback_config",
    "resources",
    "restart_policy",
    "placement",
    "endpoint_mode",
];

pub(super) fn read(service: &Fields<'_>, check: &mut Check, spec: &mut Value) {
    let fields = service.get("deploy").map(|field| field.fields(check, DEPLOY)).unwrap_or_default();
    mode(service, &fields, check, spec);
    if let Some(field) = fields.get("resources") {
        resources(field, check, spec);
    }
    own_limits(service, check, spec);
    quota(service, check, spec);
    swap(service, check, spec);
    restart(service, &fields, check, spec);
    if let Some(field) = fields.get("placement") {
        placement(field, check, spec);
    }
    if let Some(field) = service.get("platform") {
        platform(field, check, spec);
    }
    for (key, name) in [("update_config", "UpdateConfig"), ("rollback_config", "RollbackConfig")] {
        let Some(field) = fields.get(key) else { continue };
        let is_job = ["ReplicatedJob", "GlobalJob"].iter().any(|mode| spec["Mode"].get(mode).is_some());
        if is_job {
            field.wrong(check, "jobs may not have an update config: their tasks end by themselves");
        }
        let config = update(field, check);
        set(spec, name, config);
    }
    let endpoint = fields.get("endpoint_mode").and_then(|field| field.one_of(check, &["vip", "dnsrr"]));
    set_some(spec, "EndpointSpec.Mode", endpoint);
}

fn mode(service: &Fields<'_>, fields: &Fields<'_>, check: &mut Check, spec: &mut Value) {
    const MODES: &[&str] = &["replicated", "global", "replicated-job", "global-job"];
    let replicas = fields.get("replicas").or_else(|| service.get("scale"));
    let number = replicas.and_then(|field| field.natural(check));
    let mode = fields.get("mode").and_then(|field| field.one_of(check, MODES));
    let mode = match mode.as_deref() {
        Some("global") => json!({ "Global": {} }),
        Some("global-job") => json!({ "GlobalJob": {} }),
        Some("replicated-job") => {
            let number = number.unwrap_or(1);
            json!({ "ReplicatedJob": { "MaxConcurrent": number, "TotalCompletions": number } })
        }
        _ => json!({ "Replicated": { "Replicas": number.unwrap_or(1) } }),
    };
    if let Some(field) = replicas.filter(|_| mode.get("Global").is_some() || mode.get("GlobalJob").is_some()) {
        field.wrong(check, "replicas can only be used with replicated or replicated-job mode");
    }
    spec["Mode"] = mode;
}

fn resources(field: &Field<'_>, check: &mut Check, spec: &mut Value) {
    const AT: &str = "TaskTemplate.Resources";
    let fields = field.fields(check, &["limits", "reservations"]);
    for (key, name, known) in [
        ("limits", "Limits", &["cpus", "memory", "pids"][..]),
        ("reservations", "Reservations", &["cpus", "memory", "generic_resources", "devices"][..]),
    ] {
        let Some(amounts) = fields.get(key) else { continue };
        let inner = amounts.fields(check, known);
        set_some(spec, &format!("{AT}.{name}.NanoCPUs"), inner.get("cpus").and_then(|field| field.cpus(check)));
        set_some(spec, &format!("{AT}.{name}.MemoryBytes"), inner.get("memory").and_then(|field| field.bytes(check)));
        set_some(spec, &format!("{AT}.{name}.Pids"), inner.get("pids").and_then(|field| field.integer(check)));
        if let Some(generic) = inner.get("generic_resources") {
            let generic = generic_resources(generic, check);
            set(spec, &format!("{AT}.{name}.GenericResources"), generic);
        }
    }
}

fn generic_resources(field: &Field<'_>, check: &mut Check) -> Vec<Value> {
    let mut found = Vec::new();
    for item in field.items(check) {
        let fields = item.fields(check, &["discrete_resource_spec"]);
        let Some(discrete) = fields.get("discrete_resource_spec") else {
            item.wrong(check, "discrete_resource_spec is missing");
            continue;
        };
        let inner = discrete.fields(check, &["kind", "value"]);
        let kind = check.text(inner.get("kind"));
        let value = inner.get("value").and_then(|field| field.natural(check));
        match (kind, value) {
            (Some(kind), Some(value)) => {
                found.push(json!({ "DiscreteResourceSpec": { "Kind": kind, "Value": value } }));
            }
            _ => discrete.wrong(check, "kind and value are needed"),
        }
    }
    found
}

type Read<'n> = fn(&Field<'n>, &mut Check) -> Option<u64>;

/// `cpus`, `mem_limit` …: Compose's other way to say what `deploy.resources` says.
fn own_limits<'n>(service: &Fields<'n>, check: &mut Check, spec: &mut Value) {
    let keys: [(&str, &str, Read<'n>); 4] = [
        ("cpus", "Limits.NanoCPUs", Field::cpus),
        ("mem_limit", "Limits.MemoryBytes", Field::bytes),
        ("mem_reservation", "Reservations.MemoryBytes", Field::bytes),
        ("pids_limit", "Limits.Pids", Field::natural),
    ];
    for (key, name, read) in keys {
        let Some(field) = service.get(key) else { continue };
        let Some(value) = read(field, check) else { continue };
        set_once(field, name, value, check, spec);
    }
}

fn set_once(field: &Field<'_>, name: &str, value: u64, check: &mut Check, spec: &mut Value) {
    let path = format!("TaskTemplate.Resources.{name}");
    match get(spec, &path) {
        Some(other) if *other != value => field.wrong(check, "another key says something else of it: say it once"),
        _ => set(spec, &path, value),
    }
}

/// `cpu_quota` in a `cpu_period`, both microseconds: so many processors.
fn quota(service: &Fields<'_>, check: &mut Check, spec: &mut Value) {
    const PERIOD_US: u64 = 100_000; // the kernel's, where nobody says another
    let period = service.get("cpu_period").and_then(|field| field.natural(check)).filter(|period| *period > 0);
    let Some(field) = service.get("cpu_quota") else { return };
    let Some(quota) = field.integer(check) else { return };
    // 0 and less: no bound
    let Some(quota) = u64::try_from(quota).ok().filter(|quota| *quota > 0) else { return };
    let nano_cpus = u128::from(quota) * 1_000_000_000 / u128::from(period.unwrap_or(PERIOD_US));
    match u64::try_from(nano_cpus) {
        Ok(nano_cpus) => set_once(field, "Limits.NanoCPUs", nano_cpus, check, spec),
        Err(_) => field.wrong(check, format!("{quota} is more processors than there are: say it in microseconds")),
    }
}

/// `memswap_limit`, which counts memory and swap together, and `mem_swappiness` (S-42).
fn swap(service: &Fields<'_>, check: &mut Check, spec: &mut Value) {
    const AT: &str = "TaskTemplate.Resources";
    if let Some(field) = service.get("memswap_limit") {
        let memory = get(spec, &format!("{AT}.Limits.MemoryBytes")).and_then(Value::as_u64).unwrap_or(0);
        let unbounded = field.node.as_text() == Some("-1");
        let together = if unbounded { Some(0) } else { field.bytes(check) };
        match together {
            // Compose takes 0 for nothing said
            None | Some(0) if !unbounded => {}
            _ if memory == 0 => field.wrong(check, "it counts memory and swap together: set mem_limit too"),
            _ if unbounded => set(spec, &format!("{AT}.SwapBytes"), -1),
            Some(together) if together < memory => {
                let why = format!("it counts memory and swap together, and the memory limit alone is {memory} bytes");
                field.wrong(check, why);
            }
            together => set_some(spec, &format!("{AT}.SwapBytes"), together.map(|together| together - memory)),
        }
    }
    if let Some(field) = service.get("mem_swappiness") {
        match field.integer(check) {
            Some(value) if !(0..=100).contains(&value) => {
                field.wrong(check, format!("{value} is not between 0 and 100"));
            }
            value => set_some(spec, &format!("{AT}.MemorySwappiness"), value),
        }
    }
}

fn restart(service: &Fields<'_>, fields: &Fields<'_>, check: &mut Check, spec: &mut Value) {
    const AT: &str = "TaskTemplate.RestartPolicy";
    if let Some(field) = fields.get("restart_policy") {
        let inner = field.fields(check, &["condition", "delay", "max_attempts", "window"]);
        let known = &["none", "on-failure", "any", "always", "unless-stopped"];
        let condition =
            inner.get("condition").and_then(|field| field.one_of(check, known)).map(|text| match text.as_str() {
                "always" | "unless-stopped" => "any".to_owned(),
                _ => text,
            });
        set_some(spec, &format!("{AT}.Condition"), condition);
        set_some(spec, &format!("{AT}.MaxAttempts"), inner.get("max_attempts").and_then(|field| field.natural(check)));
        for (key, name) in [("delay", "Delay"), ("window", "Window")] {
            set_some(spec, &format!("{AT}.{name}"), inner.get(key).and_then(|field| field.nanoseconds(check)));
        }
        return;
    }
    // docker honours it where there is no restart_policy
    let Some(field) = service.get("restart") else { return };
    let text = field.text(check).unwrap_or_default();
    match text.split_once(':').map_or((text.as_str(), None), |(name, count)| (name, Some(count))) {
        ("no" | "false", None) => set(spec, &format!("{AT}.Condition"), "none"),
        ("always" | "unless-stopped", None) => set(spec, &format!("{AT}.Condition"), "any"),
        ("on-failure", count) => {
            set(spec, &format!("{AT}.Condition"), "on-failure");
            match count.map(str::parse::<u64>) {
                None => {}
                Some(Ok(count)) => set(spec, &format!("{AT}.MaxAttempts"), count),
                Some(Err(_)) => field.wrong(check, format!("{text:?}: after on-failure: stands a number")),
            }
        }
        _ => field.wrong(check, format!("{text:?} is none of no, always, unless-stopped, on-failure[:COUNT]")),
    }
}

fn placement(field: &Field<'_>, check: &mut Check, spec: &mut Value) {
    const AT: &str = "TaskTemplate.Placement";
    let fields = field.fields(check, &["constraints", "preferences", "max_replicas_per_node"]);
    if let Some(list) = fields.get("constraints") {
        let mut constraints = Vec::new();
        for item in list.items(check) {
            let text = item.text(check).unwrap_or_default();
            if let Err(why) = text.parse::<types::Constraint>() {
                item.wrong(check, why);
            }
            constraints.push(text);
        }
        set(spec, &format!("{AT}.Constraints"), constraints);
    }
    if let Some(list) = fields.get("preferences") {
        let mut preferences = Vec::new();
        for item in list.items(check) {
            let inner = item.fields(check, &["spread"]);
            match check.text(inner.get("spread")) {
                Some(over) => preferences.push(json!({ "Spread": { "SpreadDescriptor": over } })),
                None => item.wrong(check, "spread is missing, as in `spread: node.labels.zone`"),
            }
        }
        set(spec, &format!("{AT}.Preferences"), preferences);
    }
    let most = fields.get("max_replicas_per_node").and_then(|field| field.natural(check));
    set_some(spec, &format!("{AT}.MaxReplicas"), most);
}

/// `OS/ARCHITECTURE[/VARIANT]`: nodes that run it.
fn platform(field: &Field<'_>, check: &mut Check, spec: &mut Value) {
    match field.text(check).map(|text| text.parse::<types::Platform>()) {
        Some(Ok(types::Platform { os, architecture, variant })) => {
            let platform = json!({ "OS": os, "Architecture": architecture, "Variant": variant });
            set(spec, "TaskTemplate.Placement.Platforms", [platform]);
        }
        Some(Err(why)) => field.wrong(check, why),
        None => {}
    }
}

fn update(field: &Field<'_>, check: &mut Check) -> Value {
    let known = &["parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order"];
    let fields = field.fields(check, known);
    let parallelism = fields.get("parallelism").and_then(|field| field.natural(check)).unwrap_or(1);
    let mut config = json!({ "Parallelism": parallelism });
    for (key, name) in [("delay", "Delay"), ("monitor", "Monitor")] {
        set_some(&mut config, name, fields.get(key).and_then(|field| field.nanoseconds(check)));
    }
    for (key, name, known) in [
        ("failure_action", "FailureAction", &["pause", "continue", "rollback"][..]),
        ("order", "Order", &["stop-first", "start-first"][..]),
    ] {
        set_some(&mut config, name, fields.get(key).and_then(|field| field.one_of(check, known)));
    }
    set_some(&mut config, "MaxFailureRatio", fields.get("max_failure_ratio").and_then(|field| field.fraction(check)));
    config
}
