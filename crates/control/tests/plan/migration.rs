//! The data of local volumes moves between nodes: tasks stand still meanwhile, and go on in one of two places (P41).

use std::fmt::Write as _;

use expect_test::expect;
use types::*;

use crate::{check, script::World};

impl World {
    /// Who carries data says how it goes.
    pub fn migrate(&mut self, verb: &str, words: &[&str]) {
        let key = self.tables.migrations().next().map(|migration| migration.key());
        let key = key.or(self.carried.clone());
        let step = match (verb, key) {
            ("migrate", _) => {
                let [volume, from, to] = [0, 1, 2].map(|at| words[at].to_owned());
                MigrationStep::Begin { volume, from, to, dry_run: false }
            }
            ("renew", Some(key)) => MigrationStep::Renew(key),
            ("moved", Some(key)) => MigrationStep::Finish(key),
            ("abort", Some(key)) => MigrationStep::Abort(key),
            _ => return writeln!(self.out, "  nothing moves").unwrap(),
        };
        self.write(&WriteRequest::Migrate(Box::new(step)));
        if let Some(migration) = self.tables.migrations().next().cloned().filter(|_| verb == "migrate") {
            let slots: Vec<String> = migration
                .slots
                .iter()
                .map(|(service, slot)| match slot {
                    Slot::Replica(number) => format!("{}.{number}", self.service_name(*service)),
                    Slot::Node(node) => format!("{}.{}", self.service_name(*service), self.node_name(*node)),
                })
                .collect();
            writeln!(self.out, "  {} of {} move", migration.volumes.join(" "), slots.join(" ")).unwrap();
            self.carried = Some(migration.key());
        }
    }
}

