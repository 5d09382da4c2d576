//! What must hold of secrets and configs: a name has one present version, and what a service names is there.

use std::collections::BTreeSet;

use crate::{Tables, tables::dependencies::missing_dependency};

pub(super) fn check(tables: &Tables) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for version in tables.dependencies().filter(|version| !version.superseded) {
        let (kind, name) = (version.spec.kind, &version.spec.name);
        if !names.insert((kind, name)) {
            return Err(format!("{kind} {name} has two present versions"));
        }
        if tables.dependency_by_name(kind, name).map(|found| found.id) != Some(version.id) {
            return Err(format!("{kind} {name} is not found by its name"));
        }
    }
    for service in tables.services().filter(|service| !service.removing) {
        if let Some((kind, name)) = missing_dependency(tables, &service.spec) {
            return Err(format!("service {} names the missing {kind} {name}", service.spec.name));
        }
    }
    Ok(())
}
