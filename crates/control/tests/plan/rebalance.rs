//! Requests to even services out, the cluster's policy, and the budget of both (P19).

use std::fmt::Write as _;

use expect_test::expect;
use types::*;

use crate::{check, script::World};

impl World {
    pub fn rebalance(&mut self, words: &[&str]) {
        let dry_run = words.contains(&"dry");
        let budget = words.iter().find_map(|word| word.strip_prefix("budget=")).map_or(0, |n| n.parse().unwrap());
        let is_name = |word: &&&str| **word != "dry" && !word.starts_with("budget=");
        let services: Vec<String> = words.iter().filter(is_name).map(|name| (*name).to_owned()).collect();
        let request = WriteRequest::Rebalance { services, budget, dry_run };
        let admitted = control::admission::admit(&self.tables, &request, self.now, &mut || 0);
        let Ok((proposal, WriteReply::Rebalancing(view))) = admitted else { return self.write(&request) };
        for RebalanceMove { name, slot, from, to, why, .. } in &view.moves {
            let Slot::Replica(slot) = slot else { panic!("only replicas move") };
            let (from, to) = (self.node_name(*from), self.node_name(*to));
            writeln!(self.out, "  {name}.{slot} {from} -> {to}: {why}").unwrap();
        }
        for (name, why) in &view.stays {
            writeln!(self.out, "  {name} stays: {why}").unwrap();
        }
        if view.moves.is_empty() {
            writeln!(self.out, "  nothing moves").unwrap();
        }
        self.apply(&proposal);
    }

    pub fn policy(&mut self, labels: &[&str], words: &[&str]) {
        let cluster = self.tables.cluster().unwrap();
        let (version, mut spec) = (cluster.meta.version, Box::new(cluster.spec.clone()));
        for (label, value) in labels.iter().zip(words) {
            spec.labels.insert((*label).to_owned(), (*value).to_owned());
        }
        self.write(&WriteRequest::UpdateCluster {
            version,
            spec,
            rotate_worker_token: false,
            rotate_manager_token: false,
            rotate_unlock_key: false,
            root: None,
        });
    }
}

