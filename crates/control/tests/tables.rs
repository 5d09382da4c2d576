//! The value by itself: snapshots, whole-or-nothing, versions.
#![allow(clippy::unwrap_used)]

use control::{Change, Component, NewTask, ObjectRef, Proposal, Rejection, Tables, admission};
use types::*;

#[path = "plan/spec.rs"]
#[allow(dead_code)]
mod spec;

const NOW: Timestamp = Timestamp::from_unix_ms(1_000_000);

fn proposal(changes: Vec<Change>) -> Proposal {
    Proposal { at: NOW, expects: Vec::new(), changes }
}

/// One node, one service with two tasks on it.
fn small() -> (Tables, NodeId, ServiceId) {
    let node = NodeId::from_random(1);
    let mut tables = Tables::default();
    let first = admission::bootstrap(spec::cluster(), spec::node(node, &["a"], NOW), NOW);
    tables.apply(1, &first).unwrap();
    let request = WriteRequest::CreateService(Box::new(spec::service(None, &["web", "x2", "cpu=1"])));
    let (create, reply) = admission::admit(&tables, &request, NOW, &mut || 7).unwrap();
    tables.apply(2, &create).unwrap();
    let WriteReply::Created(service) = reply else { panic!("a service was created") };
    let task = |number: u64| {
        Change::CreateTask(Box::new(NewTask {
            id: TaskId::from_random(u128::from(number)),
            service,
            slot: Slot::Replica(number),
            node: Some(node),
            message: String::new(),
            error: String::new(),
            not_before: Timestamp::EPOCH,
            failures: 0,
            failed_at: Vec::new(),
            attachments: Vec::new(),
        }))
    };
    tables.apply(3, &proposal(vec![task(1), task(2)])).unwrap();
    (tables, node, service)
}

#[test]
fn a_snapshot_brings_everything_back_and_shares_specs() {
    let (tables, node, service) = small();
    let bytes = rmp_serde::to_vec_named(&tables).unwrap();
    let read: Tables = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(read.index(), tables.index());
    assert_eq!(read.load(node), tables.load(node));
    assert_eq!(read.tasks().collect::<Vec<_>>(), tables.tasks().collect::<Vec<_>>());
    assert_eq!(read.service(service), tables.service(service));
    let task_spec = &read.service(service).unwrap().task_spec;
    assert!(read.tasks().all(|task| std::sync::Arc::ptr_eq(&task.spec, task_spec)), "one spec, one allocation");
    assert_eq!(rmp_serde::to_vec_named(&read).unwrap(), bytes);
    control::invariants::check(&read).unwrap();
}

#[test]
fn a_proposal_is_applied_whole_or_not_at_all() {
    let (mut tables, node, _) = small();
    let before = rmp_serde::to_vec_named(&tables).unwrap();
    let change = Change::NodeState { node, state: NodeState::Down, message: "gone".into() };
    let bad = proposal(vec![change, Change::RemoveTask(TaskId::from_random(99))]);
    assert!(matches!(tables.apply(4, &bad), Err(Rejection::NotFound { .. })));
    assert_eq!(tables.index(), 4, "the log goes on");
    assert_eq!(tables.node(node).unwrap().status.state, NodeState::Ready);
    let mut again: Tables = rmp_serde::from_slice(&before).unwrap();
    assert!(again.apply(4, &bad).is_err());
    assert_eq!(rmp_serde::to_vec_named(&again).unwrap(), rmp_serde::to_vec_named(&tables).unwrap());
}

#[test]
fn versions_foreign_reports_and_backward_states_are_refused() {
    let (mut tables, node, service) = small();
    let version = tables.service(service).unwrap().meta.version;
    let expects = vec![(ObjectRef::Service(service), Version(version.0 + 1))];
    let outcome = tables.apply(4, &Proposal { at: NOW, expects, changes: Vec::new() });
    assert!(outcome.unwrap_err().to_string().starts_with("update out of sequence"));

    let task = TaskId::from_random(1);
    let status = |state| Box::new(TaskStatus { state, ..tables.task(task).unwrap().status.clone() });
    let (running, preparing) = (status(TaskState::Running), status(TaskState::Preparing));
    let by = Component::Agent(node);
    let stranger = Component::Agent(NodeId::from_random(2));
    let foreign = proposal(vec![Change::TaskStatus { task, by: stranger, status: running.clone() }]);
    assert!(tables.apply(5, &foreign).is_err());
    tables.apply(6, &proposal(vec![Change::TaskStatus { task, by, status: running }])).unwrap();
    assert_eq!(tables.task(task).unwrap().running_since, Some(NOW));
    assert!(tables.apply(7, &proposal(vec![Change::TaskStatus { task, by, status: preparing.clone() }])).is_err());
    let reports = [TaskReport { task, status: *preparing }];
    assert_eq!(admission::report_tasks(&tables, node, &reports, NOW).changes, []);
}

#[test]
fn assignments_are_whole_first_and_then_differences() {
    use control::assignments::{diff, of_node};
    let (mut tables, node, _) = small();
    let before = of_node(&tables, node);
    assert_eq!(before.tasks.len(), 2);
    assert_eq!(diff(&before, &before), None);
    let task = TaskId::from_random(1);
    tables.apply(4, &proposal(vec![Change::TaskDesired { task, desired: TaskState::Shutdown }])).unwrap();
    tables.apply(5, &proposal(vec![Change::RemoveTask(TaskId::from_random(2))])).unwrap();
    let found = diff(&before, &of_node(&tables, node)).unwrap();
    assert_eq!(found.upsert.iter().map(|a| (a.id, a.desired)).collect::<Vec<_>>(), [(task, TaskState::Shutdown)]);
    assert_eq!(found.remove, [TaskId::from_random(2)]);
}

#[test]
fn reads_find_by_id_name_and_prefix_and_refuse_unknown_filters() {
    let (tables, _, service) = small();
    let read = |request| control::view::read(&tables, &request);
    for text in ["web".to_owned(), service.to_string(), service.to_string()[..24].to_owned()] {
        let reply = read(ReadRequest::Service(text)).unwrap();
        assert!(matches!(reply, ReadReply::Service(view) if view.service.id == service && view.desired == 2));
    }
    let bad = read(ReadRequest::Tasks([("colour".to_owned(), vec!["red".to_owned()])].into()));
    assert!(bad.unwrap_err().to_string().starts_with("invalid filter 'colour'"));
    let of = read(ReadRequest::Tasks([("service".to_owned(), vec!["web".to_owned()])].into())).unwrap();
    assert!(matches!(of, ReadReply::Tasks(tasks) if tasks.len() == 2));
    assert!(matches!(read(ReadRequest::Task("0".to_owned())), Err(Rejection::Ambiguous { .. })));
}
