//! What the cluster has, as far as a stack is concerned, and whether a stack fits into it. Everything is looked at before
//! the first change is asked for.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::Value;

use super::super::{info::text, tasks::items};
use crate::{
    client::Client,
    compose::{Dependency, NAMESPACE, Project},
};

/// All objects, by name.
pub(super) struct Live {
    pub(super) networks: BTreeMap<String, Value>,
    pub(super) secrets: BTreeMap<String, Value>,
    pub(super) configs: BTreeMap<String, Value>,
    pub(super) services: BTreeMap<String, Value>,
}

impl Live {
    pub(super) async fn fetch(client: &Client) -> anyhow::Result<Self> {
        // asked first: the daemon of a worker says here that it is none of the managers
        let services = client.get("/services").await?;
        Ok(Self {
            services: by_name(&services, "/Spec/Name"),
            networks: by_name(&client.get("/networks").await?, "/Name"),
            secrets: by_name(&client.get("/secrets").await?, "/Spec/Name"),
            configs: by_name(&client.get("/configs").await?, "/Spec/Name"),
        })
    }

    /// The names of networks by their ids.
    pub(super) fn network_names(&self) -> BTreeMap<String, String> {
        self.networks.iter().map(|(name, network)| (text(&network["Id"]), name.clone())).collect()
    }

    /// Names of services, each with when its last rollout began.
    pub(super) fn rollouts(&self, names: &[&str]) -> Vec<(String, String)> {
        let before = |name: &str| self.services.get(name).map(|found| text(&found["UpdateStatus"]["StartedAt"]));
        names.iter().map(|name| ((*name).to_owned(), before(name).unwrap_or_default())).collect()
    }

    /// # Errors
    /// All that stands in the way of the stack.
    pub(super) fn check(&self, project: &Project, stack: &str) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        for network in &project.networks {
            let found = self.networks.get(&network.name);
            let place = if network.place.is_empty() { String::new() } else { format!("{}: ", network.place) };
            match found {
                None if network.external => problems.push(format!(
                    "{place}network {:?} is declared as external, but could not be found. You need to create a \
                     swarm-scoped network before the stack is deployed",
                    network.name
                )),
                Some(found) if found["Scope"] != "swarm" => problems.push(format!(
                    "{place}network {:?} is not in the right scope: {:?} instead of \"swarm\"; it is a network of this host",
                    network.name,
                    text(&found["Scope"])
                )),
                Some(found) if !network.external => {
                    problems.extend(strange(&found["Labels"], "network", &network.name, stack));
                }
                _ => {}
            }
        }
        for (kind, wanted, have) in
            [("secret", &project.secrets, &self.secrets), ("config", &project.configs, &self.configs)]
        {
            problems.extend(wanted.iter().filter_map(|one| check_dependency(kind, one, have.get(&one.name), stack)));
        }
        self.check_services(project, stack, &mut problems);
        match problems.is_empty() {
            true => Ok(()),
            false => bail!("the stack does not fit, nothing was sent:\n{}", problems.join("\n")),
        }
    }

    fn check_services(&self, project: &Project, stack: &str, problems: &mut Vec<String>) {
        for service in &project.services {
            if let Some(found) = self.services.get(&service.name) {
                problems.extend(strange(&found["Spec"]["Labels"], "service", &service.name, stack));
                let mode = |spec: &Value| spec["Mode"].as_object().and_then(|mode| mode.keys().next().cloned());
                let (old, new) = (mode(&found["Spec"]), mode(&service.spec));
                if old != new {
                    problems.push(format!(
                        "service {}: its mode cannot change from {} to {}: remove it first, with `rswarm service rm {}`",
                        service.name,
                        old.unwrap_or_default(),
                        new.unwrap_or_default(),
                        service.name
                    ));
                }
            }
            for port in items(&service.spec["EndpointSpec"]["Ports"]).filter(|port| port["PublishMode"] == "ingress") {
                let owner = self.services.iter().find(|(name, other)| {
                    let is_ours = project.services.iter().any(|own| own.name == **name);
                    !is_ours && items(&other["Endpoint"]["Ports"]).any(|taken| is_same_port(port, taken))
                });
                if let Some((owner, _)) = owner {
                    let number = &port["PublishedPort"];
                    problems.push(format!("service {}: port {number} is published by service {owner}", service.name));
                }
            }
        }
    }
}

