//! Beside which services a task may run, and wants to: constraints on `service`, from both sides.
//!
//! They count when a task is placed. What comes and goes beside it later moves nothing.

use std::collections::BTreeSet;

use types::{Constraint, Name, NodeId, Service, Task, TaskState, stack_of};

use crate::{NodeLoad, Tables};

pub(super) struct Neighbours {
    own: Vec<Rule>,
    /// Services that keep away from this one, and where they are.
    others: Vec<(Name, BTreeSet<NodeId>)>,
}

/// One constraint and the nodes with a task it speaks of.
struct Rule {
    constraint: Constraint,
    wants: bool,
    nodes: BTreeSet<NodeId>,
    /// Keeps tasks of the service itself apart.
    names_itself: bool,
}

impl Rule {
    fn is_met(&self, node: NodeId, own_tasks: u64) -> bool {
        let is_there = self.nodes.contains(&node) || (self.names_itself && own_tasks > 0);
        is_there == self.wants
    }
}

impl Neighbours {
    pub(super) fn of(tables: &Tables, service: &Service) -> Self {
        if !tables.has_neighbourly() {
            return Self { own: Vec::new(), others: Vec::new() };
        }
        let rule = |constraint: &Constraint| {
            let (names, wants) = constraint.neighbours()?;
            let meant = names.iter().filter_map(|name| named(tables, service, name));
            let (itself, meant): (Vec<&Service>, Vec<&Service>) = meant.partition(|other| other.id == service.id);
            let nodes = meant.iter().flat_map(|other| nodes_with(tables, other, wants)).collect();
            Some(Rule { constraint: constraint.clone(), wants, nodes, names_itself: !itself.is_empty() })
        };
        let keeps_away = |other: &&Service| other.id != service.id && keeps_away_from(tables, other, service);
        let others = tables.neighbourly().filter(keeps_away);
        let others = others.map(|other| (other.spec.name.clone(), nodes_with(tables, other, false).collect()));
        Self {
            own: service.task_spec.placement.constraints.iter().filter_map(rule).collect(),
            others: others.collect(),
        }
    }

    /// The first rule against a task on the node: a constraint of its own, or the name of a service that keeps away.
    pub(super) fn refuses(&self, node: NodeId, own_tasks: u64) -> Option<Against> {
        let unmet = |rule: &&Rule| !rule.constraint.soft && !rule.is_met(node, own_tasks);
        if let Some(rule) = self.own.iter().find(unmet) {
            return Some(Against::Own(rule.constraint.to_string()));
        }
        let other = self.others.iter().find(|(_, nodes)| nodes.contains(&node));
        other.map(|(name, _)| Against::Other(name.to_string()))
    }

    pub(super) fn unmet_wishes(&self, node: NodeId, own_tasks: u64) -> usize {
        self.own.iter().filter(|rule| rule.constraint.soft && !rule.is_met(node, own_tasks)).count()
    }

    /// Whether a node that got a task takes no second one.
    pub(super) fn keeps_own_apart(&self) -> bool {
        self.own.iter().any(|rule| rule.names_itself && !rule.wants && !rule.constraint.soft)
    }
}

/// What speaks against a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Against {
    Own(String),
    Other(String),
}

/// Whether a service wants its own tasks on different nodes.
pub(in crate::plan) fn is_one_per_node(tables: &Tables, service: &Service) -> bool {
    tables.has_neighbourly() && keeps_away_from(tables, service, service)
}

fn keeps_away_from(tables: &Tables, service: &Service, other: &Service) -> bool {
    let means = |name: &String| named(tables, service, name).is_some_and(|meant| meant.id == other.id);
    let hard = service.task_spec.placement.constraints.iter().filter(|constraint| !constraint.soft);
    hard.filter_map(Constraint::neighbours).any(|(names, wants)| !wants && names.iter().any(means))
}

/// In a stack the service of that stack, else the one of that name.
fn named<'t>(tables: &'t Tables, service: &Service, name: &str) -> Option<&'t Service> {
    let find = |name: &str| tables.service_by_name(&name.parse().ok()?).map(|found| &**found);
    let stack = stack_of(&service.spec.labels);
    stack.and_then(|stack| find(&format!("{stack}_{name}"))).or_else(|| find(name))
}

/// Near a service is near what shall run; away from it is away from what is not gone yet.
fn nodes_with(tables: &Tables, service: &Service, wants: bool) -> impl Iterator<Item = NodeId> {
    let counts = move |task: &Task| NodeLoad::counts(task) && (!wants || task.desired == TaskState::Running);
    tables.tasks_of_service(service.id).filter(move |task| counts(task)).filter_map(|task| task.node)
}
