//! The working copy of the passes: the value with the changes made so far, and the list of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

use types::{
    Attachment, Cluster, GenericResources, NodeId, NodeState, ServiceId, TaskId, TaskState, TaskStatus, Timestamp,
};

use super::Planned;
use crate::{Change, Component, NewTask, ObjectRef, Tables, Touched, tables::Moment};

/// Reads like the [`Tables`] it becomes.
pub(super) struct Draft {
    tables: Tables,
    moment: Moment,
    changes: Vec<Change>,
    /// How many changes there were when one last gave something back.
    freed_at: usize,
    /// Positions in `changes` of tasks born in this plan: placing one changes its birth.
    born: BTreeMap<TaskId, usize>,
    /// Services the changes depend on.
    services: BTreeSet<ServiceId>,
    /// Whether the changes depend on the cluster as a whole.
    cluster: bool,
    /// Nodes the changes depend on.
    nodes: BTreeSet<NodeId>,
    /// Services in which room was made: what fills it is decided in the same plan.
    again: BTreeSet<ServiceId>,
    touched: Touched,
    /// A task got a node since this was last asked.
    placed: bool,
}

impl Deref for Draft {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

impl Draft {
    pub(super) fn new(tables: &Tables, now: Timestamp) -> Self {
        Self {
            tables: tables.clone(),
            moment: Moment { index: tables.index() + 1, at: now },
            changes: Vec::new(),
            freed_at: 0,
            born: BTreeMap::new(),
            services: BTreeSet::new(),
            cluster: false,
            nodes: BTreeSet::new(),
            again: BTreeSet::new(),
            touched: Touched::default(),
            placed: false,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.moment.at
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What the changes so far touched.
    pub(super) fn touched(&self) -> &Touched {
        &self.touched
    }

    /// Makes a change, in the copy and in the list. One that does not fit the value is dropped: that
    /// would be a mistake of the pass, and the value is never to pay for it.
    pub(super) fn make(&mut self, change: Change) {
        let freed = std::mem::take(&mut self.touched.freed);
        let fits = self.tables.apply_change(self.moment, &change, &mut self.touched);
        debug_assert!(fits.is_ok(), "a pass made a change that does not fit: {change:?}: {fits:?}");
        if fits.is_ok() {
            self.changes.push(change);
        }
        if self.touched.freed {
            self.freed_at = self.changes.len();
        }
        self.touched.freed |= freed;
    }

    /// Changes what is said of the whole cluster.
    pub(super) fn put_cluster(&mut self, cluster: Cluster) {
        self.cluster = true;
        self.make(Change::PutCluster(Box::new(cluster)));
    }

    /// The changes are right only while the service is as it was read.
    pub(super) fn depends_on(&mut self, service: ServiceId) {
        self.services.insert(service);
        self.again.insert(service);
    }

    /// The changes are right only while the node is as it was read.
    pub(super) fn depends_on_node(&mut self, node: NodeId) {
        self.nodes.insert(node);
    }

    /// Whether there is more room than when this was last asked.
    pub(super) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.touched.freed)
    }

    /// Whether a task got a node since this was last asked.
    pub(super) fn take_placed(&mut self) -> bool {
        std::mem::take(&mut self.placed)
    }

    /// The services to look at once more, given out once.
    pub(super) fn take_again(&mut self) -> BTreeSet<ServiceId> {
        std::mem::take(&mut self.again)
    }

    /// A task whose node is away counts as replaced by the new one only while the node is as it was read: it
    /// may be back before the new task is ordered.
    pub(super) fn create(&mut self, task: NewTask) {
        self.services.insert(task.service);
        let others = self.tables.tasks_of_slot(task.service, task.slot);
        let away = |id: &NodeId| self.tables.node(*id).is_some_and(|node| node.status.state != NodeState::Ready);
        self.nodes.extend(others.filter(|t| !t.status.state.is_terminal()).filter_map(|t| t.node).filter(away));
        self.born.insert(task.id, self.changes.len());
        self.make(Change::CreateTask(Box::new(task)));
    }

    /// Wants the task no further than `desired`. One that never reached a node ends at once. For one of which that is
    /// known already nothing follows.
    pub(super) fn stop(&mut self, id: TaskId, desired: TaskState, why: &str) {
        self.end(id, desired, why, "");
    }