fn is_same_port(port: &Value, taken: &Value) -> bool {
    let everywhere = port["HostIP"].is_null() && taken["HostIP"].is_null() && taken["Interface"].is_null();
    everywhere
        && port["PublishedPort"].is_u64()
        && taken["PublishMode"] == "ingress"
        && port["PublishedPort"] == taken["PublishedPort"]
        && port["Protocol"] == taken["Protocol"]
}

fn check_dependency(kind: &str, wanted: &Dependency, found: Option<&Value>, stack: &str) -> Option<String> {
    match found {
        None if wanted.external => Some(format!(
            "{}: {kind} {:?} is declared as external, but could not be found: create it with `rswarm {kind} create {} FILE`",
            wanted.place, wanted.name, wanted.name
        )),
        Some(found) if !wanted.external => strange(&found["Spec"]["Labels"], kind, &wanted.name, stack),
        _ => None,
    }
}

/// An object with the name that is of another stack, or of none.
fn strange(labels: &Value, kind: &str, name: &str, stack: &str) -> Option<String> {
    match labels[NAMESPACE].as_str() {
        Some(owner) if owner == stack => None,
        Some(owner) => Some(format!("{kind} {name} is there already and is of stack {owner}: give another name")),
        None => Some(format!(
            "{kind} {name} is there already and is of no stack: remove it, give another name, or say external: true"
        )),
    }
}

fn by_name(list: &Value, pointer: &str) -> BTreeMap<String, Value> {
    items(list).map(|one| (one.pointer(pointer).map(text).unwrap_or_default(), one.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compose::{Network, Service};

    fn project() -> Project {
        let spec = json!({ "Mode": { "Global": {} }, "EndpointSpec": { "Ports":
            [{ "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress" }] } });
        let service = Service {
            key: "web".to_owned(),
            name: "s_web".to_owned(),
            image: "x".to_owned(),
            spec,
            needs: Vec::new(),
            at: Default::default(),
        };
        let network = |name: &str, external| Network {
            name: name.to_owned(),
            external,
            body: Value::Null,
            place: "f.yml:1:2".to_owned(),
        };
        let networks = vec![network("s_own", false), network("gone", true), network("here", true)];
        let secret =
            Dependency { name: "pw".to_owned(), external: true, body: Value::Null, place: "f.yml:3:4".to_owned() };
        Project { services: vec![service], networks, secrets: vec![secret], configs: Vec::new() }
    }

    /// K-02: everything that stands in the way is told before the first request.
    #[test]
    fn k_02_what_does_not_fit() {
        let empty = json!([]);
        let ports = json!([{ "Protocol": "tcp", "PublishedPort": 8080, "PublishMode": "ingress" }]);
        let live = Live {
            services: by_name(
                &json!([
                    { "Spec": { "Name": "s_web", "Labels": { NAMESPACE: "s" }, "Mode": { "Replicated": {} } } },
                    { "Spec": { "Name": "other" }, "Endpoint": { "Ports": ports } },
                ]),
                "/Spec/Name",
            ),
            networks: by_name(
                &json!([{ "Name": "s_own", "Scope": "swarm", "Labels": { NAMESPACE: "t" } }, { "Name": "here", "Scope": "local" }]),
                "/Name",
            ),
            secrets: by_name(&empty, "/Spec/Name"),
            configs: by_name(&empty, "/Spec/Name"),
        };
        let refusal = live.check(&project(), "s").expect_err("refused").to_string();
        for part in [
            "network s_own is there already and is of stack t",
            "f.yml:1:2: network \"gone\" is declared as external, but could not be found",
            "network \"here\" is not in the right scope: \"local\" instead of \"swarm\"",
            "f.yml:3:4: secret \"pw\" is declared as external, but could not be found",
            "service s_web: its mode cannot change from Replicated to Global",
            "service s_web: port 8080 is published by service other",
        ] {
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
    }
}
