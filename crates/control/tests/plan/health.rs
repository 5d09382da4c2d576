//! Which nodes are there, and what becomes of the tasks of those that are not.

use expect_test::expect;

use crate::check;

#[test]
fn silence_alone_makes_a_node_unreachable_and_moves_nothing_before_lost_after() {
    check(
        "node a\nnode b\nservice web x2\nsettle
         silent b\nwait 1500ms\nplan\nwait 600ms\nplan
         wait 50s\nplan
         heard b\nwait 1s\nplan",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on a
            2.1s node b unreachable control stream silent for 2.1s; 0 of 0 probing nodes still reach it: its tasks are left alone
            53.1s node b ready 
        "#]],
    );
}

#[test]
fn two_witnesses_make_a_node_lost_at_once() {
    check(
        "node a\nnode b\nnode c\nservice web x3\nsettle
         silent b\nwait 1s\nprobe a b no\nplan
         wait 200ms\nprobe c b yes\nplan
         probe c b no\nplan",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on c
            0s create web.3/1 on a
            1.2s node b cannot be reached by ["a"]
            1.2s node b down lost: silent for 1.2s and unanswered probes of all 2 nodes that watch it
            1.2s node b cannot be reached by []
            1.2s create web.1/2 on c
        "#]],
    );
}

#[test]
fn a_peer_that_still_reaches_it_saves_a_silent_node() {
    check(
        "node a\nnode b\nnode c\nservice web x3\nsettle
         silent b\nwait 3s\nprobe a b no\nprobe c b yes\nplan",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on c
            0s create web.3/1 on a
            3s node b unreachable control stream silent for 3.0s; 1 of 2 probing nodes still reach it: its tasks are left alone
        "#]],
    );
}

