//! Answers to read requests from a value: look-ups, lists and their filters, as the Docker API has them.
//!
//! Called by any manager with its own state. `leader` and `reachable` of nodes are the manager's to fill in.

mod filter;
pub(crate) mod find;
mod stack;

pub(crate) use stack::result as stack_result;

use std::sync::Arc;

use types::{
    Cluster, Counts, Dependency, DependencyKind, DependencySpec, Filters, Network, NetworkView, Node, NodeRole,
    NodeView, Payload, ReadReply, ReadRequest, Service, ServiceMode, ServiceView, Task, TaskState,
};

use crate::{Rejection, Tables};

/// Answers a request.
///
/// # Errors
/// The object is not there or its prefix is ambiguous; a filter is not known for this kind of list.
pub fn read(tables: &Tables, request: &ReadRequest) -> Result<ReadReply, Rejection> {
    Ok(match request {
        ReadRequest::Cluster => {
            let cluster = tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
            ReadReply::Cluster(Box::new(cluster_view(cluster)))
        }
        ReadRequest::RegistryLogin(image) => {
            ReadReply::RegistryLogin(tables.cluster().and_then(|cluster| cluster.registry_login(image)).cloned())
        }
        ReadRequest::Nodes(filters) => ReadReply::Nodes(nodes(tables, filters)?),
        ReadRequest::Services(filters) => ReadReply::Services(services(tables, filters)?),
        ReadRequest::Tasks(filters) => {
            let shown = |task: Arc<Task>| match filter::shown_desired(tables, &task) {
                desired if desired == task.desired => task,
                desired => Arc::new(Task { desired, ..(*task).clone() }),
            };
            ReadReply::Tasks(filter::tasks(tables, filters)?.into_iter().map(shown).collect())
        }
        ReadRequest::Node(text) => ReadReply::Node(Box::new(node_view(find::node(tables, text)?))),
        ReadRequest::Service(text) => ReadReply::Service(Box::new(service_view(tables, find::service(tables, text)?))),
        ReadRequest::Task(text) => ReadReply::Task(Box::new(task_view(tables, find::task(tables, text)?))),
        ReadRequest::TaskOfContainer(text) => {
            ReadReply::Task(Box::new(task_view(tables, find::task_of_container(tables, text)?)))
        }
        ReadRequest::Networks(filters) => ReadReply::Networks(networks(tables, filters)?),
        ReadRequest::Network(text) => {
            let network = find::network(tables, text)?;
            let services = tables.services_of_network(network.id).map(|service| (**service).clone()).collect();
            let tasks = tables.tasks_of_network(network.id).map(|task| task_view(tables, task)).collect();
            ReadReply::Network(Box::new(NetworkView { services, tasks, ..network_view(tables, network) }))
        }
        ReadRequest::Dependencies(kind, filters) => ReadReply::Dependencies(dependencies(tables, *kind, filters)?),
        ReadRequest::Dependency(kind, text) => {
            ReadReply::Dependency(Box::new(dependency_view(find::dependency(tables, *kind, text)?)))
        }
        ReadRequest::Stacks => ReadReply::Stacks(stack::all(tables)),
        ReadRequest::Stack(name) => ReadReply::Stack(Box::new(stack::one(tables, name)?)),
        ReadRequest::Counts => ReadReply::Counts(counts(tables)),
        // the value as bytes is its keeper's to give
        ReadRequest::Backup => return Err(Rejection::Invalid("a backup is taken on a manager".to_owned())),
    })
}

/// Who asks for the cluster sees for which registries there are credentials.
fn cluster_view(cluster: &Cluster) -> Cluster {
    let mut shown = cluster.clone();
    shown.registries.values_mut().for_each(|login| login.auth = Payload::default());
    shown
}

fn nodes(tables: &Tables, filters: &Filters) -> Result<Vec<NodeView>, Rejection> {
    filter::check("node", filters, filter::NODE_KEYS)?;
    Ok(tables.nodes().filter(|node| filter::node_fits(node, filters)).map(node_view).collect())
}

fn services(tables: &Tables, filters: &Filters) -> Result<Vec<ServiceView>, Rejection> {
    filter::check("service", filters, filter::SERVICE_KEYS)?;
    // One that is being removed has lost its name already, and is there only until its tasks are gone.
    let kept = tables.services().filter(|service| !service.removing && filter::service_fits(service, filters));
    Ok(kept.map(|service| service_view(tables, service)).collect())
}

