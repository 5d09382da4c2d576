//! Which of several nodes, beside whom, who first, and when running tasks move.

use expect_test::expect;

use crate::check;

#[test]
fn s_30_wishes_are_followed_while_they_can_be() {
    check(
        "node a cpu=2 disk=ssd\nnode b cpu=2\nnode c cpu=2 disk=ssd
         service web x5 cpu=1 constraint=~node.labels.disk==ssd
         plan
         settle
         update web constraint=~node.labels.disk==hdd
         plan",
        expect![[r#"
            0s create web.1/1 on c
            0s create web.2/1 on a
            0s create web.3/1 on c
            0s create web.4/1 on a
            0s create web.5/1 on b
        "#]],
    );
}

#[test]
fn services_run_beside_others_or_apart_from_them() {
    check(
        "node a\nnode b\nnode c
         service cache x2 constraint=service==db
         service web x3 constraint=service!=web
         service lone x1 constraint=service_not_in_(web,db)
         plan
         service db x1
         plan
         update web x2
         settle
         show",
        expect![[r#"
            0s create cache.1/1 waiting: no suitable node: 3 of 3 nodes do not satisfy service==db
            0s create cache.2/1 waiting: no suitable node: 3 of 3 nodes do not satisfy service==db
            0s create web.1/1 on a
            0s create web.2/1 on c
            0s create web.3/1 on b
            0s create lone.1/1 waiting: no suitable node: 3 of 3 nodes do not satisfy service not in (web,db)
            0s create db.1/1 on a
            0s place cache.1/1 on a
            0s place cache.2/1 on a
            0s want web.3/1 remove
            0s place lone.1/1 on b
            0s forget web.3/1
              cache.1/1 on a running (wants running)
              cache.2/1 on a running (wants running)
              db.1/1 on a running (wants running)
              lone.1/1 on b running (wants running)
              web.1/1 on a running (wants running)
              web.2/1 on c running (wants running)
        "#]],
    );
}

#[test]
fn who_keeps_away_is_kept_away_from() {
    check(
        "node a\nnode b
         service quiet x1 constraint=service!=loud
         plan
         service loud x3
         plan
         service third x1 constraint=service==nobody
         plan
         update quiet constraints=-
         update loud x4
         plan
         service self x1 constraint=service==self
         stack shop | service shop_self constraint=service==self",
        expect![[r#"
            0s create quiet.1/1 on b
            0s create loud.1/1 on a
            0s create loud.2/1 on a
            0s create loud.3/1 on a
            0s create third.1/1 waiting: no suitable node: 2 of 2 nodes do not satisfy service==nobody
            0s create loud.4/1 on b
            refused: service self: constraint service==self would have its first task wait for itself: name another service
            refused: nothing of stack shop was changed: service shop_self: constraint service==self would have its first task wait for itself: name another service
        "#]],
    );
}

#[test]
fn in_a_stack_services_are_called_by_their_short_names() {
    check(
        "node a\nnode b\nnode c
         service db x1 constraint=node.hostname==a
         service shop_db x1 constraint=node.hostname==b
         service shop_web x2 constraint=service==db label=com.docker.stack.namespace:shop
         plan",
        expect![[r#"
            0s create db.1/1 on a
            0s create shop_db.1/1 on b
            0s create shop_web.1/1 on b
            0s create shop_web.2/1 on b
        "#]],
    );
}

#[test]
fn p49_binpack_fills_nodes_in_order() {
    check(
        "node a cpu=4\nnode b cpu=4\nnode c cpu=4
         service seed x1 cpu=1
         plan
         service web x7 cpu=1 strategy=binpack
         plan",
        expect![[r#"
            0s create seed.1/1 on b
            0s create web.1/1 on b
            0s create web.2/1 on b
            0s create web.3/1 on b
            0s create web.4/1 on a
            0s create web.5/1 on a
            0s create web.6/1 on a
            0s create web.7/1 on a
        "#]],
    );
}

#[test]
fn p19_tasks_move_to_a_node_that_came_one_at_a_time() {
    check(
        "node a\nnode b
         service web x6 rebalance=on
         service still x6
         settle
         node c
         wait 9s
         plan
         wait 1s
         plan
         agents
         plan
         agents
         plan
         wait 6s
         plan
         agents
         plan
         agents
         wait 6s
         plan
         show",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on a
            0s create web.3/1 on b
            0s create web.4/1 on a
            0s create web.5/1 on b
            0s create web.6/1 on a
            0s create still.1/1 on a
            0s create still.2/1 on b
            0s create still.3/1 on a
            0s create still.4/1 on b
            0s create still.5/1 on a
            0s create still.6/1 on b
            10s want web.6/1 shutdown
            10s create web.6/2 on c
            16s want web.5/1 shutdown
            16s create web.5/2 on c
              still.1/1 on a running (wants running)
              still.2/1 on b running (wants running)
              still.3/1 on a running (wants running)
              still.4/1 on b running (wants running)
              still.5/1 on a running (wants running)
              still.6/1 on b running (wants running)
              web.1/1 on b running (wants running)
              web.2/1 on a running (wants running)
              web.3/1 on b running (wants running)
              web.4/1 on a running (wants running)
              web.5/1 on b shutdown (wants shutdown) (moved to another node, where its service is more even)
              web.5/2 on c running (wants running)
              web.6/1 on a shutdown (wants shutdown) (moved to another node, where its service is more even)
              web.6/2 on c running (wants running)
        "#]],
    );
}

#[test]
fn p19_a_start_first_service_never_has_less_than_it_wants() {
    check(
        "node a zone=1
         service web x4 rebalance=on order=start-first parallelism=2 spread=zone
         settle
         node b zone=2
         wait 10s
         plan
         agents
         plan
         agents
         wait 6s
         plan
         show",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create web.3/1 on a
            0s create web.4/1 on a
            10s create web.4/2 on b
            10s create web.3/2 on b
            10s want web.3/1 shutdown
            10s want web.4/1 shutdown
              web.1/1 on a running (wants running)
              web.2/1 on a running (wants running)
              web.3/1 on a shutdown (wants shutdown) (moved to another node)
              web.3/2 on b running (wants running)
              web.4/1 on a shutdown (wants shutdown) (moved to another node)
              web.4/2 on b running (wants running)
        "#]],
    );
}

#[test]
fn p19_what_fails_in_its_new_place_is_not_moved_again_at_once() {
    check(
        "node a
         service web x2 rebalance=on order=start-first
         settle
         node b
         wait 15s
         plan
         report web.2 failed boom
         plan
         wait 15s
         plan
         wait 5m
         plan",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            15s create web.2/2 on b
            15s want web.2/2 shutdown
            330s create web.2/3 on b
        "#]],
    );
}

#[test]
fn p19_moves_are_refused_where_they_would_do_harm() {
    check(
        "service db x1 rebalance=on volume=data
         service agent global rebalance=on
         service web x1 rebalance=on strategy=binpack
         service web x1 rebalance=yes
         service web x1 strategy=random
         service web x1 priority=urgent",
        expect![[r#"
            refused: service db: label rswarm.rebalance=continuous would move tasks away from their data in volume data, which each node has for itself: leave it off, or use storage that all nodes reach
            refused: service agent: label rswarm.rebalance=continuous is for replicated services; a global service has nothing to even out
            refused: service web: labels rswarm.rebalance=continuous and rswarm.placement.strategy=binpack contradict each other: even out or fill up, not both
            refused: service web: label rswarm.rebalance: "yes" is no rebalance policy; use off, on-join or continuous
            refused: service web: label rswarm.placement.strategy: "random" is no placement strategy; use spread or binpack
            refused: service web: label rswarm.priority: "urgent" is no priority; use a whole number from -1000 to 1000
        "#]],
    );
}

#[test]
fn the_highest_priority_is_placed_first_and_others_make_way() {
    check(
        "node a cpu=2\nnode b cpu=2
         service batch x4 cpu=1 priority=-10
         service web x1 cpu=1
         settle
         show
         service vital x1 cpu=2 priority=100
         plan
         settle
         show
         remove vital
         settle
         show",
        expect![[r#"
            0s create batch.1/1 on b
            0s create batch.2/1 on a
            0s create batch.3/1 on b
            0s create batch.4/1 waiting: no suitable node: 2 of 2 nodes lack CPUs (want 1)
            0s create web.1/1 on a
              batch.1/1 on b running (wants running)
              batch.2/1 on a running (wants running)
              batch.3/1 on b running (wants running)
              batch.4/1 on - pending (wants running): no suitable node: 2 of 2 nodes lack CPUs (want 1)
              web.1/1 on a running (wants running)
            598.8s create vital.1/1 waiting: no suitable node: 2 of 2 nodes lack CPUs (want 2)
            598.8s want batch.3/1 shutdown
            598.8s want batch.1/1 shutdown
            598.8s create batch.1/2 waiting: no suitable node: 2 of 2 nodes lack CPUs (want 1)
            598.8s create batch.3/2 waiting: no suitable node: 2 of 2 nodes lack CPUs (want 1)
            598.8s place vital.1/1 on b
              batch.1/1 on b shutdown (wants shutdown) (made way for service vital of priority 100)
              batch.1/2 on - pending (wants running): no suitable node: 2 of 2 nodes lack CPUs (want 1)
              batch.2/1 on a running (wants running)
              batch.3/1 on b shutdown (wants shutdown) (made way for service vital of priority 100)
              batch.3/2 on - pending (wants running): no suitable node: 2 of 2 nodes lack CPUs (want 1)
              batch.4/1 on - pending (wants running): no suitable node: 2 of 2 nodes lack CPUs (want 1)
              vital.1/1 on b running (wants running)
              web.1/1 on a running (wants running)
            1196.4s want vital.1/1 remove
            1196.4s place batch.1/2 on b
            1196.4s place batch.3/2 on b
            1196.4s forget vital.1/1
            1196.4s service vital gone
              batch.1/1 on b shutdown (wants shutdown) (made way for service vital of priority 100)
              batch.1/2 on b running (wants running)
              batch.2/1 on a running (wants running)
              batch.3/1 on b shutdown (wants shutdown) (made way for service vital of priority 100)
              batch.3/2 on b running (wants running)
              batch.4/1 on - pending (wants running): no suitable node: 2 of 2 nodes lack CPUs (want 1)
              web.1/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn nobody_makes_way_in_vain() {
    check(
        "node a cpu=2\nnode b cpu=2 avail=drain
         service batch x2 cpu=1
         plan
         agents
         service big x1 cpu=4 priority=1
         service zone x1 cpu=1 priority=1 constraint=node.labels.zone==x
         service two x3 cpu=1 priority=1
         plan
         plan
         agents
         plan",
        expect![[r#"
            0s create batch.1/1 on a
            0s create batch.2/1 on a
            0s create big.1/1 waiting: no suitable node: 1 of 2 nodes is drained, 1 lacks CPUs (want 4)
            0s create zone.1/1 waiting: no suitable node: 1 of 2 nodes is drained, 1 lacks CPUs (want 1)
            0s create two.1/1 waiting: no suitable node: 1 of 2 nodes is drained, 1 lacks CPUs (want 1)
            0s create two.2/1 waiting: no suitable node: 1 of 2 nodes is drained, 1 lacks CPUs (want 1)
            0s create two.3/1 waiting: no suitable node: 1 of 2 nodes is drained, 1 lacks CPUs (want 1)
            0s want batch.1/1 shutdown
            0s want batch.2/1 shutdown
            0s create batch.1/2 waiting: no suitable node: 1 of 2 nodes is drained, 1 lacks CPUs (want 1)
            0s create batch.2/2 waiting: no suitable node: 1 of 2 nodes is drained, 1 lacks CPUs (want 1)
            0s place two.1/1 on a
            0s place two.2/1 on a
        "#]],
    );
}

#[test]
fn p41_a_task_waits_for_the_node_with_its_data() {
    check(
        "node a cpu=2\nnode b cpu=2
         service db x2 volume=data cpu=1
         service other x1 volume=data on-missing=create constraint=node.hostname==b
         settle
         show
         drain b
         settle 1m
         show
         snapshot
         update db x0
         settle
         update db x2
         settle 1m
         show
         activate b
         settle 1m
         drain a
         update db on-missing=create
         settle 1m
         show
         remove-node a
         settle 1m
         show",
        expect![[r#"
            0s create db.1/1 on b
            0s create db.2/1 on a
            0s create other.1/1 on b
              db.1/1 on b running (wants running)
              db.2/1 on a running (wants running)
              other.1/1 on b running (wants running)
            0s want db.1/1 shutdown
            0s want other.1/1 shutdown
            0s create db.1/2 waiting: volume data is on node b, which is drained: bring it back, or start without the data (--on-missing create)
            0s create other.1/2 waiting: no suitable node: 1 of 2 nodes is drained, 1 does not satisfy node.hostname==b
              db.1/1 on b shutdown (wants shutdown)
              db.1/2 on - pending (wants running): volume data is on node b, which is drained: bring it back, or start without the data (--on-missing create)
              db.2/1 on a running (wants running)
              other.1/1 on b shutdown (wants shutdown)
              other.1/2 on - pending (wants running): no suitable node: 1 of 2 nodes is drained, 1 does not satisfy node.hostname==b
            60s want db.1/1 remove
            60s want db.1/2 remove
            60s status db.1/2 shutdown: volume data is on node b, which is drained: bring it back, or start without the data (--on-missing create)
            60s want db.2/1 remove
            60s forget db.1/1
            60s forget db.1/2
            60s forget db.2/1
            657.6s create db.1/3 waiting: volume data is on node b, which is drained: bring it back, or start without the data (--on-missing create)
            657.6s create db.2/2 on a
              db.1/3 on - pending (wants running): volume data is on node b, which is drained: bring it back, or start without the data (--on-missing create)
              db.2/2 on a running (wants running)
              other.1/1 on b shutdown (wants shutdown)
              other.1/2 on - pending (wants running): no suitable node: 1 of 2 nodes is drained, 1 does not satisfy node.hostname==b
            717.6s place db.1/3 on b
            717.6s place other.1/2 on b
            717.6s want db.2/2 shutdown
            717.6s create db.2/3 on b
              db.1/3 on b running (wants running)
              db.2/2 on a shutdown (wants shutdown)
              db.2/3 on b running (wants running)
              other.1/1 on b shutdown (wants shutdown)
              other.1/2 on b running (wants running)
              db.1/3 on b running (wants running)
              db.2/2 on a shutdown (wants shutdown)
              db.2/3 on b running (wants running)
              other.1/1 on b shutdown (wants shutdown)
              other.1/2 on b running (wants running)
        "#]],
    );
}

#[test]
fn way_is_made_while_another_service_is_still_on_its_way_out() {
    check(
        "node a
         service old x1
         settle
         remove old
         plan
         service low x1 port=80
         plan
         service high x1 port=80 priority=10
         plan",
        expect![[r#"
            0s create old.1/1 on a
            0s want old.1/1 remove
            0s create low.1/1 on a
            0s create high.1/1 waiting: no suitable node: the only node has host port 80/tcp in use
            0s want low.1/1 shutdown
        "#]],
    );
}
