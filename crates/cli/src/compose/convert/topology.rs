//! Networks, volumes, secrets and configs of a file.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};

use super::{Context, Dependency, Network, Project, Service, texts};
use crate::compose::check::{Check, Field, Fields, nearest};

/// What is under the four keys, by the names of the file.
#[derive(Debug, Default)]
pub(super) struct Topology {
    networks: Vec<(String, Network)>,
    /// Name, and what a mount of it needs.
    volumes: Vec<(String, Volume)>,
    secrets: Vec<(String, Dependency)>,
    configs: Vec<(String, Dependency)>,
}

#[derive(Debug, Clone)]
pub(super) struct Volume {
    pub(super) name: String,
    /// `VolumeOptions`; null for one of somebody else's.
    pub(super) options: Value,
}

/// Networks of every host.
const PREDEFINED: [&str; 3] = ["host", "none", "bridge"];

impl Topology {
    /// The network's name in the cluster.
    pub(super) fn network(&self, name: &str, field: &Field<'_>, check: &mut Check) -> Option<String> {
        find(&self.networks, name, "network", field, check).map(|network| network.name.clone())
    }

    pub(super) fn volume(&self, name: &str, field: &Field<'_>, check: &mut Check) -> Option<&Volume> {
        find(&self.volumes, name, "volume", field, check)
    }

    pub(super) fn secret(&self, name: &str, field: &Field<'_>, check: &mut Check) -> Option<String> {
        find(&self.secrets, name, "secret", field, check).map(|secret| secret.name.clone())
    }

    pub(super) fn config(&self, name: &str, field: &Field<'_>, check: &mut Check) -> Option<String> {
        find(&self.configs, name, "config", field, check).map(|config| config.name.clone())
    }

    /// With the networks that services use, as docker has it.
    pub(super) fn project(self, services: Vec<Service>, used: &[String]) -> Project {
        let is_used = |network: &Network| used.contains(&network.name) && !PREDEFINED.contains(&network.name.as_str());
        let second = |(_, one)| one;
        Project {
            services,
            networks: self.networks.into_iter().map(|(_, network)| network).filter(is_used).collect(),
            secrets: self.secrets.into_iter().map(second).collect(),
            configs: self.configs.into_iter().map(|(_, config)| config).collect(),
        }
    }
}

fn find<'t, T>(all: &'t [(String, T)], name: &str, kind: &str, field: &Field<'_>, check: &mut Check) -> Option<&'t T> {
    let found = all.iter().find(|(known, _)| known == name).map(|(_, one)| one);
    if found.is_none() {
        let known: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let hint = match nearest(name, &known) {
            Some(near) => format!("do you mean {near:?}?"),
            None => format!("define it under the top-level `{kind}s:`"),
        };
        field.wrong(check, format!("undefined {kind} {name:?}; {hint}"));
    }
    found
}

pub(super) fn read(root: &Fields<'_>, context: &Context<'_>, check: &mut Check) -> Topology {
    let mut topology = Topology::default();
    let entries = |name: &str, check: &mut Check| match root.get(name) {
        Some(field) => field.entries(check),
        None => Vec::new(),
    };
    for (name, field) in entries("networks", check) {
        topology.networks.push((name.to_owned(), network(name, &owned(&field, "network", name), context, check)));
    }
    if !topology.networks.iter().any(|(name, _)| name == "default") {
        let name = context.scoped("default");
        let body = json!({ "Name": name, "Driver": "overlay", "Labels": context.labels(Vec::new()) });
        let default = Network { name, external: false, body, place: String::new() };
        topology.networks.push(("default".to_owned(), default));
    }
    for (name, field) in entries("volumes", check) {
        topology.volumes.push((name.to_owned(), volume(name, &owned(&field, "volume", name), context, check)));
    }
    for (name, field) in entries("secrets", check) {
        topology
            .secrets
            .push((name.to_owned(), dependency(name, &owned(&field, "secret", name), true, context, check)));
    }
    for (name, field) in entries("configs", check) {
        topology
            .configs
            .push((name.to_owned(), dependency(name, &owned(&field, "config", name), false, context, check)));
    }
    topology
}

/// The same under a name for people.
fn owned<'n>(field: &Field<'n>, kind: &str, name: &str) -> Field<'n> {
    Field::new(field.node, &format!("{kind} {name}"))
}

