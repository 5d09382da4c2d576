//! How a changed spec reaches the tasks.

use std::sync::Arc;

use control::{Change, Proposal};
use expect_test::expect;
use types::{Service, ServiceSpec, UpdateState};

use crate::{check, script::World};

#[test]
fn slots_follow_one_after_the_other() {
    check(
        "node a\nnode b\nservice web x3\nsettle\nupdate web image=b\nsettle",
        expect![[r#"
        0s create web.1/1 on b
        0s create web.2/1 on a
        0s create web.3/1 on b
        0s web Updating: update in progress
        0s want web.1/1 shutdown
        0s create web.1/2 on b
        0s want web.2/1 shutdown
        0s create web.2/2 on a
        0s want web.3/1 shutdown
        0s create web.3/2 on b
        5s web Completed: update completed
    "#]],
    );
}

#[test]
fn start_first_overlaps() {
    check(
        "node a\nnode b\nservice web x2 order=start-first\nsettle\nupdate web image=b parallelism=2\nsettle",
        expect![[r#"
        0s create web.1/1 on b
        0s create web.2/1 on a
        0s web Updating: update in progress
        0s create web.1/2 on b
        0s create web.2/2 on a
        0s want web.1/1 shutdown
        0s want web.2/1 shutdown
        5s web Completed: update completed
    "#]],
    );
}

#[test]
fn a_host_port_service_stops_first_whatever_it_says() {
    check(
        "node a\nservice web port=80 order=start-first\nsettle\nupdate web image=b\nsettle",
        expect![[r#"
        0s create web.1/1 on a
        0s web Updating: update in progress
        0s want web.1/1 shutdown
        0s create web.1/2 on a
        5s web Completed: update completed
    "#]],
    );
}

#[test]
fn a_failing_update_pauses() {
    check(
        "node a\nservice web x3\nsettle\nupdate web image=bad\nplan\nreport web.1 shutdown\nplan\nreport web.1 failed exit 1\nplan\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create web.3/1 on a
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            0s want web.1/2 shutdown
            0s create web.1/3 on a
            0s web Paused: update paused due to failure or early termination of task web.1/2: exit 1
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on a failed (wants shutdown): exit 1
              web.1/3 on a assigned (wants running)
              web.2/1 on a running (wants running)
              web.3/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn a_failing_update_rolls_back() {
    check(
        "node a\nservice web x2 action=rollback\nsettle\nupdate web image=bad\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            0s want web.1/2 shutdown
            0s create web.1/3 on a
            0s web back to image app
            0s want web.1/3 shutdown
            0s create web.1/4 on a
            5s web RollbackCompleted: rollback completed: the update was undone due to failure or early termination of task web.1/2
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on a failed (wants shutdown)
              web.1/3 on a shutdown (wants shutdown)
              web.1/4 on a running (wants running)
              web.2/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn scaling_and_settings_touch_no_task() {
    check(
        "node a\nservice web x2\nsettle\nupdate web x3 delay=3s pause=1s\nsettle",
        expect![[r#"
        0s create web.1/1 on a
        0s create web.2/1 on a
        0s create web.3/1 on a
    "#]],
    );
}

#[test]
fn p_46_a_constraint_that_all_nodes_satisfy_restarts_nothing_and_one_that_does_not_moves() {
    check(
        "node a zone=1\nnode b zone=2\nservice web x2\nsettle
         update web constraint=node.platform.os==linux\nsettle
         update web constraint=node.labels.zone==2\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on a
            0s web Updating: update in progress
            0s want web.2/1 shutdown
            0s create web.2/2 on b
            5s web Completed: update completed
              web.1/1 on b running (wants running)
              web.2/1 on a shutdown (wants shutdown)
              web.2/2 on b running (wants running)
        "#]],
    );
}

/// S-13: a rollback by hand is taken back by another.
#[test]
fn s_13_force_and_rollback_by_hand_to_and_fro() {
    check(
        "node a\nservice web x1\nsettle\nupdate web force\nsettle\nupdate web image=b\nsettle\nrollback web\nsettle
         rollback web\nsettle\nrevisions web",
        expect![[r#"
            0s create web.1/1 on a
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            5s web Completed: update completed
            5s web Updating: update in progress
            5s want web.1/2 shutdown
            5s create web.1/3 on a
            10s web Completed: update completed
            10s want web.1/3 shutdown
            10s create web.1/4 on a
            15s web RollbackCompleted: rollback completed
            15s want web.1/4 shutdown
            15s create web.1/5 on a
            20s web RollbackCompleted: rollback completed
              1=app 2=app 3=b 4=app 5=b
        "#]],
    );
}

fn only_service(world: &World) -> Service {
    let mut all = world.tables.services();
    let only = all.next().expect("a service of the script");
    assert!(all.next().is_none(), "a second service");
    (**only).clone()
}

fn image(spec: &ServiceSpec) -> String {
    spec.task.container.image.familiar()
}

/// S-13: an update that changes nothing shows the spec as its own previous one, by which Shepherd sees that nothing
/// changed. It makes no revision, and a rollback goes back to what was another.
#[test]
fn s_13_an_update_that_changes_nothing_is_none_to_go_back_from() {
    let mut world = World::new();
    for line in ["node a", "service web", "settle", "update web image=b", "settle"] {
        world.line(line);
    }
    let web = only_service(&world);
    assert_eq!(image(web.shown_previous().expect("it was updated")), "app");
    world.line("update web image=b");
    let web = only_service(&world);
    assert_eq!((web.shown_previous(), web.revision), (Some(&web.spec), 2));
    world.line("rollback web");
    let web = only_service(&world);
    assert_eq!(image(&web.spec), "app");
    assert_eq!(image(web.shown_previous().expect("it was rolled back")), "b");
    // what has never been another goes back to itself
    let mut world = World::new();
    for line in ["node a", "service web", "update web x1", "rollback web", "settle"] {
        world.line(line);
    }
    let web = only_service(&world);
    assert_eq!((image(&web.spec).as_str(), web.revision), ("app", 1));
    assert_eq!(web.update.map(|update| update.state), Some(UpdateState::RollbackCompleted), "{}", world.out);
}

/// S-09, S-13: the previous spec of what was rolled back by hand is the newer one, and only somebody who asks leads to it.
#[test]
fn s_13_what_was_rolled_back_by_hand_never_goes_forward_by_itself() {
    let mut world = World::new();
    for line in ["node a", "service web action=rollback", "settle", "update web image=b", "settle"] {
        world.line(line);
    }
    for line in ["rollback web", "settle"] {
        world.line(line);
    }
    let web = only_service(&world);
    assert_eq!(web.update.as_ref().map(|update| update.state), Some(UpdateState::RollbackCompleted));
    // its tasks are old again without an update, and the new ones fail
    let mut spec = (*web.spec).clone();
    spec.task.container.image = "bad".parse().unwrap();
    let next = Service { update: web.update.clone(), ..web.revised(Arc::new(spec), world.now) };
    let changes = vec![Change::PutService { service: Box::new(next), new_spec: true }];
    world.apply(&Proposal { at: world.now, expects: Vec::new(), changes });
    world.line("settle 1s");
    let web = only_service(&world);
    assert_eq!(web.update.map(|update| update.state), Some(UpdateState::RollbackPaused), "{}", world.out);
    assert_eq!(image(&web.spec), "bad");
}

#[test]
fn the_delay_is_kept_between_batches() {
    check(
        "node a\nservice web x3 delay=10s monitor=1s parallelism=2\nsettle\nupdate web image=b\nsettle",
        expect![[r#"
        0s create web.1/1 on a
        0s create web.2/1 on a
        0s create web.3/1 on a
        0s web Updating: update in progress
        0s want web.1/1 shutdown
        0s want web.2/1 shutdown
        0s create web.1/2 on a
        0s create web.2/2 on a
        10s want web.3/1 shutdown
        10s create web.3/2 on a
        11s web Completed: update completed
    "#]],
    );
}

#[test]
fn a_successor_that_keeps_failing_backs_off_beside_the_old_task() {
    check(
        "node a\nservice web order=start-first action=continue\nplan\nreport web.1 running
         update web image=bad\nplan
         report web.1 failed\nplan\nreport web.1 failed\nplan\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s web Updating: update in progress
            0s create web.1/2 on a
            0s want web.1/2 shutdown
            0s create web.1/3 on a
            0s want web.1/3 shutdown
            0s create web.1/4 on a in 1s (crash loop: 2 failures in a row, next start in 1s)
              web.1/1 on a running (wants running)
              web.1/2 on a failed (wants shutdown)
              web.1/3 on a failed (wants shutdown)
              web.1/4 on a assigned (wants running)
        "#]],
    );
}

#[test]
fn a_successor_that_does_its_work_and_ends_is_enough() {
    check(
        "node a\nservice web order=start-first restart=none\nplan\nreport web.1 running
         update web image=b\nplan\nreport web.1 running\nreport web.1 complete\nplan\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s web Updating: update in progress
            0s create web.1/2 on a
            0s want web.1/1 shutdown
            0s web Completed: update completed
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on a complete (wants running)
        "#]],
    );
}

#[test]
fn one_that_failed_for_good_leaves_the_old_task_in_its_place() {
    check(
        "node a\nservice web order=start-first action=continue restart=none\nplan\nreport web.1 running
         update web image=bad\nplan\nsettle\nshow
         update web image=b\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s web Updating: update in progress
            0s create web.1/2 on a
            5s web Completed: update completed
              web.1/1 on a running (wants running)
              web.1/2 on a failed (wants running)
            596.4s want web.1/2 shutdown
            596.4s web Updating: update in progress
            596.4s create web.1/3 on a
            596.4s want web.1/1 shutdown
            601.4s web Completed: update completed
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on a failed (wants shutdown)
              web.1/3 on a running (wants running)
        "#]],
    );
}

#[test]
fn a_changed_port_reaches_the_tasks_whatever_is_changed_after_it() {
    check(
        "node a\nservice web\nsettle
         update web port=80\nupdate web delay=1s\nsettle
         rollback web\nsettle
         update web port=none\nsettle\nrollback web\nsettle",
        expect![[r#"
            0s create web.1/1 on a
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            5s web Completed: update completed
            5s web RollbackCompleted: rollback completed
            5s web Updating: update in progress
            5s want web.1/2 shutdown
            5s create web.1/3 on a
            10s web Completed: update completed
            10s want web.1/3 shutdown
            10s create web.1/4 on a
            15s web RollbackCompleted: rollback completed
        "#]],
    );
}

#[test]
fn a_global_slot_on_a_node_that_takes_no_task_any_more_holds_nothing_up() {
    check(
        "node a zone=1\nnode b zone=1\nservice agent global constraint=node.labels.zone==1\nsettle
         label a zone=2\nwait 3s\nsettle
         update agent image=b\nsettle",
        expect![[r#"
            0s create agent.a/1 on a
            0s create agent.b/1 on b
            3s want agent.a/1 shutdown
            3s agent Updating: update in progress
            3s want agent.b/1 shutdown
            3s create agent.b/2 on b
            8s agent Completed: update completed
        "#]],
    );
}

/// S-21: whose image is there goes on with other credentials; who has none yet is made anew with them.
#[test]
fn s_21_credentials_alone_replace_no_container() {
    check(
        "node a\nservice web x2 auth=one\nplan\nreport web.1 running\nreport web.2 preparing\nupdate web auth=two\nplan\nsettle",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s web Updating: update in progress
            0s want web.2/1 shutdown
            0s create web.2/2 on a
            5s web Completed: update completed
        "#]],
    );
}

#[test]
fn s_13_ten_revisions_are_kept_and_any_can_be_gone_back_to() {
    let updates: String = (2..=12).map(|image| format!("update web image=v{image}\n")).collect();
    check(
        &format!(
            "node a\nservice web x1 image=v1\nsettle\nrollback web 1\n{updates}revisions web\nrollback web 1
             rollback web 3\nrevisions web\nsettle\nrollback web\nrevisions web
             update web force image=v3\nupdate web image=v3\nrevisions web"
        ),
        expect![[r#"
            0s create web.1/1 on a
            refused: service web has no earlier revision 1: present is 1, none before it is kept
              2=v2 3=v3 4=v4 5=v5 6=v6 7=v7 8=v8 9=v9 10=v10 11=v11 12=v12
            refused: service web has no earlier revision 1: present is 12, kept are 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
              4=v4 5=v5 6=v6 7=v7 8=v8 9=v9 10=v10 11=v11 12=v12 13=v3
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            5s web RollbackCompleted: rollback completed
              4=v4 5=v5 6=v6 7=v7 8=v8 9=v9 10=v10 11=v11 12=v12 13=v3 14=v12
              5=v5 6=v6 7=v7 8=v8 9=v9 10=v10 11=v11 12=v12 13=v3 14=v12 15=v3
        "#]],
    );
}

#[test]
fn p28_an_update_that_cannot_run_is_rolled_back_after_its_deadline() {
    check(
        "node a cpu=2
         service web x2 cpu=1 action=rollback deadline=2m
         settle
         update web cpu=3
         settle
         wait 2m
         settle",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 waiting: no suitable node: the only node lacks CPUs (want 3)
            120s web back to image app
            120s want web.1/2 shutdown
            120s status web.1/2 shutdown: no suitable node: the only node lacks CPUs (want 3)
            120s create web.1/3 on a
            125s web RollbackCompleted: rollback completed: the update was undone because task web.1/2 did not run within 120s: it is pending: no suitable node: the only node lacks CPUs (want 3)
        "#]],
    );
}

#[test]
fn p28_an_update_that_cannot_run_is_paused_or_goes_on_as_it_is_told() {
    check(
        "node a cpu=2 zone=1
         service web x2 cpu=1 deadline=30s
         service go x2 action=continue deadline=30s order=start-first
         service none x1 deadline=0s
         service vast x1 cpu=8
         settle
         update web constraint=node.labels.zone==2
         update go constraint=node.labels.zone==2 image=b
         update none constraint=node.labels.zone==2
         update vast cpu=9 deadline=1s
         plan
         agents
         plan
         wait 31s
         plan
         agents
         plan
         wait 31s
         plan
         show",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create go.1/1 on a
            0s create go.2/1 on a
            0s create none.1/1 on a
            0s create vast.1/1 waiting: no suitable node: the only node lacks CPUs (want 8)
            598.8s web Updating: update in progress
            598.8s want web.1/1 shutdown
            598.8s go Updating: update in progress
            598.8s create go.1/2 waiting: no suitable node: the only node does not satisfy node.labels.zone==2
            598.8s none Updating: update in progress
            598.8s want none.1/1 shutdown
            598.8s vast Updating: update in progress
            598.8s want vast.1/1 shutdown
            598.8s status vast.1/1 shutdown: no suitable node: the only node lacks CPUs (want 8)
            598.8s create vast.1/2 waiting: no suitable node: the only node lacks CPUs (want 9)
            598.8s create web.1/2 waiting: no suitable node: the only node does not satisfy node.labels.zone==2
            598.8s create none.1/2 waiting: no suitable node: the only node does not satisfy node.labels.zone==2
            629.8s web Paused: update paused because task web.1/2 did not run within 30s: it is pending: no suitable node: the only node does not satisfy node.labels.zone==2
            629.8s create go.2/2 waiting: no suitable node: the only node does not satisfy node.labels.zone==2
              go.1/1 on a running (wants running)
              go.1/2 on - pending (wants running): no suitable node: the only node does not satisfy node.labels.zone==2
              go.2/1 on a running (wants running)
              go.2/2 on - pending (wants running): no suitable node: the only node does not satisfy node.labels.zone==2
              none.1/1 on a shutdown (wants shutdown)
              none.1/2 on - pending (wants running): no suitable node: the only node does not satisfy node.labels.zone==2
              vast.1/1 on - shutdown (wants shutdown): no suitable node: the only node lacks CPUs (want 8)
              vast.1/2 on - pending (wants running): no suitable node: the only node lacks CPUs (want 9)
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on - pending (wants running): no suitable node: the only node does not satisfy node.labels.zone==2
              web.2/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn an_update_is_paused_and_resumed_on_request() {
    check(
        "node a\nservice web x3
         settle
         pause-update web
         resume-update web
         update web image=b
         plan
         pause-update web
         pause-update web
         agents
         plan
         agents
         wait 1m
         plan
         resume-update web
         settle
         show",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create web.3/1 on a
            refused: service web is not being updated: there is nothing to pause
            refused: service web has no paused update: there is nothing to resume
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            refused: service web is not being updated: there is nothing to pause
            0s create web.1/2 on a
            60s want web.2/1 shutdown
            60s create web.2/2 on a
            60s want web.3/1 shutdown
            60s create web.3/2 on a
            65s web Completed: update completed
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on a running (wants running)
              web.2/1 on a shutdown (wants shutdown)
              web.2/2 on a running (wants running)
              web.3/1 on a shutdown (wants shutdown)
              web.3/2 on a running (wants running)
        "#]],
    );
}

#[test]
fn the_time_to_run_begins_with_a_place_where_there_was_none() {
    check(
        "node a cpu=1
         service web x1 cpu=2 deadline=4s
         plan
         update web image=b
         plan
         wait 10s
         node b cpu=4
         wait 1s
         plan
         wait 3s
         plan
         wait 1s
         plan",
        expect![[r#"
            0s create web.1/1 waiting: no suitable node: the only node lacks CPUs (want 2)
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s status web.1/1 shutdown: no suitable node: the only node lacks CPUs (want 2)
            0s create web.1/2 waiting: no suitable node: the only node lacks CPUs (want 2)
            11s place web.1/2 on b
            15s web Paused: update paused because task web.1/2 did not run within 4s: it is assigned
        "#]],
    );
}