fn networks(tables: &Tables, filters: &Filters) -> Result<Vec<NetworkView>, Rejection> {
    filter::check("network", filters, filter::NETWORK_KEYS)?;
    let kept = tables.networks().filter(|network| filter::network_fits(tables, network, filters));
    Ok(kept.map(|network| network_view(tables, network)).collect())
}

/// The present version of each name.
fn dependencies(tables: &Tables, kind: DependencyKind, filters: &Filters) -> Result<Vec<Dependency>, Rejection> {
    filter::check(&kind.to_string(), filters, filter::DEPENDENCY_KEYS)?;
    let of_kind = tables.dependencies().filter(|version| version.spec.kind == kind && !version.superseded);
    Ok(of_kind.filter(|version| filter::dependency_fits(version, filters)).map(dependency_view).collect())
}

/// What is secret leaves the value on the way to a task's node alone.
fn dependency_view(version: &Arc<Dependency>) -> Dependency {
    match version.spec.kind {
        DependencyKind::Config => (**version).clone(),
        DependencyKind::Secret => {
            let spec = DependencySpec { data: Payload::default(), ..(*version.spec).clone() };
            Dependency { spec: Arc::new(spec), ..(**version).clone() }
        }
    }
}

fn network_view(tables: &Tables, network: &Arc<Network>) -> NetworkView {
    NetworkView {
        network: (**network).clone(),
        usage: tables.pool(network.id).map_or_else(Vec::new, crate::tables::pool::Pool::usage),
        services: Vec::new(),
        tasks: Vec::new(),
        containers: tables.guests_of_network(network.id).map(|guest| (**guest).clone()).collect(),
    }
}

fn task_view(tables: &Tables, task: &Task) -> Task {
    Task { desired: filter::shown_desired(tables, task), ..task.clone() }
}

fn node_view(node: &Arc<Node>) -> NodeView {
    NodeView { node: (**node).clone(), leader: false, reachable: false }
}

fn service_view(tables: &Tables, service: &Arc<Service>) -> ServiceView {
    let Replicas { desired, running, completed } = replicas(tables, service);
    ServiceView { service: (**service).clone(), running, desired, completed }
}

/// How many tasks of a service there shall be, and are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    pub desired: u64,
    /// That shall run, on a node that is not lost.
    pub running: u64,
    /// Slots of a job whose task has completed.
    pub completed: u64,
}

pub fn replicas(tables: &Tables, service: &Service) -> Replicas {
    let Tally { running, wanted, completed } = tally(tables, service);
    let desired = match service.spec.mode {
        _ if service.removing => 0,
        ServiceMode::Replicated { replicas } => replicas,
        ServiceMode::Global | ServiceMode::GlobalJob => wanted,
        ServiceMode::ReplicatedJob { .. } if service.job.as_ref().is_some_and(|job| job.last_execution.is_none()) => 0,
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            max_concurrent.min(total_completions.saturating_sub(completed))
        }
    };
    Replicas { desired, running, completed }
}

#[derive(Default)]
struct Tally {
    /// Tasks that run on a node that is not lost.
    running: u64,
    /// Tasks that shall run, or of a job shall still complete.
    wanted: u64,
    /// Slots of a job whose task has.
    completed: u64,
}

/// Of a job only the present iteration counts.
fn tally(tables: &Tables, service: &Service) -> Tally {
    let mut tally = Tally::default();
    let mut last_completed = None;
    for task in tables.tasks_of_service(service.id).filter(|task| task.iteration == service.iteration()) {
        let is_completion = service.job.is_some() && task.status.state == TaskState::Complete;
        if is_completion && last_completed.replace(task.slot) != Some(task.slot) {
            tally.completed += 1;
        }
        let wanted = matches!(filter::shown_desired(tables, task), TaskState::Running | TaskState::Complete);
        if wanted && !task.status.state.is_terminal() {
            tally.wanted += 1;
            tally.running += u64::from(task.status.state == TaskState::Running);
        }
    }
    tally
}

fn counts(tables: &Tables) -> Counts {
    Counts {
        nodes: tables.node_count() as u64,
        managers: tables.nodes().filter(|node| node.role == NodeRole::Manager).count() as u64,
        services: tables.service_count() as u64,
        tasks: tables.task_count() as u64,
        index: tables.index(),
    }
}
