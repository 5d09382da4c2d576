//! The value as bytes: a snapshot writes each distinct task spec once and indexes are rebuilt on reading.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use types::{
    Attachment, Cluster, ContainerAttachment, Dependency, GenericResources, LogDriver, Meta, Migration, Name, Network,
    NetworkId, Node, NodeId, PortConfig, Service, ServiceId, Slot, Stack, Task, TaskId, TaskSpec, TaskState,
    TaskStatus, Timestamp, Version,
};

use super::{Tables, homes::Home};

#[derive(Serialize, Deserialize)]
struct Snapshot {
    index: u64,
    cluster: Option<Arc<Cluster>>,
    nodes: Vec<Arc<Node>>,
    services: Vec<Arc<Service>>,
    specs: Vec<Arc<TaskSpec>>,
    tasks: Vec<Row>,
    /// Missing in snapshots of managers that knew no networks.
    #[serde(default)]
    networks: Vec<Arc<Network>>,
    /// Where each network goes on giving out addresses.
    #[serde(default)]
    cursors: Vec<(NetworkId, Vec<IpAddr>)>,
    /// Missing in snapshots of managers that knew no places of single containers.
    #[serde(default)]
    guests: Vec<Arc<ContainerAttachment>>,
    /// Missing in snapshots of managers that knew no secrets and configs.
    #[serde(default)]
    dependencies: Vec<Arc<Dependency>>,
    /// Of managers that forgot with a service where its data is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    homes: Vec<(ServiceId, Slot, Arc<Home>)>,
    /// Missing in snapshots of managers that did not know where data is.
    #[serde(default)]
    homes_by_name: Vec<(Name, Slot, Arc<Home>)>,
    #[serde(default)]
    homes_left: Vec<(Name, u64)>,
    /// Missing in snapshots of managers that moved no data.
    #[serde(default)]
    migrations: Vec<Arc<Migration>>,
    /// Missing in snapshots of managers that knew no stacks.
    #[serde(default)]
    stacks: Vec<Arc<Stack>>,
    #[serde(default)]
    leaving: Vec<NetworkId>,
}

/// A task with its spec as a position in `Snapshot::specs`.
#[derive(Serialize, Deserialize)]
struct Row {
    id: TaskId,
    meta: Meta,
    service: ServiceId,
    slot: Slot,
    node: Option<NodeId>,
    spec: usize,
    spec_version: Version,
    #[serde(default)]
    iteration: Option<u64>,
    #[serde(default)]
    host_ports: Vec<PortConfig>,
    #[serde(default)]
    publishes: bool,
    #[serde(default)]
    granted: GenericResources,
    #[serde(default)]
    default_log: Option<LogDriver>,
    status: TaskStatus,
    desired: TaskState,
    #[serde(default)]
    reason: String,
    not_before: Timestamp,
    failures: u32,
    failed_at: Vec<Timestamp>,
    #[serde(default)]
    attachments: Vec<Attachment>,
    #[serde(default)]
    running_since: Option<Timestamp>,
    #[serde(default)]
    refreshed_at: Option<Timestamp>,
}

impl Serialize for Tables {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut specs = Vec::new();
        // by address: `apply` lets equal specs share one allocation
        let mut known = BTreeMap::new();
        let mut position = |spec: &Arc<TaskSpec>| {
            *known.entry(Arc::as_ptr(spec)).or_insert_with(|| {
                specs.push(Arc::clone(spec));
                specs.len() - 1
            })
        };
        let tasks = self.tasks().map(|task| row(task, position(&task.spec))).collect();
        Snapshot {
            index: self.index,
            cluster: self.cluster.clone(),
            nodes: self.nodes().cloned().collect(),
            services: self.services().cloned().collect(),
            specs,
            tasks,
            networks: self.networks().cloned().collect(),
            guests: self.guests().cloned().collect(),
            dependencies: self.dependencies().cloned().collect(),
            homes: Vec::new(),
            homes_by_name: self.homes.iter().map(|(name, slot, home)| (name.clone(), slot, Arc::clone(home))).collect(),
            homes_left: self.homes.left().map(|(name, index)| (name.clone(), index)).collect(),
            migrations: self.migrations().cloned().collect(),
            stacks: self.stacks().cloned().collect(),
            leaving: self.leaving.iter().copied().collect(),
            cursors: self.pools.iter().map(|(id, pool)| (*id, pool.cursors())).collect(),
        }
        .serialize(serializer)
    }
}

