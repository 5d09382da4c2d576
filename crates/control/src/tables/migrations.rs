//! Data on its way between nodes (P41): which slots have to do without a task meanwhile.

use std::sync::Arc;

use types::{Migration, NodeId, ServiceId, Slot};

use super::{Tables, Touched, homes::Home};
use crate::Rejection;

impl Tables {
    pub fn migrations(&self) -> impl Iterator<Item = &Arc<Migration>> {
        self.migrations.values()
    }

    pub(crate) fn migration(&self, volume: &str, from: NodeId) -> Option<&Arc<Migration>> {
        self.migrations.get(&(from, volume.to_owned()))
    }

    /// The one that the slot waits for.
    pub(crate) fn migration_of(&self, service: ServiceId, slot: Slot) -> Option<&Arc<Migration>> {
        self.migrations().find(|migration| migration.holds(service, slot))
    }

    /// # Errors
    /// A node of it is gone.
    pub(super) fn put_migration(&mut self, migration: &Migration, touched: &mut Touched) -> Result<(), Rejection> {
        for id in [migration.from, migration.to] {
            self.node(id).ok_or_else(|| Rejection::not_found("node", id))?;
        }
        touched.services.extend(migration.slots.iter().map(|(service, _)| *service));
        self.migrations.insert((migration.from, migration.volume.clone()), Arc::new(migration.clone()));
        Ok(())
    }

    /// The slots' data is on the other node now, or where it was.
    pub(super) fn end_migration(
        &mut self,
        volume: &str,
        from: NodeId,
        moved: bool,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let found = self.migrations.remove(&(from, volume.to_owned()));
        let migration = found.ok_or_else(|| Rejection::not_found("migration of volume", volume))?;
        touched.services.extend(migration.slots.iter().map(|(service, _)| *service));
        for (service, slot) in migration.slots.iter().filter(|_| moved) {
            let Some(name) = self.service(*service).map(|service| service.spec.name.clone()) else { continue };
            if let Some(home) = self.homes.get(&name, *slot).cloned() {
                self.homes.insert(&name, *slot, Arc::new(Home { node: migration.to, ..(*home).clone() }));
            }
        }
        Ok(())
    }

    /// Of a service that is gone no slot waits any more.
    pub(super) fn forget_migrations_of(&mut self, service: ServiceId) {
        let others = |migration: &Migration| migration.slots.iter().any(|(other, _)| *other != service);
        self.migrations =
            self.migrations.iter().filter(|(_, m)| others(m)).map(|(k, m)| (k.clone(), m.clone())).collect();
    }
}
