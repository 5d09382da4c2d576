//! `depends_on`: tasks start, and rollouts go on, when what the service needs is there (parity K-08).

use expect_test::expect;

use crate::check;

#[test]
fn k_08_tasks_wait_for_what_their_service_depends_on_and_say_so() {
    check(
        "node a
         wait 3s
         stack shop | service db | service migrate done=1 image=job needs=db:healthy | service web x2 needs=db:healthy needs=migrate:completed
         plan
         report db.1 preparing
         plan
         report db.1 running
         plan
         report migrate.0 running
         plan
         report migrate.0 complete
         plan
         agents
         show",
        expect![[r#"
            3s create db.1/1 on a
            3s create migrate.0/1 waiting: waits for service db to be healthy
            3s create web.1/1 waiting: waits for service db to be healthy
            3s create web.2/1 waiting: waits for service db to be healthy
            3s place migrate.0/1 on a
            3s status web.1/1 pending: waits for service migrate to have completed
            3s status web.2/1 pending: waits for service migrate to have completed
            3s place web.1/1 on a
            3s place web.2/1 on a
              db.1/1 on a running (wants running)
              migrate.0/1 on a complete (wants running)
              web.1/1 on a running (wants running)
              web.2/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn k_08_what_runs_is_not_stopped_and_what_starts_waits_when_the_dependency_fails() {
    check(
        "node a
         wait 3s
         stack shop | service db | service web x2 needs=db:healthy
         settle
         report db.1 failed
         plan
         update web x3
         plan
         report db.1 running
         settle
         show",
        expect![[r#"
            3s create db.1/1 on a
            3s create web.1/1 waiting: waits for service db to be healthy
            3s create web.2/1 waiting: waits for service db to be healthy
            3s place web.1/1 on a
            3s place web.2/1 on a
            3s want db.1/1 shutdown
            3s create db.1/2 on a
            3s create web.3/1 waiting: waits for service db to be healthy
            3s place web.3/1 on a
              db.1/1 on a failed (wants shutdown)
              db.1/2 on a running (wants running)
              web.1/1 on a running (wants running)
              web.2/1 on a running (wants running)
              web.3/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn k_08_a_new_spec_waits_for_the_new_specs_of_others() {
    check(
        "node a
         wait 3s
         stack shop | service migrate done=1 image=job | service web x2 needs=migrate:completed
         settle
         stack shop | service migrate done=1 image=job2 | service web x2 image=b needs=migrate:completed
         plan
         report migrate.0 running
         plan
         report migrate.0 complete
         settle
         show",
        expect![[r#"
            3s create migrate.0/1 on a
            3s create web.1/1 waiting: waits for service migrate to have completed
            3s create web.2/1 waiting: waits for service migrate to have completed
            3s place web.1/1 on a
            3s place web.2/1 on a
            3s want migrate.0/1 shutdown
            3s create migrate.0/2 on a
            3s web Updating: update waits for service migrate to have completed
            3s web Updating: update in progress
            3s want web.1/1 shutdown
            3s create web.1/2 on a
            3s want web.2/1 shutdown
            3s create web.2/2 on a
            8s web Completed: update completed
              migrate.0/1 on a complete (wants shutdown)
              migrate.0/2 on a complete (wants running)
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on a running (wants running)
              web.2/1 on a shutdown (wants shutdown)
              web.2/2 on a running (wants running)
        "#]],
    );
}

/// The whole cluster comes back at once: nothing of before counts until the nodes have spoken.
#[test]
fn k_08_the_order_holds_after_a_power_cut() {
    check(
        "node a
         node b
         wait 3s
         service db constraint=node.labels.x!=1
         service web needs=db:healthy
         settle
         wait 1h
         elected
         plan
         report web.1 shutdown
         plan
         report db.1 shutdown
         plan
         report db.1 preparing
         plan
         wait 3s
         plan
         show
         report db.1 running
         plan",
        expect![[r#"
            3s create db.1/1 on b
            3s create web.1/1 waiting: waits for service db to be healthy
            3s place web.1/1 on a
            3603s want web.1/1 shutdown
            3603s create web.1/2 waiting: waits for service db to be healthy
            3603s want db.1/1 shutdown
            3603s create db.1/2 on b
              db.1/1 on b shutdown (wants shutdown)
              db.1/2 on b preparing (wants running)
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on - pending (wants running): waits for service db to be healthy
            3606s place web.1/2 on a
        "#]],
    );
}

#[test]
fn k_08_a_rollback_does_not_wait() {
    check(
        "node a
         wait 3s
         service db
         service web needs=db:healthy
         settle
         update web image=b
         settle
         report db.1 failed
         rollback web
         settle 1s
         show",
        expect![[r#"
            3s create db.1/1 on a
            3s create web.1/1 waiting: waits for service db to be healthy
            3s place web.1/1 on a
            3s web Updating: update in progress
            3s want web.1/1 shutdown
            3s create web.1/2 on a
            8s web Completed: update completed
            8s want db.1/1 shutdown
            8s create db.1/2 on a
            8s want web.1/2 shutdown
            8s create web.1/3 on a
              db.1/1 on a failed (wants shutdown)
              db.1/2 on a running (wants running)
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on a shutdown (wants shutdown)
              web.1/3 on a running (wants running)
        "#]],
    );
}

#[test]
fn k_08_a_power_cut_in_a_rollback_is_one_too() {
    check(
        "node a
         wait 3s
         service db
         service web needs=db:healthy image=a
         settle
         update web image=b
         settle
         rollback web
         plan
         agents
         plan
         agents
         wait 1s
         elected
         report web.1 shutdown
         report db.1 shutdown
         wait 3s
         plan
         show",
        expect![[r#"
            3s create db.1/1 on a
            3s create web.1/1 waiting: waits for service db to be healthy
            3s place web.1/1 on a
            3s web Updating: update in progress
            3s want web.1/1 shutdown
            3s create web.1/2 on a
            8s web Completed: update completed
            8s want web.1/2 shutdown
            8s create web.1/3 on a
            12s want db.1/1 shutdown
            12s want web.1/3 shutdown
            12s create db.1/2 on a
            12s create web.1/4 waiting: waits for service db to be healthy
              db.1/1 on a shutdown (wants shutdown)
              db.1/2 on a assigned (wants running)
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on a shutdown (wants shutdown)
              web.1/3 on a shutdown (wants shutdown)
              web.1/4 on - pending (wants running): waits for service db to be healthy
        "#]],
    );
}

#[test]
fn k_08_dependencies_that_cannot_be_are_refused() {
    check(
        "node a
         service db
         service web needs=web:healthy
         service web needs=nobody:healthy
         service web needs=db:completed
         service web needs=db:healthy needs=db:started
         service web needs=db:healthy
         service cache needs=web:started
         update db needs=cache:healthy
         remove db
         update web x2
         wait 3s
         settle
         show",
        expect![[r#"
            refused: service web depends on itself: it would never start
            refused: service web depends on service nobody, which is not there: create it first, or deploy both as one stack
            refused: service web waits for service db to have completed, which it never will: make it a job, or give it the restart condition none or on-failure
            refused: service web depends on db twice: give one condition
            refused: service db would wait for itself, dependencies run in a circle: db -> cache -> web -> db; take one of them out
            3s create web.1/1 on a
            3s create web.2/1 on a
            3s create cache.1/1 waiting: waits for service web to have started
            3s service db gone
            3s place cache.1/1 on a
              cache.1/1 on a running (wants running)
              web.1/1 on a running (wants running)
              web.2/1 on a running (wants running)
        "#]],
    );
}
