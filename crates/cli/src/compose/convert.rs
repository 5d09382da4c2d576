//! From the merged tree to what the daemon is asked for: Docker's bodies, with the names and labels that `docker stack`
//! gives them, so that either program sees the other's stacks.

mod attach;
mod container;
mod deploy;
mod devices;
mod mounts;
mod ports;
mod service;
mod topology;

#[cfg(test)]
pub(crate) use deploy::DEPLOY;
#[cfg(test)]
pub(crate) use service::{DEPRECATED, FORBIDDEN, HONOURED, UNSUPPORTED};

use serde_json::{Map, Value};

use super::{
    check::{Check, Field, Problem},
    files::{Environment, ReadFile},
    node::{Node, Place, Sources},
    order,
};

/// What says of which stack something is.
pub(crate) const NAMESPACE: &str = "com.docker.stack.namespace";
/// The image as the file has it, where the spec has its digest too.
pub(crate) const IMAGE: &str = "com.docker.stack.image";

/// A whole stack.
#[derive(Debug, Default)]
pub(crate) struct Project {
    /// In the order in which they can be made.
    pub(crate) services: Vec<Service>,
    pub(crate) networks: Vec<Network>,
    pub(crate) secrets: Vec<Dependency>,
    pub(crate) configs: Vec<Dependency>,
}

impl Project {
    /// Whether an object of this kind and name is part of it.
    pub(crate) fn has(&self, kind: &str, name: &str) -> bool {
        match kind {
            "network" => self.networks.iter().any(|one| one.name == name),
            "secret" => self.secrets.iter().any(|one| one.name == name),
            "config" => self.configs.iter().any(|one| one.name == name),
            _ => self.services.iter().any(|one| one.name == name),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Service {
    /// Its name in the file.
    pub(crate) key: String,
    /// Its name in the cluster.
    pub(crate) name: String,
    pub(crate) image: String,
    /// Docker's `ServiceSpec`; networks, secrets and configs are given by name.
    pub(crate) spec: Value,
    pub(crate) needs: Vec<Need>,
    pub(crate) at: Place,
}

/// What must be before a service is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) service: String,
    pub(crate) condition: Condition,
    /// Whether it must be part of the stack.
    pub(crate) required: bool,
    pub(crate) at: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Started,
    Healthy,
    Completed,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// Somebody else's: it must be there.
    pub(crate) external: bool,
    pub(crate) body: Value,
    /// File, line and column, for an error.
    pub(crate) place: String,
}

/// A secret or config.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) external: bool,
    pub(crate) body: Value,
    pub(crate) place: String,
}

pub(crate) struct Context<'a> {
    pub(crate) stack: &'a str,
    pub(crate) profiles: &'a [String],
    pub(crate) environment: &'a Environment,
    pub(crate) read: ReadFile<'a>,
    pub(crate) sources: &'a Sources,
}

impl Context<'_> {
    fn scoped(&self, name: &str) -> String {
        format!("{}_{name}", self.stack)
    }

    /// These labels, and the one of the stack.
    fn labels(&self, own: Vec<(String, Option<String>)>) -> Map<String, Value> {
        let mut labels: Map<String, Value> = texts(own);
        labels.insert(NAMESPACE.to_owned(), self.stack.into());
        labels
    }
}

fn texts(pairs: Vec<(String, Option<String>)>) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name, Value::from(value.unwrap_or_default()))).collect()
}

const TOP: &[&str] = &["version", "name", "services", "networks", "volumes", "secrets", "configs"];

/// All problems go to `check`; what is returned counts only if there are none.
pub(crate) fn project(tree: &Node, context: &Context<'_>, check: &mut Check) -> Project {
    let root = Field::new(tree, "").fields(check, TOP);
    let Some(all) = root.get("services") else {
        let why = "there are no services: a stack has at least one under `services:`";
        check.problems.push(Problem::new(tree.at, why));
        return Project::default();
    };
    let topology = topology::read(&root, context, check);
    let all = all.entries(check);
    let active: Vec<_> = all.iter().filter(|(_, field)| is_active(field.node, context.profiles)).collect();
    let mut services = Vec::new();
    let mut used = Vec::new();
    for (key, field) in &active {
        services.extend(service::read(key, field, context, &topology, &mut used, check));
    }
    order::check(&mut services, &all.iter().map(|(key, _)| *key).collect::<Vec<_>>(), check);
    if active.is_empty() {
        check.problems.push(Problem::general("no service is active: name a profile with --profile"));
    }
    order::sort(&mut services);
    order::say(&mut services);
    ports::refuse_twice(&services, check);
    topology.project(services, &used)
}

/// Whether a service without profiles, or with one that was asked for.
fn is_active(service: &Node, profiles: &[String]) -> bool {
    let own = service.get("profiles").map(Node::items).unwrap_or_default();
    own.is_empty() || own.iter().filter_map(Node::as_text).any(|name| profiles.iter().any(|p| p == name || p == "*"))
}
