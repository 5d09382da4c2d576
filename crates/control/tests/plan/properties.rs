//! Whatever happens, in whatever order: invariants hold after each step, an incremental plan is the full
//! plan, a plan leaves nothing to plan, and the cluster comes to rest (`script` checks the first three).

use proptest::prelude::*;

use crate::script::World;

fn line() -> impl Strategy<Value = String> {
    let node = prop::sample::select(vec!["a", "b", "c", "d"]);
    let service = prop::sample::select(vec!["s0", "s1", "s2", "s3"]);
    let word = prop::sample::select(vec![
        "x0",
        "x1",
        "x3",
        "x6",
        "image=b",
        "image=c",
        "image=bad",
        "force",
        "cpu=2",
        "order=start-first",
        "parallelism=2",
        "action=rollback",
        "action=continue",
        "constraint=node.labels.zone==1",
        "spread=zone",
        "restart=none",
        "attempts=2",
        "lost-after=3s",
        "reconcile=replacement",
        "net=n1",
        "net=n2:db",
        "nets=-",
        "dnsrr",
        "vip",
    ]);
    let span = prop::sample::select(vec!["10ms", "700ms", "1300ms", "4s", "70s"]);
    let verb = prop::sample::select(vec!["drain", "pause", "activate", "silent", "heard"]);
    prop_oneof![
        4 => (service, word).prop_map(|(s, w)| format!("update {s} {w}")),
        3 => (verb, node.clone()).prop_map(|(v, n)| format!("{v} {n}")),
        1 => (node.clone(), 1..3u8).prop_map(|(n, zone)| format!("label {n} zone={zone}")),
        1 => (node.clone(), node, any::<bool>()).prop_map(|(a, b, yes)| {
            format!("probe {a} {b} {}", if yes { "yes" } else { "no" })
        }),
        3 => span.prop_map(|span| format!("wait {span}")),
        4 => Just("agents".to_owned()),
    ]
}

const START: &str = "network n1 subnet=10.1.0.0/28\nnetwork n2 attachable\nnode a cpu=4 zone=1\nnode b cpu=4 zone=1\nnode c cpu=4 zone=2\nnode d cpu=4 zone=2
service s0 x3\nservice s1 global\nservice s2 x2 cpu=1\nservice s3 x2 max=1\nplan";

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_invariants_and_comes_to_rest(lines in prop::collection::vec(line(), 1..40)) {
        let mut world = World::new();
        START.lines().for_each(|line| world.line(line.trim()));
        for line in &lines {
            // a global service has no replicas
            if line.starts_with("update s1 x") {
                continue;
            }
            world.line(line);
            world.line("plan");
            control::invariants::check(&world.tables).expect("invariant");
        }
        for line in ["heard a", "heard b", "heard c", "heard d", "wait 1s", "settle", "wait 20s", "settle"] {
            world.line(line);
        }
        world.out.clear();
        world.line("plan");
        let moving = world.tables.tasks().any(|task| task.not_before > world.now);
        prop_assert!(moving || world.out.is_empty(), "not at rest: {}", world.out);
    }
}
