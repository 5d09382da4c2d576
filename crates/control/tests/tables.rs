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
    let first = admission::bootstrap(spec::cluster(), spec::node(node, &["a"], NOW), NOW, &mut || 3);
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
            granted: types::GenericResources::new(),
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

/// S-13: values have names, no positions. What an older version wrote has no `repeated`, and what a newer one writes an older
/// one skips.
#[test]
fn s_13_a_field_that_another_version_does_not_have_takes_nothing_along() {
    let (mut tables, _, id) = small();
    let service = Service { repeated: true, ..(**tables.service(id).unwrap()).clone() };
    tables.apply(4, &proposal(vec![Change::PutService { service: Box::new(service), new_spec: false }])).unwrap();
    let mut bytes = rmp_serde::to_vec_named(&tables).unwrap();
    let at = bytes.windows(8).position(|name| name == b"repeated").expect("its name");
    bytes[at..at + 8].copy_from_slice(b"whatever");
    let read: Tables = rmp_serde::from_slice(&bytes).unwrap();
    let read = read.service(id).unwrap();
    assert!(!read.repeated);
    assert_eq!(Service { repeated: true, ..(**read).clone() }, **tables.service(id).unwrap());
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

/// P12: whatever a plan was decided on, only what runs gets other versions of its files, and nothing else.
#[test]
fn p12_a_task_is_refreshed_only_while_it_runs_and_only_by_new_data() {
    let (mut tables, node, service) = small();
    let (first, second) = (TaskId::from_random(1), TaskId::from_random(2));
    let refresh = |task| proposal(vec![Change::RefreshTask(task)]);
    let report = |tables: &Tables, task, state| {
        let status = Box::new(TaskStatus { state, ..tables.task(task).unwrap().status.clone() });
        proposal(vec![Change::TaskStatus { task, by: Component::Agent(node), status }])
    };
    assert!(tables.apply(4, &refresh(first)).is_err(), "it does not run yet");
    let running = report(&tables, first, TaskState::Running);
    tables.apply(5, &running).unwrap();
    tables.apply(6, &refresh(first)).unwrap();
    let refreshed = tables.task(first).unwrap();
    assert_eq!((refreshed.refreshed_at, refreshed.runs_so_since()), (Some(NOW), Some(NOW)));

    let old = tables.service(service).unwrap();
    let (version, spec) = (old.meta.version, spec::service(Some(&old.spec), &["web", "image=b"]));
    let change = ServiceChange::Spec(Box::new(spec));
    let request = WriteRequest::UpdateService { id: service, version, change };
    let (update, _) = admission::admit(&tables, &request, NOW, &mut || 9).unwrap();
    tables.apply(7, &update).unwrap();
    assert!(tables.apply(8, &refresh(first)).is_err(), "another image is another container");
    let failed = report(&tables, second, TaskState::Failed);
    tables.apply(9, &failed).unwrap();
    tables.apply(10, &refresh(second)).unwrap();
    assert_eq!(tables.task(second).unwrap().refreshed_at, None, "it ended meanwhile, which refuses nothing");
}

#[test]
fn assignments_are_whole_first_and_then_differences() {
    use control::assignments::{diff, of_node};
    let (mut tables, node, _) = small();
    let before = of_node(&tables, node);
    assert_eq!(before.tasks.len(), 2);
    assert_eq!(diff(&before, &before), None);
    let task = TaskId::from_random(1);
    tables
        .apply(4, &proposal(vec![Change::TaskDesired { task, desired: TaskState::Shutdown, reason: String::new() }]))
        .unwrap();
    tables.apply(5, &proposal(vec![Change::RemoveTask(TaskId::from_random(2))])).unwrap();
    let found = diff(&before, &of_node(&tables, node)).unwrap();
    assert_eq!(found.upsert.iter().map(|a| (a.id, a.desired)).collect::<Vec<_>>(), [(task, TaskState::Shutdown)]);
    assert_eq!(found.remove, [TaskId::from_random(2)]);
}

#[test]
fn s_01_a_removed_service_is_nobodys_to_find_while_its_tasks_end() {
    let (mut tables, _, service) = small();
    let version = tables.service(service).unwrap().meta.version;
    let (remove, _) = admission::admit(&tables, &WriteRequest::RemoveService(service), NOW, &mut || 9).unwrap();
    tables.apply(4, &remove).unwrap();
    let read = |request| control::view::read(&tables, &request);
    for text in ["web".to_owned(), service.to_string(), service.to_string()[..24].to_owned()] {
        let of_it = [("service".to_owned(), vec![text.clone()])].into();
        for request in [ReadRequest::Service(text.clone()), ReadRequest::Tasks(of_it)] {
            let error = read(request).unwrap_err();
            assert!(matches!(error, Rejection::NotFound { .. }), "{text}: {error}");
        }
    }
    let update = WriteRequest::UpdateService { id: service, version, change: ServiceChange::Rollback };
    let error = admission::admit(&tables, &update, NOW, &mut || 9).unwrap_err();
    assert!(matches!(error, Rejection::NotFound { .. }), "{error}");
    // what ends by itself needs it until then
    assert!(tables.service(service).is_some_and(|service| service.removing));
    let all = read(ReadRequest::Tasks(Filters::new())).unwrap();
    assert!(matches!(all, ReadReply::Tasks(tasks) if tasks.len() == 2));
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
    let (first, second) = (TaskId::from_random(1), TaskId::from_random(2));
    for (text, id) in [
        ("web.1".to_owned(), first),
        ("web.2".to_owned(), second),
        (format!("web.1.{first}"), first),
        (format!("web.2.{}", &second.to_string()[..2]), second),
    ] {
        let reply = read(ReadRequest::Task(text.clone())).unwrap();
        assert!(matches!(reply, ReadReply::Task(task) if task.id == id), "{text}");
    }
    let container = |text: &str| read(ReadRequest::TaskOfContainer(text.to_owned()));
    let digits = format!("{:032x}", first.as_u128());
    for text in [digits.clone(), format!("{digits}{}", "0".repeat(32))] {
        assert!(matches!(container(&text).unwrap(), ReadReply::Task(task) if task.id == first), "{text}");
    }
    assert!(matches!(container("0"), Err(Rejection::Ambiguous { .. })));
    assert!(matches!(container("f0"), Err(Rejection::NotFound { .. })));
    assert!(matches!(container(""), Err(Rejection::NotFound { .. })));
    for unknown in ["web.3", "nope.1", "web.x", "web.1.zz", ".1", "web."] {
        let error = read(ReadRequest::Task(unknown.to_owned())).unwrap_err();
        assert!(matches!(error, Rejection::NotFound { .. }), "{unknown}: {error}");
    }
}

/// S-23, C-24: a word that says nothing is a mistake, and capitals are none.
#[test]
fn s_23_filters_with_unknown_words_are_refused() {
    let (tables, ..) = small();
    let filters = |key: &str, value: &str| types::Filters::from([(key.to_owned(), vec![value.to_owned()])]);
    let tasks = |value: &str| match control::view::read(&tables, &ReadRequest::Tasks(filters("desired-state", value))) {
        Ok(ReadReply::Tasks(tasks)) => Ok(tasks.len()),
        Ok(other) => panic!("{other:?}"),
        Err(refused) => Err(refused.to_string()),
    };
    assert_eq!(
        (tasks("running"), tasks("Running"), tasks("shutdown"), tasks("starting")),
        (Ok(2), Ok(2), Ok(0), Ok(0))
    );
    let refused = tasks("stopped").expect_err("no state");
    assert!(refused.starts_with("invalid desired-state filter: 'stopped' is none of running, "), "{refused}");
    let nodes = |value: &str| control::view::read(&tables, &ReadRequest::Nodes(filters("role", value)));
    let count = |value: &str| match nodes(value) {
        Ok(ReadReply::Nodes(nodes)) => nodes.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count("Worker") + count("MANAGER"), tables.nodes().count());
    assert!(nodes("boss").is_err());
}

fn with_network(tables: &mut Tables, id: u128, words: &[&str]) -> Proposal {
    let request = WriteRequest::CreateNetwork(Box::new(spec::network(words)));
    let (proposal, _) = admission::admit(tables, &request, NOW, &mut || id).unwrap();
    proposal
}

#[test]
fn of_two_networks_created_at_once_the_second_chooses_again() {
    let (mut tables, ..) = small();
    let (one, other) = (with_network(&mut tables, 1, &["a"]), with_network(&mut tables, 2, &["b"]));
    tables.apply(4, &one).unwrap();
    assert!(matches!(tables.apply(5, &other), Err(Rejection::OutOfSequence { .. })), "same subnet and identifier");
    let again = with_network(&mut tables, 2, &["b"]);
    tables.apply(6, &again).unwrap();
    control::invariants::check(&tables).unwrap();
    let in_use = [Change::RemoveNetwork(NetworkId::from_random(1))];
    tables.apply(7, &proposal(in_use.to_vec())).unwrap();
    let left = tables.networks().filter(|network| !network.spec.ingress);
    assert!(left.map(|network| network.id).eq([NetworkId::from_random(2)]));
}

#[test]
fn a_network_that_goes_while_a_service_comes_is_refused_to_the_later() {
    let (tables, ..) = small();
    let mut tables = tables;
    let create = with_network(&mut tables, 1, &["a"]);
    tables.apply(4, &create).unwrap();
    let request = WriteRequest::CreateService(Box::new(spec::service(None, &["db", "net=a"])));
    let (service, _) = admission::admit(&tables, &request, NOW, &mut || 8).unwrap();
    let remove = proposal(vec![Change::RemoveNetwork(NetworkId::from_random(1))]);
    let mut removed_first = tables.clone();
    removed_first.apply(5, &remove).unwrap();
    assert!(matches!(removed_first.apply(6, &service), Err(Rejection::NotFound { .. })));
    tables.apply(5, &service).unwrap();
    assert!(matches!(tables.apply(6, &remove), Err(Rejection::OutOfSequence { .. })));
}

#[test]
fn a_snapshot_keeps_networks_and_one_without_them_is_read() {
    let (mut tables, node, _) = small();
    let create = with_network(&mut tables, 1, &["a", "attachable", "ipv6"]);
    tables.apply(4, &create).unwrap();
    let request = WriteRequest::CreateService(Box::new(spec::service(None, &["db", "x3", "net=a"])));
    let (service, _) = admission::admit(&tables, &request, NOW, &mut || 8).unwrap();
    tables.apply(5, &service).unwrap();
    let mut next = 100;
    let planned = control::Planner::default().plan(&tables, &control::Observed::new(node, NOW), NOW, &mut || {
        next += 1;
        next
    });
    tables.apply(6, &planned.proposal(NOW)).unwrap();
    let bytes = rmp_serde::to_vec_named(&tables).unwrap();
    let read: Tables = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(rmp_serde::to_vec_named(&read).unwrap(), bytes);
    control::invariants::check(&read).unwrap();
    let of_node = control::assignments::of_node(&read, node);
    assert_eq!(of_node, control::assignments::of_node(&tables, node));
    let overlay = &of_node.overlays[&NetworkId::from_random(1)];
    assert_eq!((overlay.endpoints.len(), overlay.services.len()), (3, 1));
    assert!(overlay.services.values().all(|service| service.addresses.len() == 2), "one of each family");

    #[derive(serde::Serialize)]
    struct Old {
        index: u64,
        cluster: Option<Cluster>,
        nodes: Vec<Node>,
        services: Vec<Service>,
        specs: Vec<TaskSpec>,
        tasks: Vec<u8>,
    }
    let nodes = tables.nodes().map(|node| (**node).clone()).collect();
    let cluster = tables.cluster().map(|cluster| (**cluster).clone());
    let old = Old { index: 9, cluster, nodes, services: Vec::new(), specs: Vec::new(), tasks: Vec::new() };
    let old: Tables = rmp_serde::from_slice(&rmp_serde::to_vec_named(&old).unwrap()).unwrap();
    assert_eq!(old.networks().count(), 0);
}

#[test]
fn networks_are_found_and_filtered() {
    let (mut tables, ..) = small();
    let create = with_network(&mut tables, 1, &["front-web", "attachable"]);
    tables.apply(4, &create).unwrap();
    let list = |key: &str, value: &str| {
        let filters = Filters::from([(key.to_owned(), vec![value.to_owned()])]);
        match control::view::read(&tables, &ReadRequest::Networks(filters)) {
            Ok(ReadReply::Networks(all)) => all.iter().filter(|view| !view.network.spec.ingress).count(),
            other => panic!("{other:?}"),
        }
    };
    let shown = [("name", "web"), ("driver", "overlay"), ("scope", "swarm"), ("type", "custom"), ("dangling", "true")];
    assert!(shown.iter().all(|(key, value)| list(key, value) == 1));
    let hidden = [("name", "db"), ("driver", "bridge"), ("scope", "local"), ("dangling", "false"), ("label", "x")];
    assert!(hidden.iter().all(|(key, value)| list(key, value) == 0));
    let by_name = control::view::read(&tables, &ReadRequest::Network("front-web".to_owned())).unwrap();
    assert!(matches!(by_name, ReadReply::Network(view) if view.usage == [SubnetUsage { used: 1, total: 254 }]));
}

fn create(tables: &Tables, id: u128, words: &[&str]) -> Proposal {
    let request = WriteRequest::CreateService(Box::new(spec::service(None, words)));
    admission::admit(tables, &request, NOW, &mut || id).unwrap().0
}

/// S-72: what was admitted on one value may not fit the next one; whoever comes second is to ask again.
#[test]
fn s_72_of_two_that_take_a_port_at_once_the_second_chooses_again() {
    let (mut tables, ..) = small();
    let (one, two) = (create(&tables, 8, &["one", "publish=80:80"]), create(&tables, 9, &["two", "publish=80:80"]));
    tables.apply(4, &one).unwrap();
    assert!(matches!(tables.apply(5, &two), Err(Rejection::OutOfSequence { .. })));
    // 8 and 2776 begin to look at the same number
    let (one, two) = (create(&tables, 2776, &["a", "publish=80"]), create(&tables, 5544, &["b", "publish=80"]));
    tables.apply(6, &one).unwrap();
    assert!(matches!(tables.apply(7, &two), Err(Rejection::OutOfSequence { .. })));
    tables.apply(8, &create(&tables, 5544, &["b", "publish=80"])).unwrap();
    let number = |name: &str| {
        let name = name.parse().unwrap();
        tables.service_by_name(&name).unwrap().published[0].published.unwrap()
    };
    assert_eq!(number("a") + 1, number("b"));
    control::invariants::check(&tables).unwrap();
}

#[test]
fn n_07_the_ingress_network_that_goes_while_a_service_publishes_is_refused_to_the_later() {
    let (mut tables, ..) = small();
    let ingress = tables.ingress().unwrap().id;
    let (publish, remove) =
        (create(&tables, 8, &["one", "publish=80:80"]), proposal(vec![Change::RemoveNetwork(ingress)]));
    let mut removed_first = tables.clone();
    removed_first.apply(4, &remove).unwrap();
    assert!(matches!(removed_first.apply(5, &publish), Err(Rejection::OutOfSequence { .. })));
    tables.apply(4, &publish).unwrap();
    assert!(matches!(tables.apply(5, &remove), Err(Rejection::OutOfSequence { .. })));
    control::invariants::check(&tables).unwrap();
}

#[test]
fn s_72_a_snapshot_keeps_published_ports() {
    let (mut tables, node, _) = small();
    tables.apply(4, &create(&tables, 8, &["one", "x2", "publish=80", "publish=host@7000:70"])).unwrap();
    let mut next = 100;
    let planned = control::Planner::default().plan(&tables, &control::Observed::new(node, NOW), NOW, &mut || {
        next += 1;
        next
    });
    tables.apply(5, &planned.proposal(NOW)).unwrap();
    let bytes = rmp_serde::to_vec_named(&tables).unwrap();
    let read: Tables = rmp_serde::from_slice(&bytes).unwrap();
    control::invariants::check(&read).unwrap();
    assert_eq!(rmp_serde::to_vec_named(&read).unwrap(), bytes);
    let of_node = control::assignments::of_node(&read, node);
    assert_eq!(of_node, control::assignments::of_node(&tables, node));
    assert!(of_node.overlays[&read.ingress().unwrap().id].endpoints.len() == 1, "the second waits for the host port");
    assert!(read.tasks().filter(|task| task.publishes).count() == 2);
}

#[test]
fn ports_and_pools_of_a_cluster_are_checked_c_05_c_06() {
    let say = |change: &dyn Fn(&mut Cluster)| {
        let mut cluster = spec::cluster();
        change(&mut cluster);
        admission::check_new_cluster(&cluster).map_or_else(|refused| refused.to_string(), |()| "fine".to_owned())
    };
    let pools = |texts: &[&str], mask_length| {
        let pools = texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Cidr>>();
        say(&|cluster| cluster.spec.address_pools = AddressPools { pools: pools.clone(), mask_length })
    };
    let all = [
        say(&|cluster| cluster.data_path_port = 1023),
        say(&|cluster| cluster.data_path_port = 49_151),
        pools(&["10.20.0.0/16", "10.30.0.0/16", "fd00::/48"], 26),
        pools(&["10.20.0.0/16"], 8),
        pools(&["10.20.0.0/16"], 30),
        pools(&["10.20.0.0/16", "10.20.128.0/17"], 24),
        pools(&["10.20.3.0/16"], 24),
        pools(&["fd00::/65"], 24),
        pools(&[], 24),
    ];
    expect_test::expect![[r#"
        data path port 1023 is out of range: give 1024 to 49151, or none for 4789
        fine
        fine
        address pool 10.20.0.0/16 cannot be cut into subnets of length 8: it is smaller
        address pool mask length 30 is out of range: give 1 to 29
        address pools 10.20.0.0/16 and 10.20.128.0/17 overlap
        address pool 10.20.3.0/16 has bits beyond its prefix: write 10.20.0.0/16
        address pool fd00::/65 cannot be cut into subnets of length 64: it is smaller
        the cluster needs an address pool: networks without a subnet get theirs from it"#]]
    .assert_eq(&all.join("\n"));
}