fn row(task: &Task, spec: usize) -> Row {
    Row {
        id: task.id,
        meta: task.meta,
        service: task.service,
        slot: task.slot,
        node: task.node,
        spec,
        spec_version: task.spec_version,
        iteration: task.iteration,
        host_ports: task.host_ports.clone(),
        publishes: task.publishes,
        granted: task.granted.clone(),
        default_log: task.default_log.clone(),
        status: task.status.clone(),
        desired: task.desired,
        reason: task.reason.clone(),
        not_before: task.not_before,
        failures: task.failures,
        failed_at: task.failed_at.clone(),
        attachments: task.attachments.clone(),
        running_since: task.running_since,
        refreshed_at: task.refreshed_at,
    }
}

impl<'de> Deserialize<'de> for Tables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let snapshot = Snapshot::deserialize(deserializer)?;
        let mut tables = Self { index: snapshot.index, cluster: snapshot.cluster, ..Self::default() };
        for node in snapshot.nodes {
            tables.insert_node(node);
        }
        for network in snapshot.networks {
            tables.insert_network(network);
        }
        for dependency in snapshot.dependencies {
            tables.insert_dependency(dependency);
        }
        // the copies of a spec in services become one with the tasks' again
        let mut shared: Vec<Arc<TaskSpec>> = snapshot.specs;
        for mut service in snapshot.services {
            if let Some(spec) = shared.iter().find(|spec| **spec == service.task_spec) {
                Arc::make_mut(&mut service).task_spec = Arc::clone(spec);
            }
            tables.insert_service(service);
        }
        for row in snapshot.tasks {
            let spec = shared
                .get_mut(row.spec)
                .ok_or_else(|| D::Error::custom(format!("task {} names the missing spec {}", row.id, row.spec)))?;
            tables.insert_task(&Arc::new(Task {
                id: row.id,
                meta: row.meta,
                service: row.service,
                slot: row.slot,
                node: row.node,
                spec: Arc::clone(spec),
                spec_version: row.spec_version,
                iteration: row.iteration,
                host_ports: row.host_ports,
                publishes: row.publishes,
                granted: row.granted,
                default_log: row.default_log,
                status: row.status,
                desired: row.desired,
                reason: row.reason,
                not_before: row.not_before,
                failures: row.failures,
                failed_at: row.failed_at,
                attachments: row.attachments,
                running_since: row.running_since,
                refreshed_at: row.refreshed_at,
            }));
        }
        for (service, slot, home) in snapshot.homes {
            if let Some(name) = tables.service(service).map(|service| service.spec.name.clone()) {
                tables.homes.insert(&name, slot, Arc::new(Home { service, ..(*home).clone() }));
            }
        }
        snapshot.homes_by_name.into_iter().for_each(|(name, slot, home)| tables.homes.insert(&name, slot, home));
        snapshot.homes_left.into_iter().for_each(|(name, index)| tables.homes.leave(&name, index));
        let of = |migration: Arc<Migration>| ((migration.from, migration.volume.clone()), migration);
        tables.migrations = snapshot.migrations.into_iter().map(of).collect();
        tables.leaving = snapshot.leaving.into_iter().collect();
        snapshot.stacks.into_iter().for_each(|stack| tables.insert_stack(stack));
        for guest in snapshot.guests {
            tables.insert_guest(&guest);
        }
        for (id, cursors) in snapshot.cursors {
            if let Some(pool) = tables.pools.get_mut(&id) {
                pool.set_cursors(&cursors);
            }
        }
        Ok(tables)
    }
}
