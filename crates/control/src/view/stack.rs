//! Stacks as they are read: by the labels of the objects, so that one that Docker's clients deployed is one too.

use std::collections::BTreeMap;

use types::{DependencyKind, Name, StackView, stack_of};

use crate::{Rejection, Tables};

/// Ordered by name.
pub(super) fn all(tables: &Tables) -> Vec<StackView> {
    let mut stacks = BTreeMap::new();
    for stack in tables.stacks() {
        entry(&mut stacks, stack.name.as_str()).revision = stack.present.number;
    }
    for service in tables.services() {
        if let Some(name) = stack_of(&service.spec.labels) {
            entry(&mut stacks, name).services.push(service.spec.name.to_string());
        }
    }
    for network in tables.networks() {
        if let Some(name) = stack_of(&network.spec.labels) {
            entry(&mut stacks, name).networks.push(network.spec.name.to_string());
        }
    }
    for version in tables.dependencies().filter(|version| !version.superseded) {
        let Some(name) = stack_of(&version.spec.labels) else { continue };
        let view = entry(&mut stacks, name);
        let names = match version.spec.kind {
            DependencyKind::Secret => &mut view.secrets,
            DependencyKind::Config => &mut view.configs,
        };
        names.push(version.spec.name.to_string());
    }
    for view in stacks.values_mut() {
        for names in [&mut view.services, &mut view.networks, &mut view.secrets, &mut view.configs] {
            names.sort_unstable();
            names.dedup();
        }
    }
    stacks.into_values().collect()
}

fn entry<'a>(stacks: &'a mut BTreeMap<String, StackView>, name: &str) -> &'a mut StackView {
    stacks.entry(name.to_owned()).or_insert_with(|| StackView { name: name.to_owned(), ..StackView::default() })
}

pub(super) fn one(tables: &Tables, name: &str) -> Result<StackView, Rejection> {
    let found = all(tables).into_iter().find(|view| view.name == name);
    let view = found.ok_or_else(|| Rejection::not_found("stack", name))?;
    let stack = name.parse::<Name>().ok().and_then(|name| tables.stack(&name)).map(|stack| (**stack).clone());
    Ok(StackView { stack, ..view })
}
