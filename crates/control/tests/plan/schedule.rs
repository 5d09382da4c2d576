//! Which node a task gets, and what is said when it gets none.

use control::{Change, Proposal};
use expect_test::expect;
use types::{Labels, LogDriver};

use crate::{check, script::World};

#[test]
fn tasks_of_a_service_spread_over_nodes() {
    check(
        "node a\nnode b\nnode c\nservice web x4\nplan",
        expect![[r#"
        0s create web.1/1 on b
        0s create web.2/1 on c
        0s create web.3/1 on a
        0s create web.4/1 on b
    "#]],
    );
}

#[test]
fn reservations_are_counted_and_the_rest_waits_with_the_reason() {
    check(
        "node a cpu=4 mem=8g\nnode b cpu=2 mem=8g\nservice web x4 cpu=2\nplan",
        expect![[r#"
        0s create web.1/1 on b
        0s create web.2/1 on a
        0s create web.3/1 on a
        0s create web.4/1 waiting: no suitable node: 2 of 2 nodes lack CPUs (want 2)
    "#]],
    );
}

#[test]
fn each_filter_has_its_words() {
    check(
        "node a mem=256m
         node b avail=drain zone=a
         node c avail=pause zone=a
         node d zone=b
         node e zone=a arch=arm64
         node f state=down zone=a
         service web mem=512m arch=amd64 constraint=node.labels.zone==a
         plan",
        expect![[r#"
            0s create web.1/1 waiting: no suitable node: 1 of 6 nodes is down, 1 is paused, 1 is drained, 1 lacks memory (want 512 MiB), 1 does not satisfy node.labels.zone==a; image has linux/amd64; e is linux/arm64 (compatible: v8); where that is labelled wrong, --platform any runs it
        "#]],
    );
}

#[test]
fn generic_resources_max_replicas_and_host_ports() {
    check(
        "node a gpu=1\nnode b gpu=3
         service g x5 gpu=1
         plan
         service m x3 max=1
         plan
         service p x3 port=443
         plan
         service q x1 port=443 constraint=node.hostname==a
         plan",
        expect![[r#"
            0s create g.1/1 on b
            0s create g.2/1 on a
            0s create g.3/1 on b
            0s create g.4/1 on b
            0s create g.5/1 waiting: no suitable node: 2 of 2 nodes lack gpu (want 1)
            0s create m.1/1 on a
            0s create m.2/1 on b
            0s create m.3/1 waiting: no suitable node: 2 of 2 nodes have as many tasks as allowed (max replicas per node 1)
            0s create p.1/1 on a
            0s create p.2/1 on b
            0s create p.3/1 waiting: no suitable node: 2 of 2 nodes have host port 443/tcp in use
            0s create q.1/1 waiting: no suitable node: 1 of 2 nodes does not satisfy node.hostname==a, 1 has host port 443/tcp in use
        "#]],
    );
}

#[test]
fn s_41_named_resources_have_one_owner_and_come_back() {
    check(
        "node a gpu=u1+u2+u3
         service g x2 gpu=1
         service two x1 gpu=u3
         service other x1 gpu=u1 restart=none
         plan
         agents
         update g x1
         settle
         show",
        expect![[r#"
            0s create g.1/1 on a with u1
            0s create g.2/1 on a with u2
            0s create two.1/1 on a with u3
            0s create other.1/1 waiting: no suitable node: the only node lacks gpu (want u1)
            0s want g.2/1 remove
            0s forget g.2/1
              g.1/1 on a running (wants running)
              other.1/1 on - pending (wants running): no suitable node: the only node lacks gpu (want u1)
              two.1/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn s_41_a_name_and_more_of_its_kind_are_granted_together() {
    check(
        "node a gpu=u1+u2+u3\nnode b gpu=4
         service both x1 gpu=u2+1
         service most x1 gpu=u3+2
         plan
         agents
         show",
        expect![[r#"
            0s create both.1/1 on a with u2+u1
            0s create most.1/1 waiting: no suitable node: 2 of 2 nodes lack gpu (want u3 and 2 more)
              both.1/1 on a running (wants running)
              most.1/1 on - pending (wants running): no suitable node: 2 of 2 nodes lack gpu (want u3 and 2 more)
        "#]],
    );
}

#[test]
fn c_43_a_task_keeps_the_log_driver_that_the_cluster_had_when_it_was_made() {
    let mut world = World::new();
    let lines =
        ["node a", "service one x1", "plan", "service two x1", "snapshot", "plan", "service own x1 log=local", "plan"];
    for (number, line) in lines.into_iter().enumerate() {
        let mut cluster = (**world.tables.cluster().unwrap()).clone();
        let name = if number < 3 { "syslog" } else { "journald" };
        cluster.spec.log_driver = Some(LogDriver { name: name.to_owned(), options: Labels::new() });
        let changes = vec![Change::PutCluster(Box::new(cluster))];
        world.apply(&Proposal { at: world.now, expects: vec![], changes });
        world.line(line);
    }
    let told = &world.told[&world.nodes["a"]].1.tasks;
    let driver = |name: &str| {
        let task = told.values().find(|task| task.service_name.as_str() == name).unwrap();
        task.log_driver().unwrap().name.clone()
    };
    assert_eq!([driver("one"), driver("two"), driver("own")], ["syslog", "journald", "local"]);
}

#[test]
fn a_waiting_task_is_placed_when_what_it_lacked_is_there() {
    check(
        "node a cpu=1
         service one cpu=1
         service two cpu=1
         settle
         remove one
         settle
         label a zone=x
         service three constraint=node.labels.zone==y
         plan
         label a zone=y
         plan",
        expect![[r#"
            0s create one.1/1 on a
            0s create two.1/1 waiting: no suitable node: the only node lacks CPUs (want 1)
            598.8s want one.1/1 remove
            598.8s place two.1/1 on a
            598.8s forget one.1/1
            598.8s service one gone
            598.8s create three.1/1 waiting: no suitable node: the only node does not satisfy node.labels.zone==y
            598.8s place three.1/1 on a
        "#]],
    );
}

#[test]
fn preferences_spread_level_by_level() {
    check(
        "node a zone=1 rack=x\nnode b zone=1 rack=y\nnode c zone=1 rack=y\nnode d zone=2 rack=z
         service web x6 spread=zone spread=rack
         plan",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on d
            0s create web.3/1 on b
            0s create web.4/1 on d
            0s create web.5/1 on a
            0s create web.6/1 on d
        "#]],
    );
}

/// S-30: Docker's documentation writes the kernel's words for architectures, images and others Go's.
#[test]
fn s_30_architectures_have_two_names() {
    check(
        "node a arch=arm64\nnode c
         service one x1 constraint=node.platform.arch==x86-64
         service two x1 constraint=node.platform.arch==AMD64
         service three x1 constraint=node.platform.arch!=amd64
         service four x1 constraint=node.platform.arch==aarch64
         plan",
        expect![[r#"
            0s create one.1/1 on c
            0s create two.1/1 on c
            0s create three.1/1 on a
            0s create four.1/1 on a
        "#]],
    );
}

/// S-31: what constraints know of nodes, too; over what no node has there is nothing to spread.
#[test]
fn s_31_preferences_spread_over_any_quality() {
    check(
        "node a arch=arm64\nnode b arch=arm64\nnode c
         service web x4 spread=node.platform.arch
         service job x3 spread=com.example.nothing
         plan",
        expect![[r#"
            0s create web.1/1 on c
            0s create web.2/1 on b
            0s create web.3/1 on c
            0s create web.4/1 on a
            0s create job.1/1 on a
            0s create job.2/1 on b
            0s create job.3/1 on c
        "#]],
    );
}

#[test]
fn the_less_loaded_node_is_taken_first() {
    check(
        "node a cpu=16\nnode b cpu=16\nnode c cpu=16
         service big x1 cpu=8
         plan
         service s1
         service s2
         service s3
         service s4
         plan",
        expect![[r#"
            0s create big.1/1 on b
            0s create s1.1/1 on a
            0s create s2.1/1 on c
            0s create s3.1/1 on c
            0s create s4.1/1 on a
        "#]],
    );
}

#[test]
fn a_node_on_which_a_service_keeps_failing_is_taken_last() {
    check(
        "node a\nservice web
         plan\nreport web.1 failed boom\nplan\nreport web.1 failed\nplan\nreport web.1 failed\nplan
         report web.1 failed\nplan
         node b avail=drain
         plan
         activate b
         report web.1 failed\nplan",
        expect![[r#"
            0s create web.1/1 on a
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            0s want web.1/2 shutdown
            0s create web.1/3 on a in 1s (crash loop: 2 failures in a row, next start in 1s)
            0s want web.1/3 shutdown
            0s create web.1/4 on a in 2s (crash loop: 3 failures in a row, next start in 2s)
            0s want web.1/4 shutdown
            0s create web.1/5 on a in 4s (crash loop: 4 failures in a row, next start in 4s)
            0s want web.1/5 shutdown
            0s create web.1/6 on b in 8s (crash loop: 5 failures in a row, next start in 8s)
        "#]],
    );
}

#[test]
fn the_reason_follows_what_other_services_take() {
    check(
        "node a cpu=4 zone=1
         service one cpu=2 constraint=node.labels.zone==2
         plan
         service two cpu=3
         plan
         report two.1 running
         plan
         remove two
         plan
         report two.1 shutdown
         plan",
        expect![[r#"
            0s create one.1/1 waiting: no suitable node: the only node does not satisfy node.labels.zone==2
            0s create two.1/1 on a
            0s status one.1/1 pending: no suitable node: the only node lacks CPUs (want 2)
            0s want two.1/1 remove
            0s forget two.1/1
            0s service two gone
            0s status one.1/1 pending: no suitable node: the only node does not satisfy node.labels.zone==2
        "#]],
    );
}

#[test]
fn a_port_is_in_use_until_the_task_that_holds_it_has_ended() {
    check(
        "node a\nservice one port=80\nsettle
         update one port=none\nupdate one delay=1s\nservice two port=80\nplan
         report one.1/1 shutdown\nplan",
        expect![[r#"
            0s create one.1/1 on a
            0s create two.1/1 waiting: no suitable node: the only node has host port 80/tcp in use
            0s one Updating: update in progress
            0s want one.1/1 shutdown
            0s create one.1/2 on a
            0s place two.1/1 on a
        "#]],
    );
}

#[test]
fn p_13_devices_are_claimed_where_they_are() {
    check(
        "node a device=acme.com/gpu=0 device=acme.com/gpu=1\nnode b device=other.com/dev=x\nnode c
         service two x2 claim=2\nservice named claim=other.com/dev=x
         service three x1 claim=3\nservice none x1 claim=acme.com/gpu=9\nplan",
        expect![[r#"
            0s create two.1/1 on a
            0s create two.2/1 on a
            0s create named.1/1 on b
            0s create three.1/1 waiting: no suitable node: 3 of 3 nodes lack devices (want 3 GPUs)
            0s create none.1/1 waiting: no suitable node: 3 of 3 nodes lack devices (want acme.com/gpu=9)
        "#]],
    );
}

#[test]
fn s30_constraints_know_lists_existence_and_numbers() {
    check(
        "node a zone=1 disks=2\nnode b zone=2 disks=10\nnode c\nnode d zone=3 disks=many
         service in global constraint=node.labels.zone_in_(1,3)\nservice out global constraint=node.labels.zone_not_in_(1,3)
         service has global constraint=node.labels.disks_exists\nservice hasnot global constraint=node.labels.disks_not_exists
         service more global constraint=node.labels.disks>=9.5\nservice less global constraint=node.labels.disks<3
         service host x1 constraint=node.hostname_in_(c,x)\nservice none x1 constraint=node.labels.disks>10\nplan",
        expect![[r#"
            0s create in.a/1 on a
            0s create in.d/1 on d
            0s create out.b/1 on b
            0s create out.c/1 on c
            0s create has.a/1 on a
            0s create has.b/1 on b
            0s create has.d/1 on d
            0s create hasnot.c/1 on c
            0s create more.b/1 on b
            0s create less.a/1 on a
            0s create host.1/1 on c
            0s create none.1/1 waiting: no suitable node: 4 of 4 nodes do not satisfy node.labels.disks>10
        "#]],
    );
}

#[test]
fn p47_platforms_by_the_table_of_variants_and_offered_beside_needed() {
    check(
        "node a arch=arm64\nnode b arch=arm64 runs=arm/v7\nnode c arch=arm/v6\nnode d
         service old x4 arch=arm/v7
         plan
         service v6 x2 arch=arm/v6
         plan
         drain b
         service new x1 arch=arm/v7
         service wrong x1 arch=any
         service index x1 arch=unknown,s390x
         service attested x1 arch=unknown
         plan
         update index arch=any
         plan",
        expect![[r#"
            0s create old.1/1 on b
            0s create old.2/1 on b
            0s create old.3/1 on b
            0s create old.4/1 on b
            0s create v6.1/1 on c
            0s create v6.2/1 on b
            0s want old.1/1 shutdown
            0s want old.2/1 shutdown
            0s want old.3/1 shutdown
            0s want old.4/1 shutdown
            0s want v6.2/1 shutdown
            0s create new.1/1 waiting: no suitable node: 1 of 4 nodes is drained; image has linux/arm/v7; d is linux/amd64 (compatible: v1), c is linux/arm/v6 (compatible: v6), a is linux/arm64 (compatible: v8); where that is labelled wrong, --platform any runs it
            0s create wrong.1/1 on d
            0s create index.1/1 waiting: no suitable node: 1 of 4 nodes is drained; image has linux/s390x; d is linux/amd64 (compatible: v1), c is linux/arm/v6 (compatible: v6), a is linux/arm64 (compatible: v8); where that is labelled wrong, --platform any runs it
            0s create attested.1/1 on a
            0s index Updating: update in progress
            0s want index.1/1 shutdown
            0s status index.1/1 shutdown: no suitable node: 1 of 4 nodes is drained; image has linux/s390x; d is linux/amd64 (compatible: v1), c is linux/arm/v6 (compatible: v6), a is linux/arm64 (compatible: v8); where that is labelled wrong, --platform any runs it
            0s create index.1/2 on d
        "#]],
    );
}
