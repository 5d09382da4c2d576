//! A container's new name in the networks of this host. In those of the cluster it keeps the name that it came with,
//! until its next start.

use overlay::EndpointId;

use super::{Network, Owner, local::NetworkError, owned};

impl Owner {
    pub(super) async fn rename(&mut self, id: &EndpointId, old: &str, new: &str) -> Result<(), NetworkError> {
        let Some(before) = self.plan.endpoints.get(id).cloned() else { return Ok(()) };
        let (old, new) = (old.to_ascii_lowercase(), new.to_ascii_lowercase());
        let mut next = before.clone();
        for port in &mut next.locals {
            port.names.retain(|name| *name != new);
            match port.names.iter_mut().find(|name| **name == old) {
                Some(name) => name.clone_from(&new),
                None => port.names.insert(0, new.clone()),
            }
        }
        if next.locals == before.locals { Ok(()) } else { self.replace(id, before, next).await }
    }
}

impl Network {
    /// The endpoint goes by another name from now on, if there is one.
    pub(in crate::engine) async fn rename(&self, id: EndpointId, old: &str, new: &str) -> Result<(), NetworkError> {
        let (old, new) = (old.to_owned(), new.to_owned());
        self.ask_local(|reply| owned::Request::Rename { id, old, new, reply }).await
    }
}
