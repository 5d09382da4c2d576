//! `apply`: the one way the value changes. Every manager runs it on the same proposals in the same order,
//! so it reads nothing but its arguments; it refuses what does not fit and never panics.

use std::sync::Arc;

use types::Timestamp;
use types::{
    Attachment, Cluster, GenericResources, LogDriver, Meta, Node, NodeId, NodeState, PeerProblem, Service, ServiceId,
    Task, TaskId, TaskState, TaskStatus, Version,
};

use super::{NodeLoad, Tables, Touched, overlay, stacks::NextRevision};
use crate::{Change, Component, NewTask, ObjectRef, Proposal, Rejection, admission, transition};

/// When and as what a change happens.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) index: u64,
    pub(crate) at: Timestamp,
}

impl Tables {
    /// Applies the proposal that Raft ordered at `index`. Whole or not at all; refused proposals still
    /// move the index on. The same arguments give the same result everywhere.
    ///
    /// # Errors
    /// A [`Rejection`] that names the first thing that does not fit.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Result<(), Rejection> {
        // the working copy shares everything with the value until it is changed
        let mut next = self.clone();
        let result = next.apply_all(index, proposal);
        match result {
            Ok(mut touched) => {
                touched.overlays = overlay::changed(&self.overlays, &next.overlays);
                next.index = index;
                next.journal.record(index, touched);
                *self = next;
                Ok(())
            }
            Err(rejection) => {
                self.index = index;
                self.journal.record(index, Touched::default());
                Err(rejection)
            }
        }
    }

    fn apply_all(&mut self, index: u64, proposal: &Proposal) -> Result<Touched, Rejection> {
        for (object, version) in &proposal.expects {
            self.expect_version(*object, *version)?;
        }
        let moment = Moment { index, at: proposal.at };
        let mut touched = Touched::default();
        for change in &proposal.changes {
            self.apply_change(moment, change, &mut touched)?;
        }
        self.check_ports(&proposal.changes)?;
        Ok(touched)
    }

    fn expect_version(&self, object: ObjectRef, expected: Version) -> Result<(), Rejection> {
        let (kind, name, found) = match object {
            ObjectRef::Cluster => ("cluster", String::new(), self.cluster.as_ref().map(|c| c.meta.version)),
            ObjectRef::Node(id) => ("node", id.to_string(), self.node(id).map(|n| n.meta.version)),
            ObjectRef::Service(id) => ("service", id.to_string(), self.service(id).map(|s| s.meta.version)),
            ObjectRef::Task(id) => ("task", id.to_string(), self.task(id).map(|t| t.meta.version)),
            ObjectRef::Dependency(id) => {
                ("secret or config", id.to_string(), self.dependency(id).map(|d| d.meta.version))
            }
            ObjectRef::Network(id) => ("network", id.to_string(), self.network(id).map(|n| n.meta.version)),
        };
        match found {
            None => Err(Rejection::not_found(kind, name)),
            Some(found) if found != expected => Err(Rejection::out_of_sequence(kind, name)),
            Some(_) => Ok(()),
        }
    }

    /// One step. Also used by the planner on its working copy, so that both agree on what a change means.
    pub(crate) fn apply_change(
        &mut self,
        moment: Moment,
        change: &Change,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        match change {
            Change::PutCluster(cluster) => {
                touched.cluster = true;
                self.put_cluster(moment, cluster)
            }
            Change::PutNode(node) => self.put_node(moment, node, touched),
            Change::NodeState { node, state, message } => self.change_node(moment, *node, touched, |n| {
                set_state(n, *state, message, moment.at);
            }),
            Change::NodePeers { node, unreachable_peers } => self.node_peers(*node, unreachable_peers, touched),
            Change::NodeDescribed { node, description, address } => self.change_node(moment, *node, touched, |n| {
                n.description = Some((**description).clone());
                n.status.address = *address;
            }),
            Change::NodeRole { node, role } => self.change_node(moment, *node, touched, |n| n.role = *role),
            Change::NodeRaft { node, raft } => self.change_node(moment, *node, touched, |n| n.raft.clone_from(raft)),
            Change::RemoveNode(id) => self.remove_node(*id, touched),
            Change::PutService { service, new_spec } => self.put_service(moment, service, *new_spec, touched),
            Change::ServiceUpdate { service, update } => self.change_service(moment, *service, touched, |service| {
                service.update = Some(update.clone());
            }),
            Change::ServiceJob { service, job } => self.change_service(moment, *service, touched, |service| {
                service.job = Some(job.clone());
            }),
            Change::ServiceRebalance { service, rebalance } => {
                self.change_service(moment, *service, touched, |service| service.rebalance = Some(rebalance.clone()))
            }
            Change::PutMigration(migration) => self.put_migration(migration, touched),
            Change::EndMigration { volume, from, moved } => self.end_migration(volume, *from, *moved, touched),
            Change::RemoveService(id) => self.remove_service(*id, touched),
            Change::CreateTask(new) => self.create_task(moment, new, touched),
            Change::ServiceAddresses { service, virtual_ips } => {
                self.service_addresses(moment, *service, virtual_ips, touched)
            }
            Change::PutNetwork(network) => self.put_network(moment, network, touched),
            Change::RemoveNetwork(id) => self.remove_network(*id, touched),
            Change::AddSubnet { network, subnet } => self.add_subnet(moment, *network, subnet, touched),
            Change::PutDependency(dependency) => self.put_dependency(moment, dependency),
            Change::RemoveDependency(id) => self.remove_dependency(*id),
            Change::PutStack { name, before, back_to, by, result, spec } => {
                let next = NextRevision { before: *before, back_to: *back_to, by, result: result.as_ref(), spec };
                self.put_stack(moment, name, &next)
            }
            Change::RemoveStack(name) => self.remove_stack(name),
            Change::NetworkLeaves(id) => self.network_leaves(*id, touched),
            Change::AssignTask { task, node, attachments, granted } => {
                self.assign_task(moment, *task, *node, (attachments, granted), touched)
            }
            Change::TaskStatus { task, by, status } => self.task_status(moment, *task, *by, status, touched),
            Change::TaskDesired { task, desired, reason } => {
                self.task_desired(moment, *task, *desired, reason, touched)
            }
            Change::RefreshTask(id) => self.refresh_task(moment, *id, touched),
            Change::RemoveTask(id) => self.remove_task(*id, touched),
            Change::Attach(guest) => self.attach(moment, guest, touched),
            Change::Detach { network, container } => {
                self.detach(*network, container, touched);
                Ok(())
            }
        }
    }

    fn remove_node(&mut self, id: NodeId, touched: &mut Touched) -> Result<(), Rejection> {
        self.node(id).ok_or_else(|| Rejection::not_found("node", id))?;
        touched.nodes.insert(id);
        touched.freed |= self.drop_guests_of(id);
        self.drop_node(id);
        Ok(())
    }

    fn put_cluster(&mut self, moment: Moment, cluster: &Cluster) -> Result<(), Rejection> {
        if let Some(old) = &self.cluster
            && old.id != cluster.id
        {
            return Err(Rejection::already_exists("cluster", old.id));
        }
        let meta = next_meta(self.cluster.as_ref().map(|c| c.meta), moment);
        self.cluster = Some(Arc::new(Cluster { meta, ..cluster.clone() }));
        Ok(())
    }

    fn put_node(&mut self, moment: Moment, node: &Node, touched: &mut Touched) -> Result<(), Rejection> {
        touched.nodes.insert(node.id);
        let old = self.node(node.id);
        let meta = with_spec(next_meta(old.map(|n| n.meta), moment), old.is_none_or(|old| old.spec != node.spec));
        self.insert_node(Arc::new(Node { meta, ..node.clone() }));
        Ok(())
    }

    fn change_node(
        &mut self,
        moment: Moment,
        id: NodeId,
        touched: &mut Touched,
        change: impl FnOnce(&mut Node),
    ) -> Result<(), Rejection> {
        let mut node = Arc::clone(self.node(id).ok_or_else(|| Rejection::not_found("node", id))?);
        touched.nodes.insert(id);
        let inner = Arc::make_mut(&mut node);
        change(inner);
        inner.meta = next_meta(Some(inner.meta), moment);
        self.insert_node(node);
        Ok(())
    }

    /// A remark for people. No decision depends on it, so the version stays: who edits the node meanwhile is
    /// not refused, and a label does not look fresh because a probe failed.
    fn node_peers(&mut self, id: NodeId, peers: &[PeerProblem], touched: &mut Touched) -> Result<(), Rejection> {
        let mut node = Arc::clone(self.node(id).ok_or_else(|| Rejection::not_found("node", id))?);
        touched.nodes.insert(id);
        peers.clone_into(&mut Arc::make_mut(&mut node).status.unreachable_peers);
        self.insert_node(node);
        Ok(())
    }

    fn put_service(
        &mut self,
        moment: Moment,
        service: &Service,
        new_spec: bool,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let old = self.service(service.id);
        if let Some(named) = self.service_by_name(&service.spec.name)
            && named.id != service.id
            && !service.removing
        {
            return Err(Rejection::already_exists("service", &service.spec.name));
        }
        self.check_networks_of(service)?;
        self.check_dependencies_of(service)?;
        touched.services.insert(service.id);
        let meta = next_meta(old.map(|s| s.meta), moment);
        let meta = with_spec(meta, old.is_none_or(|old| old.spec != service.spec));
        let mut next = Service { meta, ..service.clone() };
        next.virtual_ips = old.map_or_else(Vec::new, |old| old.virtual_ips.clone());
        if let Some(old) = old.filter(|old| old.published == next.published) {
            next.published = Arc::clone(&old.published);
        }
        next.spec_version = match old {
            Some(old) if !new_spec => old.spec_version,
            _ => Version(moment.index),
        };
        next.task_spec = match old {
            Some(old) if *old.task_spec == next.spec.task => Arc::clone(&old.task_spec),
            _ => Arc::new(next.spec.task.clone()),
        };
        self.touch_ordered(old.map(|old| &**old), Some(&next), touched);
        self.insert_service(Arc::new(next));
        Ok(())
    }

    fn change_service(
        &mut self,
        moment: Moment,
        id: ServiceId,
        touched: &mut Touched,
        change: impl FnOnce(&mut Service),
    ) -> Result<(), Rejection> {
        let mut service = Arc::clone(self.service(id).ok_or_else(|| Rejection::not_found("service", id))?);
        touched.services.insert(id);
        let inner = Arc::make_mut(&mut service);
        change(inner);
        inner.meta = next_meta(Some(inner.meta), moment);
        self.insert_service(service);
        Ok(())
    }

    fn remove_service(&mut self, id: ServiceId, touched: &mut Touched) -> Result<(), Rejection> {
        let old = Arc::clone(self.service(id).ok_or_else(|| Rejection::not_found("service", id))?);
        if self.tasks_of_service(id).next().is_some() {
            return Err(Rejection::FailedPrecondition(format!("service {id} still has tasks")));
        }
        touched.services.insert(id);
        touched.freed |= !old.virtual_ips.is_empty();
        self.drop_service(id);
        self.forget_stack_of(&old);
        self.forget_migrations_of(id);
        Ok(())
    }

    fn create_task(&mut self, moment: Moment, new: &NewTask, touched: &mut Touched) -> Result<(), Rejection> {
        if self.task(new.id).is_some() {
            return Err(Rejection::already_exists("task", new.id));
        }
        let service = self.service(new.service).ok_or_else(|| Rejection::not_found("service", new.service))?;
        let default_log = self.cluster.as_ref().and_then(|cluster| cluster.spec.log_driver.clone());
        let task = newborn(new, service, default_log, moment);
        self.check_attachments(&new.attachments)?;
        if let Some(node) = new.node {
            self.node(node).ok_or_else(|| Rejection::not_found("node", node))?;
            self.check_granted(node, &new.granted)?;
            touched.node_tasks.insert(node);
            touched.taken = true;
        }
        touched.services.insert(new.service);
        self.insert_task(&Arc::new(task));
        Ok(())
    }

    fn assign_task(
        &mut self,
        moment: Moment,
        id: TaskId,
        node: NodeId,
        (attachments, granted): (&[Attachment], &GenericResources),
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let mut task = Arc::clone(self.task(id).ok_or_else(|| Rejection::not_found("task", id))?);
        self.node(node).ok_or_else(|| Rejection::not_found("node", node))?;
        if task.node.is_some() || task.status.state > TaskState::Pending {
            return Err(Rejection::out_of_sequence("task", id));
        }
        self.check_attachments(attachments)?;
        self.check_granted(node, granted)?;
        touched.services.insert(task.service);
        touched.node_tasks.insert(node);
        touched.taken = true;
        let inner = Arc::make_mut(&mut task);
        inner.attachments = attachments.to_vec();
        inner.granted.clone_from(granted);
        inner.node = Some(node);
        inner.status.state = TaskState::Assigned;
        inner.status.since = moment.at;
        inner.status.error.clear();
        inner.meta = next_meta(Some(inner.meta), moment);
        self.insert_task(&task);
        Ok(())
    }

    fn task_status(
        &mut self,
        moment: Moment,
        id: TaskId,
        by: Component,
        status: &TaskStatus,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let mut task = Arc::clone(self.task(id).ok_or_else(|| Rejection::not_found("task", id))?);
        let stranger = matches!(by, Component::Agent(node) if task.node != Some(node));
        if stranger || !transition::is_allowed(by, task.status.state, status.state) {
            return Err(Rejection::out_of_sequence("task", id));
        }
        touch_task(&task, touched);
        touched.freed |= NodeLoad::counts(&task) && status.state.is_terminal();
        let inner = Arc::make_mut(&mut task);
        inner.status = status.clone();
        if status.state == TaskState::Running && inner.running_since.is_none() {
            inner.running_since = Some(moment.at);
        }
        inner.meta = next_meta(Some(inner.meta), moment);
        if status.state == TaskState::Running {
            self.settle(&task);
        }
        self.insert_task(&task);
        Ok(())
    }

    fn task_desired(
        &mut self,
        moment: Moment,
        id: TaskId,
        desired: TaskState,
        reason: &str,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let mut task = Arc::clone(self.task(id).ok_or_else(|| Rejection::not_found("task", id))?);
        let known = matches!(desired, TaskState::Running | TaskState::Shutdown | TaskState::Remove);
        if !known || desired < task.desired {
            return Err(Rejection::out_of_sequence("task", id));
        }
        touch_task(&task, touched);
        let inner = Arc::make_mut(&mut task);
        inner.desired = desired;
        reason.clone_into(&mut inner.reason);
        inner.meta = next_meta(Some(inner.meta), moment);
        self.insert_task(&task);
        Ok(())
    }

    fn remove_task(&mut self, id: TaskId, touched: &mut Touched) -> Result<(), Rejection> {
        let task = Arc::clone(self.task(id).ok_or_else(|| Rejection::not_found("task", id))?);
        touch_task(&task, touched);
        touched.freed |= NodeLoad::counts(&task);
        self.drop_task(id);
        Ok(())
    }

    /// After reading a snapshot: whoever follows the journal must look at everything.
    pub fn forget_journal(&mut self) {
        self.journal.clear();
    }
}

