//! One service: which keys there are, and what becomes of each. None is dropped in silence (parity K-05 to K-07).

use serde_json::{Value, json};

use super::{Condition, Context, IMAGE, Need, Service, attach, container, deploy, ports, topology::Topology};
use crate::{
    compose::check::{Check, Field, Fields},
    spec::edit::set,
};

/// What becomes part of the spec.
pub(crate) const HONOURED: &[&str] = &[
    "image",
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "label_file",
    "labels",
    "hostname",
    "user",
    "working_dir",
    "tty",
    "stdin_open",
    "read_only",
    "init",
    "privileged",
    "devices",
    "gpus",
    "shm_size",
    "pid",
    "ipc",
    "cpuset",
    "stop_signal",
    "stop_grace_period",
    "healthcheck",
    "volumes",
    "tmpfs",
    "ports",
    "networks",
    "dns",
    "dns_search",
    "dns_opt",
    "extra_hosts",
    "cap_add",
    "cap_drop",
    "sysctls",
    "ulimits",
    "secrets",
    "configs",
    "logging",
    "deploy",
    "depends_on",
    "oom_score_adj",
    "isolation",
    "group_add",
    "profiles",
    "restart",
    "security_opt",
    "mem_limit",
    "mem_reservation",
    "cpus",
    "pids_limit",
    "cpu_quota",
    "cpu_period",
    "memswap_limit",
    "mem_swappiness",
    "platform",
    "pull_policy",
    "scale",
];

/// What services of a cluster do not have; docker warns of the first ones and goes on, and so do we (K-06).
pub(crate) const UNSUPPORTED: &[&str] = &[
    "build",
    "cgroupns_mode",
    "cgroup_parent",
    "domainname",
    "external_links",
    "links",
    "mac_address",
    "network_mode",
    "userns_mode",
    "annotations",
    "attach",
    "blkio_config",
    "cgroup",
    "cpu_count",
    "cpu_percent",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "develop",
    "device_cgroup_rules",
    "models",
    "oom_kill_disable",
    "post_start",
    "pre_stop",
    "runtime",
    "storage_opt",
    "use_api_socket",
    "uts",
];

/// Ignored too, with docker's words (K-07).
pub(crate) const DEPRECATED: &[(&str, &str)] = &[
    ("container_name", "Setting the container name is not supported."),
    (
        "expose",
        "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
    ),
];

/// Refused: without them the service would be another one (K-07).
pub(crate) const FORBIDDEN: &[(&str, &str)] = &[
    ("volume_driver", "set it under the top-level `volumes:`, with `driver:`"),
    ("volumes_from", "share a volume: define it under the top-level `volumes:` and mount it in both services"),
    ("cpu_shares", "set deploy.resources.reservations.cpus"),
    ("credential_spec", "it exists on Windows only"),
    ("provider", "what a provider makes is no service of a cluster"),
];

pub(super) fn read(
    key: &str,
    field: &Field<'_>,
    context: &Context<'_>,
    topology: &Topology,
    used: &mut Vec<String>,
    check: &mut Check,
) -> Option<Service> {
    let owner = format!("service {key}");
    let field = &Field::new(field.node, &owner);
    let fields = known_fields(field, check);
    judge_ignored(&fields, check);
    let name = context.scoped(key);
    if let Err(why) = name.parse::<types::Name>() {
        field.wrong(check, why);
    }
    let image = image(field, &fields, check);
    let mut spec = json!({ "Name": name });
    deploy::read(&fields, check, &mut spec);
    spec["Labels"] = service_labels(&fields, context, &image, check);
    container::read(&fields, &image, context, topology, check, &mut spec);
    let networks = attach::networks(key, &fields, field, topology, used, check);
    set(&mut spec, "TaskTemplate.Networks", networks);
    if let Some(published) = fields.get("ports") {
        let published = ports::read(published, check);
        set(&mut spec, "EndpointSpec.Ports", published);
    }
    let needs = fields.get("depends_on").map(|field| needs(field, check)).unwrap_or_default();
    Some(Service { key: key.to_owned(), name, image, spec, needs, at: field.at() })
}