/// The name in the cluster, and whether it is somebody else's.
fn identity(
    key: &str,
    field: &Field<'_>,
    fields: &Fields<'_>,
    context: &Context<'_>,
    check: &mut Check,
) -> (String, bool) {
    let mut name = check.text(fields.get("name"));
    let external = match fields.get("external") {
        None => false,
        // the form of version 3.0 to 3.4
        Some(external) if external.is_map() => {
            let inner = check_name(external, check);
            name = name.or(inner);
            true
        }
        Some(external) => external.boolean(check).unwrap_or(false),
    };
    if external {
        for (other, _) in field.node.entries() {
            if !matches!(other.name.as_str(), "external" | "name") && !other.name.starts_with("x-") {
                field.wrong(
                    check,
                    format!("it is external, somebody else's: {:?} cannot be said of it here", other.name),
                );
            }
        }
        return (name.unwrap_or_else(|| key.to_owned()), true);
    }
    (name.unwrap_or_else(|| context.scoped(key)), false)
}

fn check_name(external: &Field<'_>, check: &mut Check) -> Option<String> {
    let fields = external.fields(check, &["name"]);
    check.text(fields.get("name"))
}

const NETWORK: &[&str] = &[
    "name",
    "external",
    "driver",
    "driver_opts",
    "attachable",
    "internal",
    "labels",
    "ipam",
    "enable_ipv4",
    "enable_ipv6",
];

fn network(key: &str, field: &Field<'_>, context: &Context<'_>, check: &mut Check) -> Network {
    let fields = field.fields(check, NETWORK);
    let (name, external) = identity(key, field, &fields, context, check);
    let place = context.sources.show(field.at());
    if external {
        return Network { name, external, body: Value::Null, place };
    }
    if let Err(why) = name.parse::<types::Name>() {
        field.wrong(check, why);
    }
    let mut body = json!({ "Name": name });
    body["Driver"] = check.text(fields.get("driver")).unwrap_or_else(|| "overlay".to_owned()).into();
    if body["Driver"] != "overlay" {
        body["Scope"] = "swarm".into();
    }
    for (key, name) in [("attachable", "Attachable"), ("internal", "Internal"), ("enable_ipv6", "EnableIPv6")] {
        if let Some(value) = fields.get(key).and_then(|field| field.boolean(check)) {
            body[name] = value.into();
        }
    }
    if let Some(v4) = fields.get("enable_ipv4").filter(|v4| v4.node.as_text() == Some("false")) {
        v4.wrong(check, "every network has IPv4 addresses: leave it out");
    }
    if let Some(options) = fields.get("driver_opts") {
        body["Options"] = Value::Object(texts(options.pairs(check)));
    }
    let labels = fields.get("labels").map(|field| field.pairs(check)).unwrap_or_default();
    body["Labels"] = Value::Object(context.labels(labels));
    if let Some(ipam) = fields.get("ipam") {
        body["IPAM"] = read_ipam(ipam, check);
    }
    Network { name, external, body, place }
}

fn read_ipam(field: &Field<'_>, check: &mut Check) -> Value {
    let fields = field.fields(check, &["driver", "config", "options"]);
    let driver = check.text(fields.get("driver")).unwrap_or_else(|| "default".to_owned());
    let mut configs = Vec::new();
    for item in fields.get("config").map(|field| field.items(check)).unwrap_or_default() {
        let inner = item.fields(check, &["subnet", "gateway", "ip_range", "aux_addresses"]);
        let mut config = Map::new();
        for (key, name) in [("subnet", "Subnet"), ("gateway", "Gateway"), ("ip_range", "IPRange")] {
            if let Some(text) = check.text(inner.get(key)) {
                config.insert(name.to_owned(), text.into());
            }
        }
        if let Some(addresses) = inner.get("aux_addresses") {
            config.insert("AuxiliaryAddresses".to_owned(), Value::Object(texts(addresses.pairs(check))));
        }
        configs.push(Value::Object(config));
    }
    json!({ "Driver": driver, "Config": configs })
}