pub(super) fn touch_task(task: &Task, touched: &mut Touched) {
    touched.services.insert(task.service);
    touched.node_tasks.extend(task.node);
}

fn set_state(node: &mut Node, state: NodeState, message: &str, at: Timestamp) {
    if node.status.state != state {
        node.status.since = at;
    }
    node.status.state = state;
    message.clone_into(&mut node.status.message);
}

pub(super) fn next_meta(old: Option<Meta>, moment: Moment) -> Meta {
    let Meta { created_at, spec_at, .. } = old.unwrap_or(Meta { created_at: moment.at, ..Meta::default() });
    Meta { version: Version(moment.index), spec_at, created_at, updated_at: moment.at }
}

fn with_spec(meta: Meta, is_new: bool) -> Meta {
    if is_new { Meta { spec_at: meta.version, ..meta } } else { meta }
}

fn newborn(new: &NewTask, service: &Service, default_log: Option<LogDriver>, moment: Moment) -> Task {
    let state = if new.node.is_some() { TaskState::Assigned } else { TaskState::Pending };
    Task {
        id: new.id,
        meta: next_meta(None, moment),
        service: new.service,
        slot: new.slot,
        node: new.node,
        spec: Arc::clone(&service.task_spec),
        spec_version: service.spec_version,
        iteration: service.iteration(),
        host_ports: admission::host_ports(&service.spec).cloned().collect(),
        publishes: service.publishes(),
        granted: new.granted.clone(),
        default_log: default_log.filter(|_| service.task_spec.log_driver.is_none()),
        status: TaskStatus {
            state,
            since: moment.at,
            message: new.message.clone(),
            error: new.error.clone(),
            container: None,
            ports: Vec::new(),
        },
        desired: TaskState::Running,
        not_before: new.not_before,
        failures: new.failures,
        failed_at: new.failed_at.clone(),
        reason: String::new(),
        attachments: new.attachments.clone(),
        running_since: None,
        refreshed_at: None,
    }
}
