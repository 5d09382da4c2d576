//! `ports`: short and long form.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Service;
use crate::{
    compose::check::{Check, Field, Problem},
    spec::port,
};

const LONG: &[&str] = &["target", "published", "protocol", "mode", "host_ip", "name", "app_protocol"];

/// `EndpointSpec.Ports`, ordered.
pub(super) fn read(field: &Field<'_>, check: &mut Check) -> Vec<Value> {
    let mut ports = Vec::new();
    for item in field.items(check) {
        let read = if item.is_map() {
            long(&item, check)
        } else {
            let text = item.text(check).unwrap_or_default();
            port::parse(&text).map_err(|why| format!("{why:#}"))
        };
        match read {
            Ok(read) => ports.extend(read),
            Err(why) if why.is_empty() => {}
            Err(why) => item.wrong(check, why),
        }
    }
    let number = |port: &Value, name: &str| port[name].as_u64().unwrap_or(0);
    ports.sort_by_key(|port| (number(port, "PublishedPort"), number(port, "TargetPort"), port.to_string()));
    ports.dedup();
    ports
}

/// An empty reason: it has been told.
fn long(field: &Field<'_>, check: &mut Check) -> Result<Vec<Value>, String> {
    let fields = field.fields(check, LONG);
    let before = check.problems.len();
    let target = fields.get("target").and_then(|field| field.natural(check));
    let mut parts = match target {
        Some(target) => vec![format!("target={target}")],
        None if fields.get("target").is_none() => return Err("target is missing: the port in the container".to_owned()),
        None => return Err(String::new()),
    };
    for (key, name) in [("published", "published"), ("protocol", "protocol"), ("mode", "mode"), ("host_ip", "host_ip")]
    {
        if let Some(text) = check.text(fields.get(key)) {
            parts.push(format!("{name}={text}"));
        }
    }
    let name = check.text(fields.get("name"));
    if check.problems.len() > before {
        return Err(String::new());
    }
    let mut ports = port::parse(&parts.join(",")).map_err(|why| format!("{why:#}"))?;
    if let Some(name) = name {
        for port in &mut ports {
            port["Name"] = json!(name);
        }
    }
    Ok(ports)
}

/// Two services cannot have one number of the mesh.
pub(super) fn refuse_twice(services: &[Service], check: &mut Check) {
    let mut owners: BTreeMap<(u64, String), &str> = BTreeMap::new();
    for service in services {
        let ports = service.spec["EndpointSpec"]["Ports"].as_array().into_iter().flatten();
        for port in ports.filter(|port| port["PublishMode"] == "ingress" && port["HostIP"].is_null()) {
            let Some(number) = port["PublishedPort"].as_u64() else { continue };
            let protocol = port["Protocol"].as_str().unwrap_or("tcp").to_owned();
            match owners.insert((number, protocol.clone()), &service.key) {
                Some(other) if other != service.key => {
                    let why = format!(
                        "service {}: port {number}/{protocol} is published by service {other} too",
                        service.key
                    );
                    check.problems.push(Problem::new(service.at, why));
                }
                _ => {}
            }
        }
    }
}