fn known_fields<'n>(field: &Field<'n>, check: &mut Check) -> Fields<'n> {
    let names = |pairs: &'static [(&str, &str)]| pairs.iter().map(|(name, _)| *name);
    let known: Vec<&str> =
        HONOURED.iter().chain(UNSUPPORTED).copied().chain(names(DEPRECATED)).chain(names(FORBIDDEN)).collect();
    if field.node.is_null() {
        field.wrong(check, "it is empty: give at least an image");
    }
    field.fields(check, &known)
}

fn judge_ignored(fields: &Fields<'_>, check: &mut Check) {
    for name in UNSUPPORTED {
        // without an image it is refused elsewhere
        if let Some(field) = fields.get(name).filter(|_| *name != "build" || fields.get("image").is_some()) {
            check.unsupported.push((*name).to_owned());
            field.warn(check, "ignored: services of a cluster have no such setting");
        }
    }
    for (name, why) in DEPRECATED {
        if let Some(field) = fields.get(name) {
            field.warn(check, format!("ignored: {why}"));
        }
    }
    for (name, instead) in FORBIDDEN {
        if let Some(field) = fields.get(name) {
            field.wrong(check, format!("unsupported option: {instead}"));
        }
    }
}

fn image(field: &Field<'_>, fields: &Fields<'_>, check: &mut Check) -> String {
    let Some(image) = fields.get("image") else {
        match fields.get("build") {
            Some(build) => build.wrong(
                check,
                "images are not built here: build it, push it to a registry or load it on the nodes, and name it in `image`",
            ),
            None if !field.node.is_null() => field.wrong(check, "image is missing: name the image to run"),
            None => {}
        }
        return String::new();
    };
    let text = image.text(check).unwrap_or_default();
    if let Err(why) = text.parse::<types::ImageReference>() {
        image.wrong(check, why);
    }
    text
}

fn service_labels(fields: &Fields<'_>, context: &Context<'_>, image: &str, check: &mut Check) -> Value {
    let own = fields.get("deploy").and_then(|deploy| deploy.node.get("labels").map(|node| (deploy, node)));
    let own = own.map(|(deploy, node)| Field::new(node, &format!("{}.labels", deploy.name())).pairs(check));
    let mut labels = context.labels(own.unwrap_or_default());
    labels.insert(IMAGE.to_owned(), image.into());
    if let Some(policy) = fields.get("pull_policy").and_then(|field| pull_policy(field, check)) {
        labels.insert(types::PULL_LABEL.to_owned(), policy.into());
    }
    Value::Object(labels)
}

/// What it means to nodes; None for what they do anyway.
fn pull_policy(field: &Field<'_>, check: &mut Check) -> Option<&'static str> {
    match field.text(check)?.as_str() {
        "always" => Some("always"),
        "never" => Some("never"),
        "missing" | "if_not_present" => None,
        other
            if other == "build"
                || other == "refresh"
                || other == "daily"
                || other == "weekly"
                || other.starts_with("every_") =>
        {
            field.warn(check, format!("{other} is ignored: nodes pull what is missing; use always, missing or never"));
            None
        }
        other => {
            field.wrong(check, format!("{other:?} is no pull policy: use always, missing or never"));
            None
        }
    }
}

/// `depends_on`: a list of names, or a map with conditions. Who is not there is judged when all services are known.
fn needs(field: &Field<'_>, check: &mut Check) -> Vec<Need> {
    let mut needs = Vec::new();
    if !field.is_map() {
        for item in field.items(check) {
            if let Some(service) = item.text(check) {
                needs.push(Need { service, condition: Condition::Started, required: true, at: item.at() });
            }
        }
    } else {
        for (service, entry) in field.entries(check) {
            let inner = entry.fields(check, &["condition", "required", "restart"]);
            let known = ["service_started", "service_healthy", "service_completed_successfully"];
            let condition = match inner.get("condition").and_then(|field| field.one_of(check, &known)).as_deref() {
                Some("service_healthy") => Condition::Healthy,
                Some("service_completed_successfully") => Condition::Completed,
                _ => Condition::Started,
            };
            if inner.get("restart").and_then(|field| field.boolean(check)) == Some(true) {
                entry.warn(check, "restart: true is ignored: an update of the one does not restart the other");
            }
            let required = inner.get("required").and_then(|field| field.boolean(check)).unwrap_or(true);
            needs.push(Need { service: service.to_owned(), condition, required, at: entry.at() });
        }
    }
    needs
}
