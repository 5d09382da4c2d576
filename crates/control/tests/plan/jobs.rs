//! Jobs: how many at once, what counts as done, and what begins anew.

use expect_test::expect;

use crate::check;

#[test]
fn s04_a_job_completes_its_slots_a_few_at_a_time() {
    check(
        "node a\nservice j done=3 at-once=2 image=job\nplan
         report j.0 running\nreport j.0 complete\nplan\nreport j.1 complete\nreport j.2 complete\nplan\njobs\nshow",
        expect![[r#"
            0s create j.0/1 on a
            0s create j.1/1 on a
            0s create j.2/1 on a
              j #0 0/0 3 completed, began 0s
              j.0/1 on a complete (wants running)
              j.1/1 on a complete (wants running)
              j.2/1 on a complete (wants running)
        "#]],
    );
}

#[test]
fn s04_a_failure_is_retried_with_patience_and_what_is_done_is_never_begun_again() {
    check(
        "node a\nservice j done=2 at-once=1 image=job\nplan
         report j.0 failed exit 1\nplan\nreport j.0 failed exit 1\nplan\nwait 1s\nreport j.0 complete\nplan
         report j.1 complete\nplan\njobs\nshow",
        expect![[r#"
            0s create j.0/1 on a
            0s want j.0/1 shutdown
            0s create j.0/2 on a
            0s want j.0/2 shutdown
            0s create j.0/3 on a in 1s (crash loop: 2 failures in a row, next start in 1s)
            1s create j.1/1 on a
              j #0 0/0 2 completed, began 0s
              j.0/1 on a failed (wants shutdown): exit 1
              j.0/2 on a failed (wants shutdown): exit 1
              j.0/3 on a complete (wants running)
              j.1/1 on a complete (wants running)
        "#]],
    );
}

#[test]
fn s16_attempts_run_out_and_the_rest_of_the_job_goes_on() {
    check(
        "node a\nservice j done=3 at-once=1 image=job attempts=1\nservice n done=2 at-once=1 image=job restart=none\nplan
         report j.0 failed\nreport n.0 failed\nplan\nreport j.0 failed\nreport n.1 complete\nplan\nsettle\njobs\nshow",
        expect![[r#"
            0s create j.0/1 on a
            0s create n.0/1 on a
            0s want j.0/1 shutdown
            0s create j.0/2 on a
            0s create n.1/1 on a
            0s create j.1/1 on a
            0s create j.2/1 on a
              j #0 0/1 2 completed, began 0s
              n #0 0/1 1 completed, began 0s
              j.0/1 on a failed (wants shutdown)
              j.0/2 on a failed (wants running)
              j.1/1 on a complete (wants running)
              j.2/1 on a complete (wants running)
              n.0/1 on a failed (wants running)
              n.1/1 on a complete (wants running)
        "#]],
    );
}

#[test]
fn s15_a_forced_update_is_a_new_iteration_and_the_old_one_stops_first() {
    check(
        "node a\nservice j done=2 at-once=1 image=job\nplan\nreport j.0 complete\nplan\nreport j.1 running
         update j force\nplan\njobs\nreport j.1/1 shutdown\nplan\nsettle\njobs
         update j label=a:b\nsettle\njobs
         update j\nsettle\njobs",
        expect![[r#"
            0s create j.0/1 on a
            0s create j.1/1 on a
            0s want j.0/1 shutdown
            0s want j.1/1 shutdown
              j #1 0/1 0 completed, began 0s
            0s create j.0/2 on a
            0s create j.1/2 on a
              j #1 0/0 2 completed, began 0s
            0s want j.0/2 shutdown
            0s want j.1/2 shutdown
            0s create j.0/3 on a
            0s create j.1/3 on a
              j #2 0/0 2 completed, began 0s
              j #2 0/0 2 completed, began 0s
        "#]],
    );
}

#[test]
fn the_iteration_before_is_history_and_its_surplus_slots_go() {
    check(
        "node a\nservice j done=3 at-once=3 image=job\nsettle\nupdate j done=1\nsettle\nshow",
        expect![[r#"
            0s create j.0/1 on a
            0s create j.1/1 on a
            0s create j.2/1 on a
            0s want j.0/1 shutdown
            0s want j.1/1 shutdown
            0s want j.2/1 shutdown
            0s want j.1/1 remove
            0s want j.2/1 remove
            0s create j.0/2 on a
            0s forget j.1/1
            0s forget j.2/1
              j.0/1 on a complete (wants shutdown)
              j.0/2 on a complete (wants running)
        "#]],
    );
}

#[test]
fn s05_a_global_job_runs_once_on_every_node_also_on_those_that_come_later() {
    check(
        "node a\nnode b avail=drain\nservice g global-job image=job\nsettle\nnode c\nactivate b\nplan\nsettle
         drain c\nactivate c\nsettle\njobs\nupdate g force\nplan\nsettle\njobs\nremove-node c\nsettle\nshow",
        expect![[r#"
            0s create g.a/1 on a
            0s create g.b/1 on b
            0s create g.c/1 on c
              g #0 0/0 3 completed, began 0s
            0s want g.a/1 shutdown
            0s want g.b/1 shutdown
            0s want g.c/1 shutdown
            0s create g.a/2 on a
            0s create g.b/2 on b
            0s create g.c/2 on c
              g #1 0/0 3 completed, began 0s
            0s want g.c/1 remove
            0s want g.c/2 remove
            0s forget g.c/1
            0s forget g.c/2
              g.a/1 on a complete (wants shutdown)
              g.a/2 on a complete (wants running)
              g.b/1 on b complete (wants shutdown)
              g.b/2 on b complete (wants running)
        "#]],
    );
}

#[test]
fn s36_a_task_on_a_drained_node_runs_again_elsewhere_but_not_if_it_was_complete() {
    check(
        "node a\nservice j done=2 at-once=2 image=job\nplan\nreport j.0 complete\nreport j.1 running\nplan
         node b\ndrain a\nplan\nreport j.1 shutdown\nplan\nsettle\njobs",
        expect![[r#"
            0s create j.0/1 on a
            0s create j.1/1 on a
            0s want j.1/1 shutdown
            0s create j.1/2 on b
              j #0 0/0 2 completed, began 0s
        "#]],
    );
}

#[test]
fn a_lost_task_is_replaced_and_whichever_completes_first_counts() {
    check(
        "node a\nnode b\nnode c avail=pause\nservice j done=2 at-once=1 image=job\nplan\nme a\nsilent b\nprobe a b no\nprobe c b no\nwait 5s
         plan\nreport j.0 running\nheard b\nprobe a b yes\nprobe c b yes\nwait 1s\nback b\nplan\nreport j.0/1 complete\nplan\nshow\nreport j.0/2 shutdown\nplan
         settle\njobs\nshow",
        expect![[r#"
            0s create j.0/1 on b
            5s node b down lost: silent for 5.0s and unanswered probes of all 2 nodes that watch it
            5s create j.0/2 on a
            6s want j.0/1 shutdown
            6s want j.0/2 shutdown
              j.0/1 on b complete (wants shutdown) (another task of its slot was kept)
              j.0/2 on a running (wants shutdown)
            6s create j.1/1 on b
              j #0 0/0 2 completed, began 0s
              j.0/1 on b complete (wants shutdown) (another task of its slot was kept)
              j.0/2 on a shutdown (wants shutdown)
              j.1/1 on b complete (wants running)
        "#]],
    );
}

#[test]
fn what_a_job_may_not_say() {
    check(
        "node a\nservice j done=2 at-once=1 parallelism=2\nservice j done=2 at-once=0\nservice w schedule=@daily
         service j done=1 schedule=0_25_*_*_*\nservice j done=1 schedule=0_0_31_2_*
         service j done=1 schedule=@daily timezone=Nowhere/Land\nservice j done=1 label=rswarm.schedule.timezone:UTC
         service j done=2000000\nservice j done=1\nupdate j x2\nupdate j global-job\nupdate j order=start-first",
        expect![[r#"
            refused: jobs may not have an update config
            refused: job j allows 0 tasks at a time and would never end: give max concurrent 1 or more
            refused: service w has a schedule and is no job: use mode replicated-job or global-job, or leave the schedule out
            refused: schedule "0 25 * * *" cannot be read: Component error: Number out of bounds; write minute, hour, day of the month, month and day of the week, such as "0 3 * * *"
            refused: schedule "0 0 31 2 *" is never due: there is no such day
            refused: timezone "Nowhere/Land" of schedule "@daily" is unknown: use a name such as Europe/Berlin, or UTC
            refused: label rswarm.schedule.timezone says nothing without label rswarm.schedule: give the schedule too
            refused: job j asks for 2000000 completions, at most 1000000 are possible
            refused: service mode change is not allowed: j
            refused: service mode change is not allowed: j
            refused: jobs may not have an update config
        "#]],
    );
}

#[test]
fn p26_a_schedule_begins_one_run_for_each_due_time() {
    // the script begins at 13:46:40
    check(
        "node a\nservice j done=1 image=job schedule=*/10_*_*_*_*\nplan\njobs
         wait 200s\nplan\nsettle\njobs\nwait 599s\nplan\nwait 1s\nplan\nsettle\njobs
         update j image=job2\nplan\njobs\nupdate j force\nplan\nsettle\njobs",
        expect![[r#"
              j #0 0/0 0 completed, next 200s
            200s j begins #0
            200s create j.0/1 on a
              j #0 0/0 1 completed, began 200s, next 800s
            800s j begins #1
            800s want j.0/1 shutdown
            800s create j.0/2 on a
              j #1 0/0 1 completed, began 800s, next 1400s
              j #1 0/0 1 completed, began 800s, next 1400s
            800s want j.0/2 shutdown
            800s create j.0/3 on a
              j #2 0/0 1 completed, began 800s, next 1400s
        "#]],
    );
}

#[test]
fn p26_what_was_missed_is_one_run_whoever_leads() {
    check(
        "node a\nservice j done=1 image=job schedule=*/10_*_*_*_*\nplan
         wait 200s\nwait 1h\nsnapshot\nplan\nplan\nsettle\njobs\nsnapshot\nplan",
        expect![[r#"
            3800s j begins #0
            3800s create j.0/1 on a
              j #0 0/0 1 completed, began 3800s, next 4400s
        "#]],
    );
}

#[test]
fn p26_a_run_that_is_due_too_soon_is_skipped_replaces_or_waits() {
    check(
        "node a\nservice s done=1 image=job schedule=*/10_*_*_*_*
         service r done=1 image=job schedule=*/10_*_*_*_* overlap=replace
         service q done=1 image=job schedule=*/10_*_*_*_* overlap=queue
         wait 200s\nplan\nreport s.0 running\nreport r.0 running\nreport q.0 running
         wait 10m\nplan\njobs\nreport r.0/1 shutdown\nplan\nwait 10m\nplan\njobs
         report q.0 complete\nreport s.0 complete\nplan\njobs\nreport q.0 complete\nplan",
        expect![[r#"
            200s s begins #0
            200s r begins #0
            200s q begins #0
            200s create s.0/1 on a
            200s create r.0/1 on a
            200s create q.0/1 on a
            800s s skips a run
            800s r begins #1
            800s want r.0/1 shutdown
              s #0 1/1 0 completed, began 200s, next 1400s, skipped 800s
              r #1 0/1 0 completed, began 800s, next 1400s
              q #0 1/1 0 completed, began 200s, next 800s
            800s create r.0/2 on a
            1400s s skips a run
            1400s r begins #2
            1400s want r.0/2 shutdown
              s #0 1/1 0 completed, began 200s, next 2000s, skipped 1400s
              r #2 0/1 0 completed, began 1400s, next 2000s
              q #0 1/1 0 completed, began 200s, next 800s
            1400s q begins #1
            1400s want q.0/1 shutdown
            1400s create q.0/2 on a
              s #0 0/0 1 completed, began 200s, next 2000s, skipped 1400s
              r #2 0/1 0 completed, began 1400s, next 2000s
              q #1 0/1 0 completed, began 1400s, next 2000s
        "#]],
    );
}

#[test]
fn p26_a_schedule_may_come_from_labels_and_go() {
    check(
        "node a\nservice j done=1 image=job label=rswarm.schedule:@hourly label=rswarm.schedule.concurrency:queue\nplan
         jobs\nupdate j schedule=@daily\nservice k done=1 image=job\nsettle\nupdate k schedule=0_14_*_*_* timezone=Asia/Kolkata
         jobs\nupdate k schedule=none\nplan\njobs",
        expect![[r#"
              j #0 0/0 0 completed, next 800s
            refused: label rswarm.schedule=@hourly contradicts the spec, which says "@daily": change one of them
            0s create k.0/1 on a
              j #0 0/0 0 completed, next 800s
              k #0 0/0 1 completed, began 0s, next 67400s
              j #0 0/0 0 completed, next 800s
              k #0 0/0 1 completed, began 0s
        "#]],
    );
}
