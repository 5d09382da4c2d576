//! Stacks: many objects, judged and changed together or not at all (parity K-01 to K-03, P28, P33).

use expect_test::expect;

use crate::{check, script::World};

#[test]
fn k_01_one_proposal_deploys_the_whole_and_what_is_the_same_stays_as_it_is() {
    check(
        "node a
         wait 3s
         stack shop | network front subnet=10.1.0.0/24 | secret pw one | service db net=front secret=pw | service web x2 net=front needs=db:healthy
         settle
         stack shop | network front subnet=10.1.0.0/24 | secret pw one | service db net=front secret=pw | service web x2 net=front needs=db:healthy
         plan
         stacks
         stack shop | network front subnet=10.1.0.0/24 | secret pw two | service db net=front secret=pw | service web x2 net=front needs=db:healthy
         settle
         revisions db
         revisions web
         stacks
         files a",
        expect![[r#"
            3s db has addresses front [10.1.0.2]
            3s web has addresses front [10.1.0.3]
            3s create db.1/1 on a 10.1.0.4
            3s create web.1/1 waiting: waits for service db to be healthy
            3s create web.2/1 waiting: waits for service db to be healthy
            3s place web.1/1 on a 10.1.0.5
            3s place web.2/1 on a 10.1.0.6
              shop: db web | front | pw |  | revisions: 1 (2 services)
            3s db Updating: update in progress
            3s want db.1/1 shutdown
            3s create db.1/2 on a 10.1.0.7
            8s db Completed: update completed
              1=app 2=app
              1=app
              shop: db web | front | pw |  | revisions: 1 (2 services) 2 (2 services)
              a has [two]
        "#]],
    );
}

#[test]
fn k_01_all_that_stands_in_the_way_is_told_at_once_and_nothing_is_done() {
    check(
        "node a
         service other publish=8080:80
         network back
         stack shop | network back | secret pw x | service web publish=8080:80 | service db cpu=0.0001 | service c net=back | service d net=gone | service e needs=f:started | service e2 needs=e2:started
         stack shop | service web | service web
         stack shop | network n
         stacks
         stack shop | service a needs=b:healthy | service b needs=a:healthy",
        expect![[r#"
            refused: service other publishes port 8080/tcp through the mesh, and there is no ingress network: make one with `network create --driver overlay --ingress ingress`, or publish with mode=host
            refused: nothing of stack shop was changed, 6 things stand in the way:
            network back is there already and is of no stack: remove it, give another name, or say external: true
            service web publishes port 8080/tcp through the mesh, and there is no ingress network: make one with `network create --driver overlay --ingress ingress`, or publish with mode=host
            service db: invalid cpu value 0.0001 in reservation: must be at least 0.001
            network gone (asked for by service d; create it first) not found
            service e depends on service f, which is not there: create it first, or deploy both as one stack
            service e2 depends on itself: it would never start
            refused: stack shop has service web twice: give one of them another name
            refused: stack shop has no services: give one at least, or take the stack away with `stack rm shop`
            refused: nothing of stack shop was changed, 2 things stand in the way:
            service a would wait for itself, dependencies run in a circle: a -> b -> a; take one of them out
            service b would wait for itself, dependencies run in a circle: b -> a -> b; take one of them out
        "#]],
    );
}

#[test]
fn k_01_what_the_new_revision_no_longer_has_stays_or_is_pruned() {
    check(
        "node a
         stack shop | network front | network back | secret pw one | service db net=back secret=pw | service web net=front
         settle
         stack shop | network front | service web net=front
         plan
         stacks
         stack shop prune | network front | service web net=front
         settle
         stacks",
        expect![[r#"
            0s db has addresses back [10.0.1.2]
            0s web has addresses front [10.0.0.2]
            0s create db.1/1 on a 10.0.1.3
            0s create web.1/1 on a 10.0.0.3
              shop: db web | back front | pw |  | revisions: 1 (2 services) 2 (1 services)
            0s want db.1/1 remove
            0s forget db.1/1
            0s service db gone
            0s network back gone
              shop: web | front |  |  | revisions: 1 (2 services) 2 (1 services)
        "#]],
    );
}

#[test]
fn k_08_a_stack_goes_back_as_a_whole() {
    check(
        "node a
         wait 3s
         stack shop prune | network back | secret pw one | service db net=back secret=pw | service web x2 image=a
         settle
         stack shop prune | secret new two | service web x2 image=b secret=new | service cache
         settle
         stacks
         roll-back shop
         settle
         stacks
         show
         files a
         roll-back shop
         roll-back shop 7
         roll-back shop 2
         settle
         stacks
         roll-back nothing",
        expect![[r#"
            3s db has addresses back [10.0.0.2]
            3s create db.1/1 on a 10.0.0.3
            3s create web.1/1 on a
            3s create web.2/1 on a
            3s create cache.1/1 on a
            3s web Updating: update in progress
            3s want web.1/1 shutdown
            3s want db.1/1 remove
            3s create web.1/2 on a
            3s forget db.1/1
            3s service db gone
            3s network back gone
            3s want web.2/1 shutdown
            3s create web.2/2 on a
            8s web Completed: update completed
              shop: cache web |  | new |  | revisions: 1 (2 services) 2 (2 services)
            8s db has addresses back [10.0.0.2]
            8s create db.1/2 on a 10.0.0.3
            8s want web.1/2 shutdown
            8s want cache.1/1 remove
            8s create web.1/3 on a
            8s forget cache.1/1
            8s service cache gone
            8s want web.2/2 shutdown
            8s create web.2/3 on a
            13s web RollbackCompleted: rollback completed
              shop: db web | back | new pw |  | revisions: 1 (2 services) 2 (2 services) 3 (2 services, back to 1)
              db.1/2 on a running (wants running)
              web.1/1 on a shutdown (wants shutdown)
              web.1/2 on a shutdown (wants shutdown)
              web.1/3 on a running (wants running)
              web.2/1 on a shutdown (wants shutdown)
              web.2/2 on a shutdown (wants shutdown)
              web.2/3 on a running (wants running)
              a has [one]
            refused: stack shop was taken back already, its revision 3 is an earlier one: say which is wanted with --to; kept are 1, 2
            refused: stack shop has no earlier revision 7: present is 3, kept are 1, 2
            13s create cache.1/2 on a
            13s want web.1/3 shutdown
            13s want db.1/2 remove
            13s create web.1/4 on a
            13s forget db.1/2
            13s service db gone
            13s network back gone
            13s want web.2/3 shutdown
            13s create web.2/4 on a
            18s web RollbackCompleted: rollback completed
              shop: cache web |  | new pw |  | revisions: 1 (2 services) 2 (2 services) 3 (2 services, back to 1) 4 (2 services, back to 2)
            refused: stack nothing not found
        "#]],
    );
}

/// X-01, K-08: a stack that goes back has its secrets again, but not their names where others have these in the meantime,
/// be it in capitals.
#[test]
fn x_01_a_stack_that_goes_back_takes_no_name_that_differs_in_case_alone() {
    let mut world = World::new();
    let lines = [
        "node a",
        "wait 3s",
        "stack shop prune | secret pw one | service db secret=pw | service web",
        "settle",
        "stack shop prune | service web",
        "settle",
        "secret PW two",
        "roll-back shop",
        "settle",
    ];
    for line in lines {
        world.line(line);
    }
    let present = world.tables.dependencies().filter(|found| !found.superseded);
    assert_eq!(present.map(|found| found.spec.name.to_string()).collect::<Vec<_>>(), ["PW"], "{}", world.out);
    assert!(world.tables.service_by_name(&"db".parse().unwrap()).is_some(), "{}", world.out);
}

#[test]
fn p33_a_removed_stack_goes_with_its_last_task_and_a_new_one_queues_behind_it() {
    check(
        "node a
         stack shop | network front | network back | secret pw one | service db net=back secret=pw | service web net=front
         settle
         remove-stack shop
         stacks
         stack shop | network front | service db net=front | service web needs=db:healthy
         service late net=front
         network FRONT
         plan
         agents
         plan
         stacks
         networks
         stack shop | network front | service web net=front
         settle
         stacks
         remove-stack nothing",
        expect![[r#"
            0s db has addresses back [10.0.1.2]
            0s web has addresses front [10.0.0.2]
            0s create db.1/1 on a 10.0.1.3
            0s create web.1/1 on a 10.0.0.3
              shop: db web | back front |  |  | revisions: 
            refused: nothing of stack shop was changed: network front is being removed: wait until the last tasks in it have ended
            refused: network front is being removed: wait until the last tasks in it have ended
            refused: network front is being removed: wait until the last tasks in it have ended
            0s want db.1/1 remove
            0s want web.1/1 remove
            0s forget db.1/1
            0s service db gone
            0s forget web.1/1
            0s service web gone
            0s network front gone
            0s network back gone
            0s web has addresses front [10.0.0.2]
            0s create web.1/2 on a 10.0.0.3
              shop: web | front |  |  | revisions: 1 (1 services)
            refused: stack nothing not found
        "#]],
    );
}

#[test]
fn p33_what_others_use_is_not_removed_and_then_nothing_is() {
    check(
        "node a
         stack shop | network back attachable | secret pw one | service db net=back secret=pw
         settle
         service other net=back secret=pw
         remove-stack shop
         remove other
         attach a c1 back
         remove-stack shop
         detach a c1 back
         plan
         stacks",
        expect![[r#"
            0s db has addresses back [10.0.0.2]
            0s create db.1/1 on a 10.0.0.3
            refused: nothing of stack shop was changed, 2 things stand in the way:
            secret 'pw' is in use by the following service: other; take it from them with `service update --secret-rm pw`, or remove them, first
            network back is in use by service other: update or remove them first
            refused: nothing of stack shop was changed: network back has active endpoints (name-of-c1): disconnect or remove their containers first
            0s service other gone
              shop: db | back | pw |  | revisions: 1 (1 services)
        "#]],
    );
}

#[test]
fn k_08_a_stack_that_was_taken_away_piece_by_piece_is_forgotten_and_snapshots_keep_the_others() {
    check(
        "node a
         stack shop | network n1 | service db net=n1
         stack other | service web
         settle
         snapshot
         stacks
         remove db
         settle
         stacks",
        expect![[r#"
            0s db has addresses n1 [10.0.0.2]
            0s create db.1/1 on a 10.0.0.3
            0s create web.1/1 on a
              other: web |  |  |  | revisions: 1 (1 services)
              shop: db | n1 |  |  | revisions: 1 (1 services)
            0s want db.1/1 remove
            0s forget db.1/1
            0s service db gone
              other: web |  |  |  | revisions: 1 (1 services)
              shop:  | n1 |  |  | revisions: 
        "#]],
    );
}

/// P28: what became of a deploy is worked out while it is the present one, and kept when another comes.
#[test]
fn p28_the_history_of_a_stack_says_by_whom_what_came_of_it_and_why() {
    check(
        "node a
         wait 3s
         stack shop | service web image=a action=rollback | service db
         history shop
         settle
         history shop
         stack shop | service web image=b action=rollback | service db
         plan
         agents
         plan
         report web.1 failed task: non-zero exit (1)
         plan
         history shop
         settle
         history shop
         stack shop | service web image=a | service db image=c cpu=9
         plan
         history shop
         roll-back shop 1
         settle
         history shop
         remove db
         history shop",
        expect![[r#"
              1 by me: deploying service web: 0 of 1 tasks run
            3s create web.1/1 on a
            3s create db.1/1 on a
              1 by me: done
            3s web Updating: update in progress
            3s want web.1/1 shutdown
            3s create web.1/2 on a
            3s want web.1/2 shutdown
            3s create web.1/3 on a
            3s web back to image a
            3s want web.1/3 shutdown
              1 by me: done
              2 by me: rolled back service web: update rolled back due to failure or early termination of task 000000000000000000000035x: task: non-zero exit (1)
            3s create web.1/4 on a
            8s web RollbackCompleted: rollback completed: the update was undone due to failure or early termination of task web.1/2: task: non-zero exit (1)
              1 by me: done
              2 by me: rolled back service web: rollback completed: the update was undone due to failure or early termination of task 000000000000000000000035x: task: non-zero exit (1)
            8s db Updating: update in progress
            8s want db.1/1 shutdown
              1 by me: done
              2 by me: rolled back service web: rollback completed: the update was undone due to failure or early termination of task 000000000000000000000035x: task: non-zero exit (1)
              3 by me: deploying service db: update in progress
            8s web RollbackCompleted: rollback completed
            8s create db.1/2 on a
            13s db RollbackCompleted: rollback completed
              1 by me: done
              2 by me: rolled back service web: rollback completed: the update was undone due to failure or early termination of task 000000000000000000000035x: task: non-zero exit (1)
              3 by me: deploying service db: update in progress
              4 by somebody: done
              1 by me: done
              2 by me: rolled back service web: rollback completed: the update was undone due to failure or early termination of task 000000000000000000000035x: task: non-zero exit (1)
              3 by me: deploying service db: update in progress
              4 by somebody: failed service db: it is not there any more
        "#]],
    );
}

/// S-72, K-01: what a deploy makes of published ports counts, not the order of its services.
#[test]
fn k_01_services_of_one_stack_take_ports_from_each_other() {
    check(
        "network i ingress
         node a
         wait 3s
         stack shop | service a publish=8080:80 publish=81 | service b publish=9090:80 | service c publish=host@7000:80
         ports
         stack shop | service a publish=9090:80 publish=81 | service b publish=8080:80 | service c publish=7000:80
         ports
         stack shop prune | service new publish=7000:80 | service a publish=8080:80 | service b publish=9090:80
         ports
         roll-back shop
         ports
         settle
         stacks",
        expect![[r#"
            a at 8080/tcp->80 31330/tcp->81
            b at 9090/tcp->80
            c at 7000/tcp->80
            a at 9090/tcp->80 31330/tcp->81
            b at 8080/tcp->80
            c at 7000/tcp->80
            a at 8080/tcp->80
            b at 9090/tcp->80
            c at 7000/tcp->80
            new at 7000/tcp->80
            a at 9090/tcp->80 31330/tcp->81
            b at 8080/tcp->80
            c at 7000/tcp->80
            new at 7000/tcp->80
            c at 7000/tcp->80
            3s create a.1/1 on a 10.255.0.2 fd72:7377:726d::2
            3s create b.1/1 on a 10.255.0.3 fd72:7377:726d::3
            3s create c.1/1 on a 10.255.0.4 fd72:7377:726d::4
            3s service c gone
            3s service new gone
            8s a RollbackCompleted: rollback completed
            8s b RollbackCompleted: rollback completed
              shop: a b c |  |  |  | revisions: 1 (3 services) 2 (3 services) 3 (3 services) 4 (3 services, back to 2)
        "#]],
    );
}

#[test]
fn k_01_a_port_that_two_would_have_in_the_end_refuses_the_deploy() {
    check(
        "network i ingress
         node a
         stack shop | service a publish=8080:80 | service b publish=9090:80 | service c publish=80
         service other publish=7000:80
         ports
         stack shop | service a publish=9090:80 | service b publish=9090:80
         stack shop | service a publish=9090:80
         stack shop | service a publish=7000:80 | service b publish=8080:80
         stack shop | service new publish=31332:80 | service c publish=80
         stack else | service x publish=8080:80
         ports
         stacks",
        expect![[r#"
            a at 8080/tcp->80
            b at 9090/tcp->80
            c at 31332/tcp->80
            other at 7000/tcp->80
            refused: nothing of stack shop was changed: service a cannot publish port 9090/tcp: service b publishes 9090/tcp through the mesh; take another number or address, or let b give it up first
            refused: nothing of stack shop was changed: service a cannot publish port 9090/tcp: service b publishes 9090/tcp through the mesh; take another number or address, or let b give it up first
            refused: nothing of stack shop was changed: service a cannot publish port 7000/tcp: service other publishes 7000/tcp through the mesh; take another number or address, or let other give it up first
            refused: nothing of stack shop was changed: service new cannot publish port 31332/tcp: service c publishes 31332/tcp through the mesh; take another number or address, or let c give it up first
            refused: nothing of stack else was changed: service x cannot publish port 8080/tcp: service a publishes 8080/tcp through the mesh; take another number or address, or let a give it up first
            a at 8080/tcp->80
            b at 9090/tcp->80
            c at 31332/tcp->80
            other at 7000/tcp->80
              shop: a b c |  |  |  | revisions: 1 (3 services)
        "#]],
    );
}