#[test]
fn p41_data_moves_while_its_tasks_stand_still() {
    check(
        "node a cpu=2\nnode b cpu=2
         service db x1 volume=data cpu=1 order=start-first constraint=node.hostname!=b
         service web x1
         settle
         update db constraints=-
         settle
         migrate data a b
         plan
         agents
         plan
         show
         snapshot
         wait 25s
         renew
         wait 25s
         plan
         moved
         plan
         settle
         show",
        expect![[r#"
            0s create db.1/1 on a
            0s create web.1/1 on b
              data of db.1 move
            0s want db.1/1 shutdown
            0s create db.1/2 waiting: volume data is on its way from node a to node b
              db.1/1 on a shutdown (wants shutdown) (the data of its volume data moves to another node)
              db.1/2 on - pending (wants running): volume data is on its way from node a to node b
              web.1/1 on b running (wants running)
            50s place db.1/2 on b
              db.1/1 on a shutdown (wants shutdown) (the data of its volume data moves to another node)
              db.1/2 on b running (wants running)
              web.1/1 on b running (wants running)
        "#]],
    );
}

#[test]
fn p41_what_is_not_carried_on_stays_where_it_was() {
    check(
        "node a\nnode b
         service db x1 volume=data constraint=node.hostname==a
         settle
         update db constraints=-
         settle
         migrate data a b
         plan
         agents
         elected
         wait 31s
         plan
         moved
         abort
         agents
         migrate data a b
         plan
         agents
         abort
         plan
         agents
         migrate data a b
         plan
         agents
         remove db
         settle
         renew",
        expect![[r#"
            0s create db.1/1 on a
              data of db.1 move
            0s want db.1/1 shutdown
            31s volume data stays
            31s create db.1/2 on a
            refused: the move of volume data has ended meanwhile, because nothing was heard of it for 30 s or a node went down: its tasks go on where they were
              data of db.1 move
            31s want db.1/2 shutdown
            31s create db.1/3 on a
              data of db.1 move
            31s want db.1/3 shutdown
            31s want db.1/1 remove
            31s want db.1/2 remove
            31s want db.1/3 remove
            31s forget db.1/1
            31s forget db.1/2
            31s forget db.1/3
            31s service db gone
            refused: the move of volume data has ended meanwhile, because nothing was heard of it for 30 s or a node went down: its tasks go on where they were
        "#]],
    );
}

#[test]
fn p41_moves_that_cannot_be_are_refused_before_anything_stops() {
    check(
        "node a cpu=2\nnode b cpu=2\nnode c cpu=1\nnode d avail=drain\nnode e state=down
         service db x2 volume=data cpu=2
         service small x1 volume=here constraint=node.hostname==c
         settle
         migrate nothing a b
         migrate data c a
         migrate data a nowhere
         migrate data a a
         migrate data a b
         migrate data a c
         migrate data a d
         migrate data a e
         migrate here c a
         update db image=bad
         plan
         migrate data a b
         plan",
        expect![[r#"
            0s create db.1/1 on b
            0s create db.2/1 on a
            0s create small.1/1 on c
            refused: no service's data is in volume nothing on node a: no service has data in a volume of this name; `rswarm service inspect SERVICE` shows the volumes of one, and `rswarm volume ls` on a node those that are there
            refused: no service's data is in volume data on node c: it is on b (db.1), a (db.2); name that node as the first
            refused: node nowhere not found
            refused: volume data cannot move from a to a: name two nodes
            refused: volume data on node b is the data of db.1: two tasks' data cannot become one; choose another node
            refused: service db does not run on node c, which lacks CPUs (want 2): change its constraints or choose another node
            refused: node d takes no tasks: it is paused or drained; activate it with `rswarm node update --availability active`, or choose another
            refused: node e is not ready, and its data is written there: see `rswarm node ls`, and repeat when it is back
            refused: service small does not run on node a, which does not satisfy node.hostname==c: change its constraints or choose another node
            0s db Updating: update in progress
            0s want db.1/1 shutdown
            refused: volume data on node b is the data of db.1: two tasks' data cannot become one; choose another node
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

/// What a removed service leaves on its node, one of the same name finds there, once nobody writes to it any more.
#[test]
fn p41_a_service_that_is_made_again_finds_its_data() {
    check(
        "node a cpu=2\nnode b cpu=2
         service db x1 volume=data cpu=2
         service busy x1 cpu=1
         settle
         show
         remove db
         service db x1 volume=data cpu=1
         plan
         agents
         plan
         settle
         show
         remove db
         settle
         snapshot
         migrate data b a
         drain b
         service db x1 volume=data
         plan
         update db on-missing=create
         plan
         remove db
         settle
         activate b
         service db x1 volume=other
         settle
         remove-node b
         service db2 x1 volume=data",
        expect![[r#"
            0s create db.1/1 on b
            0s create busy.1/1 on a
              busy.1/1 on a running (wants running)
              db.1/1 on b running (wants running)
            0s create db.1/2 waiting: volume data is still in use by the service of this name that was removed: it waits for its end
            0s want db.1/1 remove
            0s place db.1/2 on b
            0s forget db.1/1
            0s service db gone
              busy.1/1 on a running (wants running)
              db.1/2 on b running (wants running)
            0s want db.1/2 remove
            0s forget db.1/2
            0s service db gone
            refused: no service's data is in volume data on node b: it was the data of service db on b, which is removed; a new service of that name finds it there, then repeat this
            0s create db.1/3 waiting: volume data is on node b, which is drained: bring it back, or start without the data (--on-missing create)
            0s place db.1/3 on a
            0s want db.1/3 remove
            0s forget db.1/3
            0s service db gone
            0s create db.1/4 on b
        "#]],
    );
}

#[test]
fn p41_data_of_names_that_do_not_come_back_is_forgotten_some_day() {
    let mut world = World::new();
    world.line("node a");
    world.line("node b");
    let live = |world: &mut World, name: &str| {
        let made = format!("service {name} x1 volume=data constraint=node.hostname==b");
        for line in [made.as_str(), "settle", &format!("remove {name}"), "settle"] {
            world.line(line);
        }
    };
    live(&mut world, "first");
    live(&mut world, "second");
    for number in 0..999 {
        live(&mut world, &format!("n{number}"));
    }
    world.line("drain b");
    let mut waits_for_data = |name: &str| {
        world.out.clear();
        world.line(&format!("service {name} x1 volume=data"));
        world.line("plan");
        world.out.contains("volume data is on node b, which is drained")
    };
    assert!(!waits_for_data("first"));
    assert!(waits_for_data("second") && waits_for_data("n998"));
    control::invariants::check(&world.tables).expect("invariant");
}