fn volume(key: &str, field: &Field<'_>, context: &Context<'_>, check: &mut Check) -> Volume {
    // K-09: what CSI needs is in no host of ours
    if let Some(spec) = field.node.get("x-cluster-spec") {
        Field::new(spec, &format!("volume {key}: x-cluster-spec"))
            .wrong(check, "there are no cluster volumes (CSI); use a driver such as local with nfs options");
    }
    let fields = field.fields(check, &["name", "external", "driver", "driver_opts", "labels"]);
    let (name, external) = identity(key, field, &fields, context, check);
    if external {
        return Volume { name, options: Value::Null };
    }
    let labels = fields.get("labels").map(|field| field.pairs(check)).unwrap_or_default();
    let mut options = json!({ "Labels": context.labels(labels) });
    let driver = check.text(fields.get("driver"));
    if let Some(field) = fields.get("driver").filter(|_| driver.as_deref().is_some_and(|driver| driver != "local")) {
        let why = format!("volume driver {:?} is not supported; use local", driver.as_deref().unwrap_or_default());
        field.wrong(check, why);
    }
    let inner = fields.get("driver_opts").map(|field| field.pairs(check)).unwrap_or_default();
    if driver.is_some() || !inner.is_empty() {
        options["DriverConfig"] = json!({ "Name": driver.unwrap_or_else(|| "local".to_owned()) });
        if !inner.is_empty() {
            options["DriverConfig"]["Options"] = Value::Object(texts(inner));
        }
    }
    Volume { name, options }
}

const DEPENDENCY: &[&str] =
    &["name", "external", "file", "environment", "content", "labels", "driver", "driver_opts", "template_driver"];

fn dependency(key: &str, field: &Field<'_>, is_secret: bool, context: &Context<'_>, check: &mut Check) -> Dependency {
    let fields = field.fields(check, DEPENDENCY);
    let (name, external) = identity(key, field, &fields, context, check);
    let place = context.sources.show(field.at());
    if external {
        return Dependency { name, external, body: Value::Null, place };
    }
    if let Err(why) = name.parse::<types::DependencyName>() {
        field.wrong(check, why);
    }
    if is_secret {
        if let Some(content) = fields.get("content") {
            content.wrong(check, "a secret has no place in a Compose file; use `file:` or `environment:`");
        }
        if let Some(driver) = fields.get("driver") {
            driver.wrong(check, "secret drivers are plugins, and plugins are not supported: give the data");
        }
    }
    let labels = fields.get("labels").map(|field| field.pairs(check)).unwrap_or_default();
    let mut body = json!({ "Name": name, "Labels": context.labels(labels) });
    if let Some(data) = data(field, &fields, is_secret, context, check) {
        body["Data"] = BASE64.encode(data).into();
    }
    if let Some(driver) = check.text(fields.get("template_driver")) {
        body["Templating"] = json!({ "Name": driver });
    }
    Dependency { name, external, body, place }
}

fn data(
    field: &Field<'_>,
    fields: &Fields<'_>,
    is_secret: bool,
    context: &Context<'_>,
    check: &mut Check,
) -> Option<Vec<u8>> {
    let given: Vec<&str> =
        ["file", "environment", "content"].into_iter().filter(|key| fields.get(key).is_some()).collect();
    match given.as_slice() {
        [] => {
            field.wrong(check, "it has no data: give file, environment or, for a config, content; or external: true");
            None
        }
        [key] => {
            let one = fields.get(key)?;
            let text = one.text(check)?;
            let found = match *key {
                "file" => {
                    (context.read)(std::path::Path::new(&text)).map_err(|why| format!("cannot read {text}: {why}"))
                }
                "environment" => {
                    let value = context.environment.get(&text).map(|value| value.clone().into_bytes());
                    value.ok_or_else(|| format!("the variable {text} is not set"))
                }
                _ => Ok(text.into_bytes()),
            };
            let data = found.map_err(|why| one.wrong(check, why)).ok()?;
            let kind = if is_secret { types::DependencyKind::Secret } else { types::DependencyKind::Config };
            if data.is_empty() || data.len() >= kind.size_limit() {
                let (size, limit) = (data.len(), kind.size_limit());
                one.wrong(check, format!("the data must be larger than 0 and less than {limit} bytes, it has {size}"));
            }
            Some(data)
        }
        several => {
            field.wrong(check, format!("the data is given twice: {} exclude each other", several.join(" and ")));
            None
        }
    }
}