    /// A task that runs gets the versions of secrets and configs that its service names now.
    pub(super) fn refresh(&mut self, id: TaskId, service: ServiceId) {
        self.depends_on(service);
        self.make(Change::RefreshTask(id));
    }

    /// Stops a task that nobody asked to stop; whoever looks is told why.
    pub(super) fn evict(&mut self, id: TaskId, why: &str) {
        self.end(id, TaskState::Shutdown, why, why);
    }

    fn end(&mut self, id: TaskId, desired: TaskState, why: &str, reason: &str) {
        let Some(task) = self.tables.task(id).cloned() else { return };
        let (stops, ends) = (task.desired < desired, task.node.is_none() && !task.status.state.is_terminal());
        if !stops && !ends {
            return;
        }
        self.services.insert(task.service);
        self.again.insert(task.service);
        if stops {
            self.make(Change::TaskDesired { task: id, desired, reason: reason.to_owned() });
        }
        if ends {
            let state = TaskState::Shutdown;
            let status = TaskStatus { state, since: self.now(), message: why.to_owned(), ..task.status.clone() };
            self.make(Change::TaskStatus { task: id, by: Component::Orchestrator, status: Box::new(status) });
        }
    }

    /// Gives the task a node and its places in networks. A task born in this plan is born there.
    pub(super) fn place(&mut self, id: TaskId, node: NodeId, attachments: Vec<Attachment>) {
        self.placed = true;
        let granted = self.grant(id, node);
        let assign = Change::AssignTask { task: id, node, attachments: attachments.clone(), granted: granted.clone() };
        // an address or a named resource that was given back after the birth is free only after it: the task is placed then
        let takes_nothing = attachments.is_empty() && granted.is_empty();
        let in_time = |at: &&usize| **at >= self.freed_at || takes_nothing;
        let born = self.born.get(&id).filter(in_time).and_then(|at| self.changes.get_mut(*at));
        if let Some(Change::CreateTask(task)) = born {
            task.node = Some(node);
            task.error.clear();
            task.attachments = attachments;
            task.granted = granted;
            let fits = self.tables.apply_change(self.moment, &assign, &mut self.touched);
            debug_assert!(fits.is_ok(), "a newborn task could not be placed: {fits:?}");
        } else {
            self.make(assign);
        }
    }

    /// What of the node's generic resources the task gets. The scheduler has seen that there is enough.
    fn grant(&self, id: TaskId, node: NodeId) -> GenericResources {
        let wanted = self.tables.task(id).map(|task| &task.spec.resources.reservations.generic);
        let has = self.tables.node(node).and_then(|node| node.description.as_ref()).map(|told| &told.resources.generic);
        match (wanted, has) {
            (Some(wanted), Some(has)) if !wanted.is_empty() => {
                self.tables.load(node).grant(has, wanted).unwrap_or_default()
            }
            _ => GenericResources::new(),
        }
    }

    /// Says why the task waits.
    pub(super) fn explain(&mut self, id: TaskId, error: &str) {
        let Some(task) = self.tables.task(id).cloned() else { return };
        if task.status.error == error {
            return;
        }
        let mut status = task.status.clone();
        error.clone_into(&mut status.error);
        let change = Change::TaskStatus { task: id, by: Component::Scheduler, status: Box::new(status) };
        let born = self.born.get(&id).and_then(|at| self.changes.get_mut(*at));
        if let Some(Change::CreateTask(task)) = born {
            error.clone_into(&mut task.error);
            let fits = self.tables.apply_change(self.moment, &change, &mut self.touched);
            debug_assert!(fits.is_ok(), "a newborn task could not be explained: {fits:?}");
        } else {
            self.make(change);
        }
    }

    /// The changes, with the versions of what they depend on.
    pub(super) fn finish(self, before: &Tables, wake_at: Option<Timestamp>) -> Planned {
        let service = |id: &ServiceId| Some((ObjectRef::Service(*id), before.service(*id)?.meta.version));
        let node = |id: &NodeId| Some((ObjectRef::Node(*id), before.node(*id)?.meta.version));
        let services = self.services.iter().filter_map(service);
        let cluster =
            before.cluster().filter(|_| self.cluster).map(|cluster| (ObjectRef::Cluster, cluster.meta.version));
        let expects = services.chain(self.nodes.iter().filter_map(node)).chain(cluster).collect();
        Planned { expects, changes: self.changes, wake_at }
    }
}
