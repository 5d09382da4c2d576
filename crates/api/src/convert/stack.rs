//! Stacks: a deploy's body to `types::StackDeploy`, and stacks as they are shown. Routes and fields are rswarm's own; what is
//! in them has Docker's forms.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use types::{
    DependencyKind, Name, Need, NeedCondition, NetworkSpec, Payload, ServiceSpec, Stack, StackDeploy, StackPart,
    StackRevision, StackView,
};

use super::{
    credentials, dependency, network,
    reader::{FieldError, Object},
    service::{self, Given},
    time::rfc3339,
    writer::Fields,
};

/// `present` are the services of the cluster: what Docker's forms do not say of them stays as it is.
pub(crate) fn read(
    name: Name,
    prune: bool,
    body: &Value,
    present: &BTreeMap<Name, ServiceSpec>,
) -> Result<StackDeploy, FieldError> {
    let mut from = Object::root(body)?;
    let mut auth = read_auth(&mut from)?;
    let mut services = Vec::new();
    for (place, item) in items(&mut from, "Services")? {
        let named = item.get("Name").and_then(Value::as_str).and_then(|name| name.parse().ok());
        let previous = named.and_then(|name: Name| present.get(&name));
        let mut spec = service::read(item, Given { name: None, previous }).map_err(|error| error.within(&place))?;
        if let Some(packed) = auth.remove(spec.name.as_str()) {
            spec.task.container.registry_auth = packed;
        }
        services.push(spec);
    }
    if let Some(stranger) = auth.keys().next() {
        return Err(from.bad("RegistryAuth", format!("{stranger:?} is no service of this stack")));
    }
    let mut networks = Vec::new();
    for (place, item) in items(&mut from, "Networks")? {
        networks.push(read_network(item).map_err(|error| error.within(&place))?);
    }
    let mut dependencies = Vec::new();
    for (list, kind) in [("Secrets", DependencyKind::Secret), ("Configs", DependencyKind::Config)] {
        for (place, item) in items(&mut from, list)? {
            dependencies.push(dependency::read(kind, item).map_err(|error| error.within(&place))?);
        }
    }
    from.finish_strictly()?;
    Ok(StackDeploy { name, services, networks, dependencies, prune, by: String::new() })
}

/// Each with its path.
fn items<'a>(from: &mut Object<'a>, field: &'static str) -> Result<Vec<(String, &'a Value)>, FieldError> {
    match from.take(field) {
        None => Ok(Vec::new()),
        Some(Value::Array(all)) => {
            Ok(all.iter().enumerate().map(|(at, item)| (format!("{field}[{at}]"), item)).collect())
        }
        Some(_) => Err(from.bad(field, "must be a list")),
    }
}

/// By the service's name what `X-Registry-Auth` says for one.
fn read_auth(from: &mut Object<'_>) -> Result<BTreeMap<String, Payload>, FieldError> {
    let mut all = BTreeMap::new();
    for (service, header) in from.labels("RegistryAuth")? {
        let bad = |error: FieldError| error.within(&format!("RegistryAuth.{service}"));
        if let Some(credentials) = credentials::read(&header).map_err(bad)? {
            all.insert(service, Payload::new(credentials.pack()));
        }
    }
    Ok(all)
}

fn read_network(item: &Value) -> Result<NetworkSpec, FieldError> {
    let refused = |reason: &str| FieldError::Value { path: "Driver".to_owned(), reason: reason.to_owned() };
    match network::read(item)? {
        network::Wanted::Cluster(spec) => Ok(*spec),
        network::Wanted::HostOnly(_) => {
            Err(refused("a stack has networks of the cluster: use overlay, or say Scope swarm"))
        }
        network::Wanted::Predefined(name) => {
            Err(refused(&format!("network {name} is there on every host: services name it, a stack does not have it")))
        }
    }
}

/// What a service waits for; also part of every service's spec.
pub(crate) fn read_needs(entries: Vec<Object<'_>>) -> Result<Vec<Need>, FieldError> {
    let mut needs = Vec::new();
    for mut from in entries {
        let service = from.parsed("Service", |text| text.parse::<Name>().map_err(|why| why.to_string()))?;
        let service = service.ok_or_else(|| FieldError::Missing {
            path: from.path("Service"),
            hint: "give the name of the service that must be there before",
        })?;
        let condition =
            from.parsed("Condition", |text| text.parse::<NeedCondition>().map_err(|why| why.to_string()))?;
        from.finish_strictly()?;
        needs.push(Need { service, condition: condition.unwrap_or(NeedCondition::Started) });
    }
    Ok(needs)
}

pub(crate) fn write_needs(needs: &[Need]) -> Vec<Value> {
    needs.iter().map(|need| json!({ "Service": need.service, "Condition": need.condition.as_str() })).collect()
}

pub(crate) fn write(view: &StackView) -> Value {
    let present = view.stack.as_ref().map(|stack| &stack.present);
    Fields::new()
        .set("Name", &view.name)
        .set("Revision", view.revision)
        .some("CreatedAt", view.stack.as_ref().map(|stack| rfc3339(stack.meta.created_at)))
        .some("UpdatedAt", present.map(|revision| rfc3339(revision.at)))
        .set("Services", &view.services)
        .set("Networks", &view.networks)
        .set("Secrets", &view.secrets)
        .set("Configs", &view.configs)
        .done()
}

/// The present one first.
pub(crate) fn write_revisions(stack: &Stack) -> Value {
    let mut all: Vec<Value> =
        stack.revisions().map(|one| write_revision(one, one.number == stack.present.number)).collect();
    all.reverse();
    Value::Array(all)
}

fn write_revision(revision: &StackRevision, present: bool) -> Value {
    let spec = &revision.spec;
    let names = |kind| -> Vec<Value> {
        let of_kind = spec.dependencies.iter().filter(|one| one.kind == kind);
        of_kind.map(|one| json!({ "Name": one.name, "ID": one.id })).collect()
    };
    Fields::new()
        .set("Revision", revision.number)
        .set("CreatedAt", rfc3339(revision.at))
        .set("Present", present)
        .some("BackTo", revision.back_to)
        .unless_empty("By", &revision.by)
        .some("Result", revision.result.as_ref().map(|result| result.state.as_str()))
        .unless_empty("Reason", revision.result.as_ref().map_or("", |result| &result.reason))
        .set("Services", spec.services.iter().map(service::write_spec).collect::<Vec<_>>())
        .set("Networks", spec.networks.iter().map(|network| &network.name).collect::<Vec<_>>())
        .set("Secrets", names(DependencyKind::Secret))
        .set("Configs", names(DependencyKind::Config))
        .done()
}

pub(crate) fn write_outcome(revision: u64, parts: &[StackPart]) -> Value {
    let part = |part: &StackPart| json!({ "Kind": part.kind, "Name": part.name, "Action": part.action.as_str() });
    json!({ "Revision": revision, "Parts": parts.iter().map(part).collect::<Vec<_>>() })
}