#[test]
fn p19_a_request_moves_tasks_within_its_budget_and_ends() {
    check(
        "node a\nnode b
         service web x6 parallelism=2
         service api x3 order=start-first
         service out x4 rebalance=off
         service db x2 volume=data
         service full x4 strategy=binpack
         service agent global
         settle
         node c
         rebalance dry
         wait 10s
         rebalance budget=2
         plan
         snapshot
         agents
         beats 5
         rebalance
         plan",
        expect![[r#"
            0s create web.1/1 on b
            0s create web.2/1 on a
            0s create web.3/1 on b
            0s create web.4/1 on a
            0s create web.5/1 on b
            0s create web.6/1 on a
            0s create api.1/1 on a
            0s create api.2/1 on b
            0s create api.3/1 on a
            0s create out.1/1 on b
            0s create out.2/1 on a
            0s create out.3/1 on b
            0s create out.4/1 on a
            0s create db.1/1 on b
            0s create db.2/1 on a
            0s create full.1/1 on a
            0s create full.2/1 on a
            0s create full.3/1 on a
            0s create full.4/1 on a
            0s create agent.a/1 on a
            0s create agent.b/1 on b
              api.3 a -> c: a has 2 of its tasks, c 0
              web.6 a -> c: a has 3 of its tasks, c 0
              web.5 b -> c: b has 3 of its tasks, c 1
              full stays: it fills nodes up (label rswarm.placement.strategy=binpack)
              out stays: it takes no part (label rswarm.rebalance=off)
              api.3 a -> c: a has 2 of its tasks, c 0
              web.6 a -> c: a has 3 of its tasks, c 0
              web.5 b -> c: b has 3 of its tasks, c 1
              full stays: it fills nodes up (label rswarm.placement.strategy=binpack)
              out stays: it takes no part (label rswarm.rebalance=off)
            10s create agent.c/1 on c
            10s want web.6/1 shutdown
            10s want web.5/1 shutdown
            10s rebalance of web moving with 2 moved
            10s create web.5/2 on c
            10s create web.6/2 on c
            16s rebalance of web completed with 2 moved
            16s create api.3/2 on c
            16s rebalance of api moving with 1 moved
            16s want api.3/1 shutdown
            22s rebalance of api completed with 1 moved
              full stays: it fills nodes up (label rswarm.placement.strategy=binpack)
              out stays: it takes no part (label rswarm.rebalance=off)
              nothing moves
        "#]],
    );
}

#[test]
fn p19_a_request_names_services_or_is_refused() {
    check(
        "node a
         service web x2
         service out x2 rebalance=off
         service db x2 volume=data
         service agent global
         service old x2
         settle
         rebalance nobody
         rebalance web nobody
         rebalance out
         rebalance db
         rebalance agent
         rebalance web
         node b
         update old image=b
         plan
         rebalance dry
         rebalance old
         remove old
         rebalance web web dry",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create out.1/1 on a
            0s create out.2/1 on a
            0s create db.1/1 on a
            0s create db.2/1 on a
            0s create agent.a/1 on a
            0s create old.1/1 on a
            0s create old.2/1 on a
            refused: service nobody not found
            refused: service nobody not found
            refused: service out is not evened out: it takes no part (label rswarm.rebalance=off); leave it out, or change that with `rswarm service update out`
            refused: service db is not evened out: its data is in volume data, which each node has for itself; leave it out, or change that with `rswarm service update db`
            refused: service agent is global: there is nothing to even out, leave it out
              nothing moves
            0s create agent.b/1 on b
            0s old Updating: update in progress
            0s want old.1/1 shutdown
              web.2 a -> b: a has 2 of its tasks, b 0
              db stays: its data is in volume data, which each node has for itself
              out stays: it takes no part (label rswarm.rebalance=off)
            refused: an update of service old is under way: its tasks are replaced anyway; repeat when it is done
              web.2 a -> b: a has 2 of its tasks, b 0
        "#]],
    );
}

#[test]
fn p19_a_request_stops_where_tasks_fail_or_the_spec_changes() {
    check(
        "node a
         service web x4 order=start-first
         service api x4
         settle
         node b
         wait 10s
         rebalance
         plan
         agents
         report web.4 failed boom
         update api image=b
         plan
         policy off
         plan",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create web.3/1 on a
            0s create web.4/1 on a
            0s create api.1/1 on a
            0s create api.2/1 on a
            0s create api.3/1 on a
            0s create api.4/1 on a
              api.4 a -> b: a has 4 of its tasks, b 0
              api.3 a -> b: a has 3 of its tasks, b 1
              web.4 a -> b: a has 4 of its tasks, b 0
              web.3 a -> b: a has 3 of its tasks, b 1
            10s create web.4/2 on b
            10s rebalance of web moving with 1 moved
            10s want api.4/1 shutdown
            10s rebalance of api moving with 1 moved
            10s want web.4/2 shutdown
            10s create api.4/2 on b
            10s api Updating: update in progress
            10s rebalance of web stopped with 1 moved: task web.4/2 failed: boom
            10s rebalance of api stopped with 1 moved: its spec was changed
        "#]],
    );
}

#[test]
fn p19_the_cluster_says_when_tasks_move_and_how_many() {
    check(
        "node a
         service web x3 parallelism=0
         service api x3 parallelism=0
         service out x4 rebalance=off
         service db x2 volume=data
         settle
         policy on-join 1
         wait 1s
         node b
         wait 10s
         beats 6
         policy sometimes
         policy on-join -1",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create web.3/1 on a
            0s create api.1/1 on a
            0s create api.2/1 on a
            0s create api.3/1 on a
            0s create out.1/1 on a
            0s create out.2/1 on a
            0s create out.3/1 on a
            0s create out.4/1 on a
            0s create db.1/1 on a
            0s create db.2/1 on a
            11s want web.3/1 shutdown
            11s create web.3/2 on b
            17s want api.3/1 shutdown
            17s create api.3/2 on b
            refused: label rswarm.rebalance: "sometimes" is no rebalance policy; use off, on-join or continuous
            refused: label rswarm.rebalance.budget: "-1" is no number of tasks; use a whole number, 0 for no limit of all services together
        "#]],
    );
}

#[test]
fn p19_on_join_moves_to_nodes_that_came_later_only() {
    check(
        "node a\nnode b
         drain b
         service web x6 rebalance=on-join parallelism=0
         settle
         activate b
         wait 10s
         beats 2
         node c
         wait 10s
         beats 3
         rebalance dry
         update web rebalance=continuous
         beats 3
         rebalance dry",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create web.3/1 on a
            0s create web.4/1 on a
            0s create web.5/1 on a
            0s create web.6/1 on a
            32s want web.6/1 shutdown
            32s create web.6/2 on b
            38s want web.5/1 shutdown
            38s create web.5/2 on c
            44s want web.4/1 shutdown
            44s create web.4/2 on b
              web.3 a -> c: a has 3 of its tasks, c 1
            50s want web.3/1 shutdown
            50s create web.3/2 on c
              nothing moves
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
