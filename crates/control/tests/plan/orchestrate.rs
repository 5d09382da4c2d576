//! How many tasks there are, and when they go.

use expect_test::expect;

use crate::check;

#[test]
fn scaling_down_takes_what_does_not_run_and_then_from_the_fullest_node() {
    check(
        "node a\nservice web x3\nsettle\nnode b\nupdate web x4\nplan\nupdate web x3\nplan
         update web x2\nplan\nupdate web x3\nplan\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create web.3/1 on a
            0s create web.4/1 on b
            0s want web.4/1 remove
            0s want web.3/1 remove
            0s create web.5/1 on b
            0s forget web.3/1
            0s forget web.4/1
              web.1/1 on a running (wants running)
              web.2/1 on a running (wants running)
              web.5/1 on b running (wants running)
        "#]],
    );
}

#[test]
fn a_global_service_follows_the_nodes() {
    check(
        "node a zone=1\nnode b zone=1\nnode c avail=pause zone=1\nservice agent global constraint=node.labels.zone==1
         settle
         activate c\nnode d zone=1\nplan
         settle
         drain a\nsettle
         activate a\nsettle
         label b zone=2\nwait 3s\nsettle
         remove-node d\nsettle
         show",
        expect![[r#"
            0s create agent.a/1 on a
            0s create agent.b/1 on b
            0s create agent.c/1 on c
            0s create agent.d/1 on d
            0s want agent.a/1 shutdown
            0s create agent.a/2 on a
            3s want agent.b/1 shutdown
            3s status agent.d/1 orphaned: its node is gone
            3s want agent.d/1 shutdown
            3s want agent.d/1 remove
            3s forget agent.d/1
              agent.a/1 on a shutdown (wants shutdown)
              agent.a/2 on a running (wants running)
              agent.b/1 on b shutdown (wants shutdown)
              agent.c/1 on c running (wants running)
        "#]],
    );
}

#[test]
fn removal_frees_the_name_and_mixes_nothing() {
    check(
        "node a\nservice web x2\nsettle\nremove web\nplan\nservice web x1 image=b\nplan\nreport web.1/1 running\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s want web.1/1 remove
            0s want web.2/1 remove
            0s create web.1/2 on a
            0s forget web.1/1
            0s forget web.2/1
            0s service web gone
              web.1/2 on a running (wants running)
        "#]],
    );
}

#[test]
fn history_is_kept_up_to_the_limit() {
    check(
        "node a\nservice web\nsettle\nupdate web force\nsettle\nupdate web force\nsettle\nupdate web force\nsettle
         update web force\nsettle\nupdate web force\nsettle\nupdate web force\nsettle\nshow",
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
            10s web Updating: update in progress
            10s want web.1/3 shutdown
            10s create web.1/4 on a
            15s web Completed: update completed
            15s web Updating: update in progress
            15s want web.1/4 shutdown
            15s create web.1/5 on a
            20s web Completed: update completed
            20s web Updating: update in progress
            20s want web.1/5 shutdown
            20s create web.1/6 on a
            25s web Completed: update completed
            25s web Updating: update in progress
            25s want web.1/6 shutdown
            25s create web.1/7 on a
            25s forget web.1/1
            30s web Completed: update completed
              web.1/2 on a shutdown (wants shutdown)
              web.1/3 on a shutdown (wants shutdown)
              web.1/4 on a shutdown (wants shutdown)
              web.1/5 on a shutdown (wants shutdown)
              web.1/6 on a shutdown (wants shutdown)
              web.1/7 on a running (wants running)
        "#]],
    );
}

#[test]
fn tasks_of_a_removed_node_are_given_up_and_replaced() {
    check(
        "node a\nnode b\nservice web x2\nsettle\nremove-node b\nplan\nshow",
        expect![[r#"
        0s create web.1/1 on b
        0s create web.2/1 on a
        0s status web.1/1 orphaned: its node is gone
        0s want web.1/1 shutdown
        0s create web.1/2 on a
          web.1/1 on b orphaned (wants shutdown)
          web.1/2 on a assigned (wants running)
          web.2/1 on a running (wants running)
    "#]],
    );
}

#[test]
fn a_plan_that_came_too_late_is_made_again() {
    check(
        "node a\nservice one\nservice two\nsettle\nnode b\ndrain a
         decide\nupdate two x2\npropose\nshow
         plan",
        expect![[r#"
            0s create one.1/1 on a
            0s create two.1/1 on a
              one.1/1 on a running (wants running)
              two.1/1 on a running (wants running)
            0s want one.1/1 shutdown
            0s want two.1/1 shutdown
            0s create two.2/1 on b
        "#]],
    );
}
