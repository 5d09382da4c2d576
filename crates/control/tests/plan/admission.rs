//! What is refused at the door, and how it is said.

use control::{Change, Proposal};
use expect_test::expect;
use types::*;

use crate::{check, script::World};

#[test]
fn services_are_refused_with_the_reason() {
    check(
        "service web
         service web
         service a cpu=0.0001
         service b mem=1m
         service c x9999999
         service d port=80 port=80
         service e global port=80 order=start-first
         rollback web",
        expect![[r#"
            refused: name conflicts with an existing object: service web already exists
            refused: invalid cpu value 0.0001 in reservation: must be at least 0.001
            refused: invalid memory value 1048576 in reservation: must be at least 4MiB
            refused: service c asks for 9999999 replicas, at most 1000000 are possible
            refused: service d publishes port 80/tcp twice: give one of the two another number or address
            refused: a global service with host port 80 cannot be updated start-first: old and new task would need the port of one node at once; use stop-first
            refused: service web does not have a previous spec
        "#]],
    );
}

/// S-01, N-02, X-01: names of a kind that differ in case alone are one, as people read them and DNS does.
#[test]
fn s_01_names_that_differ_in_case_alone_are_refused() {
    check(
        "service web
         service WEB
         network n
         network N
         secret s x
         secret S x
         config S x
         config s x
         remove web
         service Web",
        expect![[r#"
            refused: name conflicts with an existing object: service web already exists
            refused: name conflicts with an existing object: network n already exists
            refused: name conflicts with an existing object: secret s already exists
            refused: name conflicts with an existing object: config S already exists
        "#]],
    );
}

fn refused(change: impl FnOnce(&mut ServiceSpec)) -> String {
    let world = World::new();
    let mut spec = crate::spec::service(None, &["web"]);
    change(&mut spec);
    let request = WriteRequest::CreateService(Box::new(spec));
    control::admission::admit(&world.tables, &request, world.now, &mut || 1).expect_err("must be refused").to_string()
}

#[test]
fn contradictions_in_a_container_are_refused() {
    let mount = |target: &str| Mount {
        target: target.into(),
        read_only: false,
        kind: MountKind::Tmpfs { size: Bytes(0), mode: 0, options: Vec::new() },
    };
    let all = [
        refused(|s| s.task.container.mounts = vec![mount("data")]),
        refused(|s| s.task.container.mounts = vec![mount("/data"), mount("/data/")]),
        refused(|s| s.task.container.env = vec!["=x".into()]),
        refused(|s| s.task.container.oom_score_adj = 2000),
        refused(|s| s.task.container.dir = "srv".into()),
        refused(|s| {
            s.task.resources.limits.memory = Bytes(8 << 20);
            s.task.resources.reservations.memory = Bytes(16 << 20);
        }),
        refused(|s| s.update.max_failure_permille = 1001),
    ];
    expect![[r#"
        invalid mount target, must be an absolute path: "data"
        duplicate mount point: /data/
        invalid environment variable "=x": write NAME=value
        oom score adjustment 2000 is out of range: give -1000 to 1000
        the working directory "srv" needs to be an absolute path
        reservation of 16777216 bytes of memory is above the limit of 8388608
        update: max failure ratio 1.001 is out of range: give 0 to 1"#]]
    .assert_eq(&all.join("\n"));
}

/// S-42
#[test]
fn s_42_swap_is_bounded_beside_memory_alone() {
    let with = |memory: u64, swap_bytes: Option<i64>, swappiness: Option<i64>| {
        refused(|s| {
            s.task.resources.limits.memory = Bytes(memory);
            (s.task.resources.swap_bytes, s.task.resources.swappiness) = (swap_bytes, swappiness);
        })
    };
    let all = [with(0, Some(0), None), with(8 << 20, Some(-2), None), with(0, None, Some(101))];
    expect![[r#"
        swap can only be bounded beside memory: set a memory limit too (--limit-memory)
        invalid swap value -2: give a number of bytes, or -1 for no bound
        invalid memory swappiness 101: give 0 to 100, or -1 for the host's own"#]]
    .assert_eq(&all.join("\n"));
}

/// What the cluster notes of an object is no reason to refuse who read it before: only another spec is (C-26, S-01).
#[test]
fn updates_are_refused_only_when_the_spec_has_changed_since() {
    let change = |world: &mut World, changes| world.apply(&Proposal { at: world.now, expects: Vec::new(), changes });
    let mut world = World::new();
    world.line("node a");
    world.line("service web x2");
    let (node, service) = (world.tables.nodes().next().unwrap().id, world.tables.services().next().unwrap().id);
    let read = world.tables.node(node).unwrap().meta.version;
    let described = Change::NodeDescribed { node, description: Box::default(), address: None };
    change(&mut world, vec![described]);
    assert!(world.tables.node(node).unwrap().meta.version > read);
    let labelled = |label: &str, version| {
        let mut spec = world.tables.node(node).unwrap().spec.clone();
        spec.labels.insert("rack".into(), label.into());
        WriteRequest::UpdateNode { id: node, version, spec }
    };
    let (first, second) = (labelled("1", read), labelled("2", read));
    let ahead = labelled("3", Version(world.tables.index() + 1));
    let ask = |world: &World, request: &WriteRequest| {
        control::admission::admit(&world.tables, request, world.now, &mut || 1).map_err(|refused| refused.to_string())
    };
    assert!(ask(&world, &ahead).unwrap_err().starts_with("update out of sequence: node"));
    let admitted = ask(&world, &first).expect("the spec is as it was read");
    change(&mut world, admitted.0.changes);
    assert!(ask(&world, &second).unwrap_err().starts_with("update out of sequence: node"));

    let read = world.tables.service(service).unwrap().meta.version;
    let scaled = |replicas| {
        let mode = ServiceMode::Replicated { replicas };
        let spec = ServiceSpec { mode, ..(*world.tables.service(service).unwrap().spec).clone() };
        WriteRequest::UpdateService { id: service, version: read, change: ServiceChange::Spec(Box::new(spec)) }
    };
    let (first, second) = (scaled(3), scaled(4));
    let same = Box::new((**world.tables.service(service).unwrap()).clone());
    change(&mut world, vec![Change::PutService { service: same, new_spec: false }]);
    assert!(world.tables.service(service).unwrap().meta.version > read);
    let admitted = ask(&world, &first).expect("the spec is as it was read");
    change(&mut world, admitted.0.changes);
    assert!(ask(&world, &second).unwrap_err().starts_with("update out of sequence: service"));
}

#[test]
fn nodes_are_refused_with_the_reason() {
    let mut world = World::new();
    world.line("node a role=manager");
    let id = NodeId::from_random(u128::from(b'a') << 64 | 1);
    let version = world.tables.node(id).unwrap().meta.version;
    let ask = |request| {
        let result = control::admission::admit(&world.tables, &request, world.now, &mut || 1);
        result.expect_err("must be refused").to_string()
    };
    let all = [
        ask(WriteRequest::UpdateNode { id, version, spec: NodeSpec::default() }),
        ask(WriteRequest::UpdateNode { id, version: Version(99), spec: NodeSpec::default() }),
        ask(WriteRequest::RemoveNode { id, force: false }),
        ask(WriteRequest::Leave { id, force: false }),
        ask(WriteRequest::RemoveService(ServiceId::from_random(5))),
    ];
    expect![[r#"
        attempting to demote the last manager of the swarm: promote another node before demoting 00000000000ahmisruuiwp8n5
        update out of sequence: node 00000000000ahmisruuiwp8n5 has changed since it was read; read it again and repeat
        node 00000000000ahmisruuiwp8n5 is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal
        node 00000000000ahmisruuiwp8n5 is the last manager: if it leaves, all state of the cluster is lost; use force if that is meant
        service 0000000000000000000000005 not found"#]].assert_eq(&all.join("\n"));
}

#[test]
fn token_rotation_takes_fresh_secrets() {
    let world = World::new();
    let version = world.tables.cluster().unwrap().meta.version;
    let request = WriteRequest::UpdateCluster {
        version,
        spec: Box::default(),
        rotate_worker_token: true,
        rotate_manager_token: false,
        rotate_unlock_key: false,
        root: None,
    };
    let (proposal, _) = control::admission::admit(&world.tables, &request, world.now, &mut || 7).unwrap();
    let mut tables = world.tables.clone();
    tables.apply(99, &proposal).unwrap();
    let join = tables.cluster().unwrap().join;
    assert_eq!(join.worker, 7u128.to_be_bytes());
    assert_eq!(join.manager, [2; 16]);
}

#[test]
fn c_14_locking_makes_a_key_that_stays_until_it_is_rotated() {
    let mut world = World::new();
    let mut update = |auto_lock_managers: bool, rotate_unlock_key: bool, fresh: u128| {
        let cluster = world.tables.cluster().unwrap().clone();
        let request = WriteRequest::UpdateCluster {
            version: cluster.meta.version,
            spec: Box::new(ClusterSpec { encryption: EncryptionConfig { auto_lock_managers }, ..cluster.spec.clone() }),
            rotate_worker_token: false,
            rotate_manager_token: false,
            rotate_unlock_key,
            root: None,
        };
        let mut next = fresh;
        let mut ids = || {
            next += 1;
            next
        };
        let (proposal, _) = control::admission::admit(&world.tables, &request, world.now, &mut ids).unwrap();
        world.tables.apply(world.tables.index() + 1, &proposal).unwrap();
        world.tables.cluster().unwrap().unlock_key.map(|key| (key.0[15], key.0[31]))
    };
    assert_eq!(update(false, true, 10), None, "what does not exist is not rotated");
    assert_eq!(update(true, false, 20), Some((21, 22)));
    assert_eq!(update(true, false, 30), Some((21, 22)), "other changes leave it");
    assert_eq!(update(true, true, 40), Some((41, 42)));
    assert_eq!(update(false, false, 50), None);
    assert_eq!(update(true, false, 60), Some((61, 62)), "a new one each time");
}
