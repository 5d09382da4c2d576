//! Which of several nodes, beside whom, and who first.

use expect_test::expect;

use crate::{check, script::World};

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
fn p49_what_is_reserved_counts_for_more_than_how_many_tasks_there_are() {
    check(
        "node a cpu=16\nnode b cpu=16\nnode c cpu=16\nnode d cpu=16
         service seed x1 cpu=8 constraint=node.hostname==a
         plan
         service web x8 cpu=4
         plan
         service even x4 cpu=1 rebalance=on
         plan",
        expect![[r#"
            0s create seed.1/1 on a
            0s create web.1/1 on d
            0s create web.2/1 on b
            0s create web.3/1 on c
            0s create web.4/1 on a
            0s create web.5/1 on d
            0s create web.6/1 on b
            0s create web.7/1 on c
            0s create web.8/1 on d
            0s create even.1/1 on c
            0s create even.2/1 on b
            0s create even.3/1 on a
            0s create even.4/1 on d
        "#]],
    );
}

/// Half of what the others have is enough in its first minute; that a service has no two tasks on one node matters more.
#[test]
fn p49_a_new_node_does_not_get_everything_at_once() {
    let mut world = World::new();
    for line in ["node a", "node b", "service base x40", "plan", "agents", "wait 2m", "node c", "wait 1s"] {
        world.line(line);
    }
    let tasks = |world: &World, name: &str| world.tables.load(world.nodes[name]).tasks;
    let deploy = |world: &mut World, numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| world.line(&format!("service s{number} x1")));
        world.line("plan");
    };
    deploy(&mut world, 0..30);
    let (others, new) = (tasks(&world, "a") + tasks(&world, "b"), tasks(&world, "c"));
    assert!((10..=others / 4 + 1).contains(&new), "{new} beside {others}: {}", world.out);
    world.line("service apart x3");
    world.line("plan");
    assert_eq!(tasks(&world, "c"), new + 1, "{}", world.out);
    // it is no longer new, and the emptiest
    world.line("wait 1m");
    deploy(&mut world, 30..40);
    assert_eq!(tasks(&world, "c"), new + 11, "{}", world.out);
    // what fits nowhere else waits for nothing
    for line in ["node d", "wait 1s", "service only x30 constraint=node.hostname==d", "plan"] {
        world.line(line);
    }
    assert_eq!(tasks(&world, "d"), 30, "{}", world.out);
}

/// What comes next to a new node that has nothing to catch up with is spread as ever: what lies uneven then stays so.
#[test]
fn p49_a_cluster_that_begins_is_even_when_its_last_nodes_have_just_joined() {
    let mut world = World::new();
    let joined = ["node a", "wait 2m", "node b", "node c", "wait 1s"];
    for line in joined.into_iter().chain(["service first x30", "plan", "service second x30", "plan"]) {
        world.line(line);
    }
    (0..9).for_each(|number| world.line(&format!("service s{number} x1")));
    world.line("plan");
    for name in ["a", "b", "c"] {
        assert_eq!(world.tables.load(world.nodes[name]).tasks, 23, "{name}: {}", world.out);
    }
    // of many that come at once a new node has its share
    for line in ["agents", "wait 2m", "node d", "wait 1s", "service many x120", "plan"] {
        world.line(line);
    }
    assert_eq!(world.tables.load(world.nodes["d"]).tasks, 30, "{}", world.out);
}

#[test]
fn p42_the_next_task_of_a_slot_has_its_addresses_again_where_that_is_wanted() {
    check(
        "node a
         node b
         network n1 subnet=10.1.0.0/28
         service db x2 net=n1 label=rswarm.network.stable-ip:true
         service web x2 net=n1
         settle
         report db.2 failed
         report web.2 failed
         settle
         update db force
         settle
         service other x2 net=n1
         settle",
        expect![[r#"
            0s db has addresses n1 [10.1.0.2]
            0s web has addresses n1 [10.1.0.3]
            0s create db.1/1 on a 10.1.0.4
            0s create db.2/1 on b 10.1.0.5
            0s create web.1/1 on a 10.1.0.6
            0s create web.2/1 on b 10.1.0.7
            0s want db.2/1 shutdown
            0s create db.2/2 on b 10.1.0.5
            0s want web.2/1 shutdown
            0s create web.2/2 on b 10.1.0.8
            0s db Updating: update in progress
            0s want db.1/1 shutdown
            0s create db.1/2 on a 10.1.0.4
            0s want db.2/2 shutdown
            0s create db.2/3 on b 10.1.0.5
            5s db Completed: update completed
            5s other has addresses n1 [10.1.0.9]
            5s create other.1/1 on b 10.1.0.10
            5s create other.2/1 on a 10.1.0.11
        "#]],
    );
}

#[test]
fn p13_a_cluster_may_deny_services_its_hosts() {
    check(
        "node a
         service old x1 privileged=yes
         privileged sometimes
         privileged denied
         service web x1 privileged=yes
         service web x1 cap=CAP_SYS_ADMIN
         service web x1
         update web privileged=yes
         update old x2
         update old cap=CAP_SYS_ADMIN
         stack shop | service shop_web privileged=yes
         privileged allowed
         update web privileged=yes",
        expect![[r#"
            refused: label rswarm.privileged: "sometimes" is neither allowed nor denied
            refused: service web asks for privileged containers, which this cluster denies to services (label rswarm.privileged=denied of the cluster): leave it out, or have its administrator allow it with `rswarm swarm update --privileged-services allowed`
            refused: service web asks for capability CAP_SYS_ADMIN, which this cluster denies to services (label rswarm.privileged=denied of the cluster): leave it out, or have its administrator allow it with `rswarm swarm update --privileged-services allowed`
            refused: service web asks for privileged containers, which this cluster denies to services (label rswarm.privileged=denied of the cluster): leave it out, or have its administrator allow it with `rswarm swarm update --privileged-services allowed`
            refused: service old asks for capability CAP_SYS_ADMIN, which this cluster denies to services (label rswarm.privileged=denied of the cluster): leave it out, or have its administrator allow it with `rswarm swarm update --privileged-services allowed`
            refused: nothing of stack shop was changed: service shop_web asks for privileged containers, which this cluster denies to services (label rswarm.privileged=denied of the cluster): leave it out, or have its administrator allow it with `rswarm swarm update --privileged-services allowed`
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
fn the_highest_priority_is_placed_first_and_others_make_way() {
    check(
        "node a cpu=2\nnode b cpu=2
         service batch x4 cpu=1 priority=-10 parallelism=2
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
