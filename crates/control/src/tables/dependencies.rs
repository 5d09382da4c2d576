//! Secrets and configs of the value, and the part of `apply` about them: what is checked here holds whatever was
//! proposed at the same time.

use std::sync::Arc;

use types::{Dependency, DependencyId, DependencyKind, DependencyName, Service, ServiceSpec, Task, TaskState};

use super::{
    Tables,
    apply::{Moment, next_meta},
};
use crate::Rejection;

impl Tables {
    pub fn dependency(&self, id: DependencyId) -> Option<&Arc<Dependency>> {
        self.dependencies.get(&id)
    }

    /// All versions of all names, in the order of their ids.
    pub fn dependencies(&self) -> impl Iterator<Item = &Arc<Dependency>> {
        self.dependencies.values()
    }

    /// The present version of a name.
    pub fn dependency_by_name(&self, kind: DependencyKind, name: &DependencyName) -> Option<&Arc<Dependency>> {
        self.dependency_names.get(&(kind, name.clone())).and_then(|id| self.dependency(*id))
    }

    /// All versions at once, to see whether any changed.
    pub(crate) fn dependency_map(&self) -> &imbl::OrdMap<DependencyId, Arc<Dependency>> {
        &self.dependencies
    }

    pub(super) fn put_dependency(&mut self, moment: Moment, dependency: &Dependency) -> Result<(), Rejection> {
        let (kind, name) = (dependency.spec.kind, &dependency.spec.name);
        let owner = self.dependency_by_name(kind, name).map(|owner| owner.id);
        if !dependency.superseded && owner.is_some_and(|owner| owner != dependency.id) {
            return Err(Rejection::already_exists(&kind.to_string(), name));
        }
        let old = self.dependency(dependency.id);
        if old.is_some_and(|old| old.spec.data != dependency.spec.data || old.spec.name != *name) {
            return Err(Rejection::out_of_sequence(&kind.to_string(), name));
        }
        let meta = next_meta(old.map(|old| old.meta), moment);
        self.insert_dependency(Arc::new(Dependency { meta, ..dependency.clone() }));
        Ok(())
    }

    pub(super) fn insert_dependency(&mut self, dependency: Arc<Dependency>) {
        let key = (dependency.spec.kind, dependency.spec.name.clone());
        if !dependency.superseded {
            self.dependency_names.insert(key, dependency.id);
        } else if self.dependency_names.get(&key) == Some(&dependency.id) {
            self.dependency_names.remove(&key);
        }
        self.dependencies.insert(dependency.id, dependency);
    }

    pub(super) fn remove_dependency(&mut self, id: DependencyId) -> Result<(), Rejection> {
        let Some(old) = self.dependency(id).cloned() else {
            return Err(Rejection::not_found("secret or config", id));
        };
        let (kind, name) = (old.spec.kind, old.spec.name.clone());
        if self.services().any(|service| !service.removing && names(&service.spec, id)) {
            return Err(Rejection::out_of_sequence(&kind.to_string(), name));
        }
        self.dependencies.remove(&id);
        if self.dependency_names.get(&(kind, name.clone())) == Some(&id) {
            self.dependency_names.remove(&(kind, name));
        }
        Ok(())
    }

    /// A secret or config may have been removed since the service was admitted.
    pub(super) fn check_dependencies_of(&self, service: &Service) -> Result<(), Rejection> {
        match missing_dependency(self, &service.spec).filter(|_| !service.removing) {
            Some((kind, name)) => Err(Rejection::not_found(&kind.to_string(), name)),
            None => Ok(()),
        }
    }
}

/// What a spec names and the value does not have.
pub(crate) fn missing_dependency(tables: &Tables, spec: &ServiceSpec) -> Option<(DependencyKind, String)> {
    let mut wanted = spec.task.container.dependencies.iter();
    let is_there = |id: Option<DependencyId>| id.is_some_and(|id| tables.dependency(id).is_some());
    wanted.find(|wanted| !is_there(wanted.id)).map(|wanted| (wanted.kind, wanted.shown()))
}

/// Whether a spec names this version.
pub(crate) fn names(spec: &ServiceSpec, id: DependencyId) -> bool {
    spec.task.container.dependencies.iter().any(|wanted| wanted.id == Some(id))
}

/// Whether the node of a task may still need what it has as files.
pub(crate) fn needs_dependencies(task: &Task) -> bool {
    task.desired <= TaskState::Running && !task.status.state.is_terminal()
}
