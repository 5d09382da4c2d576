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
            refused: no service's data is in volume nothing on node a: no service has data in a volume of this name
            refused: no service's data is in volume data on node c: it is on b (db.1), a (db.2)
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