#[test]
fn the_original_is_kept_when_its_node_returns_and_reports_it() {
    check(
        "node a\nnode b\nservice web x2 lost-after=30s\nsettle
         silent b\nwait 2s\nplan
         wait 30s\nplan\nsettle
         heard b\nwait 1s\nplan
         report web.1/1 running\nreport web.2/1 running\nplan\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on a
            2s node b unreachable control stream silent for 2.0s; 0 of 0 probing nodes still reach it: its tasks are left alone
            32s create web.1/2 on a
            33s node b ready 
            33s want web.1/2 shutdown
              web.1/1 on b running (wants running)
              web.1/2 on a shutdown (wants shutdown) (another task of its slot was kept)
              web.2/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn without_a_report_the_original_is_believed_after_ten_seconds() {
    check(
        "node a\nnode b\nservice web x2 lost-after=30s\nsettle
         silent b\nwait 32s\nplan\nwait 30s\nplan\nsettle
         heard b\nwait 1s\nplan
         wait 9s\nplan
         wait 1s\nplan\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on a
            32s node b unreachable control stream silent for 32.0s; 0 of 0 probing nodes still reach it: its tasks are left alone
            62s create web.1/2 on a
            63s node b ready 
            73s want web.1/2 shutdown
              web.1/1 on b running (wants running)
              web.1/2 on a shutdown (wants shutdown) (another task of its slot was kept)
              web.2/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn a_replacement_stays_if_the_original_did_not_survive() {
    check(
        "node a\nnode b\nservice web x2\nsettle
         silent b\nprobe a b no\nwait 2s\nplan\nsettle
         heard b\nprobe a b yes\nwait 1s\nplan
         report web.1/1 failed host restarted\nreport web.2/1 failed host restarted\nplan\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on a
            2s node b down lost: silent for 2.0s and unanswered probes of all 1 nodes that watch it
            2s create web.1/2 on a
            3s node b ready 
            3s want web.1/1 shutdown
            3s want web.2/1 shutdown
            3s create web.2/2 on b
              web.1/1 on b failed (wants shutdown): host restarted
              web.1/2 on a running (wants running)
              web.2/1 on a failed (wants shutdown): host restarted
              web.2/2 on b running (wants running)
        "#]],
    );
}

#[test]
fn a_service_may_prefer_its_replacements() {
    check(
        "node a\nnode b\nservice web x2 lost-after=5s reconcile=replacement\nsettle
         silent b\nwait 2s\nplan\nwait 5s\nplan\nsettle
         heard b\nwait 1s\nplan\nsettle\nshow",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on a
            2s node b unreachable control stream silent for 2.0s; 0 of 0 probing nodes still reach it: its tasks are left alone
            7s want web.1/1 shutdown
            7s create web.1/2 on a
            8s node b ready 
              web.1/1 on b shutdown (wants shutdown)
              web.1/2 on a running (wants running)
              web.2/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn an_unreachable_node_is_down_in_the_end() {
    check(
        "node a\nnode b\nservice web x2 lost-after=90s\nsettle
         silent b\nwait 2s\nplan\nwait 61s\nplan\nwait 29s\nplan\nwait 25h\nplan",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on a
            2s node b unreachable control stream silent for 2.0s; 0 of 0 probing nodes still reach it: its tasks are left alone
            92s node b down unreachable for 1m30s
            92s create web.1/2 on a
            90092s status web.1/1 orphaned: its node is gone
            90092s want web.1/1 shutdown
        "#]],
    );
}

#[test]
fn one_node_never_kills_its_tasks() {
    check(
        "node a\nservice web\nsettle\nsilent a\nwait 3s\nplan\nwait 20s\nheard a\nwait 1s\nplan\nshow",
        expect![[r#"
        0s create web.1/1 on a
        3s node a unreachable control stream silent for 3.0s; 0 of 0 probing nodes still reach it: its tasks are left alone
        24s node a ready 
          web.1/1 on a running (wants running)
    "#]],
    );
}

#[test]
fn failing_probes_of_a_node_that_is_heard_are_named() {
    check(
        "node a\nnode b\nplan\nprobe a b no\nwait 2s\nplan\nprobe a b yes\nplan",
        expect![[r#"
        2s node b cannot be reached by ["a"]
        2s node b cannot be reached by []
    "#]],
    );
}

#[test]
fn the_leaders_own_node_is_never_judged_silent() {
    check(
        "node a\nnode b\nme a\nservice web\nsettle\nsilent a\nprobe b a no\nwait 30s\nplan\nshow",
        expect![[r#"
            0s create web.1/1 on b
            30s node a cannot be reached by ["b"]
              web.1/1 on b running (wants running)
        "#]],
    );
}

#[test]
fn the_word_of_a_node_that_is_back_counts_at_once() {
    check(
        "node a\nnode b\nservice web\nsettle
         silent b\nprobe b a no\nwait 4s\nplan
         silent a\nheard b\nwait 1300ms\nplan",
        expect![[r#"
            0s create web.1/1 on b
            4s node b unreachable control stream silent for 4.0s; 0 of 0 probing nodes still reach it: its tasks are left alone
            5.3s node b ready 
            5.3s node a down lost: silent for 1.3s and unanswered probes of all 1 nodes that watch it
        "#]],
    );
}

#[test]
fn a_probe_that_fails_keeps_no_task_where_it_no_longer_belongs() {
    check(
        "node a zone=1\nnode b zone=2\nservice web constraint=node.labels.zone==1\nsettle
         label a zone=2\nlabel b zone=1\nwait 1900ms\nprobe b a no\nplan
         wait 200ms\nplan",
        expect![[r#"
            0s create web.1/1 on a
            1.9s node a cannot be reached by ["b"]
            2.1s want web.1/1 shutdown
        "#]],
    );
}

#[test]
fn a_node_that_is_back_keeps_its_task_from_being_replaced_by_a_plan_made_before() {
    check(
        "node a\nnode b\nnode c\nservice web lost-after=5s\nsettle
         silent b\nprobe a b no\nwait 2s\nplan\nreport web.1/2 failed
         decide\nback b\npropose\nshow
         heard b\nwait 1s\nreport web.1/1 running\nplan",
        expect![[r#"
            0s create web.1/1 on b
            2s node b down lost: silent for 2.0s and unanswered probes of all 1 nodes that watch it
            2s create web.1/2 on c
              web.1/1 on b running (wants running)
              web.1/2 on c failed (wants running)
            3s node b cannot be reached by ["a"]
            3s want web.1/2 shutdown
        "#]],
    );
}

/// P03: a way that does not carry containers' packets makes a node degraded, and counts for nothing when the node
/// falls silent: who asks by the data path only is no witness. The leader's own node is looked at too.
#[test]
fn p03_an_impaired_way_degrades_and_is_no_witness() {
    check(
        "node a\nnode b\nnode c\nme a\nsettle
         impaired b c yes\nimpaired b a yes\nwait 2s\nplan
         silent c\nwait 2s\nplan
         impaired b a no\nwait 1s\nplan",
        expect![[r#"
            2s node a cannot be reached by ["b"]
            2s node c cannot be reached by ["b"]
            4s node c unreachable control stream silent for 2.0s; 0 of 0 probing nodes still reach it: its tasks are left alone
            4s node c cannot be reached by []
            5s node a cannot be reached by []
        "#]],
    );
}
