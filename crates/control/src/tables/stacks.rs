//! Stacks of the value, what is of them by its label, and the part of `apply` about them.

use std::sync::Arc;

use types::{KEPT_REVISIONS, Name, NetworkId, Service, Stack, StackResult, StackRevision, StackSpec, stack_of};

use super::{
    Tables, Touched,
    apply::{Moment, next_meta},
};
use crate::Rejection;

/// What a stack becomes.
pub(super) struct NextRevision<'a> {
    /// The revision that this was decided on.
    pub(super) before: u64,
    pub(super) back_to: Option<u64>,
    pub(super) by: &'a str,
    pub(super) result: Option<&'a StackResult>,
    pub(super) spec: &'a StackSpec,
}

impl Tables {
    pub fn stack(&self, name: &Name) -> Option<&Arc<Stack>> {
        self.stacks.get(name)
    }

    pub fn stacks(&self) -> impl Iterator<Item = &Arc<Stack>> {
        self.stacks.values()
    }

    /// Services with its label, those that are being removed too.
    pub(crate) fn services_of_stack<'a>(&'a self, stack: &'a str) -> impl Iterator<Item = &'a Arc<Service>> {
        self.services().filter(move |service| stack_of(&service.spec.labels) == Some(stack))
    }

    /// Networks that go as soon as nobody is in them any more.
    pub(crate) fn leaving_networks(&self) -> impl Iterator<Item = NetworkId> {
        self.leaving.iter().copied()
    }

    pub(crate) fn is_leaving(&self, network: NetworkId) -> bool {
        self.leaving.contains(&network)
    }

    pub(super) fn insert_stack(&mut self, stack: Arc<Stack>) {
        self.stacks.insert(stack.name.clone(), stack);
    }

    pub(super) fn put_stack(&mut self, moment: Moment, name: &Name, next: &NextRevision<'_>) -> Result<(), Rejection> {
        let old = self.stack(name);
        let number = old.map_or(0, |old| old.present.number);
        if number != next.before {
            return Err(Rejection::out_of_sequence("stack", name));
        }
        let mut earlier = old.map_or_else(Vec::new, |old| old.earlier.clone());
        let past = |old: &Arc<Stack>| StackRevision { result: next.result.cloned(), ..(*old.present).clone() };
        earlier.extend(old.map(|old| Arc::new(past(old))));
        let surplus = earlier.len().saturating_sub(KEPT_REVISIONS);
        earlier.drain(..surplus);
        let present = Arc::new(StackRevision {
            number: number + 1,
            at: moment.at,
            back_to: next.back_to,
            by: next.by.to_owned(),
            result: None,
            spec: Arc::new(next.spec.clone()),
        });
        let meta = next_meta(old.map(|old| old.meta), moment);
        self.insert_stack(Arc::new(Stack { name: name.clone(), meta, present, earlier }));
        Ok(())
    }

    pub(super) fn remove_stack(&mut self, name: &Name) -> Result<(), Rejection> {
        match self.stacks.remove(name) {
            Some(_) => Ok(()),
            None => Err(Rejection::not_found("stack", name)),
        }
    }

    /// Who takes a stack away object by object leaves no history of it either.
    pub(super) fn forget_stack_of(&mut self, gone: &Service) {
        let Some(name) = stack_of(&gone.spec.labels).and_then(|name| name.parse::<Name>().ok()) else { return };
        if self.stacks.contains_key(&name) && self.services_of_stack(name.as_str()).next().is_none() {
            self.stacks.remove(&name);
        }
    }

    pub(super) fn network_leaves(&mut self, id: NetworkId, touched: &mut Touched) -> Result<(), Rejection> {
        self.network(id).ok_or_else(|| Rejection::not_found("network", id))?;
        touched.networks.insert(id);
        self.leaving.insert(id);
        Ok(())
    }
}
