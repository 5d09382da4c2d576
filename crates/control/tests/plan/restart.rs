//! What follows the end of a task.

use expect_test::expect;

use crate::check;

#[test]
fn a_crash_loop_backs_off_and_says_so() {
    check(
        "node a\nservice web image=bad\nsettle",
        expect![[r#"
        0s create web.1/1 on a
        0s want web.1/1 shutdown
        0s create web.1/2 on a
        0s want web.1/2 shutdown
        0s create web.1/3 on a in 1s (crash loop: 2 failures in a row, next start in 1s)
        1s want web.1/3 shutdown
        1s create web.1/4 on a in 2s (crash loop: 3 failures in a row, next start in 2s)
        3s want web.1/4 shutdown
        3s create web.1/5 on a in 4s (crash loop: 4 failures in a row, next start in 4s)
        7s want web.1/5 shutdown
        7s create web.1/6 on a in 8s (crash loop: 5 failures in a row, next start in 8s)
        15s want web.1/6 shutdown
        15s create web.1/7 on a in 16s (crash loop: 6 failures in a row, next start in 16s)
        15s forget web.1/1
        31s want web.1/7 shutdown
        31s create web.1/8 on a in 32s (crash loop: 7 failures in a row, next start in 32s)
        31s forget web.1/2
        63s want web.1/8 shutdown
        63s create web.1/9 on a in 64s (crash loop: 8 failures in a row, next start in 64s)
        63s forget web.1/3
        127s want web.1/9 shutdown
        127s create web.1/10 on a in 128s (crash loop: 9 failures in a row, next start in 128s)
        127s forget web.1/4
        255s want web.1/10 shutdown
        255s create web.1/11 on a in 256s (crash loop: 10 failures in a row, next start in 256s)
        255s forget web.1/5
        511s want web.1/11 shutdown
        511s create web.1/12 on a in 300s (crash loop: 11 failures in a row, next start in 300s)
        511s forget web.1/6
    "#]],
    );
}

/// P50: who lacks the directory is asked last.
#[test]
fn p_50_a_node_that_rejects_a_task_is_taken_last() {
    check(
        "node a\nnode b\nservice web
         plan\nreport web.1 rejected /srv/x does not exist\nplan
         report web.1 rejected /srv/x does not exist\nplan",
        expect![[r#"
            0s create web.1/1 on b
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            0s want web.1/2 shutdown
            0s create web.1/3 on b in 1s (crash loop: 2 failures in a row, next start in 1s)
        "#]],
    );
}

#[test]
fn a_good_run_ends_the_series() {
    check(
        "node a\nservice web
         plan\nreport web.1 running\nreport web.1 failed\nplan\nreport web.1 failed\nplan
         report web.1 running
         wait 301s
         report web.1 failed exit 1
         plan",
        expect![[r#"
            0s create web.1/1 on a
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            0s want web.1/2 shutdown
            0s create web.1/3 on a in 1s (crash loop: 2 failures in a row, next start in 1s)
            301s want web.1/3 shutdown
            301s create web.1/4 on a
        "#]],
    );
}

#[test]
fn conditions_decide_whether_a_slot_is_finished() {
    check(
        "node a
         service never restart=none\nservice failure restart=on-failure
         plan
         report never.1 running\nreport never.1 failed\nreport failure.1 running\nreport failure.1 complete
         plan
         show
         update never image=b
         settle",
        expect![[r#"
            0s create never.1/1 on a
            0s create failure.1/1 on a
              failure.1/1 on a complete (wants running)
              never.1/1 on a failed (wants running)
            0s want never.1/1 shutdown
            0s create never.1/2 on a
        "#]],
    );
}

#[test]
fn attempts_stop_even_if_the_delay_is_as_long_as_the_window() {
    check(
        "node a\nservice web image=bad attempts=3 window=10s pause=10s\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s want web.1/1 shutdown
            0s create web.1/2 on a in 10s (next start in 10s)
            10s want web.1/2 shutdown
            10s create web.1/3 on a in 10s (crash loop: 2 failures in a row, next start in 10s)
            20s want web.1/3 shutdown
            20s create web.1/4 on a in 10s (crash loop: 3 failures in a row, next start in 10s)
              web.1/1 on a failed (wants shutdown)
              web.1/2 on a failed (wants shutdown)
              web.1/3 on a failed (wants shutdown)
              web.1/4 on a failed (wants running)
        "#]],
    );
}

#[test]
fn a_success_waits_for_the_delay_and_is_no_failure() {
    check(
        "node a\nservice web\nplan\nreport web.1 running\nreport web.1 complete\nplan",
        expect![[r#"
        0s create web.1/1 on a
        0s want web.1/1 shutdown
        0s create web.1/2 on a in 5s (next start in 5s)
    "#]],
    );
}

#[test]
fn p_24_a_drain_takes_no_more_from_a_service_than_an_update_does() {
    check(
        "node a\nservice web x4\nservice two x4 parallelism=2\nservice all x3 parallelism=0\nservice agent global\nsettle\nnode b
         drain a\nplan
         report web.1 shutdown\nplan
         report web.1/2 running\nplan
         report two.1 shutdown\nreport two.2 shutdown\nplan
         report two.1/2 failed\nplan
         settle\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create web.3/1 on a
            0s create web.4/1 on a
            0s create two.1/1 on a
            0s create two.2/1 on a
            0s create two.3/1 on a
            0s create two.4/1 on a
            0s create all.1/1 on a
            0s create all.2/1 on a
            0s create all.3/1 on a
            0s create agent.a/1 on a
            0s want web.1/1 shutdown
            0s want two.1/1 shutdown
            0s want two.2/1 shutdown
            0s want all.1/1 shutdown
            0s want all.2/1 shutdown
            0s want all.3/1 shutdown
            0s want agent.a/1 shutdown
            0s create agent.b/1 on b
            0s create web.1/2 on b
            0s want web.2/1 shutdown
            0s create two.1/2 on b
            0s create two.2/2 on b
            0s want two.1/2 shutdown
            0s create two.1/3 on b
            0s want two.3/1 shutdown
            0s want two.4/1 shutdown
            0s create web.2/2 on b
            0s create two.3/2 on b
            0s create all.1/2 on b
            0s create all.2/2 on b
            0s create all.3/2 on b
            0s want web.3/1 shutdown
            0s create two.4/2 on b
            0s create web.3/2 on b
            0s want web.4/1 shutdown
            0s create web.4/2 on b
              agent.a/1 on a shutdown (wants shutdown)
              agent.b/1 on b running (wants running)
              all.1/1 on a shutdown (wants shutdown)
              all.1/2 on b running (wants running)
              all.2/1 on a shutdown (wants shutdown)
              all.2/2 on b running (wants running)
              all.3/1 on a shutdown (wants shutdown)
              all.3/2 on b running (wants running)
              two.1/1 on a shutdown (wants shutdown)
              two.1/2 on b failed (wants shutdown)
              two.1/3 on b running (wants running)
              two.2/1 on a shutdown (wants shutdown)
              two.2/2 on b running (wants running)
              two.3/1 on a shutdown (wants shutdown)
              two.3/2 on b running (wants running)
              two.4/1 on a shutdown (wants shutdown)
              two.4/2 on b running (wants running)
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on b running (wants running)
              web.2/1 on a shutdown (wants shutdown)
              web.2/2 on b running (wants running)
              web.3/1 on a shutdown (wants shutdown)
              web.3/2 on b running (wants running)
              web.4/1 on a shutdown (wants shutdown)
              web.4/2 on b running (wants running)
        "#]],
    );
}

#[test]
fn p_24_a_drained_node_gets_empty_though_nothing_else_takes_its_tasks() {
    check(
        "node a\nservice web x3\nservice first order=start-first\nsettle\ndrain a\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create web.3/1 on a
            0s create first.1/1 on a
            0s want web.1/1 shutdown
            0s create first.1/2 waiting: no suitable node: the only node is drained
            0s create web.1/2 waiting: no suitable node: the only node is drained
            5s want web.2/1 shutdown
            5s create web.2/2 waiting: no suitable node: the only node is drained
            10s want web.3/1 shutdown
            10s create web.3/2 waiting: no suitable node: the only node is drained
              first.1/1 on a running (wants running)
              first.1/2 on - pending (wants running): no suitable node: the only node is drained
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on - pending (wants running): no suitable node: the only node is drained
              web.2/1 on a shutdown (wants shutdown)
              web.2/2 on - pending (wants running): no suitable node: the only node is drained
              web.3/1 on a shutdown (wants shutdown)
              web.3/2 on - pending (wants running): no suitable node: the only node is drained
        "#]],
    );
}

#[test]
fn a_drained_node_is_left_without_waiting() {
    check(
        "node a\nservice web x2\nservice first order=start-first\nsettle\nnode b\ndrain a\nplan
         report web.1 shutdown\nplan
         report first.1 running\nplan",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create first.1/1 on a
            0s want web.1/1 shutdown
            0s create first.1/2 on b
            0s create web.1/2 on b
            0s want first.1/1 shutdown
        "#]],
    );
}

#[test]
fn p_46_a_label_that_goes_moves_the_task_after_a_moment_and_flapping_moves_nothing() {
    check(
        "node a zone=1\nnode b zone=1
         service web constraint=node.labels.zone==1
         settle
         label a zone=2\nlabel b zone=2\nplan
         wait 1s\nlabel a zone=1\nlabel b zone=1\nplan
         wait 5s\nplan
         label a zone=2
         label b zone=2
         wait 1s\nplan
         wait 2s\nplan\nsettle
         label a zone=1\nplan",
        expect![[r#"
            0s create web.1/1 on b
            9s want web.1/1 shutdown
            9s create web.1/2 waiting: no suitable node: 2 of 2 nodes do not satisfy node.labels.zone==1
            606.6s place web.1/2 on a
        "#]],
    );
}

#[test]
fn the_successor_of_a_task_on_a_drained_node_backs_off_too() {
    check(
        "node a\nnode b\nservice web order=start-first\nplan\nreport web.1 running
         update web image=bad\nplan\nreport web.1 failed\nplan
         drain b\nplan
         report web.1 failed\nplan\nshow",
        expect![[r#"
            0s create web.1/1 on b
            0s web Updating: update in progress
            0s create web.1/2 on a
            0s want web.1/2 shutdown
            0s create web.1/3 on a
            0s web Paused: update paused due to failure or early termination of task web.1/2
            0s want web.1/3 shutdown
            0s create web.1/4 on a in 1s (crash loop: 2 failures in a row, next start in 1s)
              web.1/1 on b running (wants running)
              web.1/2 on a failed (wants shutdown)
              web.1/3 on a failed (wants shutdown)
              web.1/4 on a assigned (wants running)
        "#]],
    );
}
